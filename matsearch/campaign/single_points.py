"""How high above the hull crystals lie as they were proposed: what operators choose among their crystals by.

A single point costs about a twentieth of a relaxation. It says nothing of where a crystal will relax to, but much of
which of two is nearer to a minimum, and to the hull (`benchmarks/single_points.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matsearch.records import Rejection

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.potential.base import Potential
    from matsearch.reference.known import Reference


class SinglePoints:
    """Energies above the hull of crystals that were not relaxed.

    Args:
        potential: That of the campaign.
        reference: Its known phases.
        floor: eV/atom; what lies lower is too good to be true. None for no floor.
    """

    def __init__(self, potential: Potential, reference: Reference, floor: float | None) -> None:
        self._potential = potential
        self._reference = reference
        self._floor = floor

    def __call__(self, structures: Sequence[Structure]) -> list[float | None]:
        """eV/atom, to 0.001, so that the last bits cannot turn a choice round.

        None where there is none: an element that is not known, a crystal outside what the potential can know, or an
        energy below the floor.
        """
        known = [
            one
            for one in structures
            if not self._potential.untrained(one) and {site.specie.symbol for site in one} <= self._reference.elements
        ]
        energies = dict(zip(map(id, known), self._potential.energies(known) if known else (), strict=True))
        return [self._height(one, energies.get(id(one))) for one in structures]

    def _height(self, structure: Structure, energy: float | Rejection | None) -> float | None:
        if energy is None or isinstance(energy, Rejection):
            return None
        height = self._reference.energy_above_hull(structure.composition, energy / len(structure))
        if isinstance(height, Rejection) or (self._floor is not None and height < self._floor):
            return None
        return round(height, 3)
