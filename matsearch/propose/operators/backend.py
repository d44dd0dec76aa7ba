"""Operators in the place of an LLM: the same campaign, store and report, so that the two can be compared or mixed.

A prompt is one line of JSON: the operator, its parents and the space. The reply is the crystal as JSON, behind a line
that says what was changed; or a line that says why there is none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from matsearch.crystal.identity import KnownStructures
from matsearch.crystal.text import from_json, to_json
from matsearch.crystal.wyckoff import from_compact
from matsearch.errors import BackendRequestError, MatsearchError
from matsearch.llm.base import Backend, SamplingOptions
from matsearch.propose.operators.base import N_TRIES
from matsearch.propose.operators.records import Parent, Proposal
from matsearch.propose.space import Space
from matsearch.records import Completion, Prompt, Rejection

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.propose.operators.pool import Pool

Heights = Callable[[Sequence["Structure"]], list[float | None]]
"""Of crystals as they stand: eV/atom above the hull; None for those that nothing good is known of."""


class OperatorsBackend(Backend):
    """Writes crystals by `matsearch.propose.operators`; free of charge, and the same for the same seed."""

    name: ClassVar[str] = "operators"
    style: ClassVar[Literal["chat", "compact", "operators"]] = "operators"
    chunk = 16

    def __init__(self, model: str, options: SamplingOptions) -> None:
        if model != "default":
            raise BackendRequestError(f'[llm] model {model!r} of backend "operators": there is one alone, "default"')
        super().__init__(model, options)
        self._n_choices = 1
        self._heights: Heights | None = None
        self._met, self._lines = KnownStructures[int](), list[str]()

    def choose_lowest(self, n_choices: int, heights: Heights | None) -> None:
        """Make so many crystals for each prompt; propose the lowest that no other prompt of the same call has taken.

        Args:
            n_choices: At most; an operator that finds fewer is content with these.
            heights: Of crystals, in one call, what is to be low: energies above the hull as they stand, in eV/atom;
                None for one that must not be preferred. None in its place: the first crystal is proposed.
        """
        self._n_choices, self._heights = n_choices if heights is not None else 1, heights

    @property
    def identity(self) -> dict[str, Any]:
        """Name, version and choices: operators have no temperature."""
        from importlib.metadata import version

        chooses = {"choices": self._n_choices} if self._n_choices > 1 else {}
        return {"backend": self.name, "model": self.model, "version": version("matsearch"), **chooses}

    def complete(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """One crystal for each prompt, in order; by the prompt's own seed."""
        start = time.monotonic()
        requests = [_request(prompt) for prompt in prompts]
        chooses = self._heights is not None and self._n_choices > 1
        taken: KnownStructures[int] = KnownStructures()  # where there is no choice, what is made is proposed
        made: list[list[Proposal] | Rejection] = []
        for number, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
            found = self._made(request, prompt.seed, taken)
            made.append(found)
            if not chooses and isinstance(found, list):
                taken.add(number, found[0].structure)
        predicts = [request["space"]["composition"] is not None for request in requests]
        texts = _lowest(made, predicts, self._heights if chooses else None)
        seconds = (time.monotonic() - start) / max(1, len(prompts))
        return [Completion(text=text, model=self.name, seconds=seconds) for text in texts]

    def _made(self, request: Mapping[str, Any], seed: int, taken: KnownStructures[int]) -> list[Proposal] | Rejection:
        import numpy as np

        from matsearch.propose.operators import OPERATORS, load_operator

        operator, given, wanted = (request[key] for key in ("operator", "parents", "space"))
        parents = [Parent(from_json(json.dumps(one["structure"])), one["id"]) for one in given]
        space = _space(wanted)
        target = () if space.composition is None else (space.composition,)
        pool, rng = _pool(space.hidden.union(target)), np.random.default_rng(seed)
        if kind := request.get("kind"):
            parents = pool.draw_parents(space, rng, N_TRIES, tuple(kind))
        tried = frozenset(request.get("tried", ()))
        found, met = load_operator(operator, pool), self._met_in(request.get("tried_crystals", ()))
        try:
            return found.proposals(parents, space, rng, tried, self._n_choices, (met, taken))
        except MatsearchError:
            raise
        except Exception as err:
            if operator in OPERATORS:
                raise
            raise BackendRequestError(
                f"operator {operator!r} failed with {type(err).__name__}: {err}; mend it"
            ) from err

    def _met_in(self, lines: Sequence[str]) -> KnownStructures[int]:
        """The crystals of some lines. Those of a later prompt go on from those of an earlier one, so all are kept."""
        if self._lines != list(lines[: len(self._lines)]):
            self._met, self._lines = KnownStructures(), []
        for line in lines[len(self._lines) :]:
            self._met.add(len(self._lines), from_json(line) if line.startswith("{") else from_compact(line))
            self._lines.append(line)
        return self._met


