import random
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from matsearch.crystal.checks import least_distance
from matsearch.crystal.space_groups import space_group
from matsearch.crystal.wyckoff import ELEMENTS, GRID, from_compact, vocabulary
from matsearch.crystal.wyckoff_positions import wyckoff_positions
from matsearch.errors import BackendRequestError
from matsearch.llm.base import load_backend
from matsearch.llm.embedded.feasibility import can_hold, fitting_letters, space_groups_for
from matsearch.llm.embedded.grammar import LineGrammar, grammar_for
from matsearch.llm.embedded.sites import Sites, orbit_form, whole_steps
from matsearch.llm.embedded.words import (
    CONDITIONS,
    bulk_word,
    condition_words,
    density_word,
    model_words,
    prompt_words,
    stability_word,
)
from matsearch.records import Prompt

SALT = "crystal Na 1 Cl 1 : sg225 5.65 : Na a Cl b end"
RUTILE = "crystal Ti 2 O 4 : sg136 4.59 2.96 : Ti a O f 37/120 end"


@pytest.fixture(scope="module")
def backend():
    return load_backend("embedded", "default", {})


def replies(backend, user, n=8, first_seed=0):
    return backend.complete([Prompt(user=user, seed=first_seed + i) for i in range(n)])


def parsed(completions):
    return [from_compact(completion.text) for completion in completions]


def test_replies_are_single_crystals_and_all_can_be_read(backend):
    completions = replies(backend, "explore child", n=16)
    assert all(set(c.text.split()) <= set(vocabulary()) for c in completions)
    assert all(c.text.startswith("crystal ") and c.text.count("crystal") == 1 for c in completions)
    assert all(c.finish_reason == "stop" and c.text.endswith(" end") for c in completions)
    assert len(parsed(completions)) == 16


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


def walk(prompt, rng):
    """A line of words drawn uniformly from those that the grammar allows."""
    grammar, words = grammar_for(prompt.split()), []
    while not words or words[-1] != "end":
        words.append(rng.choice(grammar.allowed))
        grammar.accept(words[-1])
        assert len(words) < 250
    return " ".join(words)


@pytest.mark.parametrize(
    "prompt",
    [
        "explore child",
        "explore within 6 stable child",
        "explore from Li O within 3 child",
        "predict Mg 1 O 1 stable bulk7 child",
        "predict K 1 Zn 1 F 3 child",
    ],
)
def test_any_walk_through_the_grammar_ends_in_a_line_that_reads(prompt):
    rng = random.Random(0)
    for _ in range(20):
        structure = from_compact(walk(prompt, rng))
        if "within" in prompt:
            assert len(structure) <= 6
        if "Zn" in prompt:
            assert structure.composition.reduced_formula == "KZnF3"


@pytest.mark.parametrize("line", [SALT, RUTILE])
def test_grammar_lets_known_crystals_through(line):
    grammar = LineGrammar()
    for word in line.split():
        assert word in grammar.allowed
        grammar.accept(word)


def test_grammar_offers_no_position_twice():
    grammar = LineGrammar(("Na", "Cl"))
    for word in SALT.split()[:-2]:
        grammar.accept(word)
    assert list(grammar.allowed) == ["b"]


def test_grammar_keeps_atoms_apart_where_it_can():
    grammar = LineGrammar()
    for word in RUTILE.split()[:-2]:
        grammar.accept(word)
    # O at (x, x, 0), with Ti at the origin and in the middle of the cell.
    nearest = least_distance("Ti", "O") / 4.59 / 2**0.5
    allowed = [float(Fraction(word)) for word in grammar.allowed]
    assert min(allowed) > nearest
    assert max(allowed) < 1 - nearest
    assert "37/120" in grammar.allowed


def test_angles_that_span_no_cell_are_not_offered():
    grammar = LineGrammar()
    for word in "crystal Na 1 : sg1 5.27 5.27 5.27 30deg 30deg".split():
        grammar.accept(word)
    assert "30deg" in grammar.allowed
    assert "60deg" not in grammar.allowed
    assert "150deg" not in grammar.allowed


def brute_force(number, counts):
    """Whether counts can be reached, by trying for every element all sets of positions used once."""
    positions = wyckoff_positions(number).values()
    single = [one.primitive_multiplicity for one in positions if one.is_single]
    free = {one.primitive_multiplicity for one in positions if one.free}
    reachable = {0}
    for count in range(1, max(counts) + 1):
        reachable |= {count} if any(count - one in reachable for one in free) else set()
    for owners in product(range(len(counts) + 1), repeat=len(single)):
        rests = [
            count - sum(size for size, owner in zip(single, owners, strict=True) if owner == element)
            for element, count in enumerate(counts)
        ]
        if all(rest in reachable for rest in rests):
            return True
    return False


@pytest.mark.parametrize("number", [2, 62, 139, 194, 199, 216, 225, 227, 230])
def test_space_group_is_offered_exactly_if_its_positions_can_hold_the_composition(number):
    rng = random.Random(number)
    for _ in range(12):
        counts = [rng.choice((1, 2, 3, 4, 6, 8, 12)) for _ in range(rng.choice((1, 2, 3)))]
        assert can_hold(number, counts) == brute_force(number, counts), counts
        assert (number in space_groups_for(tuple(sorted(counts)))) == can_hold(number, counts)


