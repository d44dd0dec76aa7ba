import json
import sys
import time

import pytest

from matsearch.campaign.rows import reply_row
from matsearch.errors import BackendRequestError, ConfigError
from matsearch.llm import load_backend
from matsearch.records import Completion, Prompt, Usage
from matsearch.store import RunStore


def scripted(replies, **options):
    return load_backend("scripted", "script", {"replies": replies, **options})


def texts(backend, n):
    return [completion.text for completion in backend.complete([Prompt("hello", index=i) for i in range(n)])]


def test_reply_i_answers_prompt_i_and_the_script_starts_over():
    assert texts(scripted(["a", "b"]), 5) == ["a", "b", "a", "b", "a"]


def test_the_prompt_index_decides_not_the_order_of_calls():
    backend = scripted(["a", "b", "c"])
    assert [c.text for c in backend.complete([Prompt("", index=2), Prompt("", index=0)])] == ["c", "a"]


def test_json_lines_hold_strings_or_objects_with_text(tmp_path):
    path = tmp_path / "replies.jsonl"
    path.write_text('"one\\ntwo"\n\n{"text": "three"}\n')
    assert texts(scripted(str(path)), 2) == ["one\ntwo", "three"]


def test_any_other_file_is_one_reply(tmp_path):
    path = tmp_path / "reply.txt"
    path.write_text("one\ntwo\n")
    assert texts(scripted(str(path)), 2) == ["one\ntwo\n"] * 2


def test_a_folder_holds_one_reply_a_file_and_bad_utf8_is_marked(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"Na \xff Cl")
    (tmp_path / "a.txt").write_text("first")
    first, second = scripted(str(tmp_path)).complete([Prompt("", index=0), Prompt("", index=1)])
    assert (first.text, first.finish_reason) == ("first", "stop")
    assert (second.text, second.finish_reason) == ("Na \ufffd Cl", "not_utf8")


