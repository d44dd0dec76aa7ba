"""CHGNet with weights of its own and the terms they were trained beside, as itself and read back from its folder."""

import json

import numpy as np
import pytest

from matsearch.errors import PotentialError
from matsearch.potential import load_potential
from matsearch.potential.chgnet import checkpoint
from matsearch.potential.refitted import RefittedPotential, RefittedSettings
from matsearch.testing.potential import PotentialContract, example_crystals

ELEMENTS = ("Al", "Cl", "Fe", "Li", "Mg", "Na", "O")


def refitted(terms=(), **changes):
    settings = {
        "start": "chgnet-0.3.0",
        "energy_scale": "made-up",
        "elements": ELEMENTS,
        "terms": terms,
        "energy_references": dict.fromkeys(ELEMENTS, -3.0),
    }
    weights = {name: one * 1.01 for name, one in checkpoint("0.3.0").items()}
    return RefittedPotential("refitted", RefittedSettings(**(settings | changes)), weights)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refitted")
    refitted(("pqeq",)).save(folder)
    return folder


class TestRefittedBesidePQEq(PotentialContract):
    @pytest.fixture
    def potential(self, folder):
        return load_potential(str(folder), "cpu").double()


def test_energies_are_those_of_network_and_terms(folder):
    crystals = example_crystals()[:2]
    found = load_potential(str(folder), "cpu").predict(crystals)
    parts = [part.predict(crystals) for part in (refitted(), load_potential("pqeq", "cpu"))]
    for whole, short, long in zip(found, *parts, strict=True):
        assert whole.energy == pytest.approx(short.energy + long.energy, abs=1e-9)
        np.testing.assert_allclose(whole.forces, short.forces + long.forces, atol=1e-6)
        np.testing.assert_allclose(whole.charges, long.charges, atol=1e-9)
        np.testing.assert_allclose(whole.magmoms, short.magmoms, atol=1e-6)


def test_pqeq_does_not_count_twice(folder):
    with pytest.raises(PotentialError, match="adds pqeq twice"):
        load_potential(f"{folder}+pqeq", "cpu")
    assert load_potential(f"{folder}+d3(pbe,bj)", "cpu").elements == frozenset(ELEMENTS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"terms": ["chgnet-0.3.0"]}, "no term"),
        ({"elements": ["Na", "Po"]}, "Po"),
        ({"more": 1}, "more"),
        ({"energy_references": {}}, "lack"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_line(folder, changes, said, tmp_path):
    refitted().save(tmp_path)
    settings = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(settings | changes))
    with pytest.raises(PotentialError, match=said):
        load_potential(str(tmp_path), "cpu")


def test_without_weights_it_is_no_model(tmp_path):
    refitted().save(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(PotentialError, match=r"weights\.safetensors"):
        load_potential(str(tmp_path), "cpu")
