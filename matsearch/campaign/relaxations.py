"""Relaxations under way: whatever waits goes together, and each is answered when it is done."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass

from pymatgen.core import Structure

from matsearch.potential.base import Potential
from matsearch.records import Rejection, Relaxed
from matsearch.relaxation.relaxer import make_plan
from matsearch.relaxation.scheduler import Scheduler, expected_size
from matsearch.relaxation.settings import RelaxSettings


@dataclass(frozen=True, slots=True)
class Flying:
    """A relaxation under way.

    Attributes:
        key: Under which its result is stored.
        size: Expected number of pairs, of which the work at each step is made.
        charged: Seconds that a size of 1 had cost when it was sent.
    """

    key: str
    size: float
    charged: float


class Relaxations:
    """Relaxes structures in one scheduler, each key once, in the order in which they enter.

    No more is sent than batches hold, so that a stop need not wait for a long queue.

    The seconds of a relaxation are its share of wall time: while several are under way, each is charged by its size.
    They add up to the time in which anything relaxed.

    Attributes:
        pending: What is under way.
    """

    def __init__(self, potential: Potential, settings: RelaxSettings) -> None:
        """Start nothing yet."""
        self._scheduler = Scheduler(potential, make_plan(**settings.model_dump()))
        self._waiting: dict[str, Structure] = {}
        self._load = 0.0  # sizes of what is under way
        self._charged = 0.0
        self._charged_until = 0.0
        self.pending: dict[Future[Relaxed | Rejection], Flying] = {}

    def enter(self, key: str, structure: Structure) -> None:
        """Line a structure up. Its key is neither lined up nor under way."""
        self._waiting[key] = structure

    def send(self) -> None:
        """Send what the batches have room for."""
        # The scheduler has room for twice what its batches hold, less what it was sent.
        while self._waiting and self._scheduler.room > self._load:
            key = next(iter(self._waiting))
            structure = self._waiting.pop(key)
            size = expected_size(structure)
            (future,) = self._scheduler.submit([structure])
            self._charge()
            self._load += size
            self.pending[future] = Flying(key, size, self._charged)

    def take(self, future: Future[Relaxed | Rejection]) -> tuple[str, Relaxed | Rejection, float]:
        """Key, result and seconds of one that is done.

        Raises:
            Exception: What broke the potential.
        """
        flying = self.pending.pop(future)
        self._charge()
        self._load = sum(one.size for one in self.pending.values())
        return flying.key, future.result(), flying.size * (self._charged - flying.charged)

    def close(self, *, finish: bool) -> None:
        """Stop the threads, after what is under way or after the step in work."""
        self._scheduler.close(finish=finish)

    def _charge(self) -> None:
        now = time.monotonic()
        if self._load:
            self._charged += (now - self._charged_until) / self._load
        self._charged_until = now
