"""Whether several potentials agree on a crystal."""

from __future__ import annotations

from collections.abc import Sequence

from matsearch.errors import ConfigError
from matsearch.objectives.base import Cost, ObjectiveContext
from matsearch.objectives.stability import ReferenceObjective
from matsearch.potential import load_potential
from matsearch.records import Direction, Rejection, Relaxed, Stage
from matsearch.relaxation import relax
from matsearch.relaxation.settings import RelaxSettings

SECOND = ("chgnet-r2scan",)


class HullDisagreement(ReferenceObjective):
    """Largest difference of the energies above hull that several potentials find, in eV/atom.

    The crystal is relaxed on by every further potential, from where the campaign's left it, and each energy is held
    against the hull of its own potential: two hulls of relaxed phases ask for a relaxed crystal. What is small is no
    artefact of one potential; what potentials share, such as their training data, it cannot show.

    Args:
        context: The campaign's potential and known phases.
        potentials: Names of the further ones; each must have a hull.
        force_tol: eV/Å, of their relaxations.
        max_steps: Of these.
    """

    name = "hull_disagreement"
    unit = "eV/atom"
    direction: Direction = "min"
    cost: Cost = "relaxation"
    needs = ("hull", "further potentials with a hull")

    def __init__(
        self,
        context: ObjectiveContext,
        potentials: Sequence[str] = SECOND,
        force_tol: float = RelaxSettings().force_tol,
        max_steps: int = RelaxSettings().max_steps,
    ) -> None:
        super().__init__(context)
        if isinstance(potentials, str) or not potentials or context.potential.name in potentials:
            raise ConfigError(
                f"{self.name}: potentials must be a list of names other than {context.potential.name}, "
                f"got {potentials!r}"
            )
        from matsearch.reference.known import reference_of

        self._others = [
            (one, reference_of(one))
            for one in (load_potential(name, str(context.potential.device)) for name in potentials)
        ]
        self._force_tol, self._max_steps = force_tol, max_steps

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """eV/atom.

        `disagreement_relaxation_failed` and `disagreement_unconverged` where another potential finds no minimum; other
        reasons and errors as for `energy_above_hull`.
        """
        heights: list[list[float | Rejection]] = [[self.reference.height(one)] for one in relaxed]
        for potential, reference in self._others:
            results = relax(
                [one.structure for one in relaxed], potential, self._force_tol, self._max_steps, optimizer="lbfgs"
            )
            for known, result in zip(heights, results, strict=True):
                if isinstance(result, Rejection):
                    detail = f"{potential.name}: {result.reason}, {result.detail}"
                    known.append(Rejection(Stage.SCORE, "disagreement_relaxation_failed", detail))
                elif not result.converged:
                    detail = f"{potential.name}: {result.n_steps} steps"
                    known.append(Rejection(Stage.SCORE, "disagreement_unconverged", detail))
                else:
                    known.append(reference.height(result))
        return [_spread(known) for known in heights]


def _spread(heights: Sequence[float | Rejection]) -> float | Rejection:
    values = []
    for one in heights:
        if isinstance(one, Rejection):
            return one
        values.append(one)
    return max(values) - min(values)
