"""Prompts out of parents, and rows out of completions."""

import pytest
from scripted_campaign import poscar, reply

from matsearch.crystal.text import from_poscar
from matsearch.errors import ConfigError
from matsearch.propose.proposer import Proposer, Space, sample_seed
from matsearch.propose.templates import Templates, render
from matsearch.records import Candidate, Completion, Individual, Parents, Prompt, Stage

MGO = from_poscar(poscar("NaCl", 4.2, ("Mg", "O")))
LITI = from_poscar(poscar("CsCl", 3.0, ("Li", "Ti")))


def parents(operator: str = "crossover", n_members: int = 2) -> Parents:
    members = [
        Individual(
            Candidate(i, proposed, 0, "seed"), relaxed, 0.0123, {"energy_above_hull": 0.0123, "bulk_modulus": 160.0}
        )
        for i, (proposed, relaxed) in enumerate([(MGO, MGO.copy().scale_lattice(20.0) or MGO), (LITI, LITI)])
    ]
    return Parents(7, 1, operator, tuple(members[:n_members]), 3)


SPACE = Space(frozenset({"Mg", "O", "Li", "Ti"}), 8)


def test_a_chat_model_is_asked_once_and_sees_what_was_learned():
    (prompt,) = Proposer(SPACE, ({"name": "bulk_modulus", "unit": "GPa", "direction": "max"},)).prompts(
        parents(), "chat"
    )
    assert prompt.n_crystals == 3
    for words in (
        "0.012 eV/atom above the hull",
        "bulk_modulus 160.0",
        "Propose 3 new",
        "Li, Mg, O, Ti",
        "At most 8",
        "high bulk_modulus (GPa)",
    ):
        assert words in prompt.user
    assert "POSCAR" in prompt.system


def test_without_scores_a_prompt_shows_crystals_alone():
    (prompt,) = Proposer(SPACE, show="proposed", show_scores=False).prompts(parents(), "chat")
    assert "above the hull" not in prompt.user.split("Propose")[0]
    assert "bulk_modulus" not in prompt.user


def test_a_compact_model_is_asked_once_a_child_with_a_seed_of_its_own():
    prompts = Proposer(SPACE).prompts(parents(), "compact")
    assert len(prompts) == 3
    assert len({prompt.seed for prompt in prompts}) == 3
    assert len({prompt.text_hash for prompt in prompts}) == 1
    assert [prompt.index for prompt in prompts] == [21, 22, 23]
    assert prompts[0].system == "" and prompts[0].user.startswith("crossover crystal")


def test_without_parents_something_new_is_asked_for():
    (prompt,) = Proposer(SPACE).prompts(parents(n_members=0), "chat")
    assert "Propose 3 new crystal structures of kinds that are not yet known" in prompt.user


def test_seeds_of_samples_are_distinct_and_fit_31_bits():
    seeds = {sample_seed(c, k, s) for c in range(3) for k in range(50) for s in range(5)}
    assert len(seeds) == 750
    assert max(seeds) < 2**31


def test_every_crystal_asked_for_is_accounted_for():
    completion = Completion(reply(poscar("NaCl", 4.2, ("Mg", "O")), "no crystal at all"))
    found = Proposer(SPACE).read(Prompt("", n_crystals=3), completion)
    assert found[0].rejection is None and found[0].structure is not None
    assert found[-1].rejection.reason == "missing"
    assert len(found) == 3


def test_more_crystals_than_asked_for_are_all_read():
    completion = Completion(reply(*[poscar("NaCl", a, ("Mg", "O")) for a in (4.0, 4.2, 4.4)]))
    assert len(Proposer(SPACE).read(Prompt("", n_crystals=1), completion)) == 3


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (Completion("I cannot help with that.", finish_reason="refusal"), "refusal"),
        (Completion("\ufffd\ufffd", finish_reason="not_utf8"), "not_utf8"),
        (Completion("", finish_reason="stop"), "empty_reply"),
    ],
)
def test_a_reply_that_is_no_text_of_a_crystal_gives_its_own_reason(completion, reason):
    (found,) = Proposer(SPACE).read(Prompt("", n_crystals=1), completion)
    assert found.structure is None
    assert (found.rejection.stage, found.rejection.reason) == (Stage.PARSE, reason)


def test_a_crystal_outside_the_space_is_refused_by_name():
    (found,) = Proposer(Space(frozenset({"Mg"}), 8)).read(
        Prompt(""), Completion(reply(poscar("NaCl", 4.2, ("Mg", "O"))))
    )
    assert found.structure is not None, "a refused crystal can still be looked at"
    assert found.rejection.stage == Stage.CHECK and "O" in found.rejection.detail


def test_an_unknown_template_names_the_known_ones():
    with pytest.raises(ConfigError, match="crossover"):
        render("chat", "teleport", {})


def test_each_style_has_a_version_of_its_own():
    assert Templates().hash("chat", "mutate") != Templates().hash("compact", "mutate")


def test_a_reply_that_ran_out_of_tokens_does_not_pass_for_another_crystal():
    text = poscar("NaCl", 4.2, ("Mg", "O"))[:-7]  # "0.500000" is now "0"
    (found,) = Proposer(SPACE).read(Prompt(""), Completion(text, finish_reason="length"))
    assert found.rejection.stage == Stage.PARSE
