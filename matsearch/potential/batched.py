"""Potentials that compute on a flat batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch
from pymatgen.core import Structure

from matsearch.potential.base import Potential
from matsearch.potential.batch import BatchPrediction, CrystalBatch, Output, spread
from matsearch.potential.derivatives import differentiate
from matsearch.potential.domain import out_of_domain
from matsearch.potential.threads import n_threads, one_thread
from matsearch.records import Prediction, Rejection

T = TypeVar("T")


class BatchedPotential(Potential):
    """A potential that gives the energies of a batch; forces and stresses follow from one backward pass."""

    batch_atoms = 160
    """Atoms that are computed together on a CPU: larger batches gain nothing, and fewer threads could share them."""

    @abstractmethod
    def forward(self, batch: CrystalBatch) -> Output:
        """Energies of the crystals, differentiable in `batch.positions` and `batch.cells`."""

    @torch.inference_mode(False)  # a caller's mode would leave nothing to differentiate
    def evaluate(self, batch: CrystalBatch) -> BatchPrediction:
        """Energies, forces and stresses of a batch from one forward and one backward pass."""
        with one_thread(batch.positions.device):
            return differentiate(self.forward, batch)

    @torch.inference_mode(False)
    def predict(self, structures: Sequence[Structure]) -> list[Prediction]:
        """Energy, forces, stress and what else the potential knows of each structure, in order.

        Raises:
            PotentialError: A structure holds an untrained element, a partly occupied site or coordinates that are no
                numbers.
            TypeError: One structure instead of a list of them.
        """
        self.require_predictable(structures)

        def work(batch: list[Structure]) -> list[Prediction]:
            crystals = CrystalBatch.from_structures(batch, self.device)
            prediction = self.evaluate(crystals)
            flags = out_of_domain(crystals, prediction.energies, self)
            return [
                replace(one, out_of_domain=flag) for one, flag in zip(spread(crystals, prediction), flags, strict=True)
            ]

        return self._share(work, structures)

    def energies(self, structures: Sequence[Structure]) -> list[float | Rejection]:
        """As in `Potential`, from a forward pass alone: a third of the time of `predict`.

        Raises:
            PotentialError, TypeError: As `predict`.
        """
        self.require_predictable(structures)

        def work(batch: list[Structure]) -> list[float | Rejection]:
            crystals = CrystalBatch.from_structures(batch, self.device)
            with one_thread(crystals.positions.device), torch.no_grad():
                energies = self.forward(crystals).energies
                flags = out_of_domain(crystals, energies, self)
            return [self._trusted(one, flag) for one, flag in zip(energies.tolist(), flags, strict=True)]

        return self._share(work, structures)

    def _share(self, work: Callable[[list[Structure]], list[T]], structures: Sequence[Structure]) -> list[T]:
        """What `work` makes of small batches, on as many threads as there are; in the order of the structures."""
        batches = list(_batches(structures, self.batch_atoms))
        if len(batches) < 2:
            return [one for batch in batches for one in work(batch)]
        # Held here as well: a thread that starts while others are held to one takes that for what torch was given, and
        # would give it back as such, were it ever alone.
        with one_thread(torch.device(self.device)), ThreadPoolExecutor(n_threads()) as threads:
            return [one for part in threads.map(work, batches) for one in part]


def _batches(structures: Sequence[Structure], n_atoms: int) -> Iterator[list[Structure]]:
    """Neighbours in the list, together up to a number of atoms."""
    batch: list[Structure] = []
    for structure in structures:
        if batch and sum(map(len, batch)) + len(structure) > n_atoms:
            yield batch
            batch = []
        batch.append(structure)
    if batch:
        yield batch
