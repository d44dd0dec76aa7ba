"""CHGNet to be trained: alone, or with a head of latent charges; and what it loses on labels.

Forces are slopes, so that their errors have slopes with the weights by differentiating twice. A step of training takes
about four times as long as forces do: on one thread of a CPU 0.33 s for 112 atoms of eight crystals, a third of it
matrix products (`benchmarks/transfer.py` prints it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.chgnet import BOND_CUTOFF, SHORT_CUTOFF, Network
from matsearch.potential.chgnet_plain import CHGNetBackbone, PlainNetwork
from matsearch.potential.graph import CrystalGraph, crystal_graph
from matsearch.potential.longrange.conditions import Conditions
from matsearch.potential.longrange.latent import LatentModel, LatentPotential
from matsearch.training.targets import COMPOSITION, Target
from matsearch.units import EV_PER_A3_IN_GPA


@dataclass(frozen=True, eq=False)
class Shown:
    """Crystals that are shown together, with what they should give; NaN where nothing is known.

    Attributes:
        batch: The crystals.
        graph: Their bonds and angles.
        energies: [n_systems] in eV/atom.
        forces: [n_atoms, 3] in eV/Å.
        stresses: [n_systems, 3, 3] in GPa.
        magmoms: [n_atoms] in μB.
    """

    batch: CrystalBatch
    graph: CrystalGraph
    energies: Tensor
    forces: Tensor
    stresses: Tensor
    magmoms: Tensor

    @classmethod
    def of(cls, targets: Sequence[Target], device: str | torch.device) -> Shown:
        """Some targets, where the network is."""
        batch = CrystalBatch.from_arrays(
            [one.positions for one in targets],
            [one.cell for one in targets],
            [one.numbers.tolist() for one in targets],
            device,
        )

        def tensor(values: np.ndarray) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        return cls(
            batch,
            crystal_graph(batch, BOND_CUTOFF, SHORT_CUTOFF),
            tensor(np.array([one.energy / len(one.numbers) for one in targets])),
            tensor(np.concatenate([one.forces for one in targets])),
            tensor(np.stack([one.stress for one in targets]) * EV_PER_A3_IN_GPA),
            tensor(np.concatenate([one.magmoms for one in targets])),
        )

    def to(self, device: torch.device) -> Shown:
        """The same on another device."""
        old = self.batch
        batch = CrystalBatch(
            old.positions.to(device),
            old.cells.to(device),
            old.numbers.to(device),
            old.sizes,
            old.system_idx.to(device),
        )
        labels = (one.to(device) for one in (self.energies, self.forces, self.stresses, self.magmoms))
        return Shown(batch, _moved(self.graph, device), *labels)


class Misses(NamedTuple):
    """Differences from what is known, flat: eV/atom, eV/Å, GPa, μB; empty where nothing is."""

    energies: Tensor
    forces: Tensor
    stresses: Tensor
    magmoms: Tensor


class Trainee(nn.Module):
    """A network in training; its energies are those without composition energies.

    Attributes:
        model: What is trained: CHGNet, or that and heads of charges.
    """

    def __init__(self, model: CHGNetBackbone | LatentModel) -> None:
        super().__init__()
        self.model = model
        self._latent: LatentPotential | None = None
        if isinstance(model, LatentModel):
            self._latent = LatentPotential("in training", model, next(model.parameters()).device)
            # CHGNet's own energies are trained already.
            model.energy_head.requires_grad_(False)
        for name, weight in self.backbone.by_name().items():
            weight.requires_grad_(name != COMPOSITION)

    @property
    def backbone(self) -> CHGNetBackbone:
        """CHGNet's weights."""
        backbone = self.model.backbone if isinstance(self.model, LatentModel) else self.model
        assert isinstance(backbone, CHGNetBackbone)
        return backbone

    def forward(self, batch: CrystalBatch, graph: CrystalGraph, *, training: bool = True) -> tuple[Tensor, Tensor]:
        """[n_systems] energies in eV, and [n_atoms] moments in μB.

        Args:
            batch: The crystals.
            graph: Of them.
            training: Whether slopes with the weights, and second ones, will be asked for.
        """
        weights, device = self.backbone.by_name(), batch.positions.device
        if training:
            network = PlainNetwork(weights, device, torch.float32, attached=True)
            atom_energies, features = network.atoms(batch, None, graph)
            moments = network.moments(features)
        else:
            atom_energies, moments, features = Network(weights, device, torch.float32)(batch)
        atom_energies = atom_energies.double()
        model = self.model
        if self._latent is None or not isinstance(model, LatentModel):
            return batch.per_system(atom_energies), moments
        kinds = model.kinds(batch)
        scaled = (features.double() - model.means.index_select(0, kinds)) / model.scales.index_select(0, kinds)
        found = self._latent.summed(batch, atom_energies, model.charge_head(scaled, kinds), Conditions())
        return found.energies, moments

    def misses(self, shown: Shown, *, training: bool = True) -> Misses:
        """What is predicted less what is known.

        Args:
            shown: The crystals.
            training: Whether the misses are differentiable in the weights.
        """
        batch = shown.batch
        known = [one.isfinite() for one in (shown.energies, shown.forces, shown.stresses, shown.magmoms)]
        derivatives = bool(known[1].any() or known[2].any())
        positions = batch.positions.detach().requires_grad_(derivatives)
        strain = torch.zeros_like(batch.cells).requires_grad_(derivatives)
        deformation = torch.eye(3, dtype=strain.dtype, device=strain.device) + strain
        strained = torch.bmm(positions[:, None, :], deformation.index_select(0, batch.system_idx))[:, 0]
        with torch.set_grad_enabled(training or derivatives):
            energies, moments = self(batch.moved(strained, batch.cells @ deformation), shown.graph, training=training)
        empty = energies.new_zeros(0)
        of_forces = of_stresses = empty
        if derivatives:
            # Atoms far from all others feel nothing.
            slope, virial = torch.autograd.grad(
                energies.sum(), [positions, strain], create_graph=training, allow_unused=True, materialize_grads=True
            )
            of_forces = (-slope - shown.forces)[known[1]]
            stresses = 0.5 * (virial + virial.mT) / batch.volumes[:, None, None] * EV_PER_A3_IN_GPA
            of_stresses = (stresses - shown.stresses)[known[2]]
        sizes = torch.tensor(batch.sizes, dtype=energies.dtype, device=energies.device)
        return Misses(
            (energies / sizes - shown.energies)[known[0]],
            of_forces,
            of_stresses,
            (moments.double() - shown.magmoms)[known[3]],
        )


def huber(misses: Misses, weights: Sequence[float], delta: float, n_known: Sequence[int]) -> Tensor:
    """Weighted sum of the mean Huber losses of energies, forces, stresses and moments.

    Args:
        misses: Differences, of all that is known or of a part.
        weights: As many as there are kinds.
        delta: Where a loss goes over from square to linear, in the units of each.
        n_known: Of each kind, what the mean is over: so losses of parts add up to that of the whole.
    """
    total = misses.energies.new_zeros(())
    for values, weight, n in zip(misses, weights, n_known, strict=True):
        if weight and len(values):
            total = total + weight / n * F.huber_loss(values, torch.zeros_like(values), delta=delta, reduction="sum")
    return total


def _moved(value: Any, device: torch.device) -> Any:
    """A tensor, or all those of a dataclass, on another device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return type(value)(**{one.name: _moved(getattr(value, one.name), device) for one in fields(value)})
