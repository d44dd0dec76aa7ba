"""What a whole campaign asks of an endpoint: everything once, and nothing of the key is left behind."""

import json
import logging
import os
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import pytest
from misbehaving_server import KEY, Deed, error, serving
from scripted_campaign import assert_same_candidates, good_replies

import matsearch as ms
from matsearch.errors import BackendAuthError, BackendRequestError
from matsearch.store import RunStore, is_run_dir

REPLIES = good_replies()
CHECK = "Say OK."


@pytest.fixture
def write(tmp_path, monkeypatch, quick_and_keyed):
    """Writes a campaign of 2 generations of 4 requests on a quick potential; returns its file."""

    def made(llm: str, more: str = "") -> Path:
        (tmp_path / "quick.py").write_text("import springs\n\ndef potential(device):\n    return springs.springs()\n")
        path = tmp_path / "asked.toml"
        path.write_text(
            'name = "asked"\npreset = "matllmsearch-v1"\n[space]\nelements = ["Li", "Mg", "O"]\nmax_atoms = 8\n'
            "[search]\ngenerations = 2\npopulation = 8\nchildren_per_prompt = 2\n"
            '[potential]\nname = "quick:potential"\n[relax]\nmax_steps = 2\n[[objectives]]\nname = "density"\n'
            f"{llm}\n{more}"
        )
        return path

    return made


def openai(server, options="", prices="prices = { prompt = 1.0, completion = 2.0 }"):
    options = f'base_url = "{server.url}", concurrency = 2{options}'
    return f'[[llm]]\nbackend = "openai"\nmodel = "tiny"\noptions = {{ {options} }}\n{prices}'


def crystals(sent):
    return Deed(text=REPLIES[sent["seed"] % len(REPLIES)])


def asked(server):
    """Prompt and seed of each request but those of `check`."""
    messages = [(sent["messages"][-1]["content"], sent["seed"]) for sent in server.requests]
    return [one for one in messages if one[0] != CHECK]


def stored(run_dir):
    query = "SELECT user, seed FROM replies JOIN prompts ON prompts.hash = replies.prompt_hash"
    with RunStore(run_dir, writable=False) as store:
        return [tuple(row) for row in store.rows(query)]


def test_a_campaign_asks_for_every_reply_once_and_a_finished_one_for_none(write, tmp_path):
    with serving(always=crystals) as server:
        path = write(openai(server))
        first = ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run()
        n_asked = len(server.requests)
        again = ms.Campaign.open(tmp_path / "run").run()
        assert len(server.requests) == n_asked
        assert sorted(asked(server)) == sorted(stored(tmp_path / "run"))
        assert len(set(asked(server))) == len(asked(server)) == 8
    assert_same_candidates(first.candidates(), again.candidates())


def test_a_finished_campaign_needs_neither_endpoint_nor_key(write, tmp_path, monkeypatch):
    with serving(always=crystals) as server:
        run = ms.Campaign.from_toml(write(openai(server)), run_dir=tmp_path / "run").run()
    assert ms.Campaign.open(tmp_path / "run").run().status == run.status == "finished"


@pytest.mark.parametrize("stream", ["", ", stream = true"], ids=["whole", "streamed"])
def test_faults_on_the_way_lose_nothing_and_ask_for_nothing_twice(write, tmp_path, stream):
    with serving(always=crystals) as server:
        smooth = ms.Campaign.from_toml(write(openai(server, stream)), run_dir=tmp_path / "smooth").run()
    faults = [
        error(500, "stumbled"),
        error(429, "slow down", {"Retry-After": "0.1"}),
        Deed(cut_after=9, pieces=3),
        Deed(body=b"{broken"),
        Deed(body=b""),
        Deed(delay=30.0),
    ]
    n_sent = Counter()

    def fault_first(sent):
        n_sent[sent["seed"]] += 1
        return crystals(sent) if sent["seed"] == 0 or n_sent[sent["seed"]] > 1 or not faults else faults.pop()

    with serving(always=fault_first) as server:
        path = write(openai(server, f", timeout = 2.0{stream}"))
        rough = ms.Campaign.from_toml(path, run_dir=tmp_path / "rough").run()
        times = Counter(asked(server))
        # Each fault cost one more request, of the very same prompt.
        assert sorted(times.values()) == [1, 1, 2, 2, 2, 2, 2, 2]
    assert sorted(stored(tmp_path / "rough")) == sorted(times)
    assert_same_candidates(smooth.candidates(), rough.candidates())


