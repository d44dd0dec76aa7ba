"""What can be scored: every objective that goes by a name, found and made, and what it says of itself."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from matsearch.errors import ConfigError, MatsearchError
from matsearch.objectives.base import (
    CallableObjective,
    Cost,
    FunctionObjective,
    Objective,
    ObjectiveContext,
    StructureFunction,
)
from matsearch.objectives.limits import Limited
from matsearch.plugins import entry_point_names, resolve
from matsearch.records import Direction

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
    return whole if seconds is None else Limited(whole, seconds)


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


@dataclass(frozen=True, slots=True)
class Description:
    """What an objective says of itself, before it is made.

    Attributes:
        name: What it goes by in `[[objectives]]`.
        unit: Of its values.
        direction: Which way is better, unless a campaign says otherwise.
        cost: `free`, `relaxation` (about as much as one) or `many`.
        needs: What it needs beside the relaxed crystal.
        summary: The first line of its documentation.
    """

    name: str
    unit: str
    direction: Direction
    cost: Cost
    needs: tuple[str, ...]
    summary: str


def known_objectives() -> list[Description]:
    """All that go by a name: built in, registered by the decorator, installed as entry points; by name.

    Raises:
        ConfigError: An installed package's objective cannot be imported.
    """
    names = {*OBJECTIVES, *_REGISTERED, *entry_point_names("matsearch.objectives")}
    return [_described(name, find_objective(name)) for name in sorted(names)]


def _described(name: str, found: Any) -> Description:
    return Description(
        name=name,
        unit=getattr(found, "unit", ""),
        direction=getattr(found, "direction", "min"),
        cost=getattr(found, "cost", "free"),
        needs=tuple(getattr(found, "needs", ())),
        summary=(found.__doc__ or "").strip().split("\n")[0],
    )


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
