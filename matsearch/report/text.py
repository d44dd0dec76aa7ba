"""The report in a terminal: the best crystals, where the others stopped, what came of each operator, and the cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matsearch.metrics.discovery import summarise
from matsearch.report.best import Ranking, rank
from matsearch.report.frame import candidates_frame
from matsearch.report.funnel import Funnel, funnel, passed
from matsearch.report.spending import Spending, spending
from matsearch.report.table import yields
from matsearch.report.wording import number, percent, plain
from matsearch.store import RunStore

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group
    from rich.table import Table

N_BEST = 10


def text_report(store: RunStore) -> Group:
    """The table of the best crystals and the funnel in short, for `rich`'s `print`."""
    from rich.console import Group
    from rich.text import Text

    frame = candidates_frame(store)
    ranking = rank(store, frame, N_BEST)
    summary = summarise(frame)
    found = funnel(store)
    name, status = plain(store.config["name"], 80), plain(store.meta.get("status", "new"), 120)
    parts: list[Table | Text] = []
    if ranking.crystals:
        parts.append(_best_table(frame, ranking, f"Best crystals of {name} ({status})"))
    else:
        parts.append(Text(f"{name} ({status}): no candidate scored"))
    if any(crystal.suspect for crystal in ranking.crystals):
        parts.append(Text("† so far below the hull that an error of the potential is more likely"))
    if ranking.best_seed and ranking.seeds_ahead:
        seed = f"{plain(ranking.best_seed['formula'], 60)} ({plain(ranking.best_seed['name'], 40)})"
        ahead = "seeds that the goals prefer to the first of these" if ranking.crystals else "scored seeds"
        better = f"{ahead}: {ranking.seeds_ahead}; the best is {seed}"
        parts.append(Text(better))
    parts.append(_funnel_table(found))
    if len(made_by := yields(frame)) > 1:
        parts.append(_yields_table(made_by))
    parts += [Text(_rate_line(rate)) for rate in summary["rates"] if rate["of"] == "proposed" and rate["total"]]
    if summary["counts"]["proposed"]:
        parts.append(Text(_cost_line(spending(store), summary["counts"]["msun"])))
    return Group(*parts)


def _rate_line(rate: dict[str, Any]) -> str:
    interval = f"{percent(rate['low'])} to {percent(rate['high'])}"
    return f"{rate['count']} of {rate['total']} proposed: {rate['definition']} ({percent(rate['rate'])}; {interval})"


def _cost_line(spent: Spending, n_msun: int) -> str:
    parts = [
        f"{spent.replies:,} replies",
        f"{spent.tokens:,} tokens",
        *([] if spent.usd is None else [f"{spent.usd:,.4f} USD"]),
        f"{spent.relaxations:,} relaxations ({spent.seed_relaxations:,} of seeds)",
        f"{spent.hours:,.2f} h",
    ]
    if n_msun:
        each = (spent.relaxations - spent.seed_relaxations) / n_msun
        parts.append(f"{each:,.1f} relaxations for each unique, novel and metastable crystal")
    return f"spent: {', '.join(parts)}"


def _yields_table(made_by: list[dict[str, Any]]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    # Narrow, so that operators' names stay on a line in 80 columns.
    table = Table(title="By operator and model", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.show_edge, table.collapse_padding = False, True
    for name in ("operator", "model"):
        table.add_column(name, overflow="fold")
    for name in ("proposed", "scored", "metastable", "new too", "lowest\nE_hull"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in made_by[:N_BEST]:
        counts = [str(one[name]) for name in ("proposed", "scored", "metastable", "msun")]
        names = [escape(plain(one[name], 40)) for name in ("operator", "model")]
        table.add_row(*names, *counts, number(one["best"], "energy_above_hull"))
    return table


def _best_table(frame: pd.DataFrame, ranking: Ranking, title: str) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    # Narrow, so that two objectives fit into 80 columns.
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.show_edge, table.collapse_padding = False, True
    table.caption, table.caption_justify = "metastable first, new before known, then by the campaign's goals", "left"
    table.add_column("#", justify="right")
    table.add_column("formula", no_wrap=True)
    table.add_column("space group", no_wrap=True)
    units = frame.attrs["units"]
    for name, unit in units.items():
        header = "E_hull" if name == "energy_above_hull" else plain(name, 40).replace("_", "_\n")
        table.add_column(escape(f"{header}\n{plain(unit, 20)}"), justify="right", no_wrap=True)
    table.add_column("known\nphase", overflow="fold")
    table.add_column("made by", overflow="fold")
    table.add_column("id", justify="right")
    for crystal in ranking.crystals:
        row = crystal.row
        unmatched = "novel" if row["add_status"] is not None else "not judged yet"
        marks = {"energy_above_hull": " †"} if crystal.suspect else {}
        values = [number(row[name], name) + marks.get(name, "") for name in units]
        known = unmatched if row["matched_known"] is None else plain(row["matched_known"], 40)
        cells = [str(crystal.rank), plain(row["formula"], 60), crystal.space_group or "none found", *values]
        cells += [known, plain(row["operator"], 40), str(row["id"])]
        table.add_row(*map(escape, cells))
    return table


def _funnel_table(found: Funnel) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Where candidates stopped", title_justify="left", title_style="bold")
    table.add_column("stage")
    table.add_column("candidates", justify="right")
    table.add_column("stopped before it")
    stops = dict(zip(["parsed", "valid", "new", "relaxed", "scored"], found, strict=False))
    waiting = next(count for stage, count, _ in found if stage == "waiting")
    for step, count in passed(found).items():
        why = ""
        if step in stops:
            _, _, reasons = stops[step]
            why = ", ".join(f"{plain(reason, 60)} {n}" for reason, n in reasons.items())
        if step == "relaxed" and waiting:
            why = f"{why}, waiting {waiting}".removeprefix(", ")
        table.add_row(step, str(count), escape(why))
    return table
