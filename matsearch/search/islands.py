"""Populations that evolve apart and now and then exchange their best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from matsearch.records import AddStatus, Individual
from matsearch.search.selection import Goal, best_first


class Pool(Protocol):
    """What an island holds: `Population` or `Archive`."""

    members: list[Individual]

    def add(self, newcomers: Sequence[Individual]) -> list[AddStatus]:
        """Let newcomers compete with the members; one status each, in order."""


class Islands:
    """Proposals go round the islands, and their children stay where their parents are.

    Args:
        pools: One an island.
        goals: What is minimised or maximised.
        selection: As in `matsearch.search.selection`.
        migration: Proposals after which the best of each island is copied to the next.
    """

    def __init__(self, pools: Sequence[Pool], goals: Sequence[Goal], selection: str, migration: int) -> None:
        self._pools = list(pools)
        self._goals = goals
        self._selection = selection
        self._migration = migration
        self._members: list[Individual] | None = None

    @property
    def members(self) -> list[Individual]:
        """Those of all islands, best first, each once."""
        if self._members is None:
            distinct = {one.candidate.id: one for pool in self._pools for one in pool.members}
            ranked = best_first(list(distinct.values()), self._goals, self._selection)
            self._members = self._pools[0].members if len(self._pools) == 1 else ranked
        return self._members

    def of(self, proposal: int) -> list[Individual]:
        """The members of the island that a proposal belongs to, best first."""
        return self._pools[proposal % len(self._pools)].members

    def settle(self, seeds: Sequence[Individual]) -> None:
        """Deal the first individuals out."""
        for number, pool in enumerate(self._pools):
            pool.add(seeds[number :: len(self._pools)])
        self._members = None

    def add(self, proposal: int, newcomers: Sequence[Individual]) -> list[AddStatus]:
        """Let the children of a proposal compete on its island; then migrate, if it is time."""
        statuses = self._pools[proposal % len(self._pools)].add(newcomers)
        if len(self._pools) > 1 and (proposal + 1) % self._migration == 0:
            self._migrate()
        self._members = None
        return statuses

    def _migrate(self) -> None:
        """The best of each island also lives on the next one from now on, if it holds its own there."""
        travellers = [pool.members[:1] for pool in self._pools]
        for number, pool in enumerate(self._pools):
            there = {one.candidate.id for one in pool.members}
            pool.add([one for one in travellers[number - 1] if one.candidate.id not in there])
