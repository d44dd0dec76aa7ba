"""`matsearch relax`: relax structures from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from matsearch.records import Rejection, Relaxed


def relax(
    files: Annotated[list[Path], typer.Argument(help="CIF, POSCAR or extended XYZ files.")],
    potential: Annotated[str, typer.Option("--potential", help="The potential's name.")] = "chgnet-0.3.0",
    force_tol: Annotated[float, typer.Option("--force-tol", help="Largest force in eV/Å.", min=1e-6)] = 0.05,
    max_steps: Annotated[int, typer.Option("--max-steps", help="Optimiser steps.", min=1)] = 500,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results as JSON.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the relaxed structures as CIF here.")] = None,
) -> None:
    """Relax the structures in files; one line each."""
    from matsearch.crystal.files import read_structures
    from matsearch.errors import InputError
    from matsearch.potential import load_potential
    from matsearch.records import Rejection
    from matsearch.relaxation import relax as relax_structures

    loaded = load_potential(potential)
    read = [(path, index, one) for path in files for index, one in enumerate(read_structures(path))]
    structures = [one for _, _, one in read if not isinstance(one, Rejection)]
    if not structures:
        raise InputError("; ".join(f"{path}: {one.detail}" for path, _, one in read if isinstance(one, Rejection)))
    relaxed = iter(relax_structures(structures, loaded, force_tol, max_steps))
    results = [(path, index, one if isinstance(one, Rejection) else next(relaxed)) for path, index, one in read]
    rows = [_row(path, index, result) for path, index, result in results]
    for row in rows:
        typer.echo(_line(row))
    try:
        if out is not None:
            _write_cifs(out, results)
        if json_file is not None:
            json_file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    except OSError as err:
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
        "potential": result.potential,
        "structure": result.structure.as_dict(),
    }


def _line(row: dict[str, Any]) -> str:
    where = row["file"] + (f"#{row['index']}" if row["index"] else "")
    if "reason" in row:
        return f"{where}: rejected, {row['reason']}: {row['detail']}"
    state = "converged" if row["converged"] else "NOT converged (atoms or cell)"
    return (
        f"{where}: {row['formula']} {row['energy_per_atom_ev']:.4f} eV/atom, "
        f"{state} in {row['n_steps']} steps, largest force on an atom {row['max_force_ev_per_a']:.3f} eV/Å"
    )


def _write_cifs(folder: Path, results: list[tuple[Path, int, Relaxed | Rejection]]) -> None:
    from matsearch.crystal.text import to_cif
    from matsearch.records import Rejection

    folder.mkdir(parents=True, exist_ok=True)
    for number, (path, index, result) in enumerate(results):
        if not isinstance(result, Rejection):
            # Numbered, since files of one name can come from several folders.
            name = f"{number:04d}_{path.stem}{f'_{index}' if index else ''}.cif"
            (folder / name).write_text(to_cif(result.structure), encoding="utf-8")
