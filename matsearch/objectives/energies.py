"""Energies that a crystal gives up or takes when it is deformed."""

from __future__ import annotations

from collections.abc import Sequence

from matsearch.objectives.base import Cost, Objective, ObjectiveContext
from matsearch.objectives.elastic import scaled
from matsearch.records import Direction, Rejection, Relaxed, Stage
from matsearch.relaxation import relax

STRAIN = 0.02
"""Linear, isotropic, both ways."""
FORCE_TOL, MAX_STEPS = 0.03, 200


class RelaxationEnergy(Objective):
    """Energy as relaxed less that as proposed, in eV/atom; 0 or below.

    How near to its minimum a crystal was proposed: a quality of the proposal, not of the material. MatLLMSearch calls
    it deformation energy.
    """

    name = "relaxation_energy"
    unit = "eV/atom"
    direction: Direction = "max"
    needs = ("potential", "crystal as proposed")

    def __init__(self, context: ObjectiveContext) -> None:
        self._potential = context.potential

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """eV/atom; `no_initial` where the crystal as proposed is not known, or why that has no energy."""
        proposed = [one.initial for one in relaxed]
        energies = iter(self._potential.energies([one for one in proposed if one is not None]))
        return [
            Rejection(Stage.SCORE, "no_initial", "the crystal as proposed is not known")
            if start is None
            else self._difference(one, next(energies))
            for one, start in zip(relaxed, proposed, strict=True)
        ]

    @staticmethod
    def _difference(relaxed: Relaxed, start: float | Rejection) -> float | Rejection:
        if isinstance(start, Rejection):
            return Rejection(Stage.SCORE, start.reason, f"as proposed: {start.detail}")
        return (relaxed.energy - start) / len(relaxed.structure)


class StrainEnergy(Objective):
    """Energy that 2 % of isotropic strain costs, in eV/atom: mean of stretched and pressed, atoms relaxed in both."""

    name = "strain_energy"
    unit = "eV/atom"
    direction: Direction = "max"
    cost: Cost = "relaxation"
    needs = ("potential",)

    def __init__(self, context: ObjectiveContext) -> None:
        self._potential = context.potential

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """eV/atom; `strain_relaxation_failed` or `strain_unconverged` where a strained crystal has no energy."""
        cells = [scaled(one.structure, 1 + strain) for one in relaxed for strain in (-STRAIN, STRAIN)]
        results = relax(cells, self._potential, FORCE_TOL, MAX_STEPS, cell="fixed", optimizer="lbfgs")
        return [self._mean(one, results[2 * number], results[2 * number + 1]) for number, one in enumerate(relaxed)]

    @staticmethod
    def _mean(relaxed: Relaxed, *strained: Relaxed | Rejection) -> float | Rejection:
        total = 0.0
        for one in strained:
            if isinstance(one, Rejection):
                return Rejection(Stage.SCORE, "strain_relaxation_failed", f"{one.reason}: {one.detail}")
            if not one.converged:
                return Rejection(Stage.SCORE, "strain_unconverged", f"{one.n_steps} steps")
            total += (one.energy - relaxed.energy) / len(relaxed.structure)
        return total / len(strained)
