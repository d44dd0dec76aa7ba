"""Energy above the hull of known phases."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from matsearch.objectives.base import Objective, ObjectiveContext
from matsearch.records import Direction, Rejection, Relaxed

if TYPE_CHECKING:
    from matsearch.reference.known import Reference


class EnergyAboveHull(Objective):
    """Energy above the hull of the reference phases, in eV/atom.

    Candidates are never part of the hull, so a new stable crystal comes out negative. Reference and candidate stand on
    the same potential, the same corrections and the same relaxation.
    """

    name = "energy_above_hull"
    unit = "eV/atom"
    direction: Direction = "min"

    def __init__(self, context: ObjectiveContext) -> None:
        self._context = context

    @cached_property
    def _reference(self) -> Reference:
        if self._context.reference is not None:
            return self._context.reference
        from matsearch.reference.known import load_reference

        return load_reference(self._context.potential.name)

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """eV/atom, or a rejection `no_reference` where the reference does not cover the elements.

        Raises:
            MissingReferenceError: No reference exists for this potential.
            MixedHullError: A crystal was relaxed on another potential.
        """
        return [self._reference.height(one) for one in relaxed]
