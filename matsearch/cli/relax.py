"""`matsearch relax`: relax structures from files."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.cli.bars import Counter
    from matsearch.potential import Potential
    from matsearch.records import Rejection, Relaxed

    Place = tuple[Path, int]  # a file, and which of its structures
    Outcome = tuple[Path, int, Relaxed | Rejection]

WRITTEN_TOGETHER = 64
"""Relaxed structures whose moments are predicted in one call."""


def relax(
    files: Annotated[list[Path], typer.Argument(help="CIF, POSCAR or extended XYZ files.")],
    potential: Annotated[str, typer.Option("--potential", help="The potential's name.")] = "chgnet-0.3.0",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, or auto for a GPU if any.")] = "auto",
    force_tol: Annotated[float, typer.Option("--force-tol", help="Largest force in eV/Å.", min=1e-6)] = 0.05,
    stress_tol: Annotated[
        float | None,
        typer.Option("--stress-tol", help="Largest stress left in eV/Å^3, instead of --force-tol on the cell."),
    ] = None,
    max_steps: Annotated[int, typer.Option("--max-steps", help="Optimiser steps.", min=1)] = 500,
    optimizer: Annotated[Literal["fire", "lbfgs"], typer.Option("--optimizer", help="Makes the steps.")] = "fire",
    cell: Annotated[
        Literal["free", "fixed", "fixed_volume"], typer.Option("--cell", help="What the cell may do.")
    ] = "free",
    fix_symmetry: Annotated[bool, typer.Option("--fix-symmetry", help="Keep the space group of the file.")] = False,
    pressure_gpa: Annotated[float, typer.Option("--pressure-gpa", help="External pressure in GPa.")] = 0.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results as JSON; - for stdout.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the relaxed structures as CIF here.")] = None,
) -> None:
    """Relax the structures in files; one line each, in their order."""
    from matsearch.cli.bars import counting
    from matsearch.errors import ConfigError, InputError
    from matsearch.potential import load_potential
    from matsearch.records import Rejection
    from matsearch.relaxation import make_plan, relax_iter

    try:
        plan = make_plan(
            force_tol,
            max_steps,
            stress_tol=stress_tol,
            cell=cell,
            optimizer=optimizer,
            fix_symmetry=fix_symmetry,
            pressure_gpa=pressure_gpa,
        )
    except ValueError as err:
        raise ConfigError(str(err)) from err
    loaded = load_potential(potential, device)
    with counting("relax", len(files)) as counter, _Results(loaded, json_file, out) as results:
        queue = _Queue(files, results, counter)
        for index, result in relax_iter(queue, loaded, plan):
            queue.answer(index, result)
        results.write()
    if not results.n_readable:
        bad = [
            f"{_where(str(path), index)}: {one.detail}"
            for path, index, one in results.held
            if isinstance(one, Rejection)
        ]
        raise InputError("; ".join(bad) or "there is no structure in any of the files")


class _Queue:
    """The structures of files, read while there is room for them; what becomes of them is put back in their order."""

    def __init__(self, files: Sequence[Path], results: _Results, counter: Counter) -> None:
        self._files = files
        self._results = results
        self._counter = counter
        self._places: list[Place] = []
        self._numbers: list[int] = []  # the place of each structure
        self._outcomes: dict[int, Relaxed | Rejection] = {}  # by place, of those that wait for an earlier one
        self._next = 0

    def __iter__(self) -> Iterator[Structure]:
        from matsearch.crystal.files import read_structures
        from matsearch.records import Rejection

        for path in self._files:
            found = read_structures(path)
            self._counter.expect(len(found) - 1)
            for index, one in enumerate(found):
                self._places.append((path, index))
                if isinstance(one, Rejection):
                    self._settle(len(self._places) - 1, one)
                else:
                    self._numbers.append(len(self._places) - 1)
                    yield one

    def answer(self, index: int, result: Relaxed | Rejection) -> None:
        """What became of a structure that was read."""
        self._results.n_readable += 1
        self._settle(self._numbers[index], result)

    def _settle(self, place: int, outcome: Relaxed | Rejection) -> None:
        self._outcomes[place] = outcome
        self._counter.count()
        while self._next in self._outcomes:
            path, index = self._places[self._next]
            self._results.add(path, index, self._outcomes.pop(self._next))
            self._next += 1


class _Results:
    """Lines, JSON and CIFs, written as results come. Where stdout is for the JSON, lines go to stderr.

    Attributes:
        n_readable: Structures that could be read.
        held: Outcomes that are not yet written: the latest, and all while nothing could be read.
    """

    def __init__(self, potential: Potential, json_file: Path | None, folder: Path | None) -> None:
        self.n_readable = 0
        self.held: list[Outcome] = []
        self._potential = potential
        self._json_file = json_file
        self._json_to_stdout = json_file is not None and str(json_file) == "-"
        self._folder = folder
        self._stream: TextIO | None = None
        self._n_written = 0

    def __enter__(self) -> _Results:
        with writing():
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
            if self._json_file is not None:
                self._stream = sys.stdout if self._json_to_stdout else self._json_file.open("w", encoding="utf-8")
                self._stream.write("[")
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            with writing(), nullcontext() if self._json_to_stdout else self._stream:
                self._stream.write("\n]\n")  # of an interrupted run, too: what there is can be read
                self._stream.flush()  # while a failure can still be told

    def add(self, path: Path, index: int, result: Relaxed | Rejection) -> None:
        """Take the next outcome in."""
        self.held.append((path, index, result))
        if self.n_readable and len(self.held) >= WRITTEN_TOGETHER:
            self.write()

    def write(self) -> None:
        """Write what is held."""
        if not self.n_readable:
            return
        held, self.held = self.held, []
        for (path, index, result), row in zip(held, self._rows(held), strict=True):
            typer.echo(_line(row), err=self._json_to_stdout)
            with writing():
                if self._stream is not None:
                    self._stream.write((",\n" if self._n_written else "\n") + json.dumps(row, indent=1))
                if self._folder is not None:
                    self._write_cif(self._folder, path, index, result)
            self._n_written += 1

    def _rows(self, held: Sequence[Outcome]) -> list[dict[str, Any]]:
        from matsearch.records import Rejection

        relaxed = [one.structure for _, _, one in held if not isinstance(one, Rejection)]
        predictions = iter(self._potential.predict(relaxed) if self._stream is not None else ())
        rows = []
        for path, index, one in held:
            row = _row(path, index, one)
            if self._stream is not None and not isinstance(one, Rejection):
                told = next(predictions)
                for name, values in (("magmoms_mu_b", told.magmoms), ("charges_e", told.charges)):
                    row[name] = None if values is None else [float(value) for value in values]
            rows.append(row)
        return rows

    def _write_cif(self, folder: Path, path: Path, index: int, result: Relaxed | Rejection) -> None:
        from matsearch.crystal.text import to_cif
        from matsearch.records import Rejection

        if not isinstance(result, Rejection):
            # Numbered, since files of one name can come from several folders.
            name = f"{self._n_written:04d}_{path.stem}{f'_{index}' if index else ''}.cif"
            (folder / name).write_text(to_cif(result.structure), encoding="utf-8")


@contextmanager
def writing() -> Iterator[None]:
    """Where results cannot be written is the user's to mend; the entry point tells of a full disk or a reader gone."""
    from matsearch.errors import InputError

    try:
        yield
    except OSError as err:
        if err.errno in (errno.ENOSPC, errno.EPIPE):
            raise  # the entry point says so and drops what stdout still has in its buffer
        raise InputError(f"cannot write the results: {err}") from err


