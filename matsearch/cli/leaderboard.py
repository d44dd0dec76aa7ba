"""`matsearch leaderboard`: tables of many runs, those that were judged alike in one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def leaderboard(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_DIR...", help="Runs, folders of `matsearch compare`, or a leaderboard to go on with."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the leaderboard.")] = Path("runs/leaderboard"),
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="METRIC=NUMBER,...", help="What the score is made of.")
    ] = None,
    published: Annotated[bool, typer.Option(help="Published figures in tables of their own.")] = True,
) -> None:
    """Rank finished runs: leaderboard.html, .md, .csv, and records.json, which this command reads again."""
    from matsearch.report.leaderboard import make_board
    from matsearch.report.leaderboard_page import write_board
    from matsearch.report.leaderboard_records import published_records
    from matsearch.report.leaderboard_runs import collect

    chosen = None if weights is None else _weights(weights)
    runs = collect(places, lambda line: typer.echo(line, err=True))
    board = make_board(runs, published_records() if published else (), chosen)
    for table in board.tables:
        typer.echo(f"{table.hash}: {table.protocol}")
        for place, line in enumerate(table.lines, start=1):
            values = ", ".join(
                f"{metric.title} {_short(line.values[metric.key].mean, metric.kind)}"
                for metric in table.metrics[:3]
                if metric.key in line.values
            )
            score = "" if line.score is None else f", score {line.score:.2f}"
            typer.echo(f"  {place}. {line.title} ({line.llms}; {len(line.runs)} seeds): {values}{score}")
    typer.echo("written: " + ", ".join(map(str, write_board(board, out))))


def _weights(text: str) -> dict[str, float]:
    from matsearch.errors import ConfigError

    weights = {}
    for part in text.split(","):
        key, equals, number = part.rpartition("=")
        try:
            weights[key.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals or not key.strip():
            raise ConfigError(
                f"--weights takes METRIC=NUMBER, separated by commas, such as msun=1,sun=0.5; got {part!r}"
            )
    return weights


def _short(value: float, kind: str) -> str:
    return f"{100 * value:.1f} %" if kind == "share" else f"{value:.3g}"
