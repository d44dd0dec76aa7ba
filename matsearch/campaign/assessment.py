"""Candidates on their way from proposed to scored."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from matsearch.campaign.parts import Parts
from matsearch.campaign.progress import Progress
from matsearch.campaign.relaxations import Relaxations
from matsearch.campaign.rows import candidate_of, relaxation_key, relaxation_row, relaxed_of, score_row
from matsearch.campaign.second_opinion import agrees, kept_energy
from matsearch.campaign.threads import torch_threads
from matsearch.metrics.discovery import SECOND_OPINION
from matsearch.objectives.base import Objective, evaluate_objective, unconverged_detail
from matsearch.objectives.cascade import Gates
from matsearch.records import HULL, Candidate, Individual, Rejection, Relaxed, Score, Stage
from matsearch.store import RunStore

SCORED_TOGETHER = 64
"""Candidates in one call of an objective: enough to fill a batch, few enough to lose when the process is killed."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """A call of an objective.

    Attributes:
        objective: Which.
        numbers: The candidates, ascending.
        future: Their scores, and the seconds of the call.
    """

    objective: Objective
    numbers: list[int]
    future: Future[tuple[list[Score | Rejection], float]]


class Assessment:
    """Relaxes candidates together and scores them beside that, and commits each result when it arrives.

    Which candidates relax together, and which are scored in one call, is a matter of time; what becomes of one must not
    depend on it, and in what order they finish does not matter.

    Attributes:
        results: What became of each finished candidate; whoever tells it takes it out.
    """

    def __init__(self, store: RunStore, parts: Parts, progress: Progress) -> None:
        self._store = store
        self._parts = parts
        self._progress = progress
        self._gates = Gates(parts.objectives, parts.goals)
        self._relaxations = Relaxations(parts.potential, parts.config.relax)
        self._scorer = torch_threads(1, "score")
        self._scoring: Scoring | None = None
        self._candidates: dict[int, Candidate] = {}
        self._keys: dict[int, str] = {}  # of relaxations
        self._holders: dict[str, list[int]] = {}  # candidates that wait for a relaxation, by its key
        self._relaxed: dict[int, Relaxed] = {}
        self._unscored: dict[int, Objective] = {}  # what each relaxed candidate is to be scored for next
        self.results: dict[int, Individual | Rejection] = {}

    @property
    def pending(self) -> list[Future[Any]]:
        """What is under way: relaxations, and the call of an objective."""
        scoring = [] if self._scoring is None else [self._scoring.future]
        return [*self._relaxations.pending, *scoring]

    def enter(self, row: sqlite3.Row) -> None:
        """Line up the candidate of a row of `candidates`; results that the store holds are taken from there."""
        number, candidate = row["id"], candidate_of(row)
        key = relaxation_key(candidate.structure, self._parts.potential.name, self._parts.protocol)
        self._candidates[number], self._keys[number] = candidate, key
        if key in self._holders:
            self._holders[key].append(number)  # one relaxation serves both
        elif self._store.row("SELECT 1 FROM relaxations WHERE key = ?", key) is not None:
            self._take_relaxation(number)
        else:
            self._holders[key] = [number]
            self._relaxations.enter(key, candidate.structure)

    def work(self) -> None:
        """Start what can be started."""
        self._relaxations.send()
        if self._scoring is None and self._unscored:
            objective = self._unscored[min(self._unscored)]
            numbers = sorted(one for one, wanted in self._unscored.items() if wanted is objective)[:SCORED_TOGETHER]
            for number in numbers:
                del self._unscored[number]
            relaxed = [self._relaxed[number] for number in numbers]
            self._scoring = Scoring(objective, numbers, self._scorer.submit(_timed_scores, objective, relaxed))

    def take(self, future: Future[Any]) -> None:
        """Commit the result of something that was pending and is done.

        Raises:
            Exception: What broke the potential or the objective.
        """
        if self._scoring is not None and future is self._scoring.future:
            scoring, self._scoring = self._scoring, None
            self._keep_scores(scoring)
        else:
            self._keep_relaxation(*self._relaxations.take(future))

    def close(self, *, wait: bool) -> None:
        """Stop the threads, after what is in work or without it."""
        self._relaxations.close(finish=wait)
        self._scorer.shutdown(wait=wait, cancel_futures=True)

    def _keep_relaxation(self, key: str, result: Relaxed | Rejection, seconds: float) -> None:
        with self._store.transaction():
            self._store.insert("relaxations", [relaxation_row(key, result, seconds)])
        for number in self._holders.pop(key):
            self._take_relaxation(number)

    def _take_relaxation(self, number: int) -> None:
        """Go on with a relaxation as it is stored, so that a continued run sees the same numbers."""
        row = self._store.row("SELECT * FROM relaxations WHERE key = ?", self._keys[number])
        assert row is not None, "it was found, or has just been written"
        result = relaxed_of(row, self._candidates[number].structure, self._parts.potential.name)
        if isinstance(result, Relaxed) and not result.converged:
            result = Rejection(Stage.RELAX, "unconverged", unconverged_detail(result))
        if isinstance(result, Rejection):
            self._finish(number, result)
        else:
            self._relaxed[number] = result
            self._go_on(number)

    def _keep_scores(self, scoring: Scoring) -> None:
        scores, seconds = scoring.future.result()
        share = seconds / len(scores)
        with self._store.transaction():
            for number, score in zip(scoring.numbers, scores, strict=True):
                self._store.insert("scores", [score_row(number, scoring.objective.name, score, share)])
        for number in scoring.numbers:
            self._go_on(number)

    def _go_on(self, number: int) -> None:
        """Line a relaxed candidate up for the next objective, or finish it."""
        scores = self._scores(number)
        for objective in self._parts.objectives:
            score = scores.get(objective.name)
            if score is None:
                self._unscored[number] = objective
                return
            if self._is_too_good(number, score):
                if (second := self._parts.second_opinion) is not None and second.name not in scores:
                    self._unscored[number] = second
                    return
                if not self._is_released(scores):
                    self._finish(number, Rejection(Stage.SCORE, "quarantined", self._suspicion(number, scores)))
                    return
            elif (rejection := self._refused(score)) is not None:
                self._finish(number, rejection)
                return
        self._finish(number, self._individual(number, scores))

    def _scores(self, number: int) -> dict[str, sqlite3.Row]:
        rows = self._store.rows("SELECT * FROM scores WHERE candidate_id = ?", number)
        return {row["objective"]: row for row in rows}

    def _refused(self, score: sqlite3.Row) -> Rejection | None:
        """Why a score ends a candidate's way: it has no value, or one not worth a dear one."""
        if score["value"] is None:
            return Rejection(Stage.SCORE, score["reason"], score["detail"] or "")
        return self._gates.refused(score["objective"], _rounded(score["objective"], score["value"]))

    def _is_too_good(self, number: int, score: sqlite3.Row) -> bool:
        """Whether a score is an energy so low that an error of the potential is more likely."""
        floor = self._parts.config.search.energy_floor
        if score["objective"] != HULL or score["value"] is None or floor is None or score["value"] >= floor:
            return False
        return self._parts.above_all_known(self._relaxed[number], score["value"]) < floor

    def _is_released(self, scores: dict[str, sqlite3.Row]) -> bool:
        """Whether a second potential was asked about a crystal, and calls it metastable."""
        floor, second = self._parts.config.search.energy_floor, scores.get(SECOND_OPINION)
        if floor is None or second is None or second["value"] is None:
            return False
        return agrees(second["value"], floor)

    def _suspicion(self, number: int, scores: dict[str, sqlite3.Row]) -> str:
        """What is said of an energy that is too good to be true, by both potentials where there are two."""
        height = self._parts.above_all_known(self._relaxed[number], scores[HULL]["value"])
        said = f"{height:.3f} eV/atom, below the floor of {self._parts.config.search.energy_floor}"
        if (other := self._parts.second_opinion) is None:
            return f"{said}: more likely an error of the potential"
        second, name = scores[SECOND_OPINION], other.potential.name
        if second["value"] is None:
            return f"{said}; {name} cannot say: {second['reason']}, {second['detail']}"
        return f"{said}; {second['value']:.3f} by {name}: {'released' if self._is_released(scores) else 'not released'}"

    def _individual(self, number: int, rows: dict[str, sqlite3.Row]) -> Individual:
        scores = {name: row["value"] for name, row in rows.items() if name != SECOND_OPINION}
        if HULL in scores:
            scores[HULL] = self._counted_energy(rows)
        rounded = {name: _rounded(name, value) for name, value in scores.items()}
        goals = {goal.name: rounded[goal.name] for goal in self._parts.goals}
        relaxed = self._relaxed[number].structure
        return Individual(
            self._candidates[number], relaxed, rounded.get(HULL), goals, self._parts.decomposition(relaxed)
        )

    def _counted_energy(self, scores: dict[str, sqlite3.Row]) -> float | None:
        """Energy above the hull as it counts: what a second potential released lies on the floor."""
        if HULL not in scores:
            return None
        value: float | None = scores[HULL]["value"]
        floor = self._parts.config.search.energy_floor
        return kept_energy(floor) if floor is not None and self._is_released(scores) else value

    def _finish(self, number: int, result: Individual | Rejection) -> None:
        scores = self._scores(number)
        columns: dict[str, Any] = {
            "stage": Stage.SCORED,
            "reason": None,
            "detail": self._suspicion(number, scores) if self._is_released(scores) else None,
            "energy_above_hull": self._counted_energy(scores),
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


def _rounded(name: str, value: float) -> float:
    """So that the last bits of an energy cannot turn a selection round."""
    return round(value, 3) if name == HULL else float(f"{value:.4g}")


def _timed_scores(objective: Objective, relaxed: Sequence[Relaxed]) -> tuple[list[Score | Rejection], float]:
    start = time.monotonic()
    return evaluate_objective(objective, relaxed), time.monotonic() - start
