"""Who comes before the judges."""

import pytest
from compared_runs import diagonal, write_run

from matsearch.errors import InputError
from matsearch.evaluation.finalists import draw_finalists

CRYSTAL = diagonal(2.9, ["Li", "O"])


def test_runs_are_cut_at_equal_cost_and_only_msun_crystals_are_drawn(tmp_path):
    write_run(tmp_path / "a" / "seed-0", tmp_path, [(CRYSTAL, 0.0), (CRYSTAL, 0.3), (CRYSTAL, 0.1), (CRYSTAL, 0.0)])
    write_run(tmp_path / "b" / "seed-1", tmp_path, [(CRYSTAL, -0.3), (CRYSTAL, 0.05), (CRYSTAL, 0.05)])
    found = draw_finalists(tmp_path)
    assert (found.proposals, found.relaxations) == (3, 3)
    assert [(run.preset, run.seed, run.msun) for run in found.runs] == [("a", 0, 2), ("b", 1, 2)]
    assert [sorted(one.id for one in run.drawn) for run in found.runs] == [[0, 2], [1, 2]]
    assert found.runs[0].drawn[0].structure.formula == "Li1 O1"


def test_a_larger_sample_holds_the_smaller_and_another_seed_draws_others(tmp_path):
    write_run(tmp_path / "a" / "seed-0", tmp_path, [(CRYSTAL, 0.001 * k) for k in range(30)])
    drawn = {n: [one.id for one in draw_finalists(tmp_path, n).runs[0].drawn] for n in (5, 12, None)}
    assert drawn[5] == drawn[12][:5] == drawn[None][:5] and sorted(drawn[None]) == list(range(30))
    assert drawn[5] != sorted(drawn[5])  # neither the first nor the best
    assert [one.id for one in draw_finalists(tmp_path, 5, seed=1).runs[0].drawn] != drawn[5]


def test_unfinished_runs_are_left_out_and_presets_can_be_chosen(tmp_path):
    write_run(tmp_path / "a" / "seed-0", tmp_path, [(CRYSTAL, 0.0)])
    write_run(tmp_path / "b" / "seed-0", tmp_path, [(CRYSTAL, 0.0)], status="budget: relaxations (1 of 1)")
    going = write_run(tmp_path / "b" / "seed-1", tmp_path, [(CRYSTAL, 0.0)], status="running")
    found = draw_finalists(tmp_path)
    assert [(run.preset, run.seed) for run in found.runs] == [("a", 0), ("b", 0)]
    assert found.left_out == [going]
    assert [run.preset for run in draw_finalists(tmp_path, presets=["b"]).runs] == ["b"]


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    with pytest.raises(InputError, match="no finished run in"):
        draw_finalists(tmp_path)
    write_run(tmp_path / "a" / "seed-0", tmp_path, [(CRYSTAL, 0.0)])
    write_run(tmp_path / "b" / "seed-0", tmp_path, [(CRYSTAL, 0.0)], potential="chgnet-0.3.0")
    with pytest.raises(InputError, match="different potentials"):
        draw_finalists(tmp_path)
