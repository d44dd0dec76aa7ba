"""A verdict on crystals from anywhere: valid, unique, novel, and with judges how far above the hull."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matsearch.evaluation.given import Compact, Given, look_at
from matsearch.evaluation.judging import PROTOCOL, Earlier, Hearing, Judge, default_phases, find_judges, known_phase
from matsearch.evaluation.table import make_table
from matsearch.metrics.evaluated import summarise_evaluated
from matsearch.potential import Potential
from matsearch.records import Rejection
from matsearch.reference import Reference
from matsearch.relaxation import protocol

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure


@dataclass(frozen=True)
class Evaluation:
    """What was found out.

    Attributes:
        table: One row a structure; see `evaluate`.
        summary: Counts, rates with their denominators and intervals, agreement of the judges, cost.
    """

    table: pd.DataFrame
    summary: dict[str, Any]
    _relaxed: dict[str, dict[int, Compact]]

    def relaxed(self, row: int, judge: str | None = None) -> Structure | None:
        """The crystal of a row as a judge, the first one if not named, relaxed it; None where it did not."""
        if not self._relaxed:
            return None
        crystals = self._relaxed[judge if judge is not None else next(iter(self._relaxed))]
        return crystals[row].structure() if row in crystals else None


def evaluate(
    structures: Sequence[Structure | Rejection],
    potential: Potential | str | Sequence[Potential | str] | None = None,
    *,
    reference: Path | str | None = None,
) -> Evaluation:
    """Judge structures from anywhere: valid, unique, novel, stable.

    Without a potential nothing is relaxed and there are no energies. With one, every structurally valid structure is
    relaxed (L-BFGS, 0.05 eV/Å, 500 steps) and held against the hull of the known phases by the same potential; unique
    and novel are judged again on what came out. Several potentials judge independently, each with its own relaxations
    and its own hull: two hulls are never mixed.

    Args:
        structures: Left as they are. A `Rejection`, such as `parse_reply` gives, is a row as well.
        potential: A potential, its name, or a list of these.
        reference: Folder of known phases that `matsearch reference build` made; None for those of the package.

    Returns:
        `.table`, one row a structure, in order. Verdicts are of dtype bool; a number is missing only where `reasons`
        says why:

        - `formula`, `n_atoms`, `spacegroup` (number) of the structure as given.
        - `structurally_valid`, `charge_valid`: `check_structure` and `check_charges` of `matsearch.crystal`.
        - `unique`: matches no earlier row; `duplicate_of` is the earliest that it matches. `novel`: matches no known
          phase; `matched_known` is the id of one that it matches. Where an element occurs in no known phase, novelty
          cannot be judged (`novelty_judged`) and is False. What is not structurally valid is neither unique nor novel.
          With a potential these are the verdicts on the relaxed crystal where it converged, and `unique_as_given` and
          `novel_as_given` those before.
        - `reasons`: all that is wrong or missing, as `reason: detail`, or None.

        With a potential also `converged`, `n_steps`, `energy_per_atom` and `energy_above_hull` (eV/atom),
        `decomposition` (known phases and their shares of the atoms), `rmsd` (Å, as given to as relaxed, scale removed),
        `quarantined` (so low that an error is more likely; below -0.1), `metastable`, `near_hull`, `stable` (converged,
        not quarantined, E_hull at most 0.1, 0.03, 0.001), `msun`, `sun`. With several potentials, these are the first
        one's, and each one's stand in columns named `<column>:<judge>`.

        `.summary`: see `matsearch.metrics.evaluated.summarise_evaluated`; and `protocol` (of the relaxations),
        `attribution` (of the known phases) and `check_seconds` (all but the relaxations).

    Raises:
        ConfigError: A potential is unknown, or named twice.
        MissingReferenceError: The folder holds no known phases.
        TypeError: One structure instead of a list of them, or something that is no structure.
    """
    from pymatgen.core import IStructure

    if isinstance(structures, IStructure):  # itself a sequence, of sites
        raise TypeError("evaluate takes a list of structures; write evaluate([structure], ...)")
    structures = list(structures)
    for index, one in enumerate(structures):
        if not isinstance(one, IStructure | Rejection):
            raise TypeError(f"evaluate takes pymatgen structures; number {index} of the list is a {type(one).__name__}")
    folder = None if reference is None else Path(reference)
    judges = find_judges(potential, folder=folder)
    evaluator = Evaluator(judges, judges[0].phases if judges else default_phases(folder))
    for one in structures:
        evaluator.add(one)
    for hearing in evaluator.hearings:
        for _ in evaluator.relax(hearing):
            pass
    return evaluator.evaluation()


class Evaluator:
    """Structures come in one by one; then each judge relaxes them; then the evaluation is drawn up.

    Attributes:
        hearings: One for each judge.
    """

    def __init__(self, judges: Sequence[Judge], phases: Reference) -> None:
        """Nothing is taken in yet.

        Args:
            judges: See `find_judges`.
            phases: What novelty of the structures as given is judged by.
        """
        self.hearings = [Hearing(judge) for judge in judges]
        self._given: list[Given] = []
        self._known: dict[int, str | Rejection | None] = {}
        self._earlier = Earlier()
        self._matches: dict[int, int] = {}
        self._phases = phases
        self._seconds = 0.0

    @property
    def crystals(self) -> dict[int, Compact]:
        """What is valid as given, by number."""
        return {number: one.crystal for number, one in enumerate(self._given) if one.valid and one.crystal is not None}

    def add(self, one: Structure | Rejection) -> Given:
        """Take in the next structure."""
        start = time.monotonic()
        given = look_at(one)
        if given.valid and given.crystal is not None:
            number = len(self._given)
            self._known[number] = known_phase(given.crystal.structure(), self._phases)
            if (match := self._earlier.meet(number, given.crystal)) is not None:
                self._matches[number] = match
        self._given.append(given)
        self._seconds += time.monotonic() - start
        return given

    def relax(self, hearing: Hearing) -> Generator[int, None, None]:
        """Let a judge relax all valid structures; gives the number of each as it is done.

        Those that are left when the caller stops are rows with that reason.
        """
        return hearing.relax(self.crystals)

    def evaluation(self) -> Evaluation:
        """The table and its summary, of what there is."""
        start = time.monotonic()
        table = make_table(self._given, self._matches, self._known, self.hearings)
        self._seconds += time.monotonic() - start
        summary = summarise_evaluated(
            table,
            [hearing.judge.name for hearing in self.hearings],
            hulls={
                one.name: None if one.reference is None else _words(one.reference)
                for one in (hearing.judge for hearing in self.hearings)
            },
            phases=_words(self._phases),
            seconds={hearing.judge.name: hearing.seconds for hearing in self.hearings},
            refused={hearing.judge.name: hearing.n_refused for hearing in self.hearings},
        )
        summary["protocol"] = protocol(PROTOCOL) if self.hearings else None
        summary["attribution"] = self._phases.attribution
        summary["check_seconds"] = self._seconds
        relaxed = {
            hearing.judge.name: {
                number: one.relaxed for number, one in hearing.findings.items() if one.relaxed is not None
            }
            for hearing in self.hearings
        }
        return Evaluation(table, summary, relaxed)


def _words(reference: Reference) -> str:
    pending = f", {reference.n_pending} near the hull yet to be relaxed" if reference.n_pending else ""
    return f"{len(reference.phases)} known phases by {reference.potential}{pending}"
