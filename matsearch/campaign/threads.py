"""Threads for what a campaign does at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch


def torch_threads(n_threads: int, name: str) -> ThreadPoolExecutor:
    """Threads in which torch takes as many cores as in the calling one.

    Left alone, torch lets a new thread take as many as any thread asked for last, and those that relax ask for one.
    """
    return ThreadPoolExecutor(n_threads, name, torch.set_num_threads, (torch.get_num_threads(),))
