"""Operators in the place of an LLM: the same campaign, store and report, so that the two can be compared or mixed.

A prompt is one line of JSON: the operator, its parents and the space. The reply is the crystal as JSON, behind a line
that says what was changed; or a line that says why there is none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from matsearch.crystal.text import from_json, to_json
from matsearch.errors import BackendRequestError
from matsearch.llm.base import Backend, SamplingOptions
from matsearch.propose.operators.base import N_TRIES, Parent, Proposal
from matsearch.propose.space import Space
from matsearch.records import Completion, Prompt

if TYPE_CHECKING:
    from matsearch.propose.operators.pool import Pool


class OperatorsBackend(Backend):
    """Writes crystals by `matsearch.propose.operators`; free of charge, and the same for the same seed."""

    name: ClassVar[str] = "operators"
    style: ClassVar[Literal["chat", "compact", "operators"]] = "operators"
    chunk = 16

    def __init__(self, model: str, options: SamplingOptions) -> None:
        if model != "default":
            raise BackendRequestError(f'[llm] model {model!r} of backend "operators": there is one alone, "default"')
        super().__init__(model, options)

    @property
    def identity(self) -> dict[str, Any]:
        """Name and version: operators have no temperature."""
        from importlib.metadata import version

        return {"backend": self.name, "model": self.model, "version": version("matsearch")}

    def complete(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """One crystal for each prompt, in order; by the prompt's own seed."""
        return [self._complete(prompt) for prompt in prompts]

    def _complete(self, prompt: Prompt) -> Completion:
        import numpy as np

        from matsearch.propose.operators import load_operator

        start = time.monotonic()
        try:
            request = json.loads(prompt.user)
            operator, given, wanted = (request[key] for key in ("operator", "parents", "space"))
        except (ValueError, KeyError, TypeError) as err:
            raise BackendRequestError(
                f'backend "operators" reads what campaigns ask operators, not {prompt.user[:60]!r}'
            ) from err
        parents = [Parent(from_json(json.dumps(one["structure"])), one["id"]) for one in given]
        space = _space(wanted)
        target = () if space.composition is None else (space.composition,)
        pool, rng = _pool(space.hidden.union(target)), np.random.default_rng(prompt.seed)
        if kind := request.get("kind"):
            parents = pool.draw_parents(space, rng, N_TRIES, tuple(kind))
        made = load_operator(operator, pool).propose(parents, space, rng, frozenset(request.get("tried", ())))
        text = (
            f"{made.change}; from {', '.join(map(str, made.parents)) or 'nothing'}\n{to_json(made.structure)}"
            if isinstance(made, Proposal)
            else f"no crystal: {made.reason}: {made.detail}"
        )
        return Completion(text=text, model=self.name, seconds=time.monotonic() - start)


@cache
def _pool(hidden: frozenset[str]) -> Pool:
    """Known phases; without those of some ids and formulas, such as of a composition to predict."""
    from matsearch.propose.operators.pool import Pool, shipped_pool
    from matsearch.reference.known import load_reference

    if not hidden:
        return shipped_pool()
    return Pool(load_reference("chgnet-0.3.0").hiding(hidden))


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
