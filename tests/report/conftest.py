"""Run folders for the tests of reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_run import fill, make_store

from matsearch.store import RunStore


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    made = make_store(tmp_path / "small")
    with RunStore(made, writable=True) as store:
        fill(store)
    return made


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run folder with meta rows and no candidates."""
    return lambda **meta: make_store(tmp_path / "empty", **meta)
