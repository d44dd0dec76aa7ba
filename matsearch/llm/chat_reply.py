"""Reading what a Chat Completions endpoint sent: replies, and the reasons of refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from matsearch.llm.decoding import decode, storable
from matsearch.records import Completion, Usage

# A crystal needs a few hundred characters; what is longer than this is not worth storing.
MAX_CHARACTERS = 2_000_000
MAX_REASON = 300
# No reply has more tokens than this; a larger count is a slip of the endpoint, and would not fit into a database.
MAX_COUNT = 2**31

# How endpoints say that they do not know a parameter, as opposed to: that its value is out of range.
UNSUPPORTED = re.compile(
    r"unsupported|not support|n't support|unrecognized|unrecognised|unknown|unexpected|not permitted|not allowed"
    r"|deprecated",
    re.IGNORECASE,
)


def read_completion(raw: bytes) -> Completion | None:
    """The first choice of a Chat Completions body, or None where the body holds no choice."""
    body, is_utf8 = _load(raw)
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, dict):
        return None
    text = _content(message.get("content"))
    reason = choice.get("finish_reason")
    finish_reason = reason if isinstance(reason, str) and reason else "stop"
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        text, finish_reason = text + refusal, "refusal"
    if not is_utf8:
        finish_reason = "not_utf8"
    if len(text) > MAX_CHARACTERS:
        text, finish_reason = text[:MAX_CHARACTERS], "length"
    model = body.get("model")
    return Completion(
        text=storable(text),
        usage=_usage(body.get("usage")),
        finish_reason=storable(finish_reason),
        model=storable(model) if isinstance(model, str) else "",
    )


def undecodable_completion(raw: bytes) -> Completion:
    """A body that holds no choice as a completion, so that it becomes a row."""
    text, is_utf8 = decode(raw)
    return Completion(text[:MAX_CHARACTERS], finish_reason="bad_response" if is_utf8 else "not_utf8")


def error_text(raw: bytes) -> str:
    """What an error body says, in one line of any length."""
    body, _ = _load(raw)
    message = _message(body)
    if not message:
        message = re.sub(r"<[^>]*>", " ", decode(raw)[0])
    return " ".join(storable(message).split())


def shortened(line: str) -> str:
    """A line short enough for a message."""
    return line if len(line) <= MAX_REASON else line[: MAX_REASON - 3] + "..."


def declares_error(raw: bytes) -> bool:
    """Whether the body says itself that it is an error, whatever its HTTP status."""
    body, _ = _load(raw)
    return isinstance(body, dict) and bool(body.get("error"))


def error_field(raw: bytes, name: str) -> str:
    """A field of an error body, such as `code` or `param`; empty for none."""
    field = _error(raw).get(name)
    return field if isinstance(field, str) else ""


def unsupported_parameter(raw: bytes, sent: Collection[str]) -> str | None:
    """Which of the parameters that were sent the endpoint says it does not support."""
    error = _error(raw)
    reason = shortened(error_text(raw))
    if not UNSUPPORTED.search(f"{error.get('code')} {reason}"):
        return None
    parameter = error.get("param")
    if isinstance(parameter, str) and parameter in sent:
        return parameter
    return next((name for name in sent if re.search(rf"\b{name}\b", reason)), None)


def _load(raw: bytes) -> tuple[Any, bool]:
    text, is_utf8 = decode(raw)
    try:
        return json.loads(text), is_utf8
    except (ValueError, RecursionError):  # not JSON, a number of thousands of digits, nested without end
        return None, is_utf8


def _error(raw: bytes) -> dict[str, Any]:
    body, _ = _load(raw)
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _message(body: Any) -> str:
    """The message inside OpenAI's `{"error": {"message"}}`, FastAPI's `{"detail"}` or a plain `{"message"}`."""
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return "; ".join(filter(None, map(_message, body)))
    if not isinstance(body, dict):
        return ""
    inside = next((body[key] for key in ("error", "detail", "message", "msg") if body.get(key)), None)
    message = _message(inside)
    where = body.get("loc")  # FastAPI names the parameter here
    return f"{'.'.join(map(str, where))}: {message}" if isinstance(where, list) else message


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):  # some endpoints send the text in parts
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def _usage(usage: Any) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    total = _count(usage, "total_tokens")
    if prompt is not None and completion is not None and total is not None:
        # Some endpoints (Gemini's, xAI's) leave thinking out of the completion, but not out of the total, nor the bill.
        completion = max(completion, total - prompt)
    cached = _count(usage.get("prompt_tokens_details"), "cached_tokens")
    if cached is None:
        cached = _count(usage, "prompt_cache_hit_tokens")  # DeepSeek's word
    reasoning = _count(usage.get("completion_tokens_details"), "reasoning_tokens")
    return Usage(prompt, completion, _part(cached, prompt), _part(reasoning, completion))


def _part(count: int | None, whole: int | None) -> int | None:
    """A count of some of the tokens; of more than there are, or of nobody knows how many, it says nothing."""
    return None if count is None or whole is None or count > whole else count


def _count(counts: Any, key: str) -> int | None:
    value = counts.get(key) if isinstance(counts, dict) else None
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None
