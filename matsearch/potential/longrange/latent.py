"""Latent charges: a short-range network and the Ewald sum of charges that it was never told.

E = sum of atomic energies + 1/2 sum over pairs and images of C q_i q_j erf(r/(√2 σ))/r, where a head on the network's
features gives the charges (B. Cheng, npj Comput. Mater. 11, 80 (2025)). Trained on energies and forces alone
(`matsearch.training.latent`), they come out up to one global sign. Conventions:

- The sum is converged (`matsearch.potential.longrange.ewald`), so that it does not jump with the cell, and an atom's
  energy with itself is taken off exactly: no residual self energy, which a sum cut at 2 π/2 Å^-1 has (10 meV/e²).
- Charges are shifted alike to the total charge (zero, unless `Conditions` say otherwise).
- A latent charge is screened by the electrons: it is the true one over sqrt(eps_inf). That does not follow from
  energies and forces: a model states its `optical_dielectric` and its source; Born charges are multiplied by its root.
- Born charges are the charge and the first moment of what its displacement does to the charges around, over the images
  (`matsearch.potential.wave`), the acoustic sum rule enforced. The published formula has sin(2 π (s_j - s_i)) L/2 π for
  the distance, which in a cell as small as a unit cell is none; this one is the same for a cell and its supercells.
- A field adds Z* E to the forces, to first order, and nothing to energy and stress: the energy of an infinite crystal
  in a field has no lower bound, and is many-valued.
- `isolated()` gives a copy for molecules: pairs without images. Their boxes leave vacuum beyond the cutoff.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError
from pymatgen.core import Element
from torch import Tensor, nn

from matsearch.errors import PotentialError
from matsearch.potential.batch import BatchPrediction, CrystalBatch, Output
from matsearch.potential.chgnet_plain import CHGNetBackbone
from matsearch.potential.device import torch_device
from matsearch.potential.heads import ElementHeads
from matsearch.potential.local import LocalNetwork, element_rows
from matsearch.potential.longrange.conditions import ChargedPotential, Conditions
from matsearch.potential.longrange.ewald import ewald_energy, isolated_energy
from matsearch.potential.response import (
    Response,
    forces_in_field,
    polarization,
    with_acoustic_sum_rule,
)

CONFIG, WEIGHTS = "model.json", "weights.safetensors"
"""Files of a model's folder."""
WAVE = 0.01
"""1/Å; slopes in it are exact for a network that takes from neighbours up to four times in a row."""


class LocalSettings(BaseModel, frozen=True, extra="forbid"):
    """Of a `LocalNetwork`."""

    kind: Literal["local"] = "local"
    cutoff: PositiveFloat = 5.0
    n_radial: PositiveInt = 8
    n_channels: PositiveInt = 8


class CHGNetSettings(BaseModel, frozen=True, extra="forbid"):
    """Of CHGNet as the network; its energies come along, and its weights can be trained."""

    kind: Literal["chgnet"] = "chgnet"
    weights: Literal["0.3.0", "r2scan"] = "0.3.0"


class LatentSettings(BaseModel, frozen=True, extra="forbid"):
    """What a model is, beside its weights: `model.json`.

    Attributes:
        elements: Symbols it knows.
        energy_scale: What its energies mean.
        energy_references: As `Potential.energy_references`; None where nobody fitted them.
        network: What gives the features.
        width: Of the heads' hidden layers; 0 for linear heads.
        long_range: False for the short-range twin, without charges.
        smearing: σ in Å.
        optical_dielectric: eps_inf; None where nobody said.
        optical_dielectric_source: Where that is from.
    """

    elements: tuple[str, ...]
    energy_scale: str
    energy_references: dict[str, float] | None = None
    network: Annotated[LocalSettings | CHGNetSettings, Field(discriminator="kind")] = LocalSettings()
    width: int = 32
    long_range: bool = True
    smearing: PositiveFloat = 1.0
    optical_dielectric: PositiveFloat | None = None
    optical_dielectric_source: str = ""


