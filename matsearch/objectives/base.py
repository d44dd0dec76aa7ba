"""What an objective is: relaxed structures in, one number or rejection each out."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, get_args

from matsearch.errors import ConfigError, MatsearchError, MixedHullError
from matsearch.plugins import entry_point_names, resolve
from matsearch.potential import Potential
from matsearch.records import Direction, Rejection, Relaxed, Score, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.reference.known import Reference

OBJECTIVES = {
    "born_charges": "matsearch.objectives.electric:BornCharges",
    "bulk_modulus": "matsearch.objectives.elastic:BulkModulus",
    "bulk_modulus_vrh": "matsearch.objectives.elastic_tensor:BulkModulusVRH",
    "charges": "matsearch.objectives.electric:Charges",
    "density": "matsearch.objectives.simple:density",
    "elastic_anisotropy": "matsearch.objectives.elastic_tensor:ElasticAnisotropy",
    "element_cost": "matsearch.objectives.supply:element_cost",
    "elastic_stability": "matsearch.objectives.elastic_tensor:ElasticStability",
    "energy_above_hull": "matsearch.objectives.stability:EnergyAboveHull",
    "hhi_production": "matsearch.objectives.supply:hhi_production",
    "hhi_reserve": "matsearch.objectives.supply:hhi_reserve",
    "magnetic_moment": "matsearch.objectives.magnetic:MomentBound",
    "magnetization": "matsearch.objectives.magnetic:MagnetisationBound",
    "poisson_ratio": "matsearch.objectives.elastic_tensor:PoissonRatio",
    "polarizability": "matsearch.objectives.electric:Polarizability",
    "pugh_ratio": "matsearch.objectives.elastic_tensor:PughRatio",
    "relaxation_energy": "matsearch.objectives.energies:RelaxationEnergy",
    "shear_modulus": "matsearch.objectives.elastic_tensor:ShearModulus",
    "strain_energy": "matsearch.objectives.energies:StrainEnergy",
    "toxic_mass_fraction": "matsearch.objectives.supply:toxic_mass_fraction",
    "vickers_hardness": "matsearch.objectives.elastic_tensor:VickersHardness",
    "volume_per_atom": "matsearch.objectives.simple:volume_per_atom",
    "youngs_modulus": "matsearch.objectives.elastic_tensor:YoungsModulus",
}

RESERVED = frozenset(
    "id parents generation operator model stage reason detail formula n_steps energy duplicate_of matched_known name "
    "add_status".split()
)
"""Columns that a campaign's table has already."""

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

        A campaign asks about as many at once as have been relaxed by then, so that a value must not depend on the
        others in the list.

        What goes wrong with one crystal is its rejection; an exception is a bug, or broken machinery.
        """


@dataclass(frozen=True, slots=True)
class ObjectiveContext:
    """What an objective may need beside the relaxed structures.

    Attributes:
        potential: The potential they were relaxed on.
        reference: The known phases on that potential; None for those the package ships, loaded when they are needed.

    Raises:
        MixedHullError: The reference is another potential's.
    """

    potential: Potential
    reference: Reference | None = None

    def __post_init__(self) -> None:
        if self.reference is not None and self.reference.potential != self.potential.name:
            raise MixedHullError(
                f"the reference holds energies of {self.reference.potential}, but the structures are relaxed on "
                f"{self.potential.name}; give the reference of {self.potential.name}"
            )


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

    In this process the name then stands for the function, whatever else it stood for: a built-in, or an earlier
    function (so that a notebook's cell can be run again).

    Example:
        >>> import matsearch as ms
        >>> @ms.objective(name="atoms_per_cell", unit="1", direction="min")
        ... def atoms_per_cell(structure):
        ...     return float(len(structure))
        >>> atoms_per_cell.unit
        '1'

    Raises:
        ConfigError: The name cannot be a column's, the unit is no text, or the direction is not `min` or `max`.
    """
    _check_description(name, unit, direction)

    def register(function: StructureFunction) -> FunctionObjective:
        made = FunctionObjective(function, name, unit, direction)
        _REGISTERED[name] = made
        return made

    return register


