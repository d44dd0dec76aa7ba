"""Replies held to a JSON schema, as strictly as the endpoint can."""

import json
import logging

import pytest
from misbehaving_server import Deed, error, reply, serving

from matsearch.campaign.rows import reply_key
from matsearch.errors import BackendRequestError, BackendUnavailableError
from matsearch.llm.json_schema import fits, read_object
from matsearch.records import Prompt

SCHEMA = {
    "type": "object",
    "properties": {"crystals": {"type": "array", "items": {"type": "object", "required": ["species"]}}},
    "required": ["crystals"],
    "additionalProperties": False,
}
FITTING = '{"crystals": [{"species": ["Na", "Cl"]}]}'
OTHER_JSON = '{"structures": []}'
PROSE = "Here is your crystal: NaCl"


def ask(backend, n=1):
    """One after the other."""
    return [backend.complete([Prompt("Write JSON.", seed=seed, schema=SCHEMA)])[0] for seed in range(n)]


def forms(server):
    return [sent.get("response_format", {}).get("type", "text") for sent in server.requests]


def test_an_endpoint_that_can_is_held_to_the_schema(connect):
    with serving(always=Deed(text=FITTING)) as server:
        assert [one.text for one in ask(connect(server), 2)] == [FITTING] * 2
        assert forms(server) == ["json_schema"] * 2
        assert server.requests[0]["response_format"]["json_schema"]["schema"] == SCHEMA


def test_a_prompt_without_a_schema_asks_for_free_text(connect):
    with serving() as server:
        connect(server).complete([Prompt("Write anything.")])
        assert forms(server) == ["text"]


def test_a_schema_is_part_of_what_a_reply_is_stored_under():
    free, held = Prompt("Write JSON."), Prompt("Write JSON.", schema=SCHEMA)
    assert reply_key(free, {}) != reply_key(held, {}) != reply_key(Prompt("Write JSON.", schema={}), {})
    assert reply_key(held, {}) == reply_key(Prompt("Write JSON.", schema=json.loads(json.dumps(SCHEMA))), {})
    assert hash(held) is not None


