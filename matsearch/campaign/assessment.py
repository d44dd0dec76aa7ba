"""Candidates on their way from proposed to scored."""

from __future__ import annotations

import heapq
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from matsearch.campaign.parts import HULL, Parts
from matsearch.campaign.progress import Progress
from matsearch.campaign.rows import candidate_of, relaxation_row, relaxed_of
from matsearch.crystal.identity import structure_hash
from matsearch.objectives.base import Objective, evaluate_objective, unconverged_detail
from matsearch.records import Candidate, Individual, Rejection, Relaxed, Score, Stage, content_hash
from matsearch.relaxation.relaxer import relax
from matsearch.store import RunStore


class Assessment:
    """Relaxes and scores candidates in one thread, the smallest id first, and commits each result when it arrives.

    Attributes:
        pending: The relaxation or score in work, or None.
        results: What became of each finished candidate; whoever tells it takes it out.
    """

    def __init__(self, store: RunStore, parts: Parts, progress: Progress) -> None:
        self._store = store
        self._parts = parts
        self._progress = progress
        self._thread = ThreadPoolExecutor(1, "relax")
        self._waiting: list[int] = []  # heap
        self._candidates: dict[int, Candidate] = {}
        self._keys: dict[int, str] = {}  # of relaxations
        self._relaxed: dict[int, Relaxed] = {}
        self._arrived: Callable[[Any], None] | None = None
        self.pending: Future[Any] | None = None
        self.results: dict[int, Individual | Rejection] = {}

    def enter(self, row: sqlite3.Row) -> None:
        """Line up the candidate of a row of `candidates`."""
        self._candidates[row["id"]] = candidate_of(row)
        heapq.heappush(self._waiting, row["id"])

    def work(self) -> bool:
        """Do the next thing, unless something is in work; whether there was anything to do."""
        if self.pending is not None or not self._waiting:
            return False
        self._step(self._waiting[0])
        return True

    def take(self) -> None:
        """Commit the result that `pending` holds, once it is done."""
        future, arrived = self.pending, self._arrived
        assert future is not None and arrived is not None, "take is called when pending is done"
        self.pending = self._arrived = None
        arrived(future.result())

    def close(self, *, wait: bool) -> None:
        """Stop the thread, after what is in work or without it."""
        self._thread.shutdown(wait=wait, cancel_futures=True)

    def _step(self, number: int) -> None:
        """Relax a candidate, score one objective, or finish; results that the store holds are taken from there."""
        candidate = self._candidates[number]
        if number not in self._relaxed:
            key = content_hash([structure_hash(candidate.structure), self._parts.potential.name, self._parts.protocol])
            row = self._store.row("SELECT * FROM relaxations WHERE key = ?", key)
            if row is None:
                self._submit(
                    lambda: self._relax(candidate), lambda result, s: self._keep_relaxation(number, key, result, s)
                )
            else:
                self._take_relaxation(number, key, relaxed_of(row, candidate, self._parts.potential.name))
            return
        relaxed, scores = self._relaxed[number], self._scores(number)
        for objective in self._parts.objectives:
            score = scores.get(objective.name)
            if score is None:
                self._score(number, objective, relaxed)
                return
            if (rejection := self._refused(score)) is not None:
                self._finish(number, rejection)
                return
        self._finish(number, self._individual(number, {name: row["value"] for name, row in scores.items()}))

    def _score(self, number: int, objective: Objective, relaxed: Relaxed) -> None:
        self._submit(
            lambda: evaluate_objective(objective, [relaxed])[0],
            lambda result, seconds: self._keep_score(number, objective.name, result, seconds),
        )

    def _submit(self, work: Callable[[], Any], arrived: Callable[[Any, float], None]) -> None:
        def timed() -> tuple[Any, float]:
            start = time.monotonic()
            return work(), time.monotonic() - start

        self.pending = self._thread.submit(timed)
        self._arrived = lambda result: arrived(*result)

    def _relax(self, candidate: Candidate) -> Relaxed | Rejection:
        settings = self._parts.config.relax
        return relax([candidate.structure], self._parts.potential, settings.force_tol, settings.max_steps)[0]

    def _keep_relaxation(self, number: int, key: str, result: Relaxed | Rejection, seconds: float) -> None:
        with self._store.transaction():
            self._store.insert("relaxations", [relaxation_row(key, result, seconds)])
        self._take_relaxation(number, key, result)

    def _take_relaxation(self, number: int, key: str, result: Relaxed | Rejection) -> None:
        self._keys[number] = key
        if isinstance(result, Relaxed) and not result.converged:
            result = Rejection(Stage.RELAX, "unconverged", unconverged_detail(result))
        if isinstance(result, Rejection):
            self._finish(number, result)
        else:
            self._relaxed[number] = result

    def _keep_score(self, number: int, name: str, result: Score | Rejection, seconds: float) -> None:
        row: dict[str, Any] = {"candidate_id": number, "objective": name, "seconds": seconds}
        if isinstance(result, Rejection):
            row |= {"reason": result.reason, "detail": result.detail}
        else:
            row |= {"value": result.value, "unit": result.unit}
        with self._store.transaction():
            self._store.insert("scores", [row])

    def _scores(self, number: int) -> dict[str, sqlite3.Row]:
        rows = self._store.rows("SELECT * FROM scores WHERE candidate_id = ?", number)
        return {row["objective"]: row for row in rows}

    def _refused(self, score: sqlite3.Row) -> Rejection | None:
        """Why a score ends a candidate's way: it has no value, or one too good to be true."""
        if score["value"] is None:
            return Rejection(Stage.SCORE, score["reason"], score["detail"] or "")
        floor = self._parts.config.search.energy_floor
        if score["objective"] == HULL and floor is not None and score["value"] < floor:
            detail = f"{score['value']:.3f} eV/atom, below the floor of {floor}: more likely an error of the potential"
            return Rejection(Stage.SCORE, "quarantined", detail)
        return None

    def _individual(self, number: int, scores: dict[str, float]) -> Individual:
        # Rounded, so that the last bits of an energy cannot turn a selection round.
        rounded = {name: round(value, 3) if name == HULL else float(f"{value:.4g}") for name, value in scores.items()}
        goals = {goal.name: rounded[goal.name] for goal in self._parts.goals}
        return Individual(self._candidates[number], self._relaxed[number].structure, rounded.get(HULL), goals)

    def _finish(self, number: int, result: Individual | Rejection) -> None:
        heapq.heappop(self._waiting)  # the one in work is always the smallest
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
        self.results[number] = result
        self._progress.count("candidates")
