"""Which individuals survive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matsearch.records import Direction, Individual
from matsearch.search.pareto import pareto_order


@dataclass(frozen=True, slots=True)
class Goal:
    """An objective as selection sees it."""

    name: str
    direction: Direction
    weight: float = 1.0


def losses_of(individuals: Sequence[Individual], goals: Sequence[Goal]) -> list[list[float]]:
    """[n, n_goals], smaller is better."""
    signs = [1.0 if goal.direction == "min" else -1.0 for goal in goals]
    return [
        [sign * individual.scores[goal.name] for sign, goal in zip(signs, goals, strict=True)]
        for individual in individuals
    ]


def best_first(individuals: Sequence[Individual], goals: Sequence[Goal], selection: str) -> list[Individual]:
    """Individuals in order of preference; ties fall to the earlier candidate.

    Args:
        individuals: Scored for every goal.
        goals: What is minimised or maximised.
        selection: `pareto`, or `weighted`: the weighted sum of losses, each scaled to [0, 1] over the individuals.
    """
    pool = sorted(individuals, key=lambda individual: individual.candidate.id)
    return [pool[i] for i in preference_order(losses_of(pool, goals), goals, selection)]


def preference_order(losses: list[list[float]], goals: Sequence[Goal], selection: str) -> list[int]:
    """Indices of losses [n, n_goals] (smaller is better), best first; ties fall to the lower index."""
    return pareto_order(losses) if selection == "pareto" else _weighted_order(losses, goals)


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
