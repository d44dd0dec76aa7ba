"""A campaign that uses every operator: informed prompts, the same after a resume, shown in full."""

import json
import re
from pathlib import Path

import pytest
from scripted_campaign import CRYSTALS, assert_same_candidates, poscar, reply

import matsearch as ms
from matsearch.store import RunStore

OPERATORS = "crossover distort explore mutate optimise prototype repair substitute vacancy wyckoff".split()
ALL = "operators = {" + ", ".join(f"{name} = 1" for name in OPERATORS) + "}"
SEARCH = f"generations = 5\npopulation = 8\nseeds = 4\nchildren_per_prompt = 1\n{ALL}"
SEED = 2  # with which twenty proposals draw every operator
OVERLAP = poscar("CsCl", 3.0, ("Li", "Ti")).replace("0.500000 0.500000 0.500000", "0.1 0 0")


@pytest.fixture
def campaign(write_campaign):
    """Writes the campaign file: good crystals, one that overlaps, and from then on what has been before."""

    def write(name: str = "operators", search: str = SEARCH, more: str = "", llm: str = "") -> Path:
        replies = [reply(OVERLAP), *(reply(poscar(*crystal)) for crystal in CRYSTALS[:6])]
        return write_campaign(
            replies, name=name, preset="matsearch", search=search, more=f"seed = {SEED}\n{more}", llm=llm
        )

    return write


def prompts_of(run_dir: Path) -> list[tuple]:
    """What was asked: proposal, operator, template with its version, parents, hash of the text."""
    with RunStore(run_dir, writable=False) as store:
        rows = store.rows(
            "SELECT p.id, p.operator, p.template, p.template_hash, p.parents, r.prompt_hash FROM proposals p "
            "JOIN replies r ON r.proposal_id = p.id ORDER BY p.id, r.sample"
        )
    return [tuple(row) for row in rows]


def texts_of(run_dir: Path) -> dict[str, list[str]]:
    """The prompts of each template."""
    with RunStore(run_dir, writable=False) as store:
        rows = store.rows(
            "SELECT p.template, q.user FROM proposals p JOIN replies r ON r.proposal_id = p.id "
            "JOIN prompts q ON q.hash = r.prompt_hash ORDER BY p.id"
        )
    texts: dict[str, list[str]] = {}
    for template, user in rows:
        texts.setdefault(template.removeprefix("chat/"), []).append(user)
    return texts


def test_every_operator_is_asked_with_what_was_learned(campaign, tmp_path, command):
    run_dir = tmp_path / "run"
    path = campaign()
    path.write_text(path.read_text().replace('"script"', '"script"\nprices = { prompt = 1.0, completion = 2.0 }'))
    frame = ms.Campaign.from_toml(path, run_dir=run_dir).run().candidates()
    texts = texts_of(run_dir)
    assert set(texts) == set(OPERATORS)
    everything = "\n".join(text for each in texts.values() for text in each)
    for words in ("the hull", "Earlier crystals of this search that failed", "(shares of the atoms)", "space group"):
        assert words in everything
    # The crystal with overlapping atoms is offered for repair, and what came of it descends from it.
    broken = frame[frame["reason"] == "overlapping_atoms"]
    repairs = frame[frame["operator"] == "repair"]
    assert len(repairs) and set(repairs["parents"]) <= {(number,) for number in frame["id"]}
    assert repairs.iloc[0]["parents"][0] in set(broken["id"])
    assert len(set(repairs["parents"])) == len(repairs), "each is repaired once"
    assert "atoms are too close to each other (" in texts["repair"][0]

    status, out, _ = command("show", run_dir, repairs.iloc[0]["id"])
    assert status == 0
    (failed,) = repairs.iloc[0]["parents"]
    formula = frame.set_index("id")["formula"][failed]
    for words in (
        f"operator repair, parents {failed} ({formula})", "template chat/repair, version", "model script (scripted)",
        "tokens ", " prompt, ", " completion", "prompt:", "This crystal failed", "reply:", "as proposed:", "fate: ",
    ):  # fmt: skip
        assert words in out

    scored = frame[(frame["stage"] == "scored") & (frame["generation"] > 0)].iloc[0]
    _, out, _ = command("show", run_dir, scored["id"])
    for words in (
        "as relaxed:",
        "converged after ",
        " eV/atom; largest force ",
        "energy_above_hull: ",
        " USD",
        "seed ",
    ):
        assert words in out
    assert f"matches the known phase {scored['matched_known']}" in out or not scored["matched_known"]


