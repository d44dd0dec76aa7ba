"""Phases of the shipped reference come back in every representation; `benchmarks/round_trips.py` has 2,000."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from matsearch.crystal.representations import REPRESENTATIONS
from matsearch.propose import parse_reply
from matsearch.reference import load_reference

MATCHER = StructureMatcher(ltol=0.005, stol=0.01, angle_tol=0.2, scale=False)
# Å by which a site may move: the digits written, for an axis of 20 Å; symmetry that is made exact.
PRECISION = {"poscar": 2e-4, "cif": 2e-4, "json": 2e-3}


@pytest.fixture(scope="module")
def crystals() -> list[Structure]:
    """200 small ones, from every space group that has any."""
    reference = load_reference("chgnet-0.3.0")
    phases = reference.phases[reference.phases.n_atoms <= 16].sample(frac=1, random_state=0)
    turn = phases.groupby("spacegroup").cumcount()
    return [reference.structure(one) for one in phases.assign(turn=turn).sort_values(["turn", "id"]).head(200).id]


@pytest.mark.parametrize("name", ["poscar", "cif", "json"])
def test_every_site_comes_back_where_it_was(name, crystals):
    text = "\n\n".join(f"Crystal:\n```\n{REPRESENTATIONS[name].write(crystal).strip()}\n```" for crystal in crystals)
    for crystal, found in zip(crystals, parse_reply(text), strict=True):
        assert isinstance(found, Structure), found
        assert found.lattice.parameters == pytest.approx(crystal.lattice.parameters, abs=1e-4)
        one, other = (sorted(each, key=lambda site: site.specie.symbol) for each in (crystal, found))
        assert [site.specie for site in one] == [site.specie for site in other]
        apart = np.array([a.frac_coords - b.frac_coords for a, b in zip(one, other, strict=True)])
        assert np.abs((apart - np.round(apart)) @ crystal.lattice.matrix).max() < PRECISION[name]


def test_every_crystal_comes_back_from_its_wyckoff_text(crystals):
    text = "\n".join(REPRESENTATIONS["wyckoff"].write(crystal) for crystal in crystals)
    for crystal, found in zip(crystals, parse_reply(text), strict=True):
        assert isinstance(found, Structure), found
        assert MATCHER.fit(crystal, found)
