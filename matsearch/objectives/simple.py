"""Objectives that the relaxed cell alone tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matsearch.crystal.prototype import prototype_label
from matsearch.objectives.base import FunctionObjective
from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

POINT_GROUP_ORDERS = (
    (1, 1), (9, 2), (15, 4), (46, 4), (74, 8), (82, 4), (122, 8), (142, 16), (146, 3), (161, 6), (167, 12),
    (174, 6), (190, 12), (194, 24), (199, 12), (220, 24), (230, 48),
)  # fmt: skip
"""Last space group with a point group of this many operations. Source: International Tables, volume A."""


def _density(structure: Structure) -> float:
    """Mass density in g/cm3."""
    return float(structure.density)


def _volume_per_atom(structure: Structure) -> float:
    """Volume per atom in Å^3."""
    return float(structure.volume / len(structure))


def _space_group(structure: Structure) -> float | Rejection:
    """Number of the space group within 0.1 Å, 1 to 230."""
    label = prototype_label(structure).split("_")
    if len(label) < 3:
        return Rejection(Stage.SCORE, "no_symmetry", "moyo finds no space group")
    return float(label[2])


def _point_group_order(structure: Structure) -> float | Rejection:
    """Operations of the point group within 0.1 Å, 1 to 48: unlike the number of the space group, a measure."""
    number = _space_group(structure)
    if isinstance(number, Rejection):
        return number
    return float(next(order for last, order in POINT_GROUP_ORDERS if number <= last))


density = FunctionObjective(_density, name="density", unit="g/cm3", direction="max")
volume_per_atom = FunctionObjective(_volume_per_atom, name="volume_per_atom", unit="Å^3", direction="min")
space_group = FunctionObjective(_space_group, name="space_group", unit="1", direction="max")
point_group_order = FunctionObjective(_point_group_order, name="point_group_order", unit="1", direction="max")
