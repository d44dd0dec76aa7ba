"""`matsearch evaluate`: judge structures from anywhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

if TYPE_CHECKING:
    from matsearch.evaluation import Evaluation, Evaluator

    Place = tuple[Path, int]  # a file, and which of its structures

PIPE_WIDTH = 160
"""Characters a line where the output is no terminal."""
N_NAMED = 5
"""Bad files that are named where none can be read."""


def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES|DIR|CSV",
            help="CIF, POSCAR or extended XYZ files, folders of them, tables (.csv, .parquet) with a column 'cif'.",
        ),
    ],
    judges: Annotated[
        list[str] | None,
        typer.Option(
            "--judge", metavar="NAME", help="Potential that relaxes and weighs, such as chgnet-0.3.0; one or several."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all rows and the summary; - for stdout.")
    ] = None,
    lemat: Annotated[
        Path | None, typer.Option("--lemat", metavar="DIR", help="Write the structures as LeMat-GenBench takes them.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="DIR", help="Known phases made by `matsearch reference build`."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, or auto for a GPU if any.")] = "auto",
) -> None:
    """Judge structures: valid, unique, novel, and with --judge how far above the hull of known phases."""
    from matsearch.evaluation import Evaluator, default_phases, find_judges

    found = find_judges(judges or None, device, reference)
    for judge in found:
        if judge.no_hull is not None:
            _say(f"{judge.name} gives energies, but none above the hull: {judge.no_hull}")
    if not found:
        _say("no energies without a judge; --judge chgnet-0.3.0 relaxes the structures and weighs them by its hull")
    _require_writable(json_file)
    evaluator = Evaluator(found, found[0].phases if found else default_phases(reference))
    places = _read(paths, evaluator, lemat)
    stopped = _relax(evaluator)
    evaluation = evaluator.evaluation()
    if json_file is not None:
        _write(json_file, evaluation, places, stopped)
    _print(evaluation, places, to_stderr=json_file is not None and str(json_file) == "-")
    if stopped:
        raise typer.Exit(130)


def _read(paths: Sequence[Path], evaluator: Evaluator, lemat: Path | None) -> list[Place]:
    """Take in and check all structures; where each comes from."""
    from matsearch.cli.bars import counting
    from matsearch.cli.relax import writing
    from matsearch.crystal.collections import read_collections
    from matsearch.crystal.lemat import LematFolder
    from matsearch.errors import InputError
    from matsearch.records import Rejection

    places: list[Place] = []
    bad: list[str] = []
    try:
        with writing():
            folder = nullcontext() if lemat is None else LematFolder(lemat)
        with counting("read", 0) as counter, folder as export:
            for path, index, one in read_collections(paths):
                counter.expect(1)
                given = evaluator.add(one)
                if isinstance(one, Rejection):
                    bad.append(f"{_where(path, index)}: {one.detail}")
                elif export is not None and given.crystal is not None and given.crystal.can_be_written:
                    with writing():
                        export.write(len(places), given.crystal.structure())
                places.append((path, index))
                counter.count()
    except KeyboardInterrupt:
        _say(f"stopped by Ctrl-C after reading {len(places)} structures; nothing was evaluated")
        raise typer.Exit(130) from None
    if len(bad) == len(places):
        more = f"; and {len(bad) - N_NAMED} more" if len(bad) > N_NAMED else ""
        raise InputError("; ".join(bad[:N_NAMED]) + more)
    if export is not None:
        _say(
            f"{lemat}: {export.n_written} of {len(places)} structures for LeMat-GenBench, as CIFs and as {export.table}"
        )
    return places


def _relax(evaluator: Evaluator) -> bool:
    """Let each judge relax; whether Ctrl-C ended it early."""
    from matsearch.cli.bars import counting

    n_valid = len(evaluator.crystals)
    for hearing in evaluator.hearings:
        try:
            with counting("relax", n_valid) as counter, closing(evaluator.relax(hearing)) as done:
                for _ in done:
                    counter.count()
        except KeyboardInterrupt:
            n_done = len(hearing.findings)
            _say(
                f"stopped by Ctrl-C: {hearing.judge.name} relaxed {n_done} of {n_valid}; the other rows "
                "say so, and rates are at least those shown"
            )
            return True
    return False


def _print(evaluation: Evaluation, places: Sequence[Place], *, to_stderr: bool) -> None:
    from rich.console import Console

    from matsearch.report.evaluated import evaluation_text

    names = [_where(Path(path.name), index) for path, index in places]
    is_terminal = (sys.stderr if to_stderr else sys.stdout).isatty()
    console = Console(stderr=to_stderr, width=None if is_terminal or "COLUMNS" in os.environ else PIPE_WIDTH)
    console.print(evaluation_text(evaluation.table, evaluation.summary, names))


def _require_writable(json_file: Path | None) -> None:
    """Complain before hours of work."""
    from matsearch.cli.relax import writing

    if json_file is not None and str(json_file) != "-":
        with writing(), json_file.open("a", encoding="utf-8"):
            pass


def _write(json_file: Path, evaluation: Evaluation, places: Sequence[Place], stopped: bool) -> None:
    from importlib.metadata import version

    from matsearch.cli.relax import writing

    head = {"matsearch": version("matsearch"), "stopped": stopped, "units": evaluation.table.attrs["units"]}
    with writing(), _stream(json_file) as stream:
        stream.write(json.dumps(head | {"summary": evaluation.summary}, indent=1, allow_nan=False)[:-2])
        stream.write(',\n "structures": [')
        for number, row in enumerate(_rows(evaluation, places)):
            stream.write(",\n" if number else "\n")
            stream.write(json.dumps(row, allow_nan=False))
        stream.write("\n]}\n")
        stream.flush()  # while a failure can still be told


@contextmanager
def _stream(json_file: Path) -> Iterator[TextIO]:
    if str(json_file) == "-":
        yield sys.stdout
    else:
        with json_file.open("w", encoding="utf-8") as stream:
            yield stream


def _rows(evaluation: Evaluation, places: Sequence[Place]) -> Iterator[dict[str, Any]]:
    """Each row as JSON takes it: None for what is missing; with the crystals as relaxed."""
    from matsearch.crystal.text import to_json

    table = evaluation.table.astype(object)
    table = table.where(table.notna(), None)
    judges = [one["name"] for one in evaluation.summary["judges"]]
    for number, ((path, index), row) in enumerate(zip(places, table.to_dict("records"), strict=True)):
        crystals = {judge: evaluation.relaxed(number, judge) for judge in judges}
        relaxed = {judge: None if one is None else json.loads(to_json(one)) for judge, one in crystals.items()}
        yield (
            {"file": str(path), "index": index}
            | {str(name): value for name, value in row.items()}
            | ({"relaxed": relaxed} if judges else {})
        )


def _where(path: Path, index: int) -> str:
    return str(path) + (f"#{index}" if index else "")


def _say(line: str) -> None:
    typer.echo(f"matsearch: {line}", err=True)
