from __future__ import annotations

import json

import moyopy
import numpy as np
import pytest
from moyopy.interface import MoyoAdapter
from pymatgen.core import Lattice, Structure

from matsearch.crystal.representations import REPRESENTATIONS
from matsearch.crystal.text import TextError, from_json, to_short_json
from matsearch.propose import parse_reply


@pytest.fixture
def triclinic() -> Structure:
    rng = np.random.default_rng(3)
    lattice = Lattice.from_parameters(4.1, 5.2, 6.3, 71, 83, 105)
    return Structure(lattice, ["Ti", "O", "O", "Ti", "Li"], rng.uniform(0, 1, (5, 3)))


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_the_example_of_the_instructions_is_a_reply_that_parses(name):
    (rutile,) = parse_reply(REPRESENTATIONS[name].instructions)
    assert rutile.composition.formula == "Ti2 O4"
    assert moyopy.MoyoDataset(MoyoAdapter.from_structure(rutile), symprec=0.01).number == 136


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_what_a_representation_writes_it_reads_back(name, triclinic):
    representation = REPRESENTATIONS[name]
    back = representation.read(representation.write(triclinic))
    assert back.composition == triclinic.composition
    assert back.lattice.abc == pytest.approx(triclinic.lattice.abc, abs=1e-4)
    assert (np.sort(back.distance_matrix, axis=None) - np.sort(triclinic.distance_matrix, axis=None)).max() < 2e-3


def test_only_json_has_a_schema_and_its_example_has_the_keys_that_are_required():
    assert [name for name, each in REPRESENTATIONS.items() if each.schema] == ["json"]
    schema = REPRESENTATIONS["json"].schema
    reply = json.loads(REPRESENTATIONS["json"].instructions.partition("rutile TiO2:\n")[2])
    assert list(reply) == schema["required"]
    crystal = schema["properties"]["crystals"]["items"]
    assert list(reply["crystals"][0]) == crystal["required"]
    assert list(reply["crystals"][0]["sites"][0]) == crystal["properties"]["sites"]["items"]["required"]


def test_short_json_groups_sites_by_element_and_rounds():
    structure = Structure(Lattice.cubic(4.00004), ["O", "Ti", "O"], [[1 / 3, 0, 0], [0.5, -0.00001, 0], [0, 0.25, 1]])
    assert to_short_json(structure) == (
        '{"lattice":[4,4,4,90,90,90],"sites":[{"element":"O","frac_coords":[[0.3333,0,0],[0,0.25,1]]},'
        '{"element":"Ti","frac_coords":[[0.5,0,0]]}]}'
    )


@pytest.mark.parametrize(
    ("sites", "reason"),
    [
        ("[]", "bad_json"),
        ("[1]", "bad_json"),
        ('[{"element": "Na"}]', "bad_json"),
        ('[{"element": "Na", "frac_coords": []}]', "bad_json"),
        ('[{"frac_coords": [[0, 0, 0]]}]', "bad_json"),
        ('[{"element": "Na", "frac_coords": [[0, 0]]}]', "bad_json"),
        ('[{"element": "Xx", "frac_coords": [[0, 0, 0]]}]', "unknown_element"),
        ('[{"element": "Na", "frac_coords": [[0, 0, NaN]]}]', "not_finite"),
    ],
)
def test_short_json_that_contradicts_itself_is_refused(sites, reason):
    with pytest.raises(TextError) as error:
        from_json('{"lattice": [4, 4, 4, 90, 90, 90], "sites": ' + sites + "}")
    assert error.value.reason == reason
