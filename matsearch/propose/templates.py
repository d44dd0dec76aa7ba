"""Prompt templates: one Jinja2 file each, from the one `prompts/` folder of the project or from a user's own.

A template of the project chooses how crystals are written, in a line of its own: `{% set representation = "cif" %}`;
without one they are POSCARs. Its variables are those of `VARIABLES`, and no others.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matsearch.crystal.representations import REPRESENTATIONS, Representation
from matsearch.errors import ConfigError

if TYPE_CHECKING:
    from jinja2 import Environment

VARIABLES = {
    "parents": "crystals to start from: .text .formula .space_group .energy_above_hull .stability .scores .competing",
    "failed": "the crystal that operator repair corrects, as a parent with .problem and .reason; None for others",
    "n_children": "how many crystals to ask for",
    "elements": "symbols that crystals may hold, or None",
    "whole_system": "whether a crystal must hold all of the elements",
    "stoichiometry": "such as `A:B:C = 1:1:3`, or None",
    "symmetry": "which space groups a crystal may have, in words, or None",
    "min_atoms": "least atoms in a cell, or None",
    "max_atoms": "most atoms in a cell, or None",
    "composition": "the formula to predict, or None",
    "objectives": "what is sought beside stability: .wish (words) .name .unit .direction .target, .best of the parents",
    "memory": ".worked and .failed: lists of .formula .space_group .operator .outcome",
    "conditions": "words of the embedded model that say what is sought",
}
"""What every template may use, and what it is."""
SYSTEM_VARIABLES = {"instructions": "how crystals are to be written"}


@cache
def templates_folder() -> Path:
    """Where the templates are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "prompts", package.parent / "prompts"):
        if (folder / "system.txt").is_file():
            return folder
    raise ConfigError(f"no prompt templates in {package}; install matsearch again")