@pytest.mark.parametrize(
    ("body", "finish_reason"),
    [(b"\x00" * 9, "bad_response"), (b"\xff\xfe", "not_utf8"), (b"x" * 10**6, "bad_response"), (b"", "bad_response")],
    ids=["zeros", "binary", "megabyte", "empty"],
)
def test_a_reply_that_stays_odd_is_a_row_with_its_reason(write, tmp_path, body, finish_reason):
    seeds = []

    def one_odd(sent):
        if sent["messages"][-1]["content"] != CHECK and sent["seed"] not in seeds:
            seeds.append(sent["seed"])
        return Deed(body=body) if seeds[2:] and sent["seed"] == seeds[2] else crystals(sent)

    with serving(always=one_odd) as server:
        run = ms.Campaign.from_toml(write(openai(server)), run_dir=tmp_path / "run").run()
        assert len(stored(tmp_path / "run")) == 8
    with RunStore(tmp_path / "run", writable=False) as store:
        (reply,) = store.rows("SELECT * FROM replies WHERE finish_reason != 'stop'")
    assert reply["finish_reason"] == finish_reason and len(reply["text"]) == len(body)
    frame = run.candidates()
    assert list(frame[frame["reason"] == finish_reason]["stage"]) == ["parse"]


def test_a_killed_campaign_asks_for_nothing_that_it_had_stored(write, tmp_path):
    with serving(always=lambda sent: Deed(text=crystals(sent).text, delay=0.3)) as server:
        path, run_dir = write(openai(server)), tmp_path / "run"
        command = [sys.executable, "-m", "matsearch", "run", str(path), "--run-dir", str(run_dir)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OPENAI_API_KEY": KEY}
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 100
        while not (is_run_dir(run_dir) and len(stored(run_dir)) >= 3):  # of 4: in the midst of a generation
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.01)
        process.kill()
        process.wait()
        kept, n_asked = stored(run_dir), len(server.requests)
        assert 3 <= len(kept) < 8
        ms.Campaign.open(run_dir).run()
        later = [(sent["messages"][-1]["content"], sent["seed"]) for sent in server.requests[n_asked:]]
        assert set(kept).isdisjoint(later)
        assert len(later) == len(set(later)) == 8 - len(kept)


def test_a_replayed_run_asks_for_nothing_and_finds_the_same(write, tmp_path):
    with serving(always=crystals) as server:
        first = ms.Campaign.from_toml(write(openai(server)), run_dir=tmp_path / "first").run()
        n_asked = len(server.requests)
        replay = '[[llm]]\nbackend = "scripted"\nmodel = "tiny"\noptions = { replies = "first" }'
        second = ms.Campaign.from_toml(write(replay), run_dir=tmp_path / "second").run()
        assert len(server.requests) == n_asked
        assert_same_candidates(first.candidates(), second.candidates())
        columns = "text, finish_reason, model, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens"
        rows = []
        for folder in ("first", "second"):
            with RunStore(tmp_path / folder, writable=False) as store:
                rows.append([tuple(row) for row in store.rows(f"SELECT {columns} FROM replies ORDER BY proposal_id")])
        assert rows[0] == rows[1]
        other = write(replay, "[budget]\nproposals = 8").read_text().replace('"Mg", ', "")
        (tmp_path / "asked.toml").write_text(other)
        with pytest.raises(BackendRequestError, match=r"none of the 8 that .*first holds a reply to"):
            ms.Campaign.from_toml(tmp_path / "asked.toml", run_dir=tmp_path / "third").run()


