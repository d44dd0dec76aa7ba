"""CHGNet on a flat batch, with the weights of the `chgnet` wheel.

The network is that of Deng et al., Nat. Mach. Intell. 5, 1031 (2023); r2SCAN weights: Huang et al., npj Comput. Mater.
(2025). It is computed in another order than in the stock package, with the same result:

- The first linear layer of a gated convolution takes what an atom, a bond and an angle bring one after the other. It is
  applied to each atom, bond and angle once, and a row adds up what belongs to it (`matsearch.potential.messages`).
- Bonds beyond 3 Å never change in the bond convolutions, so that all their layers fold into one matrix.
- The last angle update has no reader and is left out.
- Forces and stress come from one backward pass, and the stress divides by |V|: left-handed cells come out right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable

import numpy as np
import torch
import torch.nn.functional as F
from pymatgen.core import Element
from torch import Tensor

from matsearch.potential.batch import CrystalBatch, Output
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.device import torch_device
from matsearch.potential.graph import CrystalGraph, crystal_graph
from matsearch.potential.memory import keep_memory
from matsearch.potential.messages import EPS, GatedLayer, centred, messages, product, row_update

BOND_CUTOFF = 6.0
"""Å; longest bond."""
SHORT_CUTOFF = 3.0
"""Å; longest bond that forms angles."""

# MPtrj, the training set of 0.3.0, holds 89 elements: none of these five. Their embeddings keep the norm they were
# initialised with (8; trained ones exceed 20) and their references are no fit.
NOT_IN_MPTRJ = frozenset({"Po", "At", "Rn", "Fr", "Ra"})

Get = Callable[[str], Tensor]

CHECKPOINTS = {
    "0.3.0": "0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
    "r2scan": "r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
}


def chgnet_030(device: str = "auto") -> CHGNet:
    """CHGNet 0.3.0: PBE/PBE+U energies that hold the Materials Project 2020 corrections; never correct them again."""
    return _shipped("chgnet-0.3.0", "mp2020", "0.3.0", device)


def chgnet_r2scan(device: str = "auto") -> CHGNet:
    """CHGNet fine-tuned to r2SCAN. Its surface has holes under compression: rescore relaxed cells, do not search."""
    return _shipped("chgnet-r2scan", "r2scan", "r2scan", device)


def _shipped(name: str, energy_scale: str, version: str, device: str) -> CHGNet:
    made = CHGNet(name, energy_scale, checkpoint(version), torch_device(device))
    made.weight_files = (_file(version),)
    return made


def _file(version: str) -> Traversable:
    return files("chgnet").joinpath("pretrained", CHECKPOINTS[version])


class CHGNet(BatchedPotential):
    """One set of CHGNet weights on one device.

    On a CPU the first one has the C library keep the process's memory (`matsearch.potential.memory`).

    Magnetic moments are magnitudes. Energies, forces, stresses and moments carry the single precision of the weights
    unless `double` is asked for.

    Attributes:
        energy_references: Composition energy of each element, in eV/atom; the network gives the rest.
    """

    def __init__(
        self,
        name: str,
        energy_scale: str,
        weights: dict[str, Tensor],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.name = name
        self.energy_scale = energy_scale
        self.device = str(device)
        self._weights = weights
        if device.type == "cpu":
            keep_memory()
        self._network = Network(weights, device, dtype)
        references = weights["composition_model.fc.weight"].double()[0]
        self._references = references.to(device)
        self.elements = _trained_elements(references.numpy())
        self.energy_references = {symbol: float(references[Element(symbol).Z - 1]) for symbol in sorted(self.elements)}

    def double(self) -> CHGNet:
        """The same potential in double precision: about three times slower, for checks of derivatives."""
        return CHGNet(self.name, self.energy_scale, self._weights, torch.device(self.device), torch.float64)

    def forward(self, batch: CrystalBatch) -> Output:
        """Energies, moments, atomic energies and features of a batch.

        An atom without neighbours within 6 Å has the energy of a free atom.
        """
        atom_energies, moments, features = self._network(batch)
        atom_energies = atom_energies.double() + self._references.index_select(0, batch.numbers - 1)
        return Output(
            energies=batch.per_system(atom_energies),
            magmoms=moments.detach(),
            atom_energies=atom_energies.detach(),
            features=features.detach(),
        )


class Network:
    """The network with its weights laid out for batches; `attached` if they are to be trained."""

    @torch.inference_mode(False)
    def __init__(
        self, weights: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype, *, attached: bool = False
    ) -> None:
        self._dtype = dtype

        def get(name: str) -> Tensor:
            weight = weights[name] if attached else weights[name].detach()
            return weight.to(device=device, dtype=dtype)

        def linear(name: str) -> Tensor:
            return get(f"{name}.weight").T.contiguous()  # [in, out], for x @ w

        def radial(name: str) -> Tensor:
            return F.pad(linear(name), (0, 0, 0, 1))

        self._embedding = get("atom_embedding.embedding.weight")
        self._bond_radial = _Radial(get("bond_basis_expansion.rbf_expansion_ag.frequencies"), BOND_CUTOFF)
        self._short_radial = _Radial(get("bond_basis_expansion.rbf_expansion_bg.frequencies"), SHORT_CUTOFF)
        self._angle_frequencies = get("angle_basis_expansion.fourier_expansion.frequencies")
        self._bond_embedding, self._angle_embedding = radial("bond_embedding"), radial("angle_embedding")
        self._bond_weights, self._short_weights = radial("bond_weights_ag"), radial("bond_weights_bg")
        # A short bond brings its features to an atom convolution, a long one its radial functions.
        self._atom_layers = []
        for index in range(4):
            center, bond, neighbor = _first_weights(get, f"atom_conv_layers.{index}.twoBody_atom", "0", 3)
            entries = (center, neighbor, bond, self._bond_embedding @ bond)
            self._atom_layers.append(_layer(get, f"atom_conv_layers.{index}.twoBody_atom", entries, None))
        self._bond_layers, self._angle_layers = [], []
        for index in range(3):
            name = f"bond_conv_layers.{index}.twoBody_bond"
            first, second, angle, center = _first_weights(get, name, "0", 4)
            angle = self._angle_embedding @ angle if index == 0 else angle
            self._bond_layers.append(_layer(get, name, (center, first, second), angle))
        for index in range(2):  # a third one would change angles that nothing reads any more
            name = f"angle_layers.{index}.twoBody_bond"
            first, second, angle, center = _first_weights(get, name, "1", 4)
            angle = self._angle_embedding @ angle if index == 0 else angle
            self._angle_layers.append(_layer(get, name, (center, first, second), angle))
        self._atom_outputs = [linear(f"atom_conv_layers.{index}.mlp_out.layers.1") for index in range(4)]
        self._bond_outputs = [linear(f"bond_conv_layers.{index}.mlp_out.layers.1") for index in range(3)]
        # Columns of zeros: a product with a single column depends on how many rows there are (`product`).
        self._moment = F.pad(linear("site_wise"), (0, 15)), get("site_wise.bias")
        self._readout_norm = get("readout_norm.weight"), get("readout_norm.bias")
        self._readout = [(linear(f"mlp.layers.{index}"), get(f"mlp.layers.{index}.bias")) for index in (0, 2, 4, 7)]
        self._readout[-1] = F.pad(self._readout[-1][0], (0, 15)), self._readout[-1][1]

    def __call__(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Energy (eV, without the composition's), moment (μB) and features of each atom."""
        graph = crystal_graph(batch, BOND_CUTOFF, SHORT_CUTOFF)
        n_short = graph.n_short
        vectors = graph.pairs.vectors(batch.positions, batch.cells)
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        radial = self._bond_radial(lengths.to(self._dtype))
        weight = product(radial, self._bond_weights)
        long_radial = radial[n_short:]
        bonds = product(radial[:n_short], self._bond_embedding)
        has_angles = len(graph.angle_pairs) > 0
        if has_angles:
            short = product(self._short_radial(lengths[:n_short].to(self._dtype)), self._short_weights)
            angle_weight = short.index_select(0, graph.angle_pairs[:, 0]) * short.index_select(
                0, graph.angle_pairs[:, 1]
            )
            angles = basis = self._angle_basis(graph, vectors, lengths)

        atoms = self._embedding.index_select(0, batch.numbers - 1)
        for index in range(4):
            features = atoms  # those that go into the last convolution
            update = messages(
                self._atom_layers[index],
                graph.bonds,
                graph.to_center,
                weight,
                (atoms, atoms, bonds, long_radial),
            )
            atoms = atoms + product(update, self._atom_outputs[index])
            if index == 3 or not has_angles:
                continue
            update = messages(
                self._bond_layers[index],
                graph.angles,
                graph.to_first,
                angle_weight,
                (atoms, bonds, bonds),
                angles,
            )
            bonds = bonds + product(update, self._bond_outputs[index])
            if index == 2:
                continue
            update = row_update(self._angle_layers[index], graph.angles, (atoms, bonds, bonds), angles)
            if index == 0:
                embedded = product(basis, self._angle_embedding)
                angles = (update.view(2, *embedded.shape) + embedded).view(update.shape)
            else:
                angles = angles + update
        moments = (product(features, self._moment[0])[:, 0] + self._moment[1]).abs()
        atoms = F.layer_norm(atoms, atoms.shape[1:], *self._readout_norm, EPS)
        *hidden, last = self._readout
        for weights, bias in hidden:
            atoms = F.silu(product(atoms, weights, bias))
        return product(atoms, last[0])[:, 0] + last[1], moments, features

    def _angle_basis(self, graph: CrystalGraph, vectors: Tensor, lengths: Tensor) -> Tensor:
        """[n_angles / 2, n_angular] Fourier functions of each unordered angle."""
        directions = vectors[: graph.n_short] / lengths[: graph.n_short, None]
        one, other = (directions.index_select(0, graph.angle_pairs[:, side]) for side in (0, 1))
        # The factor keeps the slope of acos finite at 0 and 180 degrees, and is part of what was trained.
        cosines = (one * other).sum(1) * graph.angle_signs * (1 - 1e-6)
        angles = torch.acos(cosines).to(self._dtype)
        phases = torch.outer(angles, self._angle_frequencies)
        constant = phases.new_full((len(phases), 1), 0.5**0.5)
        functions = [constant, torch.sin(phases), torch.cos(phases), torch.zeros_like(constant)]
        return torch.cat(functions, dim=1) / np.sqrt(np.pi)