def test_a_continued_campaign_asks_what_an_uninterrupted_one_asks(campaign, tmp_path, command):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    path = campaign()
    command("run", path, "--run-dir", whole)
    # Stopped in the middle by budgets, several times, with other workers; the memory is built again from the store.
    command("run", path, "--run-dir", parts, "--set", "budget.proposals=6")
    for limit in ("11", "14", "1000"):
        workers = "llm.options.concurrency=4"
        status, _, err = command("run", parts, "--set", f"budget.proposals={limit}", "--set", workers)
        assert status == 0, err
    assert prompts_of(parts) == prompts_of(whole)
    assert_same_candidates(*(ms.Campaign.open(folder).candidates() for folder in (whole, parts)))


def test_a_compact_model_gets_every_operator_as_one_of_its_tasks(campaign, tmp_path):
    path = campaign(llm=', style = "compact"', search=f"generations = 4\npopulation = 8\nseeds = 4\n{ALL}")
    ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run()
    asked = prompts_of(tmp_path / "run")
    assert {template for _, _, template, *_ in asked} <= {"compact/mutate", "compact/crossover", "compact/explore"}
    assert len({operator for _, operator, *_ in asked}) > 5


def test_own_templates_are_checked_shown_and_stored(campaign, tmp_path, command):
    (tmp_path / "mine").mkdir()
    mine = tmp_path / "mine" / "mutate.txt"
    mine.write_text("Improve {{ parent[0].formula }} for me.\n")
    path = campaign(search='generations = 1\npopulation = 4\nseeds = 2\nprompts = "mine"\noperators = { mutate = 1.0 }')
    status, _, err = command("run", path, "--run-dir", tmp_path / "run")
    assert status == 2 and "mutate.txt" in err and "did you mean 'parents'" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()

    mine.write_text("Improve {{ parents[0].formula }} for me.\n")
    _, out, _ = command("run", path, "--run-dir", tmp_path / "run", "--dry-run")
    assert "for me." in out and "prompt of your template" not in out, "it is the first prompt"
    _, out, _ = command("run", path, "--dry-run", "--set", "search.operators={explore=1.0}")
    assert "prompt of your template mutate:" in out and "for me." in out
    status, _, err = command("run", path, "--run-dir", tmp_path / "run", "--set", "budget.proposals=2")
    assert status == 0, err
    assert all("for me." in text for text in texts_of(tmp_path / "run")["mutate"])
    # Another text is another prompt: what was paid for is not mixed with it.
    before = mine.read_text()
    mine.write_text("Better {{ parents[0].formula }} for me.\n")
    status, _, err = command("run", tmp_path / "run", "--set", "budget.proposals=4")
    assert status == 2 and "prompt template chat/mutate" in err
    assert f"{mine} is yours: put that back as it was, or start a new run" in err
    mine.rename(mine.with_name("elsewhere"))
    (mine.parent / "explore.txt").write_text("Something new.\n")
    status, _, err = command("run", tmp_path / "run", "--set", "budget.proposals=4")
    assert status == 2 and f"in your folder {mine.parent}" in err and "put back what was there" in err
    mine.write_text(before)
    status, _, err = command("run", tmp_path / "run", "--set", "budget.proposals=4")
    assert status == 0, err


def test_a_prediction_never_names_what_is_known_of_its_composition(write_campaign, tmp_path):
    path = write_campaign(
        [reply(poscar("NaCl", 4.2, ("Mg", "O"))), reply(poscar("CsCl", 2.6, ("Mg", "O")))], name="predict",
        preset="matsearch", search="generations = 3\npopulation = 4\nseeds = 3\nchildren_per_prompt = 1",
        more='task = "predict"',
    )  # fmt: skip
    path.write_text(path.read_text().replace("max_atoms = 8", 'max_atoms = 8\ncomposition = "MgO"'))
    ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run()
    texts = texts_of(tmp_path / "run")["predict"]
    assert any("MgO, space group" in text for text in texts), "its own finds are shown"
    for text in texts:
        for line in text.splitlines():
            # MgO2 is another compound.
            assert not re.search(r"\bMgO\b", line) or not line.startswith(("Decomposes", "Competes"))
            assert "known or was found" not in line
    assert json.dumps(texts).count("mp-") == 0
