"""What a campaign has met before: known phases, earlier proposals, earlier relaxed crystals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matsearch.crystal.identity import KnownStructures
from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.reference.known import Reference


class Identity:
    """Judges novelty and uniqueness; judged in the order of the candidates, so that the first one counts."""

    def __init__(self, reference: Reference | None, also_known: Sequence[tuple[str, Structure]] = ()) -> None:
        """Remember no candidate yet.

        Args:
            reference: The known phases, if there are any.
            also_known: Id and crystal of more of them.
        """
        self._reference = reference
        self._also_known: KnownStructures[str] = KnownStructures()
        self._proposed: KnownStructures[int] = KnownStructures()
        self._relaxed: KnownStructures[int] = KnownStructures()
        for phase_id, structure in also_known:
            self._also_known.add(phase_id, structure)

    def add_proposed(self, candidate_id: int, structure: Structure) -> None:
        """Remember a candidate as proposed."""
        self._proposed.add(candidate_id, structure)

    def add_relaxed(self, candidate_id: int, structure: Structure) -> None:
        """Remember a candidate as relaxed."""
        self._relaxed.add(candidate_id, structure)

    def proposed_before(self, structure: Structure, *, hidden: bool) -> Rejection | None:
        """Why a proposed crystal is not worth relaxing: it is known, or was proposed before.

        Args:
            structure: As proposed.
            hidden: Leave the known phases out: a prediction may find what is known.
        """
        if (earlier := self._proposed.match(structure)) is not None:
            return Rejection(Stage.NOVELTY, "duplicate", f"matches candidate {earlier}")
        if not hidden and (phase := self._known_phase(structure)) is not None:
            return Rejection(Stage.NOVELTY, "known", f"matches {phase}")
        return None

    def matches(self, relaxed: Structure) -> dict[str, int | str | None]:
        """The earlier candidate and the known phase that a relaxed crystal matches, be that hidden or not."""
        known = None if self._reference is None else self._reference.whole.match(relaxed)
        known = self._also_known.match(relaxed) if known is None else known
        return {"duplicate_of": self._relaxed.match(relaxed), "matched_known": known}

    def is_hidden(self, phase_id: str) -> bool:
        """Whether the search must not be told of a known phase."""
        return self._reference is not None and phase_id in self._reference.hidden

    def _known_phase(self, structure: Structure) -> str | None:
        known = None if self._reference is None else self._reference.match(structure)
        return self._also_known.match(structure) if known is None else known
