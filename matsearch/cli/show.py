"""`matsearch show`: one candidate's prompt, reply, parse and fate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def show(
    run_dir: Annotated[Path, typer.Argument(help="The run folder.")],
    candidate_id: Annotated[int, typer.Argument(metavar="ID", help="The candidate's id.")],
) -> None:
    """Print where a candidate came from and what became of it."""
    from matsearch.errors import InputError
    from matsearch.store import RunStore

    with RunStore(run_dir, writable=False) as store:
        ids = store.row("SELECT max(id) AS last FROM candidates")
        last = -1 if ids is None or ids["last"] is None else ids["last"]
        # SQLite takes no integer above 64 bits, so a number out of range is not asked for.
        row = store.row("SELECT * FROM candidates WHERE id = ?", candidate_id) if 0 <= candidate_id <= last else None
        if row is None:
            known = "it has none yet" if last < 0 else f"its ids go from 0 to {last}"
            raise InputError(f"no candidate {candidate_id} in {run_dir}; {known}")
        reply = store.row(
            "SELECT * FROM replies JOIN prompts ON prompts.hash = replies.prompt_hash "
            "WHERE proposal_id = ? AND sample = ?",
            row["proposal_id"],
            row["sample"],
        )
        relaxation = store.row("SELECT * FROM relaxations WHERE key = ?", row["relaxation_key"])
        scores = store.rows("SELECT * FROM scores WHERE candidate_id = ?", candidate_id)
    typer.echo(f"candidate {candidate_id}: {row['formula'] or 'no crystal'}")
    parents = ", ".join(map(str, json.loads(row["parents"]))) or "none"
    typer.echo(f"generation {row['generation']}, operator {row['operator']}, parents {parents}")
    if row["name"]:
        typer.echo(f"a known phase: {row['name']}")
    if reply is not None:
        typer.echo(f"\nmodel {reply['model'] or row['model']}, seed {reply['seed']}, finish {reply['finish_reason']}")
        _block("prompt", f"{reply['system']}\n\n{reply['user']}".strip())
        _block("reply", reply["text"])
    if row["structure"]:
        from matsearch.crystal.text import from_json, to_poscar

        _block("as proposed", to_poscar(from_json(row["structure"])))
        if relaxation is not None and relaxation["structure"]:
            _block("as relaxed", to_poscar(from_json(relaxation["structure"])))
            typer.echo(f"{relaxation['n_steps']} steps, {relaxation['energy']:.4f} eV, {relaxation['seconds']:.1f} s")
    for score in scores:
        value = f"rejected, {score['reason']}" if score["value"] is None else f"{score['value']:.6g} {score['unit']}"
        typer.echo(f"{score['objective']}: {value}")
    if row["matched_known"]:
        typer.echo(f"relaxed, it matches the known phase {row['matched_known']}")
    fate = f"{row['stage']}" + (f", {row['reason']}: {row['detail']}" if row["reason"] else "")
    typer.echo(f"fate: {fate}" + (f" ({row['add_status']})" if row["add_status"] else ""))


def _block(title: str, text: str) -> None:
    typer.echo(f"\n{title}:")
    typer.echo("\n".join(f"  {line}" for line in text.splitlines()))
