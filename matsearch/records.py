"""The types that flow through the house, one per arrow.

    Parents > Prompt > Completion > Candidate | Rejection > Relaxed | Rejection > Score | Rejection

A rejection is a row with a reason. 0.0, NaN and inf never stand for a failure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from pymatgen.core import Structure

Direction = Literal["min", "max"]


class Stage(StrEnum):
    """Where a candidate stopped. The funnel is a GROUP BY on this column."""

    PARSE = "parse"
    CHECK = "check"
    NOVELTY = "novelty"
    RELAX = "relax"
    SCORE = "score"
    SCORED = "scored"
    WAITING = "waiting"
    """Not a final stage: in flight, or left over when a budget ran out."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a candidate went no further.

    Attributes:
        stage: The stage that refused it.
        reason: A short snake_case word that reports count.
        detail: One line for a person: what was expected, what came.
    """

    stage: Stage
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to an LLM for one reply.

    Attributes:
        user: The text of the user's turn (for `compact` backends, all there is).
        system: The text of the system's turn; empty for none.
        seed: Seed of this sample alone, below 2**31.
        sample: Index among the samples of one and the same prompt.
        index: Running number of the request in the campaign.
        n_crystals: How many crystals the reply is asked for.
        schema: JSON schema of an object that the reply should be, or None for free text. The text must ask for it as
            well: not every endpoint can be held to a schema.
        template: What it was written from: style and name, such as `chat/mutate`.
    """

    user: str
    system: str = ""
    seed: int = 0
    sample: int = 0
    index: int = 0
    n_crystals: int = 1
    schema: dict[str, Any] | None = field(default=None, hash=False)
    template: str = ""

    @property
    def text_hash(self) -> str:
        """Hash of the text alone: equal for all samples of one prompt."""
        return content_hash([self.system, self.user])


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply, as the backend counted them; None where it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total(self) -> int:
        """Prompt and completion tokens; reasoning tokens are part of the completion."""
        return (self.prompt_tokens or 0) + (self.completion_tokens or 0)


