"""Crossover by cut and splice: one part of the cell from one parent, the rest from another.

After Deaven and Ho (Phys. Rev. Lett. 75, 288 (1995)), for crystals as in USPEX (Glass, Oganov and Hansen, Comput. Phys.
Commun. 175, 713 (2006)) and XtalOpt (Lonie and Zurek, Comput. Phys. Commun. 182, 372 (2011)): the reduced cells are
matched by the permutation of axes that fits best, both crystals are shifted at random, and the child's cell is a
mean of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np

from matsearch.propose.operators.base import Operator, count, refusal, symbols_of
from matsearch.propose.operators.compositions import cell_formula
from matsearch.propose.operators.oxidation import electronegativity, is_alloy, is_balanced
from matsearch.propose.operators.records import Change, Parent
from matsearch.propose.operators.spacing import distances, reduced, shortest_vector, usual_distances
from matsearch.propose.operators.volumes import expected_volume, with_elements
from matsearch.propose.space import MAX_FORMULA_UNITS, most_atoms, target_counts
from matsearch.records import Rejection

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.propose.space import Space

N_CUTS = 6
"""Cuts in one attempt, of which the roomiest child is taken."""
FRACTIONS = (0.3, 0.7)
"""Range of the part of the cell that comes from the first parent."""
RENAMED = 0.5
"""Share of attempts that take the arrangement of atoms from the second parent, but no new elements."""
N_COMPOSITIONS = 300
"""Compositions near that of the two parts that are tried, nearest first."""
MOST_CHANGES = 4
"""Atoms taken out or put in so that charges balance."""


class Crossover(Operator):
    """Cuts and splices two parents.

    The composition is what the two parts hold, mended: to whole formula units of the given composition; else, where
    it can be done by at most `MOST_CHANGES` atoms of the parents' elements, to one that can be neutral. Crowded atoms
    go first; what is put in comes from the parts cut away, where it has most room.
    """

    name = "crossover"
    min_parents = 2

    def attempt(self, parents: Sequence[Parent], space: Space, rng: np.random.Generator) -> Change | Rejection:
        """The roomiest of a few children of two of the parents."""
        first, second = (parents[index] for index in rng.permutation(len(parents))[:2].tolist())
        one, other = self._in_one_chemistry(first.structure, second.structure, space, rng)
        best: tuple[float, Structure] | None = None
        refused = refusal("no_child", "no cut gave a child")
        for _ in range(N_CUTS):
            child = self._child(one, other, space, rng)
            if isinstance(child, Rejection):
                refused = child
            elif best is None or child[0] > best[0]:
                best = child
        if best is None:
            return refused
        names = [parent.structure.composition.reduced_formula for parent in (first, second)]
        text = f"{cell_formula(count(symbols_of(best[1])))} cut and spliced from {names[0]} and {names[1]}"
        return Change(best[1], text, (first.id, second.id))

    def _in_one_chemistry(
        self, first: Structure, second: Structure, space: Space, rng: np.random.Generator
    ) -> tuple[Structure, Structure]:
        """Reduced cells of both, in the elements of the target; or, half the time, the second in those of the first."""
        if space.composition is not None:
            target = list(target_counts(space))
            first, second = with_likest(first, target), with_likest(second, target)
        elif rng.random() < RENAMED:
            second = with_likest(second, list(count(symbols_of(first))))
        return reduced(first), reduced(second)

    def _child(
        self, one: Structure, other: Structure, space: Space, rng: np.random.Generator
    ) -> tuple[float, Structure] | Rejection:
        from pymatgen.core import Lattice, Structure

        axes = match_axes(one.lattice.matrix, other.lattice.matrix, rng)
        matrices = [np.asarray(one.lattice.matrix), np.asarray(other.lattice.matrix)[axes]]
        coords = [np.asarray(one.frac_coords), np.asarray(other.frac_coords)[:, axes]]
        axis, fraction, weight = int(rng.integers(3)), float(rng.uniform(*FRACTIONS)), float(rng.random())
        coords = [(points + rng.random(3)) % 1.0 for points in coords]
        inside = [coords[0][:, axis] < fraction, coords[1][:, axis] >= fraction]
        names = [np.array(symbols_of(structure)) for structure in (one, other)]
        spliced = Spliced(
            [*names[0][inside[0]], *names[1][inside[1]]],
            np.concatenate([points[kept] for points, kept in zip(coords, inside, strict=True)]),
            [*names[0][~inside[0]], *names[1][~inside[1]]],
            np.concatenate([points[~kept] for points, kept in zip(coords, inside, strict=True)]),
        )
        target = self._target(spliced, space)
        if isinstance(target, Rejection):
            return target
        packing = np.mean(
            [structure.volume / expected_volume(count(symbols_of(structure))) for structure in (one, other)]
        )
        matrix = mean_cell(matrices, weight)
        matrix *= (float(packing) * expected_volume(target) / abs(np.linalg.det(matrix))) ** (1 / 3)
        made = mended(spliced, target, matrix)
        return made if isinstance(made, Rejection) else (made[0], Structure(Lattice(matrix), made[1], made[2]))

    def _target(self, spliced: Spliced, space: Space) -> dict[str, int] | Rejection:
        """Atoms of each element that the child is to have."""
        counts = count(spliced.symbols)
        limit = most_atoms(space)
        if space.composition is not None:
            unit = target_counts(space)
            size = sum(unit.values())
            n_most = MAX_FORMULA_UNITS if limit is None else min(MAX_FORMULA_UNITS, limit // size)
            units = min(max(1, round(len(spliced.symbols) / size)), n_most)
            return {symbol: n * units for symbol, n in unit.items()} if units else refusal("too_many_atoms", "")
        if not counts:
            return refusal("no_atoms", "the cut left none")
        return nearest_balanced(counts, count(spliced.cut_symbols), limit)


def with_likest(structure: Structure, elements: Sequence[str]) -> Structure:
    """The crystal with the element of nearest electronegativity in the place of each that is not among them."""
    renamed = {
        symbol: min(elements, key=lambda one: abs(electronegativity(one) - electronegativity(symbol)))
        for symbol in count(symbols_of(structure))
        if symbol not in elements
    }
    return with_elements(structure, renamed)


@dataclass(frozen=True, slots=True)
class Spliced:
    """Two parts put together, and what was cut away; coordinates are fractional."""

    symbols: list[str]
    points: np.ndarray
    cut_symbols: list[str]
    cut_points: np.ndarray


def match_axes(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> list[int]:
    """The order of the second cell's axes in which it looks most like the first, or one nearly as good."""
    goal = _shape(first)
    orders = [list(order) for order in permutations(range(3))]
    misfits = np.array([np.abs(_shape(second[order]) - goal).sum() for order in orders])
    shares = np.exp(-(misfits - misfits.min()) / 0.1)
    return orders[int(rng.choice(len(orders), p=shares / shares.sum()))]


