"""What several tests share: a small scripted campaign on the shipped reference."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

# (prototype, lattice parameter in Å, elements): small cells, quick to relax, most of them not in nature.
CRYSTALS = [
    ("CsCl", 2.6, ("Mg", "O")),
    ("NaCl", 4.2, ("Ti", "O")),
    ("zincblende", 4.6, ("Mg", "O")),
    ("CsCl", 3.2, ("Li", "Mg")),
    ("NaCl", 4.1, ("Li", "O")),
    ("fluorite", 4.8, ("Ti", "O")),
    ("CsCl", 3.0, ("Li", "Ti")),
    ("NaCl", 4.3, ("Mg", "O")),
    ("fluorite", 4.7, ("Li", "O")),
]
SITES = {
    "CsCl": ("primitive", [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "NaCl": ("fcc", [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "zincblende": ("fcc", [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "fluorite": ("fcc", [[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]]),
}


def poscar(prototype: str, a: float, elements: tuple[str, str]) -> str:
    """A VASP 5 POSCAR of a binary prototype in its primitive cell."""
    centring, sites = SITES[prototype]
    half = a / 2
    cell = (
        [[a, 0, 0], [0, a, 0], [0, 0, a]]
        if centring == "primitive"
        else [[0, half, half], [half, 0, half], [half, half, 0]]
    )
    lines = [f"{elements[0]} {elements[1]} {prototype}", "1.0"]
    lines += [" ".join(f"{x:.6f}" for x in vector) for vector in cell]
    lines += [" ".join(elements), f"1 {len(sites) - 1}", "direct"]
    lines += [" ".join(f"{x:.6f}" for x in site) for site in sites]
    return "\n".join(lines)


def reply(*crystals: str) -> str:
    """A chat model's reply that holds POSCARs."""
    return "Here are the structures.\n" + "\n".join(f"```\n{text}\n```" for text in crystals)


def good_replies() -> list[str]:
    """Replies with two crystals each."""
    texts = [poscar(*crystal) for crystal in CRYSTALS]
    return [reply(texts[i], texts[(i + 1) % len(texts)]) for i in range(len(texts))]


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
