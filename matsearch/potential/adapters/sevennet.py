"""SevenNet on a flat batch, with the weights that come in the `sevenn` wheel: nothing is downloaded.

The network is the one of the package up to the atomic energies; neighbours, forces and stress are those of all batched
potentials, so that cells of either handedness come out right.

Source: Park et al., J. Chem. Theory Comput. 20, 4857 (2024).
"""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pymatgen.core import Element

from matsearch.errors import PotentialError
from matsearch.potential.adapters.torchscript import torchscript_silenced
from matsearch.potential.batch import CrystalBatch, Output
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.device import torch_device

try:
    with torchscript_silenced():
        import sevenn._keys as key
        from sevenn.nn.sequential import AtomGraphSequential
        from sevenn.util import load_checkpoint, pretrained_name_to_path
except ModuleNotFoundError as err:
    raise PotentialError(
        f"SevenNet needs the package sevenn (no module {err.name!r}): pip install 'matsearch[sevennet]', in an "
        "environment without mace-torch"
    ) from err

CHECKPOINT = "7net-0_11July2024"


def sevennet_0(device: str = "auto") -> SevenNet:
    """SevenNet-0 of 11 July 2024: PBE/PBE+U energies of MPtrj as VASP gave them, without corrections.

    The model card names MPtrj, not which of its energies; on oxides, halides and sulfides these come out above
    CHGNet's (`mp2020`) by the Materials Project 2020 corrections, and a test holds that.
    """
    made = SevenNet("sevennet-0", "pbe-raw", _load(str(torch_device(device))))
    made.weight_files = (Path(pretrained_name_to_path(CHECKPOINT)),)
    return made


class SevenNet(BatchedPotential):
    """One SevenNet model on one device.

    Attributes:
        network: Gives atomic energies; in single precision as shipped.
    """

    batch_atoms = 32
    """On one core an atom takes 6.5 ms by 20 to 40 atoms and 7.7 ms by 100, whose messages fall out of the caches."""

    def __init__(self, name: str, energy_scale: str, network: AtomGraphSequential) -> None:
        self.name = name
        self.energy_scale = energy_scale
        self.network = network
        weight = next(network.parameters())
        self.device, self.dtype = str(weight.device), weight.dtype
        self.elements = frozenset(Element.from_Z(number).symbol for number in network.type_map)

    def double(self) -> SevenNet:
        """A copy that computes in double precision."""
        with torchscript_silenced():
            network = deepcopy(self.network).double()
        return SevenNet(self.name, self.energy_scale, network)

    def forward(self, batch: CrystalBatch) -> Output:
        """Energies of the crystals, differentiable in `batch.positions` and `batch.cells`."""
        pairs = batch.pairs(self.network.cutoff)
        vectors = pairs.vectors(batch.positions, batch.cells).to(self.dtype)
        # The network passes messages along directed edges.
        ends = torch.stack([torch.cat([pairs.first, pairs.second]), torch.cat([pairs.second, pairs.first])])
        atoms = self.network(
            {
                key.ATOMIC_NUMBERS: batch.numbers,
                key.EDGE_IDX: ends,
                key.EDGE_VEC: torch.cat([vectors, -vectors]),
                key.BATCH: batch.system_idx,
            }
        )
        energies = atoms[key.ATOMIC_ENERGY][:, 0].double()
        return Output(energies=batch.per_system(energies), atom_energies=energies.detach())


@lru_cache(maxsize=4)
def _load(device: str) -> AtomGraphSequential:
    with torchscript_silenced():
        network = load_checkpoint(CHECKPOINT).build_model()
    for unused in ("force_output", "reduce_total_enegy"):  # sic; both are done for the batch, in double precision
        network.delete_module_by_key(unused)
    network.key_grad = None
    network.onehot_idx_to_onehot.register_forward_hook(_one_hot_in_precision)
    return network.requires_grad_(False).eval().to(device)


def _one_hot_in_precision(_module: torch.nn.Module, _inputs: Any, data: dict[str, torch.Tensor]) -> None:
    """The embedding writes single precision whatever the network's."""
    for name in (key.NODE_FEATURE, key.NODE_ATTR):
        data[name] = data[name].to(data[key.EDGE_VEC].dtype)
