import gc
import json
import logging
import signal
import socket
import threading
import time

import pytest
from misbehaving_server import GOOD, KEY, Deed, error, reply, serving

from matsearch.errors import (
    BackendAuthError,
    BackendError,
    BackendRequestError,
    BackendUnavailableError,
    ConfigError,
)
from matsearch.llm import load_backend
from matsearch.records import Prompt

pytestmark = pytest.mark.usefixtures("quick_and_keyed")

FAIR = error(500, "the server stumbled")
HTML = Deed(200, b"<html><body><h1>Please log in</h1></body></html>", {})


def ask(backend, n=1):
    return backend.complete([Prompt(f"prompt {i}", seed=i, index=i) for i in range(n)])


def failure(backend, error_class):
    with pytest.raises(error_class) as raised:
        ask(backend)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_a_good_reply_brings_text_usage_model_and_time(connect):
    with serving() as server:
        (completion,) = ask(connect(server))
    assert completion.text == "answer to prompt 0 with seed 0"
    assert completion.model == "tiny-1"
    assert completion.finish_reason == "stop"
    assert completion.seconds > 0
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens) == (2, 3, 1, 2)


def test_the_request_says_what_the_options_say(connect):
    with serving() as server:
        connect(server, temperature=0.3, top_p=0.9, max_tokens=77).complete([Prompt("user", system="system", seed=5)])
        (sent,) = server.requests
        assert server.keys == [f"Bearer {KEY}"]
    assert sent == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "system"}, {"role": "user", "content": "user"}],
        "temperature": 0.3,
        "top_p": 0.9,
        "max_tokens": 77,
        "seed": 5,
    }


@pytest.mark.parametrize(
    "deed",
    [
        FAIR,
        error(502, "bad gateway"),
        error(503, "overloaded"),
        error(504, "gateway timed out"),
        error(429, "slow down"),
        Deed(cut_after=20),
        Deed(cut_after=0),
        Deed(delay=30.0),
        Deed(body=b"{broken json"),
        HTML,
        Deed(body=b'{"choices": []}'),
        Deed(body=b"[" * 100_000),
    ],
    ids=["500", "502", "503", "504", "429", "cut", "cut-at-once", "hang", "json", "html", "no-choice", "deep"],
)
def test_a_passing_fault_is_retried_once_and_nothing_is_lost(connect, deed):
    with serving(deed) as server:
        (completion,) = ask(connect(server, timeout=1.0 if deed.delay else 30.0))
        assert completion.text == "answer to prompt 0 with seed 0"
        assert len(server.requests) == 2


@pytest.mark.parametrize("header", ["0.4", "date"])
def test_retry_after_is_honoured_as_seconds_and_as_date(connect, header):
    # A date has whole seconds, so two of them leave at least one.
    from datetime import UTC, datetime, timedelta
    from email.utils import format_datetime

    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    value, at_least = (header, 0.4) if header != "date" else (date, 0.9)
    with serving(error(429, "slow down", {"Retry-After": value})) as server:
        started = time.monotonic()
        ask(connect(server))
        assert time.monotonic() - started >= at_least
        assert len(server.requests) == 2


def test_a_very_long_retry_after_ends_at_once_and_says_how_long(connect):
    with serving(always=error(429, "daily quota", {"Retry-After": "86400"})) as server:
        message = failure(connect(server), BackendUnavailableError)
        assert len(server.requests) == 1
    assert "86400 s" in message


@pytest.mark.parametrize(
    "deed", [error(429, "You exceeded your quota", code="insufficient_quota"), error(402, "Insufficient credits")]
)
def test_a_used_up_quota_is_not_asked_again(connect, deed):
    with serving(always=deed) as server:
        message = failure(connect(server), BackendUnavailableError)
        assert len(server.requests) == 1
    assert "top up" in message


