"""Proofs that StructureMatcher calls two crystals the same, or different, at a fraction of its cost.

StructureMatcher (Ong et al., Comput. Mater. Sci. 68, 314 (2013)) scales two primitive cells to one volume, takes every
basis of the first lattice whose lengths and angles are near those of the second, moves the second crystal so that one
of its rarest atoms lies on each of its kind in turn, and accepts where every atom finds one of its kind within the site
tolerance. The same search runs here on arrays that are kept per crystal, over all bases and moves at once:

- no basis, or no move that brings every atom near one of its kind: different;
- one whose atoms pair off within the tolerance: the same;
- anything else, and whatever lies on a tolerance to within rounding: not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from matsearch.crystal.tokens import ordered_symbols

if TYPE_CHECKING:
    from pymatgen.core import Lattice, Structure

LENGTH_TOL = 0.2
"""Lengths of two cells of one volume may differ by this factor less one."""
SITE_TOL = 0.3
"""Atoms may be this far from each other, in units of (volume / atom)^(1/3)."""
ANGLE_TOL = 5.0
"""Degrees."""
ROUNDING = 1e-4
"""Relative. What lies this near to a tolerance is left to StructureMatcher: far above `GRAIN` and noise."""
GRAIN = 1e-6
"""Fractional coordinates that differ by less are the same position."""

UNREACHABLE = 1e19
"""`pbc_shortest_vectors` puts 1e20 for pairs that are of two kinds or too far apart."""


class ReducedCell:
    """A primitive, Niggli-reduced cell, scaled to one atom per unit of volume, ready to be compared.

    Attributes:
        structure: The cell as it is.
        vectors: [3, 3] lattice vectors as rows, scaled.
        lengths: [3].
        angles: [3], degrees.
        coords: [n, 3] fractional, in the order of the sites, which StructureMatcher's decisions depend on.
        kinds: [n] number of the symbol of each site.
        sites: Symbol to the indices of its sites.
        rarest: Symbol with the fewest sites, the first of several.
    """

    def __init__(self, structure: Structure) -> None:
        symbols = np.array(ordered_symbols(structure))
        self.structure = structure
        matrix = np.asarray(structure.lattice.matrix, dtype=float)
        self.vectors = matrix * (len(symbols) / abs(np.linalg.det(matrix))) ** (1 / 3)
        self.lengths = np.linalg.norm(self.vectors, axis=1)
        self.angles = _angles(self.vectors)
        self.coords = np.ascontiguousarray(structure.frac_coords, dtype=float)
        self.kinds = np.unique(symbols, return_inverse=True)[1]
        self.sites = {symbol: np.flatnonzero(symbols == symbol) for symbol in dict.fromkeys(symbols.tolist())}
        self.rarest = min(self.sites, key=lambda symbol: len(self.sites[symbol]))

    @cached_property
    def composition(self) -> dict[str, int]:
        """Symbol to the number of its sites."""
        return {symbol: len(sites) for symbol, sites in self.sites.items()}

    def lattice_points(self, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Integer coordinates [m, 3], vectors [m, 3] and lengths [m] of the lattice vectors up to a radius."""
        # The planes of a lattice are 1 / |row of the reciprocal lattice| apart.
        reach = np.floor(radius * np.linalg.norm(np.linalg.inv(self.vectors), axis=0) + ROUNDING).astype(int)
        steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(-1, 3)
        points = steps @ self.vectors
        lengths = np.linalg.norm(points, axis=1)
        near = lengths <= radius
        return steps[near], points[near], lengths[near]


def proven(first: ReducedCell, second: ReducedCell) -> bool | None:
    """Whether StructureMatcher calls the second crystal the same as the first; None where neither is proven."""
    if first.composition != second.composition:
        return False
    # Reduced lengths are the shortest that there are, to within the tolerance of the reduction: no basis has shorter.
    if (first.lengths > second.lengths * (1 + LENGTH_TOL) * (1 + 10 * ROUNDING)).any():
        return False
    bases, steps = _near_bases(first, second)
    if len(bases) == 0:
        return False
    moves = _Moves(first, second, bases, steps)
    verdicts: dict[bytes, bool | None] = {}
    for basis, move in moves.that_bring_all_near():
        layout = moves.layout(basis, move)
        if layout not in verdicts:
            verdicts[layout] = moves.pair_off(basis, move)
            if verdicts[layout]:
                return True
    return None if None in verdicts.values() else False


