"""What a crystal answers to an electric field: polarization, Born charges, polarizability, dielectric tensor.

Of charges at the atoms and of shells (or other dipoles) at them; a potential with charges of any kind gives a
`Response` (`ChargedPotential.response`). Conventions:

- Charges are held fixed. Where they are free to flow (PQEq), what flows would go around a periodic crystal, and its
  dipole depend on which image of an atom is meant; so Born charges are q times the unit tensor plus what the shells do.
- The field is the one inside the crystal (the sums leave k = 0 out: the boundary of a conductor). The polarizability
  is that of the whole cell to this field, and 1 + 4 π α/V is the dielectric tensor of clamped ions.
- Z*[a, b] is the dipole along a per displacement along b, and the force along b per field along a.
- A polarization is that of the atoms where they are given: an atom taken in another cell changes it by q a_j/V. Only
  differences along a path on which atoms move and charges do not have a meaning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.equilibration import energy, equilibrate, shell_displacements
from matsearch.potential.longrange.ewald import COULOMB
from matsearch.potential.longrange.padding import rejoin_atoms, rejoin_systems

if TYPE_CHECKING:
    from matsearch.potential.longrange.conditions import Conditions
    from matsearch.potential.longrange.pqeq import PQEq


@dataclass(frozen=True, eq=False)
class Response:
    """The electric response of the crystals of a batch, ions clamped; NaN for a crystal without charges.

    Attributes:
        polarization: [n_systems, 3] in e/Å².
        born_charges: [n_atoms, 3, 3] in e, dipole by displacement.
        polarizability: [n_systems, 3, 3] in Å^3 (times 4 π eps0), of the cell.
        dielectric: [n_systems, 3, 3], relative.
    """

    polarization: Tensor
    born_charges: Tensor
    polarizability: Tensor
    dielectric: Tensor


def polarization(batch: CrystalBatch, charges: Tensor, dipoles: Tensor | None = None) -> Tensor:
    """Dipole of each cell over its volume, [n_systems, 3] in e/Å².

    Args:
        batch: Atoms where they are meant to be.
        charges: [n_atoms] in e.
        dipoles: [n_atoms, 3] in e Å, None for none.
    """
    moments = charges[:, None] * batch.positions
    moments = moments if dipoles is None else moments + dipoles
    return batch.per_system(moments) / batch.volumes[:, None]


def with_acoustic_sum_rule(batch: CrystalBatch, born_charges: Tensor, total_charges: Tensor | None = None) -> Tensor:
    """Born charges [n_atoms, 3, 3] less their mean excess, so that a crystal's sum to its total charge (None: zero)."""
    sizes = torch.tensor(batch.sizes, dtype=born_charges.dtype, device=born_charges.device)
    excess = batch.per_system(born_charges)
    if total_charges is not None:
        unit = torch.eye(3, dtype=excess.dtype, device=excess.device)
        excess = excess - total_charges.to(excess)[:, None, None] * unit
    return born_charges - (excess / sizes[:, None, None]).index_select(0, batch.system_idx)


def dielectric_tensor(batch: CrystalBatch, polarizability: Tensor) -> Tensor:
    """[n_systems, 3, 3] relative, from polarizabilities of cells in Å^3."""
    unit = torch.eye(3, dtype=polarizability.dtype, device=polarizability.device)
    return unit + 4 * math.pi * polarizability / batch.volumes[:, None, None]


def forces_in_field(batch: CrystalBatch, born_charges: Tensor, field: Tensor) -> Tensor:
    """What a field ([3] or [n_systems, 3] in V/Å) adds to the forces, [n_atoms, 3] in eV/Å, to first order."""
    fields = field.to(born_charges).expand(batch.n_systems, 3).index_select(0, batch.system_idx)
    return torch.bmm(fields[:, None], born_charges)[:, 0]


def dipole_change(born_charges: Tensor, displacements: Tensor) -> Tensor:
    """How a cell's dipole changes along a path, [n_steps, 3] in e Å, by the trapezoid rule.

    Between crystals of one cell this is the polarization that has a meaning; a calculated one is known modulo e a_i.

    Args:
        born_charges: [n_steps + 1, n_atoms, 3, 3] in e, at the points of the path.
        displacements: [n_steps, n_atoms, 3] in Å, from each point to the next.
    """
    means = 0.5 * (born_charges[1:] + born_charges[:-1])
    return torch.einsum("tiab,tib->ta", means, displacements)


