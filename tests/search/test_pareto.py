"""Ranking by several objectives."""

import math

from hypothesis import given
from hypothesis import strategies as st

from matsearch.search.pareto import crowding_distances, dominates, non_dominated_fronts, pareto_order

points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25)


@given(points)
def test_nothing_is_lost_and_no_dominated_point_comes_before_its_dominator(losses):
    order = pareto_order(losses)
    assert sorted(order) == list(range(len(losses)))
    place = {index: position for position, index in enumerate(order)}
    for i, a in enumerate(losses):
        for j, b in enumerate(losses):
            if dominates(a, b):
                assert place[i] < place[j]


@given(points)
def test_each_front_is_dominated_only_by_earlier_fronts(losses):
    fronts = non_dominated_fronts(losses)
    for number, front in enumerate(fronts[1:], start=1):
        for i in front:
            assert any(dominates(losses[j], losses[i]) for j in fronts[number - 1])


def test_the_ends_of_a_front_are_infinitely_far_apart():
    assert crowding_distances([(0, 3), (1, 1), (3, 0)]) == [math.inf, 2.0, math.inf]


def test_among_equals_the_earlier_comes_first():
    assert pareto_order([(0.1,), (0.0,), (0.1,), (0.1,), (0.0,)]) == [1, 4, 0, 2, 3]
    # Equal in one objective, a front is ordered by the others.
    assert pareto_order([(1, 5, 0), (2, 5, -1), (0, 5, 2), (3, 5, -2)])[:2] == [2, 3]


@given(points)
def test_fronts_are_those_of_the_definition(losses):
    left, expected = list(range(len(losses))), []
    while left:
        expected.append([i for i in left if not any(dominates(losses[j], losses[i]) for j in left)])
        left = [i for i in left if i not in expected[-1]]
    assert non_dominated_fronts(losses) == expected