def _near_bases(first: ReducedCell, second: ReducedCell) -> tuple[np.ndarray, np.ndarray]:
    """Bases [k, 3, 3] of the first lattice like that of the second, and their integer coordinates [k, 3, 3]."""
    steps, points, lengths = first.lattice_points(float(second.lengths.max()) * (1 + LENGTH_TOL) * (1 + ROUNDING))
    limit = (1 + LENGTH_TOL) * (1 + ROUNDING)
    a, b, c = (np.flatnonzero((lengths < limit * length) & (lengths * limit > length)) for length in second.lengths)
    units = points / np.maximum(lengths, 1e-12)[:, None]

    def near(one: np.ndarray, other: np.ndarray, angle: float) -> np.ndarray:
        found = np.degrees(np.arccos(np.clip(units[one] @ units[other].T, -1, 1)))
        return np.abs(found - angle) <= ANGLE_TOL + ROUNDING

    alpha, beta, gamma = second.angles
    i, j = np.nonzero(near(a, b, gamma))
    pair, k = np.nonzero(near(b, c, alpha)[j] & near(a, c, beta)[i])
    triples = np.stack([a[i[pair]], b[j[pair]], c[k]], axis=1)
    triples = triples[np.abs(np.abs(np.linalg.det(steps[triples])) - 1) < 0.5]
    return points[triples], steps[triples]


