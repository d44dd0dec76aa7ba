"""Hypervolume against areas worked out by hand, and its curve against itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matsearch.metrics.hypervolume import hypervolume, hypervolume_curve

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
