"""CHGNet by plain automatic differentiation, and as what other heads sit on.

The fast layers (`matsearch.potential.messages`) have a backward pass by hand, which can be differentiated once, and
leaves the weights out. Training on forces differentiates twice, and with the weights; and moments of what a
displacement does (`matsearch.potential.wave`) need to see every step from atom to atom. Same layout, same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.chgnet import BOND_CUTOFF, SHORT_CUTOFF, Network, checkpoint
from matsearch.potential.graph import CrystalGraph, crystal_graph
from matsearch.potential.messages import EPS, GatedLayer
from matsearch.potential.wave import carried


class CHGNetBackbone(nn.Module):
    """CHGNet's features and energies of atoms, by the fast layers where nothing but forces is asked for.

    Attributes:
        n_features: Of each atom: those that enter the last convolution, from which it tells magnetic moments.
        weights: Trained ones, by the names of the `chgnet` package with dots as colons.
    """

    n_features = 64

    def __init__(self, version: str) -> None:
        super().__init__()
        state = {name: weight for name, weight in checkpoint(version).items() if weight.is_floating_point()}
        self.weights = nn.ParameterDict({name.replace(".", ":"): weight.clone() for name, weight in state.items()})
        self._fast: tuple[tuple[int, ...], Network] | None = None

    def forward(self, batch: CrystalBatch, wave: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[n_atoms, 64] features, and [n_atoms] energies in eV, those of the composition included."""
        device = batch.positions.device
        references = self.weights["composition_model:fc:weight"][0]
        if wave is None and not (references.requires_grad and torch.is_grad_enabled()):
            energies, _, features = self._fast_network(device)(batch)
        else:
            network = PlainNetwork(self.by_name(), device, references.dtype, attached=True)
            energies, features = network.atoms(batch, wave)
        return features.double(), energies.double() + references.double().index_select(0, batch.numbers - 1)

    def by_name(self) -> dict[str, Tensor]:
        """The weights by the names of the `chgnet` package."""
        return {name.replace(":", "."): weight for name, weight in self.weights.items()}

    def _fast_network(self, device: torch.device) -> Network:
        """The layout of the weights as they are now."""
        versions = tuple(weight._version for weight in self.weights.values())
        if self._fast is None or self._fast[0] != versions:
            weights = self.by_name()
            dtype = weights["composition_model.fc.weight"].dtype
            self._fast = versions, Network(weights, device, dtype)
        return self._fast[1]


@dataclass(frozen=True, eq=False)
class Taken:
    """What rows take from a table: which entry, and how far off that stands.

    Attributes:
        index: [n_rows].
        distances: [n_rows, 3] from where the row stands, in Å.
    """

    index: Tensor
    distances: Tensor

    def of(self, table: Tensor, wave: Tensor | None) -> Tensor:
        """[n_rows, ...]."""
        return carried(table.index_select(0, self.index), self.distances, wave)

    def then(self, other: Taken) -> Taken:
        """These rows, and others below them."""
        return Taken(torch.cat([self.index, other.index]), torch.cat([self.distances, other.distances]))