class _Moves:
    """Every way to lay the second crystal on the first: each basis [k], each of the rarest atoms [m] on another."""

    def __init__(self, first: ReducedCell, second: ReducedCell, bases: np.ndarray, steps: np.ndarray) -> None:
        self.first, self.second = first, second
        self._mean_cells: dict[tuple[float, ...], tuple[Lattice, np.ndarray]] = {}
        self.coords = first.coords @ np.linalg.inv(steps)  # [k, n, 3]
        on = second.coords[second.sites[second.rarest][0]]
        self.shifts = self.coords[:, first.sites[second.rarest]] - on  # [k, m, 3]
        own_lengths, own_angles = np.linalg.norm(bases, axis=2), _angles(bases)
        lengths = (own_lengths + second.lengths) / 2
        self.parameters = np.concatenate([lengths, (own_angles + second.angles) / 2], axis=1)  # [k, 6]
        factors = np.maximum(own_lengths / second.lengths, second.lengths / own_lengths)
        self.is_clear = (factors < (1 + LENGTH_TOL) * (1 - ROUNDING)).all(axis=1) & (
            np.abs(own_angles - second.angles) < ANGLE_TOL - ROUNDING
        ).all(axis=1)  # [k], not on a tolerance
        cosines, sines = (function(np.radians(self.parameters[:, 3:])) for function in (np.cos, np.sin))
        wedge = 1 - (cosines**2).sum(axis=1) + 2 * cosines.prod(axis=1)
        # The mean of two cells: a flat one has no tolerance, which is then infinite.
        volumes = lengths.prod(axis=1) * np.sqrt(np.maximum(wedge, 1e-12))
        self.edges = (volumes / len(second.coords)) ** (1 / 3)  # [k]
        spacings = volumes[:, None] / (np.roll(lengths, 1, axis=1) * np.roll(lengths, 2, axis=1) * sines)
        # Twice the site tolerance: that of the atom that was laid on another adds to it.
        self.tolerances = 2 * SITE_TOL * self.edges[:, None] / spacings  # [k, 3], fractional

    def that_bring_all_near(self) -> Iterator[tuple[int, int]]:
        """Basis and move of all that leave no atom without one of its kind in reach."""
        from pymatgen.util.coord_cython import is_coord_subset_pbc

        for basis, move in np.ndindex(*self.shifts.shape[:2]):
            here = self.second.coords + self.shifts[basis, move]
            if is_coord_subset_pbc(here, self.coords[basis], self.tolerances[basis] * (1 + ROUNDING), self._unlike):
                yield basis, move

    def layout(self, basis: int, move: int) -> bytes:
        """What lies where after a move; of a symmetric crystal, many moves lead to one layout."""
        origin = self.coords[basis, self.first.sites[self.second.rarest][move]]
        places = np.rint((self.coords[basis] - origin) / GRAIN).astype(np.int64) % round(1 / GRAIN)
        keys = places @ np.array([1, 10**6, 10**12])
        cell = np.rint(self.parameters[basis] / (10 * GRAIN)).astype(np.int64)
        return cell.tobytes() + keys[np.lexsort((keys, self.first.kinds))].tobytes()

    def pair_off(self, basis: int, move: int) -> bool | None:
        """Whether the atoms pair off within the tolerance, once their mean offset is taken away.

        StructureMatcher looks at one pairing only, that of the least sum of squares. None: on a tolerance, or two
        pairings have the same sum.
        """
        from pymatgen.util.coord_cython import is_coord_subset_pbc, pbc_shortest_vectors
        from scipy.optimize import linear_sum_assignment

        mean, reach = self._mean_cell(basis)
        here, there = self.second.coords + self.shifts[basis, move], self.coords[basis]
        there = there - np.floor(there)
        vectors, squares = pbc_shortest_vectors(mean, here, there, self._unlike, return_d2=True, lll_frac_tol=reach)
        rows, columns = linear_sum_assignment(squares)
        if (squares[rows, columns] > UNREACHABLE).any():
            return False
        offsets = vectors[rows, columns]
        worst = np.linalg.norm(offsets - offsets.mean(axis=0), axis=1).max() / (SITE_TOL * self.edges[basis])
        if ((squares < UNREACHABLE).sum(axis=1) > 1).any():
            # Dearer by a little, the pairing must still be the cheapest: else another one is as good.
            squares[rows, columns] += ROUNDING * self.edges[basis] ** 2
            if (linear_sum_assignment(squares)[1] != columns).any():
                return None
        if worst > 1 + ROUNDING:
            return False
        is_clear = (
            worst < 1 - ROUNDING
            and self.is_clear[basis]
            and is_coord_subset_pbc(here, there, self.tolerances[basis] * (1 - ROUNDING), self._unlike)
        )
        return True if is_clear else None

    def _mean_cell(self, basis: int) -> tuple[Lattice, np.ndarray]:
        """The mean cell and, per vector of its reduced basis, the fraction that StructureMatcher looks as far as."""
        from pymatgen.core import Lattice

        # Many bases of a symmetric crystal have the same lengths and angles.
        key = tuple(np.round(self.parameters[basis], 9).tolist())
        if key not in self._mean_cells:
            mean = Lattice.from_parameters(*key)
            inverse = np.linalg.inv(mean.lll_matrix)
            self._mean_cells[key] = mean, 2 * SITE_TOL * self.edges[basis] * np.linalg.norm(inverse, axis=0)
        return self._mean_cells[key]

    @cached_property
    def _unlike(self) -> np.ndarray:
        """[n, n] 1 where an atom of the second crystal and one of the first are of two kinds."""
        unlike = np.ones((len(self.second.coords), len(self.first.coords)), dtype=np.int64)
        for symbol, sites in self.second.sites.items():
            unlike[np.ix_(sites, self.first.sites[symbol])] = 0
        return unlike


def _angles(vectors: np.ndarray) -> np.ndarray:
    """[..., 3] alpha, beta, gamma in degrees of lattice vectors [..., 3, 3]."""
    units = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    cosines = [(units[..., i, :] * units[..., j, :]).sum(axis=-1) for i, j in ((1, 2), (0, 2), (0, 1))]
    return np.degrees(np.arccos(np.clip(np.stack(cosines, axis=-1), -1, 1)))
