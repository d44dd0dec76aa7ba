"""Cheap objectives come first, and their constraints keep candidates from dear ones."""

import pytest

from matsearch.objectives import Objective, ObjectiveContext, load_objective
from matsearch.objectives.cascade import Gates, by_cost
from matsearch.records import Rejection, Stage
from matsearch.search import Goal, goal_from

CONTEXT = ObjectiveContext(potential=None)


class Named(Objective):
    unit, direction = "1", "max"

    def __init__(self, name, cost):
        self.name, self.cost = name, cost

    def __call__(self, relaxed):
        return [1.0] * len(relaxed)


HULL, MASS = Named("energy_above_hull", "free"), Named("my Mass!", "free")
STRAIN, TENSOR = Named("strain", "relaxation"), Named("tensor", "many")
ALL = [HULL, MASS, STRAIN, TENSOR]


def gates(*goals, objectives=ALL):
    return Gates(objectives, goals)


def goal(name, constraint=None, **more):
    return goal_from({"constraint": constraint, **more}, name, "max")


def test_cheap_ones_come_first_others_keep_their_order():
    assert by_cost([TENSOR, HULL, STRAIN, MASS]) == [HULL, MASS, STRAIN, TENSOR]
    assert by_cost([MASS, HULL]) == [MASS, HULL]


def test_each_gate_has_a_reason_of_its_own_that_says_what_was_spared():
    both = gates(goal("energy_above_hull", "<= 0.1"), goal("my Mass!", ">= 3"), goal("tensor"))
    assert both.refused("energy_above_hull", 0.1) is None
    assert both.refused("energy_above_hull", 0.35) == Rejection(
        Stage.SCORE, "gate_energy_above_hull", "0.35 1 is not <= 0.1; strain, tensor not computed"
    )
    assert both.refused("my Mass!", 2.0).reason == "gate_my_mass_"
    assert both.refused("tensor", -5.0) is None


def test_what_nothing_dearer_follows_is_left_to_selection():
    assert gates(goal("tensor", ">= 200")).refused("tensor", 100.0) is None
    cheap = gates(goal("energy_above_hull", "<= 0.1"), objectives=[HULL, MASS])
    assert cheap.refused("energy_above_hull", 9.0) is None
    middle = gates(goal("strain", ">= 0.2"))
    assert middle.refused("strain", 0.1).detail.endswith("; tensor not computed")


def test_a_target_or_a_direction_is_no_gate():
    assert gates(Goal("energy_above_hull", "min")).refused("energy_above_hull", 9.0) is None
    assert gates(goal("my Mass!", target=3.0)).refused("my Mass!", 9.0) is None


@pytest.mark.parametrize(
    ("name", "cost"),
    [("density", "free"), ("energy_above_hull", "free"), ("strain_energy", "relaxation"), ("bulk_modulus", "many")],
)
def test_built_ins_state_their_cost(name, cost):
    assert load_objective(name, CONTEXT).cost == cost
