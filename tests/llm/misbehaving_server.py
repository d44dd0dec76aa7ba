"""A Chat Completions endpoint on loopback that does as it is told: one deed a request, then good replies."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-very-secret-0123456789"


@dataclass(frozen=True)
class Deed:
    """How to answer one request.

    Attributes:
        body: The body; None gives a good reply that depends on prompt and seed alone.
        cut_after: Bytes of the body after which the connection is closed.
        delay: Seconds before anything is sent.
        pieces: Of a streamed reply, how many are sent before the connection is closed; None for all and a good end.
        pause: Seconds before each piece of a streamed reply.
        text: What a good reply says; None for one that depends on prompt and seed alone.
        end: What follows the pieces of a streamed reply.
    """

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    delay: float = 0.0
    pieces: int | None = None
    pause: float = 0.0
    text: str | None = None
    end: bytes = b"data: [DONE]\n\n"


GOOD = Deed()
Always = Deed | Callable[[dict], Deed]


def error(status: int, message: str, headers: dict[str, str] | None = None, **fields: str) -> Deed:
    return Deed(status, json.dumps({"error": {"message": message, **fields}}).encode(), headers or {})


def reply(text: str | None, finish_reason: str = "stop", prompt_tokens: int = 7, **message: str) -> bytes:
    return json.dumps(
        {
            "model": "tiny-1",
            "choices": [{"index": 0, "finish_reason": finish_reason, "message": {"content": text, **message}}],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
        }
    ).encode()


def events(text: str, prompt_tokens: int = 7, with_usage: bool = True) -> list[bytes]:
    """A reply as server-sent events, with a comment that only keeps the connection open."""
    whole = json.loads(reply(None, prompt_tokens=prompt_tokens))
    words = re.findall("[^ ]+ ?| +", text)
    choices = [{"index": 0, "delta": {"content": word}, "finish_reason": None} for word in words]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    found = [{"model": "tiny-1", "choices": [choice]} for choice in choices]
    if with_usage:
        found.append({"model": "tiny-1", "choices": [], "usage": whole["usage"]})
    sent = [f"data: {json.dumps(event)}\n\n".encode() for event in found]
    return [b": still here\n\n", *sent]


class Endpoint(ThreadingHTTPServer):
    """The server, with a record of what it was asked.

    Attributes:
        requests: The JSON body of each request, in the order of arrival.
        keys: The Authorization header of each.
        busiest: The largest number of requests that were open at the same time.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, deeds: Sequence[Deed], always: Always) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._deeds = list(deeds)
        self._always = always
        self._lock = threading.Lock()
        self._open = 0
        self.busiest = 0
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address) -> None:
        """Clients of these tests hang up on purpose."""

    def next_deed(self, body: dict, key: str | None) -> Deed:
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            self._open += 1
            self.busiest = max(self.busiest, self._open)
            if self._deeds:
                return self._deeds.pop(0)
            return self._always if isinstance(self._always, Deed) else self._always(body)

    def done(self) -> None:
        with self._lock:
            self._open -= 1


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        deed = self.server.next_deed(body, self.headers.get("Authorization"))
        if self.path != "/v1/chat/completions":
            deed = error(404, f"no such path {self.path}")
        if deed.delay:
            self.server.stopping.wait(deed.delay)
        content = deed.body
        if content is None:
            prompt = body["messages"][-1]["content"]
            text = f"answer to {prompt} with seed {body.get('seed')}" if deed.text is None else deed.text
            if body.get("stream"):
                self.stream(text, len(prompt.split()), deed, bool(body.get("stream_options")))
                return
            content = reply(text, prompt_tokens=len(prompt.split()))
        self.send_response(deed.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in deed.headers.items():
            self.send_header(name, value)
        self.server.done()
        self.end_headers()
        self.wfile.write(content[: deed.cut_after])
        if deed.cut_after is not None:
            self.close_connection = True

    def stream(self, text: str, prompt_tokens: int, deed: Deed, with_usage: bool) -> None:
        """The reply word by word, as server-sent events in HTTP chunks."""
        self.send_response(deed.status)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events(text, prompt_tokens, with_usage)[: deed.pieces]:
            self.server.stopping.wait(deed.pause)
            self.send_chunk(event)
        self.server.done()
        if deed.pieces is None:
            self.send_chunk(deed.end)
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def send_chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@contextmanager
def serving(*deeds: Deed, always: Always = GOOD) -> Iterator[Endpoint]:
    """An endpoint that answers with the deeds in turn, then with `always`, or what that makes of the request."""
    with Endpoint(deeds, always) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()
