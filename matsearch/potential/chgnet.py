"""CHGNet with the weights of the `chgnet` wheel, one crystal at a time.

The network is the stock one. What differs is how it is called: the graph is built in NumPy, forces and stress come from
one backward pass without a graph of their own, and the stress divides by |V|, so that left-handed cells come out right.

Source: Deng et al., Nat. Mach. Intell. 5, 1031 (2023); r2SCAN weights: Huang et al., npj Comput. Mater. (2025).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from io import StringIO

import numpy as np
import torch
from chgnet.model.model import BatchedGraph
from chgnet.model.model import CHGNet as Network
from pymatgen.core import Element, Structure

from matsearch.errors import PotentialError
from matsearch.potential.base import Potential
from matsearch.potential.bond_graph import bond_graph
from matsearch.records import Prediction

MAX_ATOMIC_NUMBER = 94

# MPtrj, the training set of 0.3.0, holds 89 elements: none of these five. Their embeddings keep the norm they were
# initialised with (8; trained ones exceed 20) and their references are no fit.
NOT_IN_MPTRJ = frozenset({"Po", "At", "Rn", "Fr", "Ra"})


def chgnet_030(device: str = "auto") -> CHGNet:
    """CHGNet 0.3.0: PBE/PBE+U energies that hold the Materials Project 2020 corrections; never correct them again."""
    return CHGNet("chgnet-0.3.0", "mp2020", _load(torch_device(device), "0.3.0"))


def chgnet_r2scan(device: str = "auto") -> CHGNet:
    """CHGNet fine-tuned to r2SCAN. Its surface has holes under compression: rescore relaxed cells, do not search."""
    return CHGNet("chgnet-r2scan", "r2scan", _load(torch_device(device), "r2scan"))


class CHGNet(Potential):
    """One set of CHGNet weights on one device.

    Magnetic moments are magnitudes. Moments, energies, forces and stresses carry the single precision of the weights.
    """

    def __init__(self, name: str, energy_scale: str, network: Network) -> None:
        self.name = name
        self.energy_scale = energy_scale
        self._network = network
        parameter = next(network.parameters())
        self._torch_device, self._dtype = parameter.device, parameter.dtype
        self.device = str(parameter.device)
        # Composition energies in eV/atom by atomic number - 1; the sum over a crystal is taken in double precision.
        self._references = network.composition_model.fc.weight.detach().cpu().double().numpy()[0]
        self.elements = _trained_elements(self._references)

    def predict(self, structures: Sequence[Structure]) -> list[Prediction]:
        """Energy, forces, stress and moments of each structure, in order.

        A structure without neighbours within 6 Å gives the energy of free atoms and no forces.

        Raises:
            PotentialError: A structure holds an untrained element, a partly occupied site or coordinates that are no
                numbers.
        """
        for number, structure in enumerate(structures):
            if not structure.is_ordered:
                raise PotentialError(f"{self.name} needs one element a site; structure {number} is disordered")
            if not (np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()):
                raise PotentialError(f"{self.name} needs finite coordinates; structure {number} holds NaN or inf")
        self.require_trained(structures)
        with one_thread(self._torch_device):
            return [self._predict_one(structure) for structure in structures]

    def _predict_one(self, structure: Structure) -> Prediction:
        numbers = np.array([site.specie.Z for site in structure])
        graph = self._graph(structure, numbers)
        output = self._network._compute(graph, compute_magmom=True)
        # The network gives eV/atom; one backward pass of the total gives dE/dposition and dE/dstrain.
        energy = output["e"].sum() * len(numbers)
        position_gradient, virial = torch.autograd.grad(
            energy, [graph.atom_positions[0], graph.strains[0]], allow_unused=True, materialize_grads=True
        )
        return Prediction(
            energy=float(energy.detach()) + float(self._references[numbers - 1].sum()),
            forces=-position_gradient.cpu().double().numpy(),
            stress=_symmetric(virial.cpu().double().numpy()) / structure.volume,
            magmoms=output["m"][0].detach().cpu().double().numpy(),
        )

    def _graph(self, structure: Structure, numbers: np.ndarray) -> BatchedGraph:
        """The crystal as the network reads it, differentiable in positions and strain."""
        network = self._network
        lattice_rows = np.ascontiguousarray(structure.lattice.matrix, dtype=float)
        bonds = bond_graph(lattice_rows, structure.cart_coords, _cutoff(network, "atom"), _cutoff(network, "bond"))

        def real(array: np.ndarray) -> torch.Tensor:
            return torch.tensor(array, dtype=self._dtype, device=self._torch_device)

        def index(array: np.ndarray) -> torch.Tensor:
            return torch.tensor(array, dtype=torch.int32, device=self._torch_device)

        strain = torch.zeros(3, 3, dtype=self._dtype, device=self._torch_device, requires_grad=True)
        lattice = real(lattice_rows) @ (torch.eye(3, dtype=self._dtype, device=self._torch_device) + strain)
        positions = real(structure.frac_coords) @ lattice
        centers, neighbors = index(bonds.centers), index(bonds.neighbors)
        bases_atom, bases_bond, directions = network.bond_basis_expansion(
            center=positions.index_select(0, centers),
            neighbor=positions.index_select(0, neighbors),
            undirected2directed=index(bonds.undirected_to_directed),
            image=real(bonds.images),
            lattice=lattice,
        )
        first, second = index(bonds.angle_first), index(bonds.angle_second)
        to_undirected = index(bonds.directed_to_undirected)
        angle_bases = network.angle_basis_expansion(
            directions.index_select(0, first), directions.index_select(0, second)
        )
        angles = torch.stack(
            [
                centers.index_select(0, first),
                to_undirected.index_select(0, first),
                to_undirected.index_select(0, second),
            ],
            dim=1,
        )
        return BatchedGraph(
            atomic_numbers=index(numbers),
            bond_bases_ag=bases_atom,
            bond_bases_bg=bases_bond,
            angle_bases=angle_bases,
            batched_atom_graph=torch.stack([centers, neighbors], dim=1),
            batched_bond_graph=angles,
            atom_owners=index(np.zeros(len(numbers))),
            directed2undirected=to_undirected,
            atom_positions=[positions],
            strains=[strain],
            volumes=[],  # read by the stock stress alone, which is not asked for: its sign follows the handedness
        )


def _cutoff(network: Network, kind: str) -> float:
    return float(getattr(network.graph_converter, f"{kind}_graph_cutoff"))


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return 0.5 * (matrix + matrix.T)


def _trained_elements(references: np.ndarray) -> frozenset[str]:
    """Elements with a fitted reference: the r2SCAN weights hold zeros (1e-13 and less) for those without data."""
    symbols = {Element.from_Z(index + 1).symbol for index in np.flatnonzero(np.abs(references) > 1e-6)}
    return frozenset(symbols - NOT_IN_MPTRJ)


def torch_device(device: str) -> str:
    """The torch device that a name stands for.

    Raises:
        PotentialError: There is no such device here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as err:
        raise PotentialError(f"unknown device {device!r}; use cpu, cuda, cuda:0, ... or auto") from err
    if kind not in {"cpu", "cuda"}:
        raise PotentialError(f"unknown device {device!r}; use cpu, cuda, cuda:0, ... or auto")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise PotentialError(f"no device {device!r} here ({torch.cuda.device_count()} GPUs seen); use cpu or auto")
    return device


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Hold torch to one CPU thread.

    The tensors of one crystal are so small that a second thread slows them down, and on one thread the sums come in one
    order: the same structure gives the same bits.
    """
    before = torch.get_num_threads()
    if device.type != "cpu" or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=4)
def _load(device: str, version: str) -> Network:
    with redirect_stdout(StringIO()):  # the stock constructor prints, and stdout is for results
        network = Network.load(model_name=version, use_device=device, verbose=False)
    return network.eval().requires_grad_(False)
