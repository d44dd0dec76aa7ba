"""A second potential's word on energies that are too good to be true."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matsearch.errors import ConfigError
from matsearch.metrics.discovery import METASTABLE, QUARANTINE, SECOND_OPINION
from matsearch.objectives.base import Objective
from matsearch.potential.base import Potential
from matsearch.potential.names import load_potential
from matsearch.records import Direction, Rejection, Relaxed, Stage
from matsearch.reference.energies import energies_path
from matsearch.reference.known import Reference, reference_of


class SecondOpinion(Objective):
    """Energy above the hull by another potential, on its own hull, of a crystal as the first one relaxed it.

    It is not relaxed again: some potentials have holes that a relaxation falls into. So the value is a little too high,
    and what it lets pass would pass as well after a relaxation.

    Attributes:
        potential: Whose word it is.
    """

    name = SECOND_OPINION
    unit = "eV/atom"
    direction: Direction = "min"

    def __init__(self, potential: Potential, reference: Reference) -> None:
        self.potential = potential
        self._reference = reference

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """eV/atom, or why this potential cannot say: `untrained_element`, `out_of_domain`, `no_reference`."""
        return [self._height(one) for one in relaxed]

    def _height(self, one: Relaxed) -> float | Rejection:
        if missing := self.potential.untrained(one.structure):
            return Rejection(Stage.SCORE, "untrained_element", f"not trained on {', '.join(missing)}")
        # One by one, so that no company changes its last bits.
        (energy,) = self.potential.energies([one.structure])
        if isinstance(energy, Rejection):
            return Rejection(Stage.SCORE, energy.reason, energy.detail)
        return self._reference.energy_above_hull(one.structure.composition, energy / len(one.structure))


def agrees(height: float, floor: float) -> bool:
    """Whether a second potential calls a crystal metastable, too: near its hull, and not too far below that either.

    One that puts the crystal far below its own hull as well may make the same mistake.
    """
    return floor <= height <= METASTABLE


def kept_energy(floor: float) -> float:
    """What a released crystal counts as, eV/atom: as low as is believed of any."""
    return max(floor, QUARANTINE)


def load_second_opinion(name: str, device: str, first: Potential, folder: Path | None) -> SecondOpinion:
    """Another potential with its own hull.

    Args:
        name: As `load_potential` knows it.
        device: Where it computes.
        first: The potential that it is held against.
        folder: Of known phases, where there is one; if it has no energies of this potential, the shipped ones count.

    Raises:
        ConfigError: It is the same potential, or unknown.
        PotentialError: It cannot be loaded.
        MissingReferenceError: It has no hull.
    """
    potential = load_potential(name, device)
    if potential.name == first.name:
        raise ConfigError(
            f"[search] second_opinion = {name!r} is the campaign's own potential; name another one, or leave it out"
        )
    if folder is not None and not energies_path(folder, potential.name).is_file():
        folder = None
    return SecondOpinion(potential, reference_of(potential, folder))
