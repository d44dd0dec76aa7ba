"""The examples of objectives are run: dry where their objectives are dear, in small where they are not."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

import matsearch as ms
from matsearch.objectives import ObjectiveContext, load_objective
from matsearch.records import Relaxed
from matsearch.testing.objective import ObjectiveContract

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("superhard", "vickers_hardness"),
        ("light_and_stiff", "youngs_modulus"),
        ("magnet_without_rare_earths", "hhi_production"),
        ("perovskite_oxide", "bulk_modulus"),
        ("hard_stiff_ceramic", "shear_modulus"),
    ],
)
def test_an_example_shows_its_first_prompt(name, last, command):
    status, out, err = command("run", EXAMPLES / f"{name}.toml", "--dry-run")
    assert status == 0, err
    assert last in out + err


def test_the_model_of_ones_own_scores_a_campaign(tmp_path):
    small = ["search.generations=1", "search.population=2", "search.seeds=3"]
    campaign = ms.Campaign.from_toml(EXAMPLES / "band_gap.toml", run_dir=tmp_path / "run", overrides=small)
    frame = campaign.run().candidates()
    assert frame.loc[frame["stage"] == "scored", "band_gap"].between(0, 15).all()


class TestBandGap(ObjectiveContract):
    @pytest.fixture
    def objective(self):
        return load_objective(f"{EXAMPLES}/band_gap.py:BandGap", ObjectiveContext(potential=None))

    @pytest.fixture
    def relaxed(self):
        salts = [("Na", "Cl"), ("Mg", "O"), ("Si", "Si"), ("He", "O")]
        return [
            Relaxed(Structure(Lattice.cubic(4), salt, [[0, 0, 0], [0.5, 0.5, 0.5]]), -8.0, True, 3, 0.0)
            for salt in salts
        ]

    def test_it_follows_the_measured_gaps(self, objective):
        module = runpy.run_path(str(EXAMPLES / "band_gap.py"))
        found = [
            objective([Relaxed(Structure.from_spacegroup("P1", Lattice.cubic(4), *sites(one)), -1, True, 0, 0.0)])[0]
            for one in module["MEASURED"]
        ]
        assert np.corrcoef(found, list(module["MEASURED"].values()))[0, 1] > 0.9


def sites(formula):
    from pymatgen.core import Composition

    elements = [element.symbol for element in Composition(formula).elements]
    return elements, [[0, 0, 0], [0.5, 0.5, 0.5]][: len(elements)]
