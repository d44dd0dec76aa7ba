"""Objectives that the relaxed cell alone tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matsearch.objectives.base import FunctionObjective

if TYPE_CHECKING:
    from pymatgen.core import Structure


def _density(structure: Structure) -> float:
    """Mass density in g/cm3."""
    return float(structure.density)


def _volume_per_atom(structure: Structure) -> float:
    """Volume per atom in Å^3."""
    return float(structure.volume / len(structure))


density = FunctionObjective(_density, name="density", unit="g/cm3", direction="max")
volume_per_atom = FunctionObjective(_volume_per_atom, name="volume_per_atom", unit="Å^3", direction="min")
