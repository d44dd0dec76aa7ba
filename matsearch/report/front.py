"""The Pareto front of a campaign's goals, and how the space it dominates grew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.metrics.discovery import METASTABLE, QUARANTINE, verdicts
from matsearch.metrics.hypervolume import hypervolume_curve
from matsearch.search import Goal

if TYPE_CHECKING:
    import pandas as pd

HULL = "energy_above_hull"


def front(frame: pd.DataFrame, goals: Sequence[Goal]) -> dict[str, Any] | None:
    """Which candidates no other is better than, and the hypervolume relaxation by relaxation.

    On the front are proposed candidates that are scored, not quarantined, the first of their kind, and keep the
    constraints. The hypervolume is that of the metastable ones, as `matsearch compare` takes it: energies above the
    hull count from 0 to 0.1 eV/atom, other objectives from the worst value of a metastable candidate of this run.

    Returns:
        None for fewer than two goals to improve upon, else `goals` (their names), `ids` on the front, `reference` (goal
        to the worst value that counts; of a target, how far off it), and for the curve `curve_ids` and `curve`, in the
        product of the goals' units.
    """
    sought = [goal for goal in goals if goal.is_sought]
    if len(sought) < 2:
        return None
    names = [goal.name for goal in sought]
    verdict = verdicts(frame)
    proposed = frame.loc[verdict.index]
    complete = proposed[[goal.name for goal in goals]].notna().all(axis=1)
    plausible = verdict["scored"] & complete & ~(proposed["energy_above_hull"] < QUARANTINE)
    for goal in goals:
        if goal.limit is not None:
            limit = goal.limit
            plausible &= np.array([limit.violation(value) == 0 for value in proposed[goal.name]])
    candidates = proposed[plausible & proposed["duplicate_of"].isna()]
    losses = _losses(candidates, sought)
    kept = [not ((losses <= one).all(axis=1) & (losses < one).any(axis=1)).any() for one in losses]
    metastable = proposed[plausible & verdict["metastable"]]
    values = _losses(metastable, sought)
    if HULL in names:
        column = names.index(HULL)
        values[:, column] = np.clip(values[:, column], 0.0, None)
    worst = [
        METASTABLE if name == HULL else float(values[:, column].max()) if len(values) else 0.0
        for column, name in enumerate(names)
    ]
    curve = hypervolume_curve(values, ["min"] * len(names), worst)
    shown = [
        -value if goal.target is None and goal.direction == "max" else value
        for goal, value in zip(sought, worst, strict=True)
    ]
    return {
        "goals": names,
        "ids": [int(one) for one in candidates["id"][kept]] if len(candidates) else [],
        "reference": dict(zip(names, shown, strict=True)),
        "curve_ids": metastable["id"].tolist(),
        "curve": curve.tolist(),
    }


def _losses(rows: pd.DataFrame, goals: Sequence[Goal]) -> np.ndarray:
    """[n, n_goals], less is better."""
    values = [[goal.loss(value) for value in rows[goal.name]] for goal in goals]
    return np.array(values, dtype=float).T.reshape(len(rows), len(goals))