def test_elements_compete_for_positions_that_are_there_once():
    assert can_hold(225, [1, 1])
    assert not can_hold(225, [1, 1, 1])
    assert can_hold(225, [1, 1], frozenset("a")) is False
    assert fitting_letters(225, "Na", {"Na": 2, "Cl": 1}, frozenset()) == ["c"]
    # a and b are Cl's and the other's: Na must take c.
    assert fitting_letters(225, "Na", {"Na": 2, "Cl": 1, "F": 1}, frozenset()) == ["c"]


@pytest.mark.parametrize("number", [1, 14, 62, 166, 178, 194, 216, 227, 230])
def test_atoms_of_an_orbit_on_the_grid_are_those_of_the_space_group(number):
    group, rng = space_group(number), np.random.default_rng(number)
    for letter, position in wyckoff_positions(number).items():
        form = orbit_form(number, letter)
        steps = rng.integers(0, GRID, (20, form.n_free))
        expected = group.multiplicity(position.point(steps / GRID)) == position.primitive_multiplicity
        assert (form.is_whole(steps) == expected).all()
        atoms = form.atoms(steps[:1])[0] / GRID @ group.primitive
        away = atoms[:, None, :] - group.orbit(position.point(steps[0] / GRID))
        away -= np.round(away)
        assert (np.abs(away).max(axis=2).min(axis=1) < 1e-6).all()


@pytest.mark.parametrize(("number", "letter"), [(2, "i"), (136, "f"), (62, "c"), (167, "e"), (216, "g")])
def test_coordinates_offered_are_exactly_those_that_keep_the_multiplicity_possible(number, letter):
    n_free = orbit_form(number, letter).n_free
    given = (30,) * (n_free - 1)
    wanted = [step for step in range(GRID) if orbit_form(number, letter).is_whole(np.array([[*given, step]]))[0]]
    assert whole_steps(number, letter, given).tolist() == wanted


def test_least_distances_are_those_of_pymatgen_in_a_skewed_cell():
    from pymatgen.core import Lattice, Structure

    sites = Sites(2, [3.3, 4.1, 7.3], [70.0, 110.0, 62.0])
    lattice = Lattice.from_parameters(3.3, 4.1, 7.3, 70, 110, 62)
    sites.occupy("Li", "a", [])
    rng, form = np.random.default_rng(0), orbit_form(2, "i")
    steps = rng.integers(0, GRID, (60, 3))
    found = sites.are_apart("O", form, steps)
    for step, is_apart in zip(steps, found, strict=True):
        structure = Structure(lattice, ["Li", "O", "O"], [np.zeros(3), step / GRID, -step / GRID])
        distances = structure.distance_matrix
        far = min(distances[0, 1], distances[0, 2]) >= least_distance("Li", "O")
        assert is_apart == (far and distances[1, 2] >= least_distance("O", "O"))
    assert 0 < found.sum() < 60


def test_conditions_are_words():
    assert set(CONDITIONS) <= set(model_words())
    energies = [-0.01, 0.001, 0.002, 0.03, 0.05, 0.1, 0.2, 5.0]
    wanted = "stable stable nearly nearly metastable metastable unstable unstable"
    assert " ".join(stability_word(energy) for energy in energies) == wanted
    assert [density_word(value) for value in (0.2, 1.0, 14.9, 22.6)] == [
        "density0",
        "density1",
        "density14",
        "density15",
    ]
    assert [bulk_word(value) for value in (-1.0, 39.0, 40.0, 443.0)] == ["bulk0", "bulk0", "bulk1", "bulk9"]


def test_conditions_follow_the_objectives_and_the_seed():
    assert condition_words([], 0) == ["stable"]
    assert condition_words([{"name": "energy_above_hull", "direction": "min"}], 0) == ["stable"]
    stiff_and_light = [{"name": "bulk_modulus", "direction": "max"}, {"name": "density", "direction": "min"}]
    drawn = [condition_words(stiff_and_light, seed) for seed in range(40)]
    assert drawn == [condition_words(stiff_and_light, seed) for seed in range(40)]
    assert {words[0] for words in drawn} == {"stable"}
    assert {words[1] for words in drawn} == {f"density{bin}" for bin in range(5)}
    assert {words[2] for words in drawn} == {"bulk7", "bulk8", "bulk9"}


def test_every_element_of_the_grammar_is_a_word():
    assert set(ELEMENTS) <= set(model_words())


@pytest.mark.parametrize("operator", ["crossover", "mutate", "explore", "predict"])
@pytest.mark.parametrize("elements", [None, ["Na", "Cl"]])
@pytest.mark.parametrize("composition", [None, "NaCl"])
@pytest.mark.parametrize("conditions", [None, [], ["stable", "density3"]])
def test_every_template_renders_to_words_of_the_model(operator, elements, composition, conditions):
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
        **({} if conditions is None else {"conditions": conditions}),
    }
    words = prompt_words(render("compact", operator, variables))
    assert words[-1] == "child"
    assert (words[-3:-1] == ["stable", "density3"]) == bool(conditions)
    assert grammar_for(words).allowed == ("crystal",)
