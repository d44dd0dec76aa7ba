"""What an objective is: relaxed structures in, one number or rejection each out."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

from matsearch.errors import ConfigError, MatsearchError
from matsearch.plugins import entry_point_names, resolve
from matsearch.potential import Potential
from matsearch.records import Direction, Rejection, Relaxed, Score, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.reference.known import Reference

OBJECTIVES = {
    "bulk_modulus": "matsearch.objectives.elastic:BulkModulus",
    "density": "matsearch.objectives.simple:density",
    "energy_above_hull": "matsearch.objectives.stability:EnergyAboveHull",
    "volume_per_atom": "matsearch.objectives.simple:volume_per_atom",
}

StructureFunction = Callable[["Structure"], "float | Rejection"]


class Objective(ABC):
    """One property to search for.

    Attributes:
        name: Column in tables and in the store.
        unit: As people write it: `eV/atom`, `GPa`.
        direction: `min` or `max`, whichever is better.
    """

    name: str
    unit: str
    direction: Direction

    @abstractmethod
    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """A finite value in `unit`, or `Rejection(Stage.SCORE, ...)`, for each structure, in order.

        What goes wrong with one crystal is its rejection; an exception is a bug, or broken machinery.
        """


@dataclass(frozen=True, slots=True)
class ObjectiveContext:
    """What an objective may need beside the relaxed structures.

    Attributes:
        potential: The potential they were relaxed on.
        reference: The known phases on that potential; None for those the package ships, loaded when they are needed.
    """

    potential: Potential
    reference: Reference | None = None


class FunctionObjective(Objective):
    """An objective made of a function of one relaxed structure."""

    def __init__(self, function: StructureFunction, name: str, unit: str, direction: Direction) -> None:
        self.name, self.unit, self.direction = name, unit, direction
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
        except Exception as err:  # noqa: BLE001 - someone else's function: whatever it raises concerns this crystal
            return _failed(err)


_REGISTERED: dict[str, FunctionObjective] = {}


def objective(*, name: str, unit: str, direction: Direction) -> Callable[[StructureFunction], FunctionObjective]:
    """Make an objective of a function of one relaxed structure, and register it by name.

    Example:
        >>> import matsearch as ms
        >>> @ms.objective(name="atoms_per_cell", unit="1", direction="min")
        ... def atoms_per_cell(structure):
        ...     return float(len(structure))
        >>> atoms_per_cell.unit
        '1'

    Raises:
        ConfigError: The name is taken by a built-in objective, or the direction is not `min` or `max`.
    """
    if name in OBJECTIVES:
        raise ConfigError(f"an objective named {name!r} is built in; give yours another name")
    if direction not in get_args(Direction):
        raise ConfigError(f"direction of objective {name!r} must be 'min' or 'max', got {direction!r}")

    def register(function: StructureFunction) -> FunctionObjective:
        made = FunctionObjective(function, name, unit, direction)
        _REGISTERED[name] = made
        return made

    return register


def load_objective(name: str, context: ObjectiveContext) -> Objective:
    """The objective that goes by a name.

    Args:
        name: A built-in, a registered decorator's, an entry point (group `matsearch.objectives`), or
            `"pkg.module:Attr"`. What is found is an `Objective`, a class of one (made as `Class(context)` where it
            takes an argument, else `Class()`), or anything callable with `name`, `unit` and `direction`.
        context: What the objective may need.

    Raises:
        ConfigError: Nothing goes by that name, or what does is no objective.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name not in OBJECTIVES and name not in entry_point_names("matsearch.objectives") and ":" not in name:
        known = sorted({*OBJECTIVES, *_REGISTERED, *entry_point_names("matsearch.objectives")})
        raise ConfigError(f'unknown objective {name!r}; known: {", ".join(known)}, or a path "pkg.module:Attr"')
    found = resolve("objective", name, OBJECTIVES)
    made = _instantiate(found, context) if isinstance(found, type) else found
    return _checked(name, made)


def evaluate_objective(objective: Objective, relaxed: Sequence[Relaxed]) -> list[Score | Rejection]:
    """Score structures, and hold the objective to its contract.

    An unconverged structure is not scored. Where the objective raises on the list, each structure is tried alone, and
    those that still raise become rejections.

    Returns:
        In the order of `relaxed`. Reasons of its own: `unconverged`, `objective_error`, `not_finite`, `not_a_number`.

    Raises:
        ConfigError: The objective gave a list of the wrong length.
        MatsearchError: Broken machinery, such as a missing reference.
    """
    converged = [one for one in relaxed if one.converged]
    values = iter(_values(objective, converged))
    results: list[Score | Rejection] = []
    for one in relaxed:
        if one.converged:
            results.append(_score(objective, next(values)))
        else:
            detail = f"not relaxed after {one.n_steps} steps (largest force {one.max_force:.3f} eV/Å)"
            results.append(_refuse("unconverged", detail))
    return results


def _values(objective: Objective, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
    if not relaxed:
        return []
    try:
        values = objective(relaxed)
    except MatsearchError:
        raise
    except Exception as err:  # noqa: BLE001 - a plug-in: one crystal of the list must not cost the others theirs
        if len(relaxed) == 1:
            return [_failed(err)]
        return [_values(objective, [one])[0] for one in relaxed]
    if len(values) != len(relaxed):
        raise ConfigError(
            f"objective {objective.name!r} gave {len(values)} values for {len(relaxed)} structures; "
            "it must give one value or Rejection for each, in order"
        )
    return list(values)


def _score(objective: Objective, value: float | Rejection) -> Score | Rejection:
    if isinstance(value, Rejection):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return _refuse("not_a_number", f"{objective.name} gave {type(value).__name__}, not a number")
    if not math.isfinite(number):
        return _refuse("not_finite", f"{objective.name} gave {number}")
    return Score(objective.name, number, objective.unit)


def _refuse(reason: str, detail: str) -> Rejection:
    return Rejection(Stage.SCORE, reason, detail)


def _failed(err: Exception) -> Rejection:
    return _refuse("objective_error", f"{type(err).__name__}: {err}")


def _instantiate(made_by: type, context: ObjectiveContext) -> Any:
    takes_context = bool(inspect.signature(made_by).parameters)
    return made_by(context) if takes_context else made_by()


def _checked(name: str, found: Any) -> Objective:
    missing = [word for word in ("name", "unit", "direction") if not isinstance(getattr(found, word, None), str)]
    if missing or not callable(found):
        raise ConfigError(
            f"objective {name!r} is no objective: it needs to be callable and to have {', '.join(missing) or 'no less'}"
        )
    if found.direction not in get_args(Direction):
        raise ConfigError(f"direction of objective {name!r} must be 'min' or 'max', got {found.direction!r}")
    return cast(Objective, found)
