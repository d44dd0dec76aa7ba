"""The wire: Chat Completions requests on one connection pool, sent from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from matsearch.errors import BackendUnavailableError
from matsearch.llm.chat_stream import StreamedReply, in_one_piece

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

# An endpoint that is there accepts a connection at once, however long it then takes to reply.
CONNECT_TIMEOUT = 10.0
OK = 200
# Of a stream, in bytes: what is longer is none.
MAX_LINE = 4_000_000
# Closing waits no longer than this for connections to end in good manners; the thread is a daemon.
CLOSE_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one request.

    Attributes:
        status: HTTP status; None where no whole answer came.
        body: The bytes as they came; of a stream, those that the same reply would have had in one piece. Where the
            stream broke off, what had come.
        retry_after: Seconds that the endpoint asks to wait before the next request.
        trouble: Why no answer came: `refused` and the like, for a person.
        unreachable: No connection came about at all.
        timed_out: The reply took too long.
    """

    status: int | None = None
    body: bytes = b""
    retry_after: float | None = None
    trouble: str = ""
    unreachable: bool = False
    timed_out: bool = False


class ChatSession:
    """An `AsyncOpenAI` client that lives on an event loop in a thread of its own.

    The thread starts with the first request, so that a backend which is only configured holds nothing.

    Args:
        key: The key to send.
        base_url: The endpoint.
        timeout: Seconds from sending a request to having all of its reply, or the next piece of one that is streamed.
        direct: Whether to pass by any proxy that the environment names.
    """

    def __init__(self, key: str, base_url: str, *, timeout: float, direct: bool) -> None:
        self._key = key
        self._base_url = base_url
        self._timeout = timeout
        self._direct = direct
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: AsyncOpenAI | None = None
        self._stop: asyncio.Event | None = None
        self._pending: set[Future[Any]] = set()

    def run(self, jobs: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Run coroutines on the session's loop and wait for all of them.

        The first exception is raised after the other jobs were cancelled; so is Ctrl-C.

        Raises:
            BackendUnavailableError: The session was closed before or meanwhile.
        """
        futures = self._submit(jobs)
        try:
            return [future.result() for future in futures]
        except CancelledError:
            raise self._closed_error() from None
        finally:
            for future in futures:
                future.cancel()

    async def post(self, **request: Any) -> Answer:
        """Send one request. Whatever happens on the way is an answer, not an exception."""
        import openai

        pieces = StreamedReply()
        try:
            async with asyncio.timeout(self._timeout) as clock:
                return await self._send(request, pieces, clock)
        except (TimeoutError, openai.APITimeoutError) as err:
            # The cause tells a server that never took the connection from one that took it and kept silent.
            unreachable = type(err.__cause__).__name__ == "ConnectTimeout"
            failed = Answer(body=pieces.body(), trouble="timed out", unreachable=unreachable, timed_out=True)
        except openai.APIStatusError as err:
            raw = err.response
            failed = Answer(raw.status_code, raw.content, retry_after=_seconds(raw.headers.get("retry-after")))
        except (openai.APIConnectionError, _transport_error()) as err:
            unreachable = type(err.__cause__).__name__ == "ConnectError"
            failed = Answer(body=pieces.body(), trouble=_cause(err), unreachable=unreachable)
        # What goes wrong behind the end of a reply does not matter.
        return Answer(OK, pieces.body()) if pieces.complete else failed

    async def _send(self, request: dict[str, Any], pieces: StreamedReply, clock: asyncio.Timeout) -> Answer:
        assert self._client is not None  # jobs only run on a loop whose client is there
        chat = self._client.chat.completions
        if not request.get("stream"):
            response = await chat.with_raw_response.create(**request)
            return Answer(response.http_response.status_code, in_one_piece(response.http_response.content))
        rest = b""
        async with chat.with_streaming_response.create(**request) as response:
            async for block in response.iter_bytes():
                # By hand: httpx would also split at the line ends of other scripts, which may stand inside JSON.
                *lines, rest = (rest + block).split(b"\n")
                brought = [pieces.add(line) for line in lines]
                if any(brought):
                    clock.reschedule(asyncio.get_running_loop().time() + self._timeout)
                if pieces.is_too_long or len(rest) > MAX_LINE:
                    break
            pieces.add(rest)
        if pieces.broke_off:
            return Answer(body=pieces.body(), trouble="the stream ended before the reply did")
        return Answer(response.status_code, pieces.body())

    def close(self) -> None:
        """Drop what is under way, close the connections, end the thread. May be called twice.

        Those who wait in `run` are released at once, however long their requests take to be cancelled.
        """
        with self._lock:
            self._closed = True
            pending = list(self._pending)
            thread, self._thread = self._thread, None
            if thread is None or self._loop is None or self._stop is None:
                return
            self._loop.call_soon_threadsafe(self._stop.set)
        for future in pending:
            future.cancel()
        thread.join(CLOSE_TIMEOUT)

    def _submit(self, jobs: Sequence[Coroutine[Any, Any, T]]) -> list[Future[T]]:
        # Under the lock, so that nothing is handed to a loop that is being closed.
        with self._lock:
            if self._closed:
                for job in jobs:
                    job.close()
                raise self._closed_error()
            if self._thread is None:
                self._start()
            assert self._loop is not None
            futures = [asyncio.run_coroutine_threadsafe(job, self._loop) for job in jobs]
            self._pending.update(futures)
        for future in futures:
            future.add_done_callback(self._pending.discard)
        return futures

    def _start(self) -> None:
        import openai

        timeout = openai.Timeout(self._timeout, connect=min(self._timeout, CONNECT_TIMEOUT))
        self._client = openai.AsyncOpenAI(
            api_key=self._key,
            base_url=self._base_url,
            timeout=timeout,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(timeout=timeout, trust_env=not self._direct),
        )
        ready = threading.Event()
        serve = self._serve(self._client, ready)
        self._thread = threading.Thread(target=asyncio.run, args=(serve,), name="matsearch-openai", daemon=True)
        self._thread.start()
        ready.wait()

    async def _serve(self, client: AsyncOpenAI, ready: threading.Event) -> None:
        """Keep the client open until `close`."""
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        ready.set()
        async with client:
            await self._stop.wait()
            await self._cancel_jobs()

    async def _cancel_jobs(self) -> None:
        jobs = asyncio.all_tasks() - {asyncio.current_task()}
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    def _closed_error(self) -> BackendUnavailableError:
        return BackendUnavailableError("the LLM backend was closed while a reply was asked for")


def _transport_error() -> type[Exception]:
    """What the HTTP library under `openai` raises: httpx2 since its version 3, httpx before."""
    import openai

    (client,) = openai.DefaultAsyncHttpxClient.__bases__
    error: type[Exception] = import_module(client.__module__.partition(".")[0]).HTTPError
    return error


def _cause(err: Exception) -> str:
    """The innermost reason of a failed connection: `Connection refused`, `Name or service not known`, ..."""
    deepest: BaseException = err
    while (inner := deepest.__cause__ or deepest.__context__) is not None:
        deepest = inner
    if isinstance(deepest, ConnectionRefusedError):
        return "connection refused"
    return str(deepest) or type(deepest).__name__


def _seconds(header: str | None) -> float | None:
    """A Retry-After header, which is a number of seconds or a date."""
    if header is None:
        return None
    with suppress(ValueError):
        seconds = float(header)
        return seconds if 0.0 <= seconds < float("inf") else None
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
