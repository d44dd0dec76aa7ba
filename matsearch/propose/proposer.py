"""From parents to prompts, and from completions to crystals or the reasons why there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matsearch.crystal.checks import check_space, check_structure
from matsearch.crystal.text import to_poscar
from matsearch.crystal.wyckoff import to_compact
from matsearch.propose.parse import parse_reply
from matsearch.propose.templates import render, system_text
from matsearch.records import Completion, Individual, Parents, Prompt, Rejection, Stage, content_hash

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True, slots=True)
class Space:
    """Which crystals are wanted; None where anything goes."""

    elements: frozenset[str] | None = None
    max_atoms: int | None = None
    composition: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A parent as a template sees it."""

    text: str
    formula: str
    energy_above_hull: float | None
    scores: Mapping[str, float]


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
        objectives: What is sought besides stability: dicts with name, unit, direction.
        show: `relaxed` or `proposed` parents.
        show_scores: Whether prompts carry energies and objective values.
        seed: The campaign's seed.
    """

    space: Space
    objectives: tuple[Mapping[str, Any], ...] = ()
    show: str = "relaxed"
    show_scores: bool = True
    seed: int = 0

    def prompts(self, parents: Parents, style: str) -> list[Prompt]:
        """The requests of one proposal.

        A chat model is asked once for all children; a compact one writes one crystal a reply, so it is asked once
        a child.
        """
        shown = [one for member in parents.members if (one := self._shown(member, style)) is not None]
        # A parent that the compact text cannot hold is left out; with none to vary, something new is asked for.
        template = parents.operator if shown or parents.operator == "predict" else "explore"
        user = render(style, template, self._variables(shown, parents.n_children))
        system = system_text(style)
        n_samples, n_crystals = (parents.n_children, 1) if style == "compact" else (1, parents.n_children)
        return [
            Prompt(
                user=user,
                system=system,
                seed=sample_seed(self.seed, parents.proposal, sample),
                sample=sample,
                index=parents.proposal * n_samples + sample,
                n_crystals=n_crystals,
            )
            for sample in range(n_samples)
        ]

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
        space = self.space
        return Read(
            structure,
            check_structure(structure) or check_space(structure, space.elements, space.max_atoms, space.composition),
        )

    def _shown(self, member: Individual, style: str) -> Shown | None:
        structure = member.relaxed if self.show == "relaxed" else member.candidate.structure
        try:
            text = to_compact(structure) if style == "compact" else to_poscar(structure)
        except ValueError:
            return None
        return Shown(
            text=text.strip(),
            formula=structure.composition.reduced_formula,
            energy_above_hull=member.energy_above_hull if self.show_scores else None,
            scores={k: v for k, v in member.scores.items() if k != "energy_above_hull"} if self.show_scores else {},
        )

    def _variables(self, shown: Sequence[Shown], n_children: int) -> dict[str, Any]:
        return {
            "parents": shown,
            "n_children": n_children,
            "elements": sorted(self.space.elements) if self.space.elements else None,
            "max_atoms": self.space.max_atoms,
            "composition": self.space.composition,
            "objectives": self.objectives,
        }


def sample_seed(campaign_seed: int, proposal: int, sample: int) -> int:
    """A seed of its own for every sample, below 2**31."""
    return int(content_hash([campaign_seed, proposal, sample])[:8], 16) & 0x7FFFFFFF
