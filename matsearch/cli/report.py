"""`matsearch report`: write a run's report anew, or print it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run_dir: Annotated[Path, typer.Argument(help="The run folder.")],
    text: Annotated[bool, typer.Option("--text", help="Print it here instead of writing report.html.")] = False,
) -> None:
    """Write report.html and the CIFs of the best crystals of a run, or print the report in short."""
    from matsearch.campaign import Campaign
    from matsearch.store import RunStore

    if text:
        from rich.console import Console

        from matsearch.report.text import text_report

        with RunStore(run_dir, writable=False) as store:
            Console().print(text_report(store))
        return
    typer.echo(f"report: {Campaign.open(run_dir).write_report()}")
