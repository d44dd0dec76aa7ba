"""Charges and electric response of relaxed crystals, by polarizable charge equilibration (PQEq).

PQEq is asked about the geometry alone: its energy takes no part, whatever potential relaxed the crystal. The response
is that of its shells at fixed charges and clamped ions (`matsearch.potential.response`). The published springs are
those of neutral atoms, so that dielectric constants of salts come out far too high (NaCl: 9.6, measured 2.3).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matsearch.objectives.base import Objective, ObjectiveContext
from matsearch.records import Direction, Rejection, Relaxed, Stage

if TYPE_CHECKING:
    from matsearch.potential.batch import CrystalBatch
    from matsearch.potential.longrange.pqeq import PQEq


class ElectricObjective(Objective):
    """What PQEq says of a crystal, with the parameters of Gao et al."""

    direction: Direction = "max"
    needs = ("PQEq parameters",)

    def __init__(self, context: ObjectiveContext) -> None:
        from matsearch.potential.longrange.pqeq import pqeq

        self._pqeq = pqeq(context.potential.device)

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """Reasons of rejection: `no_parameters` of an element, `no_stable_charges`."""
        from matsearch.potential.batch import CrystalBatch

        unknown = [self._pqeq.untrained(one.structure) for one in relaxed]
        values: list[float | Rejection] = [
            Rejection(Stage.SCORE, "no_parameters", f"PQEq knows no {', '.join(one)}") for one in unknown
        ]
        known = [number for number, one in enumerate(unknown) if not one]
        if not known:
            return values
        batch = CrystalBatch.from_structures([relaxed[number].structure for number in known], self._pqeq.device)
        failures = self._pqeq.equilibrium(batch).failures
        for place, (number, value) in enumerate(zip(known, self._values(self._pqeq, batch), strict=True)):
            failed = failures.get(place)
            values[number] = Rejection(Stage.SCORE, "no_stable_charges", failed) if failed else value
        return values

    @abstractmethod
    def _values(self, pqeq: PQEq, batch: CrystalBatch) -> list[float]:
        """One for each crystal; anything for one without charges."""


class Charges(ElectricObjective):
    """The largest magnitude of an atom's charge."""

    name = "charges"
    unit = "e"

    def _values(self, pqeq: PQEq, batch: CrystalBatch) -> list[float]:
        magnitudes = pqeq.equilibrium(batch).charges.abs()
        return [float(part.max()) for part in magnitudes.split(list(batch.sizes))]


class BornCharges(ElectricObjective):
    """The largest magnitude of an atom's Born charge, the mean of its three diagonal elements."""

    name = "born_charges"
    unit = "e"

    def _values(self, pqeq: PQEq, batch: CrystalBatch) -> list[float]:
        from matsearch.potential.response import shell_response

        means = shell_response(pqeq, batch).born_charges.diagonal(dim1=1, dim2=2).mean(1).abs()
        return [float(part.max()) for part in means.split(list(batch.sizes))]


class Polarizability(ElectricObjective):
    """Electronic polarizability per atom, the mean of the three axes, to the field inside the crystal."""

    name = "polarizability"
    unit = "Å^3/atom"

    def _values(self, pqeq: PQEq, batch: CrystalBatch) -> list[float]:
        from matsearch.potential.response import shell_response

        means = shell_response(pqeq, batch).polarizability.diagonal(dim1=1, dim2=2).mean(1).tolist()
        return [mean / size for mean, size in zip(means, batch.sizes, strict=True)]
