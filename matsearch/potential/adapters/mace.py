"""MACE on a flat batch, with weights from a file: `load_potential("mace:PATH")`.

The network is the one of the package `mace-torch` up to the atomic energies; neighbours, forces and stress are those of
all batched potentials.

Source: Batatia et al., Adv. Neural Inf. Process. Syst. 35, 11423 (2022).
"""

from __future__ import annotations

import os
import pickle
import warnings
from copy import deepcopy
from pathlib import Path

import torch
from pymatgen.core import Element

from matsearch.errors import PotentialError
from matsearch.potential.adapters.torchscript import torchscript_silenced
from matsearch.potential.batch import CrystalBatch, Output
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.device import torch_device

# Importing mace tells torch to unpickle any file of this process, of which e3nn's own constants are one.
_UNPICKLE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_before = os.environ.get(_UNPICKLE)
try:
    with torchscript_silenced():
        warnings.filterwarnings("ignore", message=f"Environment variable {_UNPICKLE}", category=UserWarning)
        from mace.modules import MACE as PlainNetwork
        from mace.modules import ScaleShiftMACE
except ModuleNotFoundError as err:
    raise PotentialError(
        f"MACE needs the package mace-torch (no module {err.name!r}): pip install 'matsearch[mace]', in an environment "
        "without sevenn"
    ) from err
finally:
    if _before is None:
        os.environ.pop(_UNPICKLE, None)


def mace(path: str, device: str = "auto", *, energy_scale: str = "pbe-raw", head: str | None = None) -> MACE:
    """The MACE model of a file, under the name `mace:PATH`.

    A model file is a pickle, which can run anything: load only what you trust. It does not say what its energies mean.
    `mace:PATH` takes them for uncorrected PBE/PBE+U, as of MACE-MP-0; for others, or to choose among several heads,
    write a function of your own and load that, as `"module:function"`:

    ```python
    # my_mace.py: load_potential("my_mace:r2scan")
    from matsearch.potential.adapters.mace import mace

    def r2scan(device):
        return mace("matpes.model", device, energy_scale="r2scan")
    ```

    Args:
        path: A model as MACE saves it.
        device: `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU where there is one.
        energy_scale: What its energies mean.
        head: Which of several heads; none has to be named where there is one.

    Raises:
        PotentialError: There is no such file or device, it holds no MACE energy model, or several heads and none named.
    """
    made = MACE(f"mace:{path}", energy_scale, _load(path, torch_device(device)), head)
    made.weight_files = (Path(path).expanduser(),)
    return made


class MACE(BatchedPotential):
    """One MACE model on one device, in the precision of its weights.

    Attributes:
        network: Gives atomic energies.
    """

    def __init__(self, name: str, energy_scale: str, network: PlainNetwork, head: str | None = None) -> None:
        self.name = name
        self.energy_scale = energy_scale
        self.network = network
        self.device, self.dtype = str(network.r_max.device), network.r_max.dtype
        self.elements = frozenset(Element.from_Z(number).symbol for number in network.atomic_numbers.tolist())
        heads = list(getattr(network, "heads", None) or ["Default"])
        self.head = heads[0] if head is None and len(heads) == 1 else head
        if self.head not in heads:
            raise PotentialError(f"{name} has the heads {', '.join(heads)}; name one of them, got {head}")
        self._head_index = heads.index(self.head)
        # Row of each atomic number in the one-hot encoding.
        rows = torch.full((119,), -1, device=network.r_max.device)
        self._rows = rows.index_put((network.atomic_numbers,), torch.arange(len(self.elements), device=rows.device))

    def double(self) -> MACE:
        """A copy that computes in double precision."""
        with torchscript_silenced():
            network = deepcopy(self.network).double()
        return MACE(self.name, self.energy_scale, network, self.head)

    def forward(self, batch: CrystalBatch) -> Output:
        """Energies of the crystals, differentiable in `batch.positions` and `batch.cells`."""
        pairs = batch.pairs(float(self.network.r_max))
        shifts = torch.bmm(pairs.shifts[:, None, :], batch.cells.index_select(0, pairs.system_idx))[:, 0]
        # The network passes messages along directed edges.
        ends = torch.stack([torch.cat([pairs.first, pairs.second]), torch.cat([pairs.second, pairs.first])])
        starts = torch.tensor([0, *batch.sizes], device=ends.device).cumsum(0)
        atoms = self.network(
            {
                "positions": batch.positions.to(self.dtype),
                "cell": batch.cells.to(self.dtype).reshape(-1, 3),
                "node_attrs": torch.nn.functional.one_hot(
                    self._rows.index_select(0, batch.numbers), len(self.elements)
                ).to(self.dtype),
                "edge_index": ends,
                "shifts": torch.cat([shifts, -shifts]).to(self.dtype),
                "unit_shifts": torch.cat([pairs.shifts, -pairs.shifts]).to(self.dtype),
                "batch": batch.system_idx,
                "ptr": starts,
                "head": torch.full((batch.n_systems,), self._head_index, device=ends.device),
            },
            compute_force=False,
        )
        energies = atoms["node_energy"].double()
        return Output(energies=batch.per_system(energies), atom_energies=energies.detach())


def _load(path: str, device: torch.device) -> PlainNetwork:
    file = Path(path).expanduser()
    if not file.is_file():
        raise PotentialError(f"there is no MACE model {file}; mace:PATH takes a model file as MACE saves it")
    try:
        with torchscript_silenced():
            network = torch.load(file, map_location=device, weights_only=False)
    except (pickle.UnpicklingError, EOFError) as err:
        raise PotentialError(f"{file} is no file of torch; mace:PATH takes a model file as MACE saves it") from err
    if type(network) not in (PlainNetwork, ScaleShiftMACE):
        raise PotentialError(
            f"{file} holds a {type(network).__name__}; expected a model of energies, MACE or ScaleShiftMACE, as saved "
            "by its training, not one compiled for LAMMPS"
        )
    if hasattr(network, "joint_embedding"):
        raise PotentialError(
            f"{file} asks for {', '.join(network.embedding_specs)} beside the atoms, which crystals here do not carry"
        )
    return network.requires_grad_(False).eval()
