"""Potentials that add: `load_potential("chgnet-0.3.0+d3(pbe,bj)")`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import torch
from torch import Tensor

from matsearch.errors import PotentialError
from matsearch.potential.base import Potential
from matsearch.potential.batch import CrystalBatch, Output
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.longrange.conditions import ChargedPotential


class PotentialSum(BatchedPotential):
    """One potential of whole energies and terms that it lacks, added before one backward pass.

    Its name lists the parts, terms sorted, and is the key of a hull of its own: energies of a sum meet no others.
    Magnetic moments, charges and features are those of the first part that has them.

    Attributes:
        parts: The potentials that are added.
    """

    def __init__(self, parts: Sequence[Potential]) -> None:
        """Add potentials.

        Args:
            parts: At most one that gives whole energies, and terms (`Potential.is_term`), each once, on one device.

        Raises:
            PotentialError: They do not add up to an energy: two of whole energies, one part twice, a term that needs a
                potential that was refitted beside it; no element is known to all, or one gives no energies of a batch.
        """
        self.parts = tuple(_batched(part) for part in sorted(parts, key=lambda part: (part.is_term, part.name)))
        self.name = "+".join(part.name for part in self.parts)
        self.energy_scale = "+".join(part.energy_scale for part in self.parts)
        _require_addable(self.parts)
        self.device = self.parts[0].device
        self.elements = reduce(frozenset.intersection, (part.elements for part in self.parts))
        if not self.elements:
            raise PotentialError(f"{self.name}: there is no element that all parts know")
        self.batch_atoms = min(part.batch_atoms for part in self.parts)
        self.is_term = all(part.is_term for part in self.parts)
        self.holds = frozenset(name for part in self.parts for name in (part.name, *part.holds))
        self.energy_references = self._references()
        self.weight_files = tuple(file for part in self.parts for file in part.weight_files)
        own = [part.not_finite for part in self.parts if part.not_finite != Potential.not_finite]
        self.not_finite = "; ".join(own) or Potential.not_finite

    def _references(self) -> dict[str, float] | None:
        """Those of all parts together, so that what is left is small for every crystal; None where a part has none."""
        tables = [part.energy_references for part in self.parts]
        known = [table for table in tables if table is not None]
        if len(known) < len(tables):
            return None
        return {symbol: sum(table[symbol] for table in known) for symbol in sorted(self.elements)}

    def double(self) -> PotentialSum:
        """The sum of the parts in double precision.

        Raises:
            PotentialError: A part offers no copy in double precision.
        """
        copies = []
        for part in self.parts:
            if not hasattr(part, "double"):
                raise PotentialError(f"{part.name} offers no copy in double precision")
            copies.append(part.double())
        return PotentialSum(copies)

    def forward(self, batch: CrystalBatch) -> Output:
        """The sum of the energies, and what the parts know of the atoms."""
        outputs = [part.forward(batch) for part in self.parts]
        atom_energies = [one.atom_energies for one in outputs if one.atom_energies is not None]
        return Output(
            energies=torch.stack([one.energies for one in outputs]).sum(0),
            magmoms=_first(one.magmoms for one in outputs),
            charges=_first(one.charges for one in outputs),
            atom_energies=torch.stack(atom_energies).sum(0) if len(atom_energies) == len(outputs) else None,
            features=_first(one.features for one in outputs),
        )


def _batched(part: Potential) -> BatchedPotential:
    """The part, where it gives energies of a batch.

    Raises:
        PotentialError: It does not.
    """
    if not isinstance(part, BatchedPotential):
        raise PotentialError(
            f"{part.name} gives no energies of a batch that could be added before the backward pass; make it a "
            "BatchedPotential, or add the forces and stresses of its calculator (ase.calculators.mixing)"
        )
    return part


def _require_addable(parts: Sequence[BatchedPotential]) -> None:
    names = [part.name for part in parts]
    kinds = [name.partition("(")[0] for part in parts for name in (part.name, *part.holds)]
    if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        raise PotentialError(f"{'+'.join(names)} adds {', '.join(twice)} twice; take one")
    charged = [
        part.name
        for part in parts
        if part.needs_refit is not None or (isinstance(part, ChargedPotential) and part.has_charges)
    ]
    if len(charged) > 1:
        raise PotentialError(f"{' and '.join(charged)} hold the energy of charges each; a sum takes one of them")
    whole = [part for part in parts if not part.is_term]
    if len(whole) > 1:
        raise PotentialError(
            f"{' and '.join(part.name for part in whole)} give whole energies each; a sum takes one of them, and terms "
            "such as d3(pbe,bj)"
        )
    for term in parts:
        for part in whole:
            if term.needs_refit is not None and term.name not in part.fitted_beside:
                raise PotentialError(
                    f"{part.name} was not refitted beside {term.name}, so they do not add: {term.needs_refit}"
                )


def _first(values: Iterable[Tensor | None]) -> Tensor | None:
    return next((one for one in values if one is not None), None)
