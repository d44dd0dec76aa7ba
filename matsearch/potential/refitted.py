"""CHGNet with weights of its own, and the long-range terms that they were trained beside.

    E = network and its composition energies + PQEq beyond near neighbours and (or) D3, as the settings list them

The network was fitted to what the terms leave of the labels (`matsearch.training.refit`), so that nothing counts twice,
which is why the two are one potential: a folder, `model.json` and `weights.safetensors`, by its path. Where PQEq is
among the terms, it has charges, and answers to a field and to a total charge, as PQEq does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, FiniteFloat, ValidationError
from torch import Tensor

from matsearch.errors import MatsearchError, PotentialError
from matsearch.potential.batch import CrystalBatch, Output
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.chgnet import CHGNet
from matsearch.potential.device import torch_device
from matsearch.potential.longrange.conditions import ChargedPotential, Conditions
from matsearch.potential.names import MODEL_FILE, load_potential

if TYPE_CHECKING:
    from matsearch.potential.response import Response

WEIGHTS = "weights.safetensors"


class RefittedSettings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What a refitted potential is, beside its weights: `model.json`.

    Attributes:
        start: What the weights were trained from.
        energy_scale: What the energies mean.
        elements: Symbols that the labels held.
        terms: Names of the terms that are added, as `load_potential` knows them.
        energy_references: In eV/atom by symbol, of the whole energy: those that leave little of every crystal
            (`Potential.energy_references`). The network's own composition energies are among its weights.
    """

    potential: Literal["refitted"] = "refitted"
    start: str
    energy_scale: str
    elements: tuple[str, ...]
    terms: tuple[str, ...] = ()
    energy_references: dict[str, FiniteFloat]


class RefittedPotential(ChargedPotential):
    """CHGNet with other weights, and terms.

    Attributes:
        settings: What it is.
        network: The network alone; its energies are no whole ones where there are terms.
        terms: What is added.
    """

    def __init__(
        self,
        name: str,
        settings: RefittedSettings,
        weights: Mapping[str, Tensor],
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Make one of weights, by the names of the `chgnet` package.

        Raises:
            PotentialError: A term is none or is not known, or an element has no energy reference or parameters.
        """
        device = torch.device(device)
        self.name = name
        self.settings = settings
        self.energy_scale = settings.energy_scale
        self.device = str(device)
        self._weights = dict(weights)
        self.network = CHGNet(name, settings.energy_scale, self._weights, device, dtype)
        self.terms = tuple(_term(one, self.device) for one in settings.terms)
        self.holds = frozenset(settings.terms)
        self.elements = frozenset(settings.elements)
        known = frozenset.intersection(
            self.network.elements, settings.energy_references.keys(), *(term.elements for term in self.terms)
        )
        if not self.elements or self.elements - known:
            unknown = ", ".join(sorted(self.elements - known)) or "none listed"
            raise PotentialError(f"{name}: a part of it, or its energy_references, lack elements: {unknown}")
        self.energy_references = {symbol: settings.energy_references[symbol] for symbol in sorted(self.elements)}
        self.batch_atoms = min([self.network.batch_atoms, *(term.batch_atoms for term in self.terms)])
        charged = [term for term in self.terms if isinstance(term, ChargedPotential)]
        self._charged = charged[0] if charged else None
        self.has_charges = self._charged is not None
        if self._charged is not None:
            self.not_finite = self._charged.not_finite

    def double(self) -> RefittedPotential:
        """The same with its network in double precision."""
        return RefittedPotential(self.name, self.settings, self._weights, self.device, torch.float64)

    def output(self, batch: CrystalBatch, conditions: Conditions) -> Output:
        """The sum; charges of PQEq, moments and features of the network.

        Raises:
            PotentialError: There is no charged term to answer to the conditions.
        """
        found = self.network.forward(batch)
        energies, charges = found.energies, None
        if self._charged is None and not _plain(conditions):
            raise PotentialError(f"{self.name} has no charges, so that it does not answer to a field or a total charge")
        for term in self.terms:
            if term is self._charged:
                added = self._charged.output(batch, conditions)
                charges = added.charges
            else:
                added = term.forward(batch)
            energies = energies + added.energies
        return Output(energies=energies, magmoms=found.magmoms, charges=charges, features=found.features)

    def response(self, batch: CrystalBatch, conditions: Conditions | None = None) -> Response:
        """That of its charges.

        Raises:
            PotentialError: It has none.
        """
        if self._charged is None:
            raise PotentialError(f"{self.name} was made without charges, so that no field acts on it")
        return self._charged.response(batch, conditions)

    def charges(self, batch: CrystalBatch) -> tuple[Tensor, dict[int, str]]:
        """Those of its charged term alone.

        Raises:
            PotentialError: It has none.
        """
        if self._charged is None:
            raise PotentialError(f"{self.name} was made without charges")
        return self._charged.charges(batch)

    def save(self, folder: str | Path) -> None:
        """Write settings and weights into a folder, which `load_potential` takes by its path."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: one.detach().cpu().contiguous() for name, one in self._weights.items()}, folder / WEIGHTS)
        (folder / MODEL_FILE).write_text(self.settings.model_dump_json(indent=1) + "\n", "utf-8")

    def weights(self) -> dict[str, Tensor]:
        """By the names of the `chgnet` package."""
        return dict(self._weights)


def matsearch_lr(device: str = "auto") -> RefittedPotential:
    """The one that comes with the package; its card is in `matsearch/potential/cards`."""
    with as_file(files("matsearch.potential") / "trained" / "matsearch-lr") as folder:
        return load(str(folder), device, name="matsearch-lr")


def load(folder: str, device: str = "auto", *, name: str | None = None) -> RefittedPotential:
    """The potential of a folder, under the folder's path as its name where it is given no other.

    Raises:
        PotentialError: A file is missing or does not say what it should.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder).expanduser()
    try:
        settings = RefittedSettings.model_validate(json.loads((path / MODEL_FILE).read_text("utf-8")))
        weights = load_file(path / WEIGHTS)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, SafetensorError) as err:
        raise PotentialError(f"{path} holds no model ({MODEL_FILE} and {WEIGHTS}): {err}") from err
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PotentialError(f"{path / MODEL_FILE} says nothing of a potential: {where}: {first['msg']}") from err
    try:
        made = RefittedPotential(name or folder, settings, weights, torch_device(device))
    except KeyError as err:
        raise PotentialError(f"{path / WEIGHTS} lacks the weights {err}") from err
    except MatsearchError as err:
        raise PotentialError(f"{path}: {err}") from err
    made.weight_files = (path / MODEL_FILE, path / WEIGHTS)
    return made


def _term(name: str, device: str) -> BatchedPotential:
    term = load_potential(name, device)
    if not term.is_term or not isinstance(term, BatchedPotential):
        raise PotentialError(f"{name} is no term that adds to a network; expected pqeq-far or d3(FUNCTIONAL,DAMPING)")
    return term


def _plain(conditions: Conditions) -> bool:
    return conditions.total_charges is None and conditions.field is None and conditions.slab_axis is None
