"""`matsearch compare`: one campaign by several presets and seeds, at equal budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from matsearch.campaign.compare import Comparison

WIDTH = 130


def compare(
    target: Annotated[Path, typer.Argument(metavar="CAMPAIGN.toml", help="A campaign file with a budget.")],
    presets: Annotated[str, typer.Option("--presets", help="Names, separated by commas.")],
    seeds: Annotated[
        str, typer.Option("--seeds", help="Numbers, separated by commas; three or more tell something.")
    ] = "0,1,2",
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="Folder of all runs; runs/compare-<name> if not given.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Lay a value over the file, for all presets.")
    ] = None,
) -> None:
    """Run a campaign by several presets with several seeds at equal budget, and compare what they found."""
    from rich.console import Console

    from matsearch.campaign.compare import compare as run_comparison
    from matsearch.cli.bars import watching
    from matsearch.errors import ConfigError

    try:
        numbers = [int(text) for text in seeds.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds takes whole numbers separated by commas, got {seeds!r}") from None
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ConfigError(f"--seeds takes different numbers from 0 on, got {seeds!r}")
    names = [name.strip() for name in presets.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--presets takes different names separated by commas, got {presets!r}")
    out = run_dir or Path("runs") / f"compare-{target.stem}"
    try:
        with watching() as progress:
            found = run_comparison(
                target, names, numbers, out, overrides or [], lambda one: one.run(progress), progress.say
            )
    except KeyboardInterrupt as stop:
        typer.echo(f"matsearch: {stop or 'stopped'}; the same command goes on", err=True)
        raise typer.Exit(130) from None
    # In a file a table need not be as narrow as a terminal.
    Console(width=None if sys.stdout.isatty() else WIDTH).print(_table(found))
    typer.echo(
        f"each run cut at {found.proposals} proposals or {found.relaxations} relaxations, whichever first; mean and "
        f"95 % interval over {len(numbers)} seeds; MSUN: metastable, unique, novel"
    )
    if found.reference_point:
        point = ", ".join(f"{name} {value:g}" for name, value in found.reference_point.items())
        typer.echo(f"hypervolume of the metastable against {point} (the worst of all runs where it is no limit)")
    typer.echo(f"all numbers and curves: {out / 'comparison.json'}")


def _table(found: Comparison) -> Table:
    from rich.box import SIMPLE
    from rich.table import Column, Table

    titles = {
        "msun": "MSUN", "sun": "SUN", "metastable": "metastable", "unique_prototypes": "prototypes",
        "memorised": "memorised", "hypervolume": "hypervolume", "relaxations_per_msun": "per MSUN",
    }  # fmt: skip
    table = Table(Column("preset", no_wrap=True), "relaxed", *titles.values(), box=SIMPLE)
    for preset, measures in found.summary().items():
        relaxed = sorted(run.relaxed for run in found.runs if run.preset == preset)
        spread = str(relaxed[0]) if relaxed[0] == relaxed[-1] else f"{relaxed[0]}-{relaxed[-1]}"
        table.add_row(preset, spread, *(_cell(measures[name], name == "memorised") for name in titles))
    return table


def _cell(value: tuple[float, float | None] | None, is_share: bool) -> str:
    if value is None:
        return "-"
    mean, half = value
    scale, unit = (100.0, " %") if is_share else (1.0, "")
    text = f"{mean * scale:.3g}"
    return text + unit if half is None else f"{text} ± {half * scale:.2g}{unit}"