@pytest.mark.parametrize(
    ("deed", "seen"),
    [
        (FAIR, "HTTP 500: the server stumbled"),
        (error(429, "slow down"), "HTTP 429: slow down"),
        (Deed(delay=30.0), "no reply within 0.3 s"),
        (Deed(cut_after=20), "closed"),
        (Deed(503, b"<html><h1>Down for\nrepair</h1></html>"), "HTTP 503: Down for repair"),
        (Deed(500, b""), "HTTP 500: no reason given"),
    ],
    ids=["500", "429", "hang", "cut", "html", "empty"],
)
def test_a_lasting_fault_names_endpoint_reason_and_remedy(connect, deed, seen):
    with serving(always=deed) as server:
        message = failure(connect(server, timeout=0.3 if deed.delay else 30.0, max_retries=2), BackendUnavailableError)
        assert len(server.requests) == 3
        assert server.url in message
    assert seen in message
    assert "tried 3 times" in message
    assert "run again" in message or "[llm] options" in message


def test_an_error_under_status_200_is_an_error(connect):
    body = b'{"error": {"message": "provider is down", "code": 502}}'
    with serving(always=Deed(200, body)) as server:
        message = failure(connect(server, max_retries=1), BackendUnavailableError)
        assert len(server.requests) == 2
    assert "provider is down" in message


def test_a_refused_connection_ends_within_seconds_and_says_so(connect, monkeypatch):
    monkeypatch.undo()  # the real waiting times
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        started = time.monotonic()
        message = failure(connect(url), BackendUnavailableError)
    assert time.monotonic() - started < 6
    assert "connection refused" in message
    assert "base_url" in message


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_at_once_and_names_the_variable(connect, status):
    with serving(always=error(status, f"Incorrect API key provided: {KEY}.")) as server:
        message = failure(connect(server), BackendAuthError)
        assert len(server.requests) == 1
    assert "OPENAI_API_KEY" in message
    assert f"HTTP {status}" in message
    assert KEY not in message


def test_an_unknown_model_is_named_with_the_reason(connect):
    with serving(always=error(404, "The model 'tiny' does not exist")) as server:
        message = failure(connect(server), BackendRequestError)
        assert len(server.requests) == 1
    assert "The model 'tiny' does not exist" in message
    assert "[llm] model" in message


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ({"error": {"message": "bad things"}}, "bad things"),
        ({"error": "plain"}, "plain"),
        ({"detail": "fastapi"}, "fastapi"),
        ({"detail": [{"loc": ["body", "model"], "msg": "Field required"}]}, "body.model: Field required"),
        ({"message": "vllm", "object": "error"}, "vllm"),
        ({}, "{}"),
    ],
)
def test_the_reason_is_read_from_any_usual_error_body(connect, body, seen):
    with serving(always=Deed(400, json.dumps(body).encode())) as server:
        assert seen in failure(connect(server), BackendRequestError)


PARTS = {"prompt_tokens_details": {"cached_tokens": 5000}, "completion_tokens_details": {"reasoning_tokens": 9999}}


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}, (10, 3, None)),
        # Thinking left out of the completion, as Gemini and xAI count.
        ({"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 33}, (10, 23, None)),
        ({"prompt_tokens": 10, "completion_tokens": 3, "prompt_cache_hit_tokens": 8}, (10, 3, 8)),
        ({"prompt_tokens": 10}, (10, None, None)),
        ({"prompt_tokens": 100, "completion_tokens": 50.5, **PARTS}, (100, None, None)),
        ({"prompt_tokens": 100, "completion_tokens": 50, **PARTS}, (100, 50, None)),
    ],
    ids=["usual", "thinking-apart", "deepseek", "half", "impossible", "parts-above-wholes"],
)
def test_tokens_are_counted_as_different_endpoints_write_them(connect, usage, counts):
    body = json.dumps(json.loads(reply("Na Cl")) | {"usage": usage}).encode()
    with serving(Deed(body=body)) as server:
        (completion,) = ask(connect(server))
    found = completion.usage
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == counts
    assert found.reasoning_tokens is None


