"""Hypervolume: how much of the space of objectives a set of crystals dominates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, get_args

import numpy as np

from matsearch.metrics.comparison import UNRELAXED
from matsearch.metrics.discovery import METASTABLE, verdicts
from matsearch.records import HULL, Direction
from matsearch.search import Goal

if TYPE_CHECKING:
    import pandas as pd

REFERENCE_POINT = "reference_point"
"""Under which a run store keeps it: JSON, name of each sought goal to value."""


def hypervolume(values: np.ndarray, directions: Sequence[Direction], reference_point: Sequence[float]) -> float:
    """Volume of the space that lies between a set of points and a reference point.

    Computed by moocore (M. López-Ibáñez et al.; C. M. Fonseca, L. Paquete, M. López-Ibáñez, IEEE CEC 2006).

    Args:
        values: [n, n_objectives]; points that are not better than the reference point in every objective add nothing.
        directions: `min` or `max`, one an objective.
        reference_point: The worst value of each objective that still counts.

    Returns:
        In the product of the objectives' units; 0 for no points.

    Raises:
        ValueError: Shapes differ, a direction is neither `min` nor `max`, or a value is no number: what failed has no
            place in a set.
    """
    import moocore

    signs = _signs(directions)
    points = np.asarray(values, dtype=float).reshape(-1, len(directions))
    reference = np.asarray(reference_point, dtype=float)
    if reference.shape != (len(directions),):
        raise ValueError(f"reference_point needs {len(directions)} values, got {reference.size}")
    if not (np.isfinite(points).all() and np.isfinite(reference).all()):
        raise ValueError("points and reference point must be finite; leave out what has no value")
    points, reference = points * signs, reference * signs
    points = points[(points < reference).all(axis=1)]
    return float(moocore.hypervolume(points, ref=reference)) if len(points) else 0.0


def hypervolume_curve(
    values: np.ndarray, directions: Sequence[Direction], reference_point: Sequence[float]
) -> np.ndarray:
    """[n] hypervolume of the first point, the first two, ... all n.

    Args:
        values: [n, n_objectives], in the order of arrival.
        directions: As in `hypervolume`.
        reference_point: As in `hypervolume`.
    """
    signs = _signs(directions)
    points = np.asarray(values, dtype=float).reshape(-1, len(directions))
    curve = np.empty(len(points))
    best: list[int] = []
    volume = 0.0
    for number in range(len(points)):
        mine = points[number] * signs
        # A point that an earlier one equals or dominates changes nothing: most do not.
        if not any((points[one] * signs <= mine).all() for one in best):
            best = [one for one in best if not (mine <= points[one] * signs).all()] + [number]
            volume = hypervolume(points[best], directions, reference_point)
        curve[number] = volume
    return curve


def default_reference_point(goals: Sequence[Goal], seeds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What a campaign that states no other measures hypervolumes against; fixed when its seeds are scored.

    Args:
        goals: The campaign's, with what they state.
        seeds: The scores of each seed, by name.

    Returns:
        Name of each sought goal to the worst value that still counts: as stated; else 0.1 eV/atom for the energy above
        the hull, and the worst of the seeds' values for others. Without seeds such goals are missing.
    """
    point = {}
    for goal in goals:
        if not goal.is_sought:
            continue
        values = [scores[goal.name] for scores in seeds]
        if goal.reference is not None:
            point[goal.name] = goal.reference
        elif goal.name == HULL and goal.target is None:
            point[goal.name] = METASTABLE
        elif values:
            point[goal.name] = max(values, key=goal.loss)
    return point


def common_reference_point(goals: Sequence[Goal], points: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What several campaigns with the same goals are measured against together: the worst of their own values."""
    values = {goal: [point[goal.name] for point in points if goal.name in point] for goal in goals if goal.is_sought}
    return {goal.name: max(own, key=goal.loss) for goal, own in values.items() if own}


def found_volume(frame: pd.DataFrame, goals: Sequence[Goal], reference_point: Mapping[str, float]) -> float | None:
    """Hypervolume of what a campaign has found: the last value of `volume_curve`, 0 before the first relaxation."""
    curve = volume_curve(frame, goals, reference_point)
    return None if curve is None else float(curve[-1]) if len(curve) else 0.0


def volume_curve(frame: pd.DataFrame, goals: Sequence[Goal], reference_point: Mapping[str, float]) -> np.ndarray | None:
    """[n_relaxations] hypervolume of a campaign's metastable crystals after each relaxation, in order.

    Known seeds do not count, nor what breaks a constraint. Energies above the hull are clipped at 0 from below, so that
    errors of the potential earn nothing. A goal with a target counts by how far its values, and that of the reference
    point, lie from it. Where no crystal has an energy above the hull (a potential without one, pressure) all that
    were scored count.

    Args:
        frame: One row a candidate (see `matsearch.report.frame`), with a column for each goal.
        goals: The campaign's.
        reference_point: Name of each sought goal to the worst value that still counts.

    Returns:
        In the product of the objectives' units; None with fewer than two sought goals, or where the reference point
        leaves one out.
    """
    sought = [goal for goal in goals if goal.is_sought]
    if len(sought) < 2 or any(goal.name not in reference_point for goal in sought):
        return None
    table = verdicts(frame)
    proposed = frame.loc[table.index]
    has_hull = frame[HULL].notna().any()
    counts = table["metastable" if has_hull else "scored"] & proposed[[goal.name for goal in goals]].notna().all(axis=1)
    for goal in goals:
        if goal.limit is not None:
            counts &= proposed[goal.name].map(goal.limit.violation) == 0
    reference = [goal.loss(reference_point[goal.name]) for goal in sought]
    # What does not count stands on the reference point, where it adds nothing.
    losses = np.tile(reference, (len(proposed), 1))
    for column, goal in enumerate(sought):
        values = proposed.loc[counts, goal.name]
        losses[counts.to_numpy(), column] = [goal.loss(max(one, 0.0) if goal.name == HULL else one) for one in values]
    relaxed = (~proposed["stage"].isin(UNRELAXED)).to_numpy()
    return hypervolume_curve(losses[relaxed], ["min"] * len(sought), reference)


def _signs(directions: Sequence[Direction]) -> np.ndarray:
    """What makes less better."""
    if unknown := [one for one in directions if one not in get_args(Direction)]:
        raise ValueError(f"a direction is 'min' or 'max', got {unknown[0]!r}")
    return np.array([1.0 if one == "min" else -1.0 for one in directions])
