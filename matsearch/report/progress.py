"""How a campaign went on, relaxation by relaxation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.metrics.discovery import QUARANTINE, verdicts
from matsearch.records import Stage

if TYPE_CHECKING:
    import pandas as pd


def progress(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """One entry a relaxation of a proposed candidate, in the order in which they were proposed.

    Seeds are not counted, and quarantined energies lower nothing.

    Returns:
        `id`; `best`: lowest energy above the hull so far, eV/atom; `best_new`: that of unique and novel crystals alone;
        both None before there is one; `n_msun`, `n_sun`, `n_metastable`: how many so far.
    """
    verdict = verdicts(frame)
    proposed = frame.loc[verdict.index]
    relaxed = proposed["n_steps"].notna() | proposed["stage"].isin([Stage.RELAX, Stage.SCORE, Stage.SCORED])
    verdict, proposed = verdict[relaxed], proposed[relaxed]
    energies = proposed["energy_above_hull"].to_numpy()
    plausible = (verdict["scored"] & (proposed["energy_above_hull"] >= QUARANTINE)).to_numpy()
    new = plausible & (verdict["unique"] & verdict["novel"]).to_numpy()
    return {
        "id": proposed["id"].tolist(),
        "best": _lowest_so_far(energies, plausible),
        "best_new": _lowest_so_far(energies, new),
        **{f"n_{name}": verdict[name].cumsum().tolist() for name in ("msun", "sun", "metastable")},
    }


def _lowest_so_far(energies: np.ndarray, counted: np.ndarray) -> Sequence[float | None]:
    lowest = np.minimum.accumulate(np.where(counted, energies, np.inf))
    return [None if value == np.inf else float(value) for value in lowest]
