"""Magnetic moments as a potential predicts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from matsearch.objectives.base import Objective, ObjectiveContext
from matsearch.records import Direction, Prediction, Rejection, Relaxed, Stage


class MomentBound(Objective):
    """Sum of the atoms' magnetic moments per atom, in Bohr magnetons.

    The potential gives magnitudes: spins may point either way, so this bounds a net magnetisation from above, and
    ferromagnets and antiferromagnets look the same.
    """

    name = "magnetic_moment"
    unit = "μB/atom"
    direction: Direction = "max"
    needs = ("potential with magnetic moments",)

    def __init__(self, context: ObjectiveContext) -> None:
        self._potential = context.potential

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """The sum of magnitudes; `no_moments` where the potential has none, `out_of_domain` where it cannot know."""
        predictions = self._potential.predict([one.structure for one in relaxed])
        return [self._value(one, told) for one, told in zip(relaxed, predictions, strict=True)]

    def _value(self, relaxed: Relaxed, told: Prediction) -> float | Rejection:
        if told.out_of_domain is not None:
            return Rejection(Stage.SCORE, "out_of_domain", told.out_of_domain)
        if told.magmoms is None:
            return Rejection(Stage.SCORE, "no_moments", f"{self._potential.name} predicts no magnetic moments")
        return self._of(relaxed, float(np.abs(told.magmoms).sum()))

    def _of(self, relaxed: Relaxed, total: float) -> float:
        return total / len(relaxed.structure)


class MagnetisationBound(MomentBound):
    """The same per volume, in μB/Å^3; 1 μB/Å^3 is 11.65 T of saturation polarisation."""

    name = "magnetization"
    unit = "μB/Å^3"

    def _of(self, relaxed: Relaxed, total: float) -> float:
        return total / float(relaxed.structure.volume)
