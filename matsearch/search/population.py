"""The individuals that may be parents."""

from __future__ import annotations

from collections.abc import Sequence

from matsearch.records import AddStatus, Individual
from matsearch.search.selection import Goal, best_first


class Population:
    """Keeps the best `capacity` individuals.

    Attributes:
        members: Best first.
    """

    def __init__(
        self, capacity: int, goals: Sequence[Goal], selection: str, *, unique_formula: bool, target: str | None = None
    ) -> None:
        self._capacity = capacity
        self._goals = goals
        self._selection = selection
        self._unique_formula = unique_formula
        self._target = target
        self.members: list[Individual] = []

    def add(self, newcomers: Sequence[Individual]) -> list[AddStatus]:
        """Let newcomers compete with the members; one status each, in order."""
        ranked = best_first([*self.members, *newcomers], self._goals, self._selection)
        if self._target is not None:
            # Seeds of other compositions only fill up what crystals of the target leave free.
            ranked.sort(key=lambda one: one.relaxed.composition.reduced_formula != self._target)
        duplicates = set()
        if self._unique_formula:
            seen: set[str] = set()
            for individual in ranked:
                formula = individual.relaxed.composition.reduced_formula
                if formula in seen:
                    duplicates.add(individual.candidate.id)
                seen.add(formula)
        self.members = [one for one in ranked if one.candidate.id not in duplicates][: self._capacity]
        kept = {individual.candidate.id for individual in self.members}
        return [_status(individual.candidate.id, kept, duplicates) for individual in newcomers]


def _status(candidate_id: int, kept: set[int], duplicates: set[int]) -> AddStatus:
    if candidate_id in kept:
        return AddStatus.ADDED
    return AddStatus.DUPLICATE if candidate_id in duplicates else AddStatus.NOT_SELECTED
