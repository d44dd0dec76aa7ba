"""The `matsearch` command: parses, calls one function a command, prints. Heavy imports wait inside the commands."""

from __future__ import annotations

import errno
import os
import sys
import warnings

import typer

from matsearch.cli import compare, doctor, evaluate, judge, leaderboard, potential, reference, relax, report, run, show
from matsearch.errors import MatsearchError

app = typer.Typer(
    name="matsearch",
    help="Search for new crystals: an LLM proposes, a machine-learning potential relaxes and scores.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich would double the time it takes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("report")(report.report)
app.command("show")(show.show)
app.command("compare")(compare.compare)
app.command("judge")(judge.judge)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("relax")(relax.relax)
app.add_typer(reference.app, name="reference")
app.command("evaluate")(evaluate.evaluate)
app.add_typer(potential.app, name="potential")
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from matsearch import __version__

        typer.echo(f"matsearch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Run the command line: 0 done, 2 a mistake that the user can mend, 130 stopped by Ctrl-C."""
    if not sys.warnoptions and "PYTHONWARNINGS" not in os.environ:
        # Libraries warn about what a user of this command can do nothing about; -W shows it all the same.
        warnings.simplefilter("ignore")
    try:
        app()
    except MatsearchError as err:
        print(f"matsearch: {' '.join(str(err).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        print(f"matsearch: the output could not be written: {err.strerror}", file=sys.stderr)
        # What is still in the buffer cannot be written either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(2) from None
