"""Preference: constraints first, then targets and directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from matsearch.records import Candidate, Individual
from matsearch.search.pareto import dominates
from matsearch.search.selection import Goal, Limit, best_first, goal_from, losses_of, violations_of

CRYSTAL = Structure(Lattice.cubic(4.1), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
GOALS = [Goal("height", "min", limit=Limit("<=", 0.1)), Goal("stiffness", "max")]


def individuals(rows, names=("height", "stiffness")):
    return [
        Individual(Candidate(number, CRYSTAL, 0, "seed"), CRYSTAL, None, dict(zip(names, row, strict=True)))
        for number, row in enumerate(rows)
    ]


def order(rows, goals, selection="pareto", names=("height", "stiffness")):
    return [one.candidate.id for one in best_first(individuals(rows, names), goals, selection)]


def test_what_keeps_the_constraint_comes_first_then_what_breaks_it_least():
    assert order([(0.5, 900.0), (0.05, 10.0), (0.2, 500.0)], GOALS) == [1, 2, 0]


def test_violations_of_several_constraints_add_up_whatever_their_units():
    goals = [Goal("height", None, limit=Limit("<=", 0.1)), Goal("stiffness", "max", limit=Limit(">=", 100.0))]
    # Each breaks one constraint by as much as the worst of all; the last breaks both by half of that.
    assert violations_of(individuals([(0.3, 100.0), (0.1, 0.0), (0.2, 50.0)]), goals) == pytest.approx([1, 1, 1])


def test_a_target_is_sought_from_both_sides_and_its_tolerance_is_as_good():
    goals = [Goal("stiffness", None, target=300.0, tolerance=20.0)]
    assert order([(0, 500.0), (0, 290.0), (0, 315.0), (0, 250.0)], goals) == [1, 2, 3, 0]


def test_lexicographic_order_takes_the_second_goal_among_equals():
    goals = [Goal("height", "min"), Goal("stiffness", "max")]
    assert order([(0.1, 5.0), (0.0, 1.0), (0.0, 3.0)], goals, "lexicographic") == [2, 1, 0]


def test_a_constraint_alone_is_not_improved_upon():
    goals = [Goal("height", None, limit=Limit("<=", 0.1)), Goal("stiffness", "max")]
    assert losses_of(individuals([(0.0, 5.0)]), goals) == [[-5.0]]
    assert order([(0.0, 5.0), (0.09, 6.0)], goals) == [1, 0]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_no_dominated_one_that_keeps_the_constraints_comes_before_what_dominates_it(rows):
    ranked = best_first(individuals([(a / 20, 10.0 * b) for a, b in rows]), GOALS, "pareto")
    kept = [one for one in ranked if one.scores["height"] <= 0.1]
    assert ranked[: len(kept)] == kept
    losses = losses_of(kept, GOALS)
    for place, loss in enumerate(losses):
        assert not any(dominates(later, loss) for later in losses[place + 1 :])


HULL_FIRST = ("energy_above_hull", "stiffness")


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_below_the_hull_is_as_good_as_on_it_and_still_none_comes_before_what_dominates_it(rows):
    goals = [Goal("energy_above_hull", "min"), Goal("stiffness", "max")]
    ranked = best_first(individuals([(a / 40, 10.0 * b) for a, b in rows], HULL_FIRST), goals, "pareto")
    raw = losses_of(ranked, goals)
    clipped = [(max(0.0, height), stiffness) for height, stiffness in raw]
    for losses in (raw, clipped):
        for place, loss in enumerate(losses):
            assert not any(dominates(later, loss) for later in losses[place + 1 :])


def test_deep_below_the_hull_is_no_merit_beside_another_objective_and_one_alone():
    goals = [Goal("energy_above_hull", "min"), Goal("stiffness", "max")]
    rows = [(-0.09, 50.0), (-0.01, 200.0), (0.05, 300.0)]
    assert order(rows, goals, names=HULL_FIRST)[-1] == 0
    assert order(rows, goals, "lexicographic", HULL_FIRST)[0] == 0
    assert order(rows, goals[:1], names=HULL_FIRST) == [0, 1, 2]


def test_goals_are_read_from_a_configuration():
    goal = goal_from({"direction": None, "constraint": " <= 0.1 ", "weight": 2.0}, "height", "min")
    assert (goal.direction, goal.limit, goal.is_sought, goal.better) == (None, Limit("<=", 0.1), False, "min")
    goal = goal_from({"direction": "min", "constraint": ">=-3e-1"}, "height", "min")
    assert goal.is_sought and goal.limit == Limit(">=", -0.3)
    goal = goal_from({"target": 300.0, "tolerance": 20.0}, "stiffness", "max")
    assert (goal.direction, goal.target, goal.tolerance) == (None, 300.0, 20.0)
    assert goal_from({}, "stiffness", "max").direction == "max"
