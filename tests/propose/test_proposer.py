"""Prompts out of parents, and rows out of completions."""

import json
from dataclasses import replace

import pytest
from scripted_campaign import poscar, reply

from matsearch.crystal.text import from_poscar
from matsearch.propose.proposer import COMPACT_TASKS, Proposer, sample_seed
from matsearch.propose.space import Space
from matsearch.propose.templates import Templates
from matsearch.records import (
    Candidate,
    Completion,
    Failed,
    Individual,
    Lesson,
    Lessons,
    Parents,
    Prompt,
    Rejection,
    Stage,
)

MGO = from_poscar(poscar("NaCl", 4.2, ("Mg", "O")))
LITI = from_poscar(poscar("CsCl", 3.0, ("Li", "Ti")))


def parents(operator: str = "crossover", n_members: int = 2) -> Parents:
    members = [
        Individual(
            Candidate(i, proposed, 0, "seed"),
            relaxed,
            0.0123,
            {"energy_above_hull": 0.0123, "bulk_modulus": 160.0},
            {"Li2O": 0.667, "TiO2": 0.33, "Ti": 0.003},
        )
        for i, (proposed, relaxed) in enumerate([(MGO, MGO.copy().scale_lattice(20.0) or MGO), (LITI, LITI)])
    ]
    return Parents(7, 1, operator, tuple(members[:n_members]), 3)


SPACE = Space(frozenset({"Mg", "O", "Li", "Ti"}), 8)


def test_a_chat_model_is_asked_once_and_sees_what_was_learned():
    (prompt,) = Proposer(
        SPACE,
        (
            {
                "name": "bulk_modulus",
                "unit": "GPa",
                "direction": "max",
                "target": None,
                "wish": "high bulk_modulus (GPa)",
            },
        ),
    ).prompts(parents(), "chat")
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


BULK_MODULUS = {
    "name": "bulk_modulus",
    "unit": "GPa",
    "direction": "max",
    "target": None,
    "wish": "high bulk_modulus (GPa)",
}
OVERLAP = Rejection(Stage.CHECK, "overlapping_atoms", "Mg and O are 0.42 Å apart")
CHAT = [name for name in Templates().names("chat") if name not in ("predict", "repair", "explore")]


@pytest.mark.parametrize("operator", CHAT)
def test_every_operator_shows_parents_with_energies_values_and_what_they_decompose_into(operator):
    (prompt,) = Proposer(SPACE, (BULK_MODULUS,)).prompts(parents(operator), "chat")
    assert prompt.template == f"chat/{operator}"
    for words in ("MgO", "0.012 eV/atom above the hull", "bulk_modulus 160.0 GPa", "0.67 Li2O + 0.33 TiO2 (shares"):
        assert words in prompt.user
    assert "Ti2" not in prompt.user and "0.00" not in prompt.user.split("```")[0], "a share that rounds to nothing"
    assert "At most 8 atoms" in prompt.user and "Use only these elements: Li, Mg, O, Ti." in prompt.user


@pytest.mark.parametrize("operator", sorted({*COMPACT_TASKS, "mutate", "crossover", "explore", "predict"}))
def test_every_operator_is_one_of_four_tasks_for_a_compact_model(operator):
    space = Space(SPACE.elements, 8, "MgO" if operator == "predict" else None)
    failed = Failed(9, MGO, OVERLAP) if operator == "repair" else None
    asked = replace(parents(operator, 0 if operator in ("repair", "explore") else 2), failed=failed)
    first, *_ = Proposer(space).prompts(asked, "compact")
    task = COMPACT_TASKS.get(operator, operator)
    assert first.template == f"compact/{task}"
    assert first.user.startswith(task) and first.user.endswith("child")


def test_a_repair_shows_what_failed_and_why():
    asked = replace(parents("repair", 0), failed=Failed(9, MGO, OVERLAP))
    (prompt,) = Proposer(SPACE).prompts(asked, "chat")
    assert prompt.template == "chat/repair"
    assert "atoms are too close to each other (Mg and O are 0.42 Å apart)" in prompt.user
    assert "1 1\ndirect" in prompt.user and "enlarge the cell" in prompt.user


