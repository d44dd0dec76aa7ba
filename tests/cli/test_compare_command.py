"""`matsearch compare`: presets side by side at equal budget; what ran is not run again."""

import json

import pytest

CAMPAIGN = """name = "small"
[space]
elements = ["Li", "Mg", "O"]
max_atoms = 6
[llm]
backend = "operators"
[search]
seeds = 2
[relax]
max_steps = 40
force_tol = 0.3
[[objectives]]
name = "energy_above_hull"
[[objectives]]
name = "density"
[budget]
relaxations = 4
proposals = 12
"""


@pytest.fixture
def campaign(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(CAMPAIGN)
    return path


def test_presets_are_compared_at_equal_budget_and_run_once(campaign, tmp_path, command):
    arguments = ("compare", campaign, "--presets", "ion-exchange,random-prototypes", "--seeds", "0,1")
    status, out, err = command(*arguments, "--run-dir", tmp_path / "runs")
    assert status == 0, err
    assert any("prototypes" in line and "per MSUN" in line for line in out.splitlines())  # wide enough for a file
    assert "ion-exchange" in out and "random-prototypes" in out and "MSUN" in out
    found = json.loads((tmp_path / "runs" / "comparison.json").read_text())
    assert len(found["runs"]) == 4
    assert all(run["relaxed"] <= found["relaxations"] <= 4 for run in found["runs"])
    assert all(run["proposed"] <= found["proposals"] for run in found["runs"])
    assert {len(curves) for curves in found["curves"].values()} == {2}
    assert found["reference_point"]["energy_above_hull"] == 0.1
    seeds = [run["seed"] for run in found["runs"]]
    assert seeds == [0, 1, 0, 1]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/*/run.sqlite")}
    assert len(before) == 4
    status, again, err = command(*arguments, "--run-dir", tmp_path / "runs")
    assert status == 0 and again == out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_larger_budget_goes_on_and_another_campaign_is_refused(campaign, tmp_path, command):
    arguments = ("compare", campaign, "--presets", "ion-exchange", "--seeds", "0", "--run-dir", tmp_path / "runs")
    assert command(*arguments, "--set", "budget.relaxations=1")[0] == 0
    assert json.loads((tmp_path / "runs" / "comparison.json").read_text())["relaxations"] == 1
    assert command(*arguments, "--set", "budget.relaxations=2")[0] == 0
    assert json.loads((tmp_path / "runs" / "comparison.json").read_text())["relaxations"] == 2
    status, _, err = command(*arguments, "--set", "space.max_atoms=5")
    assert status == 2 and "another configuration" in err


def test_mistakes_are_one_line(campaign, tmp_path, command):
    for arguments, said in [
        (("--presets", "matsearch,nonsense"), "unknown preset 'nonsense'; known presets: matsearch"),
        (("--presets", "matsearch", "--seeds", "a"), "whole numbers"),
        (("--presets", "matsearch", "--seeds", "1,1"), "different numbers"),
        (("--presets", "matsearch", "--set", "seed=5"), "each run of a comparison has its own; give --seeds"),
        (("--presets", "matsearch", "--set", "preset=best-of-n"), "give --presets"),
        (("--presets", "matsearch,matsearch"), "different names"),
    ]:
        status, _, err = command("compare", campaign, *arguments, "--run-dir", tmp_path / "runs")
        assert status == 2 and said in err, err
    campaign.write_text(CAMPAIGN.partition("[budget]")[0])
    status, _, err = command("compare", campaign, "--presets", "matsearch", "--run-dir", tmp_path / "runs")
    assert status == 2 and "needs [budget] proposals or relaxations" in err