REFUSALS = [
    error(400, "This response_format type is unavailable now"),
    error(400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
    error(400, "Invalid schema for response_format 'reply'", param="response_format", code="invalid_request_error"),
    error(400, "'response_format.type' must be 'text'"),
    error(400, "Grammar error: Unsupported JSON schema feature"),
    error(500, "failed to parse grammar"),
    error(422, "response_format: Extra inputs are not permitted"),
    error(404, "No endpoints found that support structured outputs"),
    Deed(400, b""),
    Deed(400, b"Bad Request"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=range(len(REFUSALS)))
def test_a_refused_form_is_left_for_the_next_and_remembered(connect, refusal, caplog):
    with serving(refusal, always=Deed(text=FITTING)) as server, caplog.at_level(logging.WARNING, "matsearch"):
        assert [one.text for one in ask(connect(server), 3)] == [FITTING] * 3
        assert forms(server) == ["json_schema", "json_object", "json_object", "json_object"]
    assert [record.getMessage() for record in caplog.records] == [
        "tiny does not offer response_format json_schema; asked for json_object from here"
    ]


def test_an_endpoint_that_refuses_every_form_is_asked_for_text(connect):
    with serving(REFUSALS[0], REFUSALS[3], always=Deed(text=PROSE)) as server:
        assert [one.text for one in ask(connect(server), 2)] == [PROSE] * 2
        assert forms(server) == ["json_schema", "json_object", "text", "text"]


def test_an_ignored_form_is_left_and_the_reply_kept(connect, caplog):
    deeds = [Deed(text=OTHER_JSON), Deed(text=PROSE)]
    with serving(*deeds, always=Deed(text=PROSE)) as server, caplog.at_level(logging.WARNING, "matsearch"):
        # Nothing is asked twice: what came was paid for, and the parser reads prose as well.
        assert [one.text for one in ask(connect(server), 4)] == [OTHER_JSON, PROSE, PROSE, PROSE]
        assert forms(server) == ["json_schema", "json_object", "text", "text"]
    assert "ignores response_format json_schema" in caplog.text
    assert "ignores response_format json_object" in caplog.text


@pytest.mark.parametrize(
    "body",
    [reply('{"crystals": [', "length"), reply(""), reply(None, refusal="No."), reply(f"<think>hm</think>{FITTING}")],
    ids=["truncated", "empty", "refusal", "thinking"],
)
def test_a_reply_that_says_nothing_of_the_form_teaches_nothing(connect, body):
    with serving(Deed(body=body), always=Deed(text=FITTING)) as server:
        ask(connect(server), 2)
        assert forms(server) == ["json_schema"] * 2


def test_requests_under_way_descend_one_step_together(connect):
    def no_schemas(sent):
        return REFUSALS[0] if sent["response_format"]["type"] == "json_schema" else Deed(text=FITTING)

    with serving(always=no_schemas) as server:
        completions = connect(server, concurrency=3).complete([Prompt("JSON", seed=i, schema=SCHEMA) for i in range(6)])
        assert {one.text for one in completions} == {FITTING}
        assert forms(server).count("json_object") == 6
        assert 1 <= forms(server).count("json_schema") <= 3
        assert "text" not in forms(server)


def test_form_and_limit_are_learnt_side_by_side(connect):
    no_limit = error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'", param="max_tokens")
    with serving(no_limit, REFUSALS[0], always=Deed(text=FITTING)) as server:
        ask(connect(server))
        assert forms(server) == ["json_schema", "json_schema", "json_object"]
        assert ["max_completion_tokens" in sent for sent in server.requests] == [False, True, True]


def test_a_bad_value_of_another_parameter_is_not_blamed_on_the_form(connect):
    with serving(always=error(400, "temperature must be at most 2", param="temperature")) as server:
        with pytest.raises(BackendRequestError, match="temperature must be at most 2"):
            ask(connect(server, temperature=9.0))
        assert forms(server) == ["json_schema"]


def test_a_server_that_stumbles_is_not_blamed_on_the_form(connect):
    with serving(error(500, "out of memory"), always=Deed(text=FITTING)) as server:
        ask(connect(server))
        assert forms(server) == ["json_schema"] * 2
    with serving(always=error(429, "json_schema quota", {"Retry-After": "86400"})) as server:
        with pytest.raises(BackendUnavailableError):
            ask(connect(server))
        assert forms(server) == ["json_schema"]


def test_a_streamed_reply_is_held_to_the_schema_too(connect):
    with serving(REFUSALS[0], always=Deed(text=FITTING)) as server:
        assert ask(connect(server, stream=True))[0].text == FITTING
        assert forms(server) == ["json_schema", "json_object"]


@pytest.mark.parametrize(
    ("text", "object_"),
    [(FITTING, json.loads(FITTING)), ("[1]", None), ("", None), (f"```json\n{FITTING}\n```", None), ("{" * 9999, None)],
)
def test_only_a_bare_object_is_what_was_asked_for(text, object_):
    assert read_object(text) == object_


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        (json.loads(FITTING), SCHEMA, True),
        ({"crystals": [{}]}, SCHEMA, False),
        ({"crystals": [], "more": 1}, SCHEMA, False),
        ({}, SCHEMA, False),
        (1, {"type": "integer"}, True),
        (1.0, {"type": "integer"}, True),
        (1.5, {"type": "integer"}, False),
        (True, {"type": "integer"}, False),
        (True, {"type": "boolean"}, True),
        (None, {"type": ["string", "null"]}, True),
        ("cubic", {"enum": ["cubic", "hexagonal"]}, True),
        ("cubical", {"enum": ["cubic", "hexagonal"]}, False),
        (3, {"const": 4}, False),
        ([1, 2], {"minItems": 3}, False),
        ([1, 2], {"maxItems": 2, "items": {"type": "number"}}, True),
        ([1, "2"], {"items": {"type": "number"}}, False),
        (3, {"anyOf": [{"type": "string"}, {"type": "number"}]}, True),
        ([], {"anyOf": [{"type": "string"}, {"type": "number"}]}, False),
        ("anything", {}, True),
        ("anything", {"type": "no such type", "pattern": "x"}, True),
    ],
)  # fmt: skip
def test_fits_is_what_the_schema_says(value, schema, expected):
    assert fits(value, schema) is expected
