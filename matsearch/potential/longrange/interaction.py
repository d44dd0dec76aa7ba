"""The electrostatic energy as a quadratic form in the charges, of atoms that stay where they are.

Energies of Gaussian charges of one width as `matsearch.potential.longrange.ewald` sums them, with the same conventions:
E = 1/2 sum q_i M_ij q_j. Training shows the same crystals many times with other charges each time; M and its slopes
with the positions are then worth keeping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.ewald import COULOMB, fractional_positions, wave_cutoff, wave_vectors, waves


@dataclass(frozen=True, eq=False)
class Interaction:
    """M of each crystal of a batch and its slopes; exact to first order in how atoms move.

    Attributes:
        sizes: Atoms of each crystal.
        matrices: For each crystal, [n, n] in eV/e².
        slopes: For each crystal, [n, n, 3] in eV/e²/Å, of M_ij with the position of i.
    """

    sizes: tuple[int, ...]
    matrices: list[Tensor]
    slopes: list[Tensor]

    def energies(self, charges: Tensor, moves: Tensor) -> Tensor:
        """[n_systems] in eV, of charges in e, [n_atoms], after small moves, [n_atoms, 3] in Å."""
        found = []
        parts = zip(charges.split(self.sizes), moves.split(self.sizes), self.matrices, self.slopes, strict=True)
        for q, move, matrix, slope in parts:
            field = torch.einsum("ijk,j->ik", slope, q)
            found.append(0.5 * (q @ (matrix @ q)) + (q[:, None] * field * move).sum())
        return torch.stack(found)


@torch.no_grad()
def interaction(batch: CrystalBatch, smearing: float, *, periodic: bool = True) -> Interaction:
    """Of charges of width σ = `smearing` (Å), which interact by erf(r/(√2 σ))/r; molecules are not repeated."""
    matrices, slopes = [], []
    exponent = smearing**-2
    fractional = fractional_positions(batch).split(batch.sizes)
    for system, positions in enumerate(batch.positions.split(batch.sizes)):
        if not periodic:
            matrix, slope = _of_pairs(positions, smearing)
        else:
            cells = batch.cells[system : system + 1]
            integers, mask = waves(cells, wave_cutoff(cells.new_tensor([exponent])))
            k, weights = (part[0] for part in wave_vectors(cells, integers, mask))
            weights = 2 * weights * torch.exp(-0.5 * k.square().sum(1) / exponent)
            phases = 2 * math.pi * integers[0] @ fractional[system].T
            cosines, sines = phases.cos(), phases.sin()
            weighted, turned = weights[:, None] * cosines, weights[:, None] * sines
            matrix = cosines.T @ weighted + sines.T @ turned
            matrix.diagonal().sub_(2 * COULOMB * math.sqrt(exponent / (2 * math.pi)))
            # -sin(k (r_i - r_j)) k
            slope = torch.stack(
                [
                    (k[:, axis, None] * cosines).T @ turned - (k[:, axis, None] * sines).T @ weighted
                    for axis in range(3)
                ],
                dim=2,
            )
        matrices.append(matrix)
        slopes.append(slope)
    return Interaction(batch.sizes, matrices, slopes)


def _of_pairs(positions: Tensor, smearing: float) -> tuple[Tensor, Tensor]:
    vectors = positions[:, None] - positions[None, :]
    lengths = torch.linalg.vector_norm(vectors, dim=2).fill_diagonal_(1.0)
    scaled = lengths / (math.sqrt(2) * smearing)
    matrix = COULOMB * torch.erf(scaled) / lengths
    density = COULOMB * math.sqrt(2 / math.pi) / smearing * torch.exp(-scaled.square())
    slope = ((density - matrix) / lengths.square())[:, :, None] * vectors
    return matrix.fill_diagonal_(0.0), slope
