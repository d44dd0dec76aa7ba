"""Runs are compared at equal cost, and the interval is Student's."""

import numpy as np
import pandas as pd
import pytest

from matsearch.metrics.comparison import cut, found_curve, interval, spent

ROWS = [  # operator, stage, energy above hull, duplicate_of, matched_known
    ("seed", "scored", 0.0, None, None),
    ("mutate", "parse", None, None, None),
    ("mutate", "scored", 0.05, None, None),
    ("mutate", "novelty", None, None, None),
    ("mutate", "relax", None, None, None),
    ("mutate", "scored", 0.02, 2, None),
    ("mutate", "scored", 0.0, None, None),
    ("mutate", "waiting", None, None, None),
]


@pytest.fixture
def frame():
    table = pd.DataFrame(ROWS, columns=["operator", "stage", "energy_above_hull", "duplicate_of", "matched_known"])
    table["id"], table["parents"], table["name"], table["detail"] = range(len(table)), [()] * len(table), None, None
    table["reason"], table["add_status"] = None, table["stage"].where(table["stage"] == "scored", None)
    table["matched_known"] = table["matched_known"].astype(object)
    return table


def test_students_interval_of_three_runs():
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2.0 and half == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)
    assert interval([5.0]) == (5.0, None)
    with pytest.raises(ValueError, match="no runs"):
        interval([])


def test_what_was_turned_away_costs_a_proposal_and_no_relaxation(frame):
    assert spent(frame) == (7, 4)


def test_a_run_is_cut_where_the_first_of_its_budgets_ends(frame):
    assert list(cut(frame, 100, 2)["id"]) == [0, 1, 2, 3, 4]
    assert list(cut(frame, 3, 100)["id"]) == [0, 1, 2, 3]
    assert list(cut(frame, 100, 100)["id"]) == list(range(8))


def test_the_curve_counts_after_each_relaxation(frame):
    assert found_curve(frame).tolist() == [1, 1, 1, 2]
    assert found_curve(frame, "sun").tolist() == [0, 0, 0, 1]
