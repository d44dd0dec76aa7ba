"""`matsearch judge`: what of the finalists of compared searches other potentials confirm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from matsearch.evaluation.judged import Judged

WIDTH = 150


def judge(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `matsearch compare` wrote.")],
    judges: Annotated[
        str, typer.Option("--judges", help="Potentials, separated by commas.")
    ] = "chgnet-r2scan,sevennet-0",
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, help="Finalists a run at most, drawn at random; all if not given.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draw.")] = 0,
    presets: Annotated[
        str | None, typer.Option("--presets", help="Only these, separated by commas; all if not given.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.0, help="Hear no further finalists after so long.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, or auto.")] = "auto",
) -> None:
    """Judge the MSUN crystals of compared searches by other potentials, each against its own hull.

    Every energy is kept in FOLDER/judges.sqlite: what was stopped goes on, and a larger sample takes over a smaller.
    """
    from rich.console import Console

    from matsearch.errors import ConfigError
    from matsearch.evaluation.judged import RESULT, judge_finalists

    names, chosen = _names(judges), None if presets is None else _names(presets)
    if not names:
        raise ConfigError(f"--judges takes names of potentials separated by commas, got {judges!r}")
    try:
        judged = judge_finalists(
            folder,
            names,
            sample=sample,
            seed=seed,
            presets=chosen,
            minutes=minutes,
            device=device,
            say=lambda line: typer.echo(line, err=True),
        )
    except KeyboardInterrupt:
        typer.echo(f"matsearch: stopped; {folder / RESULT} holds who was heard, the same command goes on", err=True)
        raise typer.Exit(130) from None
    # In a file a table need not be as narrow as a terminal.
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    console.print(judged_table(judged))
    typer.echo(
        f"each run cut at {judged.finalists.proposals} proposals or {judged.finalists.relaxations} relaxations; "
        "metastable (E_hull <= 0.1) and stable (<= 0.001 eV/atom) by the judge's own hull, of the finalists heard, "
        "with the 95 % Wilson interval; outside: elements that the judge knows nothing of; confirmed: MSUN times the "
        "metastable share, mean and 95 % interval over seeds"
    )
    for row in judged.spearman():
        if row["spearman"] is not None:
            typer.echo(f"rank correlation {' and '.join(row['between'])}: {row['spearman']:.2f} ({row['n']} finalists)")
    typer.echo(f"every finalist and verdict: {folder / RESULT}")


def judged_table(judged: Judged) -> Table:
    """One line a preset and judge."""
    from rich.box import SIMPLE
    from rich.table import Column, Table

    titles = ("MSUN", "judge", "heard", "metastable", "over seeds", "stable", "refused", "outside", "confirmed MSUN")
    table = Table(Column("preset", no_wrap=True), *titles, box=SIMPLE)
    last = None
    for row in judged.presets():
        is_new, last = row["preset"] != last, row["preset"]
        table.add_row(
            row["preset"] if is_new else "",
            _mean(row["msun"]) if is_new else "",
            row["judge"],
            str(row["heard"]),
            _share(row["metastable"]),
            _mean(row["metastable"]["over_seeds"], 100.0, " %"),
            _share(row["stable"]),
            str(row["refused"]),
            str(row["outside"]),
            _mean(row["confirmed"]),
        )
    return table


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _share(counted: dict[str, Any]) -> str:
    if counted["rate"] is None:
        return "-"
    low, high = (100.0 * one for one in counted["wilson"])
    return f"{100.0 * counted['rate']:.0f} % ({low:.0f}-{high:.0f})"


def _mean(value: tuple[float, float | None] | None, scale: float = 1.0, unit: str = "") -> str:
    if value is None:
        return "-"
    mean, half = value
    text = f"{mean * scale:.3g}"
    return text + unit if half is None else f"{text} ± {half * scale:.2g}{unit}"