def test_max_completion_tokens_is_learnt_once(connect, caplog):
    refused = error(
        400,
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        code="unsupported_parameter",
        param="max_tokens",
    )
    with serving(refused) as server:
        backend = connect(server, max_tokens=9)
        assert len(ask(backend) + ask(backend)) == 2
        limits = [{k: v for k, v in sent.items() if k.startswith("max")} for sent in server.requests]
    assert limits == [{"max_tokens": 9}, {"max_completion_tokens": 9}, {"max_completion_tokens": 9}]


def test_a_limit_unknown_under_both_names_is_an_error(connect):
    with serving(
        error(400, "Unsupported parameter: max_tokens"), always=error(400, "Unsupported: max_completion_tokens")
    ) as server:
        message = failure(connect(server), BackendRequestError)
        assert len(server.requests) == 2
    assert "max_completion_tokens" in message


@pytest.mark.parametrize(
    ("parameter", "deed"),
    [
        (
            "temperature",
            error(400, "Only the default (1) value is supported.", code="unsupported_value", param="temperature"),
        ),
        ("seed", Deed(422, b'{"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}')),
        ("top_p", error(400, "Unrecognized request argument supplied: top_p")),
    ],
)
def test_a_parameter_the_model_does_not_know_is_left_out_and_said_once(connect, caplog, parameter, deed):
    with serving(deed) as server, caplog.at_level(logging.WARNING, "matsearch"):
        backend = connect(server, temperature=0.5, top_p=0.5)
        ask(backend)
        ask(backend)
        assert [parameter in sent for sent in server.requests] == [True, False, False]
    assert [record.getMessage() for record in caplog.records] == [f"tiny does not support {parameter}; sent without it"]


def test_a_value_out_of_range_is_an_error_not_left_out(connect):
    with serving(always=error(400, "temperature must be at most 2", param="temperature")) as server:
        message = failure(connect(server, temperature=9.0), BackendRequestError)
        assert len(server.requests) == 1
    assert "temperature must be at most 2" in message


@pytest.mark.parametrize(
    ("body", "text", "finish_reason"),
    [
        (reply(""), "", "stop"),
        (reply(None, "content_filter"), "", "content_filter"),
        (reply(None, refusal="I will not."), "I will not.", "refusal"),
        (reply("Na\ud800Cl"), "Na\ufffdCl", "stop"),
        (reply("Na Cl", "length"), "Na Cl", "length"),
        (reply("Na-Cl").replace(b"-", b"\xff"), "Na\ufffdCl", "not_utf8"),
        (b'{"choices": [{"message": {"content": [{"text": "Na"}, {"text": "Cl"}]}}]}', "NaCl", "stop"),
        (b'data: {"choices": [{"delta": {"content": "Na"}}]}\n\ndata: [DONE]\n', "Na", "stop"),
    ],
    ids=["empty", "null", "refusal", "surrogate", "length", "not-utf8", "parts", "events"],
)
def test_an_odd_reply_is_a_completion_and_not_asked_again(connect, body, text, finish_reason):
    with serving(Deed(body=body)) as server:
        (completion,) = ask(connect(server))
        assert len(server.requests) == 1
    assert (completion.text, completion.finish_reason) == (text, finish_reason)
    completion.text.encode("utf-8")


