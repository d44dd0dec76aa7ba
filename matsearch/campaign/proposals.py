"""Proposals on their way into the store, or out of it: a continued run must ask what it asked before."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from matsearch.campaign.ledger import Ledger
from matsearch.campaign.parts import Parts
from matsearch.campaign.requests import Asked
from matsearch.campaign.rows import completion_of, reply_key
from matsearch.errors import StoreError
from matsearch.records import Parents
from matsearch.store import RunStore


class Proposals:
    """Writes what is asked for before it is asked, and holds it against what was asked when the run was here before.

    Args:
        store: Open for writing.
        parts: What the campaign connects.
        ledger: Counts the replies that are stored already.
    """

    def __init__(self, store: RunStore, parts: Parts, ledger: Ledger) -> None:
        self._store = store
        self._parts = parts
        self._ledger = ledger

    def prepare(self, parents: Parents) -> Asked:
        """The prompts of a proposal, and the replies that are stored already.

        Raises:
            StoreError: It was asked for in another way before.
        """
        config, llm = self._parts.config, parents.llm
        backend = self._parts.backends[llm]
        asked = Asked(parents, llm, self._parts.proposer.prompts(parents, backend.style), {})
        style, _, template = asked.prompts[0].template.partition("/")
        row = {
            "id": parents.proposal,
            "generation": parents.generation,
            "operator": parents.operator,
            "parents": json.dumps(parents.ids),
            "n_children": parents.n_children,
            "llm": llm,
            "template": asked.prompts[0].template,
            "template_hash": self._parts.proposer.template_hash(style, template),
        }
        stored = self._store.row("SELECT * FROM proposals WHERE id = ?", parents.proposal)
        if stored is None:
            with self._store.transaction():
                self._store.insert("proposals", [row])
                prompts = [{"hash": p.text_hash, "system": p.system, "user": p.user} for p in asked.prompts]
                self._store.insert("prompts", prompts, ignore_existing=True)
            return asked
        for key, value in row.items():
            if stored[key] != value:
                if key == "template_hash" and style == "operators" and self._may_differ(stored, row):
                    continue
                if key == "template_hash" and stored["template"] == row["template"]:
                    raise self._another_template(parents.proposal, style, template)
                raise self._diverged(parents.proposal, key, stored[key], value)
        for position, prompt in enumerate(asked.prompts):
            reply = self._store.row(
                "SELECT * FROM replies WHERE proposal_id = ? AND sample = ?", parents.proposal, prompt.sample
            )
            if reply is None:
                continue
            if reply["key"] != (now := reply_key(prompt, backend.identity)):
                raise self._diverged(parents.proposal, "prompt or model", reply["key"], now)
            asked.replies[position] = completion_of(reply)
            self._ledger.add_reply(prompt, asked.replies[position], config.llm[llm].prices)
        return asked

    def _may_differ(self, stored: sqlite3.Row, row: dict[str, Any]) -> bool:
        """Whether it is no matter that an operator's source is another now; it is noted if so.

        What has not answered yet may be mended. Runs of earlier versions say nothing of it.
        """
        if not stored["template_hash"]:
            return True
        if self._store.row("SELECT 1 FROM replies WHERE proposal_id = ?", row["id"]) is not None:
            return False
        with self._store.transaction():
            self._store.update_proposal(row["id"], template_hash=row["template_hash"])
        return True

    def _diverged(self, proposal: int, what: str, stored: Any, now: Any) -> StoreError:
        """A continued run must ask what it asked before: nothing is paid for twice."""
        return StoreError(
            f"proposal {proposal} of {self._store.run_dir} was made with another {what} ({stored!r}, now {now!r}): "
            f"matsearch or its prompts changed since; continue with the versions in resolved.json, or start a new run"
        )

    def _another_template(self, proposal: int, style: str, name: str) -> StoreError:
        """The text of a template changed since; whose text it is says what can be done."""
        if style == "operators":
            return StoreError(
                f"proposal {proposal} of {self._store.run_dir} was made with another text of operator {name}; its file "
                "was changed since: put that back as it was, or start a new run"
            )
        templates = self._parts.proposer.templates
        if own := templates.own_files(style, name):
            mend = f"of its files {', '.join(own)} {'is' if len(own) == 1 else 'are'} yours: put that back as it was"
        elif (folder := self._parts.config.search.prompts) is not None and Path(folder).is_absolute():
            mend = f"none of its files is in your folder {folder} any more: put back what was there"
        else:
            mend = "its text comes with matsearch: continue with the versions in resolved.json"
        return StoreError(
            f"proposal {proposal} of {self._store.run_dir} was made with another text of prompt template "
            f"{style}/{name}; {mend}, or start a new run"
        )
