"""`matsearch show`: ids that no candidate has, and replies that would steer the terminal."""

import pytest

from matsearch.store import RunStore


@pytest.mark.parametrize("number", ["1", "10000000000000000000000000"])
def test_an_id_that_no_candidate_has_is_said_to_be_none(tmp_path, command, number):
    run_dir = tmp_path / "run"
    RunStore.create(run_dir, {"config": "{}"}, {})
    status, _, err = command("show", run_dir, number)
    assert status == 2
    assert f"no candidate {number} in {run_dir}; it has none yet" in err

    with RunStore(run_dir, writable=True) as store, store.transaction():
        row = {"id": 0, "parents": "[]", "generation": 0, "operator": "seed", "model": "", "stage": "waiting"}
        store.insert("candidates", [row])
    _, _, err = command("show", run_dir, number)
    assert f"no candidate {number} in {run_dir}; its ids go from 0 to 0" in err


def test_control_characters_of_a_prompt_or_reply_are_made_visible(tmp_path, command):
    run_dir = tmp_path / "run"
    RunStore.create(run_dir, {"config": '{"llm": [{"backend": "openai"}]}'}, {})
    with RunStore(run_dir, writable=True) as store, store.transaction():
        proposal = {"id": 0, "generation": 0, "operator": "mutate", "parents": "[]", "n_children": 1, "llm": 0}
        store.insert("proposals", [{**proposal, "template": "t", "template_hash": "h"}])
        store.insert("prompts", [{"hash": "p", "system": "", "user": "one\r\n\ttwo\x9b2J"}])
        hashes = {"identity": "{}", "reply_hash": "r"}
        reply = {"proposal_id": 0, "sample": 0, "key": "k", "prompt_hash": "p", "seed": 1, "seconds": 0.1, **hashes}
        evil = {"text": "Na\x1b[2J\x1b]0;PWNED\x07 Å\x7f", "model": "m\x1b[31m", "finish_reason": "stop"}
        store.insert("replies", [{**reply, **evil}])
        row = {"id": 0, "proposal_id": 0, "sample": 0, "parents": "[]", "generation": 0, "operator": "mutate"}
        store.insert("candidates", [{**row, "model": "m", "stage": "waiting"}])
    status, out, err = command("show", run_dir, 0)
    assert status == 0, err
    assert all(char.isprintable() or char in "\n\t" for char in out)
    for text in ("  Na\\x1b[2J\\x1b]0;PWNED\\x07 Å\\x7f\n", "  one\n  \ttwo\\x9b2J\n", "model m\\x1b[31m "):
        assert text in out
