"""The lines of the progress charts."""

from __future__ import annotations

from matsearch.report.frame import candidates_frame
from matsearch.report.progress import progress
from matsearch.store import RunStore


def test_progress_is_counted_against_relaxations_of_proposed_candidates(run_dir):
    with RunStore(run_dir, writable=False) as store:
        found = progress(candidates_frame(store))
    assert found["id"] == [7, 8, 9, 10, 11, 12]  # of 12 proposed and 2 seeds, 6 were relaxed
    # Candidate 7 did not converge, 8 is quarantined, 12 is 9 once more.
    assert found["best"] == [None, None, 0.02, 0.0004, 0.0004, 0.0004]
    assert found["best_new"] == [None, None, 0.02, 0.0004, 0.0004, 0.0004]
    assert found["n_msun"] == [0, 0, 1, 2, 3, 3]
    assert found["n_metastable"] == [0, 0, 1, 2, 3, 4]


def test_nothing_relaxed_gives_no_progress(make_run):
    with RunStore(make_run(), writable=False) as store:
        assert progress(candidates_frame(store))["id"] == []
