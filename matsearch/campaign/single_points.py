"""How high above the hull crystals lie as they were proposed: what operators choose among their crystals by.

A single point costs about a thirtieth of a relaxation. It says nothing of where a crystal will relax to, but much of
which of two is nearer to a minimum, and to the hull (`benchmarks/single_points.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matsearch.errors import PotentialError
from matsearch.potential.capacity import is_out_of_memory
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

        None where there is none: an element that is not known, a crystal that the potential refuses or that lies
        outside what it can know, or an energy below the floor. The floor is held against the hull of all phases, those
        that the search must not know of included: far below the others lies a hidden phase more often than an error.
        """
        known = [
            one
            for one in structures
            if not self._potential.untrained(one) and {site.specie.symbol for site in one} <= self._reference.elements
        ]
        energies = dict(zip(map(id, known), self._energies(known), strict=True))
        return [self._height(one, energies.get(id(one))) for one in structures]

    def _energies(self, structures: Sequence[Structure]) -> list[float | Rejection | None]:
        """eV, all at once; where that cannot be, by halves, so that one crystal does not take the others with it."""
        if not structures:
            return []
        try:
            return [*self._potential.energies(structures)]
        except PotentialError:
            pass
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err):
                raise
        if len(structures) == 1:
            return [None]
        half = len(structures) // 2
        return self._energies(structures[:half]) + self._energies(structures[half:])

    def _height(self, structure: Structure, energy: float | Rejection | None) -> float | None:
        if energy is None or isinstance(energy, Rejection):
            return None
        composition, each = structure.composition, energy / len(structure)
        height = self._reference.energy_above_hull(composition, each)
        whole = self._reference.whole.energy_above_hull(composition, each) if self._reference.hidden else height
        if isinstance(height, Rejection) or isinstance(whole, Rejection):
            return None
        return None if self._floor is not None and round(whole, 3) < self._floor else round(height, 3)
