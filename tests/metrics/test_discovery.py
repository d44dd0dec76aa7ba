"""Counts and rates of a search."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matsearch.metrics import summarise, wilson_interval
from matsearch.metrics.discovery import verdicts


def frame_of(*rows: dict[str, object]) -> pd.DataFrame:
    standing = {"parents": (), "operator": "mutate", "reason": None, "detail": None, "energy_above_hull": None}
    standing |= {"duplicate_of": None, "matched_known": None, "name": None, "add_status": "added"}
    table = pd.DataFrame([{"id": i, **standing, **row} for i, row in enumerate(rows)])
    table["energy_above_hull"] = table["energy_above_hull"].astype(float)
    return table


def scored(energy: float, **more: object) -> dict[str, object]:
    return {"stage": "scored", "energy_above_hull": energy, **more}


# Newcombe, Statistics in Medicine 17, 857 (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29.
@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_gives_newcombes_published_limits(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_rate_and_stays_within_0_and_1(pair):
    successes, trials = pair
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= (successes / trials if trials else 0.5) <= high <= 1
    if trials:
        assert low < high


def test_without_trials_nothing_is_known():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    rates = summarise(frame_of(scored(0.0, operator="seed")))["rates"]
    assert all(rate["rate"] is None and rate["total"] == 0 for rate in rates)


@pytest.mark.parametrize(("successes", "trials", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_impossible_counts_are_refused(successes, trials, confidence):
    with pytest.raises(ValueError, match="must be"):
        wilson_interval(successes, trials, confidence)


def test_thresholds_are_inclusive_and_seeds_are_not_counted():
    counts = summarise(
        frame_of(scored(0.0, operator="seed"), scored(0.1), scored(0.1001), scored(0.001), scored(-0.05))
    )["counts"]
    assert (counts["proposed"], counts["scored"], counts["metastable"], counts["stable"]) == (4, 4, 3, 2)


def test_quarantined_is_not_metastable_even_where_the_search_has_no_floor():
    turned_away = {"stage": "score", "reason": "quarantined", "energy_above_hull": -0.7}
    counts = summarise(frame_of(turned_away, scored(-0.7), scored(-0.1)))["counts"]
    assert (counts["quarantined"], counts["metastable"], counts["msun"]) == (2, 1, 1)


def test_msun_leaves_out_duplicates_known_phases_and_what_is_not_judged_yet():
    counts = summarise(
        frame_of(
            scored(0.01),
            scored(0.01, duplicate_of=0),
            scored(0.01, matched_known="mp-1"),
            scored(0.01, add_status=None),
            scored(0.3),
        )
    )["counts"]
    assert (counts["metastable"], counts["unique"], counts["novel"], counts["msun"]) == (4, 3, 3, 1)


def test_each_rate_names_its_denominator_and_definition():
    summary = summarise(frame_of(scored(0.01), {"stage": "parse"}, {"stage": "check"}, {"stage": "novelty"}))
    rates = {(rate["name"], rate["of"]): rate for rate in summary["rates"]}
    assert rates["msun", "proposed"]["rate"] == 1 / 4
    assert rates["msun", "valid"]["rate"] == 1 / 2
    assert all(rate["definition"] for rate in rates.values())
    assert rates["msun", "proposed"]["low"] < 1 / 4 < rates["msun", "proposed"]["high"]


def test_a_waiting_candidate_is_new_but_not_relaxed():
    (row,) = verdicts(frame_of({"stage": "waiting", "add_status": None})).to_dict("records")
    assert row["new"]
    assert row["waiting"]
    assert not row["relaxed"]


def test_memorised_is_a_known_phase_that_no_parent_was():
    table = frame_of(
        scored(0.0, operator="seed", name="mp-1"),
        scored(0.0, operator="seed", name="mp-2"),
        {"stage": "novelty", "reason": "known", "detail": "matches mp-3", "parents": (0,)},
        {"stage": "novelty", "reason": "duplicate", "detail": "matches candidate 0", "parents": (0,)},
        {"stage": "novelty", "reason": "duplicate", "detail": "matches candidate 1", "parents": (0,)},
        scored(0.0, matched_known="mp-3", parents=(0, 1)),
        scored(0.0, matched_known="mp-3", parents=(5,)),
        scored(0.0, parents=(0,)),
    )
    assert [i for i, flag in verdicts(table)["memorised"].items() if flag] == [2, 4, 5]
