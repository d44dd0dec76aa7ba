"""The examples are run, not only shown."""

import json
import runpy
import sys
from pathlib import Path

import pytest

import matsearch as ms
from matsearch.config import load_config
from matsearch.store import RunStore

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_every_example_is_a_valid_campaign(path):
    assert load_config(path).name


def small(path: Path, tmp_path: Path, **options) -> ms.Campaign:
    overrides = ["search.generations=1", "search.population=4", "search.seeds=2", "search.children_per_prompt=2"]
    return ms.Campaign.from_toml(path, run_dir=tmp_path / "run", overrides=overrides)


def test_the_quickstart_runs_in_small(tmp_path):
    frame = small(EXAMPLES / "quickstart.toml", tmp_path).run().candidates()
    assert (frame["generation"] == 1).sum() == 4
    seeds = frame[frame["generation"] == 0]
    assert seeds["bulk_modulus"].gt(0).any()
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_custom_objective_is_found_beside_its_campaign_file(tmp_path):
    campaign = small(EXAMPLES / "light_and_stable.toml", tmp_path)
    campaign.run()
    # Continued from its folder alone, as from another place.
    frame = ms.Campaign.open(tmp_path / "run").run().candidates()
    scored = frame[frame["stage"] == "scored"]
    assert len(scored) and scored["mass_density"].between(0.1, 25).all()


@pytest.mark.timeout(600)
def test_the_custom_objective_script_runs_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["light_and_stable.py"])
    runpy.run_path(str(EXAMPLES / "light_and_stable.py"), run_name="__main__")
    assert "mass_density" in capsys.readouterr().out


def test_matllmsearch_v1_runs_with_compact_prompts(tmp_path):
    frame = small(EXAMPLES / "matllmsearch_v1.toml", tmp_path).run().candidates()
    assert set(frame.loc[frame["generation"] == 1, "operator"]) == {"crossover"}


@pytest.mark.parametrize("formula", ["Ag6O2", "Bi2F8", "Co2Sb2", "Co4B2", "Cr4Si4", "KZnF3", "Sr2O4", "YMg3"])
def test_the_eight_compositions_of_matllmsearch_can_be_predicted(formula, command):
    path, options = EXAMPLES / "predict_matllmsearch.toml", ["--set", f"space.composition={formula}"]
    status, _, err = command("run", path, *options, "--dry-run")
    assert status == 0, err


def test_a_phase_of_ones_own_is_relaxed_and_known(tmp_path):
    campaign = small(EXAMPLES / "own_phases.toml", tmp_path).run()
    with RunStore(campaign.run_dir, writable=False) as store:
        (own,) = json.loads(store.meta["extra_phases"])
        row = store.row("SELECT converged FROM relaxations WHERE key = ?", own["relaxation_key"])
    assert own["id"] == "extra/fluorite_TiO2" and row["converged"] == 1
