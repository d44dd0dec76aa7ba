"""The lines of the progress charts."""

from __future__ import annotations

import pytest

from matsearch.report.chart import _ticks, progress_panels
from matsearch.report.frame import candidates_frame
from matsearch.store import RunStore


def test_progress_is_counted_against_relaxations_of_proposed_candidates(run_dir):
    with RunStore(run_dir, writable=False) as store:
        energy, found = progress_panels(candidates_frame(store))
    assert found.x_ticks[-1][1] == "6"  # of 12 proposed and 2 seeds, 6 were relaxed
    assert [label for _, label in found.y_ticks] == ["0", "1", "2", "3"]
    assert [line.label for line in energy.lines] == ["any scored crystal", "unique and novel"]


def test_nothing_relaxed_gives_no_chart(make_run):
    with RunStore(make_run(), writable=False) as store:
        assert progress_panels(candidates_frame(store)) == []


@pytest.mark.parametrize(("low", "high"), [(0, 0), (0, 0.0004), (-0.09, 0.02), (0, 3.7), (-0.05, 1e4), (0.99, 1.01)])
@pytest.mark.parametrize("whole", [False, True])
def test_ticks_enclose_the_range_and_are_few(low, high, whole):
    ticks = _ticks(low, high, whole=whole)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    assert not whole or all(tick == round(tick) for tick in ticks)
