"""From parents to prompts, and from completions to crystals or the reasons why there are none."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from matsearch.crystal.checks import check_structure
from matsearch.crystal.wyckoff import MAX_COUNT, to_compact
from matsearch.llm.embedded.words import condition_words
from matsearch.propose import wording
from matsearch.propose.operators import source_hash
from matsearch.propose.operators.compositions import allowed_elements, random_formula
from matsearch.propose.operators.request import request_text
from matsearch.propose.parse import parse_reply
from matsearch.propose.shown import Remembered, Shown, example
from matsearch.propose.space import Space, describe_groups, describe_ratio
from matsearch.propose.templates import Templates
from matsearch.records import (
    Completion,
    Failed,
    Individual,
    Lesson,
    Parents,
    Prompt,
    Rejection,
    Score,
    Stage,
    content_hash,
)
from matsearch.search.memory import space_group_number
from matsearch.search.operators import OPERATORS

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.crystal.representations import Representation

COMPACT_TASKS = {
    "substitute": "mutate",
    "distort": "mutate",
    "vacancy": "mutate",
    "wyckoff": "mutate",
    "repair": "mutate",
    "prototype": "crossover",
    "optimise": "crossover",
}
"""Operators as the tasks that compact models were trained for; the others are such tasks. A crossover of one parent is
a mutation."""


FORMULA_UNITS = {1: 0.57, 2: 0.31, 3: 0.03, 4: 0.09}
"""In the primitive cells of known compounds of up to 24 atoms, and their shares."""


@dataclass(frozen=True, slots=True)
class Read:
    """One entry of a reply.

    Attributes:
        structure: The crystal, if one could be read.
        rejection: Why it goes no further, or None.
    """

    structure: Structure | None = None
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class Proposer:
    """Writes the prompts of a campaign and reads its replies.

    Attributes:
        space: Which crystals are wanted.
        objectives: What is sought besides stability: dicts with name, unit, direction, target and wish (in words).
        show: `relaxed` or `proposed` parents.
        show_scores: Whether prompts carry energies and objective values.
        seed: The campaign's seed.
        templates: What prompts are written from.
    """

    space: Space
    objectives: tuple[Mapping[str, Any], ...] = ()
    show: str = "relaxed"
    show_scores: bool = True
    seed: int = 0
    templates: Templates = field(default_factory=Templates)

    def prompts(self, parents: Parents, style: str) -> list[Prompt]:
        """The requests of one proposal.

        A chat model is asked once for all children; a compact one writes one crystal a reply, so it is asked once
        a child, and so are operators without an LLM.
        """
        if style == "operators":
            return self._samples(
                parents, self._request(parents), "", parents.n_children, 1, f"{style}/{parents.operator}"
            )
        is_compact = style == "compact"
        name = COMPACT_TASKS.get(parents.operator, parents.operator) if is_compact else parents.operator
        representation = None if is_compact else self.templates.representation(name)
        shown = [one for member in parents.members if (one := self._shown(member, representation)) is not None]
        failed = None if parents.failed is None else self._shown_failed(parents.failed, representation)
        if is_compact and failed is not None:
            shown, failed = [failed], None
        # A parent that the text cannot hold is left out; with none to vary, something new is asked for.
        if not shown and failed is None and name != "predict":
            name = "explore"
            representation = None if is_compact else self.templates.representation(name)
        schema = None if representation is None or representation.schema is None else dict(representation.schema)
        variables = self._variables(shown, failed, parents)
        if is_compact:
            variables["composition"] = self._cell_to_fill(name, parents.proposal)
        user = self.templates.render(style, name, variables)
        system = self.templates.system(style, name)
        n_samples, n_crystals = (parents.n_children, 1) if is_compact else (1, parents.n_children)
        return self._samples(parents, user, system, n_samples, n_crystals, f"{style}/{name}", schema)

    def _samples(
        self,
        parents: Parents,
        user: str,
        system: str,
        n_samples: int,
        n_crystals: int,
        template: str,
        schema: dict[str, Any] | None = None,
    ) -> list[Prompt]:
        """One and the same text, asked so often, with a seed each."""
        return [
            Prompt(
                user=user,
                system=system,
                seed=sample_seed(self.seed, parents.proposal, sample),
                sample=sample,
                index=parents.proposal * n_samples + sample,
                n_crystals=n_crystals,
                template=template,
                schema=schema,
            )
            for sample in range(n_samples)
        ]

    def _request(self, parents: Parents) -> str:
        """What operators without an LLM are told: the crystals themselves."""
        shown = [
            (one.candidate.id, one.relaxed if self.show == "relaxed" else one.candidate.structure)
            for one in parents.members
        ]
        if parents.failed is not None:
            shown = [(parents.failed.candidate_id, parents.failed.structure)]
        operator = parents.operator
        if operator in OPERATORS:  # somebody's own does what it does, and says itself what it lacks
            if self.space.composition:
                operator = "predict"
            elif not shown and OPERATORS[operator].needs_parents:
                operator = "explore"  # with no crystal to start from, something new is asked for
        return request_text(operator, shown, self.space, parents.kind, parents.tried, parents.tried_crystals)

    def template_hash(self, style: str, name: str) -> str:
        """Version of the template, or of an operator of somebody's own; empty for what is built in without one."""
        return source_hash(name) if style == "operators" else self.templates.hash(style, name)

    def check(self, style: str) -> None:
        """Try every template of a style with all and with little there is to say, before anything is paid for.

        Raises:
            ConfigError: One cannot be rendered; names it, and the variable at fault.
        """
        if style == "operators":
            return
        for name in self.templates.names(style):
            rich, poor = example(name, rich=True), example(name, rich=False)
            examples = {"all that there can be": rich, "one parent, no energies, no memory": poor}
            self.templates.check(style, name, examples)

    def read(self, prompt: Prompt, completion: Completion) -> list[Read]:
        """What one reply holds: as many entries as were asked for, or more if it holds more."""
        found = parse_reply(completion.text, truncated=completion.finish_reason == "length")
        if len(found) == 1 and isinstance(found[0], Rejection) and completion.finish_reason not in ("stop", "length"):
            found = [Rejection(Stage.PARSE, completion.finish_reason, found[0].detail)]
        entries = [Read(rejection=one) if isinstance(one, Rejection) else self._checked(one) for one in found]
        reason = "reply_truncated" if completion.finish_reason == "length" else "missing"
        detail = f"asked for {prompt.n_crystals} crystals, the reply holds {len(found)}"
        missing = Read(rejection=Rejection(Stage.PARSE, reason, detail))
        return entries + [missing] * (prompt.n_crystals - len(entries))

    def _checked(self, structure: Structure) -> Read:
        return Read(structure, check_structure(structure) or self.space.check(structure))

    def _shown(self, member: Individual, representation: Representation | None) -> Shown | None:
        structure = member.relaxed if self.show == "relaxed" else member.candidate.structure
        if (text := _text(structure, representation)) is None:
            return None
        formula = structure.composition.reduced_formula
        # A text that names the space group does so with a tolerance of its own.
        is_named = representation is None or representation.name == "wyckoff"
        space_group = "" if is_named else wording.space_group_name(space_group_number(structure))
        if not self.show_scores:
            return Shown(text, formula, space_group=space_group)
        units = {goal["name"]: goal["unit"] for goal in self.objectives}
        return Shown(
            text=text,
            formula=formula,
            energy_above_hull=member.energy_above_hull,
            scores=[
                Score(name, value, units.get(name, ""))
                for name, value in member.scores.items()
                if name != "energy_above_hull"
            ],
            space_group=space_group,
            stability=wording.stability(member.energy_above_hull),
            competing="" if self._names_target(member) else wording.competing(member.decomposition, formula),
        )

    def _names_target(self, member: Individual) -> bool:
        """Whether what a crystal competes with would tell that the composition sought is a known phase."""
        if self.space.composition is None:
            return False
        from pymatgen.core import Composition

        target = Composition(self.space.composition).reduced_composition
        return target in [Composition(formula).reduced_composition for formula in member.decomposition]

    def _shown_failed(self, failed: Failed, representation: Representation | None) -> Shown | None:
        if (text := _text(failed.structure, representation)) is None:
            return None
        rejection = failed.rejection
        # What a check says is about the crystal; details of relaxations are digits of one machine.
        detail = rejection.detail if rejection.stage == Stage.CHECK else ""
        return Shown(
            text=text,
            formula=failed.structure.composition.reduced_formula,
            reason=rejection.reason,
            problem=wording.problem(rejection.reason, detail),
        )

    def _cell_to_fill(self, name: str, proposal: int) -> str | None:
        """A composition as that of a primitive cell: a compact model is told how many atoms there are.

        The one that is sought, or where a stoichiometry is sought and there is no parent to vary, one that has it.
        """
        from pymatgen.core import Composition

        rng = random.Random(sample_seed(self.seed, proposal, 0))
        if self.space.composition is not None:
            formula = self.space.composition
        elif self.space.ratio is not None and name == "explore":
            formula = random_formula(self.space.ratio, allowed_elements(self.space), rng)
        else:
            return None
        unit = Composition(formula).element_composition.reduced_composition
        largest = max(unit.values())
        n_most = min((self.space.max_atoms or MAX_COUNT) // unit.num_atoms, MAX_COUNT // largest)
        units = {n: share for n, share in FORMULA_UNITS.items() if n <= n_most} or {1: 1.0}
        (n,) = rng.choices(list(units), weights=list(units.values()))
        return (unit * n).formula.replace(" ", "")

    def _remembered(self, lesson: Lesson) -> Remembered:
        energy = lesson.energy_above_hull if self.show_scores else None
        words = wording.problem(lesson.reason, lesson.detail, energy) if lesson.reason else wording.stability(energy)
        return Remembered(lesson.formula, wording.space_group_name(lesson.space_group), lesson.operator, words)

    def _variables(self, shown: Sequence[Shown], failed: Shown | None, parents: Parents) -> dict[str, Any]:
        return {
            "parents": shown,
            "failed": failed,
            "n_children": parents.n_children,
            "elements": sorted(self.space.elements) if self.space.elements else None,
            "whole_system": self.space.whole_system,
            "stoichiometry": describe_ratio(self.space.ratio) if self.space.ratio else None,
            "symmetry": describe_groups(self.space.space_groups) if self.space.space_groups else None,
            "min_atoms": self.space.min_atoms,
            "max_atoms": self.space.max_atoms,
            "composition": self.space.composition,
            "objectives": [{**goal, "best": _best_value(goal, shown)} for goal in self.objectives],
            "memory": {
                "worked": [self._remembered(lesson) for lesson in parents.lessons.worked],
                "failed": [self._remembered(lesson) for lesson in parents.lessons.failed],
            },
            "conditions": condition_words(self.objectives, sample_seed(self.seed, parents.proposal, 0)),
        }


def _text(structure: Structure, representation: Representation | None) -> str | None:
    """A crystal as text, the compact one without a representation; None for what it cannot hold."""
    try:
        return (to_compact if representation is None else representation.write)(structure).strip()
    except ValueError:
        return None


def _best_value(goal: Mapping[str, Any], shown: Sequence[Shown]) -> float | None:
    values = [score.value for one in shown for score in one.scores if score.objective == goal["name"]]
    target = goal.get("target")
    if target is not None:
        return min(values, key=lambda value: abs(value - target), default=None)
    return (min if goal["direction"] == "min" else max)(values, default=None)


def sample_seed(campaign_seed: int, proposal: int, sample: int) -> int:
    """A seed of its own for every sample, below 2**31."""
    return int(content_hash([campaign_seed, proposal, sample])[:8], 16) & 0x7FFFFFFF
