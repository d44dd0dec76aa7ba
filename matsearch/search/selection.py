"""Which individuals survive."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matsearch.records import HULL, Direction, Individual
from matsearch.search.pareto import pareto_order


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on a value: `<= 0.1` or `>= 200`."""

    sign: str
    value: float

    def violation(self, value: float) -> float:
        """By how much a value breaks it; 0 where it does not."""
        return max(0.0, value - self.value if self.sign == "<=" else self.value - value)

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Goal:
    """An objective as selection sees it.

    Attributes:
        name: Of the objective.
        direction: Whether less or more is better; None for a constraint alone.
        weight: Its share in a weighted sum.
        target: What the value should be, instead of as small or large as can be.
        tolerance: Off the target by no more than this is as good as on it.
        limit: What the value must keep.
        reference: The worst value that still counts in a hypervolume, where one is stated.
    """

    name: str
    direction: Direction | None
    weight: float = 1.0
    target: float | None = None
    tolerance: float = 0.0
    limit: Limit | None = None
    reference: float | None = None

    @property
    def is_sought(self) -> bool:
        """Whether it is improved upon, and not a constraint alone."""
        return self.direction is not None or self.target is not None

    @property
    def better(self) -> Direction:
        """Which way is better; for a constraint alone, the way that keeps it."""
        if self.direction is not None:
            return self.direction
        return "max" if self.limit is not None and self.limit.sign == ">=" else "min"

    def loss(self, value: float) -> float:
        """What selection minimises."""
        if self.target is not None:
            return max(0.0, abs(value - self.target) - self.tolerance)
        return -value if self.direction == "max" else value


def goal_from(setting: Mapping[str, Any], name: str, own_direction: Direction) -> Goal:
    """The goal that one of `[[objectives]]` states.

    Args:
        setting: As in the campaign's configuration: direction, weight, target, tolerance, constraint, reference.
        name: What the objective is called.
        own_direction: The objective's own, which counts unless a direction, a target or a constraint is given.
    """
    target, constraint = setting.get("target"), setting.get("constraint")
    text = "" if constraint is None else constraint.strip()
    stated: Direction | None = setting.get("direction")
    return Goal(
        name,
        stated or (own_direction if target is None and not text else None),
        setting.get("weight", 1.0),
        target,
        setting.get("tolerance", 0.0),
        Limit(text[:2], float(text[2:])) if text else None,
        setting.get("reference"),
    )


def losses_of(individuals: Sequence[Individual], goals: Sequence[Goal]) -> list[list[float]]:
    """[n, n_sought], smaller is better."""
    sought = [goal for goal in goals if goal.is_sought]
    return [[goal.loss(one.scores[goal.name]) for goal in sought] for one in individuals]


def violations_of(individuals: Sequence[Individual], goals: Sequence[Goal]) -> list[float]:
    """[n] how far each is from keeping all constraints; 0 for those that do.

    Each constraint's violation counts as a share of the worst among these individuals, so that units do not matter.
    """
    totals = [0.0] * len(individuals)
    for goal in goals:
        if goal.limit is None:
            continue
        broken = [goal.limit.violation(one.scores[goal.name]) for one in individuals]
        worst = max(broken, default=0.0)
        if worst > 0:
            totals = [total + one / worst for total, one in zip(totals, broken, strict=True)]
    return totals


def best_first(individuals: Sequence[Individual], goals: Sequence[Goal], selection: str) -> list[Individual]:
    """Individuals in order of preference; ties fall to the earlier candidate.

    What keeps all constraints comes before what does not, and that by how little it breaks them (constraint domination:
    Deb et al., IEEE Trans. Evol. Comput. 6, 182 (2002)).

    Args:
        individuals: Scored for every goal.
        goals: What is minimised or maximised, or must be kept.
        selection: `pareto`, where below the hull is as good as on it if anything else is sought; `weighted`: the
            weighted sum of losses, each scaled to [0, 1] over the individuals; or `lexicographic`: by the first goal,
            among equals by the second, and so on.
    """
    pool = sorted(individuals, key=lambda individual: individual.candidate.id)
    broken = violations_of(pool, goals)
    kept = [one for one, violation in zip(pool, broken, strict=True) if violation == 0]
    ranked = [kept[i] for i in preference_order(losses_of(kept, goals), goals, selection)]
    others = sorted((violation, place) for place, violation in enumerate(broken) if violation > 0)
    return ranked + [pool[place] for _, place in others]


def preference_order(losses: list[list[float]], goals: Sequence[Goal], selection: str) -> list[int]:
    """Indices of losses [n, n_sought] (smaller is better), best first; ties fall to the lower index."""
    if selection == "pareto":
        return _order_down_to_the_hull(losses, [goal for goal in goals if goal.is_sought])
    if selection == "lexicographic":
        return sorted(range(len(losses)), key=lambda i: (losses[i], i))
    return _weighted_order(losses, [goal for goal in goals if goal.is_sought])


def _weighted_order(losses: list[list[float]], goals: Sequence[Goal]) -> list[int]:
    if not losses:
        return []
    columns = list(zip(*losses, strict=True))
    totals = [0.0] * len(losses)
    for column, goal in zip(columns, goals, strict=True):
        low, span = min(column), max(column) - min(column)
        for i, loss in enumerate(column):
            totals[i] += goal.weight * ((loss - low) / span if span else 0.0)
    return sorted(range(len(losses)), key=lambda i: (totals[i], i))


def _order_down_to_the_hull(losses: list[list[float]], goals: Sequence[Goal]) -> list[int]:
    """Pareto order with energies above the hull clipped at 0, where there is another objective.

    Else a front would fill with crystals that are good for nothing but lying deep below the hull, which is more often
    an error of the potential than a find; a hypervolume does not count how deep. Of equals the deeper comes first.
    """
    floors = [0.0 if goal.name == HULL and goal.target is None else -math.inf for goal in goals]
    if len(goals) < 2 or max(floors) < 0:
        return pareto_order(losses)
    clipped = [tuple(map(max, one, floors)) for one in losses]
    order = pareto_order(clipped)
    places: defaultdict[tuple[float, ...], list[int]] = defaultdict(list)
    for place, index in enumerate(order):
        places[clipped[index]].append(place)
    for equal in places.values():
        for place, index in zip(
            equal, sorted((order[place] for place in equal), key=lambda i: (losses[i], i)), strict=True
        ):
            order[place] = index
    return order