def _pair(get: Get, name: str, part: str) -> tuple[Tensor, Tensor]:
    """Core and gate of a weight."""
    return get(f"{name}.mlp_core.layers.{part}"), get(f"{name}.mlp_gate.layers.{part}")


def _first_weights(get: Get, name: str, number: str, n_inputs: int) -> list[Tensor]:
    """What each of the joined inputs meets of the first linear layer: [n_in, 2 width]."""
    core, gate = _pair(get, name, f"{number}.weight")
    parts = zip(core.chunk(n_inputs, dim=1), gate.chunk(n_inputs, dim=1), strict=True)
    return [torch.cat(part).T.contiguous() for part in parts]


def _layer(get: Get, name: str, entries: tuple[Tensor, ...], rows: Tensor | None) -> GatedLayer:
    """The weights of a gated layer; angle updates have no hidden layer."""
    scale = torch.stack([get(f"{name}.bn1.weight"), get(f"{name}.bn2.weight")])
    shift = torch.stack([get(f"{name}.bn1.bias"), get(f"{name}.bn2.bias")])
    if name.startswith("angle"):
        assert rows is not None
        entries, rows = tuple(_centred_halves(entry) for entry in entries), _centred_halves(rows)
        bias = _centred_halves(torch.cat(_pair(get, name, "1.bias")))
        return GatedLayer(entries, bias, rows, None, None, scale, shift)
    hidden = centred(torch.stack(_pair(get, name, "3.weight")).mT).contiguous()
    hidden_bias = centred(torch.stack(_pair(get, name, "3.bias")))
    return GatedLayer(entries, torch.cat(_pair(get, name, "0.bias")), rows, hidden, hidden_bias, scale, shift)


