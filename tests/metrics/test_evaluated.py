"""The summary of an evaluation, from tables alone."""

import json

import numpy as np
import pandas as pd
import pytest

from matsearch.metrics.discovery import METASTABLE, wilson_interval
from matsearch.metrics.evaluated import summarise_evaluated, verdicts, view_of

NAN = float("nan")


def judged(**columns) -> pd.DataFrame:
    """Five structures: on the hull, metastable, above, quarantined, unconverged."""
    view = pd.DataFrame(
        {
            "unique": [True] * 5,
            "novel": [True] * 5,
            "novelty_judged": [True] * 5,
            "converged": [True, True, True, True, False],
            "energy_above_hull": [0.001, 0.1, 0.1001, -0.2, NAN],
            "energy_per_atom": [-5.0, -4.9, -4.8, -5.2, -4.0],
            "n_steps": pd.array([3, 4, 5, 6, 500], dtype="Int64"),
            "rmsd": [0.1, NAN, 0.3, 0.2, 0.5],
        }
    ).assign(**columns)
    return pd.concat([view, verdicts(view)], axis=1)


def table_of(views: dict[str, pd.DataFrame]) -> pd.DataFrame:
    first = next(iter(views.values()))
    base = pd.DataFrame(
        {
            "n_atoms": pd.array([2] * len(first), dtype="Int64"),
            "structurally_valid": True,
            "charge_valid": True,
            "unique_as_given": True,
            "novel_as_given": first["novel"],
        }
    )
    own = [view.add_suffix(f":{judge}") for judge, view in views.items()] if len(views) > 1 else []
    return pd.concat([base, first, *own], axis=1)


def summary_of(views, hulls=None):
    hulls = {judge: f"hull of {judge}" for judge in views} if hulls is None else hulls
    return summarise_evaluated(
        table_of(views),
        list(views),
        hulls=hulls,
        phases="7 phases",
        seconds=dict.fromkeys(views, 12.0),
        refused=dict.fromkeys(views, 0),
    )


def rate(summary, name, of, judge="j"):
    (found,) = [one for one in summary["rates"] if (one["name"], one["of"], one["judge"]) == (name, of, judge)]
    return found


def test_thresholds_are_inclusive_and_what_is_too_low_or_unconverged_is_nothing():
    found = judged()
    assert list(found["stable"]) == [True, False, False, False, False]
    assert list(found["metastable"]) == [True, True, False, False, False]
    assert list(found["quarantined"]) == [False, False, False, True, False]
    assert list(found["msun"]) == list(found["metastable"]) and list(found["sun"]) == list(found["stable"])
    assert set(verdicts(found).dtypes) == {np.dtype(bool)}


@pytest.mark.parametrize("name", ["unique", "novel"])
def test_msun_is_unique_and_novel(name):
    assert list(judged(**{name: [False, True, True, True, True]})["msun"]) == [False, True, False, False, False]


def test_a_rate_names_count_denominator_interval_judge_and_reference():
    found = rate(summary_of({"j": judged()}), "msun", "proposed")
    assert (found["count"], found["total"], found["rate"]) == (2, 5, 0.4)
    assert (found["low"], found["high"]) == wilson_interval(2, 5)
    assert f"{METASTABLE:g} eV/atom" in found["definition"] and found["reference"] == "hull of j"


def test_msun_is_given_over_all_and_over_the_valid():
    table = table_of({"j": judged(unique=[True] * 4 + [False])})
    table.loc[4, ["structurally_valid", "unique_as_given"]] = False
    summary = summarise_evaluated(table, ["j"], hulls={"j": "hull"}, phases="", seconds={"j": 1.0}, refused={"j": 0})
    assert rate(summary, "msun", "proposed")["total"] == 5
    assert rate(summary, "msun", "structurally_valid")["total"] == 4


def test_what_novelty_was_not_judged_of_is_in_no_rate_of_it():
    view = judged(novel=[False, True, True, True, True], novelty_judged=[False, True, True, True, True])
    assert rate(summary_of({"j": view}), "novel", "novelty_judged")["total"] == 4


def test_cost_is_given_per_msun_crystal_and_is_none_without_one():
    (found,) = summary_of({"j": judged()})["judges"]
    assert found["cost"] == {
        "relaxations": 5,
        "potential_calls": 523,
        "wall_seconds": 12.0,
        "per_msun": {"relaxations": 2.5, "potential_calls": 261.5, "wall_seconds": 6.0},
    }
    (found,) = summary_of({"j": judged(novel=[False] * 5)})["judges"]
    assert set(found["cost"]["per_msun"].values()) == {None}


def test_the_share_without_an_rmsd_is_given_with_its_median():
    summary = summary_of({"j": judged()})
    assert rate(summary, "no_rmsd", "relaxed")["count"] == 1
    assert summary["judges"][0]["rmsd"] == {"median": pytest.approx(0.25), "of": 4}


def test_two_judges_agree_by_rank_and_by_threshold():
    other = judged(energy_above_hull=[0.05, 0.2, 0.3, 0.01, NAN])
    (found,) = summary_of({"a": judged(), "b": other})["agreement"]
    assert found["judges"] == ["a", "b"] and found["judged_by_both"] == 4
    counts = [found[f"metastable_by_{whom}"] for whom in ("both", "first_alone", "second_alone", "neither")]
    assert counts == [1, 1, 1, 1] and found["rows_that_differ"] == [1, 3]
    assert found["spearman"] == pytest.approx(1.0) and found["msun_by_both"] == 1


def test_a_judge_without_a_hull_has_no_rate_of_stability_and_agrees_with_nobody():
    without = judged(energy_above_hull=[NAN] * 5)
    summary = summary_of({"a": judged(), "b": without}, {"a": "hull of a", "b": None})
    assert summary["agreement"] == []
    names = {one["name"] for one in summary["rates"] if one["judge"] == "b"}
    assert names == {"unique", "novel", "converged", "no_rmsd"}
    assert "msun" not in summary["judges"][1]["counts"] and "per_msun" not in summary["judges"][1]["cost"]


def test_names_of_judges_may_end_alike():
    table = table_of({"b": judged(), "a:b": judged(n_steps=pd.array([7] * 5, dtype="Int64"))})
    assert (
        list(view_of(table, "b")["n_steps"]) == [3, 4, 5, 6, 500] and list(view_of(table, "a:b")["n_steps"]) == [7] * 5
    )


@pytest.mark.parametrize("judges", [[], ["j"], ["j", "k"]])
def test_no_structure_is_no_error_and_a_summary_is_strict_json(judges):
    for n_rows in (0, 5):
        table = table_of({judge: judged() for judge in judges} or {"none": judged()}).head(n_rows)
        found = summarise_evaluated(
            table,
            judges,
            hulls=dict.fromkeys(judges, "hull"),
            phases="",
            seconds=dict.fromkeys(judges, 0.0),
            refused=dict.fromkeys(judges, 0),
        )
        json.dumps(found, allow_nan=False)
        assert found["counts"]["proposed"] == n_rows
