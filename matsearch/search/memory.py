"""What a search remembers of its own crystals: what worked, what failed and why, and what may be repaired.

The memory is a function of the outcomes told so far, in their order; so a proposal knows of those below its horizon and
of no others, and a continued campaign remembers the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from matsearch.crystal.identity import structure_hash
from matsearch.records import Failed, Individual, Lesson, Lessons, Outcome, Rejection, Stage
from matsearch.search.families import chemical_family

if TYPE_CHECKING:
    from pymatgen.core import Structure

NEAR_HULL = 0.1
"""eV/atom, up to which a crystal worked: many that exist lie as high."""
FAR_ABOVE_HULL = "far_above_hull"
NOT_NEW = "not_new"
"""Reason of a crystal that relaxed into one that is known, or was found before."""
REPEATED = "duplicate"
"""Reason of a crystal that was proposed before."""
WINDOW = 50
"""Latest lessons of a family that a prompt draws on, and failures that wait for repair."""
LARGEST_REPAIR = 64
"""Atoms of a failed crystal that a prompt still has room for."""
REPAIRABLE = (Stage.CHECK, Stage.RELAX)
"""Where the crystal itself was at fault."""


class Memory:
    """Lessons by chemical family, and failed crystals that have not been offered for repair.

    Args:
        size: The most lessons that are told at once; 0 for none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._worked: dict[str, deque[tuple[int, Lesson]]] = {}
        self._failed: dict[str, deque[tuple[int, Lesson]]] = {}
        self._broken: deque[Failed] = deque(maxlen=WINDOW)
        self._once_broken: set[str] = set()  # hashes, so that a crystal that comes again is not offered again

    def learn(self, outcome: Outcome, operator: str) -> None:
        """Remember what became of a candidate; nothing of those that hold no crystal.

        Args:
            outcome: Told by the campaign.
            operator: What made the candidate.
        """
        result = outcome.result
        structure = result.relaxed if isinstance(result, Individual) else outcome.structure
        if structure is None:
            return
        if isinstance(result, Rejection) and _can_be_repaired(result, structure, operator):
            self._keep_broken(Failed(outcome.candidate_id, structure, result))
        if not self._size:
            return
        lesson = _lesson(outcome, structure, operator)
        if lesson is not None:
            family = chemical_family(symbols_of(structure))
            lessons = self._failed if lesson.reason else self._worked
            lessons.setdefault(family, deque(maxlen=WINDOW)).append((outcome.candidate_id, lesson))

    def recall(self, families: Collection[str] | None = None) -> Lessons:
        """The most telling lessons, `size` at most: half of them failures, where there are as many of both.

        Args:
            families: Only of these; None for all.
        """
        worked = _best(self._of(self._worked, families))
        failed = _varied(_untold(self._of(self._failed, families), worked))
        n_failed = min(len(failed), max(self._size // 2, self._size - len(worked)))
        return Lessons(tuple(worked[: self._size - n_failed]), tuple(failed[:n_failed]))

    def take_failed(self) -> Failed | None:
        """The latest failed crystal that has not been taken, or None."""
        return self._broken.pop() if self._broken else None

    def _keep_broken(self, failed: Failed) -> None:
        fingerprint = structure_hash(failed.structure)
        if fingerprint not in self._once_broken:
            self._once_broken.add(fingerprint)
            self._broken.append(failed)

    @staticmethod
    def _of(lessons: dict[str, deque[tuple[int, Lesson]]], families: Collection[str] | None) -> list[Lesson]:
        """The lessons of some families, latest first."""
        wanted = lessons if families is None else families
        found = [one for family in wanted for one in lessons.get(family, ())]
        return [lesson for _, lesson in sorted(found, key=lambda one: -one[0])]


def symbols_of(structure: Structure) -> set[str]:
    """The elements in a crystal."""
    return {element.symbol for element in structure.composition.elements}


def _can_be_repaired(rejection: Rejection, structure: Structure, operator: str) -> bool:
    # What a repair broke again is not worth another.
    return rejection.stage in REPAIRABLE and len(structure) <= LARGEST_REPAIR and operator != "repair"


def _lesson(outcome: Outcome, structure: Structure, operator: str) -> Lesson | None:
    """What a crystal teaches; None for nothing: no hull tells whether it is good."""
    formula, result = structure.composition.reduced_formula, outcome.result
    if isinstance(result, Rejection):
        # Only a check says what is wrong with the crystal; other details name ids, or digits of one machine.
        is_check = result.stage == Stage.CHECK
        space_group = None if is_check else space_group_number(structure)
        detail = result.detail if is_check else ""
        return Lesson(formula, operator, space_group, reason=result.reason, detail=detail)
    energy, reason = result.energy_above_hull, ""
    if not outcome.new:
        reason = NOT_NEW
    elif energy is None:
        return None
    elif energy > NEAR_HULL:
        reason = FAR_ABOVE_HULL
    return Lesson(formula, operator, space_group_number(structure), energy, reason)


def space_group_number(structure: Structure) -> int | None:
    """Number of a crystal's space group, with the tolerance of a prototype's label; None where none is found."""
    from matsearch.crystal.prototype import prototype_label

    number = prototype_label(structure).split("_")[2:3]
    return int(number[0]) if number else None


def _best(lessons: Iterable[Lesson]) -> list[Lesson]:
    """Closest to the hull first, latest first among equals; each crystal once."""
    best: dict[tuple[str, int | None], Lesson] = {}
    for one in sorted(lessons, key=lambda one: (one.energy_above_hull is None, one.energy_above_hull or 0.0)):
        best.setdefault((one.formula, one.space_group), one)
    return list(best.values())


def _untold(failed: Sequence[Lesson], worked: Sequence[Lesson]) -> list[Lesson]:
    """The failures without repeats of crystals of which something else is told."""
    told = {(one.formula, one.space_group) for one in (*worked, *failed) if one.reason != REPEATED}
    return [one for one in failed if one.reason != REPEATED or (one.formula, one.space_group) not in told]


def _varied(lessons: Iterable[Lesson]) -> list[Lesson]:
    """Another reason each as long as there are any, latest first; each formula and reason once."""
    by_reason: dict[str, dict[str, Lesson]] = {}
    for one in lessons:
        by_reason.setdefault(one.reason, {}).setdefault(one.formula, one)
    return list(_in_turn([list(of_reason.values()) for of_reason in by_reason.values()]))


def _in_turn(queues: list[list[Lesson]]) -> Iterator[Lesson]:
    for depth in range(max(map(len, queues), default=0)):
        yield from (queue[depth] for queue in queues if depth < len(queue))
