"""Operators in the place of an LLM: whole campaigns, alone and beside a model."""

import json
import re

import pytest
from scripted_campaign import CRYSTALS, assert_same_candidates, poscar, reply

import matsearch as ms
from matsearch.config import PRESETS
from matsearch.store import RunStore

CAMPAIGN = """name = "{name}"
preset = "{preset}"
seed = 3
[space]
elements = ["Li", "Mg", "O"]
max_atoms = 8
[search]
generations = 2
population = 6
seeds = 3
children_per_prompt = 2
{search}
[relax]
max_steps = 60
force_tol = 0.2
[budget]
relaxations = {relaxations}
"""


@pytest.fixture
def write(tmp_path):
    def write(preset, search="", relaxations=8, more=""):
        path = tmp_path / f"{preset}.toml"
        text = CAMPAIGN.format(name=preset, preset=preset, search=search, relaxations=relaxations)
        path.write_text(text + more)
        return path

    return write


@pytest.mark.parametrize("preset", ["ion-exchange", "random-prototypes", "operators-only"])
def test_a_campaign_without_an_llm_finds_crystals(preset, write, tmp_path):
    frame = ms.Campaign.from_toml(write(preset), run_dir=tmp_path / "run").run().candidates()
    made = frame[frame["operator"] != "seed"]
    assert (made["stage"] == "scored").sum() >= 2
    assert {symbol for formula in made["formula"].dropna() for symbol in re.findall("[A-Z][a-z]?", formula)} <= {
        "Li", "Mg", "O",
    }  # fmt: skip
    with RunStore(tmp_path / "run", writable=False) as store:
        texts = [row["text"] for row in store.rows("SELECT text FROM replies")]
        assert any("; from " in text for text in texts)
        asked = json.loads(store.row("SELECT user FROM prompts LIMIT 1")["user"])
    assert asked["space"] == {"elements": ["Li", "Mg", "O"], "max_atoms": 8, "composition": None}


def test_a_stopped_campaign_of_operators_goes_on_to_the_same_end(write, tmp_path, command):
    path = write("operators-only")
    command("run", path, "--run-dir", tmp_path / "whole")
    command("run", path, "--run-dir", tmp_path / "parts", "--set", "budget.relaxations=3")
    command("run", tmp_path / "parts", "--set", "budget.relaxations=8")
    frames = [ms.Campaign.open(tmp_path / name).candidates() for name in ("whole", "parts")]
    assert_same_candidates(*frames)


def test_operators_and_an_llm_share_one_campaign(write_campaign, tmp_path):
    llm = """[[llm]]
backend = "operators"
"""
    replies = [reply(poscar(*crystal)) for crystal in CRYSTALS[:6]]
    search = "generations = 3\npopulation = 8\nseeds = 4\nchildren_per_prompt = 1"
    path = write_campaign(replies, preset="matsearch", search=search)
    text = path.read_text().replace("[llm]", "[[llm]]") + "\n" + llm
    path.write_text(text)
    ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run()
    with RunStore(tmp_path / "run", writable=False) as store:
        styles = {row["template"].partition("/")[0] for row in store.rows("SELECT template FROM proposals")}
    assert styles == {"chat", "operators"}


def test_an_operator_without_a_prompt_is_refused_for_an_llm(write, command):
    path = write("best-of-n", search="operators = { ion_exchange = 1.0 }")
    status, _, err = command("run", path)
    assert status == 2 and "ion_exchange are no prompts for an LLM" in err


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_begin(preset, write, command):
    status, _, err = command("run", write(preset, relaxations=0), "--dry-run")
    assert status == 0, err
