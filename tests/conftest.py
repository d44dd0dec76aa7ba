"""What several tests share: a small scripted campaign on the shipped reference."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from scripted_campaign import good_replies


@pytest.fixture
def write_campaign(tmp_path: Path):
    """Writes a scripted campaign in Li-Mg-Ti-O and returns its file.

    Keyword arguments: `replies` (list of texts), `search`, `llm`, `more` (TOML lines), `preset`, `name`.
    """

    def write(
        replies: list[str] | None = None,
        *,
        name: str = "scripted",
        preset: str = "matllmsearch-v1",
        search: str = "generations = 2\npopulation = 4\nseeds = 3\nchildren_per_prompt = 2",
        llm: str = "",
        more: str = "",
    ) -> Path:
        (tmp_path / "replies.jsonl").write_text("".join(json.dumps(text) + "\n" for text in replies or good_replies()))
        path = tmp_path / f"{name}.toml"
        path.write_text(
            f'name = "{name}"\npreset = "{preset}"\n{more if not more.startswith("[") else ""}\n'
            f'[space]\nelements = ["Li", "Mg", "Ti", "O"]\nmax_atoms = 8\n'
            f'[llm]\nbackend = "scripted"\nmodel = "script"\noptions = {{ replies = "replies.jsonl"{llm} }}\n'
            f"[search]\n{search}\n[relax]\nforce_tol = 0.1\nmax_steps = 100\n{more if more.startswith('[') else ''}\n"
        )
        return path

    return write


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]):
    """Runs the command line in this process; returns (exit status, stdout, stderr)."""
    import sys

    from matsearch.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        before, sys.argv = sys.argv, ["matsearch", *map(str, arguments)]
        try:
            # The command silences what libraries warn about; here a warning stays an error.
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                main()
            status = 0
        except SystemExit as end:
            status = 0 if end.code is None else int(end.code)
        finally:
            sys.argv = before
        out, err = capsys.readouterr()
        return status, out, err

    return run
