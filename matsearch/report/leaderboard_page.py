"""A leaderboard as files: one page that needs nothing else, Markdown, and CSV."""

from __future__ import annotations

import base64
import csv
import datetime
import hashlib
import importlib.metadata
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from matsearch.report.leaderboard import Board, Line, Metric, PublishedLine, Table, Value
from matsearch.report.leaderboard_records import PublishedTable, RunRecord, write_records
from matsearch.report.leaderboard_runs import RECORDS
from matsearch.report.wording import moment, percent, plain

NOTE = (
    "A line is one search over its seeds: mean ± half of the 95 % Student interval over seeds; of a single run a share "
    "stands with its 95 % Wilson interval in brackets. Numbers compare within a table, never between tables."
)
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 460, 260, 52, 40, 12, 30
N_COLOURS = 8


def write_board(board: Board, out: Path) -> list[Path]:
    """Write `leaderboard.html`, `.md`, `.csv` and `records.json` into a folder, which is made if need be.

    Raises:
        OSError: It cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    texts = {"leaderboard.html": html(board), "leaderboard.md": markdown(board), "leaderboard.csv": table_csv(board)}
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    write_records(out / RECORDS, [run for table in board.tables for line in table.lines for run in line.runs])
    return [out / name for name in (*texts, RECORDS)]


def written(metric: Metric, value: Value | None, n_runs: int) -> str:
    """A value as people read it."""
    if value is None:
        return "–"
    number = _written(metric.kind)
    if value.low is None or value.high is None:
        return number(value.mean)
    if n_runs == 1:
        return f"{number(value.mean)} ({number(value.low)} to {number(value.high)})"
    half = (value.high - value.low) / 2
    if metric.kind == "share":
        return f"{100 * value.mean:.1f} ± {100 * half:.1f} %"
    return f"{number(value.mean)} ± {half:.2g}"


def _written(kind: str) -> Callable[[float], str]:
    return percent if kind == "share" else lambda value: f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def html(board: Board) -> str:
    """The page: it loads nothing, and runs nothing but the script in it."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    script = _asset("leaderboard", "leaderboard.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"plain": plain, "percent": percent, "moment": moment}
    return environment.from_string(_asset("leaderboard", "leaderboard.html.j2")).render(
        board=board,
        charts={table.hash: _charts(table) for table in board.tables},
        written=written,
        note=NOTE,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        version=importlib.metadata.version("matsearch"),
        n_runs=sum(len(line.runs) for table in board.tables for line in table.lines),
        n_colours=N_COLOURS,
        policy=Markup(f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"),
        style=Markup(_asset("report.css") + _asset("leaderboard", "leaderboard.css")),
        script=Markup(script),
    )


@dataclass(frozen=True)
class Mark:
    """One line of the board in a chart, in the units of its picture.

    Attributes:
        colour: Number of it.
        title: Of the line.
        x: Of its end.
        y: Of its end.
        points: Of its curve, as SVG has them; empty without one.
        text: What its end says.
    """

    colour: int
    title: str
    x: float
    y: float
    points: str
    text: str


@dataclass(frozen=True)
class Chart:
    """MSUN crystals against what was spent.

    Attributes:
        title: What was spent.
        marks: One a line that tells it.
        x_ticks: Position and text.
        y_ticks: Position and text.
    """

    title: str
    marks: list[Mark]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


COSTS: dict[str, Callable[[RunRecord], float | None]] = {
    "relaxations": lambda run: float(run.cost.relaxations),
    "tokens": lambda run: None if run.cost.tokens is None else float(run.cost.tokens),
    "USD": lambda run: run.cost.usd,
    "hours": lambda run: run.cost.hours,
}


def _charts(table: Table) -> list[Chart]:
    return [chart for title, cost in COSTS.items() if (chart := _chart(table, title, cost)) is not None]


def _chart(table: Table, title: str, cost: Callable[[RunRecord], float | None]) -> Chart | None:
    ends = [(number, line, line.mean(cost)) for number, line in enumerate(table.lines)]
    told = [(number, line, spent) for number, line, spent in ends if spent is not None]
    if not any(spent for _, _, spent in told):
        return None
    found = {id(line): line.mean(lambda run: float(run.counts.msun)) or 0.0 for line in table.lines}
    x_steps = _steps(max(spent for _, _, spent in told))
    y_steps = _steps(max(found[id(line)] for _, line, _ in told))

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / x_steps[-1]
        return round(across, 1), round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * y / y_steps[-1], 1)

    marks = []
    for number, line, spent in told:
        points = ""
        if title == "relaxations":
            points = " ".join("{},{}".format(*place(*one)) for one in zip(*line.curve(), strict=True))
        x, y = place(spent, found[id(line)])
        text = f"{line.title}: {found[id(line)]:.4g} MSUN, {spent:.4g} {title}"
        marks.append(Mark(number % N_COLOURS, plain(line.title, 40), x, y, points, plain(text)))
    return Chart(
        title,
        marks,
        [(place(one, 0.0)[0], f"{one:,g}") for one in x_steps],
        [(place(0.0, one)[1], f"{one:,g}") for one in y_steps],
    )


def _steps(most: float) -> list[float]:
    """Round numbers from 0 to at least `most`, six of them at most."""
    if most <= 0:
        return [0.0, 1.0]
    size = 10.0 ** math.floor(math.log10(most / 5))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size * 5 >= most)
    return [step * number for number in range(math.ceil(most / step) + 1)]


