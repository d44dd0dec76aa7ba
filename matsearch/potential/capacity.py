"""How many crystals fit into a batch, learnt while batches run."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

CUTOFF = 6.0
"""Å, of the pairs that are counted; CHGNet's."""
PAIRS_PER_ATOM = 60
"""Pairs, each once, that an atom of a batch may have on average: twice those of a common crystal."""
FIRST_PAIRS = 100_000
"""Pairs of the first batch on a GPU, before anything is known."""
GROWTH = 2.0
"""A batch may be this many times the largest that was measured."""
MEMORY_SHARE = 0.8
"""Part of a GPU's memory that is planned with; the rest is for what memory models do not foresee."""


class Capacity:
    """Limits of a batch in atoms and pairs.

    On a CPU they are what its caches hold. On a GPU the largest memory seen for a pair says how many fit. Threads may
    share it.

    Attributes:
        max_atoms: Atoms up to which a batch is filled.
        max_pairs: Pairs up to which a batch is filled.
    """

    def __init__(self, batch_atoms: int, device: str | torch.device = "cpu") -> None:
        """Set the limits before anything was measured.

        Args:
            batch_atoms: Atoms that are computed together on a CPU.
            device: Where.
        """
        self._device = torch.device(device)
        self._lock = threading.Lock()
        self._bytes_per_pair = 0.0
        # What did run out of memory, halved.
        self._most_atoms = self._most_pairs = math.inf
        on_gpu = self._device.type == "cuda"
        self.max_atoms: float = math.inf if on_gpu else batch_atoms
        self.max_pairs: float = FIRST_PAIRS if on_gpu else PAIRS_PER_ATOM * batch_atoms

    def fits(self, n_atoms: float, n_pairs: float) -> bool:
        """Whether a batch may be filled up to this size."""
        return n_atoms <= self.max_atoms and n_pairs <= self.max_pairs

    def bears(self, n_atoms: float, n_pairs: float) -> bool:
        """Whether a batch of this size can be computed at all, by all that is known."""
        return n_atoms <= self._most_atoms and n_pairs <= self._most_pairs

    def parts(self, sizes: Sequence[int], pairs: Sequence[float]) -> list[list[int]]:
        """Crystals that can be computed together, in order; each part holds at least one.

        Args:
            sizes: Atoms of each.
            pairs: Pairs of each.
        """
        parts: list[list[int]] = []
        n_atoms = n_pairs = 0.0
        for index, (size, count) in enumerate(zip(sizes, pairs, strict=True)):
            if parts and self.bears(n_atoms + size, n_pairs + count):
                parts[-1].append(index)
                n_atoms, n_pairs = n_atoms + size, n_pairs + count
            else:
                parts.append([index])
                n_atoms, n_pairs = size, count
        return parts

    @contextmanager
    def measured(self, n_pairs: float) -> Iterator[None]:
        """Learn from the memory that is taken meanwhile by a batch of so many pairs."""
        if self._device.type != "cuda":
            yield
            return
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        yield
        self.learn(n_pairs, torch.cuda.max_memory_allocated(self._device) - before, _gpu_memory(self._device))

    def learn(self, n_pairs: float, n_bytes: float, available: float) -> None:
        """Take in that a batch of so many pairs needed so many bytes, of those available."""
        with self._lock:
            self._bytes_per_pair = max(self._bytes_per_pair, n_bytes / max(n_pairs, 1.0))
            fitting = MEMORY_SHARE * available / max(self._bytes_per_pair, 1.0)
            grown = max(self.max_pairs, GROWTH * n_pairs)
            self.max_pairs = min(fitting, grown, self._most_pairs)

    def overrun(self, n_atoms: float, n_pairs: float) -> None:
        """Take in that a batch of this size did not fit: half of it may."""
        with self._lock:
            self._most_atoms = min(self._most_atoms, n_atoms / 2)
            self._most_pairs = min(self._most_pairs, n_pairs / 2)
            self.max_atoms = min(self.max_atoms, self._most_atoms)
            self.max_pairs = min(self.max_pairs, self._most_pairs)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def expected_pairs(n_atoms: int, volume: float) -> float:
    """Pairs within 6 Å, each once, of a crystal of this volume (Å^3), were its atoms spread evenly."""
    return 0.5 * n_atoms * (4 / 3 * math.pi * CUTOFF**3) * n_atoms / volume


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # torch's allocator for the CPU raises a bare RuntimeError.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("not enough memory" in text or "can't allocate memory" in text)


def _gpu_memory(device: torch.device) -> float:
    """Bytes that this process may use beside what it holds now outside of torch's pool."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
