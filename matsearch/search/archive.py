"""The individuals that may be parents, kept apart by kind, so that no kind crowds out the others."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Mapping, Sequence

from matsearch.records import AddStatus, Individual, Kind
from matsearch.search.families import kind_of
from matsearch.search.selection import Goal, best_first

F_BLOCK = frozenset("Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr La Ac".split())


def cell_of(individual: Individual) -> Kind:
    """The kind of a crystal."""
    from matsearch.crystal.prototype import prototype_label

    number = prototype_label(individual.relaxed).split("_")[2:3]
    return kind_of(symbols_in(individual), int(number[0]) if number else None)


def symbols_in(individual: Individual) -> frozenset[str]:
    """The elements of a crystal."""
    return frozenset(element.symbol for element in individual.relaxed.composition.elements)


def chemistries(individual: Individual) -> tuple[Hashable, ...]:
    """What a cap on one chemistry counts: the chemical system, and the f-block as a whole.

    Elements of the f-block are alike: what is stable with one is stable with fourteen.
    """
    symbols = symbols_in(individual)
    return (symbols, "f-block") if symbols & F_BLOCK else (symbols,)


class Archive:
    """Keeps the best of every kind.

    Within a kind (`cell_of`) individuals stand by preference; all firsts of their kinds come before all seconds. So
    nothing is kept while a better one of its own kind is not, unless that one's chemistry has had its share.

    Args:
        capacity: Individuals that are kept.
        goals: What is minimised or maximised.
        selection: As in `matsearch.search.selection`.
        cap: The largest share of the capacity that one chemistry may take (`chemistries`) while there are others.

    Attributes:
        members: Those that are kept, best first whatever their kind.
    """

    def __init__(self, capacity: int, goals: Sequence[Goal], selection: str, *, cap: float = 1.0) -> None:
        self._capacity = capacity
        self._goals = goals
        self._selection = selection
        self._at_most = max(1, int(cap * capacity))
        self._cells: dict[int, Kind] = {}
        self.members: list[Individual] = []

    def add(self, newcomers: Sequence[Individual]) -> list[AddStatus]:
        """Let newcomers compete with the members; one status each, in order."""
        for one in newcomers:
            self._cells[one.candidate.id] = cell_of(one)
        ranked = best_first([*self.members, *newcomers], self._goals, self._selection)
        within_cap: list[Individual] = []
        beyond: list[Individual] = []
        taken: dict[Hashable, int] = {}
        for one in self._by_depth(ranked):
            own = chemistries(one)
            if all(taken.get(chemistry, 0) < self._at_most for chemistry in own):
                within_cap.append(one)
                for chemistry in own:
                    taken[chemistry] = taken.get(chemistry, 0) + 1
            else:
                beyond.append(one)
        # Where there are too few of other chemistries (a search within one system), the places do not stay empty.
        kept = {one.candidate.id for one in [*within_cap, *beyond][: self._capacity]}
        self.members = [one for one in ranked if one.candidate.id in kept]
        self._cells = {number: cell for number, cell in self._cells.items() if number in kept}
        return [AddStatus.ADDED if one.candidate.id in kept else AddStatus.NOT_SELECTED for one in newcomers]

    def _by_depth(self, ranked: Sequence[Individual]) -> Iterator[Individual]:
        """The first of every kind, then the seconds; among equals in depth the better one first."""
        depths: dict[Kind, int] = {}
        keyed = []
        for place, one in enumerate(ranked):
            cell = self._cells[one.candidate.id]
            depths[cell] = depths.get(cell, 0) + 1
            keyed.append((depths[cell], place))
        for _, place in sorted(keyed):
            yield ranked[place]


def draw_parents(
    members: Sequence[Individual],
    n: int,
    n_children: Mapping[int, int],
    rng: random.Random,
    favour: Mapping[int, float],
) -> tuple[Individual, ...]:
    """So many different parents: the better, and the fewer children it has had, the likelier.

    Args:
        members: Best first.
        n: Fewer are given where there are fewer.
        n_children: Candidate id to children so far; none where it is missing.
        rng: Decides.
        favour: Candidate id to a factor of its weight; 1 where it is missing.
    """
    left = list(members)
    weights = [
        favour.get(one.candidate.id, 1.0)
        / ((1.0 + rank / max(1.0, len(members) / 4)) * (1.0 + n_children.get(one.candidate.id, 0)))
        for rank, one in enumerate(left)
    ]
    chosen = []
    for _ in range(min(n, len(left))):
        (index,) = rng.choices(range(len(left)), weights)
        chosen.append(left.pop(index))
        weights.pop(index)
    return tuple(chosen)
