"""Hypervolume against areas worked out by hand, and its curve against itself."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matsearch.metrics.hypervolume import (
    common_reference_point,
    default_reference_point,
    found_volume,
    hypervolume,
    hypervolume_curve,
    volume_curve,
)
from matsearch.search.selection import Goal, Limit

DIRECTIONS = ("min", "max")  # height above the hull, bulk modulus
WORST = (0.1, 0.0)


def test_two_steps_of_a_staircase():
    # 0.1 x 100 under the first; the second adds 0.05 x 200 above it.
    assert hypervolume(np.array([[0.0, 100.0], [0.05, 300.0]]), DIRECTIONS, WORST) == pytest.approx(20.0)


def test_what_does_not_beat_the_reference_point_adds_nothing():
    assert hypervolume(np.array([[0.1, 300.0], [0.2, 500.0], [0.05, 0.0]]), DIRECTIONS, WORST) == 0.0
    assert hypervolume(np.empty((0, 2)), DIRECTIONS, WORST) == 0.0


def test_three_objectives():
    assert hypervolume(np.array([[1.0, 1.0, 1.0]]), ("min",) * 3, (2.0, 3.0, 4.0)) == pytest.approx(6.0)


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        hypervolume(np.array([[0.0, np.nan]]), DIRECTIONS, WORST)
    with pytest.raises(ValueError, match="2 values, got 3"):
        hypervolume(np.array([[0.0, 1.0]]), DIRECTIONS, (1.0, 1.0, 1.0))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=15))
def test_the_curve_is_the_hypervolume_of_what_had_arrived(points):
    values = np.array(points, dtype=float) / [100.0, 0.03]
    curve = hypervolume_curve(values, DIRECTIONS, WORST)
    expected = [hypervolume(values[: n + 1], DIRECTIONS, WORST) for n in range(len(values))]
    np.testing.assert_allclose(curve, expected, rtol=1e-12)
    assert (np.diff(curve) >= 0).all()


def test_a_direction_is_min_or_max_and_nothing_else():
    with pytest.raises(ValueError, match="'min' or 'max', got 'maximise'"):
        hypervolume(np.array([[0.0, 1.0]]), ("min", "maximise"), WORST)


GOALS = [Goal("energy_above_hull", "min"), Goal("bulk_modulus", "max")]
FOUND = [  # operator, stage, energy above hull, bulk modulus
    ("seed", "scored", 0.0, 999.0),
    ("mutate", "scored", 0.05, 100.0),
    ("mutate", "check", np.nan, np.nan),
    ("mutate", "relax", np.nan, np.nan),
    ("mutate", "scored", 0.2, 500.0),
    ("mutate", "scored", -0.05, 100.0),
    ("mutate", "score", -0.4, np.nan),
    ("mutate", "scored", 0.05, 300.0),
]


@pytest.fixture
def frame():
    table = pd.DataFrame(FOUND, columns=["operator", "stage", "energy_above_hull", "bulk_modulus"])
    table["id"], table["parents"] = range(len(table)), [()] * len(table)
    for name in ("reason", "detail", "duplicate_of", "matched_known", "name"):
        table[name] = pd.Series([None] * len(table), dtype=object)
    table["add_status"] = table["stage"].where(table["stage"] == "scored", None)
    return table


def test_the_volume_of_a_campaign_is_that_of_its_metastable_crystals_after_each_relaxation(frame):
    point = {"energy_above_hull": 0.1, "bulk_modulus": 0.0}
    # 0.05 x 100, then 0.1 x 100 (clipped at 0), then 0.05 x 200 more; what is too high or low adds nothing.
    assert volume_curve(frame, GOALS, point) == pytest.approx([5, 5, 5, 10, 10, 20])
    assert found_volume(frame, GOALS, point) == pytest.approx(20.0)
    assert found_volume(frame[:1], GOALS, point) == 0.0
    assert found_volume(frame, GOALS[:1], point) is None
    assert found_volume(frame, GOALS, {"energy_above_hull": 0.1}) is None


def test_what_breaks_a_constraint_adds_nothing_and_a_target_counts_by_how_far_off(frame):
    point = {"energy_above_hull": 0.1, "bulk_modulus": 0.0}
    bound = [GOALS[0], Goal("bulk_modulus", "max", limit=Limit("<=", 250.0))]
    assert found_volume(frame, bound, point) == pytest.approx(10.0)
    aimed = [GOALS[0], Goal("bulk_modulus", None, target=120.0, tolerance=10.0)]
    # 0 is 110 off the tolerated range, 100 is 10 off it, and 300 is farther off than 0.
    assert found_volume(frame, aimed, point) == pytest.approx(0.1 * 100)


def test_without_a_hull_all_that_is_scored_counts(frame):
    goals = [Goal("density", "min"), Goal("bulk_modulus", "max")]
    frame["density"], frame["energy_above_hull"] = 1.0, np.nan
    assert found_volume(frame, goals, {"density": 2.0, "bulk_modulus": 0.0}) == pytest.approx(500.0)


def test_the_reference_point_is_stated_or_of_the_seeds():
    seeds = [{"energy_above_hull": 0.02, "bulk_modulus": 80.0}, {"energy_above_hull": 0.3, "bulk_modulus": 40.0}]
    assert default_reference_point(GOALS, seeds) == {"energy_above_hull": 0.1, "bulk_modulus": 40.0}
    stated = [Goal("energy_above_hull", "min", reference=0.05), Goal("bulk_modulus", "max", reference=10.0)]
    assert default_reference_point(stated, []) == {"energy_above_hull": 0.05, "bulk_modulus": 10.0}
    assert default_reference_point(GOALS, []) == {"energy_above_hull": 0.1}
    only_limit = [GOALS[1], Goal("energy_above_hull", None, limit=Limit("<=", 0.1))]
    assert default_reference_point(only_limit, seeds) == {"bulk_modulus": 40.0}


def test_campaigns_are_measured_together_against_the_worst_of_their_points():
    points = [{"energy_above_hull": 0.1, "bulk_modulus": 40.0}, {"energy_above_hull": 0.1, "bulk_modulus": 30.0}, {}]
    assert common_reference_point(GOALS, points) == {"energy_above_hull": 0.1, "bulk_modulus": 30.0}
    assert common_reference_point(GOALS, [{"energy_above_hull": 0.1}]) == {"energy_above_hull": 0.1}
