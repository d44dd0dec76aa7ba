"""The templates: what each asks for, and what is wrong with a user's own."""

import os
from pathlib import Path

import pytest

from matsearch.crystal.representations import REPRESENTATIONS
from matsearch.errors import ConfigError
from matsearch.propose.operators import OPERATORS as WITHOUT_LLM
from matsearch.propose.proposer import Proposer
from matsearch.propose.shown import Remembered, Shown
from matsearch.propose.space import Space
from matsearch.propose.templates import VARIABLES, Templates, render, templates_folder
from matsearch.records import Parents, Score
from matsearch.search.operators import OPERATORS, has_template

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "prompts"


def shown(formula: str, energy: float, stability: str, modulus: float, competing: str) -> Shown:
    return Shown(
        f"<{formula}>", formula, energy, [Score("bulk_modulus", modulus, "GPa")], "Fm-3m (225)", stability, competing
    )


RICH = {
    "parents": [
        shown("Li4TiO4", 0.021, "0.021 eV/atom above the hull", 81.0, "0.67 Li2O + 0.33 TiO2"),
        shown("MgTiO3", -0.012, "0.012 eV/atom below the hull", 160.5, "0.60 TiO2 + 0.40 MgO"),
    ],
    "failed": None,
    "n_children": 3,
    "elements": ["Li", "Mg", "O", "Ti"],
    "whole_system": False,
    "stoichiometry": None,
    "symmetry": None,
    "min_atoms": None,
    "max_atoms": 20,
    "composition": None,
    "objectives": [
        {
            "name": "bulk_modulus",
            "unit": "GPa",
            "direction": "max",
            "target": None,
            "best": 160.5,
            "wish": "high bulk_modulus (GPa)",
        }
    ],
    "memory": {
        "worked": [Remembered("Li2TiO3", "C2/c (15)", "substitute", "0.004 eV/atom above the hull")],
        "failed": [
            Remembered("LiTi2O4", "", "vacancy", "atoms are too close to each other (Ti and O are 0.81 Å apart)"),
            Remembered("MgTi2O5", "Cmcm (63)", "mutate", "relaxed into a crystal that is known or was found before"),
        ],
    },
    "conditions": [],
}
FAILED = Shown(
    "<LiTi2O4>", "LiTi2O4", reason="overlapping_atoms", problem="atoms are too close to each other (Ti and O 0.8 Å)"
)


def variables(name: str) -> dict:
    n_parents = {"explore": 0, "repair": 0, "predict": 2, "crossover": 2, "prototype": 2, "optimise": 2}.get(name, 1)
    found = {**RICH, "parents": RICH["parents"][:n_parents]}
    if name == "repair":
        found["failed"] = FAILED
    if name == "predict":
        found |= {"composition": "Li2MgTiO4", "elements": None, "objectives": []}
    return found


@pytest.mark.parametrize("name", Templates().names("chat"))
def test_a_prompt_is_as_it_was_accepted(name):
    """Changed on purpose? Run once with UPDATE_GOLDEN=1 and read the difference."""
    text = render("chat", name, variables(name)) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / f"{name}.txt").write_text(text, encoding="utf-8")
    assert text == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_the_prompt_of_matllmsearch_stays_as_it_is():
    plain = [Shown("<MgO>", "MgO", space_group="Fm-3m (225)"), Shown("<LiTi>", "LiTi", space_group="Pm-3m (221)")]
    templates = Templates("matllmsearch")
    text = templates.system("chat", "crossover") + "\n\n"
    text += templates.render("chat", "crossover", {**RICH, "objectives": [], "parents": plain}) + "\n"
    assert text == (GOLDEN / "matllmsearch.txt").read_text(encoding="utf-8")


def test_there_is_a_template_for_every_operator():
    assert set(Templates().names("chat")) == set(filter(has_template, OPERATORS))
    assert OPERATORS.keys() == WITHOUT_LLM.keys()


def test_the_proposer_gives_templates_the_variables_that_are_promised():
    given = Proposer(Space())._variables([], None, Parents(0, 1, "explore", (), 1))
    assert given.keys() == VARIABLES.keys()


def test_the_readme_of_the_prompts_names_every_variable():
    text = (templates_folder() / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in (*VARIABLES, *REPRESENTATIONS))


def test_an_unknown_template_names_the_known_ones():
    with pytest.raises(ConfigError, match="crossover"):
        render("chat", "teleport", {})


