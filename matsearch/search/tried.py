"""What a run has tried already, so that operators without an LLM do not make it again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matsearch.crystal.identity import KnownStructures
from matsearch.crystal.text import to_short_json
from matsearch.crystal.wyckoff import to_compact
from matsearch.records import Individual, Outcome, Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure


class Tried:
    """The formulas that were tried; in a prediction, which has but one, the crystals.

    Args:
        target: Formula that is looked for; None: none.

    Attributes:
        crystals: Of the target's composition, as proposed and as relaxed, each once: one line each. A known phase is
            among them only if the run came upon it.
    """

    def __init__(self, target: str | None = None) -> None:
        self._target = target
        self._formulas: dict[str, tuple[float, ...]] = {}  # to their stoichiometry
        self._children: defaultdict[int, set[str]] = defaultdict(set)
        self._met: KnownStructures[int] = KnownStructures()
        self.crystals: tuple[str, ...] = ()

    def learn(self, outcomes: Sequence[Outcome], parents: Sequence[int]) -> None:
        """Remember what became of the children of some parents."""
        for outcome in outcomes:
            scored = outcome.result if isinstance(outcome.result, Individual) else None
            structure = outcome.structure if scored is None else scored.candidate.structure
            if structure is None:
                continue
            if self._target is None:
                formula = structure.composition.reduced_formula
                self._formulas[formula] = _stoichiometry(structure)
                for parent in parents:
                    self._children[parent].add(formula)
            elif scored is not None:
                self._meet(structure)
                self._meet(scored.relaxed)
            # What was turned away before it relaxed is no crystal, or was met before.
            elif isinstance(outcome.result, Rejection) and outcome.result.stage in (Stage.RELAX, Stage.SCORE):
                self._meet(structure)

    def formulas(self, parents: Sequence[Individual]) -> frozenset[str]:
        """Of what was tried of the stoichiometries of these, or as their children; none in a prediction."""
        ratios = {_stoichiometry(member.relaxed) for member in parents}
        alike = {formula for formula, ratio in self._formulas.items() if ratio in ratios}
        return frozenset(alike.union(*(self._children[member.candidate.id] for member in parents)))

    def _meet(self, structure: Structure) -> None:
        from pymatgen.core import Composition

        own, wanted = structure.composition, Composition(self._target)
        if own.element_composition.reduced_composition != wanted.element_composition.reduced_composition:
            return
        if self._met.match_any(structure) is None:
            self._met.add(len(self._met), structure)
            self.crystals = (*self.crystals, _line(structure))


def _line(structure: Structure) -> str:
    """The compact line, a fifth as long as coordinates; these, where that cannot hold the crystal."""
    try:
        return to_compact(structure)
    except ValueError:
        return to_short_json(structure)


def _stoichiometry(structure: Structure) -> tuple[float, ...]:
    """Shares of the elements, ascending."""
    return tuple(sorted(round(share, 4) for share in structure.composition.fractional_composition.values()))
