"""A campaign that is killed and continued ends as if nothing had happened."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from scripted_campaign import assert_same_candidates

import matsearch as ms
from matsearch.store import RunStore, is_run_dir

N_KILLS = 10


def start(target, run_dir, *more):
    command = [sys.executable, "-m", "matsearch", "run", str(target), *more]
    if target != run_dir:
        command += ["--run-dir", str(run_dir)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process):
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def commits(run_dir):
    """How many replies, relaxations and scores a run has committed."""
    if not is_run_dir(run_dir):
        return 0
    with RunStore(run_dir, writable=False) as store:
        tables = ("replies", "relaxations", "scores")
        return sum(store.row(f"SELECT count(*) FROM {table}")[0] for table in tables)


def seeds_are_scored(run_dir):
    with RunStore(run_dir, writable=False) as store:
        return store.row("SELECT count(*) FROM candidates WHERE stage = 'scored'")[0] >= 3


def replies_of(run_dir):
    with RunStore(run_dir, writable=False) as store:
        rows = store.rows("SELECT key, reply_hash, proposal_id, sample FROM replies ORDER BY key")
    return [tuple(row) for row in rows]


def asked(log):
    return [json.loads(line)["index"] for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.timeout(600)
def test_ten_kills_leave_the_same_candidates_and_ask_for_nothing_twice(write_campaign, tmp_path):
    settings = "generations = 3\npopulation = 6\nseeds = 3\nchildren_per_prompt = 2"
    whole_log, log = tmp_path / "whole.log", tmp_path / "killed.log"
    whole = write_campaign(name="same", search=settings, llm=f', log = "{whole_log}"')
    finish(start(whole, tmp_path / "whole"))

    path = write_campaign(name="same", search=settings, llm=f', delay = 0.3, log = "{log}"')
    run_dir, rng = tmp_path / "killed", random.Random(20)
    kept: set[int] = set()
    for number in range(N_KILLS):
        n_asked = len(asked(log))
        process = start(path if number % 2 == 0 or not is_run_dir(run_dir) else run_dir, run_dir)
        if number > 0:
            # At any moment after the next few commits, so that every kill finds work in hand.
            target = commits(run_dir) + rng.randint(1, 3)
            until(lambda goal=target: commits(run_dir) >= goal)
        time.sleep(rng.uniform(0.0, 0.15))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run ended before the kill"
        if number == 0:
            assert not run_dir.exists(), "the first kill is to come before the run folder"
        assert kept.isdisjoint(asked(log)[n_asked:]), "a committed reply was asked for again"
        if is_run_dir(run_dir):
            before = kept
            kept = {row[2] for row in replies_of(run_dir)}
            assert before <= kept, "a row was lost"
    n_asked = len(asked(log))
    finish(start(path, run_dir))
    assert kept.isdisjoint(asked(log)[n_asked:])

    assert replies_of(run_dir) == replies_of(tmp_path / "whole")
    assert_same_candidates(*(ms.Campaign.open(folder).candidates() for folder in (tmp_path / "whole", run_dir)))
    assert [path.name for path in tmp_path.glob(".killed.partial-*")] == []


def test_ctrl_c_finishes_the_step_and_prints_the_command_that_continues(write_campaign, tmp_path):
    run_dir = tmp_path / "run"
    process = start(write_campaign(llm=", delay = 0.3"), run_dir)
    until(lambda: is_run_dir(run_dir) and replies_of(run_dir))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"matsearch run {run_dir}" in err
    assert "Traceback" not in err
    n_before = len(replies_of(run_dir))
    finish(start(run_dir, run_dir))
    assert len(replies_of(run_dir)) >= n_before
    assert (ms.Campaign.open(run_dir).candidates()["stage"] != "waiting").all()


def test_a_second_ctrl_c_stops_at_once_and_loses_nothing(write_campaign, tmp_path):
    run_dir = tmp_path / "run"
    process = start(write_campaign(llm=", delay = 60"), run_dir)
    until(lambda: is_run_dir(run_dir) and seeds_are_scored(run_dir))
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=15)
    assert process.returncode == 130
    assert "Traceback" not in err and f"matsearch run {run_dir}" in err
    assert ms.Campaign.open(run_dir).status == "interrupted"
    finish(start(run_dir, run_dir, "--set", "llm.options.delay=0.0"))
    assert (ms.Campaign.open(run_dir).candidates()["stage"] != "waiting").all()


def test_a_run_does_not_go_on_with_other_weights(write_campaign, command, tmp_path):
    run_dir = tmp_path / "run"
    assert command("run", str(write_campaign()), "--run-dir", str(run_dir), "--set", "budget.relaxations=1")[0] == 0
    with sqlite3.connect(run_dir / "run.sqlite") as store:
        (weights,) = store.execute("SELECT value FROM meta WHERE key = 'weights'").fetchone()
        other = {name: dict.fromkeys(files, "0" * 64) for name, files in json.loads(weights).items()}
        store.execute("UPDATE meta SET value = ? WHERE key = 'weights'", (json.dumps(other),))
    status, _, err = command("run", str(run_dir), "--set", "budget.relaxations=2")
    assert status != 0 and "the weights of chgnet-0.3.0 are not those" in err and "start a new run" in err


OWN_OBJECTIVE = """
import matsearch as ms


@ms.objective(name="edge", unit="Å", direction="max")
def edge(structure):
    return structure.lattice.a
"""


def test_a_run_does_not_go_on_with_an_edited_objective(write_campaign, command, tmp_path):
    path, run_dir = tmp_path / "own.py", tmp_path / "run"
    path.write_text(OWN_OBJECTIVE)
    campaign = write_campaign(more=f'[[objectives]]\nname = "{path}:edge"\n')
    assert command("run", campaign, "--run-dir", run_dir, "--set", "budget.relaxations=1")[0] == 0
    path.write_text(OWN_OBJECTIVE.replace("lattice.a", "lattice.b"))
    for name in [name for name in sys.modules if name.endswith(str(path))]:
        del sys.modules[name]  # as another process would not have it
    status, _, err = command("run", run_dir, "--set", "budget.relaxations=2")
    assert status != 0 and "objective edge is imported from is not as it was" in err and "start a new run" in err
    path.write_text(OWN_OBJECTIVE)
    for name in [name for name in sys.modules if name.endswith(str(path))]:
        del sys.modules[name]
    assert command("run", run_dir, "--set", "budget.relaxations=2")[0] == 0
