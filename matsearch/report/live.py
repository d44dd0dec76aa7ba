"""The page of a campaign that goes on, served on this machine alone; the run store is only read."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from matsearch.errors import MatsearchError
from matsearch.report.page import LivePage, live_page
from matsearch.store import RunStore

HOST = "127.0.0.1"
SECONDS = 5.0
"""Between two questions of a page whether there is news."""
SHARE = 0.1
"""Of its time the server spends at most this much on making pages: the campaign needs the machine."""

# Whatever is committed changes one of these.
_STATE = (
    "SELECT (SELECT COUNT(*) FROM candidates) AS candidates, (SELECT COUNT(*) FROM replies) AS replies, "
    "(SELECT COUNT(*) FROM relaxations) AS relaxations, (SELECT COUNT(*) FROM scores) AS scores, "
    "(SELECT COUNT(*) FROM candidates WHERE stage = 'scored') AS scored, "
    "(SELECT COUNT(*) FROM candidates WHERE add_status IS NOT NULL) AS told, "
    "(SELECT value FROM meta WHERE key = 'status') AS status"
)


class LiveReport:
    """The page of a run, made anew when the run has changed, but not all the time.

    Attributes:
        run_dir: The run folder.
    """

    def __init__(self, run_dir: Path) -> None:
        """Nothing is made before it is asked for."""
        self.run_dir = run_dir
        self._lock = threading.Lock()
        self._page: LivePage | None = None
        self._text = b""
        self._not_before = 0.0

    def current(self) -> tuple[str, bytes]:
        """The version and the text of the page.

        Raises:
            StoreError: The database cannot be read.
        """
        with self._lock:
            if time.monotonic() >= self._not_before:
                self._refresh()
            assert self._page is not None, "the first call makes it"
            return self._page.version, self._text

    def _refresh(self) -> None:
        start = time.monotonic()
        with RunStore(self.run_dir, writable=False) as store:
            state = store.row(_STATE)
            version = " ".join(str(value) for value in tuple(state or ()))
            if self._page is not None and self._page.version == version:
                return
            self._page = LivePage(SECONDS, version)
            self._text = live_page(store, self._page).encode()
        now = time.monotonic()
        self._not_before = now + (now - start) * (1 / SHARE - 1)


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    server_version, sys_version = "matsearch", ""

    def do_GET(self) -> None:
        port = self.server.server_address[1]
        # A page of another site that has its name point here must not read the run.
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"this report is read at its own address only\n")
            return
        if self.path not in ("/", "/state"):
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is only / here\n")
            return
        try:
            version, page = self.server.report.current()
        except MatsearchError as err:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{err}\n".encode())
            return
        if self.path == "/":
            self._answer(HTTPStatus.OK, "text/html", page)
        else:
            self._answer(HTTPStatus.OK, "text/plain", version.encode())

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):  # a page that was closed needs no answer
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing: a page asks every few seconds."""


class LiveServer(ThreadingHTTPServer):
    """Serves a run's page on a free port of the loopback address."""

    daemon_threads = True

    def __init__(self, run_dir: Path) -> None:
        super().__init__((HOST, 0), _Handler)
        self.report = LiveReport(run_dir)

    @property
    def address(self) -> str:
        """What a person opens."""
        return f"http://{HOST}:{self.server_address[1]}/"