@pytest.mark.parametrize("stream", ["", ", stream = true"], ids=["whole", "streamed"])
def test_the_key_is_in_no_file_log_or_message_of_a_campaign(write, tmp_path, caplog, command, stream):
    """The endpoint repeats it wherever it can: in replies, in errors that pass and in one that stays."""
    echoes = [error(500, f"no luck with {KEY}"), error(429, KEY, {"Retry-After": "0"}), Deed(body=KEY.encode())]
    n_sent = Counter()

    def repeat(sent):
        n_sent[sent["seed"]] += 1
        if len(n_sent) > 6:
            return error(401, f"Incorrect API key provided: {KEY}.")
        if n_sent[sent["seed"]] == 1 and echoes:
            return echoes.pop()
        return Deed(text=f"{KEY}\n{crystals(sent).text}\nBearer {KEY}")

    run_dir = tmp_path / "run"
    with serving(always=repeat) as server, caplog.at_level(logging.DEBUG):
        path = write(openai(server, stream))
        status, out, err = command("run", path, "--run-dir", run_dir)
        assert status == 2 and "HTTP 401" in err and "OPENAI_API_KEY" in err
        with pytest.raises(BackendAuthError) as raised:
            ms.Campaign.open(run_dir).run()
        assert all(key == f"Bearer {KEY}" for key in server.keys)
    seen = [out, err, *traceback.format_exception(raised.value)]
    seen += command("report", run_dir, "--text")[1:]
    seen += command("report", run_dir)[1:]
    seen += command("show", run_dir, 0)[1:]
    seen += [logging.Formatter().format(record) + repr(record.__dict__) for record in caplog.records]
    assert KEY not in "\n".join(seen)
    files = [file for file in run_dir.rglob("*") if file.is_file()]
    assert {"run.sqlite", "report.html"} <= {file.name for file in files}
    assert any(b"***" in file.read_bytes() for file in files)
    assert not [file for file in files if KEY.encode() in file.read_bytes()]


@pytest.mark.parametrize(
    ("deed", "seen"),
    [
        (error(401, "Incorrect API key"), ["Incorrect API key", "check the key in OPENAI_API_KEY"]),
        (error(404, "The model `tiny` does not exist"), ["does not exist", "[llm] model"]),
        (Deed(body=b"<html>Please log in</html>"), ["Please log in", "base_url"]),
        (Deed(404, b"<h1>Not Found</h1>"), ["HTTP 404: Not Found", "base_url"]),
    ],
    ids=["key", "model", "page", "path"],
)
def test_what_is_wrong_with_an_endpoint_is_one_line_before_anything_is_loaded(write, tmp_path, command, deed, seen):
    with serving(always=deed) as server:
        path = write(openai(server)).read_text().replace("quick:potential", "quick:no_such_potential")
        (tmp_path / "asked.toml").write_text(path)
        status, _, err = command("run", tmp_path / "asked.toml", "--run-dir", tmp_path / "run")
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert all(word in err for word in seen), err
    assert not (tmp_path / "run").exists()


def test_a_money_budget_without_prices_is_refused_in_one_line(write, tmp_path, command):
    with serving(always=crystals) as server:
        status, _, err = command("run", write(openai(server, prices=""), "[budget]\nusd = 1.0"))
        assert not server.requests
    assert status == 2 and "prices" in err and len(err.strip().splitlines()) == 1


def uncounted(sent):
    body = {"choices": [{"message": {"content": crystals(sent).text}, "finish_reason": "stop"}]}
    return Deed(body=json.dumps(body).encode())


@pytest.mark.parametrize(
    ("budget", "more", "always"),
    [("usd = 0.00005", "usd=1.0", crystals), ("tokens = 40", "tokens=1000000", uncounted)],
    ids=["usd", "tokens-uncounted"],
)
def test_a_budget_stops_the_requests_and_a_larger_one_goes_on(write, tmp_path, budget, more, always):
    with serving(always=always) as server:
        path = write(openai(server), f"[budget]\n{budget}")
        run = ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run()
        assert run.status.startswith(f"budget: {budget.split()[0]}")
        assert 0 < len(asked(server)) < 8
        assert ms.Campaign.open(tmp_path / "run", [f"budget.{more}"]).run().status == "finished"
        assert len(set(asked(server))) == len(asked(server)) == 8
