"""Crystals in few bytes, fine enough that their energies do not change.

A crystal is `lattice` = [a, b, c (Å), alpha, beta, gamma (degrees)] as float32, `numbers` = atomic numbers as uint8 and
`coords` = fractional coordinates as multiples of 1/65520 in uint16, three per site.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from pymatgen.core import Structure

# The largest highly divisible number in 16 bits: 1/3, 1/4, 1/5, 1/7, 1/9, 1/13, 1/16 and their multiples stay exact, so
# atoms on special positions stay on them. Elsewhere the rounding is 1e-4 Å in a cell of 10 Å.
GRID = 65520


class PackedCrystal(NamedTuple):
    """The three columns of one crystal: [6] float32, [n_atoms] uint8, [3 * n_atoms] uint16."""

    lattice: np.ndarray
    numbers: np.ndarray
    coords: np.ndarray


def pack(structure: Structure) -> PackedCrystal:
    """The crystal, rounded to the grid."""
    steps = np.rint(np.mod(structure.frac_coords, 1.0) * GRID).astype(np.int64) % GRID
    return PackedCrystal(
        np.asarray(structure.lattice.parameters, dtype=np.float32),
        np.asarray(structure.atomic_numbers, dtype=np.uint8),
        steps.astype(np.uint16).ravel(),
    )


def unpack(lattice: ArrayLike, numbers: ArrayLike, coords: ArrayLike) -> Structure:
    """The crystal back from its three columns, with the axes of `Lattice.from_parameters`."""
    from pymatgen.core import Lattice, Structure

    parameters = [float(value) for value in np.asarray(lattice)]
    fractional = np.asarray(coords, dtype=np.float64).reshape(-1, 3) / GRID
    return Structure(Lattice.from_parameters(*parameters), [int(z) for z in np.asarray(numbers)], fractional)
