"""What lies inside a space, and what every backend is told of it."""

import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.propose.operators import propose
from matsearch.propose.operators.backend import _space
from matsearch.propose.operators.request import request_text
from matsearch.propose.proposer import Proposer
from matsearch.propose.settings import SpaceSettings
from matsearch.propose.space import Space, anonymous_ratio, describe_groups, group_numbers
from matsearch.records import Parents, Rejection


def perovskite(a="Ca", b="Ti", x="O", edge=3.9):
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(Lattice.cubic(edge), [a, b, x, x, x], sites)


def salt(edge=4.2):
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(edge), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        ({"chemical_system": "Ca-Ti-O", "stoichiometry": "ABX3", "symmetry": ["cubic"], "min_atoms": 5}, None),
        ({"chemical_system": "O-Ti-Ca-Mg"}, "missing_elements"),
        ({"elements": ["Ca", "Ti", "O", "Mg"]}, None),
        ({"chemical_system": "Ca-O"}, "outside_elements"),
        ({"stoichiometry": "A2B2X6"}, None),
        ({"stoichiometry": "A2BX4"}, "wrong_stoichiometry"),
        ({"stoichiometry": "AB4"}, "wrong_stoichiometry"),
        ({"min_atoms": 6}, "too_few_atoms"),
        ({"max_atoms": 4}, "too_many_atoms"),
        ({"symmetry": 221}, None),
        ({"symmetry": [62, "tetragonal"]}, "wrong_space_group"),
    ],
)
def test_a_crystal_outside_is_refused_with_the_reason(space, reason):
    found = SpaceSettings(**space).space().check(perovskite())
    assert (found and found.reason) == reason


def test_a_prediction_takes_up_to_four_formula_units_in_whatever_cell():
    space = Space(composition="MgO")
    conventional = salt()  # four, and one in the primitive cell
    assert space.check(conventional) is None and space.check(conventional * (2, 1, 1)) is None
    moved = conventional * (2, 1, 1)
    moved.translate_sites([0], [0.02, 0.01, 0.005])
    assert space.check(moved).reason == "too_many_formula_units"


@pytest.mark.parametrize(
    ("formula", "ratio"), [("ABX3", (1, 1, 3)), ("A2B2O6", (1, 1, 3)), ("A", (1,)), ("A3B12", (1, 4))]
)
def test_letters_stand_for_elements(formula, ratio):
    assert anonymous_ratio(formula) == ratio


@pytest.mark.parametrize("formula", ["CaTiO3", "", "abx3", "A0B", "ABA"])
def test_what_is_no_stoichiometry_is_refused(formula):
    with pytest.raises(ValueError, match="letter"):
        anonymous_ratio(formula)


def test_crystal_systems_are_all_the_space_groups():
    systems = "triclinic monoclinic orthorhombic tetragonal trigonal hexagonal cubic".split()
    assert group_numbers(systems) == frozenset(range(1, 231))
    assert describe_groups(group_numbers(["cubic", 62])) == "any cubic space group, or Pnma (62)"


def test_a_chat_model_is_told_all_of_it():
    settings = SpaceSettings(chemical_system="Ca-Ti-O", stoichiometry="ABX3", symmetry=[62], min_atoms=10, max_atoms=20)
    (prompt,) = Proposer(settings.space()).prompts(Parents(0, 1, "explore", (), 3), "chat")
    for words in (
        "Use exactly these elements, all of them in every crystal: Ca, O, Ti.",
        "stoichiometry A:B:C = 1:1:3",
        "The space group must be Pnma (62).",
        "At least 10 atoms in the cell.",
        "At most 20 atoms in the cell.",
    ):
        assert words in prompt.user


def test_operators_are_told_all_of_it():
    space = SpaceSettings(chemical_system="Ca-Ti-O", stoichiometry="ABX3", symmetry=["cubic"], min_atoms=5).space(
        ["MgO"]
    )
    assert _space(json.loads(request_text("explore", [], space))["space"]) == space
    assert json.loads(request_text("explore", [], Space()))["space"].keys() == {"elements", "max_atoms", "composition"}


@pytest.mark.parametrize("operator", ["explore", "random_prototype"])
def test_operators_that_start_from_nothing_meet_a_stoichiometry_and_a_symmetry(operator):
    wanted = SpaceSettings(chemical_system="Ca-Ti-O", stoichiometry="ABX3", symmetry=["cubic"], max_atoms=10)
    space = wanted.space()
    made = [propose(operator, [], space, np.random.default_rng(seed)) for seed in range(4)]
    found = [one.structure for one in made if not isinstance(one, Rejection)]
    assert found and all(space.check(structure) is None for structure in found)


def test_a_compact_model_is_asked_for_one_to_four_formula_units():
    proposer = Proposer(Space(composition="KZnF3", max_atoms=40))
    texts = {proposer.prompts(Parents(k, 1, "predict", (), 1), "compact")[0].user for k in range(60)}
    assert texts == {f"predict {cell} stable child" for cell in ("K1Zn1F3", "K2Zn2F6", "K3Zn3F9", "K4Zn4F12")}
    small = Proposer(Space(composition="KZnF3", max_atoms=12))
    assert len({small.prompts(Parents(k, 1, "predict", (), 1), "compact")[0].user for k in range(60)}) == 2


def test_a_compact_model_without_parents_is_asked_for_the_stoichiometry():
    proposer = Proposer(SpaceSettings(chemical_system="Ca-Ti-O", stoichiometry="ABX3", max_atoms=10).space())
    texts = {proposer.prompts(Parents(k, 1, "explore", (), 1), "compact")[0].user for k in range(20)}
    assert texts == {"predict Ca1Ti1O3 stable child", "predict Ca2Ti2O6 stable child"}
