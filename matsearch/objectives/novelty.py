"""How far a crystal is from what is known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from matsearch.objectives.stability import ReferenceObjective, compositions_of, fractions_of
from matsearch.records import Direction, Rejection, Relaxed, Stage


class Novelty(ReferenceObjective):
    """1 where no known phase is the same crystal, 0 where one is, as StructureMatcher compares them.

    A phase counts as its source lists it and as the potential relaxed it. As a constraint, `">= 1"` turns away what is
    known before dearer objectives are computed.
    """

    name = "novelty"
    unit = "1"
    direction: Direction = "max"
    needs = ("known phases",)

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """0 or 1; `no_reference` for elements of which no phase is known."""
        return [self._value(one) for one in relaxed]

    def _value(self, relaxed: Relaxed) -> float | Rejection:
        unknown = sorted(fractions_of(relaxed.structure).keys() - self.reference.known_elements)
        if unknown:
            return Rejection(Stage.SCORE, "no_reference", f"no known phases with {', '.join(unknown)}")
        return float(self.reference.match(relaxed.structure) is None)


class DistanceToKnown(ReferenceObjective):
    """Share of the atoms that would have to be of another element to give the nearest composition of a known phase.

    0 where a phase of this composition is known, whatever its structure; at most 1. It is half the sum of the absolute
    differences of the atomic fractions.
    """

    name = "distance_to_known"
    unit = "1"
    direction: Direction = "max"
    needs = ("known phases",)

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """0 to 1."""
        return [self._value(one) for one in relaxed]

    def _value(self, relaxed: Relaxed) -> float:
        symbols, known = self._compositions
        shares = fractions_of(relaxed.structure)
        # Per phase, the overlap of two compositions is the sum of the smaller fractions; the rest is the distance.
        columns = [(symbols.index(symbol), share) for symbol, share in shares.items() if symbol in symbols]
        overlap = np.zeros(len(known))
        for column, share in columns:
            overlap += np.minimum(known[:, column], share)
        return max(0.0, 1.0 - float(overlap.max()))

    @cached_property
    def _compositions(self) -> tuple[list[str], np.ndarray]:
        symbols, fractions, _ = compositions_of(self.reference)
        return symbols, fractions