@pytest.mark.parametrize(
    ("deed", "finish_reason", "text"),
    [
        (Deed(body=b"{broken json"), "bad_response", "{broken json"),
        (HTML, "bad_response", "<html><body><h1>Please log in</h1></body></html>"),
        (Deed(body=b'{"choices": []}'), "bad_response", '{"choices": []}'),
        (Deed(body=b'{"choices": 3}'), "bad_response", '{"choices": 3}'),
        (Deed(body=b'{"choices": [{"message": null}]}'), "bad_response", '{"choices": [{"message": null}]}'),
        (Deed(body=b""), "bad_response", ""),
        (Deed(body=b"\xff\xfe\x00 Na"), "not_utf8", "\ufffd\ufffd\x00 Na"),
        (Deed(body=f"you sent {KEY}".encode()), "bad_response", "you sent ***"),
    ],
    ids=["json", "html", "no-choice", "number", "null", "nothing", "binary", "echo"],
)
def test_a_body_that_stays_unreadable_after_good_replies_becomes_a_row(connect, deed, finish_reason, text):
    with serving(GOOD, always=deed) as server:
        backend = connect(server)
        ask(backend)
        (completion,) = ask(backend)
        assert len(server.requests) == 1 + 3
    assert (completion.finish_reason, completion.text) == (finish_reason, text)


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        (HTML.body, "Please log in"),
        (b"data: [DONE]\n", "choices"),
        (b'{"service": "metrics", "ok": true}', "metrics"),
        (b"", "an empty body"),
        (b"\xff\xfe\x00", "expected a chat completion"),
    ],
    ids=["login", "event-stream", "other-service", "empty", "binary"],
)
def test_an_endpoint_that_never_gave_a_chat_completion_ends_the_run(connect, body, seen):
    with serving(always=Deed(body=body)) as server:
        message = failure(connect(server), BackendUnavailableError)
        assert len(server.requests) == 3
        assert server.url in message
    assert seen in message
    assert "base_url" in message


def test_an_endpoint_that_stops_giving_chat_completions_ends_the_run(connect):
    with serving(GOOD, HTML, HTML, HTML, GOOD, always=HTML) as server:
        backend = connect(server)
        kinds = [ask(backend)[0].finish_reason for _ in range(5)]
        assert kinds == ["stop", "bad_response", "stop", "bad_response", "bad_response"]
        assert "Please log in" in failure(backend, BackendUnavailableError)


def test_a_key_that_the_model_repeats_is_not_kept(connect):
    body = reply(f"Authorization: Bearer {KEY}", finish_reason=f"stop {KEY}").replace(b"tiny-1", KEY.encode())
    with serving(Deed(body=body)) as server:
        (completion,) = ask(connect(server))
    assert completion.text == "Authorization: Bearer ***"
    assert KEY not in repr(completion)


def test_no_part_of_a_key_is_left_where_a_reason_is_cut(connect):
    with serving(always=error(400, "x" * 285 + KEY)) as server:
        assert KEY[:8] not in failure(connect(server), BackendRequestError)


@pytest.mark.parametrize("count", [10**30, 2**63, -1, 3.5, "3", True, None, [3]], ids=repr)
def test_an_absurd_token_count_is_unknown(connect, count):
    body = json.dumps(json.loads(reply("Na Cl")) | {"usage": {"prompt_tokens": count, "completion_tokens": 3}})
    with serving(Deed(body=body.encode())) as server:
        (completion,) = ask(connect(server))
    assert completion.usage.prompt_tokens is None
    assert completion.usage.completion_tokens == 3


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("option", ["temperature", "timeout", "top_p", "requests_per_minute"])
def test_an_option_that_is_not_finite_is_refused(option, value):
    with pytest.raises(ConfigError, match=option):
        load_backend("openai", "tiny", {"base_url": "http://localhost:1/v1", option: value})


def test_a_reply_of_one_megabyte_arrives_whole(connect):
    text = "Na Cl\n" * 175_000
    with serving(Deed(body=reply(text))) as server:
        (completion,) = ask(connect(server))
    assert completion.text == text


@pytest.mark.parametrize("body", [reply("x" * 3_000_000), b"x" * 3_000_000], ids=["reply", "garbage"])
def test_a_reply_beyond_all_measure_is_cut(connect, body):
    with serving(GOOD, always=Deed(body=body)) as server:
        backend = connect(server)
        ask(backend)
        (completion,) = ask(backend)
    assert len(completion.text) == 2_000_000