@dataclass(frozen=True, slots=True)
class Completion:
    """One reply of an LLM.

    Attributes:
        text: The reply, as it came. Undecodable bytes appear as U+FFFD.
        usage: Tokens.
        finish_reason: `stop`, `length`, `refusal`, `not_utf8`, `bad_response`, or what the endpoint says.
        model: The model that answered, as the endpoint names it.
        seconds: Wall time of the request.
    """

    text: str
    usage: Usage = field(default_factory=Usage)
    finish_reason: str = "stop"
    model: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a potential says of one structure.

    Attributes:
        energy: Total energy in eV.
        forces: [n_atoms, 3] in eV/Å.
        stress: [3, 3] in eV/Å^3, dE/dstrain / V: positive under tension (ASE's sign).
        magmoms: [n_atoms] magnitudes in μB, or None.
        charges: [n_atoms] in e, or None.
        atom_energies: [n_atoms] in eV, which sum to `energy`, or None.
        features: [n_atoms, n_features] of the network's last layer but one, or None.
        out_of_domain: Why the structure lies outside what the potential can know (colliding atoms, a hole of its
            energy surface), or None. Such a prediction is not to be ranked.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray
    magmoms: np.ndarray | None = None
    charges: np.ndarray | None = None
    atom_energies: np.ndarray | None = None
    features: np.ndarray | None = None
    out_of_domain: str | None = None


@dataclass(frozen=True, slots=True)
class Relaxed:
    """A structure after relaxation.

    Attributes:
        structure: The relaxed structure.
        energy: Total energy in eV, on the potential's own energy scale.
        converged: Whether all forces (and the cell's) fell below the tolerance in time.
            An unconverged structure is never scored.
        n_steps: Optimiser steps taken.
        max_force: Largest atomic force in eV/Å at the end.
        initial: The structure as it was proposed.
        potential: Name of the potential.
        max_stress: Largest component in eV/Å^3 of the stress that is left at the end, external pressure included.
        charges: Of each atom in e, where the potential knows charges.
    """

    structure: Structure
    energy: float
    converged: bool
    n_steps: int
    max_force: float
    initial: Structure | None = None
    potential: str = ""
    max_stress: float | None = None
    charges: tuple[float, ...] | None = None

    @property
    def energy_per_atom(self) -> float:
        """Energy in eV/atom."""
        return self.energy / len(self.structure)


@dataclass(frozen=True, slots=True)
class Score:
    """The value of one objective for one candidate, in the objective's unit."""

    objective: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A crystal that was proposed (or a seed), with where it came from.

    Attributes:
        id: Running number in the campaign; seeds come first.
        structure: As proposed, before relaxation.
        generation: 0 for seeds.
        operator: What made it (`seed`, `crossover`, `mutate`, ...).
        model: The LLM that wrote it; empty for seeds.
        parents: Ids of the candidates shown in its prompt.
    """

    id: int
    structure: Structure
    generation: int
    operator: str
    model: str = ""
    parents: tuple[int, ...] = ()


HULL = "energy_above_hull"
"""Name of the objective that every campaign with a hull scores its crystals for."""


@dataclass(frozen=True, slots=True)
class Individual:
    """A scored candidate as selection and prompts see it.

    Attributes:
        candidate: What was proposed.
        relaxed: The relaxed structure.
        energy_above_hull: eV/atom, rounded, or None where no hull exists.
        scores: Objective name to value, rounded; complete for every objective of the campaign.
        decomposition: The known phases that it competes with: reduced formula to share of the atoms, rounded, largest
            first; empty where that is not known.
    """

    candidate: Candidate
    relaxed: Structure
    energy_above_hull: float | None
    scores: dict[str, float]
    decomposition: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What became of one crystal of the search, in short.

    Attributes:
        formula: Reduced formula.
        operator: What made it.
        space_group: Number, of the relaxed crystal where there is one; None where it is not known.
        energy_above_hull: eV/atom, rounded, or None.
        reason: Why it failed, a short snake_case word; empty where it worked.
        detail: More of that in one line, or empty.
    """

    formula: str
    operator: str
    space_group: int | None = None
    energy_above_hull: float | None = None
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a search remembers for one proposal: few lines, the most telling first."""

    worked: tuple[Lesson, ...] = ()
    failed: tuple[Lesson, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """A candidate that went wrong, to be repaired.

    Attributes:
        candidate_id: Which.
        structure: As proposed.
        rejection: Why it went no further.
    """

    candidate_id: int
    structure: Structure
    rejection: Rejection


Kind = tuple[str, str, int]
"""Of a crystal: chemical family, crystal system, number of elements."""


@dataclass(frozen=True, slots=True)
class Parents:
    """What the engine asks for: one proposal.

    Attributes:
        proposal: Running number of the proposal.
        generation: From 1.
        operator: Name of the operator, which is also the name of its prompt template.
        members: The parents to show.
        n_children: How many crystals to ask for.
        lessons: What is remembered of crystals like the parents.
        failed: What operator `repair` is to correct; None for all others.
        llm: Which of the campaign's LLMs is asked.
        kind: Chemical family, crystal system and number of elements of the known phases to start from, for operators
            that do; None for any.
        tried: Reduced formulas of earlier crystals of the run that lie near the parents: of their stoichiometry, or
            their children. Operators without an LLM that are to change a formula do not make them again.
        tried_crystals: In a prediction, the crystals of its composition that the run has met, one line each. Operators
            without an LLM do not make them again.
    """

    proposal: int
    generation: int
    operator: str
    members: tuple[Individual, ...]
    n_children: int
    lessons: Lessons = Lessons()
    failed: Failed | None = None
    llm: int = 0
    kind: Kind | None = None
    tried: frozenset[str] = frozenset()
    tried_crystals: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of the candidates that the children descend from."""
        repaired = () if self.failed is None else (self.failed.candidate_id,)
        return (*(member.candidate.id for member in self.members), *repaired)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one candidate, for `Engine.tell`.

    Attributes:
        candidate_id: Which.
        result: Its scores, or why it has none.
        structure: A rejected candidate as proposed; None where no crystal could be read, and for scored ones.
        new: Whether a scored one, as relaxed, is neither a known phase nor an earlier candidate.
    """

    candidate_id: int
    result: Individual | Rejection
    structure: Structure | None = None
    new: bool = True


class AddStatus(StrEnum):
    """What the population did with an outcome."""

    ADDED = "added"
    DUPLICATE = "duplicate"
    NOT_SELECTED = "not_selected"
    REJECTED = "rejected"


def content_hash(content: Any) -> str:
    """SHA-256 (first 32 hex digits) of JSON-like content, independent of key order."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
