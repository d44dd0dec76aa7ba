"""A whole campaign with a scripted model: from prompt to report."""

import json

import pytest
from scripted_campaign import assert_same_candidates, good_replies, poscar, reply

import matsearch as ms
from matsearch.errors import BackendAuthError, StoreError
from matsearch.store import RunStore


def test_a_campaign_runs_from_prompt_to_report(write_campaign, tmp_path, command):
    run_dir = tmp_path / "run"
    status, out, err = command("run", write_campaign(), "--run-dir", run_dir)
    assert status == 0, err
    assert str(run_dir / "report.html") in out
    assert "generation 2: 4 proposed" in err
    assert (run_dir / "report.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert list((run_dir / "best").glob("*.cif"))
    frame = ms.Campaign.open(run_dir).candidates()
    for column in (
        "id",
        "parents",
        "generation",
        "operator",
        "model",
        "stage",
        "reason",
        "formula",
        "energy_above_hull",
    ):
        assert column in frame
    assert len(frame) == 3 + 8
    assert set(frame["stage"]) <= {"scored", "relax", "score"}
    scored = frame[frame["stage"] == "scored"]
    assert scored["energy_above_hull"].notna().all()
    known = json.loads((run_dir / "resolved.json").read_text())
    assert known["config"]["search"]["population"] == 4
    assert "torch" in known["versions"]

    status, out, _ = command("show", run_dir, 4)
    assert status == 0
    assert "prompt:" in out and "reply:" in out and "fate: scored" in out
    status, out, _ = command("report", run_dir, "--text")
    assert status == 0
    # A finished campaign that is run again asks and changes nothing.
    status, out, _ = command("run", run_dir)
    assert status == 0
    assert ms.Campaign.open(run_dir).candidates().equals(frame)


def test_a_dry_run_shows_a_prompt_and_writes_nothing(write_campaign, tmp_path, command):
    status, out, _ = command("run", write_campaign(), "--run-dir", tmp_path / "run", "--dry-run")
    assert status == 0
    assert "first prompt:" in out and "Propose 2 new crystal structures" in out
    assert not (tmp_path / "run").exists()


TIO, LITI = poscar("NaCl", 4.2, ("Ti", "O")), poscar("CsCl", 3.0, ("Li", "Ti"))
LAST_SITE = "0.500000 0.500000 0.500000"
BAD = {
    "garbage": ("lorem ipsum 1 2 3", "no_structure"),
    "empty": ("", "empty_reply"),
    "blank": (" \n\t ", "empty_reply"),
    "wrong counts": (reply(TIO.replace("1 1\n", "1 2\n")), "count_mismatch"),
    "not a number": (reply(TIO.replace(LAST_SITE, "nan 0.5 0.5")), "not_finite"),
    "unknown element": (reply(TIO.replace("Ti O\n", "Xx O\n")), "unknown_element"),
    "overlap": (reply(TIO.replace(LAST_SITE, "0.01 0 0")), "overlapping_atoms"),
    "zero volume": (reply(LITI.replace("0.000000 0.000000 3.000000", "3.0 0.0 0.0")), "zero_volume"),
    "outside": (reply(poscar("NaCl", 5.64, ("Na", "Cl"))), "outside_elements"),
    "not utf-8": ("\ufffd\ud800 \x00" + "x" * 50, "no_structure"),
    "huge": ("9 " * 1_000_000, "reply_too_long"),
}


def test_bad_replies_become_rows_with_reasons_and_the_run_goes_on(write_campaign, tmp_path):
    left_handed = poscar("CsCl", 3.2, ("Li", "Mg")).replace("0.000000 0.000000 3.200000", "0 0 -3.2")
    replies = [text for text, _ in BAD.values()] + [reply(left_handed)]
    path = write_campaign(
        replies,
        search=f"generations = 1\npopulation = {len(replies)}\nparents_per_prompt = 1\n"
        "children_per_prompt = 1\nseeds = 2",
    )
    campaign = ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run()
    frame = campaign.candidates()
    proposed = frame[frame["generation"] == 1]
    assert len(proposed) == len(replies)
    for (case, (_, reason)), (_, row) in zip(BAD.items(), proposed.iterrows(), strict=False):
        assert row["stage"] in ("parse", "check"), case
        assert row["detail"], case
        assert reason is None or row["reason"] == reason, case
    assert proposed.iloc[-1]["stage"] == "scored"


def test_fewer_crystals_than_asked_for_are_rows_too(write_campaign, tmp_path):
    path = write_campaign(
        [reply(poscar("NaCl", 4.2, ("Ti", "O")))],
        search="generations = 1\npopulation = 2\nseeds = 2\nchildren_per_prompt = 3",
    )
    frame = ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run().candidates()
    assert list(frame[frame["generation"] == 1]["reason"][1:]) == ["missing", "missing"]


def test_known_and_repeated_crystals_are_turned_away_before_relaxation(write_campaign, tmp_path):
    rocksalt, odd = poscar("NaCl", 4.25, ("Mg", "O")), poscar("CsCl", 3.0, ("Li", "Ti"))
    path = write_campaign(
        [reply(rocksalt, odd), reply(odd, rocksalt)], preset="matsearch",
        search="generations = 1\npopulation = 4\nseeds = 2\nchildren_per_prompt = 2",
    )  # fmt: skip
    frame = ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run().candidates()
    proposed = frame[frame["generation"] == 1]
    assert list(proposed["stage"])[0] == "novelty" and list(proposed["stage"])[2:] == ["novelty", "novelty"]
    assert list(proposed["reason"])[2] == "duplicate"
    assert "MgO" in list(proposed["formula"])
    assert proposed.iloc[0]["reason"] in ("known", "duplicate")


def test_a_relaxation_budget_stops_the_run_and_a_larger_one_continues_it(write_campaign, tmp_path, command):
    path, run_dir = write_campaign(more="[budget]\nrelaxations = 3"), tmp_path / "run"
    status, out, _ = command("run", path, "--run-dir", run_dir)
    assert status == 0
    assert "relaxations (3 of 3)" in out
    frame = ms.Campaign.open(run_dir).candidates()
    assert (frame[frame["generation"] > 0]["n_steps"].notna()).sum() == 3
    assert (frame["stage"] == "waiting").sum() == 1
    status, _, _ = command("run", run_dir, "--set", "budget.relaxations=100")
    assert status == 0
    continued = ms.Campaign.open(run_dir).candidates()
    whole = ms.Campaign.from_toml(write_campaign(name="whole"), run_dir=tmp_path / "whole").run().candidates()
    assert_same_candidates(continued, whole)


def test_a_full_disk_is_one_line_and_the_run_continues_after_it(write_campaign, tmp_path, monkeypatch):
    import sqlite3

    from matsearch.store import runs

    path, run_dir = write_campaign(), tmp_path / "run"
    real = sqlite3.connect

    def small(*arguments, **options):
        connection = real(*arguments, **options)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        if pages:
            connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        return connection

    monkeypatch.setattr(runs.sqlite3, "connect", small)
    with pytest.raises(StoreError, match=r"full.*matsearch run"):
        ms.Campaign.from_toml(path, run_dir=run_dir).run()
    monkeypatch.setattr(runs.sqlite3, "connect", real)
    with RunStore(run_dir, writable=False) as store:
        kept = {row["key"] for row in store.rows("SELECT key FROM replies")}
    frame = ms.Campaign.open(run_dir).run().candidates()
    with RunStore(run_dir, writable=False) as store:
        assert kept <= {row["key"] for row in store.rows("SELECT key FROM replies")}
    assert (frame["stage"] != "waiting").all()


def test_a_folder_of_another_campaign_shows_the_difference(write_campaign, tmp_path, command):
    path, run_dir = write_campaign(), tmp_path / "run"
    command("run", path, "--run-dir", run_dir, "--set", "search.generations=1")
    status, _, err = command("run", path, "--run-dir", run_dir)
    assert status == 2
    assert "search.generations: 1 -> 2" in err
    status, _, err = command("run", run_dir, "--set", "search.generations=5")
    assert status == 2
    assert "only its budgets" in err


def test_a_custom_objective_in_process_is_scored_and_selected(write_campaign, tmp_path):
    @ms.objective(name="n_sites", unit="atoms", direction="max")
    def n_sites(structure):
        return float(len(structure))

    more = '[[objectives]]\nname = "n_sites"\n[[objectives]]\nname = "energy_above_hull"'
    frame = ms.Campaign.from_toml(write_campaign(more=more), run_dir=tmp_path / "run").run().candidates()
    scored = frame[frame["stage"] == "scored"]
    assert scored["n_sites"].notna().all()
    assert scored["n_sites"].nunique() > 1  # each crystal its own, cells of one atom among them
    assert frame.attrs["units"]["n_sites"] == "atoms"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("scripted", "scriptd"), ["unknown backend", "'scriptd'", "openai"]),
        (("[relax]", "[potential]\nname = 'chgnot'\n[relax]"), ["unknown potential", "'chgnot'", "chgnet-0.3.0"]),
        (("[relax]", "[[objectives]]\nname = 'hardnes'\n[relax]"), ["unknown objective", "'hardnes'", "bulk_modulus"]),
        (("replies.jsonl", "no-such-file.jsonl"), ["no-such-file.jsonl"]),
        (("options = {", "options = { temprature = 1,"), ["unknown option", "'temprature'", "temperature"]),
        (('"O"]', '"Po"]'), ["Po", "covers"]),
    ],
)
def test_a_wrong_name_is_one_line_before_anything_is_written(write_campaign, tmp_path, command, change, words):
    path = write_campaign()
    path.write_text(path.read_text().replace(*change))
    status, _, err = command("run", path, "--run-dir", tmp_path / "run")
    assert status == 2
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err
    assert not (tmp_path / "run").exists()


