"""Hypervolume: how much of the space of objectives a set of crystals dominates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from matsearch.records import Direction


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
        ValueError: Shapes differ, or a value is no number: what failed has no place in a set.
    """
    import moocore

    points = np.asarray(values, dtype=float).reshape(-1, len(directions))
    reference = np.asarray(reference_point, dtype=float)
    if reference.shape != (len(directions),):
        raise ValueError(f"reference_point needs {len(directions)} values, got {reference.size}")
    if not (np.isfinite(points).all() and np.isfinite(reference).all()):
        raise ValueError("points and reference point must be finite; leave out what has no value")
    signs = np.array([1.0 if direction == "min" else -1.0 for direction in directions])
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
    points = np.asarray(values, dtype=float).reshape(-1, len(directions))
    curve = np.empty(len(points))
    best: list[int] = []
    signs = np.array([1.0 if direction == "min" else -1.0 for direction in directions])
    volume = 0.0
    for number in range(len(points)):
        mine = points[number] * signs
        # A point that an earlier one equals or dominates changes nothing: most do not.
        if not any((points[one] * signs <= mine).all() for one in best):
            best = [one for one in best if not (mine <= points[one] * signs).all()] + [number]
            volume = hypervolume(points[best], directions, reference_point)
        curve[number] = volume
    return curve
