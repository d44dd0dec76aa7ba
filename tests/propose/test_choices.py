"""Operators make several crystals for one proposal, and propose the lowest of them."""

import json

import numpy as np
import pytest

from matsearch.crystal.text import from_json
from matsearch.llm.base import SamplingOptions
from matsearch.propose.operators import load_operator, shipped_pool
from matsearch.propose.operators.backend import OperatorsBackend, _pool
from matsearch.propose.operators.request import request_text
from matsearch.propose.space import Space
from matsearch.records import Prompt
from matsearch.reference.known import load_reference

SPACE = Space(max_atoms=12)


def prompt(number, operator="analogue"):
    parents = shipped_pool().draw_parents(SPACE, np.random.default_rng(number), 1)
    return asked(number, request_text(operator, [(number, parents[0].structure)], SPACE))


def asked(number, text):
    return Prompt(user=text, template="operators/any", sample=0, seed=number)


def backend(n_choices, heights):
    made = OperatorsBackend("default", SamplingOptions())
    made.choose_lowest(n_choices, heights)
    return made


def crystals(completions):
    return [from_json(one.text.partition("\n")[2]) for one in completions]


def volumes(structures):
    """A height that anybody can recompute."""
    return [one.volume / len(one) for one in structures]


def test_the_first_of_several_is_the_one_that_is_made_alone():
    operator, phases = load_operator("substitute"), shipped_pool().draw_parents(SPACE, np.random.default_rng(3), 3)
    alone = operator.propose(phases, SPACE, np.random.default_rng(7))
    several = operator.proposals(phases, SPACE, np.random.default_rng(7), n=4)
    assert several[0].structure == alone.structure
    formulas = [one.structure.composition.reduced_formula for one in several]
    assert len(formulas) == len(set(formulas)) == 4


def test_the_lowest_is_proposed_and_the_reply_says_of_how_many():
    calls = []

    def heights(structures):
        calls.append(list(structures))
        return volumes(structures)

    prompts = [prompt(number, "substitute") for number in range(5)]
    chosen = crystals(backend(4, heights).complete(prompts))
    (asked,) = calls  # one call for all prompts, so that they are computed together
    assert 5 < len(asked) <= 20
    first = crystals(backend(1, heights).complete(prompts))
    assert len(calls) == 1  # nothing to compare
    assert sum(volumes(chosen)) < sum(volumes(first))
    for one in chosen:
        assert min(volumes([one])) in volumes(asked)
    text = backend(4, heights).complete(prompts[:1])[0].text
    assert f"the lowest of 4, as it stands {volumes(chosen[:1])[0]:.3f} eV/atom above the hull" in text.splitlines()[0]


def test_prompts_of_one_call_take_different_crystals_where_they_can():
    parents = shipped_pool().draw_parents(SPACE, np.random.default_rng(2), 1)
    text = request_text("substitute", [(2, parents[0].structure)], SPACE)
    prompts = [asked(number, text) for number in range(6)]
    formulas = [one.composition.reduced_formula for one in crystals(backend(6, volumes).complete(prompts))]
    assert len(set(formulas)) == 6
    predicted = Space(composition="MgO")
    prompts = [asked(number, request_text("predict", [], predicted)) for number in range(6)]
    found = crystals(backend(6, volumes).complete(prompts))
    assert {one.composition.reduced_formula for one in found} == {"MgO"}
    assert len({round(height, 3) for height in volumes(found)}) == 6


def test_crystals_without_a_height_come_last_and_alone_are_proposed_all_the_same():
    prompts = [prompt(0, "substitute")]
    (first,) = crystals(backend(1, None).complete(prompts))
    (unseen,) = crystals(backend(4, lambda many: [None] * len(many)).complete(prompts))
    (other,) = crystals(backend(4, lambda many: [None, 9.0, *[None] * (len(many) - 2)]).complete(prompts))
    assert unseen == first != other


def test_choices_are_part_of_what_determines_a_reply():
    assert backend(4, volumes).identity == backend(1, volumes).identity | {"choices": 4}
    assert backend(4, None).identity == backend(1, None).identity  # no hull: nothing to choose by


@pytest.mark.parametrize("heights", [None, volumes])
def test_a_reason_is_told_where_nothing_is_made(heights):
    nothing = json.dumps({"operator": "substitute", "parents": [], "space": json.loads(prompt(0).user)["space"]})
    (told,) = backend(4, heights).complete([asked(0, nothing)])
    assert told.text.startswith("no crystal: no_parents")


def test_hidden_phases_of_a_reference_of_ones_own_are_none_of_the_pools():
    assert (
        _pool(frozenset({"my-phase-1", "NaCl"}))._reference.hidden
        == load_reference("chgnet-0.3.0").hiding(["NaCl"]).hidden
    )