def load_objective(wanted: str | Objective, context: ObjectiveContext) -> Objective:
    """The objective that goes by a name.

    Args:
        wanted: A registered decorator's name, a built-in's, an entry point's (group `matsearch.objectives`), or
            `"pkg.module:Attr"`. What is found is an `Objective`, a class of one (made as `Class(context)` where it
            takes an argument, else `Class()`), or anything callable with `name`, `unit` and `direction`. Or such a
            thing itself.
        context: What the objective may need.

    Raises:
        ConfigError: Nothing goes by that name, or what does is no objective.
    """
    found = _find(wanted) if isinstance(wanted, str) else wanted
    made = _instantiate(found, context) if isinstance(found, type) else found
    words = [getattr(made, word, None) for word in ("name", "unit", "direction")]
    if not callable(made) or None in words:
        raise ConfigError(f"{wanted!r} is no objective: it must be callable and have name, unit, direction")
    _check_description(*words)
    return cast(Objective, made)


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
    values = iter(_values(objective, converged))
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


def _values(objective: Objective, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
    if not relaxed:
        return []
    try:
        values: Any = objective([_copy(one) for one in relaxed])
    except MatsearchError:
        raise
    except Exception as err:  # noqa: BLE001 - a plug-in: one crystal of the list must not cost the others theirs
        if len(relaxed) == 1:
            return [_failed(err)]
        return [_values(objective, [one])[0] for one in relaxed]
    # Arrays of NumPy and torch become lists; a single number, text or dict is none.
    listed = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(listed, list | tuple) or len(listed) != len(relaxed):
        gave = f"{len(listed)} values" if isinstance(listed, list | tuple) else f"a {type(values).__name__}"
        raise ConfigError(
            f"objective {objective.name!r} gave {gave} for {len(relaxed)} structures; "
            "it must give a list with one value or Rejection for each, in order"
        )
    return list(listed)


def _copy(relaxed: Relaxed) -> Relaxed:
    initial = None if relaxed.initial is None else relaxed.initial.copy()
    return replace(relaxed, structure=relaxed.structure.copy(), initial=initial)


def _score(objective: Objective, value: float | Rejection) -> Score | Rejection:
    if isinstance(value, Rejection):
        return value
    try:
        number = float(value)
    except OverflowError:  # an int of more than 308 digits
        number = math.inf
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several numbers
        return _refuse("not_a_number", f"{objective.name} gave {type(value).__name__}, not a number")
    if not math.isfinite(number):
        return _refuse("not_finite", f"{objective.name} gave {number}")
    return Score(objective.name, number, objective.unit)


def _refuse(reason: str, detail: str) -> Rejection:
    return Rejection(Stage.SCORE, reason, detail)


def _failed(err: Exception) -> Rejection:
    return _refuse("objective_error", f"{type(err).__name__}: {err}")


def _find(name: str) -> Any:
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name not in OBJECTIVES and name not in entry_point_names("matsearch.objectives") and ":" not in name:
        known = sorted({*OBJECTIVES, *_REGISTERED, *entry_point_names("matsearch.objectives")})
        raise ConfigError(f'unknown objective {name!r}; known: {", ".join(known)}, or a path "pkg.module:Attr"')
    return resolve("objective", name, OBJECTIVES)


def _instantiate(made_by: type, context: ObjectiveContext) -> Any:
    try:
        return made_by(context) if inspect.signature(made_by).parameters else made_by()
    except MatsearchError:
        raise
    except Exception as err:  # someone else's class may raise anything
        raise ConfigError(
            f"objective class {made_by.__module__}:{made_by.__qualname__} cannot be made: {type(err).__name__}: {err}; "
            "it must take an ObjectiveContext, or nothing"
        ) from err


def _check_description(name: object, unit: object, direction: object) -> None:
    if not isinstance(name, str) or not name or name in RESERVED:
        raise ConfigError(
            f"an objective cannot be named {name!r}: its name is a column of its own, "
            f"beside {', '.join(sorted(RESERVED))}"
        )
    if not isinstance(unit, str):
        raise ConfigError(f"unit of objective {name!r} must be text, got {unit!r}")
    if direction not in get_args(Direction):
        raise ConfigError(f"direction of objective {name!r} must be 'min' or 'max', got {direction!r}")
