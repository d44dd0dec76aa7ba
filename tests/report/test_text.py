"""The report in a terminal."""

from __future__ import annotations

import io
import json
import re

from rich.console import Console
from small_run import add, rock_salt

from matsearch.report.text import text_report
from matsearch.store import RunStore


def printed(run_dir, width: int = 120) -> str:
    out = io.StringIO()
    with RunStore(run_dir, writable=False) as store:
        Console(file=out, width=width).print(text_report(store))
    return out.getvalue()


def test_text_report_has_the_best_crystals_and_the_funnel(run_dir):
    text = printed(run_dir)
    assert "TiO" in text
    assert "Fm-3m (225)" in text
    assert "bad_poscar 1, missing 1" in text
    assert "3 of 12 proposed" in text
    assert "the best is MgO (mp-1)" in text


def test_text_report_has_rates_operators_and_cost(run_dir):
    with RunStore(run_dir, writable=True) as store, store.transaction():
        add(store, 20, "scored", operator="explore", structure=rock_salt("Zr", "O"), energy=0.3)
        add(store, 21, "scored", operator="ion_exchange", structure=rock_salt("Hf", "O"), energy=0.2)
    text = printed(run_dir, width=80)
    assert "4 of 14 proposed: scored, E_hull <= 0.1 eV/atom" in text
    assert re.search(r"(?m)^\s*explore\s+one<b>bold\s+1\s+1\s+0\s+0\s+0.300", text)
    assert re.search(r"(?m)^\s*ion_exchange\s+one<b>bold\s+1\s+1\s+0\s+0\s+0.200", text)
    assert "spent: 2 replies, 1,400 tokens, 10 relaxations (2 of seeds), 0.25 h" in " ".join(text.split())


def test_two_objectives_fit_into_eighty_columns(run_dir):
    text = printed(run_dir, width=80)
    table, _, _ = text.partition("Where candidates stopped")
    assert "…" not in table
    assert "modulus" in table
    assert sum("Fm-3m (225)" in line and "mutate" in line for line in table.splitlines()) == 3


def test_text_report_takes_no_markup_or_control_characters_from_an_llm(make_run):
    run_dir = make_run()
    with RunStore(run_dir, writable=True) as store, store.transaction():
        add(store, 0, "scored", operator="[red]x[/]\x1b[2J", structure=rock_salt("Mg", "O"), energy=0.0)
        add(store, 1, "parse", "[/bold]")
    text = printed(run_dir)
    assert "[red]x[/]" in text
    assert "[/bold] 1" in text
    assert "\x1b" not in text


def test_an_empty_campaign_has_a_text_report(make_run):
    assert "no candidate scored" in printed(make_run())


def test_where_nothing_was_scored_seeds_are_not_said_to_be_ahead_of_what_is_not_there(make_run):
    run_dir = make_run()
    with RunStore(run_dir, writable=True) as store, store.transaction():
        add(store, 0, "scored", operator="seed", name="mp-1", structure=rock_salt("Mg", "O"), energy=0.0)
        add(store, 1, "parse", "bad_poscar")
    text = printed(run_dir)
    assert "scored seeds: 1; the best is MgO (mp-1)" in text
    assert "of these" not in text


def test_a_name_and_a_status_that_others_wrote_are_one_plain_line(make_run):
    run_dir = make_run(status="\u202ex\n" + "long " * 1000)
    with RunStore(run_dir, writable=True) as store:
        config = store.config | {"name": "a\u202eb[red]"}
        store.set_meta("config", json.dumps(config))
    text = printed(run_dir)
    assert "a\ufffdb[red] (\ufffdx long" in text and "\u202e" not in text
    assert len(text) < 2000
