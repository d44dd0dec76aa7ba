"""The campaign's loop: asks, completes, reads, relaxes, scores, tells; every result is committed when it arrives.

One thread coordinates and writes. LLM requests run in threads of their own, relaxations and scores in one more, so
neither waits for the other. What the engine sees is fixed by the order of the proposals, never by who is faster:
replies are read, candidates numbered and outcomes told in that order. A continued run is the same walk, with what
the store already holds taken from there.
"""

from __future__ import annotations

import heapq
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from matsearch.campaign.known import Identity
from matsearch.campaign.ledger import Ledger
from matsearch.campaign.parts import HULL, Parts
from matsearch.campaign.progress import Progress
from matsearch.campaign.rows import candidate_of, completion_of, relaxation_row, relaxed_of, reply_key, reply_row
from matsearch.crystal.identity import structure_hash
from matsearch.crystal.text import to_json
from matsearch.errors import StoreError
from matsearch.objectives.base import evaluate_objective
from matsearch.propose.templates import templates_hash
from matsearch.records import (
    Candidate,
    Completion,
    Individual,
    Outcome,
    Parents,
    Prompt,
    Rejection,
    Relaxed,
    Score,
    Stage,
    content_hash,
)
from matsearch.relaxation.relaxer import relax
from matsearch.search import Engine
from matsearch.store import RunStore


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """The user asked to stop; everything in flight has been committed."""


class BudgetSpent(Exception):  # noqa: N818 - not an error either
    """A budget is used up."""


