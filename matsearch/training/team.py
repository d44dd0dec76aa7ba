"""Training in several processes on one machine: copies of a model that go their own way and meet to be averaged.

On busy cores this gets more out of two processes than two threads do, which wait for each other in every product of
matrices. Known as local SGD (S. U. Stich, ICLR 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext

PATIENCE_SECONDS = 600.0
"""How long one waits for the others; one that died never comes."""


class Team:
    """What the processes share.

    Attributes:
        size: How many they are.
    """

    def __init__(self, context: SpawnContext, size: int, n_weights: int, n_counts: int) -> None:
        self.size = size
        self._weights = torch.zeros(size, n_weights).share_memory_()
        self._counts = torch.zeros(size, n_counts, dtype=torch.float64).share_memory_()
        self._barrier: Any = context.Barrier(size)

    def meet(self, rank: int, model: torch.nn.Module, counts: Sequence[float]) -> Tensor:
        """Wait for all, give every copy the mean of the weights, and return the counts [size, n_counts] of each.

        Raises:
            threading.BrokenBarrierError: One did not come.
        """
        parameters = list(model.parameters())
        self._weights[rank] = torch.nn.utils.parameters_to_vector(parameters).detach()
        self._counts[rank] = torch.tensor(counts, dtype=torch.float64)
        self._barrier.wait(PATIENCE_SECONDS)
        mean, all_counts = self._weights.mean(dim=0), self._counts.clone()
        # Nobody writes again before all have read.
        self._barrier.wait(PATIENCE_SECONDS)
        torch.nn.utils.vector_to_parameters(mean, parameters)
        return all_counts
