"""Prompt templates: one Jinja2 file each, from the one `prompts/` folder of the project."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matsearch.errors import ConfigError

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def templates_folder() -> Path:
    """Where the templates are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "prompts", package.parent / "prompts"):
        if (folder / "system.txt").is_file():
            return folder
    raise ConfigError(f"no prompt templates in {package}; install matsearch again")


@cache
def _environment(style: str) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = templates_folder() / "compact" if style == "compact" else templates_folder()
    return Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # plain text, never HTML
    )


def render(style: str, name: str, variables: Mapping[str, Any]) -> str:
    """The text of template `name` for backends of a style.

    Raises:
        ConfigError: There is no such template.
    """
    from jinja2 import TemplateNotFound

    try:
        template = _environment(style).get_template(f"{name}.txt")
    except TemplateNotFound as err:
        known = ", ".join(sorted(n.removesuffix(".txt") for n in _environment(style).list_templates()))
        raise ConfigError(f"no prompt template {name!r} for {style} backends; known: {known}") from err
    return template.render(variables).strip()


def system_text(style: str) -> str:
    """The system turn: compact models have none."""
    return "" if style == "compact" else (templates_folder() / "system.txt").read_text(encoding="utf-8").strip()


@cache
def templates_hash(style: str) -> str:
    """One hash of every template of a style: its version."""
    folder = templates_folder() / "compact" if style == "compact" else templates_folder()
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.txt")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
