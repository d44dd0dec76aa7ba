"""What a search found: counts, and rates with their denominators and intervals.

Every rate is one run's, with a 95 % Wilson interval; candidates of one run are not independent, so two searches are
compared over seeds instead.
"""

from __future__ import annotations

import math
import re
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from matsearch.records import Stage

if TYPE_CHECKING:
    import pandas as pd

METASTABLE = 0.1  # eV/atom above the hull, inclusive
STABLE = 0.001
QUARANTINE = -0.1  # further below the hull an energy more likely shows an error of the potential than a crystal
SECOND_OPINION = "second_opinion"
"""Energy above the hull by another potential, eV/atom: of candidates that were in quarantine."""

REJECTED_BEFORE = {
    "parsed": (Stage.PARSE,),
    "valid": (Stage.PARSE, Stage.CHECK),
    "new": (Stage.PARSE, Stage.CHECK, Stage.NOVELTY),
    "relaxed": (Stage.PARSE, Stage.CHECK, Stage.NOVELTY, Stage.RELAX, Stage.WAITING),
    "scored": (Stage.PARSE, Stage.CHECK, Stage.NOVELTY, Stage.RELAX, Stage.WAITING, Stage.SCORE),
}
"""What a candidate must not be in to count as parsed, valid, ...; one that still waits is new but not yet relaxed."""

DEFINITIONS = {
    "metastable": f"scored, E_hull <= {METASTABLE:g} eV/atom",
    "stable": f"scored, E_hull <= {STABLE:g} eV/atom",
    "msun": f"E_hull <= {METASTABLE:g} eV/atom, no earlier candidate of the run, no known phase",
    "sun": f"E_hull <= {STABLE:g} eV/atom, no earlier candidate of the run, no known phase",
    "memorised": "matches a known phase that was not among the parents shown",
}


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a rate.

    Args:
        successes: From 0 to `trials`.
        trials: With none, nothing is known: the interval is (0, 1).
        confidence: Between 0 and 1.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927).

    Raises:
        ValueError: A number is out of its range.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be from 0 to trials={trials}, got {successes}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    scale = 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / scale
    half = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / scale
    # At the ends the interval touches 0 or 1 exactly, which rounding may miss.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high


def summarise(frame: pd.DataFrame) -> dict[str, Any]:
    """Counts and rates of one campaign; seeds are not counted.

    Args:
        frame: One row a candidate: id, parents, operator, stage, reason, detail, energy_above_hull (eV/atom),
            duplicate_of, matched_known, name, add_status (see `matsearch.report.frame`).

    Returns:
        `counts`: `proposed`, and how many have each of the `verdicts`. `rates`: one dict a rate, with `name`, `count`,
        `of` (the denominator's name), `total`, `rate` (None where `total` is 0), `low`, `high` (95 %), `definition`.
    """
    proposed = verdicts(frame)
    counts = {"proposed": len(proposed)} | {name: int(proposed[name].sum()) for name in proposed.columns}
    wanted = [("msun", "proposed"), ("msun", "valid"), ("sun", "proposed"), ("sun", "valid")]
    wanted += [("metastable", "proposed"), ("stable", "proposed"), ("memorised", "valid")]
    return {"counts": counts, "rates": [_rate(name, of, counts) for name, of in wanted]}


def verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """What each proposed candidate counts as, one row each, with the index of `frame`.

    Columns, all bool: parsed, valid, new, relaxed, scored; waiting; quarantined (its energy is too good to be true: not
    metastable); metastable, stable; unique and novel (scored ones only: matched to no earlier candidate, to no known
    phase); msun, sun; memorised (judged for valid ones as far as they were compared with known phases).
    """
    import pandas as pd

    proposed = frame[frame["operator"] != "seed"]
    stage, energy = proposed["stage"], proposed["energy_above_hull"]
    table = pd.DataFrame({name: ~stage.isin(before) for name, before in REJECTED_BEFORE.items()}, index=proposed.index)
    table["waiting"] = stage == Stage.WAITING
    scored = table["scored"]
    table["quarantined"] = (proposed["reason"] == "quarantined") | (scored & (energy < QUARANTINE))
    plausible = scored & (energy >= QUARANTINE)
    table["metastable"] = plausible & (energy <= METASTABLE)
    table["stable"] = plausible & (energy <= STABLE)
    # Both are judged when an outcome is told, which sets add_status; before that an empty column means nothing.
    judged = scored & proposed["add_status"].notna()
    table["unique"] = judged & proposed["duplicate_of"].isna()
    table["novel"] = judged & proposed["matched_known"].isna()
    table["msun"] = table["metastable"] & table["unique"] & table["novel"]
    table["sun"] = table["stable"] & table["unique"] & table["novel"]
    table["memorised"] = _memorised(frame).reindex(proposed.index, fill_value=False) & table["valid"]
    return table.astype(bool)


def _rate(name: str, of: str, counts: dict[str, int]) -> dict[str, Any]:
    count, total = counts[name], counts[of]
    low, high = wilson_interval(count, total)
    rate = count / total if total else None
    definition = DEFINITIONS[name]
    return {
        "name": name, "count": count, "of": of, "total": total, "rate": rate, "low": low, "high": high,
        "definition": definition,
    }  # fmt: skip


def _memorised(frame: pd.DataFrame) -> pd.Series:
    """Whether each candidate matches a known phase that none of its parents is."""
    import pandas as pd

    phases: dict[int, str] = {}
    found = []
    for row in frame.itertuples():
        phase = _known_phase(row, phases)
        if phase is not None:
            phases[row.id] = phase
        shown = {phases.get(parent) for parent in row.parents}
        found.append(row.operator != "seed" and phase is not None and phase not in shown)
    return pd.Series(found, index=frame.index, dtype=bool)


def _known_phase(row: Any, phases: dict[int, str]) -> str | None:
    """The known phase that a candidate is: as a seed, as relaxed, or as it was turned away before relaxation."""
    for value in (row.name, row.matched_known):
        if isinstance(value, str):
            return value
    if row.stage != Stage.NOVELTY or not isinstance(row.detail, str):
        return None
    if row.reason == "known":
        return row.detail.removeprefix("matches ")
    earlier = re.fullmatch(r"matches candidate (\d+)", row.detail)
    return phases.get(int(earlier[1])) if earlier else None
