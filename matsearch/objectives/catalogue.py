"""What can be scored: every objective that goes by a name, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matsearch.objectives.base import OBJECTIVES, Cost, find_objective, registered_names
from matsearch.plugins import entry_point_names
from matsearch.records import Direction


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
    names = {*OBJECTIVES, *registered_names(), *entry_point_names("matsearch.objectives")}
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
