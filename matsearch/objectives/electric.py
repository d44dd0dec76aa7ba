"""Charges and electric response of relaxed crystals, by their potential's charges or by charge equilibration (PQEq).

A potential with charges of its own (latent ones, PQEq) is asked, else PQEq with the parameters of Gao et al., and that
about the geometry alone: its energy takes no part, whatever potential relaxed the crystal. The response is that of
clamped ions; of PQEq, that of its shells at fixed charges (`matsearch.potential.response`). The published springs are
those of neutral atoms, so that dielectric constants of salts come out far too high (NaCl: 9.6, measured 2.3). Latent
charges are screened, and their model states the dielectric constant (`matsearch.potential.longrange.latent`).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matsearch.objectives.base import Objective, ObjectiveContext
from matsearch.potential import Potential
from matsearch.records import Direction, Rejection, Relaxed, Stage

if TYPE_CHECKING:
    from matsearch.potential.batch import CrystalBatch
    from matsearch.potential.longrange.conditions import ChargedPotential


class ElectricObjective(Objective):
    """What a potential with charges says of a crystal."""

    direction: Direction = "max"
    needs = ("PQEq parameters, or a potential with charges",)

    def __init__(self, context: ObjectiveContext) -> None:
        self._charged = _charged(context.potential)
        self._name = "PQEq" if self._charged.name.startswith("pqeq") else self._charged.name

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """Reasons of rejection: `no_parameters` of an element, `no_stable_charges`, `no_dielectric_constant`."""
        from matsearch.potential.batch import CrystalBatch

        unknown = [self._charged.untrained(one.structure) for one in relaxed]
        values: list[float | Rejection] = [
            Rejection(Stage.SCORE, "no_parameters", f"{self._name} knows no {', '.join(one)}") for one in unknown
        ]
        known = [number for number, one in enumerate(unknown) if not one]
        if not known:
            return values
        batch = CrystalBatch.from_structures([relaxed[number].structure for number in known], self._charged.device)
        _, failures = self._charged.charges(batch)
        for place, (number, value) in enumerate(zip(known, self._values(self._charged, batch), strict=True)):
            if place in failures:
                values[number] = Rejection(Stage.SCORE, "no_stable_charges", failures[place])
            elif math.isnan(value):
                detail = f"{self._name} does not state its optical dielectric constant"
                values[number] = Rejection(Stage.SCORE, "no_dielectric_constant", detail)
            else:
                values[number] = value
        return values

    @abstractmethod
    def _values(self, charged: ChargedPotential, batch: CrystalBatch) -> list[float]:
        """One for each crystal; anything for one without charges."""


class Charges(ElectricObjective):
    """The largest magnitude of an atom's charge."""

    name = "charges"
    unit = "e"

    def _values(self, charged: ChargedPotential, batch: CrystalBatch) -> list[float]:
        magnitudes = charged.charges(batch)[0].abs()
        return [float(part.max()) for part in magnitudes.split(list(batch.sizes))]


class BornCharges(ElectricObjective):
    """The largest magnitude of an atom's Born charge, the mean of its three diagonal elements."""

    name = "born_charges"
    unit = "e"

    def _values(self, charged: ChargedPotential, batch: CrystalBatch) -> list[float]:
        means = charged.response(batch).born_charges.diagonal(dim1=1, dim2=2).mean(1).abs()
        return [float(part.max()) for part in means.split(list(batch.sizes))]


class Polarizability(ElectricObjective):
    """Electronic polarizability per atom, the mean of the three axes, to the field inside the crystal."""

    name = "polarizability"
    unit = "Å^3/atom"

    def _values(self, charged: ChargedPotential, batch: CrystalBatch) -> list[float]:
        means = charged.response(batch).polarizability.diagonal(dim1=1, dim2=2).mean(1).tolist()
        return [mean / size for mean, size in zip(means, batch.sizes, strict=True)]


def _charged(potential: Potential) -> ChargedPotential:
    """The potential, or the part of a sum, that has charges; else PQEq."""
    from matsearch.potential.longrange.conditions import ChargedPotential
    from matsearch.potential.longrange.pqeq import pqeq

    for part in getattr(potential, "parts", (potential,)):
        if isinstance(part, ChargedPotential) and part.has_charges:
            return part
    return pqeq(potential.device)
