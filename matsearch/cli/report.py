"""`matsearch report`: write a run's report anew, print it, or serve it while the campaign runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run_dir: Annotated[Path, typer.Argument(help="The run folder.")],
    text: Annotated[bool, typer.Option("--text", help="Print it here instead of writing report.html.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Serve it to this machine's browser until Ctrl-C, and keep it up to date.")
    ] = False,
) -> None:
    """Write report.html and the CIFs of the best crystals of a run, print the report in short, or serve it live."""
    from matsearch.errors import InputError
    from matsearch.store import RunStore

    if text and live:
        raise InputError("--text prints the report and --live serves it; give one of them")
    if text:
        from rich.console import Console

        from matsearch.report.text import text_report

        with RunStore(run_dir, writable=False) as store:
            Console().print(text_report(store))
        return
    if live:
        _serve(run_dir)
        return
    from matsearch.campaign import Campaign

    typer.echo(f"report: {Campaign.open(run_dir).write_report()}")


def _serve(run_dir: Path) -> None:
    from matsearch.report.live import LiveServer
    from matsearch.store import RunStore

    RunStore(run_dir, writable=False).close()  # a folder without a campaign is said now, not in the browser
    with LiveServer(run_dir) as server:
        typer.echo(f"report: {server.address} (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended", err=True)
