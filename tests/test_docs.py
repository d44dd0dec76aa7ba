"""What the documentation shows works as it stands there.

Python blocks with a title are modules that the others import; test files among them run here as tests of their own.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
import tomllib
import types
from pathlib import Path

import pytest
import typer.main

from matsearch.cli.main import app
from matsearch.config import load_config

ROOT = Path(__file__).resolve().parent.parent
PAGES = {str(path.relative_to(ROOT / "docs")): path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.md")}
BLOCK = re.compile(r"```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """Title (or none) and text of each."""
    return [(title, text) for kind, title, text in BLOCK.findall(PAGES[page]) if kind == language]


def with_blocks(language: str) -> list[str]:
    return sorted(page for page in PAGES if blocks(page, language))


for page in with_blocks("python"):
    for title, text in blocks(page, "python"):
        if title:
            module = types.ModuleType(title.removesuffix(".py"))
            # A page shows how to make a module; to import it, a file would do the same.
            sys.modules.setdefault(module.__name__, module)
            exec(compile(text, f"docs/{page}:{title}", "exec"), module.__dict__)
            if title.startswith("test_"):
                globals().update({name: one for name, one in vars(module).items() if name.startswith("Test")})


@pytest.mark.parametrize(
    "page", [page for page in with_blocks("python") if any(not t for t, _ in blocks(page, "python"))]
)
def test_python_without_a_title_runs(page):
    exec(compile("\n".join(text for title, text in blocks(page, "python") if not title), page, "exec"), {})


@pytest.mark.parametrize("page", with_blocks("toml"))
def test_campaign_files_are_valid(page, tmp_path):
    for language in ("python", "text"):
        for title, text in blocks(page, language):
            if title:
                (tmp_path / title).parent.mkdir(exist_ok=True)
                (tmp_path / title).write_text(text)
    for title, text in blocks(page, "toml"):
        (tmp_path / title).write_text(text)
        config = load_config(tmp_path / title)
        # A module beside the file is found there.
        written = tomllib.loads(text)
        if "backend" in written.get("llm", {}) and ":" in written["llm"]["backend"]:
            assert config.llm[0].backend.startswith(str(tmp_path))
        own = [one["name"] for one in written.get("objectives", []) if ":" in one["name"]]
        assert all(
            any(one.name == f"{tmp_path / name.replace(':', '.py:')}" for one in config.objectives) for name in own
        )


def test_commands_exist_with_the_options_shown():
    known = typer.main.get_command(app)
    seen = set()
    for page in with_blocks("bash"):
        for _, text in blocks(page, "bash"):
            for line in text.splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] != ["matsearch"] or words[1:] == ["--version"]:
                    continue
                command, rest = known, words[1:]
                while rest and rest[0] in getattr(command, "commands", {}):
                    command, rest = command.commands[rest[0]], rest[1:]
                assert command is not known, line
                options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
                assert {word for word in rest if word.startswith("--")} <= options, line
                seen.add(words[1])
    assert {"run", "report", "show", "evaluate", "compare", "judge", "leaderboard", "reference"} <= seen


def test_every_page_is_in_the_navigation_and_names_what_there_is():
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page, text in PAGES.items():
        assert page in navigation
        for name in re.findall(r"^::: ([\w.]+)$", text, flags=re.MULTILINE):
            assert exists(name), f"{name} in docs/{page}"


def exists(name: str) -> bool:
    """Whether a module, or something defined at the top of one, goes by a dotted name; nothing is imported."""
    path = ROOT / name.replace(".", "/")
    if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
        return True
    parent = path.parent.with_suffix(".py")
    if not parent.is_file():
        return False
    defined = ast.parse(parent.read_text("utf-8")).body
    return path.name in {one.name for one in defined if isinstance(one, ast.ClassDef | ast.FunctionDef)}
