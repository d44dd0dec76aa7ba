"""What a page shows of one candidate at a time: its crystal before and after relaxation, its prompt and its reply.

Most of a report's size is here. It comes in blocks that the page unpacks when one of their candidates is opened; what
does not fit into the page is left out, from the least interesting candidate on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from matsearch.report.packed import pack, pack_crystal
from matsearch.report.wording import plain_text
from matsearch.store import RunStore

BUDGET = 10_000_000
"""Characters of all blocks together: with the libraries and the table, a page stays below 15 MB."""
MAX_TEXT = 20_000
"""Characters of a prompt or reply; `matsearch show` prints all of it."""
PER_BLOCK = 24
"""Proposals in a block."""

REPLY = (
    "model", "identity", "seed", "finish_reason", "prompt_tokens", "completion_tokens", "cached_tokens",
    "reasoning_tokens", "seconds",
)  # fmt: skip


def detail_blocks(store: RunStore, order: Sequence[int], budget: int = BUDGET) -> tuple[list[str], dict[int, int]]:
    """Packed blocks, and which block a candidate is in.

    A block holds `candidates` (id to `proposed` and `relaxed`, see `pack_crystal`, and `reply`, a key), `replies` (key
    to what was sent and what came) and `prompts` (hash to system and user text).

    Args:
        store: The campaign.
        order: Ids of candidates, the most interesting first.
        budget: Characters of all blocks together.
    """
    blocks: list[str] = []
    place: dict[int, int] = {}
    spent = 0
    proposals = _by_proposal(store, order)
    for start in range(0, len(proposals), PER_BLOCK):
        ids = [one for candidates in proposals[start : start + PER_BLOCK] for one in candidates]
        packed = pack(_block(store, ids))
        if spent + len(packed) > budget:
            break
        spent += len(packed)
        place |= dict.fromkeys(ids, len(blocks))
        blocks.append(packed)
    return blocks, place


def _by_proposal(store: RunStore, order: Sequence[int]) -> list[list[int]]:
    """Candidates of one proposal together, since they share its prompt; seeds alone."""
    proposals = {row["id"]: row["proposal_id"] for row in store.rows("SELECT id, proposal_id FROM candidates")}
    groups: dict[Any, list[int]] = {}
    for one in order:
        proposal = proposals[one]
        groups.setdefault(("seed", one) if proposal is None else proposal, []).append(one)
    return list(groups.values())


def _block(store: RunStore, ids: Sequence[int]) -> dict[str, Any]:
    rows = store.rows(
        "SELECT c.id, c.proposal_id, c.sample, c.structure AS proposed, r.structure AS relaxed "
        f"FROM candidates c LEFT JOIN relaxations r ON r.key = c.relaxation_key WHERE c.id IN ({_listed(ids)})"
    )
    proposals = {row["proposal_id"] for row in rows if row["proposal_id"] is not None}
    wanted = {(row["proposal_id"], row["sample"]) for row in rows}
    replies = store.rows(
        "SELECT proposal_id, sample, prompt_hash, p.llm, p.template, p.template_hash, "
        f"{', '.join(REPLY)}, text FROM replies JOIN proposals p ON p.id = proposal_id "
        f"WHERE proposal_id IN ({_listed(proposals)})"
    )
    replies = [row for row in replies if (row["proposal_id"], row["sample"]) in wanted]
    prompts = store.rows(
        "SELECT hash, system, user FROM prompts WHERE hash IN "
        f"(SELECT prompt_hash FROM replies WHERE proposal_id IN ({_listed(proposals)}))"
    )
    return {
        "candidates": {
            row["id"]: {
                "proposed": None if row["proposed"] is None else pack_crystal(row["proposed"]),
                "relaxed": None if row["relaxed"] is None else pack_crystal(row["relaxed"]),
                "reply": None if row["proposal_id"] is None else f"{row['proposal_id']}/{row['sample']}",
            }
            for row in rows
        },
        "replies": {f"{row['proposal_id']}/{row['sample']}": _reply(row) for row in replies},
        "prompts": {
            row["hash"]: [*(plain_text(row[key], MAX_TEXT) for key in ("system", "user")), len(f"{row[1]}{row[2]}")]
            for row in prompts
        },
    }  # fmt: skip


def _reply(row: sqlite3.Row) -> dict[str, Any]:
    """What a reply was, its texts made plain. They are cut here: SQL takes a text to end at its first NUL."""
    found = {name: plain_text(row[name], MAX_TEXT) if isinstance(row[name], str) else row[name] for name in row.keys()}  # noqa: SIM118
    return {**found, "length": len(row["text"])}


def _listed(numbers: Iterable[int]) -> str:
    """For SQL's IN: whole numbers of the store's own, more than it takes question marks."""
    return ", ".join(str(int(number)) for number in numbers)
