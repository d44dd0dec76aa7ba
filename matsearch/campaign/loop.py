"""The campaign's loop: asks, completes, reads, relaxes, scores, tells; every result is committed when it arrives.

One thread coordinates and writes. LLM requests, relaxations (all that wait, in batches) and scores run in threads of
their own, so that none waits for the other. What the engine sees is fixed by the order of the proposals, never by who
is faster: replies are read, candidates numbered and outcomes told in that order. A continued run is the same walk,
with what the store already holds taken from there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from typing import TYPE_CHECKING, Any

from matsearch.campaign.assessment import Assessment
from matsearch.campaign.known import Identity
from matsearch.campaign.ledger import Ledger
from matsearch.campaign.parts import Parts
from matsearch.campaign.progress import Progress
from matsearch.campaign.proposals import Proposals
from matsearch.campaign.requests import Asked, Requests
from matsearch.campaign.rows import candidate_of
from matsearch.crystal.identity import structure_hash
from matsearch.crystal.text import TextError, from_json, to_json
from matsearch.metrics.hypervolume import REFERENCE_POINT, default_reference_point
from matsearch.objectives.cascade import GATE
from matsearch.records import Individual, Outcome, Rejection, Stage
from matsearch.search import Engine
from matsearch.store import RunStore

if TYPE_CHECKING:
    from pymatgen.core import Structure


class Interrupted(Exception):
    """The user asked to stop; everything in flight has been committed."""


class BudgetSpent(Exception):
    """A budget is used up."""


class Loop:
    """Runs one campaign to its end, a budget's end, or an interruption.

    Args:
        store: Open for writing.
        parts: What the campaign connects.
        ledger: Budgets.
        progress: Told what happens.
        stopping: Whether the user asked to stop.
    """

    def __init__(
        self, store: RunStore, parts: Parts, ledger: Ledger, progress: Progress, stopping: Callable[[], bool]
    ) -> None:
        self._store = store
        self._parts = parts
        self._ledger = ledger
        self._progress = progress
        self._stopping = stopping
        self._identity = Identity(parts.reference, parts.also_known)
        self._requests = Requests(store, parts, ledger, progress)
        self._proposals = Proposals(store, parts, ledger)
        self._assessment = Assessment(store, parts, progress)
        self._asked: dict[int, Asked] = {}
        self._next_to_read = 0
        self._next_id = 0
        self._spent: str | None = None

    def run(self) -> str:
        """Run on; returns why it ended: `finished`, or `budget: ...`.

        Raises:
            Interrupted: The user asked to stop.
            MatsearchError: Something that the campaign needs is broken.
        """
        end = "finished"
        try:
            self._evolve(self._start())
        except BudgetSpent as spent:
            end = f"budget: {spent}"
        except KeyboardInterrupt:
            self._close(wait=False)  # a second Ctrl-C: at once
            raise
        except BaseException:
            self._drain()
            raise
        self._drain()
        return end

    # Seeds

    def _start(self) -> Engine:
        """Score the known phases that start the search, and make the engine."""
        if "seeded" not in self._store.meta:
            phases = self._parts.seed_phases()
            with self._store.transaction():
                common = {"parents": "[]", "generation": 0, "operator": "seed", "model": ""}
                self._store.insert(
                    "candidates",
                    [
                        {"id": number, **common, **_structure_columns(phase.structure), "name": phase.id}
                        for number, phase in enumerate(phases)
                    ],
                )
                self._store.insert("meta", [{"key": "seeded", "value": str(len(phases))}])
        seed_rows = self._store.rows("SELECT * FROM candidates WHERE proposal_id IS NULL ORDER BY id")
        self._progress.start("seeds", len(seed_rows))
        for row in seed_rows:
            self._identity.add_proposed(row["id"], candidate_of(row).structure)
            self._assessment.enter(row)
        self._next_id = len(seed_rows)
        seeds, n_gated = [], 0
        for row in seed_rows:
            result = self._result(row["id"])
            if isinstance(result, Individual):
                seeds.append(result)
                self._identity.add_relaxed(row["id"], result.relaxed)
            else:
                n_gated += result.reason.startswith(GATE)
        if n_gated:
            # What breaks a constraint is not worth a dear computation, and without that value it compares with nothing.
            self._progress.say(f"{n_gated} of {len(seed_rows)} known phases break a constraint and start no search")
            if not seeds:
                self._progress.say("none is left to start from: loosen the constraint, or raise search.seeds")
        self._fix_reference_point(seeds)
        config = self._parts.config
        target = config.space.composition if config.task == "predict" else None
        return Engine(config.search, self._parts.goals, seeds, config.seed, target, self._parts.arms)

    def _fix_reference_point(self, seeds: list[Individual]) -> None:
        """State once what hypervolumes of this campaign are measured against, from the seeds that it begins with."""
        if REFERENCE_POINT not in self._store.meta:
            point = default_reference_point(self._parts.goals, [seed.scores for seed in seeds])
            self._store.set_meta(REFERENCE_POINT, json.dumps(point))

    # Proposals

    def _evolve(self, engine: Engine) -> None:
        limit, spent = self._ledger.proposals_allowed(self._parts.config.search)
        self._progress.start("proposals", limit)
        while engine.n_asked < limit:
            self._requests.queue(self._block(engine, limit))
            self._read_ready()
        while engine.n_told < engine.n_asked:
            self._tell(engine)
        if spent is not None:
            raise BudgetSpent(spent)

    def _block(self, engine: Engine, limit: int) -> list[Asked]:
        """Ask for as many proposals as may be asked for once all before the first are told.

        A block is fixed by proposal numbers alone, so batched requests always hold the same prompts.
        """
        first = engine.n_asked
        block: list[Asked] = []
        largest = max(backend.chunk for backend in self._parts.backends)
        while engine.n_asked < limit and engine.horizon(engine.n_asked) <= first and len(block) < largest:
            while engine.n_told < engine.horizon(engine.n_asked):
                self._tell(engine)
            (parents,) = engine.ask()
            self._asked[parents.proposal] = self._proposals.prepare(parents)
            block.append(self._asked[parents.proposal])
        return block

    # Candidates

    def _read_ready(self) -> None:
        """Read the replies of the next proposals in order, as far as they have arrived.

        None is read once the relaxations are spent, so that the last candidate is the same in every run.
        """
        while (asked := self._asked.get(self._next_to_read)) is not None and asked.answered:
            if not self._ledger.allows_relaxation():
                self._spent = self._ledger.spent()
                return
            self._read(asked)
            self._next_to_read += 1

    def _read(self, asked: Asked) -> None:
        """Turn the replies of one proposal into candidate rows, committed together, and put them to work."""
        query = "SELECT * FROM candidates WHERE proposal_id = ? ORDER BY id"
        stored = self._store.rows(query, asked.parents.proposal)
        if stored:
            for row in stored:
                if row["structure"] is not None and row["stage"] not in (Stage.CHECK, Stage.NOVELTY):
                    self._identity.add_proposed(row["id"], candidate_of(row).structure)
        else:
            rows = self._new_rows(asked)
            with self._store.transaction():
                self._store.insert("candidates", rows)
            stored = self._store.rows(query, asked.parents.proposal)
        asked.candidates = [row["id"] for row in stored]
        self._next_id = stored[-1]["id"] + 1
        for row in stored:
            self._enter(row)

    def _new_rows(self, asked: Asked) -> list[dict[str, Any]]:
        parents, search = asked.parents, self._parts.config.search
        rows: list[dict[str, Any]] = []
        for position, prompt in enumerate(asked.prompts):
            for entry in self._parts.proposer.read(prompt, asked.replies[position]):
                row: dict[str, Any] = {
                    "id": self._next_id + len(rows),
                    "proposal_id": parents.proposal,
                    "sample": prompt.sample,
                    "parents": json.dumps(parents.ids),
                    "generation": parents.generation,
                    "operator": parents.operator,
                    "model": self._parts.config.llm[asked.llm].title,
                }
                rejection = entry.rejection
                if entry.structure is not None:
                    row |= _structure_columns(entry.structure)
                    if rejection is None and search.reject_known:
                        hidden = self._parts.config.task == "predict"
                        rejection = self._identity.proposed_before(entry.structure, hidden=hidden)
                    if rejection is None:
                        # At once, so that twins within one reply are seen as such.
                        self._identity.add_proposed(row["id"], entry.structure)
                if rejection is not None:
                    row |= {"stage": rejection.stage, "reason": rejection.reason, "detail": rejection.detail}
                rows.append(row)
        return rows

    def _enter(self, row: sqlite3.Row) -> None:
        """Put a candidate to work, unless its way ended when it was read."""
        if row["stage"] in (Stage.PARSE, Stage.CHECK, Stage.NOVELTY):
            self._assessment.results[row["id"]] = Rejection(Stage(row["stage"]), row["reason"], row["detail"] or "")
        elif self._ledger.allows_relaxation():
            self._ledger.relaxations += 1
            self._assessment.enter(row)
        else:
            # Left waiting: a larger budget goes on from here.
            self._spent = self._ledger.spent()

    # Waiting

    def _pump(self) -> None:
        """Keep everybody busy, wait for the next thing to arrive, and take it in.

        Raises:
            Interrupted: The user asked to stop.
            BudgetSpent: Nothing is under way, and the budgets allow nothing more.
        """
        if self._ledger.out_of_time():
            raise BudgetSpent(self._ledger.spent())
        if self._stopping():
            raise Interrupted
        self._assessment.work()
        pending = [*self._requests.pending, *self._assessment.pending]
        if not pending:
            if (spent := self._spent or self._requests.spent) is None:
                raise RuntimeError("outcomes are waited for, but nothing is under way")
            raise BudgetSpent(spent)
        for future in wait(pending, return_when=FIRST_COMPLETED).done:
            self._take(future)
        self._requests.send()
        self._read_ready()

    def _take(self, future: Future[Any]) -> None:
        if future in self._requests.pending:
            self._requests.take(future)
        else:
            self._assessment.take(future)

    def _drain(self) -> None:
        """Wait for what is in flight and commit it as it comes, so that nothing is lost; then stop the threads."""
        try:
            calls = [one for one in self._requests.pending if not one.cancel()]
            for future in as_completed([*calls, *self._assessment.pending]):
                if future.exception() is None:
                    self._take(future)
        except BaseException:
            self._close(wait=False)  # a second Ctrl-C, or a store that takes no more
            raise
        self._close(wait=True)

    def _close(self, *, wait: bool) -> None:
        self._requests.close(wait=wait)
        self._assessment.close(wait=wait)

    # Outcomes

    def _result(self, candidate_id: int) -> Individual | Rejection:
        """Wait for a candidate to finish."""
        while candidate_id not in self._assessment.results:
            self._pump()
        return self._assessment.results.pop(candidate_id)

    def _tell(self, engine: Engine) -> None:
        """Wait for the oldest proposal's outcomes and tell them, in the order of the candidates."""
        asked = self._asked[engine.n_told]
        while asked.candidates is None:
            self._pump()
        results = [(one, self._result(one)) for one in asked.candidates]
        matches = {one: self._matches(one, result) for one, result in results if isinstance(result, Individual)}
        outcomes = [
            Outcome(one, result, new=self._is_new(matches[one]))
            if isinstance(result, Individual)
            else Outcome(one, result, self._proposed(one))
            for one, result in results
        ]
        statuses = engine.tell(outcomes)
        with self._store.transaction():
            for (one, _), status in zip(results, statuses, strict=True):
                self._store.update_candidate(one, add_status=status, **matches.get(one, {}))
        self._store.set_meta("hours", repr(self._ledger.hours))
        del self._asked[asked.parents.proposal]
        best = engine.members[0] if engine.members else None
        self._progress.told(engine.n_told, asked.parents.generation, outcomes, best)

    def _matches(self, candidate_id: int, found: Individual) -> dict[str, int | str | None]:
        """Columns that say what a relaxed crystal matches; those that come after it are held against it, too."""
        matches = self._identity.matches(found.relaxed)
        self._identity.add_relaxed(candidate_id, found.relaxed)
        return matches

    def _is_new(self, matches: dict[str, int | str | None]) -> bool:
        """Whether the search is told that a crystal is new; it is not told of phases that are hidden from it."""
        known = matches["matched_known"]
        is_told = isinstance(known, str) and not self._identity.is_hidden(known)
        is_told = is_told and self._parts.config.task != "predict"
        return matches["duplicate_of"] is None and not is_told

    def _proposed(self, candidate_id: int) -> Structure | None:
        """A candidate as proposed, as the store has it; None where no crystal could be read."""
        row = self._store.row("SELECT structure FROM candidates WHERE id = ?", candidate_id)
        if row is None or row["structure"] is None:
            return None
        try:
            return from_json(row["structure"])
        except TextError:
            return None  # refused for a reason that no reader lets pass: a flat cell


def _structure_columns(structure: Structure) -> dict[str, Any]:
    columns = {"formula": structure.composition.reduced_formula, "stage": Stage.WAITING}
    try:
        return {**columns, "structure": to_json(structure), "structure_hash": structure_hash(structure)}
    except TextError:
        return columns  # a refused crystal with shared sites: no such text
