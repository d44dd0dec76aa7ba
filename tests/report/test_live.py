"""The served page: on loopback alone, read only, new when the run has changed."""

from __future__ import annotations

import http.client
import threading
from contextlib import contextmanager

import pytest

from matsearch.report import live as live_module
from matsearch.report.live import LiveReport, LiveServer
from matsearch.store import RunStore


@contextmanager
def serving(run_dir):
    with LiveServer(run_dir) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def ask(port, path="/", method="GET", host=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def test_the_page_is_served_to_this_machine_and_may_ask_its_server_alone(run_dir):
    with serving(run_dir) as port:
        answer, text = ask(port)
        assert answer.status == 200
        assert "of 12 proposed" in text
        assert "connect-src 'self'" in text
        _, state = ask(port, "/state")
        assert f'data-version="{state}"' in text
    assert not (run_dir / "report.html").exists()  # nothing is written


@pytest.mark.parametrize(
    ("path", "method", "host", "status"),
    [
        ("/run.sqlite", "GET", None, 404),
        ("/../run.sqlite", "GET", None, 404),
        ("/", "POST", None, 501),
        ("/", "GET", "evil.example", 403),
        ("/state", "GET", "evil.example:80", 403),
    ],
)
def test_nothing_else_is_answered(run_dir, path, method, host, status):
    with serving(run_dir) as port:
        answer, text = ask(port, path, method, host)
    assert answer.status == status
    assert "TiO" not in text


def test_news_make_a_new_page_but_not_all_the_time(run_dir, monkeypatch):
    report = LiveReport(run_dir)
    version, _ = report.current()
    with RunStore(run_dir, writable=True) as store:
        store.set_meta("status", "running")
    assert report.current()[0] == version  # it has just been made, and the campaign needs the machine
    monkeypatch.setattr(report, "_not_before", 0.0)
    other, page = report.current()
    assert other != version
    assert b'<span class="badge on">running</span>' in page


def test_a_run_that_goes_away_is_said(run_dir, monkeypatch):
    monkeypatch.setattr(live_module, "SHARE", 1.0)
    with serving(run_dir) as port:
        assert ask(port)[0].status == 200
        for path in run_dir.glob("run.sqlite*"):
            path.unlink()
        answer, text = ask(port, "/state")
    assert answer.status == 503
    assert "no campaign in" in text


def test_text_and_live_exclude_each_other(run_dir, command):
    status, _, err = command("report", run_dir, "--text", "--live")
    assert status == 2
    assert "give one of them" in err


def test_a_folder_without_a_campaign_is_not_served(tmp_path, command):
    status, _, err = command("report", tmp_path, "--live")
    assert status == 2
    assert "no campaign in" in err
