"""Distances between periodic points, and how far apart atoms usually are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from math import pi
from typing import TYPE_CHECKING

import numpy as np

from matsearch.crystal.checks import least_distance
from matsearch.propose.operators.oxidation import electronegativity
from matsearch.propose.operators.volumes import atom_volume

if TYPE_CHECKING:
    from pymatgen.core import Structure

UNLIKE, ALIKE, METALLIC = 0.68, 0.85, 0.78
"""Least distances that a proposal should keep, in sums of the radii of spheres as large as the atoms' volumes: of
atoms whose electronegativities differ by `CONTRAST`, of others in a crystal with a non-metal, of those in an alloy.
Rock salt has 0.74 to 0.78 and 1.0 to 1.2, a close packing of equal spheres 0.90."""
CONTRAST = 0.7
"""Pauling units."""
_IMAGES = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)


def offsets(matrix: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[n, m, 3] Å from the nearest image of points [m, 3] to points [n, 3], all fractional.

    Neighbouring cells alone are looked at, which is exact for the short distances of a reduced cell.
    """
    between = first[:, None, :] - second[None, :, :]
    between -= np.round(between)
    vectors = (between[:, :, None, :] + _IMAGES) @ matrix
    nearest = (vectors**2).sum(axis=-1).argmin(axis=-1)
    found: np.ndarray = np.take_along_axis(vectors, nearest[:, :, None, None], axis=2)[:, :, 0, :]
    return found


def distances(matrix: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[n, m] Å: the lengths of `offsets`."""
    lengths: np.ndarray = np.sqrt((offsets(matrix, first, second) ** 2).sum(axis=-1))
    return lengths


def shortest_vector(matrix: np.ndarray) -> float:
    """Å, from an atom to its own nearest image, as far as neighbouring cells tell."""
    vectors = _IMAGES[np.abs(_IMAGES).sum(axis=1) > 0] @ matrix
    return float(np.linalg.norm(vectors, axis=1).min())


def reduced(structure: Structure) -> Structure:
    """The same crystal in a cell with short vectors (LLL)."""
    from pymatgen.core import Structure as Crystal

    lattice = structure.lattice.get_lll_reduced_lattice()
    symbols = [site.specie.symbol for site in structure]
    return Crystal(lattice, symbols, structure.cart_coords, coords_are_cartesian=True, to_unit_cell=True)


def usual_distances(symbols: Sequence[str], others: Sequence[str], alloy: bool) -> np.ndarray:
    """[n, m] Å that atoms of these elements should keep in an alloy or another crystal; valid ones keep no less."""
    pairs = [[_usual(one, other, alloy) for other in others] for one in symbols]
    return np.array(pairs).reshape(len(symbols), len(others))


def room_of(
    matrix: np.ndarray, symbol: str, images: np.ndarray, symbols: Sequence[str], others: np.ndarray, alloy: bool
) -> float:
    """Shortest distance of an orbit [n, 3] to its own atoms and to others [m, 3], in usual distances.

    One atom of the orbit stands for all, so that the others must be whole orbits of the same group.
    """
    own = distances(matrix, images[:1], images[1:]) / _usual(symbol, symbol, alloy)
    room = min(float(own.min(initial=np.inf)), shortest_vector(matrix) / _usual(symbol, symbol, alloy))
    if len(others):
        found = distances(matrix, images[:1], others) / usual_distances([symbol], symbols, alloy)
        room = min(room, float(found.min()))
    return room


@cache
def _usual(first: str, second: str, alloy: bool) -> float:
    contrast = abs(electronegativity(first) - electronegativity(second)) >= CONTRAST
    factor = METALLIC if alloy else UNLIKE if contrast else ALIKE
    return max(least_distance(first, second), factor * (_radius(first, alloy) + _radius(second, alloy)))


@cache
def _radius(symbol: str, alloy: bool) -> float:
    """Å, of a sphere with the volume that the atom takes."""
    return float((3 * atom_volume(symbol, alloy) / (4 * pi)) ** (1 / 3))