def infrared_spectrum(
    born_charges: np.ndarray, velocities: np.ndarray, timestep: float
) -> tuple[np.ndarray, np.ndarray]:
    """Infrared intensities from a trajectory: the power spectrum of the current sum of Z* v, under a Hann window.

    The absorption of classical ions is this over volume and temperature; the high-temperature limit of the quantum
    correction makes the power spectrum of the dipole's rate just that (D. A. McQuarrie, Statistical Mechanics, 21-1).

    Args:
        born_charges: [n_frames, n_atoms, 3, 3] in e, or [n_atoms, 3, 3] for those of one frame throughout.
        velocities: [n_frames, n_atoms, 3], in any unit.
        timestep: Between frames, in fs.

    Returns:
        Wavenumbers in 1/cm and intensities, both [n_frames // 2 + 1]; intensities sum to one.

    Raises:
        ValueError: The shapes do not fit, there are fewer than two frames, or nothing moves.
    """
    n_frames, n_atoms = velocities.shape[:2]
    if born_charges.shape[-3:] != (n_atoms, 3, 3) or (born_charges.ndim == 4 and len(born_charges) != n_frames):
        raise ValueError(
            f"born_charges must be [{n_frames}, {n_atoms}, 3, 3] or [{n_atoms}, 3, 3], got {born_charges.shape}"
        )
    if n_frames < 2:
        raise ValueError(f"a spectrum takes two frames or more, got {n_frames}")
    current = np.einsum("...iab,...ib->...a", born_charges, velocities)
    current = (current - current.mean(0)) * np.hanning(n_frames)[:, None]
    power = (np.abs(np.fft.rfft(current, axis=0)) ** 2).sum(1)
    if not power.sum() > 0:
        raise ValueError("nothing moves that carries a charge, so that there is no spectrum")
    # 1/fs over the speed of light in cm/fs.
    return np.fft.rfftfreq(n_frames, timestep) / 2.99792458e-5, power / power.sum()


@torch.inference_mode(False)
def shell_response(potential: PQEq, batch: CrystalBatch, conditions: Conditions | None = None) -> Response:
    """The response of PQEq crystals, by their shells at the charges that they have.

    Args:
        potential: The charges and shells.
        batch: The crystals.
        conditions: None: neutral, without a field.

    Raises:
        PotentialError: A slab in a field has too little vacuum, or the field is not normal to it.
    """
    positions = batch.positions.detach().requires_grad_()
    made, of_atoms, of_cells, all_charges, all_dipoles = [], [], [], [], []
    with torch.enable_grad():
        moved = batch.moved(positions, batch.cells.detach())
        for block, terms, totals in potential.terms(moved, conditions):
            found = equilibrate(terms, totals)
            bad = found.unstable | found.unfinished
            shell = (terms.shell * terms.mask).detach()
            unit = torch.eye(3, dtype=shell.dtype, device=shell.device)
            moves = shell_displacements(terms, found.charges, found.shells, shell[:, :, None, None] * unit)
            shells = found.shells.requires_grad_()
            (slopes,) = torch.autograd.grad(energy(terms, found.charges, shells).sum(), shells, create_graph=True)
            # dp/dr = Z H^-1 d(dE/ds)/dr, with Z H^-1 for the three directions of p.
            rows = [
                torch.autograd.grad((slopes * moves[..., axis].nan_to_num()).sum(), positions, retain_graph=True)[0]
                for axis in range(3)
            ]
            born = block.take(torch.stack(rows, 1)) + found.charges[:, :, None, None] * unit
            of_atoms.append(torch.where(bad[:, None, None, None], torch.nan, born))
            of_cells.append(
                COULOMB * torch.einsum("bn,bnac->bac", shell, moves) + torch.where(bad, torch.nan, 0.0)[:, None, None]
            )
            all_charges.append(torch.where(bad[:, None], torch.nan, found.charges))
            all_dipoles.append(-shell[:, :, None] * found.shells)
            made.append(block)
    polarizability = rejoin_systems(made, of_cells).detach()
    charges, dipoles = rejoin_atoms(made, all_charges).detach(), rejoin_atoms(made, all_dipoles).detach()
    still = batch.moved(batch.positions.detach(), batch.cells.detach())
    total_charges = None if conditions is None else conditions.total_charges
    return Response(
        polarization=polarization(still, charges, dipoles),
        born_charges=with_acoustic_sum_rule(still, rejoin_atoms(made, of_atoms).detach(), total_charges),
        polarizability=polarizability,
        dielectric=dielectric_tensor(still, polarizability),
    )
