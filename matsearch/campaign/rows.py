"""Records as rows of the run store, and back."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from matsearch.crystal.identity import structure_hash
from matsearch.crystal.text import from_json, to_json
from matsearch.records import Candidate, Completion, Prompt, Rejection, Relaxed, Score, Stage, Usage, content_hash

if TYPE_CHECKING:
    from pymatgen.core import Structure


def reply_key(prompt: Prompt, identity: dict[str, Any]) -> str:
    """What a reply is stored under: prompt, model, options, sample."""
    schema = [] if prompt.schema is None else [prompt.schema]
    return content_hash([prompt.text_hash, identity, prompt.seed, prompt.sample, *schema])


def reply_row(proposal: int, prompt: Prompt, identity: dict[str, Any], completion: Completion) -> dict[str, Any]:
    """A reply as a row of `replies`."""
    # A lone surrogate can be in a JSON string but not in UTF-8.
    text = completion.text.encode("utf-8", "replace").decode("utf-8")
    return {
        "key": reply_key(prompt, identity),
        "proposal_id": proposal,
        "sample": prompt.sample,
        "prompt_hash": prompt.text_hash,
        "identity": json.dumps(identity, sort_keys=True),
        "seed": prompt.seed,
        "text": text,
        "reply_hash": content_hash(text),
        "finish_reason": completion.finish_reason,
        "model": completion.model,
        "prompt_tokens": completion.usage.prompt_tokens,
        "completion_tokens": completion.usage.completion_tokens,
        "cached_tokens": completion.usage.cached_tokens,
        "reasoning_tokens": completion.usage.reasoning_tokens,
        "seconds": completion.seconds,
    }


def completion_of(row: sqlite3.Row) -> Completion:
    """The reply in a row of `replies`."""
    usage = Usage(row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"], row["reasoning_tokens"])
    return Completion(row["text"], usage, row["finish_reason"], row["model"], row["seconds"])


def candidate_of(row: sqlite3.Row) -> Candidate:
    """The candidate in a row of `candidates` that has a structure."""
    return Candidate(
        id=row["id"],
        structure=from_json(row["structure"]),
        generation=row["generation"],
        operator=row["operator"],
        model=row["model"],
        parents=tuple(json.loads(row["parents"])),
    )


def relaxation_key(structure: Structure, potential: str, protocol: dict[str, Any]) -> str:
    """What a relaxation is stored under."""
    return content_hash([structure_hash(structure), potential, protocol])


def relaxation_row(key: str, result: Relaxed | Rejection, seconds: float) -> dict[str, Any]:
    """A finished relaxation as a row of `relaxations`."""
    if isinstance(result, Rejection):
        return {"key": key, "reason": result.reason, "detail": result.detail, "seconds": seconds}
    structure = to_json(result.structure)
    if result.charges is not None:
        # Beside the atoms that they belong to; `from_json` reads past them.
        structure = json.dumps(json.loads(structure) | {"charges": result.charges}, separators=(",", ":"))
    return {
        "key": key,
        "structure": structure,
        "energy": result.energy,
        "converged": int(result.converged),
        "n_steps": result.n_steps,
        "max_force": result.max_force,
        "max_stress": result.max_stress,
        "seconds": seconds,
    }


def relaxed_of(row: sqlite3.Row, initial: Structure, potential: str) -> Relaxed | Rejection:
    """The relaxation of a structure in a row of `relaxations`."""
    if row["structure"] is None:
        return Rejection(Stage.RELAX, row["reason"], row["detail"] or "")
    charges = json.loads(row["structure"]).get("charges")
    return Relaxed(
        structure=from_json(row["structure"]),
        energy=row["energy"],
        converged=bool(row["converged"]),
        n_steps=row["n_steps"],
        max_force=row["max_force"],
        max_stress=row["max_stress"],
        initial=initial,
        potential=potential,
        charges=None if charges is None else tuple(charges),
    )


def score_row(number: int, name: str, score: Score | Rejection, seconds: float) -> dict[str, Any]:
    """A candidate's score as a row of `scores`."""
    row = {"candidate_id": number, "objective": name, "seconds": seconds}
    if isinstance(score, Rejection):
        return row | {"reason": score.reason, "detail": score.detail}
    return row | {"value": score.value, "unit": score.unit}
