"""How many cores torch takes, and when it takes one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_here = threading.local()
_held = 0
_before = 1


def n_threads() -> int:
    """The number of threads that torch was given, also while it is held to one.

    torch gives a new thread the number that any thread asked for last.
    """
    with _lock:
        return _before if _held else torch.get_num_threads()


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Hold torch to one CPU thread.

    The tensors of a batch are so small that a second thread slows them down, and on one thread the sums come in one
    order: the same batch gives the same bits. Batches, not tensors, are shared out among threads.

    Numbers below 1e-38 count as zero meanwhile: silu makes many of them, and a processor is slow with them.
    """
    global _held, _before  # noqa: PLW0603 - torch's number of threads is the process's, too
    if device.type != "cpu" or getattr(_here, "held", False):
        yield
        return
    with _lock:
        # torch settles the number of a new thread when it is first asked, and would then overwrite what was set before.
        here = torch.get_num_threads()
        _before = _before if _held else _given(here)
        _held += 1
        torch.set_num_threads(1)
    flushed = not float(torch.tensor(1e-40, dtype=torch.float32) * 1)
    torch.set_flush_denormal(True)
    _here.held = True
    try:
        yield
    finally:
        _here.held = False
        torch.set_flush_denormal(flushed)
        with _lock:
            _held -= 1
            torch.set_num_threads(_before)
            _here.known = True


def _given(here: int) -> int:
    """The number that torch was given, asked while it is held nowhere.

    A thread whose first work fell into a time when torch was held to one says one ever after. What torch was given says
    a thread that has done nothing yet.

    Args:
        here: What this thread says.
    """
    if here > 1 or getattr(_here, "known", False):
        return here
    said: list[int] = []
    fresh = threading.Thread(target=lambda: said.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    return said[0]
