"""`matsearch run`: run a campaign, or continue one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer


def run(
    target: Annotated[
        Path, typer.Argument(metavar="CAMPAIGN.toml | RUN_DIR", help="A campaign file, or a run folder to continue.")
    ],
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="The run folder itself; runs/<name> if not given.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Lay a value over the file, such as search.generations=3."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show one prompt, take two relaxation steps.")
    ] = False,
) -> None:
    """Run a campaign from its TOML file, or continue the one in a run folder."""
    from matsearch.campaign import Campaign
    from matsearch.cli.bars import watching
    from matsearch.errors import ConfigError

    if target.is_dir():
        if run_dir is not None:
            raise ConfigError(f"{target} is a run folder already; --run-dir goes with a campaign file")
        campaign = Campaign.open(target, overrides or [])
    else:
        campaign = Campaign.from_toml(target, run_dir, overrides or [])
    if dry_run:
        _print_dry_run(campaign.dry_run())
        return
    try:
        with watching() as progress:
            campaign.run(progress)
    except KeyboardInterrupt as stop:
        typer.echo(f"matsearch: {stop or 'stopped'}", err=True)
        if "at once" in str(stop):
            # Threads that wait for an endpoint would hold the process; every commit is on the disk already.
            os._exit(130)
        raise typer.Exit(130) from None
    _print_end(campaign.run_dir, campaign.status)


def _print_dry_run(found: dict[str, Any]) -> None:
    for name in ("backends", "objectives", "seeds", "extra phases", "relaxation"):
        value = found[name]
        typer.echo(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    for title, prompt in {"first prompt": found["prompt"], **found["own prompts"]}.items():
        typer.echo(f"{title if title == 'first prompt' else f'prompt of your template {title}'}:")
        typer.echo("\n".join(f"  {line}" for line in prompt.splitlines()))
    typer.echo("all parts work; nothing was written")


def _print_end(run_dir: Path, status: str) -> None:
    from rich.console import Console

    from matsearch.report.text import text_report
    from matsearch.store import RunStore, continue_command

    with RunStore(run_dir, writable=False) as store:
        Console().print(text_report(store))
    typer.echo(f"report: {run_dir / 'report.html'}")
    if status.startswith("budget"):
        name = status.removeprefix("budget: ").partition(" ")[0]
        typer.echo(f"stopped by the {status}; go on with: {continue_command(run_dir)} --set budget.{name}=MORE")
