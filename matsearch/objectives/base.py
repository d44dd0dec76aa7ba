"""What an objective is: relaxed structures in, one number or rejection each out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from inspect import isfunction
from typing import TYPE_CHECKING, Any, Literal

from matsearch.errors import ConfigError, MatsearchError, MixedHullError
from matsearch.potential import Potential
from matsearch.records import Direction, Rejection, Relaxed, Score, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.reference.known import Reference

Cost = Literal["free", "relaxation", "many"]
"""What a value costs: next to nothing beside the relaxation before it, about as much, or many times that."""

StructureFunction = Callable[["Structure"], "float | Rejection"]


class Objective(ABC):
    """One property to search for.

    Attributes:
        name: Column in tables and in the store.
        unit: As people write it: `eV/atom`, `GPa`.
        direction: `min` or `max`, whichever is better.
        cost: Cheap objectives are computed first, and their constraints keep candidates from dear ones.
        needs: What it needs beside the relaxed crystal, in words: `potential`, `hull`, `known phases`, a package.
        timeout: Seconds that a crystal may take; None for no limit. `[[objectives]] timeout` goes before it.
    """

    name: str
    unit: str
    direction: Direction
    cost: Cost = "free"
    needs: tuple[str, ...] = ()
    timeout: float | None = None

    @abstractmethod
    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """A finite value in `unit`, or `Rejection(Stage.SCORE, ...)`, for each structure, in order.

        A campaign asks about as many at once as have been relaxed by then, so that a value must not depend on the
        others in the list.

        What goes wrong with one crystal is its rejection; an exception is a bug, or broken machinery.
        """

    @property
    def written_as(self) -> Any:
        """The class or function that its author wrote: its version is that of the objective."""
        return type(self)


@dataclass(frozen=True, slots=True)
class ObjectiveContext:
    """What an objective may need beside the relaxed structures.

    Attributes:
        potential: The potential they were relaxed on.
        reference: The known phases on that potential; None for those the package ships, loaded when they are needed.
        pressure_gpa: The pressure at which they were relaxed.

    Raises:
        MixedHullError: The reference is another potential's.
    """

    potential: Potential
    reference: Reference | None = None
    pressure_gpa: float = 0.0

    def __post_init__(self) -> None:
        if self.reference is not None and self.reference.potential != self.potential.name:
            raise MixedHullError(
                f"the reference holds energies of {self.reference.potential}, but the structures are relaxed on "
                f"{self.potential.name}; give the reference of {self.potential.name}"
            )


class FunctionObjective(Objective):
    """An objective made of a function of one relaxed structure."""

    def __init__(
        self,
        function: StructureFunction,
        name: str,
        unit: str,
        direction: Direction,
        cost: Cost = "free",
        timeout: float | None = None,
        needs: tuple[str, ...] = (),
    ) -> None:
        self.name, self.unit, self.direction = name, unit, direction
        self.cost, self.timeout, self.needs = cost, timeout, needs
        self.function = function
        self.__doc__ = function.__doc__

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """Apply the function to each structure; what it raises is that structure's rejection."""
        return [self._value(one.structure) for one in relaxed]

    def _value(self, structure: Structure) -> float | Rejection:
        try:
            return self.function(structure)
        except MatsearchError:
            raise  # broken machinery concerns everyone
        except (Exception, SystemExit) as err:  # noqa: BLE001 - someone else's: what it raises concerns this crystal
            return _failed(err)

    @property
    def written_as(self) -> Any:
        """The function."""
        return self.function


class CallableObjective(Objective):
    """Anything callable that has a name, a unit and a direction."""

    def __init__(self, made: Any) -> None:
        self.name, self.unit, self.direction = made.name, made.unit, made.direction
        self.cost, self.needs = getattr(made, "cost", "free"), getattr(made, "needs", ())
        self.timeout = getattr(made, "timeout", None)
        self._made = made
        self.__doc__ = made.__doc__

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """As the thing itself."""
        values: list[float | Rejection] = self._made(relaxed)
        return values

    @property
    def written_as(self) -> Any:
        """The thing's class, or the thing where that is a function."""
        return self._made if isfunction(self._made) else type(self._made)


def evaluate_objective(objective: Objective, relaxed: Sequence[Relaxed]) -> list[Score | Rejection]:
    """Score structures, and hold the objective to its contract.

    An unconverged structure is not scored. The objective sees copies: what it does to a structure changes no other's
    view of the crystal. Where the objective raises on the list, each structure is tried alone, and
    those that still raise become rejections.

    Returns:
        In the order of `relaxed`. Reasons of its own: `unconverged`, `objective_error`, `not_finite`, `not_a_number`.

    Raises:
        ConfigError: The objective gave no list, or one of the wrong length.
        MatsearchError: Broken machinery, such as a missing reference.
    """
    converged = [one for one in relaxed if one.converged]
    values = iter(values_of(objective, converged))
    results: list[Score | Rejection] = []
    for one in relaxed:
        if one.converged:
            results.append(_score(objective, next(values)))
        else:
            results.append(_refuse("unconverged", unconverged_detail(one)))
    return results


def unconverged_detail(relaxed: Relaxed) -> str:
    """What is known of a relaxation that ran out of steps: its cell may be at fault where its atoms are at rest."""
    return (
        f"atoms or cell above the force tolerance after {relaxed.n_steps} steps; "
        f"largest force on an atom {relaxed.max_force:.3f} eV/Å"
    )


def values_of(objective: Objective, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
    """What an objective gives for copies of converged structures, one by one where the list makes it raise.

    Raises:
        ConfigError, MatsearchError: See `evaluate_objective`.
    """
    if not relaxed:
        return []
    try:
        values: Any = objective([copy_of(one) for one in relaxed])
    except MatsearchError:
        raise
    except (Exception, SystemExit) as err:  # noqa: BLE001 - a plug-in's: one crystal must not cost the others theirs
        if len(relaxed) == 1:
            return [_failed(err)]
        return [values_of(objective, [one])[0] for one in relaxed]
    # Arrays of NumPy and torch become lists; a single number, text or dict is none.
    listed = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(listed, list | tuple) or len(listed) != len(relaxed):
        gave = f"{len(listed)} values" if isinstance(listed, list | tuple) else f"a {type(values).__name__}"
        raise ConfigError(
            f"objective {objective.name!r} gave {gave} for {len(relaxed)} structures; "
            "it must give a list with one value or Rejection for each, in order"
        )
    return list(listed)


def copy_of(relaxed: Relaxed) -> Relaxed:
    """The same with structures of its own."""
    initial = None if relaxed.initial is None else relaxed.initial.copy()
    return replace(relaxed, structure=relaxed.structure.copy(), initial=initial)


def _score(objective: Objective, value: float | Rejection) -> Score | Rejection:
    if isinstance(value, Rejection):
        return value
    wrong = _refuse("not_a_number", f"{objective.name} gave {type(value).__name__}, not a number")
    if isinstance(value, str | bytes):  # float() would read "3.5"
        return wrong
    try:
        number = float(value)
    except OverflowError:  # an int of more than 308 digits
        number = math.inf
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several numbers
        return wrong
    if not math.isfinite(number):
        return _refuse("not_finite", f"{objective.name} gave {number}")
    return Score(objective.name, number, objective.unit)


def _refuse(reason: str, detail: str) -> Rejection:
    return Rejection(Stage.SCORE, reason, detail)


def _failed(err: Exception | SystemExit) -> Rejection:
    return _refuse("objective_error", f"{type(err).__name__}: {err}")
