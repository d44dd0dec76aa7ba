"""Phases that are hidden from a search: it is never told of them, and the store says what was found."""

import json
import re

import pytest
from scripted_campaign import poscar, reply

import matsearch as ms
from matsearch.campaign.parts import Parts
from matsearch.config import load_config
from matsearch.errors import ConfigError
from matsearch.store import RunStore

SALT = poscar("NaCl", 4.2, ("Mg", "O"))
OTHER = poscar("CsCl", 2.6, ("Mg", "O"))
SEARCH = "generations = 2\npopulation = 2\nseeds = 3\nchildren_per_prompt = 1"


def run(write_campaign, tmp_path, **options):
    path = write_campaign([reply(SALT), reply(OTHER)], preset="matsearch", search=SEARCH, **options)
    campaign = ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run()
    with RunStore(tmp_path / "run", writable=False) as store:
        prompts = "\n".join(row["user"] for row in store.rows("SELECT user FROM prompts"))
        rows = store.rows("SELECT * FROM candidates WHERE proposal_id IS NOT NULL ORDER BY id")
    return campaign.candidates(), prompts, rows


def test_a_hidden_phase_is_relaxed_and_said_to_be_known_at_the_end(write_campaign, tmp_path, command):
    (tmp_path / "hide.txt").write_text("MgO   # all of its phases\n\nTiO2\n")
    frame, prompts, rows = run(write_campaign, tmp_path, more='[reference]\nhide = "hide.txt"')
    salt = next(row for row in rows if row["stage"] == "scored" and row["matched_known"])
    assert salt["formula"] == "MgO" and salt["reason"] is None
    # By the hull of what is left it lies far below, which is no error here.
    assert salt["energy_above_hull"] < -1.0 and frame["energy_above_hull"].min() < -1.0
    assert not {"MgO", "TiO2"} & set(frame.loc[frame["generation"] == 0, "formula"])
    assert "1.00 MgO" not in prompts and "TiO2 (shares" not in prompts
    with RunStore(tmp_path / "run", writable=False) as store:
        assert store.config["reference"]["hide"] == ["MgO", "TiO2"]
        assert salt["matched_known"] in json.loads(store.meta["hidden_phases"])
    (tmp_path / "hide.txt").unlink()
    status, _, err = command("run", tmp_path / "run")
    assert status == 0 and re.search(rf"of [0-9]+ hidden phases [1-9] found again: .*{salt['matched_known']}", err)


def test_what_is_not_hidden_is_turned_away_as_known(write_campaign, tmp_path):
    _, _, rows = run(write_campaign, tmp_path)
    assert "known" in {row["reason"] for row in rows if row["formula"] == "MgO"}


def test_a_prediction_is_measured_without_its_own_composition(write_campaign, tmp_path):
    path = write_campaign([reply(SALT)], more='task = "predict"', search=SEARCH)
    path.write_text(path.read_text().replace('elements = ["Li", "Mg", "Ti", "O"]', 'composition = "MgO"'))
    parts = Parts.build(load_config(path))
    parts.close()
    assert parts.reference.known("MgO") == [] and parts.reference.whole.known("MgO") != []
    assert "MgO" not in parts.reference.decomposition("MgO")
    assert "MgO" not in {one.formula for one in parts.seed_phases()}
    frame = ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run().candidates()
    assert frame.loc[frame["generation"] > 0, "energy_above_hull"].min() < -1.0
    with RunStore(tmp_path / "run", writable=False) as store:
        matched = [row["matched_known"] for row in store.rows("SELECT matched_known FROM candidates WHERE id >= 3")]
        prompts = "\n".join(row["user"] for row in store.rows("SELECT user FROM prompts"))
    assert any(matched) and "known phase)" not in prompts


def test_operators_never_draw_what_is_hidden(tmp_path, write_campaign):
    path = write_campaign(preset="operators-only", more='[reference]\nhide = ["MgO", "Li2O"]', search=SEARCH)
    path.write_text(path.read_text().replace('"scripted"\nmodel = "script"', '"operators"').replace(
        'options = { replies = "replies.jsonl" }', ""))  # fmt: skip
    ms.Campaign.from_toml(path, run_dir=tmp_path / "run", overrides=["budget.relaxations=0"]).run()
    with RunStore(tmp_path / "run", writable=False) as store:
        for row in store.rows("SELECT user FROM prompts"):
            assert json.loads(row["user"])["space"]["hidden"] == ["Li2O", "MgO"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('[reference]\nhide = ["mp-nothing"]', r"\[reference\] hide: .*mp-nothing.*ids and formulas"),
        ('[reference]\nhide = "nowhere.txt"', r"\[reference\] hide: cannot read .*nowhere\.txt"),
    ],
)
def test_what_cannot_be_hidden_is_one_line(write_campaign, more, words):
    with pytest.raises(ConfigError, match=words):
        Parts.build(load_config(write_campaign(more=more)))
