"""Strain and rattle: the cell deformed and the atoms moved, with the symmetry or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from matsearch.propose.operators.base import Operator, symbols_of
from matsearch.propose.operators.orbits import Orbits, to_orbits
from matsearch.propose.operators.records import Change, Parent
from matsearch.propose.operators.substitution import with_target
from matsearch.propose.space import most_atoms
from matsearch.records import Rejection

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.propose.space import Space

STRAIN = 0.05
"""Standard deviation of each component of the strain; of angles, in 90 degrees."""
MOVES = (0.1, 0.4)
"""Å, range of the standard deviation of an atom's moves, along each direction."""
KEPT_SYMMETRY = 0.5
"""Share of attempts that keep the space group, where it leaves something free besides the cell."""
DOUBLED = 0.3
"""Share of the others that double the cell first, where it may be so large: atoms can then move in opposite ways."""


class Distort(Operator):
    """Strains the cell at constant volume and moves the atoms.

    Half the attempts keep the space group and move atoms within their Wyckoff positions. The others break it, some in
    a doubled cell, so that a relaxation can find a less symmetric crystal below.
    """

    name = "distort"
    needs_balance = False

    def attempt(self, parents: Sequence[Parent], space: Space, rng: np.random.Generator) -> Change | Rejection:
        """One distortion of one of the parents."""
        parent = parents[int(rng.integers(len(parents)))]
        structure = with_target(parent.structure, space, rng)
        if isinstance(structure, Rejection):
            return structure
        size = float(rng.uniform(*MOVES))
        if rng.random() < KEPT_SYMMETRY:
            orbits = to_orbits(structure)
            if orbits is not None and np.abs(orbits.projectors()).max() > 1e-3:
                made = self._within_symmetry(orbits, size, rng)
                if made is not None:
                    text = f"cell strained, atoms moved by {size:.2f} Å, space group {orbits.number} kept"
                    return Change(made, text, (parent.id,))
        where = ""
        limit = most_atoms(space)
        if rng.random() < DOUBLED and (limit is None or 2 * len(structure) <= limit):
            structure, where = doubled(structure, rng), " in a doubled cell"
        return Change(rattled(structure, size, rng), f"cell strained, atoms moved by {size:.2f} Å{where}", (parent.id,))

    def _within_symmetry(self, orbits: Orbits, size: float, rng: np.random.Generator) -> Structure | None:
        volume = abs(np.linalg.det(orbits.matrix()))
        lengths = orbits.lengths * np.exp(rng.normal(0, STRAIN, len(orbits.lengths)))
        angles = orbits.angles + rng.normal(0, 90 * STRAIN, len(orbits.angles))
        strained = replace(orbits, lengths=lengths, angles=angles)
        try:
            matrix = strained.matrix()
        except ValueError:
            return None
        scale = (volume / abs(np.linalg.det(matrix))) ** (1 / 3)
        steps = rng.normal(0, size, orbits.points.shape) @ np.linalg.inv(matrix)
        points = orbits.points + np.einsum("nij,nj->ni", orbits.projectors(), steps)
        return replace(strained, lengths=lengths * scale, points=points).structure()


def rattled(structure: Structure, size: float, rng: np.random.Generator) -> Structure:
    """A crystal without symmetry: a random strain at constant volume, atoms moved by a normal deviate of `size` Å."""
    from pymatgen.core import Lattice, Structure

    strain = rng.normal(0, STRAIN, (3, 3))
    deformation = np.eye(3) + (strain + strain.T) / 2
    deformation /= abs(np.linalg.det(deformation)) ** (1 / 3)
    matrix = np.asarray(structure.lattice.matrix) @ deformation
    moves = rng.normal(0, size, (len(structure), 3)) @ np.linalg.inv(matrix)
    return Structure(Lattice(matrix), symbols_of(structure), structure.frac_coords + moves)


def doubled(structure: Structure, rng: np.random.Generator) -> Structure:
    """The crystal in a cell twice as large, along one axis or a diagonal of two."""
    from pymatgen.core import Lattice, Structure

    ways = [np.diag([2, 1, 1]), np.diag([1, 2, 1]), np.diag([1, 1, 2])]
    ways += [np.array(rows) for rows in ([[1, 1, 0], [1, -1, 0], [0, 0, 1]], [[1, 0, 1], [0, 1, 0], [1, 0, -1]])]
    way = ways[int(rng.integers(len(ways)))]
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    shifts = next(np.array([[0, 0, 0], one]) for one in corners[1:] if not _is_lattice_point(one, way))
    points = (np.asarray(structure.frac_coords)[None] + shifts[:, None]).reshape(-1, 3) @ np.linalg.inv(way)
    return Structure(Lattice(way @ structure.lattice.matrix), symbols_of(structure) * 2, points % 1.0)


def _is_lattice_point(point: np.ndarray, way: np.ndarray) -> bool:
    inside = point @ np.linalg.inv(way)
    return bool(np.abs(inside - np.round(inside)).max() < 1e-6)
