"""Crystals in few bytes: the space group, the free lengths and angles of the cell, and one atom of each orbit.

A crystal is four columns: `group` (ITA number of the space group, moyo's standard setting), `lattice` (the free lengths
of the conventional cell in 1e-4 Å, then its free angles in 1e-4 degrees, int32), `numbers` (the atomic number of each
orbit, uint8) and `coords` (fractional coordinates of one atom of each orbit as multiples of 1/10080, uint16, three an
orbit).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from matsearch.crystal.space_groups import Group, space_group
from matsearch.crystal.wyckoff import conventional_parameters, free_parameters, n_free_lengths_and_angles

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from pymatgen.core import Structure

# 1/3, 1/5, 1/7, 1/9, 1/16, 1/32 and their multiples stay exact. Elsewhere the rounding is at most 5e-4 Å in a cell of
# 10 Å, ten times below what a relaxation to 0.05 eV/Å settles; energies move by some 0.01 meV/atom.
GRID = 10080
STEP = 1e-4
"""Å and degrees, of the lattice."""
SYMPREC = 0.01
"""Å; atoms this near to where the space group wants them are put there. Moves are below it."""
_SNAP = 2.0 / GRID  # rounding leaves atoms this near to the special positions they are on


class PackedCrystal(NamedTuple):
    """The columns of one crystal: a number, [1..6] int32, [n_orbits] uint8, [3 * n_orbits] uint16."""

    group: int
    lattice: np.ndarray
    numbers: np.ndarray
    coords: np.ndarray


def pack(structure: Structure) -> PackedCrystal:
    """The crystal, reduced to its primitive cell, its symmetry made exact, rounded to the grid.

    A crystal whose orbits do not come back from the grid as they went in (two atoms closer than it resolves) is kept as
    P1, in the cell as given.
    """
    matrix = np.asarray(structure.lattice.matrix, dtype=float)
    coords = np.asarray(structure.frac_coords, dtype=float)
    if np.linalg.det(matrix) < 0:  # six numbers cannot say the hand of a cell; swapping two vectors changes only that
        matrix, coords = matrix[[1, 0, 2]], coords[:, [1, 0, 2]]
    numbers = np.array([site.specie.Z for site in structure])
    return _pack_symmetric(matrix, coords, numbers) or _pack_as_given(matrix, coords, numbers)


def unpack(group: int, lattice: ArrayLike, numbers: ArrayLike, coords: ArrayLike) -> Structure:
    """The crystal back from its columns: a primitive cell, atoms of one orbit together."""
    from pymatgen.core import Lattice, Structure

    number = int(group)
    symmetry = space_group(number)
    n_lengths, _ = n_free_lengths_and_angles(number)
    parameters = [float(value) for value in np.asarray(lattice) * STEP]
    conventional = Lattice.from_parameters(
        *conventional_parameters(number, parameters[:n_lengths], parameters[n_lengths:])
    )
    points = np.asarray(coords, dtype=np.float64).reshape(-1, 3) / GRID
    orbits = _orbits(symmetry, points)
    species = [int(z) for z, orbit in zip(np.asarray(numbers), orbits, strict=True) for _ in orbit]
    return Structure(Lattice(symmetry.primitive @ conventional.matrix), species, np.concatenate(orbits))


def _orbits(group: Group, points: np.ndarray) -> list[np.ndarray]:
    """The atoms of the primitive cell, in its own fractional coordinates, orbit by orbit."""
    inverse = np.linalg.inv(group.primitive)
    orbits = []
    for point in group.snap(points, _SNAP):
        reduced = (group.images(point) @ inverse) % 1.0
        # The small irrational-like offset keeps exact fractions off the edges of the bins.
        bins = np.floor((reduced + 3.1415e-6) * 1e5).astype(np.int64) % 100_000
        # As one number each: rows take numpy several times as long.
        _, first = np.unique(bins @ [10**10, 10**5, 1], return_index=True)
        orbits.append(reduced[np.sort(first)])
    return orbits


def _pack_symmetric(matrix: np.ndarray, coords: np.ndarray, numbers: np.ndarray) -> PackedCrystal | None:
    """By the space group found; None where none is found, or where the crystal does not come back."""
    import moyopy

    # moyo warns of every supercell that it leaves out operations of the primitive cell; none of them is used here.
    logging.getLogger("moyo").setLevel(logging.ERROR)
    cell = moyopy.Cell(matrix.tolist(), (coords % 1.0).tolist(), numbers.tolist())
    try:
        dataset = moyopy.MoyoDataset(cell, symprec=SYMPREC, setting=moyopy.Setting.standard())
    except ValueError:
        return None
    group = space_group(dataset.number)
    basis = np.array(dataset.std_cell.basis)
    positions = np.array(dataset.std_cell.positions)
    kinds = np.array(dataset.std_cell.numbers)
    try:
        first = group.representatives(positions, kinds)
    except ValueError:
        return None
    steps = (np.rint(positions[first] * GRID).astype(np.int64) % GRID).astype(np.uint16)
    sizes = [len(orbit) for orbit in _orbits(group, steps / GRID)]
    found = np.bincount(np.repeat(kinds[first], sizes), minlength=120) * len(group.centring)
    if not np.array_equal(found, np.bincount(kinds, minlength=120)):
        return None
    lattice = _free_parameters(basis, dataset.number)
    return PackedCrystal(dataset.number, lattice, kinds[first].astype(np.uint8), steps.ravel())


def _free_parameters(basis: np.ndarray, number: int) -> np.ndarray:
    return np.rint(np.concatenate(free_parameters(basis, number)) / STEP).astype(np.int32)


def _pack_as_given(matrix: np.ndarray, coords: np.ndarray, numbers: np.ndarray) -> PackedCrystal:
    steps = np.rint((coords % 1.0) * GRID).astype(np.int64) % GRID
    order = np.argsort(numbers, kind="stable")
    return PackedCrystal(
        1, _free_parameters(matrix, 1), numbers[order].astype(np.uint8), steps[order].astype(np.uint16).ravel()
    )