def test_a_function_answers_the_prompt(tmp_path, monkeypatch):
    (tmp_path / "echo_script.py").write_text("def echo(prompt):\n    return f'{prompt.index}: {prompt.user}'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert texts(scripted("echo_script:echo"), 2) == ["0: hello", "1: hello"]
    finally:
        sys.modules.pop("echo_script", None)


def test_a_function_that_raises_is_named_with_what_it_raised(tmp_path, monkeypatch):
    (tmp_path / "raising_script.py").write_text("def fn(prompt):\n    return {}['no such\\nkey']\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        with pytest.raises(BackendRequestError, match=r"'raising_script:fn' raised KeyError: .* prompt 0") as caught:
            texts(scripted("raising_script:fn"), 1)
        assert "\n" not in str(caught.value)
    finally:
        sys.modules.pop("raising_script", None)


def test_the_log_has_one_line_for_each_prompt_asked(tmp_path):
    log = tmp_path / "asked.jsonl"
    backend = scripted(["a"], log=str(log))
    backend.complete([Prompt("", index=3, sample=1, seed=7)])
    backend.complete([Prompt("", index=4)])
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {"index": 3, "sample": 1, "seed": 7},
        {"index": 4, "sample": 0, "seed": 0},
    ]


def test_tokens_are_words():
    (completion,) = scripted(["Na Cl 1"]).complete([Prompt("two words", system="one")])
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (3, 3)


def test_delay_is_waited_and_reported():
    started = time.perf_counter()
    (completion,) = scripted(["a"], delay=0.05).complete([Prompt("")])
    assert time.perf_counter() - started >= 0.05
    assert completion.seconds >= 0.05


def test_style_chooses_the_templates():
    assert scripted(["a"]).style == "chat"
    assert scripted(["a"], style="compact").style == "compact"


def test_a_lone_surrogate_becomes_storable():
    (text,) = texts(scripted(["Na\ud800Cl"]), 1)
    assert text.encode("utf-8").decode("utf-8") == "Na\ufffdCl"


def test_other_replies_are_another_identity():
    assert scripted(["a"]).identity == scripted(["a"]).identity
    assert scripted(["a"]).identity != scripted(["b"]).identity


@pytest.mark.parametrize(
    ("content", "word"),
    [("", "at least one"), ("{not json", "line 1"), ("3\n", "must be a string"), ('{"txt": "a"}', "'text'")],
)
def test_an_unusable_script_is_refused_in_one_line(tmp_path, content, word):
    path = tmp_path / "replies.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=word) as raised:
        scripted(str(path))
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_one_line_that_names_it(tmp_path):
    path = tmp_path / "absent.jsonl"
    with pytest.raises(ConfigError, match=r"absent\.jsonl: No such file") as raised:
        scripted(str(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("replies", ["no_such_package_here:reply", "json:no_such_function"])
def test_a_missing_function_is_a_config_error(replies):
    with pytest.raises(ConfigError, match=replies):
        scripted(replies)


def test_an_unwritable_log_is_a_config_error(tmp_path):
    backend = scripted(["a"], log=str(tmp_path / "absent" / "log.jsonl"))
    with pytest.raises(ConfigError, match="cannot write"):
        backend.complete([Prompt("")])


@pytest.fixture
def run_dir(tmp_path):
    """A run with replies to two samples of one prompt, the second of which the endpoint cut and counted."""
    rows = []
    for sample, (text, reason, usage) in enumerate(
        [("first", "stop", Usage()), ("second", "length", Usage(7, 5, cached_tokens=3, reasoning_tokens=2))]
    ):
        completion = Completion(text, usage, reason, model="model-2026", seconds=9.0)
        rows.append(reply_row(0, Prompt("hello", seed=10 + sample, sample=sample), {}, completion))
    RunStore.create(tmp_path / "run", {"created": "2026-01-01", "config": "{}"}, {})
    proposal = {"generation": 1, "operator": "x", "parents": "[]", "n_children": 1, "llm": 0}
    with RunStore(tmp_path / "run", writable=True) as store, store.transaction():
        store.insert("proposals", [{"id": 0, **proposal, "template": "t", "template_hash": "h"}])
        store.insert("prompts", [{"hash": Prompt("hello").text_hash, "system": "", "user": "hello"}])
        store.insert("replies", rows)
    return tmp_path / "run"


def test_a_run_gives_its_replies_again_as_they_were(run_dir):
    backend = scripted(str(run_dir))
    # Whatever their order and number in the new campaign.
    second, first = backend.complete([Prompt("hello", seed=11, sample=1, index=7), Prompt("hello", seed=10)])
    assert (first.text, first.finish_reason, first.model, first.usage) == ("first", "stop", "model-2026", Usage())
    assert (second.text, second.finish_reason) == ("second", "length")
    assert second.usage == Usage(7, 5, cached_tokens=3, reasoning_tokens=2)
    assert second.seconds < 9.0


@pytest.mark.parametrize(
    "prompt", [Prompt("hello!", seed=10), Prompt("hello", seed=12), Prompt("hello", seed=10, sample=1)]
)
def test_a_prompt_that_a_run_never_saw_is_an_error(run_dir, prompt):
    with pytest.raises(BackendRequestError, match="none of the 2 that") as raised:
        scripted(str(run_dir)).complete([prompt])
    assert "\n" not in str(raised.value)


def test_a_run_keeps_its_identity_while_it_grows(run_dir):
    before = scripted(str(run_dir)).identity
    with RunStore(run_dir, writable=True) as store, store.transaction():
        store.insert("replies", [reply_row(0, Prompt("hello", seed=1, sample=2), {}, Completion("third"))])
    assert scripted(str(run_dir)).identity == before


def test_a_run_without_replies_is_refused(tmp_path):
    RunStore.create(tmp_path / "run", {"created": "2026-01-01", "config": "{}"}, {})
    with pytest.raises(ConfigError, match="holds no replies"):
        scripted(str(tmp_path / "run"))
    (tmp_path / "run" / "run.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match="cannot read the replies"):
        scripted(str(tmp_path / "run"))
