"""Keep batches full: a crystal that is done leaves, the next in the queue enters."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from pymatgen.core import Structure

from matsearch.potential.base import Potential
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.capacity import Capacity, expected_pairs
from matsearch.potential.threads import n_threads, one_thread
from matsearch.records import Rejection, Relaxed
from matsearch.relaxation.flight import Flight, Plan

Result = Relaxed | Rejection


@dataclass(frozen=True, eq=False)
class Job:
    """A structure in the queue.

    Attributes:
        structure: To relax.
        future: Of its result.
        n_pairs: What is expected of it, for filling batches.
    """

    structure: Structure
    future: Future[Result]
    n_pairs: float


class Scheduler:
    """A queue of structures and the threads that relax them.

    On a CPU each thread of torch has a batch of its own, small enough for the caches; on a GPU there is one large
    batch. A potential that knows structures alone need not bear several threads: it gets one. Results do not depend on
    which crystals happened to relax together, beyond rounding.

    Used as a context manager: an orderly exit waits for everything that was submitted, an exception stops after the
    step in work.
    """

    def __init__(self, potential: Potential, plan: Plan) -> None:
        """Start nothing yet: threads come with the first structure."""
        self._potential = potential
        self._plan = plan
        batched = isinstance(potential, BatchedPotential)
        self._device = torch.device(potential.device if batched else "cpu")
        batch_atoms = potential.batch_atoms if isinstance(potential, BatchedPotential) else BatchedPotential.batch_atoms
        self._capacity = Capacity(batch_atoms, self._device)
        self._n_workers = n_threads() if batched and self._device.type == "cpu" else 1
        self._changed = threading.Condition()
        self._queue: deque[Job] = deque()
        self._loads = [0.0] * self._n_workers  # pairs in the flight of each worker
        self._threads: list[threading.Thread] = []
        self._closing = self._stopped = False
        self._failure: BaseException | None = None

    def submit(self, structures: Sequence[Structure]) -> list[Future[Result]]:
        """Line structures up.

        Returns:
            What holds the result of each when it comes; a broken potential's exception comes out of its `result()`.

        Raises:
            RuntimeError: The scheduler is closed.
        """
        jobs = [Job(structure, Future(), expected_size(structure)) for structure in structures]
        with self._changed:
            if self._closing:
                raise RuntimeError("the scheduler is closed; submit structures before that")
            if self._failure is not None:
                for job in jobs:
                    job.future.set_exception(self._failure)
            else:
                self._queue.extend(jobs)
                self._start()
                self._changed.notify_all()
        return [job.future for job in jobs]

    @property
    def room(self) -> float:
        """Pairs of the structures that are wanted, so that no batch will run short."""
        with self._changed:
            return 2 * self._n_workers * self._capacity.max_pairs - self._unfinished

    def close(self, *, finish: bool = True) -> None:
        """Wait for all results, or stop after the step in work; then cancel what is left."""
        with self._changed:
            self._closing = True
            self._stopped = not finish
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(finish=kind is None)

    def _start(self) -> None:
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._work, args=(worker,), name=f"relax-{worker}", daemon=True)
                for worker in range(self._n_workers)
            ]
            for thread in self._threads:
                thread.start()

    def _work(self, worker: int) -> None:
        unanswered: set[Future[Result]] = set()
        try:
            with one_thread(self._device):
                self._fly(worker, Flight(self._potential, self._plan, self._capacity), unanswered)
        except BaseException as err:  # noqa: BLE001 - it is carried to whoever waits for the results
            with self._changed:
                self._failure = self._failure or err
        finally:
            self._land(unanswered)

    def _fly(self, worker: int, flight: Flight[Future[Result]], unanswered: set[Future[Result]]) -> None:
        while (jobs := self._next(worker, flight)) is not None:
            unanswered.update(job.future for job in jobs)
            results: list[tuple[Future[Result], Result]] = []
            results += flight.enter([(job.future, job.structure) for job in jobs])
            if len(flight):
                results += flight.step()
            for future, result in results:
                unanswered.discard(future)
                future.set_result(result)

    def _next(self, worker: int, flight: Flight[Future[Result]]) -> list[Job] | None:
        """The structures that enter now; None where there is nothing left to do.

        Waits while the flight is empty. No worker takes more than its share while another could have it.
        """
        with self._changed:
            self._loads[worker] = flight.n_pairs
            while not (self._queue or len(flight) or self._closing or self._over):
                self._changed.wait()
            if self._over or not (self._queue or len(flight)):
                return None
            jobs: list[Job] = []
            n_atoms = flight.n_atoms
            while self._queue:
                job, load = self._queue[0], self._loads[worker]
                n_atoms += len(job.structure)
                # Of the least loaded worker this is never true, so that somebody takes the job.
                beyond_share = load * self._n_workers > self._unfinished - job.n_pairs
                if load and (beyond_share or not self._capacity.fits(n_atoms, load + job.n_pairs)):
                    break
                self._queue.popleft()
                if job.future.set_running_or_notify_cancel():
                    jobs.append(job)
                    self._loads[worker] += job.n_pairs
            return jobs

    @property
    def _unfinished(self) -> float:
        """Pairs in flight and in the queue."""
        return sum(self._loads) + sum(job.n_pairs for job in self._queue)

    @property
    def _over(self) -> bool:
        return self._stopped or self._failure is not None

    def _land(self, unanswered: set[Future[Result]]) -> None:
        """Leave nothing without an answer that someone may wait for."""
        with self._changed:
            left = list(unanswered)
            if self._over:
                left += [job.future for job in self._queue]
                self._queue.clear()
            self._changed.notify_all()
        for future in left:
            # One that has set out can no longer be cancelled by its own means.
            if not future.done() and not (self._failure is None and future.cancel()):
                future.set_exception(self._failure or CancelledError())


def expected_size(structure: Structure) -> float:
    """Pairs of a structure; of one with a hopeless cell, which will be refused, a few."""
    volume = structure.volume
    return expected_pairs(len(structure), volume) if volume > len(structure) else float(len(structure))