def _row(path: Path, index: int, result: Relaxed | Rejection) -> dict[str, Any]:
    from matsearch.records import Rejection

    row: dict[str, Any] = {"file": str(path), "index": index}
    if isinstance(result, Rejection):
        return row | {"stage": result.stage, "reason": result.reason, "detail": result.detail}
    return row | {
        "formula": result.structure.composition.reduced_formula,
        "energy_ev": result.energy,
        "energy_per_atom_ev": result.energy_per_atom,
        "converged": result.converged,
        "n_steps": result.n_steps,
        "max_force_ev_per_a": result.max_force,
        "max_stress_ev_per_a3": result.max_stress,
        "potential": result.potential,
        "structure": result.structure.as_dict(),
    }


def _where(file: str, index: int) -> str:
    return file + (f"#{index}" if index else "")


def _line(row: dict[str, Any]) -> str:
    where = _where(row["file"], row["index"])
    if "reason" in row:
        return f"{where}: rejected, {row['reason']}: {row['detail']}"
    state = "converged" if row["converged"] else "NOT converged (atoms or cell)"
    return (
        f"{where}: {row['formula']} {row['energy_per_atom_ev']:.4f} eV/atom, "
        f"{state} in {row['n_steps']} steps, largest force on an atom {row['max_force_ev_per_a']:.3f} eV/Å"
    )
