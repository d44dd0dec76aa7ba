"""Cheap objectives before dear ones: what breaks a cheap constraint is not worth a dear computation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

from matsearch.objectives.base import Cost, Objective
from matsearch.records import Rejection, Stage
from matsearch.search.selection import Goal, Limit

GATE = "gate_"
"""What reasons of gates begin with."""
ORDER: tuple[Cost, ...] = get_args(Cost)


def by_cost(objectives: Sequence[Objective]) -> list[Objective]:
    """The cheapest first; among equals in the order given."""
    return sorted(objectives, key=lambda one: ORDER.index(one.cost))


class Gates:
    """The constraints that a candidate must keep before dearer objectives are computed.

    A constraint gates where an objective of a higher cost class comes after it. Others are left to selection, which
    prefers what keeps them.

    Args:
        objectives: All that a candidate is scored for.
        goals: Those that selection sees, with their constraints.
    """

    def __init__(self, objectives: Sequence[Objective], goals: Sequence[Goal]) -> None:
        units = {one.name: one.unit for one in objectives}
        ranks = {one.name: ORDER.index(one.cost) for one in objectives}
        self._gates: dict[str, tuple[Limit, str, str]] = {}
        for goal in goals:
            dearer = [name for name, rank in ranks.items() if rank > ranks[goal.name]]
            if goal.limit is not None and dearer:
                self._gates[goal.name] = goal.limit, units[goal.name], ", ".join(dearer)

    def refused(self, name: str, value: float) -> Rejection | None:
        """Why a candidate with this value of an objective goes no further; None where it does.

        The reason names the gate, so that each is counted by itself: `gate_energy_above_hull`.
        """
        gate = self._gates.get(name)
        if gate is None or not gate[0].violation(value):
            return None
        limit, unit, dearer = gate
        reason = f"{GATE}{re.sub(r'[^a-z0-9]+', '_', name.lower())}"
        return Rejection(Stage.SCORE, reason, f"{value:g} {unit} is not {limit}; {dearer} not computed")
