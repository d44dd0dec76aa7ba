"""The Materials Project 2020 corrections."""

import pytest
from pymatgen.core import Lattice, Structure

from matsearch.evaluation.corrections import correction


@pytest.mark.parametrize(
    ("species", "edge", "per_formula"),
    # Å, eV (Wang et al., Sci. Rep. 11, 15496 (2021)): the anion's, and the metal's where it is computed with a U.
    [
        (["Al"], 4.04, 0.0),
        (["Mg", "O"], 4.25, -0.687),
        (["Na", "Cl"], 5.69, -0.614),
        (["Fe", "O"], 4.33, -0.687 - 2.256),
        (["Fe", "S"], 5.1, -0.503),
        (["Fe", "Al"], 4.6, 0.0),
    ],
)
def test_raw_energies_are_lowered_by_the_published_corrections(species, edge, per_formula):
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]][: len(species)]
    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(edge), species, sites)
    assert correction(crystal, "pbe-raw") == pytest.approx(per_formula / len(species), abs=2e-3)
    assert correction(crystal, "mp2020") == correction(crystal, "r2scan") == 0.0
