"""A crystal by its symmetry: a space group, the free lengths and angles of its cell, one atom of each orbit."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from matsearch.crystal.prototype import NEEDLE
from matsearch.crystal.space_groups import space_group
from matsearch.crystal.wyckoff import conventional_parameters, free_parameters

if TYPE_CHECKING:
    from pymatgen.core import Structure

SYMPREC = 0.05
"""Å, tolerance of the symmetry that an operator keeps."""
_SNAP = 2e-3  # fractional; what moyo calls special is this near to it, and then put there
_ON = 1e-4  # fractional; a point this near to its image is on the symmetry element


@dataclass(frozen=True, slots=True)
class Orbits:
    """A crystal in the conventional cell of its space group.

    Attributes:
        number: Of the space group, moyo's standard setting.
        lengths: Free lengths of the cell, Å.
        angles: Free angles of the cell, degrees.
        symbols: Element of each orbit.
        points: [n_orbits, 3] fractional coordinates of one atom of each.
    """

    number: int
    lengths: np.ndarray
    angles: np.ndarray
    symbols: tuple[str, ...]
    points: np.ndarray

    def matrix(self) -> np.ndarray:
        """[3, 3] vectors of the conventional cell as rows, Å.

        Raises:
            ValueError: The angles span no cell.
        """
        return cell_matrix(self.number, self.lengths, self.angles)

    def sizes(self) -> list[int]:
        """Atoms of each orbit in the primitive cell."""
        return [len(primitive_images(self.number, point)) for point in self.points]

    def projectors(self) -> np.ndarray:
        """[n_orbits, 3, 3] onto the directions in which each atom can move while its orbit stays what it is."""
        group = space_group(self.number)
        keeps = (np.abs(group.offsets(self.points)) < _ON).all(axis=-1)
        return np.array([group.rotations[kept].mean(axis=0) for kept in keeps]).reshape(-1, 3, 3)

    def structure(self) -> Structure:
        """The crystal, in its primitive cell.

        Raises:
            ValueError: The angles span no cell.
        """
        from pymatgen.core import Lattice, Structure

        orbits = [primitive_images(self.number, point) for point in self.points]
        symbols = [symbol for symbol, orbit in zip(self.symbols, orbits, strict=True) for _ in orbit]
        lattice = Lattice(space_group(self.number).primitive @ self.matrix())
        return Structure(lattice, symbols, np.concatenate(orbits))


def cell_matrix(number: int, lengths: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """[3, 3] vectors of the conventional cell with these free lengths (Å) and angles (degrees).

    Raises:
        ValueError: The angles span no cell.
    """
    from pymatgen.core import Lattice

    parameters = conventional_parameters(number, [float(one) for one in lengths], [float(one) for one in angles])
    cosines = np.cos(np.radians(parameters[3:]))
    # The square of the volume of a cell with edges of 1.
    if not 1 - (cosines**2).sum() + 2 * cosines.prod() > 1e-2:
        raise ValueError(f"the angles {parameters[3:]} span no cell")
    matrix: np.ndarray = np.array(Lattice.from_parameters(*parameters).matrix)
    return matrix


@cache
def to_primitive(number: int) -> np.ndarray:
    """[3, 3] that turns fractional coordinates of the conventional cell into those of the primitive one."""
    inverse: np.ndarray = np.linalg.inv(space_group(number).primitive)
    return inverse


def primitive_images(number: int, point: np.ndarray) -> np.ndarray:
    """[n, 3] atoms that a point of the conventional cell makes in the primitive one, in fractions of that."""
    group = space_group(number)
    reduced = (group.images(point) @ to_primitive(number)) % 1.0
    # The small irrational-like offset keeps exact fractions off the edges of the bins.
    bins = np.floor((reduced + 3.1415e-6) * 1e5).astype(np.int64) % 100_000
    _, first = np.unique(bins @ [10**10, 10**5, 1], return_index=True)
    images: np.ndarray = reduced[np.sort(first)]
    return images


def to_orbits(structure: Structure) -> Orbits | None:
    """The crystal by its symmetry within `SYMPREC`; None where moyo finds none, or where it does not come back."""
    import moyopy

    matrix = np.asarray(structure.lattice.matrix, dtype=float)
    edges = np.linalg.norm(matrix, axis=1)
    if edges.max() > NEEDLE * edges.min():
        return None
    # moyo warns of every supercell that it leaves out operations of the primitive cell; none of them is used here.
    logging.getLogger("moyo").setLevel(logging.ERROR)
    names = sorted({site.specie.symbol for site in structure})
    numbers = [names.index(site.specie.symbol) + 1 for site in structure]
    coords = np.asarray(structure.frac_coords, dtype=float)
    cell = moyopy.Cell(matrix.tolist(), (coords - np.floor(coords)).tolist(), numbers)
    try:
        dataset = moyopy.MoyoDataset(cell, symprec=SYMPREC, setting=moyopy.Setting.standard())
        group = space_group(dataset.number)
        positions, kinds = np.array(dataset.std_cell.positions), np.array(dataset.std_cell.numbers)
        first = group.representatives(positions, kinds)
    except ValueError:
        return None
    lengths, angles = free_parameters(np.array(dataset.std_cell.basis), dataset.number)
    points = group.snap(positions[first], _SNAP)
    found = Orbits(dataset.number, lengths, angles, tuple(names[kind - 1] for kind in kinds[first]), points)
    try:
        found.matrix()
    except ValueError:
        return None
    is_whole = sum(found.sizes()) * len(group.centring) == len(positions)
    return found if is_whole else None
