"""Crystals away from rest: other volumes, slabs, torn clusters."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.training.configurations import VACUUM, fragments, slab, stretched

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def crystal():
    cell = Lattice.from_parameters(3.1, 3.3, 3.0, 63, 58, 61)
    return Structure(cell, ["Na", "F"], [[0, 0, 0], [0.53, 0.49, 0.52]])


def test_volumes_spread_over_their_range(crystal):
    ratios = [stretched(crystal, RNG(seed)).volume / crystal.volume for seed in range(40)]
    assert 0.699 < min(ratios) < 0.8 and 1.1 < max(ratios) < 1.251


@pytest.mark.parametrize("seed", range(6))
def test_a_slab_is_whole_formula_units_with_vacuum_and_its_bonds(crystal, seed):
    found = slab(crystal, RNG(seed))
    assert len(found) % 2 == 0 and found.composition.reduced_formula == "NaF"
    # The axis across is that which grew; along it nothing lies in the vacuum.
    units = len(found) // 2
    height = (found.volume - units * crystal.volume) / VACUUM
    assert height == pytest.approx(min(_faces(crystal), key=lambda face: abs(face - height)), rel=1e-6)
    bonds = [min(found.get_distance(i, j) for j in range(len(found)) if j != i) for i in range(len(found))]
    bulk = crystal.get_distance(0, 1)
    assert all(0.6 * bulk < one < 1.8 * bulk for one in bonds)


def test_a_slab_of_too_many_atoms_is_none(crystal):
    assert slab(crystal, RNG(0), most_atoms=2) is None


def test_fragments_stand_in_vacuum_and_are_torn_apart(crystal):
    found = [fragments(crystal, RNG(seed)) for seed in range(30)]
    assert {2, 8} <= {len(one) for one in found} <= set(range(2, 9))
    for one in found:
        inside = np.ptp(one.cart_coords, axis=0)
        assert np.allclose(one.lattice.abc, inside + VACUUM)
    pairs = [one.get_distance(0, 1) for one in found if len(one) == 2]
    bulk = crystal.get_distance(0, 1)
    assert min(pairs) > bulk - 0.8 and max(pairs) > bulk + 0.5


def test_an_atom_without_neighbours_has_no_fragments():
    alone = Structure(Lattice.cubic(9.0), ["Ar"], [[0, 0, 0]])
    assert fragments(alone, RNG(0)) is None


def _faces(crystal):
    rows = crystal.lattice.matrix
    return [float(np.linalg.norm(np.cross(*np.delete(rows, axis, axis=0)))) for axis in range(3)]
