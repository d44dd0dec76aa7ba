"""A reply that comes piece by piece, put together again."""

from __future__ import annotations

import json
from typing import Any

from matsearch.llm.decoding import decode

# A body that is no stream is kept up to here: enough to say what it is.
MAX_OTHER_BYTES = 4_000_000
# A crystal needs a few hundred characters; nobody needs the end of a stream that does not end.
MAX_CHARACTERS = 2_000_000


class StreamedReply:
    """Turns the server-sent events of a reply into the body that it would have had in one piece.

    Attributes:
        complete: The reply is at its end: the endpoint said why, or sent `[DONE]`, or an error.
    """

    def __init__(self) -> None:
        self.complete = False
        self._n_events = 0
        self._n_characters = 0
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._reason: str | None = None
        self._other = bytearray()
        self._rest: dict[str, Any] = {}

    def add(self, line: bytes) -> bool:
        """Take one line; whether it brought something new, which comments that keep a connection open do not."""
        line = line.rstrip(b"\r\n")
        if not line.startswith(b"data:"):
            if not self._n_events and len(self._other) < MAX_OTHER_BYTES:
                self._other += line + b"\n"
            return bool(line) and not line.startswith(b":")
        self._n_events += 1
        text, is_utf8 = decode(line.removeprefix(b"data:").strip())
        if not is_utf8:
            self._reason = "not_utf8"
        if text == "[DONE]":
            self.complete = True
            return True
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            return True  # one broken event does not make the others worthless
        if isinstance(event, dict):
            self._take(event)
        return True

    @property
    def broke_off(self) -> bool:
        """Whether the stream had begun and ended before the reply did."""
        return self._n_events > 0 and not self.complete and not self.is_too_long

    @property
    def is_too_long(self) -> bool:
        """Whether there is more than anybody will read."""
        return self._n_characters > MAX_CHARACTERS

    def body(self) -> bytes:
        """As a Chat Completions body; or what came, where that was no stream."""
        if not self._n_events:
            return bytes(self._other.rstrip(b"\n"))
        if "error" in self._rest:
            return json.dumps({"error": self._rest["error"]}).encode()
        message = {"content": "".join(self._text), "refusal": "".join(self._refusal)}
        choices = [{"index": 0, "message": message, "finish_reason": self._reason}] if self._seen_choice else []
        return json.dumps({**self._rest, "choices": choices}).encode()

    @property
    def _seen_choice(self) -> bool:
        return bool(self._text or self._refusal or self._reason)

    def _take(self, event: dict[str, Any]) -> None:
        if event.get("error"):
            self._rest["error"], self.complete = event["error"], True
            return
        for key in ("model", "usage"):
            if event.get(key):
                self._rest[key] = event[key]
        for choice in _dicts(event.get("choices")):
            if choice.get("index", 0) == 0:
                self._take_choice(choice)

    def _take_choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        for key, pieces in (("content", self._text), ("refusal", self._refusal)):
            if isinstance(piece := delta.get(key), str):
                pieces.append(piece)
                self._n_characters += len(piece)
        if isinstance(reason := choice.get("finish_reason"), str) and reason:
            self._reason, self.complete = self._reason or reason, True


def in_one_piece(body: bytes) -> bytes:
    """A whole body; one of events is put together, as endpoints that stream unasked send it."""
    if not body.lstrip().startswith(b"data:"):
        return body
    reply = StreamedReply()
    for line in body.split(b"\n"):
        reply.add(line)
    return reply.body()


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