def test_what_a_relaxation_said_in_digits_is_not_told():
    why = Rejection(Stage.RELAX, "unconverged", "largest force 0.3141 eV/Å")
    (prompt,) = Proposer(SPACE).prompts(replace(parents("repair", 0), failed=Failed(9, MGO, why)), "chat")
    assert "did not converge" in prompt.user and "0.3141" not in prompt.user


def test_what_worked_and_what_failed_is_told_with_the_reason():
    lessons = Lessons(
        (Lesson("Li2TiO3", "substitute", 15, 0.023), Lesson("LiO", "mutate", None, -0.01)),
        (
            Lesson("TiO", "vacancy", 225, 0.41, "far_above_hull"),
            Lesson("MgO2", "explore", None, None, "overlapping_atoms", "O and O are 0.4 Å apart"),
        ),
    )
    asked = replace(parents(), lessons=lessons)
    (prompt,) = Proposer(SPACE).prompts(asked, "chat")
    for line in (
        "- Li2TiO3, C2/c (15): 0.023 eV/atom above the hull (substitute)",
        "- LiO: 0.010 eV/atom below the hull (mutate)",
        "- TiO, Fm-3m (225): 0.410 eV/atom above the hull (vacancy)",
        "- MgO2: atoms are too close to each other (O and O are 0.4 Å apart) (explore)",
    ):
        assert line in prompt.user.splitlines()
    (silent,) = Proposer(SPACE, show_scores=False).prompts(asked, "chat")
    assert "eV/atom" not in silent.user and "- Li2TiO3, C2/c (15) (substitute)" in silent.user


@pytest.mark.parametrize(
    ("relaxed", "decomposition"),
    [(MGO, {"MgO": 1.0}), (LITI, {"OMg": 0.5, "LiTi": 0.5}), (LITI, {"Mg2O2": 1.0})],
)
def test_a_prediction_is_not_told_that_its_composition_is_known(relaxed, decomposition):
    member = Individual(Candidate(0, relaxed, 0, "seed"), relaxed, 0.05, {}, decomposition)
    asked = replace(parents("predict", 0), members=(member,))
    (prompt,) = Proposer(Space(None, 8, "MgO")).prompts(asked, "chat")
    assert "Decomposes" not in prompt.user and "Competes" not in prompt.user
    (elsewhere,) = Proposer(Space(None, 8, "CaTiO3")).prompts(asked, "chat")
    assert ("Decomposes" in elsewhere.user) == (set(decomposition) != {relaxed.composition.reduced_formula})


def test_a_template_chooses_how_crystals_are_written():
    (wyckoff,) = Proposer(SPACE).prompts(parents("wyckoff", 1), "chat")
    assert "space group 225" in wyckoff.user and "space group 136 P4_2/mnm" in wyckoff.system
    (poscar_,) = Proposer(SPACE).prompts(parents("mutate", 1), "chat")
    assert "direct" in poscar_.user and "POSCAR" in poscar_.system and poscar_.schema is None


def test_crystals_as_json_come_with_the_schema_of_the_reply(tmp_path):
    (tmp_path / "mutate.txt").write_text('{% set representation = "json" %}\n{% include "_parents.txt" %}')
    (prompt,) = Proposer(SPACE, templates=Templates(str(tmp_path))).prompts(parents("mutate", 1), "chat")
    assert prompt.schema["required"] == ["crystals"] and '"lattice"' in prompt.user
    json.dumps(prompt.schema)


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


def test_a_compact_model_is_asked_for_what_the_objectives_want():
    goals = ({"name": "bulk_modulus", "unit": "GPa", "direction": "max"},)
    prompts = Proposer(SPACE, goals).prompts(parents(), "compact")
    assert prompts == Proposer(SPACE, goals).prompts(parents(), "compact")
    assert prompts[0].user.split()[-3] == "stable"
    assert prompts[0].user.split()[-2] in ("bulk7", "bulk8", "bulk9")


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


def test_a_reply_that_ran_out_of_tokens_does_not_pass_for_another_crystal():
    text = poscar("NaCl", 4.2, ("Mg", "O"))[:-7]  # "0.500000" is now "0"
    (found,) = Proposer(SPACE).read(Prompt(""), Completion(text, finish_reason="length"))
    assert found.rejection.stage == Stage.PARSE
