"""Crystals brought to rest before second derivatives of their energy are asked for.

A search's relaxation stops early: with the forces and the stress that it leaves, a modulus is off by some 10 % or its
fit is refused, and atoms that are still on their way hide the symmetry that saves strains and displacements. The few
steps to rest cost less than they save.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from matsearch.objectives.base import ObjectiveContext
from matsearch.objectives.kept import Kept
from matsearch.potential import Potential
from matsearch.records import Rejection, Relaxed, Stage
from matsearch.relaxation import relax

if TYPE_CHECKING:
    from pymatgen.core import Structure

T = TypeVar("T")

REST_TOL = 0.002
"""eV/Å; of stress it leaves some 0.03 GPa, which moves a bulk modulus by 0.1 GPa."""
MAX_STEPS = 300


class KeptAtRest(Generic[T]):
    """Results for crystals brought to rest, each computed once on each potential and at each pressure.

    Args:
        compute: Results for several crystals at rest on a potential, in order.
    """

    def __init__(self, compute: Callable[[Sequence[Structure], Potential], list[T | Rejection]]) -> None:
        self._compute = compute
        self._kept: dict[float, Kept[T | Rejection]] = {}

    def of(self, relaxed: Sequence[Relaxed], context: ObjectiveContext) -> list[T | Rejection]:
        """The result of each crystal, in order; `not_at_rest` where it finds no rest."""
        pressure = context.pressure_gpa
        kept = self._kept.setdefault(pressure, Kept(partial(self._at_rest, pressure)))
        return kept.of([one.structure for one in relaxed], context.potential)

    def _at_rest(self, pressure_gpa: float, crystals: Sequence[Structure], potential: Potential) -> list[T | Rejection]:
        results = relax(crystals, potential, REST_TOL, MAX_STEPS, optimizer="lbfgs", pressure_gpa=pressure_gpa)
        wrong = [_wrong(one) for one in results]
        resting = [one.structure for one in results if isinstance(one, Relaxed) and one.converged]
        values = iter(self._compute(resting, potential))
        return [next(values) if one is None else one for one in wrong]


def _wrong(result: Relaxed | Rejection) -> Rejection | None:
    """Why there is no crystal at rest, or None."""
    if isinstance(result, Rejection):
        return Rejection(Stage.SCORE, "not_at_rest", f"{result.reason}: {result.detail}")
    if not result.converged:
        detail = f"atoms or cell above {REST_TOL} eV/Å after {result.n_steps} steps"
        return Rejection(Stage.SCORE, "not_at_rest", detail)
    return None
