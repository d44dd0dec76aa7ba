"""An evaluation as a terminal shows it."""

import io

import pandas as pd
from rich.console import Console

from matsearch.metrics.evaluated import summarise_evaluated, verdicts
from matsearch.report.evaluated import N_SHOWN, evaluation_text

PROTOCOL = {"optimizer": "lbfgs", "force_tol": 0.05, "max_steps": 500}


def evaluated(n_rows: int, **heights: list[float]):
    """A table of rows that differ only in their energies, and its summary; a keyword a judge."""
    base = pd.DataFrame(
        {
            "formula": ["MgO"] * n_rows,
            "n_atoms": pd.array([2] * n_rows, dtype="Int64"),
            "spacegroup": pd.array([225] * n_rows, dtype="Int64"),
            "structurally_valid": True,
            "charge_valid": True,
            "unique_as_given": True,
            "novel_as_given": True,
        }
    )
    views = {}
    for judge, energies in heights.items():
        view = pd.DataFrame({"energy_above_hull": energies, "energy_per_atom": -5.0, "rmsd": 0.1, "converged": True})
        view["n_steps"] = pd.array([4] * n_rows, dtype="Int64")
        view = view.assign(unique=True, novel=True, novelty_judged=True, reasons=None)
        views[judge] = pd.concat([view, verdicts(view)], axis=1)
    own = [view.add_suffix(f":{judge}") for judge, view in views.items()] if len(views) > 1 else []
    table = pd.concat([base, next(iter(views.values())), *own], axis=1)
    summary = summarise_evaluated(
        table,
        list(views),
        hulls=dict.fromkeys(views, "9 phases"),
        phases="",
        seconds=dict.fromkeys(views, 3.0),
        refused=dict.fromkeys(views, 0),
    )
    return table, summary | {"protocol": PROTOCOL}


def shown(table, summary, places, width=80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(evaluation_text(table, summary, places))
    return console.file.getvalue()


def test_two_judges_their_rates_and_agreement_fit_80_columns():
    table, summary = evaluated(3, first=[0.0, 0.05, 0.3], second=[0.0, 0.2, -0.4])
    text = shown(table, summary, ["a.csv", "a.csv#1", "a.csv#2"])
    assert max(len(line) for line in text.splitlines()) <= 80 and "…" not in text
    assert "MSUN (≤ 0.1)         2   3 proposed" in text
    flat = " ".join(text.split())
    assert "by both 1, by the first alone 1, by the second alone 0, by neither 1" in flat
    assert "they differ on rows 1" in flat and "1 quarantined" in flat and "L-BFGS to 0.05 eV/Å" in flat


def test_rows_of_several_files_say_where_they_come_from_and_markup_is_text():
    table, summary = evaluated(2, judge=[0.0, 0.1])
    text = shown(table, summary, ["[bold]a.cif", "b.cif"], width=120)
    assert "[bold]a.cif" in text and "b.cif" in text
    assert "from" not in shown(table, summary, ["a.csv", "a.csv#1"]).splitlines()[1]


def test_of_many_rows_the_first_are_shown():
    table, summary = evaluated(N_SHOWN + 5, judge=[0.0] * (N_SHOWN + 5))
    text = shown(table, summary, ["a.csv"] * (N_SHOWN + 5))
    assert text.count(" MgO ") == N_SHOWN and "and 5 more" in text