def test_every_sample_is_a_request_of_its_own_with_a_seed_of_its_own(connect):
    # Servers ignore `n`, or give the reply of one seed n times.
    samples = [Prompt("the same", seed=100 + sample, sample=sample) for sample in range(5)]
    with serving() as server:
        texts = [one.text for one in connect(server).complete(samples)]
        assert sorted(sent["seed"] for sent in server.requests) == [100, 101, 102, 103, 104]
        assert not any("n" in sent for sent in server.requests)
    assert texts == [f"answer to the same with seed {100 + sample}" for sample in range(5)]


def test_many_prompts_keep_their_order_and_stay_below_the_concurrency(connect):
    with serving(always=Deed(delay=0.05)) as server:
        completions = ask(connect(server, concurrency=3), 9)
        assert [c.text for c in completions] == [f"answer to prompt {i} with seed {i}" for i in range(9)]
        assert 2 <= server.busiest <= 3
        assert len(server.requests) == 9


def test_calls_from_many_threads_share_one_connection_pool(connect):
    with serving(FAIR, error(429, "slow down"), Deed(cut_after=9)) as server:
        backend = connect(server)
        found = {}

        def call(i):
            found[i] = backend.complete([Prompt(f"prompt {i}", seed=i)])[0].text

        threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {i: f"answer to prompt {i} with seed {i}" for i in range(8)}
        assert len(server.requests) == 8 + 3


def test_requests_per_minute_spaces_the_requests(connect):
    with serving() as server:
        started = time.monotonic()
        ask(connect(server, requests_per_minute=600), 4)
        assert time.monotonic() - started >= 0.3
        assert len(server.requests) == 4


def test_closing_while_a_reply_is_awaited_ends_the_wait(connect):
    with serving(always=Deed(delay=30.0)) as server:
        backend = connect(server)
        closer = threading.Timer(0.3, backend.close)
        closer.start()
        with pytest.raises(BackendUnavailableError, match="closed"):
            ask(backend)
        closer.join()
    with pytest.raises(BackendUnavailableError, match="closed"):
        ask(backend)