@dataclass
class Asked:
    """A proposal between ask and tell."""

    parents: Parents
    llm: int
    prompts: list[Prompt]
    replies: dict[int, Completion]  # by position in prompts
    candidates: list[int] | None = None  # ids, once the replies are read

    @property
    def answered(self) -> bool:
        return len(self.replies) == len(self.prompts)


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
        self._identity = Identity(parts.reference)
        self._asked: dict[int, Asked] = {}
        self._results: dict[int, Individual | Rejection] = {}  # final, not yet told
        self._relaxed: dict[int, Relaxed] = {}
        self._keys: dict[int, str] = {}
        self._candidates: dict[int, Candidate] = {}  # in work
        self._work: list[int] = []  # heap of candidate ids that wait for the worker
        self._busy: Future[Any] | None = None
        self._arrive: dict[Future[Any], Callable[[Any], None]] = {}
        self._queues: list[deque[list[tuple[int, int]]]] = [deque() for _ in parts.backends]
        self._in_flight = [0] * len(parts.backends)
        self._spent: str | None = None
        self._next_to_read = 0
        self._next_id = 0
        self._llm_pools = [ThreadPoolExecutor(backend.concurrency, f"llm-{i}") for i, backend in enumerate(parts.backends)]
        self._worker = ThreadPoolExecutor(1, "relax")

    def run(self) -> str:
        """Run on; returns why it ended: `finished`, or `budget: ...`.

        Raises:
            Interrupted: The user asked to stop.
            MatsearchError: Something that the campaign needs is broken.
        """
        try:
            engine = self._start()
            self._evolve(engine)
        except BudgetSpent as spent:
            return f"budget: {spent}"
        finally:
            self._drain()
        return "finished"

    # Seeds

    def _start(self) -> Engine:
        """Score the known phases that start the search, and make the engine."""
        rows = self._store.rows("SELECT * FROM candidates WHERE proposal_id IS NULL ORDER BY id")
        if not rows and self._store.row("SELECT 1 FROM meta WHERE key = 'seeded'") is None:
            phases = self._parts.seed_phases()
            with self._store.transaction():
                for number, phase in enumerate(phases):
                    candidate = Candidate(number, phase.structure, 0, "seed")
                    self._store.insert("candidates", [{**self._candidate_row(candidate), "name": phase.id}])
                self._store.insert("meta", [{"key": "seeded", "value": str(len(phases))}])
            rows = self._store.rows("SELECT * FROM candidates WHERE proposal_id IS NULL ORDER BY id")
        ids = [row["id"] for row in rows]
        self._progress.start("seeds", len(ids))
        for row in rows:
            self._identity.add_proposed(row["id"], candidate_of(row).structure)
            self._enter(row)
        self._next_id = len(ids)
        while any(seed not in self._results for seed in ids):
            self._pump()
        seeds = []
        for seed in ids:
            result = self._results.pop(seed)
            if isinstance(result, Individual):
                seeds.append(result)
                self._identity.add_relaxed(seed, result.relaxed)
        return Engine(self._parts.config.search, self._parts.goals, seeds, self._parts.config.seed)

    # Proposals

    def _evolve(self, engine: Engine) -> None:
        limit, spent = self._ledger.proposals_allowed(self._parts.config.search)
        self._progress.start("proposals", limit)
        while engine.n_asked < limit:
            self._request(self._block(engine, limit))
            self._read_ready()
        while engine.n_told < engine.n_asked:
            self._tell(engine)
        if spent is not None:
            raise BudgetSpent(spent)

    def _block(self, engine: Engine, limit: int) -> list[int]:
        """Ask for as many proposals as may be asked for once all before the first are told.

        A block is fixed by proposal numbers alone, so batched requests always hold the same prompts.
        """
        first, block = engine.n_asked, []
        largest = max(backend.chunk for backend in self._parts.backends)
        while engine.n_asked < limit and engine.horizon(engine.n_asked) <= first and len(block) < largest:
            while engine.n_told < engine.horizon(engine.n_asked):
                self._tell(engine)
            (parents,) = engine.ask()
            self._asked[parents.proposal] = self._prepare(parents)
            block.append(parents.proposal)
        return block

    def _prepare(self, parents: Parents) -> Asked:
        """The prompts of a proposal, and the replies that are stored already."""
        import random

        config = self._parts.config
        rng = random.Random(f"{config.seed}/llm/{parents.proposal}")
        (llm,) = rng.choices(range(len(config.llm)), weights=[setting.weight for setting in config.llm])
        backend = self._parts.backends[llm]
        asked = Asked(parents, llm, self._parts.proposer.prompts(parents, backend.style), {})
        row = {
            "id": parents.proposal,
            "generation": parents.generation,
            "operator": parents.operator,
            "parents": json.dumps([member.candidate.id for member in parents.members]),
            "n_children": parents.n_children,
            "llm": llm,
            "template": f"{backend.style}/{parents.operator}",
            "template_hash": templates_hash(backend.style),
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
                raise self._diverged(parents.proposal, key, stored[key], value)
        for position, prompt in enumerate(asked.prompts):
            reply = self._store.row(
                "SELECT * FROM replies WHERE proposal_id = ? AND sample = ?", parents.proposal, prompt.sample
            )
            if reply is None:
                continue
            if reply["key"] != (key := reply_key(prompt, backend.identity)):
                raise self._diverged(parents.proposal, "prompt or model", reply["key"], key)
            asked.replies[position] = completion_of(reply)
            self._ledger.add_reply(asked.replies[position].usage, config.llm[llm].prices)
        return asked

    def _diverged(self, proposal: int, what: str, stored: Any, now: Any) -> StoreError:
        """A continued run must ask what it asked before: nothing is paid for twice."""
        return StoreError(
            f"proposal {proposal} of {self._store.run_dir} was made with another {what} ({stored!r}, now {now!r}): "
            f"matsearch or its prompts changed since; continue with the versions in resolved.json, or start a new run"
        )

    def _request(self, block: Sequence[int]) -> None:
        """Queue the block's prompts, in chunks that are always the same; stored replies are not asked for again."""
        for llm, backend in enumerate(self._parts.backends):
            wanted = [
                (number, position)
                for number in block
                if self._asked[number].llm == llm
                for position in range(len(self._asked[number].prompts))
            ]
            for start in range(0, len(wanted), backend.chunk):
                chunk = wanted[start : start + backend.chunk]
                # The replies of one call are committed together, so a chunk is stored as a whole or not at all.
                if any(position not in self._asked[number].replies for number, position in chunk):
                    self._queues[llm].append(chunk)
        self._send()

    def _send(self) -> None:
        """Send queued chunks, no more at a time than each backend takes, as long as the budgets allow."""
        for llm, (backend, queue) in enumerate(zip(self._parts.backends, self._queues, strict=True)):
            while queue and self._in_flight[llm] < backend.concurrency:
                if (spent := self._ledger.spent()) is not None:
                    self._spent = spent
                    return
                chunk = queue.popleft()
                prompts = [self._asked[number].prompts[position] for number, position in chunk]
                future = self._llm_pools[llm].submit(backend.complete, prompts)
                self._in_flight[llm] += 1
                self._arrive[future] = self._storing(chunk, llm)

    def _storing(self, chunk: list[tuple[int, int]], llm: int) -> Callable[[list[Completion]], None]:
        identity = self._parts.backends[llm].identity

        def store(completions: list[Completion]) -> None:
            rows = [
                reply_row(number, self._asked[number].prompts[position], identity, completion)
                for (number, position), completion in zip(chunk, completions, strict=True)
            ]
            with self._store.transaction():
                self._store.insert("replies", rows)
            for (number, position), completion in zip(chunk, completions, strict=True):
                self._asked[number].replies[position] = completion
                self._ledger.add_reply(completion.usage, self._parts.config.llm[llm].prices)
            self._in_flight[llm] -= 1
            self._progress.count("replies", len(rows))

        return store

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
        """Turn the replies of one proposal into candidate rows; committed together."""
        number = asked.parents.proposal
        stored = self._store.rows("SELECT * FROM candidates WHERE proposal_id = ? ORDER BY id", number)
        if not stored:
            rows = self._new_rows(asked)
            with self._store.transaction():
                self._store.insert("candidates", rows)
            stored = self._store.rows("SELECT * FROM candidates WHERE proposal_id = ? ORDER BY id", number)
        else:
            for row in stored:
                if row["structure"] is not None and row["stage"] != Stage.NOVELTY:
                    self._identity.add_proposed(row["id"], candidate_of(row).structure)
        asked.candidates = [row["id"] for row in stored]
        self._next_id = stored[-1]["id"] + 1
        for row in stored:
            self._enter(row)

    def _new_rows(self, asked: Asked) -> list[dict[str, Any]]:
        parents, proposer = asked.parents, self._parts.proposer
        model = self._parts.config.llm[asked.llm].model
        rows: list[dict[str, Any]] = []
        for position, prompt in enumerate(asked.prompts):
            for result in proposer.read(prompt, asked.replies[position]):
                common = {
                    "id": self._next_id + len(rows),
                    "proposal_id": parents.proposal,
                    "sample": prompt.sample,
                    "parents": json.dumps([member.candidate.id for member in parents.members]),
                    "generation": parents.generation,
                    "operator": parents.operator,
                    "model": model,
                }
                if isinstance(result, Rejection):
                    rows.append({**common, "stage": result.stage, "reason": result.reason, "detail": result.detail})
                    continue
                row = {
                    **common,
                    "formula": result.composition.reduced_formula,
                    "structure": to_json(result),
                    "structure_hash": structure_hash(result),
                    "stage": Stage.WAITING,
                }
                if self._parts.config.search.reject_known:
                    known = self._identity.proposed_before(result, hidden=self._parts.config.task == "predict")
                    if known is not None:
                        row |= {"stage": known.stage, "reason": known.reason, "detail": known.detail}
                if row["stage"] == Stage.WAITING:
                    # At once, so that twins within one reply are seen as such.
                    self._identity.add_proposed(row["id"], result)
                rows.append(row)
        return rows

    def _candidate_row(self, candidate: Candidate) -> dict[str, Any]:
        return {
            "id": candidate.id,
            "parents": json.dumps(list(candidate.parents)),
            "generation": candidate.generation,
            "operator": candidate.operator,
            "model": candidate.model,
            "formula": candidate.structure.composition.reduced_formula,
            "structure": to_json(candidate.structure),
            "structure_hash": structure_hash(candidate.structure),
            "stage": Stage.WAITING,
        }

    def _enter(self, row: Any) -> None:
        """Put a candidate to work, or take its result from the store."""
        number = row["id"]
        if row["structure"] is None or row["stage"] in (Stage.PARSE, Stage.CHECK, Stage.NOVELTY):
            self._results[number] = Rejection(Stage(row["stage"]), row["reason"], row["detail"] or "")
            return
        if row["proposal_id"] is not None:
            if not self._ledger.allows_relaxation():
                # Left waiting: a larger budget goes on from here.
                self._spent = self._ledger.spent()
                return
            self._ledger.relaxations += 1
        self._candidates[number] = candidate_of(row)
        heapq.heappush(self._work, number)

    def _pump(self) -> None:
        """Keep the worker busy, wait for the next thing to arrive, and take it in.

        Raises:
            Interrupted: The user asked to stop.
            BudgetSpent: Nothing is under way, and the budgets allow nothing more.
        """
        while self._work and not self._busy:
            if self._stopping():
                raise Interrupted
            self._step(self._work[0])
        if not self._arrive:
            if self._spent is not None:
                raise BudgetSpent(self._spent)
            return
        if self._stopping():
            raise Interrupted
        done, _ = wait(self._arrive, return_when=FIRST_COMPLETED)
        for future in done:
            self._take(future)
        self._send()
        self._read_ready()

    def _take(self, future: Future[Any]) -> None:
        arrive = self._arrive.pop(future)
        if future is self._busy:
            self._busy = None
        arrive(future.result())

    def _step(self, number: int) -> None:
        """Do the next thing for a candidate: relax it, score one objective, or finish it."""
        candidate = self._candidates[number]
        if number not in self._relaxed:
            key = content_hash([structure_hash(candidate.structure), self._parts.potential.name, self._parts.protocol])
            row = self._store.row("SELECT * FROM relaxations WHERE key = ?", key)
            if row is None:
                self._submit(self._relax, candidate, lambda result: self._relaxation_arrived(number, key, *result))
                return
            self._take_relaxation(number, key, relaxed_of(row, candidate, self._parts.potential.name))
            return
        scores = self._scores(number)
        relaxed = self._relaxed[number]
        for objective in self._parts.objectives:
            score = scores.get(objective.name)
            if score is None:
                self._submit(
                    lambda one, objective=objective: _timed(lambda: evaluate_objective(objective, [one])[0]),
                    relaxed,
                    lambda result, name=objective.name: self._score_arrived(number, name, *result),
                )
                return
            rejection = self._refused(score)
            if rejection is not None:
                self._finish(number, rejection)
                return
        self._finish(number, self._individual(number, {name: row["value"] for name, row in scores.items()}))

    def _scores(self, number: int) -> dict[str, Any]:
        rows = self._store.rows("SELECT * FROM scores WHERE candidate_id = ?", number)
        return {row["objective"]: row for row in rows}

    def _refused(self, score: Any) -> Rejection | None:
        """Why a score ends a candidate's way: it has no value, or one too good to be true."""
        if score["value"] is None:
            return Rejection(Stage.SCORE, score["reason"], score["detail"] or "")
        floor = self._parts.config.search.energy_floor
        if score["objective"] == HULL and floor is not None and score["value"] < floor:
            detail = f"{score['value']:.3f} eV/atom, below the floor of {floor}: more likely an error of the potential"
            return Rejection(Stage.SCORE, "quarantined", detail)
        return None

    def _submit(self, work: Callable[[Any], Any], argument: Any, arrive: Callable[[Any], None]) -> None:
        self._busy = self._worker.submit(work, argument)
        self._arrive[self._busy] = arrive

    def _relax(self, candidate: Candidate) -> tuple[Relaxed | Rejection, float]:
        settings = self._parts.config.relax
        return _timed(
            lambda: relax([candidate.structure], self._parts.potential, settings.force_tol, settings.max_steps)[0]
        )

    def _relaxation_arrived(self, number: int, key: str, result: Relaxed | Rejection, seconds: float) -> None:
        with self._store.transaction():
            self._store.insert("relaxations", [relaxation_row(key, result, seconds)])
        self._take_relaxation(number, key, result)

    def _take_relaxation(self, number: int, key: str, result: Relaxed | Rejection) -> None:
        self._keys[number] = key
        if isinstance(result, Relaxed) and not result.converged:
            detail = f"largest force {result.max_force:.3g} eV/Å after {result.n_steps} steps"
            result = Rejection(Stage.RELAX, "unconverged", detail)
        if isinstance(result, Rejection):
            self._finish(number, result)
        else:
            self._relaxed[number] = result

    def _score_arrived(self, number: int, name: str, result: Score | Rejection, seconds: float) -> None:
        row: dict[str, Any] = {"candidate_id": number, "objective": name, "seconds": seconds}
        if isinstance(result, Rejection):
            row |= {"reason": result.reason, "detail": result.detail}
        else:
            row |= {"value": result.value, "unit": result.unit}
        with self._store.transaction():
            self._store.insert("scores", [row])

    def _individual(self, number: int, scores: dict[str, float]) -> Individual:
        # Rounded, so that the last bits of an energy cannot turn a selection round.
        rounded = {name: round(value, 3) if name == HULL else float(f"{value:.4g}") for name, value in scores.items()}
        goals = {goal.name: rounded[goal.name] for goal in self._parts.goals}
        return Individual(self._candidates[number], self._relaxed[number].structure, rounded[HULL], goals)

    def _finish(self, number: int, result: Individual | Rejection) -> None:
        heapq.heappop(self._work)  # the one in work is always the smallest
        hull = self._scores(number).get(HULL)
        columns: dict[str, Any] = {
            "stage": Stage.SCORED,
            "reason": None,
            "detail": None,
            "energy_above_hull": None if hull is None else hull["value"],
            "relaxation_key": self._keys.pop(number),
        }
        if isinstance(result, Rejection):
            columns |= {"stage": result.stage, "reason": result.reason, "detail": result.detail}
        with self._store.transaction():
            self._store.update_candidate(number, **columns)
        del self._candidates[number]
        self._relaxed.pop(number, None)
        self._results[number] = result
        self._progress.count("candidates")

    # Outcomes

    def _tell(self, engine: Engine) -> None:
        """Wait for the oldest proposal's outcomes and tell them, in the order of the candidates."""
        number = engine.n_told
        asked = self._asked[number]
        while asked.candidates is None or any(one not in self._results for one in asked.candidates):
            self._pump()
        outcomes = [Outcome(one, self._results.pop(one)) for one in asked.candidates]
        statuses = engine.tell(outcomes)
        with self._store.transaction():
            for outcome, status in zip(outcomes, statuses, strict=True):
                columns: dict[str, Any] = {"add_status": status}
                if isinstance(outcome.result, Individual):
                    relaxed = outcome.result.relaxed
                    columns |= self._identity.matches(relaxed)
                    self._identity.add_relaxed(outcome.candidate_id, relaxed)
                self._store.update_candidate(outcome.candidate_id, **columns)
        self._store.set_meta("hours", repr(self._ledger.hours))
        del self._asked[number]
        best = engine.members[0] if engine.members else None
        self._progress.told(number + 1, asked.parents.generation, outcomes, best)

    def _drain(self) -> None:
        """Wait for what is in flight and commit it, so that nothing paid for is lost; then stop the threads."""
        for future in [future for future in self._arrive if not future.cancel()]:
            wait([future])
            if future.exception() is None:
                self._take(future)
        for pool in (*self._llm_pools, self._worker):
            pool.shutdown(wait=True, cancel_futures=True)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.monotonic()
    return work(), time.monotonic() - start
