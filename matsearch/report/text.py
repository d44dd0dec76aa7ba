"""The report in a terminal: the best crystals, and where the others stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matsearch.metrics.discovery import summarise
from matsearch.report.best import Ranking, rank
from matsearch.report.frame import candidates_frame
from matsearch.report.funnel import Funnel, funnel, passed
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
    status = plain(store.meta.get("status", "new"))
    parts: list[Table | Text] = []
    if ranking.crystals:
        parts.append(_best_table(frame, ranking, f"Best crystals of {store.config['name']} ({status})"))
    else:
        parts.append(Text(f"{store.config['name']} ({status}): no candidate scored"))
    if any(crystal.suspect for crystal in ranking.crystals):
        parts.append(Text("† so far below the hull that an error of the potential is more likely"))
    if ranking.best_seed and ranking.seeds_ahead:
        seed = f"{plain(ranking.best_seed['formula'], 60)} ({plain(ranking.best_seed['name'], 40)})"
        better = f"seeds that the goals prefer to the first of these: {ranking.seeds_ahead}; the best is {seed}"
        parts.append(Text(better))
    parts.append(_funnel_table(found))
    msun = summary["rates"][0]
    if msun["total"]:
        interval = f"{percent(msun['low'])} to {percent(msun['high'])}"
        line = (
            f"{msun['count']} of {msun['total']} proposed: {msun['definition']} ({percent(msun['rate'])}; {interval})"
        )
        parts.append(Text(line))
    return Group(*parts)


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