def test_closing_releases_every_waiting_thread_at_once(connect):
    ends = []

    def wait_for_a_reply(backend):
        try:
            ask(backend)
        except BackendError as err:
            ends.append(str(err))

    with serving(always=Deed(delay=30.0)) as server:
        backend = connect(server, timeout=30, concurrency=2)
        threads = [threading.Thread(target=wait_for_a_reply, args=(backend,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        while server.busiest < 2:
            time.sleep(0.01)
        started = time.monotonic()
        backend.close()
        for thread in threads:
            thread.join()
        assert time.monotonic() - started < 2
    assert len(ends) == 4
    assert all("closed" in end for end in ends)


def test_closing_leaves_no_thread_and_may_be_repeated(connect):
    with serving() as server:
        backend = connect(server)
        backend.close()
        backend = connect(server)
        ask(backend)
        backend.close()
        backend.close()
    gc.collect()  # an unclosed socket or loop would warn here, and warnings are errors
    assert not [thread for thread in threading.enumerate() if thread.name == "matsearch-openai"]


def test_ctrl_c_interrupts_the_wait(connect):
    # A shell starts what it puts in the background with Ctrl-C ignored, and Python keeps to that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupt_the_wait(connect)
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt_the_wait(connect):
    with serving(always=Deed(delay=30.0)) as server:
        backend = connect(server)
        main_thread = threading.main_thread().ident
        timer = threading.Timer(0.5, signal.pthread_kill, [main_thread, signal.SIGINT])
        timer.start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            ask(backend)
        assert time.monotonic() - started < 5
        timer.join()


def test_check_passes_with_one_small_request(connect):
    with serving() as server:
        connect(server).check()
        assert [sent["max_tokens"] for sent in server.requests] == [16]


def test_check_says_that_something_else_answers_there(connect):
    with serving(always=HTML) as server, pytest.raises(BackendUnavailableError, match="Please log in"):
        connect(server).check()


def test_check_accepts_a_model_that_spends_its_tokens_on_thinking(connect):
    reason = "Could not finish the message because max_tokens or model output limit was reached."
    with serving(always=error(400, reason)) as server:
        connect(server).check()


@pytest.mark.parametrize(
    "host", ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1", "http://10.0.0.3", "http://ollama:11434"]
)
def test_an_endpoint_nearby_needs_no_key(monkeypatch, host):
    monkeypatch.delenv("OPENAI_API_KEY")
    load_backend("openai", "tiny", {"base_url": f"{host}/v1"}).close()


def test_a_nearby_endpoint_that_wants_a_key_names_the_variable(monkeypatch, connect):
    monkeypatch.delenv("OPENAI_API_KEY")
    with serving(always=error(401, "Unauthorized")) as server:
        assert "put a valid key into OPENAI_API_KEY" in failure(connect(server), BackendAuthError)


@pytest.mark.parametrize("value", ["", "  ", None])
def test_a_far_endpoint_without_a_key_names_the_variable(monkeypatch, value):
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(BackendAuthError, match="MY_KEY"):
        load_backend("openai", "tiny", {"base_url": "https://example.org/v1", "api_key_env": "MY_KEY"})


def test_a_key_with_odd_characters_is_refused_without_showing_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\u2026")
    with pytest.raises(BackendAuthError) as raised:
        load_backend("openai", "tiny", {})
    assert KEY not in str(raised.value)


def test_a_key_in_place_of_its_variable_is_refused_without_showing_it():
    with pytest.raises(ConfigError, match="name of an environment variable") as raised:
        load_backend("openai", "tiny", {"api_key_env": KEY})
    assert KEY not in str(raised.value)


def test_a_query_in_the_base_url_is_refused_without_showing_it():
    with pytest.raises(ConfigError, match="api_key_env") as raised:
        load_backend("openai", "tiny", {"base_url": f"https://example.org/v1?key={KEY}"})
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "http://", "http://localhost:http/v1", ""])
def test_a_base_url_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="base_url"):
        load_backend("openai", "tiny", {"base_url": url})


def test_a_password_in_the_base_url_is_refused_without_showing_it():
    with pytest.raises(ConfigError, match="api_key_env") as raised:
        load_backend("openai", "tiny", {"base_url": f"https://user:{KEY}@example.org/v1"})
    assert KEY not in str(raised.value)


def test_an_environment_proxy_is_not_asked_for_this_machine(monkeypatch, connect):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serving() as server:
        assert ask(connect(server))


def test_identity_holds_the_sampling_and_nothing_else(connect):
    backend = connect("http://localhost:1/v1", timeout=3, concurrency=2, max_retries=1, top_p=0.5, temperature=0.1)
    assert backend.identity == {
        "backend": "openai",
        "model": "tiny",
        "temperature": 0.1,
        "max_tokens": 4096,
        "top_p": 0.5,
    }


@pytest.mark.parametrize(
    "deed",
    [FAIR, error(401, KEY), error(400, KEY), error(429, KEY), error(500, f"Bearer {KEY}"), Deed(200, KEY.encode())],
    ids=["500", "401", "400", "429", "echo", "body"],
)
def test_the_key_is_nowhere_to_be_seen(connect, deed, caplog):
    with serving(always=deed) as server, caplog.at_level(logging.INFO, "matsearch"):
        backend = connect(server, max_retries=1)
        seen = [repr(backend), repr(backend.options), json.dumps(backend.identity)]
        try:
            seen += [repr(ask(backend))]
        except BackendError as err:
            # With its causes and context, as a traceback shows them.
            import traceback

            seen += traceback.format_exception(err)
    seen += [record.getMessage() for record in caplog.records]
    assert KEY not in "".join(seen)
