"""Judges hear the finalists of compared searches."""

import json
from types import SimpleNamespace

import pytest
from compared_runs import PickyPotential, diagonal, write_run
from made_up_phases import BallPotential, DeepBallPotential, write_phases

from matsearch.errors import ConfigError
from matsearch.evaluation import judged as judging
from matsearch.evaluation.judged import judge_finalists
from matsearch.reference.build import build

TWO, FOUR = diagonal(2.9, ["Li", "O"]), diagonal(3.6, ["Mg", "O", "Mg", "O"])


@pytest.fixture
def folder(tmp_path):
    reference = tmp_path / "reference"
    build(BallPotential("cpu"), reference, lambda _: None, source=str(write_phases(tmp_path / "phases.parquet")))
    write_run(tmp_path / "c" / "one" / "seed-0", reference, [(TWO, 0.0), (TWO, 0.0), (FOUR, 0.02), (FOUR, 0.02)])
    write_run(tmp_path / "c" / "one" / "seed-1", reference, [(TWO, 0.0), (TWO, 0.01), (TWO, 0.0), (TWO, 0.0)])
    write_run(tmp_path / "c" / "two" / "seed-0", reference, [(FOUR, 0.02), (FOUR, 0.3), (TWO, 0.3), (FOUR, 0.03)])
    write_run(tmp_path / "c" / "two" / "seed-1", reference, [(TWO, 0.3), (TWO, 0.3), (TWO, 0.3), (TWO, 0.3)])
    return tmp_path / "c"


def test_what_judges_confirm_is_counted_by_preset_with_intervals(folder):
    judged = judge_finalists(folder, [PickyPotential("cpu"), DeepBallPotential("cpu")])
    table = {(row["preset"], row["judge"]): row for row in judged.presets()}
    picky, deep, both = PickyPotential.name, DeepBallPotential.name, "all judges"
    assert table["one", picky]["heard"] == 8
    assert table["one", picky]["metastable"]["count"] == table["one", picky]["stable"]["count"] == 6
    assert table["one", picky]["metastable"]["rate"] == 0.75
    low, high = table["one", picky]["metastable"]["wilson"]
    assert 0.40 < low < 0.75 < high < 0.93
    mean, half = table["one", picky]["metastable"]["over_seeds"]
    assert mean == 0.75 and half == pytest.approx(12.706 * 0.25, rel=1e-3)  # Student's t of two runs
    assert table["one", picky]["confirmed"][0] == 3.0  # of 2 and 4
    assert table["one", deep]["metastable"]["count"] == 8
    assert table["one", both]["metastable"]["count"] == 6
    assert table["two", picky]["metastable"]["count"] == 0 and table["two", picky]["heard"] == 2
    assert table["two", picky]["confirmed"][0] == 0.0  # one run found nothing, the other nothing that holds
    (pair,) = [row for row in judged.spearman() if row["between"] == [BallPotential.name, picky]]
    assert pair["n"] == 10 and pair["spearman"] > 0.8
    written = json.loads((folder / "judges.json").read_text())
    assert written == json.loads(json.dumps(judged.plain()))
    heights = {one["id"]: one[picky] for one in written["finalists"] if (one["preset"], one["seed"]) == ("one", 0)}
    assert heights == pytest.approx({0: 0.0, 1: 0.0, 2: 0.2, 3: 0.2}, abs=2e-3)
    assert written["judges"][picky]["phases_relaxed"] == 2


def test_a_stopped_hearing_goes_on_where_it_was_and_ends_the_same(folder, tmp_path):
    whole = judge_finalists(folder, [PickyPotential("cpu")]).plain()
    (folder / "judges.sqlite").rename(tmp_path / "whole.sqlite")

    def stop(line):
        if line.endswith("heard 2 of each run"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge_finalists(folder, [PickyPotential("cpu")], say=stop)
    early = json.loads((folder / "judges.json").read_text())
    assert {run["heard"] for run in early["runs"]} == {0, 2}  # two of each run that found any
    assert judge_finalists(folder, [PickyPotential("cpu")]).plain() == whole
    BallPotential.n_calls = 0
    assert judge_finalists(folder, [PickyPotential("cpu")]).plain() == whole
    assert BallPotential.n_calls == 0


def test_a_judge_with_a_hull_of_its_own_uses_that(folder):
    judged = judge_finalists(folder, [BallPotential("cpu")], sample=1)
    assert judged.described[BallPotential.name]["finalists"] == "relaxed, against relaxed phases"
    assert [row["heard"] for row in judged.presets()] == [2, 1]
    assert [row["metastable"]["rate"] for row in judged.presets()] == [1.0, 1.0]


def test_a_hull_of_phases_as_listed_meets_finalists_as_they_are(folder):
    build(DeepBallPotential("cpu"), folder.parent / "reference", lambda _: None, minutes=0)
    judged = judge_finalists(folder, [DeepBallPotential("cpu")])
    assert judged.described[DeepBallPotential.name]["finalists"].startswith("as they are")
    # The cell of the phase, and not the one it would relax to.
    assert judged.heights[DeepBallPotential.name]["one", 1, 0] == pytest.approx(0.0, abs=1e-5)


def test_elements_that_a_judge_knows_nothing_of_count_neither_way(folder):
    class NoMagnesium(PickyPotential):
        name = "compared_runs:NoMagnesium"
        elements = PickyPotential.elements - {"Mg"}

    rows = {(row["preset"], row["seed"]): row for row in judge_finalists(folder, [NoMagnesium("cpu")]).runs()}
    first = rows["one", 0]
    assert (first["heard"], first["outside"], first["metastable"], first["refused"]) == (2, 2, 2, 0)
    assert first["confirmed"] == 4.0
    assert (rows["two", 0]["heard"], rows["two", 0]["outside"], rows["two", 0]["confirmed"]) == (0, 2, None)


def test_the_quick_judge_has_heard_all_when_time_is_up_for_the_slow_one(folder, monkeypatch):
    class Slow(PickyPotential):
        name = "compared_runs:Slow"

    now = iter(range(100))
    monkeypatch.setattr(judging, "time", SimpleNamespace(monotonic=lambda: next(now)))
    judged = judge_finalists(folder, [PickyPotential("cpu"), Slow("cpu")], minutes=11 / 60)
    heard = {row["judge"]: row["heard"] for row in judged.runs() if row["seed"] == 1 and row["preset"] == "one"}
    assert heard == {PickyPotential.name: 4, Slow.name: 1, "all judges": 1}


def test_a_judge_sits_once(folder):
    with pytest.raises(ConfigError, match="named twice"):
        judge_finalists(folder, [PickyPotential("cpu"), PickyPotential("cpu")])
