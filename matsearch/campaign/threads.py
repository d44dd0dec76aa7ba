"""Threads for what a campaign does at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from matsearch.potential.threads import n_threads as given


def torch_threads(n_threads: int, name: str) -> ThreadPoolExecutor:
    """Threads in which torch takes as many cores as it was given.

    Left alone, torch lets a new thread take as many as any thread asked for last, and those that relax ask for one.
    """
    return ThreadPoolExecutor(n_threads, name, _take, (given(),))


def _take(n_cores: int) -> None:
    # torch settles the number of a new thread when it is first asked, and would then overwrite what was set before.
    torch.get_num_threads()
    torch.set_num_threads(n_cores)
