"""Replies that come piece by piece."""

import time

import pytest
from misbehaving_server import GOOD, KEY, Deed, error, events, reply, serving

from matsearch.errors import BackendRequestError, BackendUnavailableError
from matsearch.records import Prompt, Usage

ANSWER = "answer to prompt 0 with seed 0"


def ask(backend, n=1):
    return backend.complete([Prompt(f"prompt {i}", seed=i, index=i) for i in range(n)])


def test_a_streamed_reply_is_the_same_as_one_in_one_piece(connect):
    with serving() as server:
        (streamed,) = ask(connect(server, stream=True))
        (whole,) = ask(connect(server))
        assert [sent.get("stream") for sent in server.requests] == [True, None]
        assert server.requests[0]["stream_options"] == {"include_usage": True}
    assert (streamed.text, streamed.usage, streamed.model) == (whole.text, whole.usage, whole.model)
    assert streamed.finish_reason == whole.finish_reason == "stop"


def test_streaming_is_no_part_of_what_a_reply_is_stored_under(connect):
    url = "http://localhost:1/v1"
    backend = connect(url, stream=True)
    assert backend.identity == connect(url).identity
    assert "stream" in backend.connection_options


def test_the_time_out_counts_from_the_latest_piece(connect):
    n_pieces = len(events(ANSWER)) - 1
    with serving(always=Deed(pause=0.15)) as server:
        started = time.monotonic()
        (completion,) = ask(connect(server, stream=True, timeout=0.6))
        assert time.monotonic() - started > 0.15 * n_pieces > 0.6
        assert len(server.requests) == 1
    assert completion.text == ANSWER


def test_comments_that_keep_a_connection_open_do_not_put_off_the_time_out(connect):
    deed = Deed(body=b": still here\n\n" * 3, delay=30.0)
    with serving(deed) as server:
        assert ask(connect(server, stream=True, timeout=0.5))[0].text == ANSWER
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "deed",
    [
        error(500, "the server stumbled"),
        error(429, "slow down", {"Retry-After": "0"}),
        Deed(pieces=0),
        Deed(pieces=3),
        Deed(pause=30.0),
        Deed(delay=30.0),
        Deed(500, b"cut before its end", cut_after=5),
        Deed(body=b"<html>Please log in</html>"),
        Deed(body=b'data: {"error": {"message": "overloaded", "code": 503}}\n\n'),
        Deed(body=b""),
        Deed(body=b"data: [DONE]\n\n"),
        Deed(body=b"data: {broken\n\ndata: [DONE]\n\n"),
        Deed(body=b'data: {"choices": [{"delta": {"content": "Na"}}]}\n\n'),
    ],
    ids=(
        "500 429 cut-at-once cut stall hang cut-error html error-inside empty only-done broken-json ends-without-end"
    ).split(),
)
def test_a_passing_fault_is_retried_once_and_nothing_is_lost(connect, deed):
    with serving(deed) as server:
        backend = connect(server, stream=True, timeout=0.5 if deed.delay or deed.pause else 30.0)
        assert ask(backend)[0].text == ANSWER
        assert len(server.requests) == 2


@pytest.mark.parametrize(("deed", "broken"), [(Deed(pieces=4), "cut"), (Deed(pieces=4, pause=0.1), "cut")])
def test_a_reply_that_is_cut_again_and_again_is_kept_as_far_as_it_came(connect, deed, broken):
    with serving(GOOD, always=deed) as server:
        backend = connect(server, stream=True, max_retries=1)
        ask(backend)
        (completion,) = ask(backend)
        assert len(server.requests) == 1 + 2
    assert (completion.text, completion.finish_reason) == ("answer to prompt ", broken)


def test_an_endpoint_that_cuts_every_reply_ends_the_run(connect):
    with serving(always=Deed(pieces=4)) as server:
        with pytest.raises(BackendUnavailableError, match=r"closed|ended before|peer"):
            ask(connect(server, stream=True, max_retries=1))
        assert len(server.requests) == 2


def test_what_breaks_behind_the_end_of_a_reply_does_not_matter(connect):
    n_all = len(events(ANSWER))
    with serving(Deed(pieces=n_all), Deed(pieces=n_all - 1)) as server:
        backend = connect(server, stream=True)
        first, second = ask(backend)[0], ask(backend)[0]
        assert len(server.requests) == 2
    assert first.text == second.text == ANSWER
    assert first.usage.completion_tokens == 3
    assert second.usage == Usage()  # they come last


def test_an_endpoint_that_does_not_stream_is_understood(connect):
    with serving(always=Deed(body=reply("Na Cl"))) as server:
        assert ask(connect(server, stream=True))[0].text == "Na Cl"


@pytest.mark.parametrize("parameter", ["stream", "stream_options"])
def test_an_endpoint_that_refuses_to_stream_is_asked_without(connect, parameter):
    refused = error(400, "Your organization must be verified", code="unsupported_value", param=parameter)
    with serving(refused) as server:
        backend = connect(server, stream=True)
        texts = [ask(backend)[0].text for _ in range(2)]
        assert len(server.requests) == 3
        assert all(parameter not in sent for sent in server.requests[1:])
        assert all(("stream_options" in sent) <= ("stream" in sent) for sent in server.requests)
    assert texts == [ANSWER] * 2


def test_a_streamed_refusal_says_why(connect):
    with serving(always=error(404, "The model 'tiny' does not exist")) as server:
        with pytest.raises(BackendRequestError, match="does not exist"):
            ask(connect(server, stream=True))
        assert len(server.requests) == 1


def test_a_streamed_reply_of_one_megabyte_arrives_whole(connect):
    with serving(Deed(text="Na-Cl " * 2_000 + "x" * 1_000_000)) as server:
        (completion,) = ask(connect(server, stream=True))
    assert len(completion.text) == 1_012_000


def test_a_stream_without_end_is_left(connect):
    with serving(always=Deed(text="x" * 700_000 + " y" * 10 + "z" * 1_500_000, end=b"x" * 9_000_000)) as server:
        (completion,) = ask(connect(server, stream=True, timeout=20))
    assert (len(completion.text), completion.finish_reason) == (2_000_000, "length")


def test_odd_letters_survive_the_stream(connect):
    text = "Å\u2028\u0085\x0c\r\n 🧪 \ud83e"
    with serving(Deed(text=text)) as server:
        (completion,) = ask(connect(server, stream=True))
    assert completion.text == text.replace("\ud83e", "\ufffd")


def test_bytes_that_are_no_text_are_marked(connect):
    body = b'data: {"choices": [{"delta": {"content": "Na \xff Cl"}, "finish_reason": "stop"}]}\r\n\r\ndata: [DONE]\r\n'
    with serving(Deed(body=body)) as server:
        (completion,) = ask(connect(server, stream=True))
    assert (completion.text, completion.finish_reason) == ("Na \ufffd Cl", "not_utf8")


def test_a_key_in_a_stream_is_not_kept(connect):
    with serving(GOOD, Deed(text=f"you sent {KEY}"), always=Deed(text=f"you sent {KEY}", pieces=3)) as server:
        backend = connect(server, stream=True, max_retries=0)
        ask(backend)
        texts = [ask(backend)[0].text for _ in range(2)]
    assert texts == ["you sent ***", "you sent "]


def test_many_streams_at_a_time_keep_their_order(connect):
    with serving(always=Deed(pause=0.01)) as server:
        completions = ask(connect(server, stream=True, concurrency=4), 12)
        assert len(server.requests) == 12
    assert [one.text for one in completions] == [f"answer to prompt {i} with seed {i}" for i in range(12)]