def markdown(board: Board) -> str:
    """The same for a README or a pull request; numbers of single runs are in the CSV."""
    parts = ["# Leaderboard", NOTE, f"Score by {_weights(board)}."]
    for table in board.tables:
        parts += [f"## Protocol {table.hash}", _escaped(table.protocol), _equal_cost(table)]
        titles = ["#", "search", "LLM", "campaign", "seeds", "score", *(metric.title for metric in table.metrics)]
        rows = [_markdown_row(number, line, table) for number, line in enumerate(table.lines, start=1)]
        parts.append(_markdown_table([_escaped(one) for one in titles], rows))
    if board.published:
        parts += ["## Published figures", "For orientation: every table has a protocol of its own."]
    for published, lines in board.published:
        parts += [f"### {_escaped(published.title)}", _escaped(_published_line(published))]
        titles = ["method", *(f"{one.title} / {one.unit}" if one.unit else one.title for one in published.figures)]
        rows = [[_escaped(line.method), *(_figure(line, one.key) for one in published.figures)] for line in lines]
        parts.append(_markdown_table([_escaped(one) for one in titles], rows))
    return "\n\n".join(parts) + "\n"


def _markdown_row(number: int, line: Line, table: Table) -> list[str]:
    run = line.runs[0]
    cells = [str(number), _escaped(line.title), _escaped(line.llms), _escaped(run.campaign)]
    cells += [str(len(line.runs)), "–" if line.score is None else f"{line.score:.2f}"]
    for metric in table.metrics:
        rank = f" [{line.ranks[metric.key]}]" if metric.key in line.ranks else ""
        cells.append(written(metric, line.values.get(metric.key), len(line.runs)) + rank)
    return cells


def _markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(one)} |" for one in lines)


def _escaped(text: str) -> str:
    """Text that others wrote, so that Markdown and the HTML in it show it as it is."""
    safe = plain(text, 1000).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#!|~])", r"\\\1", safe)


def _figure(line: PublishedLine, key: str) -> str:
    return "–" if key not in line.values else f"{line.values[key]:g} [{line.ranks[key]}]"


def _published_line(table: PublishedTable) -> str:
    return f"Judge: {table.judge}. {table.protocol} Source: {table.source}."


def _equal_cost(table: Table) -> str:
    text = f"Equal cost: {table.proposals:,} proposals or {table.relaxations:,} relaxations, whichever first."
    if table.reference_point:
        point = ", ".join(f"{_escaped(name)} {value:g}" for name, value in table.reference_point.items())
        text += f" Hypervolume against {point}."
    return text + " Ranks in square brackets."


def _weights(board: Board) -> str:
    return ", ".join(f"{key} {weight:g}" for key, weight in board.weights.items())


def table_csv(board: Board) -> str:
    """One row a search, one a run, one a published figure."""
    keys = list(dict.fromkeys(metric.key for table in board.tables for metric in table.metrics))
    counts = list(RunRecord.model_fields["counts"].annotation.model_fields)  # type: ignore[union-attr]
    costs = ["replies", "tokens", "usd", "relaxations", "hours"]
    columns = ["kind", "table", "judge", "protocol", "source", "place", "score", "campaign", "method", "llms", "seeds"]
    columns += (
        [f"n_{name}" for name in counts]
        + costs
        + [f"{key}{end}" for key in keys for end in ("", "_low", "_high", "_rank")]
    )
    columns += ["figure", "unit", "value", "rank"]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for table in board.tables:
        shared = {"table": table.hash, "protocol": table.protocol}
        for number, line in enumerate(table.lines, start=1):
            writer.writerow(_csv_line(number, line) | shared)
            for run in line.runs:
                writer.writerow(_csv_run(run) | shared)
    for published, methods in board.published:
        shared = {"kind": "published", "table": published.title, "judge": published.judge}
        shared |= {"protocol": published.protocol, "source": published.source}
        for one in methods:
            for figure in published.figures:
                if figure.key in one.values:
                    own = {"figure": figure.title, "unit": figure.unit, "value": one.values[figure.key]}
                    row = shared | own | {"method": one.method, "rank": one.ranks[figure.key]}
                    writer.writerow({key: _cell(value) for key, value in row.items()})
    return out.getvalue()


def _csv_line(number: int, line: Line) -> dict[str, Any]:
    row = _csv_names(line.runs[0]) | {"kind": "search", "place": number, "seeds": " ".join(map(str, line.seeds))}
    row["score"] = "" if line.score is None else round(line.score, 6)
    for key, value in line.values.items():
        row |= {key: value.mean, f"{key}_low": value.low, f"{key}_high": value.high, f"{key}_rank": line.ranks[key]}
    return {key: _cell(value) for key, value in row.items()}


def _csv_run(run: RunRecord) -> dict[str, Any]:
    counts = {f"n_{name}": count for name, count in run.counts.model_dump().items()}
    row = _csv_names(run) | counts | run.cost.model_dump() | {"kind": "run", "seeds": str(run.seed)}
    for name in ("msun", "sun"):
        low, high = run.wilson(name)
        rate = getattr(run.counts, name) / run.counts.proposed if run.counts.proposed else None
        row |= {name: rate, f"{name}_low": low, f"{name}_high": high}
    return {key: _cell(value) for key, value in row.items()}


def _csv_names(run: RunRecord) -> dict[str, Any]:
    return {"judge": run.protocol.judge, "campaign": run.campaign, "method": run.preset, "llms": ", ".join(run.llms)}


def _cell(value: Any) -> Any:
    """Text that others wrote must be no formula where a spreadsheet opens it."""
    if value is None or not isinstance(value, str):
        return "" if value is None else value
    text = plain(value, 1000)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _asset(*place: str) -> str:
    return resources.files("matsearch.report").joinpath("assets", *place).read_text(encoding="utf-8")
