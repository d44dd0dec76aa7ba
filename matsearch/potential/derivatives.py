"""Forces and stress of a batch from its energies, in one backward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch

from matsearch.potential.batch import BatchPrediction, CrystalBatch, Output


def differentiate(forward: Callable[[CrystalBatch], Output], batch: CrystalBatch) -> BatchPrediction:
    """Evaluate a batch with its derivatives.

    Each crystal is strained by a matrix of zeros, r -> r (1 + strain); the slope with it, made symmetric and divided by
    |V|, is the stress (eV/Å^3, positive under tension).

    Args:
        forward: Energies that are differentiable in the batch's positions and cells.
        batch: The crystals.
    """
    with torch.enable_grad():
        positions = batch.positions.detach().requires_grad_()
        strain = torch.zeros_like(batch.cells).requires_grad_()
        deformation = torch.eye(3, dtype=strain.dtype, device=strain.device) + strain
        strained = torch.bmm(positions[:, None, :], deformation.index_select(0, batch.system_idx))[:, 0]
        output = forward(batch.moved(strained, batch.cells.detach() @ deformation))
        slope, virial = torch.autograd.grad(
            output.energies.sum(), [positions, strain], allow_unused=True, materialize_grads=True
        )
    virial = 0.5 * (virial + virial.mT)
    return BatchPrediction(
        energies=output.energies.detach(),
        forces=-slope,
        stresses=virial / batch.volumes[:, None, None],
        magmoms=output.magmoms,
        charges=output.charges,
        atom_energies=output.atom_energies,
        features=output.features,
    )