def test_each_template_has_a_version_of_its_own_text_and_what_it_includes(tmp_path):
    before = Templates()
    assert before.hash("chat", "mutate") != before.hash("compact", "mutate")
    assert before.hash("chat", "mutate") != before.hash("chat", "substitute")
    (tmp_path / "_memory.txt").write_text("nothing")
    after = Templates(str(tmp_path))
    assert after.hash("chat", "mutate") != before.hash("chat", "mutate"), "it includes the memory"
    assert after.hash("compact", "mutate") == before.hash("compact", "mutate")
    (tmp_path / "_memory.txt").write_bytes((templates_folder() / "_memory.txt").read_bytes())
    assert Templates(str(tmp_path)).hash("chat", "mutate") == before.hash("chat", "mutate")


def test_own_templates_go_before_those_of_the_package_file_by_file(tmp_path):
    (tmp_path / "mutate.txt").write_text("Improve {{ parents[0].formula }}.\n")
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / "compact").mkdir()
    (tmp_path / "compact" / "explore.txt").write_text("explore child")
    templates = Templates(str(tmp_path))
    assert templates.own_names("chat") == ["mutate"] and templates.own_names("compact") == ["explore"]
    assert templates.render("chat", "mutate", RICH) == "Improve Li4TiO4."
    assert templates.render("chat", "explore", RICH) == render("chat", "explore", RICH)
    assert templates.render("compact", "explore", RICH) == "explore child"


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("mutate.txt", "{{ parent.text }}", ["mutate.txt", "'parent'", "did you mean 'parents'", "n_children"]),
        ("mutate.txt", "{% if max_atoms > 10000 %}{{ n_kids }}{% endif %}", ["mutate.txt", "'n_kids'"]),
        ("_rules.txt", "{{ energy }}", ["_rules.txt", "'energy'"]),
        ("system.txt", "{{ parents }}", ["system.txt", "'parents'", "instructions"]),
        ("mutate.txt", "{{ parents[0].energy }}", ["mutate.txt", "energy", "variables"]),
        ("mutate.txt", "{{ '%.2f' | format(parents[0].energy_above_hull) }}", ["mutate.txt", "no energies"]),
        ("mutate.txt", "line\n{% if parents %}", ["mutate.txt", "line 2"]),
        ("mutate.txt", '{% include "_nothing.txt" %}', ["_nothing", "known"]),
        ("mutate.txt", '{% set representation = "xyz" %}', ["mutate.txt", "'xyz'", "poscar", "wyckoff"]),
        ("mutate.txt", '{% include "mutate.txt" %}', ["mutate.txt includes itself"]),
        ("mutate.txt", '{% include "_rules.txt" %}', ["_rules.txt includes mutate.txt, which leads back"]),
        ("_rules.txt", '{% include "_rules.txt" %}', ["_rules.txt includes itself"]),
        ("mutate.txt", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ["mutate.txt", "a macro in it calls itself"]),
        ("mutate.txt", b"caf\xe9", ["mutate.txt is not UTF-8"]),
        ("_rules.txt", b"caf\xe9", ["_rules.txt is not UTF-8"]),
        ("mutate.txt", "", ["mutate.txt is empty"]),
        ("mutate.txt", " \n{# nothing yet #}\n", ["mutate.txt is empty"]),
        ("substitut.txt", "x", ["substitut.txt", "did you mean 'substitute'"]),
        ("compact/substitute.txt", "x", ["substitute.txt", "known", "crossover"]),
    ],
)
def test_a_mistake_in_an_own_template_is_said_at_the_start(tmp_path, file, text, words):
    (tmp_path / "compact").mkdir()
    (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    if "leads back" in words[0]:
        (tmp_path / "_rules.txt").write_text('{% include "mutate.txt" %}')
    with pytest.raises(ConfigError) as caught:
        Proposer(Space(), templates=Templates(str(tmp_path))).check("chat")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("style", ["chat", "compact"])
def test_the_templates_of_the_package_cope_with_much_and_with_little(style):
    Proposer(Space()).check(style)
    Proposer(Space(), templates=Templates("matllmsearch")).check(style)


def test_a_folder_without_templates_or_no_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no template in .* substitute\.txt"):
        Templates(str(tmp_path))
    with pytest.raises(ConfigError, match="no folder"):
        Templates(str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match=r"'my_prompts'.*sets: matllmsearch"):
        Templates("my_prompts")