class Templates:
    """The templates of a campaign: those of a folder of its own before those of the project, file by file.

    Args:
        own: The folder, with compact templates in its subfolder `compact`; or a set of the project's by name, such as
            `matllmsearch`. None for the project's alone.

    Raises:
        ConfigError: There is no such folder, or a file in it has no template's name.
    """

    def __init__(self, own: str | None = None) -> None:
        self._own = None if own is None else _own_folder(own)
        folders = [folder for folder in (self._own, templates_folder()) if folder is not None]
        self._environments = {"chat": _environment(folders), "compact": _environment([f / "compact" for f in folders])}
        self._representations: dict[str, Representation] = {}
        if self._own is not None:
            self._require_known_names()

    def names(self, style: str) -> list[str]:
        """Of all that can be rendered, sorted."""
        files = (name.removesuffix(".txt") for name in self._environments[style].list_templates(["txt"]))
        return sorted({name for name in files if "/" not in name and not name.startswith("_") and name != "system"})

    def own_names(self, style: str) -> list[str]:
        """Of those in the campaign's own folder."""
        if self._own is None:
            return []
        folder = self._own / "compact" if style == "compact" else self._own
        return [name for name in self.names(style) if (folder / f"{name}.txt").is_file()]

    def render(self, style: str, name: str, variables: Mapping[str, Any]) -> str:
        """The text of template `name` for backends of a style.

        Raises:
            ConfigError: There is no such template, or it cannot be rendered.
        """
        from jinja2 import TemplateError, TemplateNotFound, TemplateSyntaxError

        environment, where = self._environments[style], self._where(style, name)
        try:
            return environment.get_template(f"{name}.txt").render(variables).strip()
        except TemplateNotFound as err:
            raise self._missing(style, str(err.name or name)) from err
        except TemplateSyntaxError as err:
            raise ConfigError(f"prompt template {err.filename or where}, line {err.lineno}: {err.message}") from err
        except RecursionError as err:
            raise ConfigError(self._endless(style, name)) from err
        # What the expressions of a template raise.
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as err:
            known = ", ".join(_variables_of(name))
            raise ConfigError(f"prompt template {where}: {err}; variables: {known}") from err

    def representation(self, name: str) -> Representation:
        """How chat template `name` has crystals written.

        Raises:
            ConfigError: It names a representation that does not exist.
        """
        if name not in self._representations:
            wanted = self._wanted_representation(name)
            if wanted not in REPRESENTATIONS:
                raise ConfigError(
                    f"prompt template {self._where('chat', name)}: no representation goes by {wanted!r}; "
                    f"known: {', '.join(REPRESENTATIONS)}"
                )
            self._representations[name] = REPRESENTATIONS[wanted]
        return self._representations[name]

    def system(self, style: str, name: str) -> str:
        """The system turn that goes with a template; compact models have none."""
        if style == "compact":
            return ""
        return self.render(style, "system", {"instructions": self.representation(name).instructions})

    def hash(self, style: str, name: str) -> str:
        """The version of a template: of its text, of what it includes and of the system turn."""
        digest = hashlib.sha256()
        for file in self._versioned(style, name):
            digest.update(file.encode() + b"\0" + self._source(style, file).encode() + b"\0")
        return digest.hexdigest()[:16]

    def own_files(self, style: str, name: str) -> list[str]:
        """The user's own files among those whose text the version of a template is of."""
        if self._own is None or self._own.is_relative_to(templates_folder()):
            return []
        folder = self._own / "compact" if style == "compact" else self._own
        return [str(folder / file) for file in self._versioned(style, name) if (folder / file).is_file()]

    def _versioned(self, style: str, name: str) -> list[str]:
        return sorted({*self._files(style, name), *([] if style == "compact" else self._files(style, "system"))})

    def check(self, style: str, name: str, examples: Mapping[str, Mapping[str, Any]]) -> None:
        """Make sure that a template can be rendered, before anything is paid for.

        Args:
            style: `chat` or `compact`.
            name: Of the template.
            examples: What it may have to do with, in words, to such variables.

        Raises:
            ConfigError: It is no Jinja2, uses a variable or attribute that does not exist, or says nothing; names it.
        """
        for file in self._files(style, name):
            self._require_known_variables(style, file, _variables_of(name))
        if style == "chat":
            for file in self._files(style, "system"):
                self._require_known_variables(style, file, SYSTEM_VARIABLES)
        self.system(style, name)
        for words, example in examples.items():
            try:
                text = self.render(style, name, example)
            except ConfigError as err:
                raise ConfigError(f"{err} (tried with {words})") from err
            if not text:
                raise ConfigError(
                    f"prompt template {self._where(style, name)} is empty: it asks for nothing (tried with {words}); "
                    "write what is asked for, or remove the file"
                )

    def _require_known_variables(self, style: str, file: str, known: Mapping[str, str]) -> None:
        from jinja2 import TemplateSyntaxError, meta

        environment, where = self._environments[style], self._where(style, file.removesuffix(".txt"))
        try:
            used = meta.find_undeclared_variables(environment.parse(self._source(style, file)))
        except TemplateSyntaxError as err:
            raise ConfigError(f"prompt template {where}, line {err.lineno}: {err.message}") from err
        if unknown := sorted(used - known.keys() - environment.globals.keys()):
            raise ConfigError(
                f"prompt template {where}: unknown variable {unknown[0]!r}{_hint(unknown[0], known)}; "
                f"known variables: {', '.join(known)}"
            )

    def _wanted_representation(self, name: str) -> str:
        """What stands in the template's `{% set representation = ... %}`."""
        from jinja2 import nodes

        for node in self._environments["chat"].parse(self._source("chat", f"{name}.txt")).body:
            if isinstance(node, nodes.Assign) and getattr(node.target, "name", "") == "representation":
                return str(node.node.value) if isinstance(node.node, nodes.Const) else "an expression"
        return "poscar"

    def _files(self, style: str, name: str) -> list[str]:
        """A template's file and those that it includes."""
        found, waiting = [], [f"{name}.txt"]
        while waiting:
            file = waiting.pop()
            if file in found:
                continue
            found.append(file)
            waiting += self._included(style, file)
        return found

    def _included(self, style: str, file: str) -> list[str]:
        """The files that a file names in so many words."""
        from jinja2 import TemplateSyntaxError, meta

        try:
            included = meta.find_referenced_templates(self._environments[style].parse(self._source(style, file)))
            return [one for one in included if one is not None]
        except TemplateSyntaxError:
            return []  # said when it is rendered

    def _endless(self, style: str, name: str) -> str:
        """What is wrong with a template whose rendering never ends: the file that leads back to itself, if one does."""
        for file in self._files(style, name):
            where = self._where(style, file.removesuffix(".txt"))
            for one in self._included(style, file):
                if file in self._files(style, one.removesuffix(".txt")):
                    way = "itself" if one == file else f"{one}, which leads back to it"
                    return f"prompt template {where} includes {way}, without end"
        return f"prompt template {self._where(style, name)}: a macro in it calls itself without end"

    def _source(self, style: str, file: str) -> str:
        from jinja2 import TemplateNotFound

        environment = self._environments[style]
        assert environment.loader is not None
        try:
            return environment.loader.get_source(environment, file)[0]
        except TemplateNotFound as err:
            raise self._missing(style, file) from err
        except UnicodeDecodeError as err:
            raise ConfigError(f"prompt template {self._where(style, file.removesuffix('.txt'))} is not UTF-8") from err

    def _missing(self, style: str, file: str) -> ConfigError:
        known = ", ".join(self.names(style))
        return ConfigError(f"no prompt template {file.removesuffix('.txt')!r} for {style} backends; known: {known}")

    def _where(self, style: str, name: str) -> str:
        """The file of a template, as a message names it."""
        own = None if self._own is None else self._own / ("compact" if style == "compact" else "") / f"{name}.txt"
        return str(own) if own is not None and own.is_file() else f"{style}/{name}"

    def _require_known_names(self) -> None:
        assert self._own is not None
        files = [*self._own.glob("*.txt"), *self._own.glob("compact/*.txt")]
        if not files:
            raise ConfigError(f"[search] prompts: no template in {self._own}; expected files such as substitute.txt")
        for file in sorted(files):
            known = sorted(one.stem for one in (templates_folder() / file.parent.relative_to(self._own)).glob("*.txt"))
            if file.stem not in known and not file.name.startswith("_"):
                hint = _hint(file.stem, known)
                raise ConfigError(f"[search] prompts: {file} has no template's name{hint}; known: {', '.join(known)}")


def render(style: str, name: str, variables: Mapping[str, Any]) -> str:
    """The text of one of the project's templates for backends of a style.

    Raises:
        ConfigError: There is no such template.
    """
    return _project().render(style, name, variables)


@cache
def _project() -> Templates:
    return Templates()


def _variables_of(name: str) -> Mapping[str, str]:
    return SYSTEM_VARIABLES if name == "system" else VARIABLES


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _own_folder(own: str) -> Path:
    if Path(own).is_absolute():
        if not Path(own).is_dir():
            raise ConfigError(
                f"[search] prompts: there is no folder {own}; name the one with the templates (a run that has begun "
                "needs those that it began with: put it back)"
            )
        return Path(own)
    sets = sorted(_sets())
    if own not in sets:
        raise ConfigError(
            f"[search] prompts: there is no folder {own!r} beside the campaign file, and no set of the package's goes "
            f"by that name; sets: {', '.join(sets)}"
        )
    return templates_folder() / own


def _sets() -> Iterator[str]:
    """Names of the other sets of templates that the project has."""
    for folder in templates_folder().iterdir():
        if folder.is_dir() and folder.name != "compact":
            yield folder.name


def _environment(folders: Sequence[Path]) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folders),  # the first that has a file
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # plain text, never HTML
    )