class LatentModel(nn.Module):
    """Energies and charges of atoms."""

    def __init__(self, settings: LatentSettings) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = _backbone(settings)
        self.register_buffer("_rows", element_rows(settings.elements), persistent=False)
        n_kinds, n_features = len(settings.elements), self.backbone.n_features
        # What a feature is on average and how far it spreads, for atoms of each element (`fit_scales`).
        self.register_buffer("means", torch.zeros(n_kinds, n_features, dtype=torch.float64))
        self.register_buffer("scales", torch.ones(n_kinds, n_features, dtype=torch.float64))
        self.energy_head = ElementHeads([0.0] * n_kinds, n_features, settings.width)
        if settings.long_range:
            self.charge_head = ElementHeads(starting_charges(settings.elements), n_features, settings.width)
        self._rows: Tensor
        self.means: Tensor
        self.scales: Tensor

    def forward(self, batch: CrystalBatch, wave: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """[n_atoms] in eV, and [n_atoms] in e before they are shifted to the total charge, or None."""
        features, energies = self.backbone(batch, wave)
        return self.heads(features, energies, batch)

    def heads(self, features: Tensor, energies: Tensor | None, batch: CrystalBatch) -> tuple[Tensor, Tensor | None]:
        """As `forward`, from the network's features and energies."""
        kinds = self.kinds(batch)
        features = (features - self.means.index_select(0, kinds)) / self.scales.index_select(0, kinds)
        charges = self.charge_head(features, kinds) if self.settings.long_range else None
        own = self.energy_head(features, kinds)
        return own if energies is None else own + energies, charges

    def kinds(self, batch: CrystalBatch) -> Tensor:
        """[n_atoms] which of the elements each atom is."""
        return self._rows.index_select(0, batch.numbers)

    @torch.no_grad()
    def fit_scales(self, batch: CrystalBatch) -> None:
        """Take mean and spread of the features from crystals."""
        self.take_scales(self.backbone(batch, None)[0], self.kinds(batch))

    @torch.no_grad()
    def take_scales(self, features: Tensor, kinds: Tensor) -> None:
        """Take mean and spread of features of atoms of these kinds."""
        for kind in kinds.unique().tolist():
            own = features[kinds == kind]
            self.means[kind] = own.mean(0)
            # One that hardly varies is not blown up, one that is always zero (an element that is not there) stays.
            spread = own.std(0, correction=0).maximum(0.03 * own.square().mean(0).sqrt())
            self.scales[kind] = torch.where(spread > 1e-12, spread, 1.0)


def _backbone(settings: LatentSettings) -> LocalNetwork | CHGNetBackbone:
    network = settings.network
    if network.kind == "chgnet":
        return CHGNetBackbone(network.weights)
    return LocalNetwork(settings.elements, network.cutoff, network.n_radial, network.n_channels)


def starting_charges(elements: Sequence[str]) -> list[float]:
    """Charges of the sign that electronegativity suggests, in e: at zero, energies would have no slope with them."""
    # Noble gases have none.
    chi = [Element(symbol).data.get("X") for symbol in elements]
    known = [float(value) for value in chi if value is not None]
    mean = sum(known) / len(known) if known else 0.0
    return [0.0 if value is None else 0.5 * (mean - float(value)) for value in chi]


class LatentPotential(ChargedPotential):
    """A short-range network with latent charges, or its twin without.

    Attributes:
        model: Network and heads; its parameters can be trained.
        settings: What the model is.
        periodic: False for molecules (`isolated`).
    """

    batch_atoms = 1000

    def __init__(
        self, name: str, model: LatentModel, device: torch.device | str = "cpu", periodic: bool = True
    ) -> None:
        self.name = name
        self.model = model.to(device)
        self.settings = model.settings
        self.energy_scale = self.settings.energy_scale
        self.energy_references = self.settings.energy_references
        self.elements = frozenset(self.settings.elements)
        self.device = str(device)
        self.periodic = periodic
        self.has_charges = self.settings.long_range

    @classmethod
    def new(cls, settings: LatentSettings, device: torch.device | str = "cpu", seed: int = 0) -> LatentPotential:
        """A model of random weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls("untrained", LatentModel(settings), device)

    def isolated(self) -> LatentPotential:
        """The same model (the same weights) for molecules, each in a box of its own."""
        return LatentPotential(f"{self.name} of molecules", self.model, self.device, periodic=False)

    def double(self) -> LatentPotential:
        """A copy in double precision, which CHGNet as the network is not in otherwise."""
        model = deepcopy(self.model).double()
        return LatentPotential(self.name, model, self.device, periodic=self.periodic)

    def output(self, batch: CrystalBatch, conditions: Conditions) -> Output:
        """Energies and charges at total charges; what a field does is `evaluate_under`'s."""
        atom_energies, raw = self.model(batch)
        return self.summed(batch, atom_energies, raw, conditions)

    def summed(self, batch: CrystalBatch, atom_energies: Tensor, raw: Tensor | None, conditions: Conditions) -> Output:
        """`output` from what the model says of the atoms."""
        energies = batch.per_system(atom_energies)
        if raw is None:
            return Output(energies=energies, atom_energies=atom_energies.detach())
        charges = self.shifted(batch, raw, conditions)
        return Output(energies=energies + self._electrostatic(batch, charges), charges=charges.detach())

    @torch.inference_mode(False)
    def evaluate_under(self, batch: CrystalBatch, conditions: Conditions) -> BatchPrediction:
        """`evaluate` at total charges and in a field, which adds to the forces alone.

        Raises:
            PotentialError: A slab was asked for, or a field of a model without charges.
            ValueError: The conditions do not fit the batch.
        """
        if conditions.slab_axis is not None:
            raise PotentialError(f"{self.name} knows no slabs in a field; leave slab_axis out")
        prediction = super().evaluate_under(batch, conditions)
        if conditions.field is None:
            return prediction
        born = self.response(batch, conditions).born_charges
        return replace(prediction, forces=prediction.forces + forces_in_field(batch, born, conditions.field))

    @torch.inference_mode(False)
    def response(self, batch: CrystalBatch, conditions: Conditions | None = None) -> Response:
        """Born charges from the charges, all else from them and `optical_dielectric`; NaN where that is not stated.

        Without an `optical_dielectric` Born charges are those of screened charges, as if it were one. A molecule is
        not screened, so that it is not asked for there.

        Raises:
            PotentialError: The model has no charges.
        """
        conditions = conditions or Conditions()
        charges, moments = self._charges_and_moments(batch)
        charges = self.shifted(batch, charges, conditions)
        unit = torch.eye(3, dtype=charges.dtype, device=charges.device)
        constant = self.settings.optical_dielectric if self.periodic else 1.0
        root = math.sqrt(constant or 1.0)
        born = root * (charges[:, None, None] * unit + moments)
        totals = None if conditions.total_charges is None else root * conditions.applied(batch)[0]
        dielectric = (math.nan if constant is None else constant) * unit.expand(batch.n_systems, 3, 3)
        return Response(
            polarization=polarization(batch, root * charges),
            born_charges=with_acoustic_sum_rule(batch, born, totals),
            polarizability=(dielectric - unit) * batch.volumes[:, None, None] / (4 * math.pi),
            dielectric=dielectric,
        )

    def save(self, folder: str | Path) -> None:
        """Write settings and weights into a folder, which `load_potential` takes by its path."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self.model.state_dict().items()}, folder / WEIGHTS)
        text = json.dumps({"potential": "latent"} | self.settings.model_dump(mode="json"), indent=1)
        (folder / CONFIG).write_text(text + "\n", "utf-8")

    def shifted(self, batch: CrystalBatch, raw: Tensor, conditions: Conditions) -> Tensor:
        """Charges that sum to the total charges."""
        totals, _ = conditions.applied(batch)
        sizes = torch.tensor(batch.sizes, dtype=raw.dtype, device=raw.device)
        return raw + ((totals - batch.per_system(raw)) / sizes).index_select(0, batch.system_idx)

    def _electrostatic(self, batch: CrystalBatch, charges: Tensor) -> Tensor:
        exponents = torch.full_like(charges, self.settings.smearing**-2)
        if self.periodic:
            return ewald_energy(batch, charges, exponents)
        return isolated_energy(batch.positions, charges, batch.system_idx, batch.n_systems, exponents)

    def _charges_and_moments(self, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Raw charges, and [n_atoms, 3, 3] the dipole (about the atom) that an atom's displacement induces.

        A central difference, extrapolated, of slopes that are polynomials of the wave.
        """
        positions = batch.positions.detach().requires_grad_()
        still = batch.moved(positions, batch.cells.detach())

        def slope(axis: int, size: float) -> Tensor:
            wave = torch.zeros(3, dtype=positions.dtype, device=positions.device)
            wave[axis] = size
            with torch.enable_grad():
                _, charges = self.model(still, wave)
                if charges is None:
                    raise PotentialError(f"{self.name} is a twin without charges, so that no field acts on it")
                (found,) = torch.autograd.grad(charges.sum(), positions)
            return found

        rows = []
        for axis in range(3):
            near = slope(axis, WAVE) - slope(axis, -WAVE)
            far = slope(axis, 2 * WAVE) - slope(axis, -2 * WAVE)
            # The wave counts from the atom whose charge changes to the one that moves; a dipole the other way round.
            rows.append(-(8 * near - far) / (12 * WAVE))
        with torch.no_grad():
            _, charges = self.model(still)
        return charges, torch.stack(rows, 1)


def load(folder: str, device: str = "auto") -> LatentPotential:
    """The model of a folder, under the folder's path as its name.

    Raises:
        PotentialError: A file is missing or does not say what it should.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder).expanduser()
    try:
        settings = json.loads((path / CONFIG).read_text("utf-8"))
        kind = settings.pop("potential", None)
        if kind != "latent":
            raise PotentialError(f"{path / CONFIG} is of a potential {kind!r}; expected 'latent'")
        weights = load_file(path / WEIGHTS)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError, SafetensorError) as err:
        raise PotentialError(f"{path} holds no model ({CONFIG} and {WEIGHTS}): {err}") from err
    try:
        model = LatentModel(LatentSettings.model_validate(settings))
        model.load_state_dict(weights)
    except (ValidationError, RuntimeError) as err:
        lines = " ".join(str(err).split())
        raise PotentialError(f"{path / CONFIG} and {WEIGHTS} do not make a model: {lines}") from err
    return LatentPotential(folder, model.requires_grad_(False), torch_device(device))
