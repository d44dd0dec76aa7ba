"""Where candidates stopped, and why: one GROUP BY on the run store."""

from __future__ import annotations

from matsearch.records import Stage
from matsearch.store import RunStore

STAGES = (Stage.PARSE, Stage.CHECK, Stage.NOVELTY, Stage.RELAX, Stage.SCORE, Stage.SCORED, Stage.WAITING)
"""Final stages in the order in which a candidate meets them; waiting ones are not final yet."""

Funnel = list[tuple[Stage, int, dict[str, int]]]


def funnel(store: RunStore) -> Funnel:
    """How many proposed candidates stopped at each stage; seeds are not counted.

    Returns:
        All stages in order, each with its count and its reasons, the most frequent first. Every candidate is in exactly
        one stage, so the counts add up to the proposed ones.
    """
    rows = store.rows(
        "SELECT stage, reason, COUNT(*) AS n FROM candidates WHERE proposal_id IS NOT NULL "
        "GROUP BY stage, reason ORDER BY n DESC, reason"
    )
    reasons: dict[str, dict[str, int]] = {stage: {} for stage in STAGES}
    totals = dict.fromkeys(STAGES, 0)
    for row in rows:
        totals[Stage(row["stage"])] += row["n"]
        if row["reason"] is not None:
            reasons[row["stage"]][row["reason"]] = row["n"]
    return [(stage, totals[stage], reasons[stage]) for stage in STAGES]


def passed(found: Funnel) -> dict[str, int]:
    """How many candidates got past each stage: proposed, parsed, valid, new, relaxed, scored.

    One that waits has passed all that comes before its relaxation.
    """
    stopped = {stage: count for stage, count, _ in found}
    counts = {"proposed": sum(stopped.values())}
    counts["parsed"] = counts["proposed"] - stopped[Stage.PARSE]
    counts["valid"] = counts["parsed"] - stopped[Stage.CHECK]
    counts["new"] = counts["valid"] - stopped[Stage.NOVELTY]
    counts["relaxed"] = counts["new"] - stopped[Stage.RELAX] - stopped[Stage.WAITING]
    counts["scored"] = counts["relaxed"] - stopped[Stage.SCORE]
    return counts