def _centred_halves(weight: Tensor) -> Tensor:
    return torch.cat([centred(half) for half in weight.chunk(2, dim=-1)], dim=-1).contiguous()


class _Radial:
    """Bessel functions under a polynomial envelope of exponent 8, flat at 0 and at the cutoff."""

    def __init__(self, frequencies: Tensor, cutoff: float) -> None:
        # A last one of zero makes 32 of 31: matrix products like it much better.
        self._frequencies = F.pad(frequencies, (0, 1))
        self._cutoff = cutoff

    def __call__(self, lengths: Tensor) -> Tensor:
        """[n_pairs] in Å to [n_pairs, n_radial]."""
        scaled = lengths / self._cutoff
        eighth = scaled.square().square().square()  # a power would depend on where in the tensor the number stands
        envelope = 1 + eighth * (-45 + scaled * (80 - 36 * scaled))
        factor = envelope * (2 / self._cutoff) ** 0.5 / lengths
        return torch.sin(torch.outer(scaled, self._frequencies)) * factor[:, None]


def _trained_elements(references: np.ndarray) -> frozenset[str]:
    """Elements with a fitted reference: the r2SCAN weights hold zeros (1e-13 and less) for those without data."""
    symbols = {Element.from_Z(index + 1).symbol for index in np.flatnonzero(np.abs(references) > 1e-6)}
    return frozenset(symbols - NOT_IN_MPTRJ)


@lru_cache(maxsize=4)
@torch.inference_mode(False)  # they are kept, and serve later calls that are not in that mode
def checkpoint(version: str) -> dict[str, Tensor]:
    """The weights of a version, by the names of the `chgnet` package."""
    with as_file(_file(version)) as path:
        state = torch.load(path, map_location="cpu", weights_only=True)
    weights: dict[str, Tensor] = state["model"]["state_dict"]
    return weights
