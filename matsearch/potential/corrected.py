"""A potential with its energies set right: other composition energies, and a scale for each chemical system.

    E = sum of new composition energies + c (E_base - sum of the base's own)

The scale c multiplies what the network gives, and with it forces and stress. It mends the softening of a potential that
saw mostly relaxed crystals (`matsearch.training.softening`); the composition energies carry it to labels of another
functional (`matsearch.training.referencing`). A folder with such a correction is a potential by its path:

    model.json: {"potential": "corrected", "base": "chgnet-0.3.0", "scales": {"Cl-Na": 1.08}, ...}

Its energies are its own, so it has a name, and a hull, of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
from ase.data import atomic_numbers, chemical_symbols
from pydantic import BaseModel, FiniteFloat, PositiveFloat, ValidationError
from torch import Tensor

from matsearch.errors import MatsearchError, PotentialError
from matsearch.potential.base import Potential
from matsearch.potential.batch import CrystalBatch, Output
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.names import MODEL_FILE, load_potential
from matsearch.records import content_hash


class Correction(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What is corrected: `model.json`.

    Attributes:
        base: The potential that is corrected, as `load_potential` knows it.
        scales: By chemical system (`chemical_system`), c; crystals of a system that is not listed keep their scale,
            those of its subsystems included.
        energy_references: New composition energies in eV/atom by symbol; None for those of the base. Elements that are
            not listed are no longer known.
        energy_scale: What the energies mean then; None for what those of the base do.
    """

    potential: Literal["corrected"] = "corrected"
    base: str
    scales: dict[str, PositiveFloat] = {}
    energy_references: dict[str, FiniteFloat] | None = None
    energy_scale: str | None = None

    def after(self, earlier: Correction) -> Correction:
        """The one correction that does both, of what the earlier one corrects."""
        systems = sorted({*self.scales, *earlier.scales})
        scales = {one: earlier.scales.get(one, 1.0) * self.scales.get(one, 1.0) for one in systems}
        references = earlier.energy_references if self.energy_references is None else self.energy_references
        return Correction(
            base=earlier.base,
            scales=scales,
            energy_references=references,
            energy_scale=self.energy_scale or earlier.energy_scale,
        )