def test_an_unwritable_place_is_one_line(write_campaign, tmp_path, command):
    (tmp_path / "file").write_text("")
    status, _, err = command("run", write_campaign(), "--run-dir", tmp_path / "file" / "run")
    assert status == 2
    assert len(err.splitlines()) == 1 and "--run-dir" in err


def test_an_endpoint_that_is_not_there_names_the_command_that_continues(tmp_path, write_campaign, command):
    path = write_campaign()
    path.write_text(path.read_text().replace('backend = "scripted"', 'backend = "openai"').replace(
        'replies = "replies.jsonl"', 'base_url = "http://127.0.0.1:9/v1", max_retries = 1'))  # fmt: skip
    status, _, err = command("run", path, "--run-dir", tmp_path / "run")
    assert status == 2
    assert "127.0.0.1:9" in err and f"matsearch run {tmp_path / 'run'}" in err
    assert "Traceback" not in err


def test_a_missing_key_is_one_line_that_names_the_variable(tmp_path, write_campaign, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = write_campaign()
    path.write_text(path.read_text().replace('backend = "scripted"', 'backend = "openai"').replace(
        'replies = "replies.jsonl"', 'base_url = "https://api.openai.com/v1"'))  # fmt: skip
    with pytest.raises(BackendAuthError, match="OPENAI_API_KEY"):
        ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run()


def test_the_number_of_workers_changes_nothing(write_campaign, tmp_path):
    frames = [
        ms.Campaign.from_toml(
            write_campaign(llm=f", concurrency = {n}, delay = {0.02 * n}"), run_dir=tmp_path / f"run{n}"
        )
        .run()
        .candidates()
        for n in (1, 4)
    ]
    assert_same_candidates(*frames)


def test_good_replies_are_what_they_seem():
    assert all(len(ms.parse_reply(text)) == 2 for text in good_replies())


def test_with_a_lag_and_two_models_the_order_of_arrival_changes_nothing(write_campaign, tmp_path):
    frames = []
    for n in (1, 3):
        path = write_campaign(search="generations = 3\npopulation = 4\nseeds = 3\nchildren_per_prompt = 2\nlag = 2")
        options = f'{{ replies = "replies.jsonl", concurrency = {n} }}'
        one = f'[[llm]]\nbackend = "scripted"\nmodel = "a"\noptions = {options}\n'
        two = one.replace('"a"', '"b"').replace(" }", f", delay = {0.05 * n} }}") + "weight = 2.0\n"
        text = path.read_text()
        path.write_text(text[: text.index("[llm]")] + one + two + text[text.index("[search]") :])
        frames.append(ms.Campaign.from_toml(path, run_dir=tmp_path / f"run{n}").run().candidates())
    assert_same_candidates(*frames)
    assert {"a", "b"} <= set(frames[0]["model"])


def test_a_prediction_asks_for_one_composition_and_never_shows_it(write_campaign, tmp_path):
    path = write_campaign(preset="matsearch", more='task = "predict"')
    path.write_text(path.read_text().replace('elements = ["Li", "Mg", "Ti", "O"]', 'composition = "MgO"'))
    frame = ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run().candidates()
    assert "MgO" not in set(frame.loc[frame["generation"] == 0, "formula"])
    proposed = frame[frame["generation"] > 0]
    assert (proposed["operator"] == "predict").all()
    assert set(proposed.loc[proposed["stage"] == "scored", "formula"]) == {"MgO"}
    assert "wrong_composition" in set(proposed["reason"])


def test_a_proposal_budget_inside_a_batch_is_continued_without_asking_again(write_campaign, tmp_path, command):
    path = write_campaign(preset="matsearch", more="[budget]\nproposals = 2")
    text = path.read_text().replace('"scripted"', '"embedded"').replace('model = "script"\n', "")
    path.write_text(text.replace('options = { replies = "replies.jsonl" }', ""))
    run_dir = tmp_path / "run"
    status, out, err = command("run", path, "--run-dir", run_dir)
    assert status == 0 and "proposals (2)" in out, err
    with RunStore(run_dir, writable=False) as store:
        before = [tuple(row) for row in store.rows("SELECT key, reply_hash FROM replies ORDER BY proposal_id, sample")]
    assert len(before) == 2
    status, _, err = command("run", run_dir, "--set", "budget.proposals=100")
    assert status == 0, err
    with RunStore(run_dir, writable=False) as store:
        after = [tuple(row) for row in store.rows("SELECT key, reply_hash FROM replies ORDER BY proposal_id, sample")]
    assert after[:2] == before and len(after) == 8
    path.write_text(path.read_text().replace("proposals = 2", ""))
    whole = ms.Campaign.from_toml(path, run_dir=tmp_path / "whole").run().candidates()
    assert_same_candidates(ms.Campaign.open(run_dir).candidates(), whole)


def test_how_the_model_is_reached_may_change_while_a_campaign_runs(write_campaign, tmp_path, command):
    run_dir = tmp_path / "run"
    command("run", write_campaign(llm=", delay = 0.01"), "--run-dir", run_dir)
    status, _, err = command("run", write_campaign(llm=", delay = 0.0, concurrency = 2"), "--run-dir", run_dir)
    assert status == 0, err
    status, _, err = command("run", run_dir, "--set", "llm.options.concurrency=3")
    assert status == 0, err
    status, _, err = command("run", write_campaign(llm=", temperature = 0.3"), "--run-dir", run_dir)
    assert status == 2 and "llm.0.options.temperature" in err


def test_a_log_beside_the_campaign_file_is_the_same_file_every_time(write_campaign, tmp_path, command, monkeypatch):
    path, run_dir = write_campaign(llm=', log = "asked.jsonl"'), tmp_path / "run"
    (tmp_path / "chat").mkdir()  # a folder that goes by an option's value
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for _ in range(2):
        status, _, err = command("run", path, "--run-dir", run_dir)
        assert status == 0, err
    assert (tmp_path / "asked.jsonl").is_file()


def test_a_space_without_known_phases_is_said_before_there_is_a_folder(write_campaign, tmp_path, command):
    path, run_dir = write_campaign(), tmp_path / "run"
    nothing = ("--set", "space.elements=['N']", "--set", "space.max_atoms=1")  # nitrogen comes in molecules
    status, _, err = command("run", path, "--run-dir", run_dir, *nothing)
    assert status == 2 and "no known phase" in err
    assert not run_dir.exists()
    status, _, err = command("run", path, "--run-dir", run_dir)
    assert status == 0, err


def test_an_empty_folder_may_become_a_run(write_campaign, tmp_path, command):
    (tmp_path / "run").mkdir()
    status, _, err = command("run", write_campaign(), "--run-dir", tmp_path / "run")
    assert status == 0, err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    status, _, err = command("run", write_campaign(), "--run-dir", tmp_path / "other")
    assert status == 2 and "holds no campaign" in err


def test_a_refused_crystal_can_still_be_looked_at(write_campaign, tmp_path, command):
    run_dir = tmp_path / "run"
    replies = [reply(TIO.replace(LAST_SITE, "0.01 0 0"))]
    path = write_campaign(replies, search="generations = 1\npopulation = 2\nseeds = 2\nchildren_per_prompt = 1")
    frame = ms.Campaign.from_toml(path, run_dir=run_dir).run().candidates()
    row = frame[frame["reason"] == "overlapping_atoms"].iloc[0]
    assert row["formula"] == "TiO"
    status, out, _ = command("show", run_dir, row["id"])
    assert status == 0 and "as proposed:" in out and "fate: check, overlapping_atoms" in out


def test_an_hours_budget_stops_and_its_time_is_remembered(write_campaign, tmp_path, command):
    path, run_dir = write_campaign(more="[budget]\nhours = 1e-9"), tmp_path / "run"
    status, out, _ = command("run", path, "--run-dir", run_dir)
    assert status == 0 and "hours" in out
    with RunStore(run_dir, writable=False) as store:
        assert float(store.meta["hours"]) > 0
    status, _, err = command("run", run_dir, "--set", "budget.hours=5")
    assert status == 0, err
    whole = ms.Campaign.from_toml(write_campaign(name="whole"), run_dir=tmp_path / "whole").run().candidates()
    assert_same_candidates(ms.Campaign.open(run_dir).candidates(), whole)


def test_a_prediction_keeps_crystals_of_its_target_as_parents(write_campaign, tmp_path):
    path = write_campaign(preset="matsearch", more='task = "predict"')
    path.write_text(path.read_text().replace('elements = ["Li", "Mg", "Ti", "O"]', 'composition = "MgO"'))
    frame = ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run().candidates()
    found = frame[(frame["generation"] > 0) & (frame["stage"] == "scored")]
    assert (found["add_status"] == "added").all()


def test_two_objectives_of_one_name_are_refused(write_campaign, tmp_path, command):
    (tmp_path / "mine.py").write_text(
        "import matsearch as ms\n"
        "@ms.objective(name='twin', unit='1', direction='min')\ndef a(structure):\n    return 1.0\n"
        "@ms.objective(name='twin', unit='1', direction='max')\ndef b(structure):\n    return 2.0\n"
    )
    more = '[[objectives]]\nname = "mine:a"\n[[objectives]]\nname = "mine:b"'
    status, _, err = command("run", write_campaign(more=more), "--run-dir", tmp_path / "run")
    assert status == 2 and "twin" in err and not (tmp_path / "run").exists()


def test_a_potential_without_a_hull_serves_objectives_that_need_none(write_campaign, tmp_path, command):
    more = '[potential]\nname = "chgnet-0.3.0+d3(pbe,bj)"\n[[objectives]]\nname = "volume_per_atom"'
    status, _, err = command("run", write_campaign(more=more), "--run-dir", tmp_path / "run")
    assert status == 0, err
    frame = ms.Campaign.open(tmp_path / "run").candidates()
    assert frame["energy_above_hull"].isna().all()
    assert frame.loc[frame["stage"] == "scored", "volume_per_atom"].gt(0).all()
    status, _, err = command(
        "run", write_campaign(more='[potential]\nname = "chgnet-0.3.0+d3(pbe,bj)"'), "--run-dir", tmp_path / "other"
    )
    assert status == 2 and "chgnet-0.3.0+d3(pbe,bj)" in err


def test_twins_on_their_way_are_relaxed_once(write_campaign, tmp_path):
    twin = poscar("CsCl", 3.0, ("Li", "Ti"))
    path = write_campaign(
        [reply(twin, twin)], search="generations = 1\npopulation = 4\nseeds = 2\nchildren_per_prompt = 2"
    )
    campaign = ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run()
    frame = campaign.candidates()
    proposed = frame[frame["generation"] == 1]
    assert len(proposed) == 4 and (proposed["stage"] == "scored").all()
    assert proposed["energy"].nunique() == 1
    with RunStore(tmp_path / "run", writable=False) as store:
        assert store.row("SELECT count(*) FROM relaxations")[0] == 3


def test_candidates_that_wait_are_scored_in_one_call_with_the_same_result(write_campaign, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        "class Slow:\n"
        "    name, unit, direction = 'slow', 'Å^3', 'min'\n"
        "    def __call__(self, relaxed):\n"
        "        with (pathlib.Path(__file__).parent / 'calls').open('a') as calls:\n"
        "            calls.write(f'{len(relaxed)}\\n')\n"
        "        time.sleep(DELAY)\n"
        "        return [one.structure.volume for one in relaxed]\n"
    )
    text, frames = (tmp_path / "slow.py").read_text(), []
    for name, delay in (("quick", 0.0), ("slow", 0.5)):
        (tmp_path / f"{name}_objective.py").write_text(text.replace("DELAY", str(delay)))
        more = f'[[objectives]]\nname = "{name}_objective:Slow"\n[[objectives]]\nname = "energy_above_hull"'
        path = write_campaign(name=name, more=more)
        frames.append(ms.Campaign.from_toml(path, run_dir=tmp_path / name).run().candidates())
    assert max(int(line) for line in (tmp_path / "calls").read_text().split()) > 1
    assert_same_candidates(*frames)


def test_under_pressure_there_is_no_hull(write_campaign, tmp_path, command):
    pressure = ("--set", "relax.pressure_gpa=30", "--set", "relax.optimizer=lbfgs")
    status, _, err = command("run", write_campaign(), "--run-dir", tmp_path / "run", *pressure)
    assert status == 2 and len(err.splitlines()) == 1 and "pressure_gpa" in err and "energy_above_hull" in err
    assert not (tmp_path / "run").exists()
    path = write_campaign(more='[[objectives]]\nname = "volume_per_atom"')
    frames = []
    for number, options in enumerate([(), pressure]):
        run_dir = tmp_path / f"run{number}"
        status, _, err = command("run", path, "--run-dir", run_dir, *options)
        assert status == 0, err
        frames.append(ms.Campaign.open(run_dir).candidates())
    free, squeezed = (frame[frame["generation"] == 0]["volume_per_atom"] for frame in frames)
    assert (squeezed < free).all()
    assert frames[1]["energy_above_hull"].isna().all()


def test_a_potential_that_breaks_ends_the_run_and_keeps_what_was_done(write_campaign, tmp_path):
    (tmp_path / "fragile.py").write_text(
        "from matsearch.potential.chgnet import chgnet_030\n"
        "def load(device):\n"
        "    potential = chgnet_030('cpu')\n"
        "    evaluate, calls = potential.evaluate, []\n"
        "    def fail(batch):\n"
        "        calls.append(batch)\n"
        "        if len(calls) > 8:\n"
        "            raise RuntimeError('the device is gone')\n"
        "        return evaluate(batch)\n"
        "    potential.evaluate = fail\n"
        "    return potential\n"
    )
    path = write_campaign(more='[potential]\nname = "fragile:load"')
    with pytest.raises(RuntimeError, match="the device is gone"):
        ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run()
    with RunStore(tmp_path / "run", writable=False) as store:
        assert store.row("SELECT count(*) FROM relaxations")[0] > 0
