"""A campaign computes dear objectives for what passed the cheap ones, and a hanging one costs a row."""

import time

import pytest

import matsearch as ms
from matsearch.campaign.progress import Progress
from matsearch.objectives import Objective, objective
from matsearch.objectives.catalogue import _REGISTERED
from matsearch.store import RunStore


@pytest.fixture(autouse=True)
def _registry():
    before = dict(_REGISTERED)
    yield
    _REGISTERED.clear()
    _REGISTERED.update(before)


class Dear(Objective):
    """Hangs on what holds no oxygen."""

    name, unit, direction, cost = "dear", "1", "max", "many"

    def __call__(self, relaxed):
        for one in relaxed:
            if "O" not in one.structure.composition:
                time.sleep(20)
        return [float(len(one.structure)) for one in relaxed]


class Heard(Progress):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def test_known_phases_that_break_a_constraint_start_no_search_and_that_is_said(write_campaign, tmp_path):
    @objective(name="shine", unit="1", direction="max")
    def shine(structure):
        return float(structure.density)

    wishes = f'[[objectives]]\nname = "{__name__}:Dear"\n[[objectives]]\nname = "shine"\nconstraint = ">= 100"\n'
    path = write_campaign(search="generations = 1\npopulation = 2\nseeds = 2\nchildren_per_prompt = 1", more=wishes)
    heard = Heard()
    frame = ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run(heard).candidates()
    assert set(frame["reason"]) == {"gate_shine"}
    assert "2 of 2 known phases break a constraint and start no search" in heard.lines
    assert any(line.startswith("none is left to start from: loosen the constraint") for line in heard.lines)


def test_gates_and_timeouts_are_rows_and_a_continued_run_agrees(write_campaign, tmp_path):
    @objective(name="shine", unit="1", direction="max")
    def shine(structure):
        return float(structure.density)

    wishes = (
        f'[[objectives]]\nname = "{__name__}:Dear"\ntimeout = 0.5\n'
        '[[objectives]]\nname = "shine"\nconstraint = ">= 3.0"\n'
    )
    path = write_campaign(search="generations = 1\npopulation = 6\nseeds = 4\nchildren_per_prompt = 2", more=wishes)
    start = time.monotonic()
    frame = ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run().candidates()
    assert time.monotonic() - start < 120
    gated, passed = frame[frame["reason"] == "gate_shine"], frame[frame["shine"] >= 3.0]
    assert len(gated) and (gated["stage"] == "score").all() and (gated["shine"] < 3.0).all()
    assert gated["dear"].isna().all()
    assert len(passed) and passed["reason"].isin([None, "timeout", "quarantined"]).all()
    with RunStore(tmp_path / "run", writable=False) as store:
        scored = {row["candidate_id"] for row in store.rows("SELECT * FROM scores WHERE objective = 'dear'")}
    assert scored <= set(passed["id"])
    again = ms.Campaign.open(tmp_path / "run").run().candidates()
    assert list(again["reason"]) == list(frame["reason"])