def _shape(matrix: np.ndarray) -> np.ndarray:
    """[6] logarithms of the lengths, and cosines of the angles, of a cell scaled to the volume 1."""
    scaled = matrix / abs(np.linalg.det(matrix)) ** (1 / 3)
    lengths = np.linalg.norm(scaled, axis=1)
    cosines = [scaled[i] @ scaled[j] / (lengths[i] * lengths[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    return np.concatenate([np.log(lengths), np.abs(cosines)])


def mean_cell(matrices: Sequence[np.ndarray], weight: float) -> np.ndarray:
    """[3, 3] cell between two, by the mean of their metric tensors, which always spans a cell."""
    scaled = [matrix / abs(np.linalg.det(matrix)) ** (1 / 3) for matrix in matrices]
    metric = weight * scaled[0] @ scaled[0].T + (1 - weight) * scaled[1] @ scaled[1].T
    cell: np.ndarray = np.linalg.cholesky(metric)
    return cell


def nearest_balanced(
    counts: Mapping[str, int], spare: Mapping[str, int], limit: int | None
) -> dict[str, int] | Rejection:
    """The composition with the fewest atoms changed that fits and can be neutral; if none can, that fits.

    Args:
        counts: What the child holds.
        spare: What was cut away, and can be put in.
        limit: Most atoms, or None.
    """
    symbols = sorted({*counts, *spare})
    steps = [range(-min(counts.get(one, 0), MOST_CHANGES), min(spare.get(one, 0), MOST_CHANGES) + 1) for one in symbols]
    if len(symbols) > 4:  # two atoms of each are enough to choose from
        steps = [range(max(step.start, -1), min(step.stop, 2)) for step in steps]
    surplus = 0 if limit is None else max(0, sum(counts.values()) - limit)
    fitting: dict[str, int] | None = None
    ways = [way for way in product(*steps) if sum(map(abs, way)) <= max(MOST_CHANGES, surplus)]
    for way in sorted(ways, key=lambda one: (sum(map(abs, one)), one))[:N_COMPOSITIONS]:
        made = {one: counts.get(one, 0) + step for one, step in zip(symbols, way, strict=True)}
        made = {one: n for one, n in made.items() if n}
        if not made or (limit is not None and sum(made.values()) > limit):
            continue
        fitting = fitting or made
        if is_balanced(made) and (len(made) > 1 or len(symbols) == 1):
            return made
    return fitting or refusal("too_many_atoms", f"{cell_formula(counts)}; at most {limit} atoms")


def mended(
    spliced: Spliced, target: Mapping[str, int], matrix: np.ndarray
) -> tuple[float, list[str], np.ndarray] | Rejection:
    """Atoms taken out and put in until the composition is the target.

    Returns:
        The shortest distance left, in usual distances; the elements; their coordinates.
    """
    symbols, points = list(spliced.symbols), spliced.points
    alloy = is_alloy(target)
    symbols, points = without_surplus(matrix, symbols, points, target)
    counts = count(symbols)
    spare, places = list(spliced.cut_symbols), spliced.cut_points
    while missing := [one for one, n in target.items() if n > counts.get(one, 0)]:
        # Its own kind from the parts cut away; where there is none left, the place of another atom.
        found = [index for index, one in enumerate(spare) if one in missing] or list(range(len(spare)))
        if not found:
            return refusal("too_few_atoms", f"no place left for {', '.join(missing)}")
        names = [spare[index] if spare[index] in missing else missing[0] for index in found]
        if points.size:
            rooms = distances(matrix, places[found], points) / usual_distances(names, symbols, alloy)
            chosen = int(np.argmax(rooms.min(axis=1)))
        else:
            chosen = 0
        points = np.vstack([points, places[found[chosen]]])
        symbols.append(names[chosen])
        counts[names[chosen]] = counts.get(names[chosen], 0) + 1
        spare.pop(found[chosen])
        places = np.delete(places, found[chosen], axis=0)
    return float(room_of_each(matrix, symbols, points, alloy).min()), symbols, points


def without_surplus(
    matrix: np.ndarray, symbols: Sequence[str], points: np.ndarray, target: Mapping[str, int]
) -> tuple[list[str], np.ndarray]:
    """Elements and coordinates [n, 3] after the most crowded atoms of what the target has less of were taken out."""
    kept = list(symbols)
    while surplus := {one for one, n in count(kept).items() if n > target.get(one, 0)}:
        rooms = room_of_each(matrix, kept, points, is_alloy(target))
        index = min((index for index, one in enumerate(kept) if one in surplus), key=lambda index: rooms[index])
        kept.pop(index)
        points = np.delete(points, index, axis=0)
    return kept, points


def room_of_each(matrix: np.ndarray, symbols: Sequence[str], points: np.ndarray, alloy: bool) -> np.ndarray:
    """[n] shortest distance of each atom to another or to its own image, in usual distances."""
    lengths = distances(matrix, points, points)
    np.fill_diagonal(lengths, shortest_vector(matrix))
    rooms: np.ndarray = (lengths / usual_distances(symbols, symbols, alloy)).min(axis=1)
    return rooms
