"""Crystals taken away from rest, for a teacher to label: pressed and stretched, cut into slabs, torn into fragments.

What a potential was never shown it gets wrong: crystals near their minima alone leave it soft, and without surfaces and
fragments it knows nothing of atoms that lack neighbours.
"""

from __future__ import annotations

import numpy as np
from pymatgen.core import Lattice, Structure

VOLUMES = (0.7, 1.25)
"""Of the crystal, evenly by their logarithm."""
MOVE = 0.08
"""Å; standard deviation of displacements that go with a change of volume, or stand on a surface."""
VACUUM = 12.0
"""Å, beyond the reach of two atoms in one layer of the network."""
THICKNESS = 5.0
"""Å, least of a slab."""
FRAGMENT_ATOMS = (2, 8)
"""Atoms of a cluster."""
APART = 2.5
"""Å by which two fragments are pulled apart at most: farther, a short-ranged teacher knows nothing."""


def stretched(structure: Structure, rng: np.random.Generator) -> Structure:
    """The crystal at another volume, its atoms rattled a little."""
    low, high = np.log(VOLUMES)
    scale = np.exp(rng.uniform(low, high) / 3)
    lattice = Lattice(structure.lattice.matrix * scale)
    moves = rng.normal(scale=MOVE * rng.uniform(), size=(len(structure), 3))
    places = structure.frac_coords @ lattice.matrix + moves
    return Structure(lattice, structure.species, places, coords_are_cartesian=True)


def slab(structure: Structure, rng: np.random.Generator, most_atoms: int = 24) -> Structure | None:
    """Layers across one of the cell's vectors and vacuum, cut within the widest gap; None for too many atoms."""
    axis = int(rng.integers(3))
    spacing = structure.volume / np.linalg.norm(np.cross(*np.delete(structure.lattice.matrix, axis, axis=0)))
    n_cells = int(np.ceil(THICKNESS / spacing))
    if n_cells * len(structure) > most_atoms:
        return None
    scaling = np.ones(3, dtype=int)
    scaling[axis] = n_cells
    layers = structure.make_supercell(scaling, in_place=False, to_unit_cell=True)
    along = np.sort(layers.frac_coords[:, axis] % 1)
    gaps = np.diff(np.append(along, along[0] + 1))
    widest = int(gaps.argmax())
    shifted = layers.frac_coords.copy()
    shifted[:, axis] = (shifted[:, axis] - along[widest] - gaps[widest] / 2) % 1
    matrix = layers.lattice.matrix.copy()
    places = shifted @ matrix + rng.normal(scale=MOVE * rng.uniform(), size=(len(layers), 3))
    normal = np.cross(*np.delete(matrix, axis, axis=0))
    normal *= np.sign(normal @ matrix[axis]) / np.linalg.norm(normal)
    matrix[axis] += VACUUM * normal
    return Structure(Lattice(matrix), layers.species, places, coords_are_cartesian=True)


def fragments(structure: Structure, rng: np.random.Generator) -> Structure | None:
    """Two halves of a cluster of nearest neighbours, pulled apart in vacuum; None where an atom has no neighbours."""
    centre = structure[int(rng.integers(len(structure)))]
    low, high = FRAGMENT_ATOMS
    near = sorted(structure.get_sites_in_sphere(centre.coords, 4.0), key=lambda one: float(one.nn_distance))
    chosen = near[: int(rng.integers(low, high + 1))]
    if len(chosen) < low:
        return None
    places = np.array([one.coords for one in chosen])
    places += rng.normal(scale=MOVE * rng.uniform(), size=places.shape)
    places -= places.mean(0)
    # Along the line from the centre to its nearest neighbour, which the cut goes across.
    direction = chosen[1].coords - chosen[0].coords
    direction /= np.linalg.norm(direction)
    height = places @ direction
    cut = 0.5 * (height.min() + height.max())
    places += np.where(height > cut, rng.uniform(-0.2, APART), 0.0)[:, None] * direction
    lattice = Lattice.orthorhombic(*(np.ptp(places, axis=0) + VACUUM))
    return Structure(lattice, [one.specie for one in chosen], places, coords_are_cartesian=True)
