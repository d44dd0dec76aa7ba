import random

import pytest

from matsearch.crystal.wyckoff import ELEMENTS, from_compact, vocabulary
from matsearch.errors import BackendRequestError
from matsearch.llm.base import load_backend
from matsearch.llm.embedded.grammar import (
    LEAST_ORBITS,
    LineGrammar,
    can_hold,
    grammar_for,
    least_multiplicities,
    multiplicities,
)
from matsearch.llm.embedded.words import model_words, prompt_words
from matsearch.records import Prompt

SALT = "crystal Na 1 Cl 1 : sg225 5.65 : Na 0 0 0 Cl 0 0 1/2 end"


@pytest.fixture(scope="module")
def backend():
    return load_backend("embedded", "default", {})


def replies(backend, user, n=8, first_seed=0):
    return backend.complete([Prompt(user=user, seed=first_seed + i) for i in range(n)])


def parsed(completions):
    structures = []
    for completion in completions:
        try:
            structures.append(from_compact(completion.text))
        except ValueError as err:
            assert "but the composition says" in str(err) or "span no cell" in str(err)
    return structures


def test_replies_are_single_crystals_and_many_can_be_read(backend):
    completions = replies(backend, "explore child", n=16)
    assert all(set(c.text.split()) <= set(vocabulary()) for c in completions)
    assert all(c.text.startswith("crystal ") and c.text.count("crystal") == 1 for c in completions)
    assert all(c.finish_reason == "stop" and c.text.endswith(" end") for c in completions)
    assert len(parsed(completions)) >= 8


def test_sample_does_not_depend_on_the_rest_of_the_batch(backend):
    prompts = [Prompt(user=user, seed=i) for i, user in enumerate(["explore child", f"mutate {SALT} child"] * 3)]
    together = [c.text for c in backend.complete(prompts)]
    assert together == [backend.complete([prompt])[0].text for prompt in prompts]


def test_reply_keeps_to_the_elements_and_atoms_asked_for(backend):
    structures = parsed(replies(backend, "explore from Li Mg O within 8 child"))
    assert structures
    assert all({s.symbol for s in found.composition} <= {"Li", "Mg", "O"} and len(found) <= 8 for found in structures)


def test_reply_has_the_composition_asked_for(backend):
    structures = parsed(replies(backend, "predict NaCl child"))
    assert structures
    assert all(found.composition.reduced_formula == "NaCl" for found in structures)


@pytest.mark.parametrize("word", ["POSCAR", "He", "Na25", "$", "<pad>"])
def test_word_that_was_never_learned_is_an_error(backend, word):
    with pytest.raises(BackendRequestError, match="embedded model"):
        replies(backend, f"predict {word} child", n=1)


def test_model_must_be_default_or_a_folder():
    with pytest.raises(BackendRequestError, match='expected "default" or a folder'):
        load_backend("embedded", "defualt", {})


def test_formula_is_split_into_words():
    assert " ".join(prompt_words("predict KZnF3 child")) == "predict K 1 Zn 1 F 3 child"
    assert " ".join(prompt_words("predict Si child")) == "predict Si 1 child"
    assert " ".join(prompt_words("predict F 3 K 1 child")) == "predict F 3 K 1 child"
    assert " ".join(prompt_words("explore from O Li child")) == "explore from O Li child"


def test_identity_names_the_weights(backend):
    assert len(backend.identity["weights"]) == 16


def test_words_of_the_model_are_distinct():
    assert len(set(model_words())) == len(model_words()) < 1000


@pytest.mark.parametrize(
    "prompt", ["explore within 6 child", "explore from Li O within 3 child", "predict Mg 1 O 1 child"]
)
def test_any_walk_through_the_grammar_ends_in_a_line_that_reads_or_does_not_add_up(prompt):
    rng = random.Random(0)
    n_read = 0
    for _ in range(20):
        grammar, words = grammar_for(prompt.split()), []
        while not words or words[-1] != "end":
            words.append(rng.choice(grammar.allowed))
            grammar.accept(words[-1])
            assert len(words) < 2000
        try:
            structure = from_compact(" ".join(words))
        except ValueError as err:
            assert "but the composition says" in str(err) or "span no cell" in str(err)
            continue
        n_read += 1
        if "within" in prompt:
            assert len(structure) <= 6
    assert n_read


def test_grammar_offers_no_site_twice():
    grammar = LineGrammar(("Na", "Cl"))
    for word in SALT.split()[:-2]:
        assert word in grammar.allowed
        grammar.accept(word)
    assert list(grammar.allowed) == ["59/120", "1/2", "61/120"]  # all three are read as 1/2


@pytest.mark.parametrize("number", [1, 14, 62, 139, 146, 166, 194, 199, 216, 225, 227, 230])
def test_least_orbits_are_those_of_the_whole_grid(number):
    least = least_multiplicities(number)
    assert least.min() == LEAST_ORBITS[number - 1]
    for x in (0, 7, 15, 20, 33, 40, 60):
        assert least[x] == multiplicities(number, x).min()


def test_space_group_must_have_orbits_for_the_composition():
    assert can_hold(225, [1, 1])
    assert not can_hold(227, [1, 2])
    assert can_hold(62, [4, 8])
    assert not can_hold(62, [4, 6])


def test_every_element_of_the_grammar_is_a_word():
    assert set(ELEMENTS) <= set(model_words())


@pytest.mark.parametrize("operator", ["crossover", "mutate", "explore", "predict"])
@pytest.mark.parametrize("elements", [None, ["Na", "Cl"]])
@pytest.mark.parametrize("composition", [None, "NaCl"])
def test_every_template_renders_to_words_of_the_model(operator, elements, composition):
    from types import SimpleNamespace

    from matsearch.propose.templates import render

    if operator == "predict" and composition is None:
        pytest.skip("a prediction always has a composition")
    parent = SimpleNamespace(text=SALT, formula="NaCl", energy_above_hull=None)
    variables = {
        "parents": [parent, parent],
        "elements": elements,
        "composition": composition,
        "max_atoms": 12,
        "n_children": 1,
    }
    words = prompt_words(render("compact", operator, variables))
    assert words[-1] == "child"
    assert grammar_for(words).allowed == ("crystal",)
