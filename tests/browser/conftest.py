"""A headless browser for the tests of pages; where there is none they skip, unless MATSEARCH_REQUIRE_BROWSER is set."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from large_run import make_large_run

from matsearch.report.page import write_report
from matsearch.store import RunStore

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def _without(what: str) -> None:
    if os.environ.get("MATSEARCH_REQUIRE_BROWSER"):
        pytest.fail(f"MATSEARCH_REQUIRE_BROWSER is set, but there is no {what}")
    pytest.skip(f"no {what}: the page is not tried in a browser")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Chromium of the system. Of the module: Playwright keeps an event loop in this thread while it lives."""
    found = next(
        (one for name in ("chromium", "chromium-browser", "google-chrome") if (one := shutil.which(name))), None
    )
    if found is None:
        _without("chromium (apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _without('playwright (pip install -e ".[test]")')
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def large_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a campaign of 5,000 candidates, with its report."""
    return _reported(make_large_run(tmp_path_factory.mktemp("large") / "large"))


@pytest.fixture(scope="session")
def some_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of 400 candidates."""
    return _reported(make_large_run(tmp_path_factory.mktemp("some") / "some", 400))


def _reported(run_dir: Path) -> Path:
    with RunStore(run_dir, writable=False) as store:
        write_report(store)
    return run_dir
