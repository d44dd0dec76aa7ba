"""Time-outs: an objective that hangs on one crystal is that crystal's rejection, and nobody waits for it."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from matsearch.objectives.base import FunctionObjective, Objective, copy_of, values_of
from matsearch.records import Rejection, Relaxed, Stage

T = TypeVar("T")


class TimedOutError(Exception):
    """A call was given up."""


class Limited(Objective):
    """An objective that is given up after some seconds.

    A list is given that time as a whole; where it is not done by then, each crystal is tried alone and given as much.
    So what counts is the time of one crystal, and a batch that is slow as a whole loses nothing but time. A function of
    one structure is timed one structure at a time from the start.

    What is given up goes on in a thread that nobody waits for: Python code is stopped at its next line, a call into a
    library goes on until it returns, and the process can end before that.

    Args:
        objective: What is timed.
        seconds: The limit.
    """

    def __init__(self, objective: Objective, seconds: float) -> None:
        self.name, self.unit, self.direction = objective.name, objective.unit, objective.direction
        self.cost, self.needs = objective.cost, objective.needs
        self.objective, self.timeout = objective, seconds
        self.__doc__ = objective.__doc__

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """As the objective; `timeout` for what takes too long."""
        if len(relaxed) > 1 and not isinstance(self.objective, FunctionObjective):
            copies = [copy_of(one) for one in relaxed]  # a call that was given up may still change them
            try:
                return call_within(self._seconds, lambda: self.objective(copies))
            except TimedOutError:
                pass  # by some of them, and only each alone tells which
        return [self._alone(one) for one in relaxed]

    @property
    def written_as(self) -> Any:
        """As the objective."""
        return self.objective.written_as

    @property
    def _seconds(self) -> float:
        assert self.timeout is not None, "it was made with one"
        return self.timeout

    def _alone(self, relaxed: Relaxed) -> float | Rejection:
        try:
            return call_within(self._seconds, lambda: values_of(self.objective, [relaxed]))[0]
        except TimedOutError:
            return Rejection(Stage.SCORE, "timeout", f"{self.name} took longer than {self.timeout:g} s")


def call_within(seconds: float, function: Callable[[], T]) -> T:
    """What a function returns, or raises, if it does so in time.

    Raises:
        TimedOutError: It does not.
    """
    future: Future[T] = Future()
    torch = sys.modules.get("torch")
    n_cores = None if torch is None else torch.get_num_threads()

    def work() -> None:
        try:
            if torch is not None:
                # A new thread takes as many cores as any thread asked for last; asking first keeps what is then set.
                torch.get_num_threads()
                torch.set_num_threads(n_cores)
            future.set_result(function())
        except BaseException as err:  # noqa: BLE001 - raised again by whoever waits
            future.set_exception(err)

    thread = threading.Thread(target=work, name="objective", daemon=True)
    thread.start()
    if not wait([future], timeout=seconds).done:
        _stop(thread)
        raise TimedOutError
    return future.result()


class _GivenUp(BaseException):
    """Ends a thread; no `except Exception` of a user's loop keeps it."""


def _stop(thread: threading.Thread) -> None:
    """Have Python code in a thread raise at its next line."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_GivenUp))
