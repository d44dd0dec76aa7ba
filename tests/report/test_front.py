"""The Pareto front of a page and its hypervolume: by the same rules as the search and `matsearch compare`."""

from __future__ import annotations

import json

import pytest
from small_run import add, rock_salt

from matsearch.metrics.hypervolume import REFERENCE_POINT, found_volume
from matsearch.report.best import goals_of
from matsearch.report.frame import candidates_frame
from matsearch.report.front import front
from matsearch.store import RunStore

POINT = {"energy_above_hull": 0.08, "bulk_modulus": 60.0}


@pytest.fixture
def found(make_run):
    """The frame and the goals of a run: deep below the hull but soft, hard but high, between, and worse than that."""
    run_dir = make_run(**{REFERENCE_POINT: json.dumps(POINT)})
    values = [(-0.09, 50.0), (0.06, 200.0), (-0.01, 120.0), (0.01, 110.0)]
    with RunStore(run_dir, writable=True) as store:
        with store.transaction():
            store.insert("proposals", [{
                "id": 0, "generation": 1, "operator": "mutate", "parents": "[]", "n_children": 4, "llm": 0,
                "template": "t", "template_hash": "h",
            }])  # fmt: skip
            for number, (energy, bulk) in enumerate(values):
                crystal = rock_salt("Mg", "O", 4.2 + number / 10)
                add(store, number, "scored", structure=crystal, energy=energy, bulk=bulk, parents="[]")
        return candidates_frame(store), goals_of(store)


def test_what_is_good_for_nothing_but_lying_deep_is_not_on_the_front(found):
    assert front(*found)["ids"] == [1, 2]


def test_the_hypervolume_is_that_of_the_campaigns_own_reference_point(found):
    shown = front(*found, POINT)
    assert shown["reference"] == POINT
    assert shown["curve"][-1] == pytest.approx(found_volume(*found, POINT))
    assert shown["curve"][-1] == pytest.approx(0.02 * (200 - 120) + 0.08 * (120 - 60))


def test_without_a_point_the_worst_metastable_candidate_is_the_worst_that_counts(found):
    shown = front(*found, {"energy_above_hull": 0.1})
    assert shown["reference"] == {"energy_above_hull": 0.1, "bulk_modulus": 50.0}
