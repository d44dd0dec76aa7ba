"""Cheap analytic potentials for relaxations."""

import torch

from matsearch.potential.batch import Output
from matsearch.potential.batched import BatchedPotential

CUTOFF = 6.0


class Morse(BatchedPotential):
    """A Morse energy between all atoms, smoothly cut off, equal for all elements."""

    name = "morse"
    energy_scale = "none"
    elements = frozenset("Al Na Cl Mg O Li Fe Cu".split())
    device = "cpu"

    def __init__(self, depth=0.3, distance=2.7, width=1.5):
        self.depth, self.distance, self.width = depth, distance, width

    def forward(self, batch):
        pairs = batch.pairs(CUTOFF)
        lengths = torch.linalg.vector_norm(pairs.vectors(batch.positions, batch.cells), dim=1)
        bound = 1 - torch.exp(-self.width * (lengths - self.distance))
        fade = (1 - (lengths / CUTOFF) ** 2) ** 3
        energies = self.depth * (bound**2 - 1) * fade
        return Output(energies.new_zeros(batch.n_systems).index_add(0, pairs.system_idx, energies))
