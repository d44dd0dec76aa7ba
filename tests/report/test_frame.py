"""The table of candidates has one layout, whatever it holds."""

from __future__ import annotations

import pandas as pd

from matsearch.objectives.catalogue import RESERVED
from matsearch.report.frame import candidates_frame
from matsearch.store import RunStore


def frame_of(run_dir) -> pd.DataFrame:
    with RunStore(run_dir, writable=False) as store:
        return candidates_frame(store)


def test_column_types_do_not_depend_on_the_content(run_dir, make_run):
    full, empty = frame_of(run_dir), frame_of(make_run())
    assert full.dtypes.equals(empty.dtypes)
    assert [str(full[name].dtype) for name in ("id", "n_steps", "bulk_modulus", "reason", "stage")] == [
        "int64", "Int64", "float64", "object", "object",
    ]  # fmt: skip


def test_missing_text_is_none_and_missing_integers_are_na(run_dir):
    frame = frame_of(run_dir).set_index("id")
    assert frame.loc[9, "reason"] is None and frame.loc[2, "reason"] == "bad_poscar"
    assert frame.loc[9, "duplicate_of"] is pd.NA and frame.loc[12, "duplicate_of"] == 9
    assert frame.loc[2, "n_steps"] is pd.NA and frame.loc[2, "formula"] is None


def test_two_readings_of_a_run_are_equal(run_dir):
    assert frame_of(run_dir).equals(frame_of(run_dir))


def test_no_objective_may_take_the_name_of_a_column(make_run):
    found = set(frame_of(make_run(objectives="[]")))
    assert found | {"second_opinion"} == RESERVED | {"energy_above_hull"}