def _request(prompt: Prompt) -> dict[str, Any]:
    """What a prompt asks for."""
    try:
        request: dict[str, Any] = json.loads(prompt.user)
        request["operator"], request["parents"], request["space"]["composition"]
    except (ValueError, KeyError, TypeError) as err:
        raise BackendRequestError(
            f'backend "operators" reads what campaigns ask operators, not {prompt.user[:60]!r}'
        ) from err
    return request


def _lowest(made: Sequence[list[Proposal] | Rejection], predicts: Sequence[bool], heights: Heights | None) -> list[str]:
    """Of each prompt's crystals the lowest, as the text of a reply; the first where there is no height.

    Prompts of one call often show the same parents. So one whose formula another prompt has taken comes after all
    others; if all are taken, one that is as high as what was taken: it is likely the same crystal. Prompts of a
    prediction have but one formula: there the crystals are compared.
    """
    texts: list[str] = []
    several = [one for found in made if isinstance(found, list) for one in found]
    of_all = iter(heights([one.structure for one in several]) if heights is not None and several else ())
    taken: set[str | tuple[str, float]] = set()
    crystals: KnownStructures[int] = KnownStructures()
    for found, predicted in zip(made, predicts, strict=True):
        if isinstance(found, Rejection):
            texts.append(f"no crystal: {found.reason}: {found.detail}")
            continue
        chosen, why = found[0], ""
        known = []
        for index, (one, height) in enumerate(zip(found, of_all, strict=False)):
            formula = one.structure.composition.reduced_formula
            if height is not None:
                is_same = (formula, height) in taken or (predicted and crystals.match(one.structure) is not None)
                known.append((formula in taken, is_same, height, index, formula))
        if known:
            *_, height, index, formula = min(known)
            taken |= {formula, (formula, height)}
            chosen = found[index]
            crystals.add(len(crystals), chosen.structure)
            left = "" if height == min(one[2] for one in known) else " not taken yet"
            why = f"; the lowest of {len(found)}{left}, as it stands {height:.3f} eV/atom above the hull"
        parents = ", ".join(map(str, chosen.parents)) or "nothing"
        texts.append(f"{chosen.change}; from {parents}{why}\n{to_json(chosen.structure)}")
    return texts


@lru_cache(maxsize=2)
def _pool(hidden: frozenset[str]) -> Pool:
    """Known phases; without those of some ids and formulas, such as of a composition to predict.

    A campaign has one, which takes tens of megabytes: those of campaigns that are through are not kept.
    """
    from matsearch.propose.operators.pool import Pool, shipped_pool
    from matsearch.reference.known import load_reference

    if not hidden:
        return shipped_pool()
    reference = load_reference("chgnet-0.3.0")
    # A campaign may hide phases of a reference of its own.
    return Pool(reference.hiding({name for name in hidden if reference.holds(name)}))


def _space(wanted: Mapping[str, Any]) -> Space:
    elements, ratio, groups = wanted["elements"], wanted.get("ratio"), wanted.get("space_groups")
    return Space(
        elements=frozenset(elements) if elements else None,
        max_atoms=wanted["max_atoms"],
        composition=wanted["composition"],
        min_atoms=wanted.get("min_atoms"),
        whole_system=wanted.get("whole_system", False),
        ratio=None if ratio is None else tuple(ratio),
        space_groups=None if groups is None else frozenset(groups),
        hidden=frozenset(wanted.get("hidden", ())),
    )
