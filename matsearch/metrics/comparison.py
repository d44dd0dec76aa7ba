"""Searches compared at equal cost: what each had found by the same number of proposals and relaxations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from matsearch.metrics.discovery import verdicts
from matsearch.records import Stage

if TYPE_CHECKING:
    import pandas as pd

UNRELAXED = (Stage.PARSE, Stage.CHECK, Stage.NOVELTY, Stage.WAITING)


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float | None]:
    """Mean of independent runs and the half width of its Student interval; None for the latter of a single run.

    Raises:
        ValueError: There are no values.
    """
    if not len(values):
        raise ValueError("the mean of no runs is not known")
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, None
    from scipy.stats import t

    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, float(t.ppf((1 + confidence) / 2, len(values) - 1)) * spread


def spent(frame: pd.DataFrame) -> tuple[int, int]:
    """Proposals and relaxations of a campaign's candidates, known seeds not counted."""
    proposed = frame[frame["operator"] != "seed"]
    return len(proposed), int((~proposed["stage"].isin(UNRELAXED)).sum())


def cut(frame: pd.DataFrame, proposals: int, relaxations: int) -> pd.DataFrame:
    """The candidates of a campaign, in order, up to so many proposals or relaxations, whichever ends first."""
    is_seed = (frame["operator"] == "seed").to_numpy()
    relaxed = (~frame["stage"].isin(UNRELAXED)).to_numpy() & ~is_seed
    within = (np.cumsum(~is_seed) <= proposals) & (np.cumsum(relaxed) <= relaxations)
    return frame[is_seed | within]


def found_curve(frame: pd.DataFrame, verdict: str = "msun") -> np.ndarray:
    """[n_relaxations] how many of a campaign's candidates counted as `verdict` after each relaxation, in order."""
    table = verdicts(frame)
    proposed = frame.loc[table.index]
    relaxed = ~proposed["stage"].isin(UNRELAXED)
    return np.cumsum(table.loc[relaxed, verdict].to_numpy())
