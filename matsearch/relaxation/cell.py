"""The Frechet cell filter: atoms and cell of a crystal move together, downhill in one energy.

Coordinates are the positions z in the cell as it was at the start, and n_atoms times the logarithm L of the deformation
gradient F = exp(L): r = F z and cell = start cell F^T. L itself is what moves, so that no logarithm is ever taken.
The forces are minus the derivatives of the energy with respect to z and to n_atoms L, as in
`ase.filters.FrechetCellFilter`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from matsearch.potential.batch import CrystalBatch
from matsearch.relaxation.rows import Rows
from matsearch.units import EV_PER_A3_IN_GPA

CellMode = Literal["free", "fixed", "fixed_volume"]


@dataclass(frozen=True)
class CellFilter:
    """What a cell may do.

    Attributes:
        mode: `free`; `fixed`; `fixed_volume`, where its shape alone moves.
        pressure: External pressure in eV/Å^3.
    """

    mode: CellMode = "free"
    pressure: float = 0.0

    @classmethod
    def under(cls, mode: CellMode, pressure_gpa: float) -> CellFilter:
        """With the pressure in GPa."""
        return cls(mode, pressure_gpa / EV_PER_A3_IN_GPA)

    def residual_stress(self, stresses: Tensor) -> Tensor:
        """[n_systems, 3, 3] in eV/Å^3: the part of the stress that the relaxation brings to zero.

        It holds the external pressure; of a cell of fixed volume it is the deviator, of a fixed cell nothing.
        """
        if self.mode == "fixed":
            return torch.zeros_like(stresses)
        identity = torch.eye(3, dtype=stresses.dtype, device=stresses.device)
        residual = stresses + self.pressure * identity
        return _without_trace(residual) if self.mode == "fixed_volume" else residual

    def forces(
        self,
        batch: CrystalBatch,
        rows: Rows,
        coordinates: Tensor,
        start_cells: Tensor,
        forces: Tensor,
        stresses: Tensor,
        volumes: Tensor,
    ) -> Tensor:
        """[n_rows, 3] generalised forces in eV/Å.

        Args:
            batch: The crystals where they are.
            rows: Of the coordinates.
            coordinates: [n_rows, 3], of which the batch was made.
            start_cells: [n_systems, 3, 3] to which they refer, in Å.
            forces: [n_atoms, 3] in eV/Å.
            stresses: [n_systems, 3, 3] in eV/Å^3.
            volumes: [n_systems] in Å^3.
        """
        if self.mode == "fixed":
            return rows.pack(forces, torch.zeros_like(stresses))
        sizes = rows.sizes[:, None, None]
        log_t = (_logarithm(rows, coordinates) / sizes).mT
        identity = torch.eye(3, dtype=log_t.dtype, device=log_t.device)
        virial = -volumes[:, None, None] * (stresses + self.pressure * identity)
        # With respect to F: virial F^-T.
        gradient = torch.linalg.solve(torch.linalg.solve(start_cells, batch.cells), virial, left=False)
        deformation_t, slope = exp_and_derivative(log_t, gradient)
        if self.mode == "fixed_volume":
            slope = _without_trace(slope)
        pulled = torch.bmm(forces[:, None, :], deformation_t.mT.index_select(0, batch.system_idx))[:, 0]
        return rows.pack(pulled, slope / sizes)

    def place(self, batch: CrystalBatch, rows: Rows, coordinates: Tensor, start_cells: Tensor) -> CrystalBatch:
        """The batch at these coordinates.

        Args:
            batch: The same crystals, anywhere.
            rows: Of the coordinates.
            coordinates: [n_rows, 3].
            start_cells: [n_systems, 3, 3] to which F refers, in Å.
        """
        if self.mode == "fixed":
            return batch.moved(coordinates.index_select(0, rows.of_atoms), start_cells)
        atoms, log = rows.unpack(coordinates)
        deformation_t = exponential((log / rows.sizes[:, None, None]).mT)
        positions = torch.bmm(atoms[:, None, :], deformation_t.index_select(0, batch.system_idx))[:, 0]
        return batch.moved(positions, torch.bmm(start_cells, deformation_t))


def exponential(matrices: Tensor) -> Tensor:
    """Exponential of small matrices, [n, m, m], exact to rounding while the norm is below 3.

    A Taylor series of exp(A / 16), squared four times. `torch.matrix_exp` gives other bits for one matrix than for the
    same among others, and waits for a GPU.
    """
    scaled = matrices / 16
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device).expand_as(matrices)
    result = identity + scaled / 12
    for order in range(11, 0, -1):
        result = torch.baddbmm(identity, scaled, result, alpha=1 / order)
    for _ in range(4):
        result = torch.bmm(result, result)
    return result


def exp_and_derivative(matrices: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """exp(A) and its derivative along E, [n, 3, 3] each.

    Both are blocks of the exponential of [[A, E], [0, A]]. The adjoint of the derivative at A is the derivative at A^T:
    with A = L^T and E = dE/dF this gives dE/dL.

    Source:
        Higham, Functions of Matrices (2008), eq. 3.16.
    """
    block = matrices.new_zeros((len(matrices), 6, 6))
    block[:, :3, :3] = matrices
    block[:, 3:, 3:] = matrices
    block[:, :3, 3:] = directions
    result = exponential(block)
    return result[:, :3, :3], result[:, :3, 3:]


def start(batch: CrystalBatch, rows: Rows) -> Tensor:
    """[n_rows, 3] coordinates of crystals whose cells are not yet deformed."""
    return rows.pack(batch.positions, torch.zeros_like(batch.cells))


def _logarithm(rows: Rows, coordinates: Tensor) -> Tensor:
    return coordinates.index_select(0, rows.of_cells).reshape(-1, 3, 3)


def _without_trace(matrices: Tensor) -> Tensor:
    mean = (matrices[:, 0, 0] + matrices[:, 1, 1] + matrices[:, 2, 2]) / 3
    return matrices - torch.diag_embed(mean[:, None].expand(-1, 3))