class PlainNetwork(Network):
    """The layers one after the other, differentiable as often as wanted, in the weights, too.

    Directed bonds stand at their centre, angles at their vertex, a pair and its features at its first atom.
    """

    def atoms(
        self, batch: CrystalBatch, wave: Tensor | None = None, graph: CrystalGraph | None = None
    ) -> tuple[Tensor, Tensor]:
        """[n_atoms] energies without the composition's, in eV, and [n_atoms, 64] features.

        Args:
            batch: The crystals.
            wave: Of `matsearch.potential.wave`.
            graph: Of the crystals, where it is known.
        """
        if graph is None:
            graph = crystal_graph(batch, BOND_CUTOFF, SHORT_CUTOFF)
        n_short, pairs = graph.n_short, graph.pairs
        vectors = pairs.vectors(batch.positions, batch.cells)
        if wave is not None:
            there = batch.positions.index_select(0, pairs.second)
            vectors = vectors + carried(there, vectors, wave) - there
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        still = vectors.detach()
        here, across, both = _bond_takes(graph, still)
        vertex, *sides = _angle_takes(graph, still)
        first, second = (side.then(other) for side, other in (sides, sides[::-1]))
        radial = self._bond_radial(lengths.to(self._dtype))
        weight = both.of(radial @ self._bond_weights, wave)
        bonds = radial[:n_short] @ self._bond_embedding
        has_angles = len(graph.angle_pairs) > 0
        if has_angles:
            short = self._short_radial(lengths[:n_short].to(self._dtype)) @ self._short_weights
            angle_weight = first.of(short, wave) * second.of(short, wave)
            angles = basis = self._plain_basis(graph, sides, vectors, lengths, wave).repeat(2, 1)
        atoms = self._embedding.index_select(0, batch.numbers - 1)
        for index in range(4):
            features = atoms
            layer = self._atom_layers[index]
            # Short pairs bring their features, long ones their radial functions.
            of_pairs = torch.cat([bonds @ layer.entries[2], radial[n_short:] @ layer.entries[3]])
            brought = here.of(atoms @ layer.entries[0], wave) + across.of(atoms @ layer.entries[1], wave)
            messages = _gated(layer, brought + both.of(of_pairs, wave)) * weight
            update = torch.zeros_like(atoms).index_add(0, here.index, messages)
            atoms = atoms + update @ self._atom_outputs[index]
            if index == 3 or not has_angles:
                continue
            layer = self._bond_layers[index]
            messages = _gated(layer, _brought(layer, (vertex, first, second), (atoms, bonds, bonds), angles, wave))
            messages = carried(messages * angle_weight, -first.distances, wave)
            update = torch.zeros_like(bonds).index_add(0, first.index, messages)
            bonds = bonds + update @ self._bond_outputs[index]
            if index == 2:
                continue
            layer = self._angle_layers[index]
            update = _gated(layer, _brought(layer, (vertex, first, second), (atoms, bonds, bonds), angles, wave))
            angles = update + (basis @ self._angle_embedding if index == 0 else angles)
        atoms = F.layer_norm(atoms, atoms.shape[1:], *self._readout_norm, EPS)
        *hidden, last = self._readout
        for weights, bias in hidden:
            atoms = F.silu(atoms @ weights + bias)
        return (atoms @ last[0])[:, 0] + last[1], features

    def moments(self, features: Tensor) -> Tensor:
        """[n_atoms] magnitudes of the magnetic moments in μB, from features."""
        return ((features @ self._moment[0])[:, 0] + self._moment[1]).abs()

    def _plain_basis(
        self, graph: CrystalGraph, sides: Sequence[Taken], vectors: Tensor, lengths: Tensor, wave: Tensor | None
    ) -> Tensor:
        """As `Network._angle_basis`."""
        directions = vectors[: graph.n_short] / lengths[: graph.n_short, None]
        one, other = (side.of(directions, wave) for side in sides)
        cosines = (one * other).sum(1) * graph.angle_signs * (1 - 1e-6)
        phases = torch.outer(torch.acos(cosines).to(self._dtype), self._angle_frequencies)
        constant = phases.new_full((len(phases), 1), 0.5**0.5)
        functions = [constant, torch.sin(phases), torch.cos(phases), torch.zeros_like(constant)]
        return torch.cat(functions, dim=1) / np.sqrt(np.pi)


def _bond_takes(graph: CrystalGraph, vectors: Tensor) -> tuple[Taken, Taken, Taken]:
    """Centre, neighbour and pair of each directed bond."""
    pairs = graph.pairs
    zero = torch.zeros_like(vectors)
    numbers = torch.arange(len(vectors), device=vectors.device)
    here = Taken(pairs.first, zero).then(Taken(pairs.second, zero))
    across = Taken(pairs.second, vectors).then(Taken(pairs.first, -vectors))
    return here, across, Taken(numbers, zero).then(Taken(numbers, -vectors))


def _angle_takes(graph: CrystalGraph, vectors: Tensor) -> tuple[Taken, Taken, Taken]:
    """Vertex of each ordered angle, and one and the other pair of each unordered one."""
    vertices = graph.angles.entries.view(-1, 3)[:, 0]
    # A pair stands at its first atom; seen from the second, that is minus its vector away.
    sides = [
        Taken(pair, -vectors.index_select(0, pair) * graph.angle_reversed[:, side, None])
        for side, pair in enumerate(graph.angle_pairs.unbind(1))
    ]
    return Taken(vertices, vectors.new_zeros(len(vertices), 3)), sides[0], sides[1]


def _brought(
    layer: GatedLayer, taken: Sequence[Taken], entries: Sequence[Tensor], rows: Tensor, wave: Tensor | None
) -> Tensor:
    """[n_rows, 2 width] of the first linear layer, without its bias."""
    assert layer.rows is not None
    total = rows @ layer.rows
    for one, entry, weight in zip(taken, entries, layer.entries, strict=True):
        total = total + one.of(entry @ weight, wave)
    return total


def _gated(layer: GatedLayer, brought: Tensor) -> Tensor:
    """[n_rows, width] from what the first linear layer got."""
    halves = (brought + layer.bias).chunk(2, dim=1)
    if layer.hidden is not None and layer.hidden_bias is not None:
        halves = tuple(F.silu(half) @ layer.hidden[i] + layer.hidden_bias[i] for i, half in enumerate(halves))
    core, gate = (
        F.layer_norm(half, half.shape[1:], layer.scale[i], layer.shift[i], EPS) for i, half in enumerate(halves)
    )
    return F.silu(core) * torch.sigmoid(gate)