class CorrectedPotential(BatchedPotential):
    """A potential under a correction.

    Attributes:
        base: What is corrected; where that was corrected already, what it was made of.
        correction: How, both corrections in one.
    """

    base: BatchedPotential
    correction: Correction

    def __init__(self, base: Potential, correction: Correction, name: str | None = None) -> None:
        """Correct a potential.

        Args:
            base: Computes on batches and declares composition energies (`Potential.energy_references`).
            correction: Its `base` is not looked at.
            name: Of the corrected potential; None for one made of the base's and of what is corrected.

        Raises:
            PotentialError: The base cannot be corrected, or the correction names what it does not know.
        """
        if not isinstance(base, BatchedPotential) or base.energy_references is None:
            raise PotentialError(
                f"{base.name} cannot be corrected: that takes a potential that computes on batches and declares its "
                "composition energies (energy_references), such as chgnet-0.3.0"
            )
        own = base.energy_references
        new = own if correction.energy_references is None else correction.energy_references
        if unknown := sorted(new.keys() - own.keys()):
            raise PotentialError(f"{base.name} knows no {', '.join(unknown)}; leave out their composition energies")
        if new != own and correction.energy_scale is None:
            raise PotentialError("composition energies give energies of another meaning; state their energy_scale")
        if isinstance(base, CorrectedPotential):
            # Both in one, so that what is saved needs nothing but the first base.
            correction = correction.after(base.correction)
            base = base.base
            assert base.energy_references is not None, "it was corrected"
            own = base.energy_references
        self.base = base
        self.correction = correction
        content = [base.name, correction.model_dump(mode="json", exclude={"base"})]
        self.name = name or f"{base.name} corrected {content_hash(content)[:8]}"
        self.energy_scale = correction.energy_scale or base.energy_scale
        self.elements = base.elements & frozenset(new)
        self.device = base.device
        self.energy_references = {symbol: float(new[symbol]) for symbol in sorted(self.elements)}
        self.not_finite = base.not_finite
        self.fitted_beside, self.holds = base.fitted_beside, base.holds
        self.batch_atoms = base.batch_atoms
        self.weight_files = base.weight_files
        self._own = _table(own, self.elements, self.device)
        self._new = _table(new, self.elements, self.device)
        self._systems = torch.zeros(len(correction.scales), len(chemical_symbols), device=self.device)
        for row, system in enumerate(correction.scales):
            self._systems[row, _numbers(system, self.elements)] = 1
        factors = torch.tensor(list(correction.scales.values()), dtype=torch.float64, device=self.device)
        self._above_one = factors - 1

    def double(self) -> CorrectedPotential:
        """The same with its base in double precision.

        Raises:
            PotentialError: The base offers no copy in double precision.
        """
        if not hasattr(self.base, "double"):
            raise PotentialError(f"{self.base.name} offers no copy in double precision")
        return CorrectedPotential(self.base.double(), self.correction, self.name)

    def forward(self, batch: CrystalBatch) -> Output:
        """Corrected energies; moments, charges and features are those of the base."""
        output = self.base.forward(batch)
        own, new = (table.index_select(0, batch.numbers) for table in (self._own, self._new))
        scales = self._scales(batch)
        atoms = output.atom_energies
        if atoms is not None:
            atoms = new + scales.index_select(0, batch.system_idx) * (atoms - own)
        return Output(
            energies=batch.per_system(new) + scales * (output.energies - batch.per_system(own)),
            magmoms=output.magmoms,
            charges=output.charges,
            atom_energies=atoms,
            features=output.features,
        )

    def save(self, folder: str | Path) -> None:
        """Write the correction into a folder, which `load_potential` takes by its path."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        base = Path(self.base.name).expanduser()
        # A base that is a folder itself has to be found from elsewhere.
        name = str(base.resolve()) if (base / MODEL_FILE).is_file() else self.base.name
        text = self.correction.model_copy(update={"base": name}).model_dump_json(indent=1)
        (folder / MODEL_FILE).write_text(text + "\n", "utf-8")

    def _scales(self, batch: CrystalBatch) -> Tensor:
        """[n_systems] c of each crystal."""
        present = self._systems.new_zeros(batch.n_systems, len(chemical_symbols))
        present[batch.system_idx, batch.numbers] = 1
        same = (present[:, None] == self._systems).all(2)
        return 1 + same.double() @ self._above_one


def chemical_system(symbols: Iterable[str]) -> str:
    """The elements, each once, sorted and joined: `Cl-Na`."""
    return "-".join(sorted(set(symbols)))


def load(folder: str, device: str = "auto") -> CorrectedPotential:
    """The corrected potential of a folder, under the folder's path as its name.

    Raises:
        PotentialError: The file is missing, does not say what it should, or its base cannot be loaded.
    """
    path = Path(folder).expanduser() / MODEL_FILE
    try:
        correction = Correction.model_validate(json.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as err:
        raise PotentialError(f"{path} holds no correction of a potential: {err}") from err
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PotentialError(f"{path} holds no correction of a potential: {where}: {first['msg']}") from err
    try:
        base = load_potential(correction.base, device)
        made = CorrectedPotential(base, correction, folder)
    except MatsearchError as err:
        raise PotentialError(f"{path}: {err}") from err
    made.weight_files = (path, *base.weight_files)
    return made


def _table(references: Mapping[str, float], elements: Iterable[str], device: str) -> Tensor:
    """[119] composition energies in eV/atom by atomic number; NaN for elements that are not known."""
    table = torch.full((len(chemical_symbols),), torch.nan, dtype=torch.float64)
    for symbol in elements:
        table[atomic_numbers[symbol]] = references[symbol]
    return table.to(device)


def _numbers(system: str, elements: frozenset[str]) -> list[int]:
    symbols = system.split("-")
    if unknown := sorted(set(symbols) - elements):
        raise PotentialError(f"the scale of {system!r} is for what the potential does not know: {', '.join(unknown)}")
    if system != chemical_system(symbols):
        raise PotentialError(f"a chemical system is written {chemical_system(symbols)!r}, not {system!r}")
    return [atomic_numbers[symbol] for symbol in symbols]
