"""Operators make several crystals for one proposal, and propose the lowest of them."""

import json
from itertools import combinations

import numpy as np
import pytest

from matsearch.crystal.identity import KnownStructures, same_crystal
from matsearch.crystal.text import from_json
from matsearch.crystal.wyckoff import from_compact, to_compact
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


def test_a_prediction_does_not_make_a_crystal_that_was_tried_or_that_the_same_call_proposes():
    space, tried = Space(composition="KZnF3"), []
    for number in range(3):
        text = request_text("predict", [], space, tried_crystals=tried)
        found = backend(1, None).complete([asked(10 * number + sample, text) for sample in range(3)])
        tried += [to_compact(one) for one in crystals(found)]
    known = KnownStructures()
    for number, line in enumerate(tried):
        assert known.match(from_compact(line)) is None
        known.add(number, from_compact(line))
    assert len(known) == 9
    one_call = request_text("predict", [], space)
    chosen = crystals(backend(4, volumes).complete([asked(0, one_call)] * 3))  # the same four crystals to choose from
    assert not any(same_crystal(*pair) for pair in combinations(chosen, 2))


def test_a_shorter_list_of_what_was_tried_is_read_anew():
    space, known = Space(composition="KZnF3"), backend(1, None)
    first = known.complete([asked(0, request_text("predict", [], space))])[0].text
    line = to_compact(from_json(first.partition("\n")[2]))
    other = known.complete([asked(0, request_text("predict", [], space, tried_crystals=[line]))])[0].text
    assert other != first
    assert known.complete([asked(0, request_text("predict", [], space))])[0].text == first


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
