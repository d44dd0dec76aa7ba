"""Where candidates stopped."""

from __future__ import annotations

from matsearch.metrics import summarise
from matsearch.report.frame import candidates_frame
from matsearch.report.funnel import STAGES, funnel, passed
from matsearch.store import RunStore


def test_each_proposed_candidate_is_in_exactly_one_stage_with_one_reason(run_dir):
    with RunStore(run_dir, writable=False) as store:
        found = funnel(store)
        direct = dict(store.rows("SELECT stage, COUNT(*) FROM candidates WHERE proposal_id IS NOT NULL GROUP BY stage"))
    assert [stage for stage, _, _ in found] == list(STAGES)
    assert {stage: count for stage, count, _ in found if count} == direct
    for stage, count, reasons in found:
        assert sum(reasons.values()) == (0 if stage in ("scored", "waiting") else count)
    assert {stage: reasons for stage, _, reasons in found}["parse"] == {"bad_poscar": 1, "missing": 1}


def test_what_passed_equals_the_counts_of_the_metrics(run_dir):
    with RunStore(run_dir, writable=False) as store:
        counts, through = summarise(candidates_frame(store))["counts"], passed(funnel(store))
    assert through == {name: counts[name] for name in through}
    assert list(through) == ["proposed", "parsed", "valid", "new", "relaxed", "scored"]
    assert list(through.values()) == [12, 10, 9, 7, 5, 4]


def test_a_campaign_without_proposals_has_an_empty_funnel(make_run):
    with RunStore(make_run(), writable=False) as store:
        assert [(count, reasons) for _, count, reasons in funnel(store)] == [(0, {})] * len(STAGES)
