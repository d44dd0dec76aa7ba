"""`matsearch show`: one candidate's prompt, reply, parse and fate."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from matsearch.store import RunStore

# What others wrote must not steer the terminal: its control characters (C0, DEL, C1) are written out, as \x1b.
VISIBLE = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


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
        lines = [*_origin(store, row), *_request(store, row), *_crystals(store, row), *_fate(store, row)]
    typer.echo("\n".join(lines).translate(VISIBLE))


def _origin(store: RunStore, row: sqlite3.Row) -> Iterator[str]:
    yield f"candidate {row['id']}: {row['formula'] or 'no crystal'}"
    parents = json.loads(row["parents"])
    formulas = {
        one["id"]: one["formula"]
        for one in store.rows("SELECT id, formula FROM candidates WHERE id <= ?", max(parents, default=-1))
    }
    named = ", ".join(f"{parent} ({formulas.get(parent) or 'no crystal'})" for parent in parents) or "none"
    yield f"generation {row['generation']}, operator {row['operator']}, parents {named}"
    if row["name"]:
        yield f"a known phase: {row['name']}"


def _request(store: RunStore, row: sqlite3.Row) -> Iterator[str]:
    """What the LLM was asked, and what it answered."""
    proposal = store.row("SELECT * FROM proposals WHERE id = ?", row["proposal_id"])
    reply = store.row(
        "SELECT * FROM replies JOIN prompts ON prompts.hash = replies.prompt_hash WHERE proposal_id = ? AND sample = ?",
        row["proposal_id"],
        row["sample"],
    )
    if proposal is None or reply is None:
        return
    llm = store.config["llm"][proposal["llm"]]
    yield ""
    yield f"proposal {proposal['id']}, sample {row['sample']}"
    yield f"template {proposal['template']}, version {proposal['template_hash']}, prompt {reply['prompt_hash']}"
    yield (
        f"model {reply['model'] or row['model']} ({llm['backend']}), seed {reply['seed']}, "
        f"finish {reply['finish_reason']}, {reply['seconds']:.1f} s"
    )
    yield _tokens(reply, llm)
    yield from _block("prompt", f"{reply['system']}\n\n{reply['user']}".strip())
    yield from _block("reply", reply["text"])


def _tokens(reply: sqlite3.Row, llm: dict[str, object]) -> str:
    """Tokens and money of a whole reply, which may hold several candidates."""
    from matsearch.llm.prices import Prices, with_estimates
    from matsearch.records import Usage

    kinds = ("prompt", "completion", "cached", "reasoning")
    counts = {kind: reply[f"{kind}_tokens"] for kind in kinds}
    known = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count is not None)
    line = f"tokens {known}" if known else "tokens not counted"
    if llm.get("prices") is None:
        return line
    n_read, n_written = len(reply["system"]) + len(reply["user"]), len(reply["text"])
    usage = with_estimates(Usage(*counts.values()), n_read, n_written)
    return f"{line}; {Prices.model_validate(llm['prices']).cost(usage):.6f} USD"


def _crystals(store: RunStore, row: sqlite3.Row) -> Iterator[str]:
    """The candidate as it was read, and as relaxed."""
    from matsearch.crystal.text import from_json, to_poscar

    if row["structure"]:
        yield from _block("as proposed", to_poscar(from_json(row["structure"])))
    relaxation = store.row("SELECT * FROM relaxations WHERE key = ?", row["relaxation_key"])
    if relaxation is None:
        return
    if not relaxation["structure"]:
        yield f"not relaxed, {relaxation['reason']}: {relaxation['detail']} ({relaxation['seconds']:.1f} s)"
        return
    relaxed = from_json(relaxation["structure"])
    yield from _block("as relaxed", to_poscar(relaxed))
    if charges := json.loads(relaxation["structure"]).get("charges"):
        yield from _block("charges of its atoms, in e", " ".join(f"{charge:+.3f}" for charge in charges))
    end = "converged" if relaxation["converged"] else "not converged"
    yield (
        f"{end} after {relaxation['n_steps']} steps, {relaxation['seconds']:.1f} s; {relaxation['energy']:.4f} eV, "
        f"{relaxation['energy'] / len(relaxed):.4f} eV/atom; largest force {relaxation['max_force']:.4f} eV/Å"
    )


def _fate(store: RunStore, row: sqlite3.Row) -> Iterator[str]:
    for score in store.rows("SELECT * FROM scores WHERE candidate_id = ?", row["id"]):
        value = f"rejected, {score['reason']}" if score["value"] is None else f"{score['value']:.6g} {score['unit']}"
        yield f"{score['objective']}: {value}"
    if row["duplicate_of"] is not None:
        yield f"relaxed, it matches candidate {row['duplicate_of']}"
    if row["matched_known"]:
        yield f"relaxed, it matches the known phase {row['matched_known']}"
    fate = f"{row['stage']}" + (f", {row['reason']}: {row['detail']}" if row["reason"] else "")
    if row["detail"] and not row["reason"]:
        fate += f": {row['detail']}"
    yield f"fate: {fate}" + (f" ({row['add_status']})" if row["add_status"] else "")


def _block(title: str, text: str) -> Iterator[str]:
    yield f"\n{title}:"
    yield from (f"  {line}" for line in text.splitlines())
