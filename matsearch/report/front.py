"""The Pareto front of a campaign's goals, and how the space it dominates grew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.metrics.discovery import METASTABLE, QUARANTINE, verdicts
from matsearch.metrics.hypervolume import HULL, hypervolume_curve
from matsearch.search import Goal

if TYPE_CHECKING:
    import pandas as pd


def front(
    frame: pd.DataFrame, goals: Sequence[Goal], reference_point: Mapping[str, float] | None = None
) -> dict[str, Any] | None:
    """Which candidates no other is better than, and the hypervolume relaxation by relaxation.

    On the front are proposed candidates that are scored, not quarantined, the first of their kind, and keep the
    constraints. In the hypervolume count the metastable ones, as in `matsearch.metrics.hypervolume.volume_curve`. To
    both, below the hull is as good as on it, as it is to the search.

    Args:
        frame: See `matsearch.report.frame.candidates_frame`.
        goals: The campaign's.
        reference_point: The campaign's: name of each sought goal to the worst value that counts. A campaign that has
            none is measured against 0.1 eV/atom above the hull and the worst of its own metastable candidates.

    Returns:
        None for fewer than two goals to improve upon, else `goals` (their names), `ids` on the front, `reference` (goal
        to the worst value that counts; of a target in a campaign without a point, how far off it), `of` (what counts in
        the hypervolume: `metastable`, or `scored` where no candidate has an energy above the hull), and for the curve
        `curve_ids` and `curve`, in the product of the goals' units.
    """
    sought = [goal for goal in goals if goal.is_sought]
    if len(sought) < 2:
        return None
    names = [goal.name for goal in sought]
    verdict = verdicts(frame)
    proposed = frame.loc[verdict.index]
    complete = proposed[[goal.name for goal in goals]].notna().all(axis=1)
    plausible = verdict["scored"] & complete & ~(proposed[HULL] < QUARANTINE)
    for goal in goals:
        if goal.limit is not None:
            limit = goal.limit
            plausible &= np.array([limit.violation(value) == 0 for value in proposed[goal.name]])
    candidates = proposed[plausible & proposed["duplicate_of"].isna()]
    losses = _losses(candidates, sought)
    kept = [not ((losses <= one).all(axis=1) & (losses < one).any(axis=1)).any() for one in losses]
    of = "metastable" if frame[HULL].notna().any() else "scored"
    counted = proposed[plausible & verdict[of]]
    values = _losses(counted, sought)
    if reference_point is not None and all(name in reference_point for name in names):
        shown = {name: float(reference_point[name]) for name in names}
        worst = [goal.loss(shown[goal.name]) for goal in sought]
    else:
        worst = [
            METASTABLE if _is_height(goal) else float(values[:, column].max()) if len(values) else 0.0
            for column, goal in enumerate(sought)
        ]
        shown = {
            goal.name: -value if goal.target is None and goal.direction == "max" else value
            for goal, value in zip(sought, worst, strict=True)
        }
    return {
        "goals": names,
        "ids": [int(one) for one in candidates["id"][kept]] if len(candidates) else [],
        "reference": shown,
        "of": of,
        "curve_ids": counted["id"].tolist(),
        "curve": hypervolume_curve(values, ["min"] * len(names), worst).tolist(),
    }


def _is_height(goal: Goal) -> bool:
    return goal.name == HULL and goal.target is None


def _losses(rows: pd.DataFrame, goals: Sequence[Goal]) -> np.ndarray:
    """[n, n_goals], less is better; below the hull as on it."""
    values = [
        [goal.loss(max(value, 0.0) if goal.name == HULL else value) for value in rows[goal.name]] for goal in goals
    ]
    return np.array(values, dtype=float).T.reshape(len(rows), len(goals))
