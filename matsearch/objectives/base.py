"""What an objective is: relaxed structures in, one number or rejection each out."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from matsearch.errors import ConfigError, MatsearchError, MixedHullError
from matsearch.plugins import entry_point_names, resolve
from matsearch.potential import Potential
from matsearch.records import Direction, Rejection, Relaxed, Score, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.reference.known import Reference

Cost = Literal["free", "relaxation", "many"]
"""What a value costs: next to nothing beside the relaxation before it, about as much, or many times that."""

OBJECTIVES = {
    "born_charges": "matsearch.objectives.electric:BornCharges",
    "bulk_modulus": "matsearch.objectives.elastic:BulkModulus",
    "bulk_modulus_vrh": "matsearch.objectives.elastic_tensor:BulkModulusVRH",
    "charges": "matsearch.objectives.electric:Charges",
    "decomposition_energy": "matsearch.objectives.stability:DecompositionEnergy",
    "density": "matsearch.objectives.simple:density",
    "distance_to_known": "matsearch.objectives.novelty:DistanceToKnown",
    "elastic_anisotropy": "matsearch.objectives.elastic_tensor:ElasticAnisotropy",
    "element_cost": "matsearch.objectives.supply:element_cost",
    "elastic_stability": "matsearch.objectives.elastic_tensor:ElasticStability",
    "energy_above_hull": "matsearch.objectives.stability:EnergyAboveHull",
    "formation_energy": "matsearch.objectives.stability:FormationEnergy",
    "heat_capacity": "matsearch.objectives.phonons:HeatCapacity",
    "hhi_production": "matsearch.objectives.supply:hhi_production",
    "hhi_reserve": "matsearch.objectives.supply:hhi_reserve",
    "hull_disagreement": "matsearch.objectives.agreement:HullDisagreement",
    "lowest_frequency": "matsearch.objectives.phonons:LowestFrequency",
    "magnetic_moment": "matsearch.objectives.magnetic:MomentBound",
    "magnetization": "matsearch.objectives.magnetic:MagnetisationBound",
    "novelty": "matsearch.objectives.novelty:Novelty",
    "point_group_order": "matsearch.objectives.simple:point_group_order",
    "poisson_ratio": "matsearch.objectives.elastic_tensor:PoissonRatio",
    "polarizability": "matsearch.objectives.electric:Polarizability",
    "pugh_ratio": "matsearch.objectives.elastic_tensor:PughRatio",
    "relaxation_energy": "matsearch.objectives.energies:RelaxationEnergy",
    "shear_modulus": "matsearch.objectives.elastic_tensor:ShearModulus",
    "space_group": "matsearch.objectives.simple:space_group",
    "strain_energy": "matsearch.objectives.energies:StrainEnergy",
    "toxic_mass_fraction": "matsearch.objectives.supply:toxic_mass_fraction",
    "vickers_hardness": "matsearch.objectives.elastic_tensor:VickersHardness",
    "volume_per_atom": "matsearch.objectives.simple:volume_per_atom",
    "youngs_modulus": "matsearch.objectives.elastic_tensor:YoungsModulus",
}

RESERVED = frozenset(
    "id parents generation operator model stage reason detail formula n_steps energy duplicate_of matched_known name "
    "add_status second_opinion".split()
)
"""Columns that a campaign's table has already."""

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
        except Exception as err:  # noqa: BLE001 - someone else's function: whatever it raises concerns this crystal
            return _failed(err)


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


_REGISTERED: dict[str, FunctionObjective] = {}


def objective(
    *, name: str, unit: str, direction: Direction, cost: Cost = "free", timeout: float | None = None
) -> Callable[[StructureFunction], FunctionObjective]:
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
        ConfigError: The name cannot be a column's, the unit is no text, the direction is not `min` or `max`, or cost or
            time-out is none.
    """
    _check_description(name, unit, direction)
    _check_effort(name, cost, timeout)

    def register(function: StructureFunction) -> FunctionObjective:
        made = FunctionObjective(function, name, unit, direction, cost, timeout)
        _REGISTERED[name] = made
        return made

    return register


def load_objective(
    wanted: str | Objective,
    context: ObjectiveContext,
    options: Mapping[str, Any] | None = None,
    timeout: float | None = None,
) -> Objective:
    """The objective that goes by a name.

    Args:
        wanted: A registered decorator's name, a built-in's, an entry point's (group `matsearch.objectives`), or
            `"pkg.module:Attr"`. What is found is an `Objective`, a class of one (made as `Class(context)` where it
            takes an argument, else `Class()`), or anything callable with `name`, `unit` and `direction`. Or such a
            thing itself.
        context: What the objective may need.
        options: What its class takes beside the context.
        timeout: Seconds that a crystal may take, whatever the objective itself says of it.

    Raises:
        ConfigError: Nothing goes by that name, what does is no objective, or it takes no such options.
    """
    found = find_objective(wanted) if isinstance(wanted, str) else wanted
    if options and not isinstance(found, type):
        raise ConfigError(f"objective {wanted!r} takes no options, got {', '.join(options)}")
    made = _instantiate(found, context, options or {}) if isinstance(found, type) else found
    words = [getattr(made, word, None) for word in ("name", "unit", "direction")]
    if not callable(made) or None in words:
        raise ConfigError(f"{wanted!r} is no objective: it must be callable and have name, unit, direction")
    _check_description(*words)
    whole = made if isinstance(made, Objective) else CallableObjective(made)
    seconds = whole.timeout if timeout is None else timeout
    _check_effort(whole.name, whole.cost, seconds)
    if seconds is None:
        return whole
    from matsearch.objectives.limits import Limited

    return Limited(whole, seconds)


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
    except Exception as err:  # noqa: BLE001 - a plug-in: one crystal of the list must not cost the others theirs
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


def _failed(err: Exception) -> Rejection:
    return _refuse("objective_error", f"{type(err).__name__}: {err}")


def registered_names() -> list[str]:
    """What functions of this process were registered as, by the decorator."""
    return sorted(_REGISTERED)


def find_objective(name: str) -> Any:
    """The objective that goes by a name, or the class of one, as it is.

    Raises:
        ConfigError: Nothing goes by that name, or it cannot be imported.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name not in OBJECTIVES and name not in entry_point_names("matsearch.objectives") and ":" not in name:
        known = sorted({*OBJECTIVES, *_REGISTERED, *entry_point_names("matsearch.objectives")})
        raise ConfigError(f'unknown objective {name!r}; known: {", ".join(known)}, or a path "pkg.module:Attr"')
    return resolve("objective", name, OBJECTIVES)


def _instantiate(made_by: type, context: ObjectiveContext, options: Mapping[str, Any]) -> Any:
    try:
        takes_context = not options.keys() >= inspect.signature(made_by).parameters.keys()
        return made_by(context, **options) if takes_context else made_by(**options)
    except MatsearchError:
        raise
    except Exception as err:  # someone else's class may raise anything
        raise ConfigError(
            f"objective class {made_by.__module__}:{made_by.__qualname__} cannot be made: {type(err).__name__}: {err}; "
            "it must take an ObjectiveContext, or nothing, and the options by name"
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


def _check_effort(name: str, cost: object, timeout: object) -> None:
    if cost not in get_args(Cost):
        raise ConfigError(f"cost of objective {name!r} must be one of {', '.join(get_args(Cost))}, got {cost!r}")
    if timeout is not None and not (isinstance(timeout, int | float) and 0 < timeout < math.inf):
        raise ConfigError(f"timeout of objective {name!r} must be a number of seconds above 0, got {timeout!r}")
