"""The order of the best crystals."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest
from small_run import add, rock_salt

from matsearch.metrics.discovery import METASTABLE, QUARANTINE
from matsearch.report.best import _preferred, rank, space_group
from matsearch.report.frame import candidates_frame
from matsearch.report.packed import unpack
from matsearch.report.page import write_report
from matsearch.search import Goal, preference_order
from matsearch.store import RunStore

GOALS = [Goal("energy_above_hull", "min"), Goal("bulk_modulus", "max")]


def test_best_crystals_are_neither_seeds_nor_duplicates_nor_quarantined(run_dir):
    with RunStore(run_dir, writable=False) as store:
        ranking = rank(store, candidates_frame(store))
    assert sorted(crystal.row["id"] for crystal in ranking.crystals) == [9, 10, 11]
    assert [crystal.rank for crystal in ranking.crystals] == [1, 2, 3]
    assert {crystal.row["id"]: crystal.n_duplicates for crystal in ranking.crystals} == {9: 1, 10: 0, 11: 0}


def test_the_report_says_when_seeds_are_better(run_dir):
    with RunStore(run_dir, writable=False) as store:
        ranking = rank(store, candidates_frame(store))
    assert ranking.seeds_ahead == 1
    assert ranking.best_seed["name"] == "mp-1"


@pytest.mark.parametrize("selection", ["pareto", "weighted"])
def test_the_first_few_are_those_of_the_campaigns_own_selection(selection):
    rng = random.Random(1)
    losses = np.array([[round(rng.random(), 1), round(rng.random(), 1)] for _ in range(150)])
    whole = preference_order(losses.tolist(), GOALS, selection)
    for count in (0, 1, 7, 40, 150, 200):
        assert _preferred(losses, GOALS, selection, count) == whole[:count]


def test_a_campaign_that_never_began_has_no_ranking(make_run):
    with RunStore(make_run(objectives="[]"), writable=False) as store:
        ranking = rank(store, candidates_frame(store))
    assert (ranking.crystals, ranking.seeds_ahead, ranking.best_seed) == ([], 0, None)


def test_what_breaks_a_constraint_comes_last_by_how_much_and_no_such_seed_is_ahead(make_run):
    run_dir = make_run()
    with RunStore(run_dir, writable=True) as store:
        objectives = [{**one, "constraint": ">= 50"} if one["name"] == "bulk_modulus" else one
                      for one in store.config["objectives"]]  # fmt: skip
        store.set_meta("config", json.dumps({**store.config, "objectives": objectives}))
        with store.transaction():
            add(store, 0, "scored", operator="seed", structure=rock_salt("Mg", "O"), energy=0.0, bulk=10.0)
            add(store, 1, "scored", structure=rock_salt("Ti", "O"), energy=0.0, bulk=20.0)
            add(store, 2, "scored", structure=rock_salt("Li", "O"), energy=0.05, bulk=60.0)
            add(store, 3, "scored", structure=rock_salt("Li", "F"), energy=0.0, bulk=40.0)
    with RunStore(run_dir, writable=False) as store:
        ranking = rank(store, candidates_frame(store))
    assert [crystal.row["id"] for crystal in ranking.crystals] == [2, 3, 1]
    assert ranking.seeds_ahead == 0


def test_a_hull_that_is_no_goal_does_not_order_the_crystals(make_run):
    run_dir = make_run()
    with RunStore(run_dir, writable=True) as store:
        plugin = {"name": "my.plugin:Bulk", "direction": None, "weight": 1.0}
        store.set_meta("config", json.dumps({**store.config, "objectives": [plugin]}))
        with store.transaction():
            add(store, 0, "scored", structure=rock_salt("Mg", "O"), energy=0.0, bulk=10.0)
            add(store, 1, "scored", structure=rock_salt("Ti", "O"), energy=0.05, bulk=90.0)
    with RunStore(run_dir, writable=False) as store:
        ranking = rank(store, candidates_frame(store))
    assert [crystal.row["id"] for crystal in ranking.crystals] == [1, 0]


def test_metastable_ones_come_first_and_new_ones_before_known_phases(make_run):
    run_dir = make_run()
    with RunStore(run_dir, writable=True) as store, store.transaction():
        add(store, 0, "scored", structure=rock_salt("Ti", "O"), energy=1.2, bulk=300.0)
        add(store, 1, "scored", structure=rock_salt("Mg", "O"), energy=0.0, bulk=150.0, matched_known="mp-1")
        add(store, 2, "scored", structure=rock_salt("V", "O"), energy=0.1, bulk=90.0)
        add(store, 3, "scored", structure=rock_salt("Mn", "O"), energy=0.05, bulk=95.0)
        add(store, 4, "scored", structure=rock_salt("Li", "O"), energy=-0.9, bulk=99.0)
    with RunStore(run_dir, writable=False) as store:
        frame = candidates_frame(store)
        ranking = rank(store, frame)
        assert [crystal.row["id"] for crystal in rank(store, frame, 3).crystals] == [3, 2, 1]
        page = write_report(store).read_text(encoding="utf-8")
    assert [crystal.row["id"] for crystal in ranking.crystals[:3]] == [3, 2, 1]
    assert {crystal.row["id"] for crystal in ranking.crystals[3:]} == {0, 4}  # the latter too good to be true
    assert f"Metastable ones (E_hull from −{-QUARANTINE} to {METASTABLE} eV/atom) first" in page


def test_space_group_is_named_with_its_number():
    assert space_group(rock_salt("Mg", "O")) == "Fm-3m (225)"


def test_what_lies_too_far_below_the_hull_is_marked_where_the_search_has_no_floor(run_dir):
    with RunStore(run_dir, writable=True) as store, store.transaction():
        add(store, 20, "scored", structure=rock_salt("Sc", "N"), energy=-0.9, bulk=50.0)
    with RunStore(run_dir, writable=False) as store:
        ranking = rank(store, candidates_frame(store))
        assert [crystal.row["id"] for crystal in ranking.crystals if crystal.suspect] == [20]
        page = write_report(store).read_text(encoding="utf-8")
    data = unpack(re.search(r'id="data">(.*?)</script>', page)[1])["columns"]
    marked = [one for one, flags in zip(data["id"], data["flags"], strict=True) if "quarantined" in flags]
    assert marked == [8, 20]  # 8 was turned away for it
    assert "“Far below” marks" in page
    assert "more likely an error of the potential than a crystal" in page
