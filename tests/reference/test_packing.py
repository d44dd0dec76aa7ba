"""Packed crystals come back as they went in."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.reference.packing import pack, unpack


def test_special_positions_stay_exact():
    thirds = [[0, 0, 0], [1 / 3, 2 / 3, 0.25], [0.2, 0.125, 5 / 6], [1 / 7, -1 / 9, 0.9375]]
    structure = Structure(Lattice.hexagonal(3.0, 5.0), ["Li", "Mg", "Ti", "O"], thirds)
    back = unpack(*pack(structure))
    np.testing.assert_allclose(back.frac_coords, np.mod(thirds, 1.0), atol=1e-15)
    assert back.species == structure.species


def test_general_positions_move_less_than_a_thousandth_of_an_angstrom():
    rng = np.random.default_rng(0)
    structure = Structure(
        Lattice.from_parameters(9.1, 10.3, 12.7, 81.0, 97.0, 113.0), ["O"] * 50, rng.uniform(-2, 2, (50, 3))
    )
    back = unpack(*pack(structure))
    moved = [a.distance(b) for a, b in zip(structure, back, strict=True)]
    assert max(moved) < 1e-3
    assert back.volume == pytest.approx(structure.volume, rel=1e-6)


def test_a_coordinate_just_below_one_wraps_to_zero():
    structure = Structure(Lattice.cubic(4.0), ["Li"], [[0.9999999, 0.0, 0.0]])
    assert unpack(*pack(structure)).frac_coords[0, 0] == 0.0
