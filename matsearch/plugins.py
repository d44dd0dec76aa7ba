"""One way to find a thing by name: built in, `"pkg.module:Attr"`, or an entry point."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from matsearch.errors import ConfigError, MatsearchError


def entry_point_names(group: str) -> list[str]:
    """Names that installed packages register under the entry-point group."""
    return sorted(point.name for point in metadata.entry_points(group=group))


def resolve(kind: str, name: str, builtins: Mapping[str, str]) -> Any:
    """Import what a name stands for.

    Args:
        kind: What it is, for messages and as the entry-point group `matsearch.<kind>s`.
        name: A key of `builtins`, an entry point's name, or `"pkg.module:Attr"`.
        builtins: Name to `"pkg.module:Attr"`, so that nothing is imported before it is asked for.

    Raises:
        ConfigError: Nothing goes by that name, or importing it failed; names the known ones.
    """
    if name in builtins:
        return import_path(kind, builtins[name])
    if ":" in name:
        return import_path(kind, name)
    group = f"matsearch.{kind}s"
    for point in metadata.entry_points(group=group):
        if point.name == name:
            with _importing(f"{kind} {name!r}", point.module):
                module = importlib.import_module(point.module)
            return _attribute(f"{kind} {name!r}", module, point.attr)
    known = ", ".join(sorted(builtins) + entry_point_names(group))
    raise ConfigError(f'unknown {kind} {name!r}; known: {known}, or a path "pkg.module:Attr"')


def import_path(kind: str, path: str) -> Any:
    """Import `"pkg.module:Attr"`, or `"folder/module.py:Attr"`.

    Raises:
        ConfigError: The module or the attribute does not exist, or the module cannot be imported.
    """
    module_name, _, attribute = path.rpartition(":")
    what = f"{kind} {path!r}"
    if not module_name or not attribute or module_name.startswith("."):
        raise ConfigError(f'{what}: a path is "pkg.module:Attr" or "folder/module.py:Attr"')
    is_file = module_name.endswith(".py")
    if is_file and not Path(module_name).is_file():
        raise ConfigError(f"{what}: there is no file {module_name}")
    with _importing(what, module_name):
        module = _import_file(Path(module_name)) if is_file else importlib.import_module(module_name)
    return _attribute(what, module, attribute)


@cache  # a file may be edited while what was imported from it is at work
def source_hash(found: Any) -> str:
    """The version of a function or class: of the file that it was imported from, of the main program its own text.

    Empty where there is no such text, as for what is built in.
    """
    try:
        if found.__module__ == "__main__":
            text = inspect.getsource(found).encode()
        else:
            file = inspect.getsourcefile(found)
            text = b"" if file is None else Path(file).read_bytes()
    except (AttributeError, OSError, TypeError):
        return ""
    return hashlib.sha256(text).hexdigest()[:16] if text else ""


@contextmanager
def _importing(what: str, module_name: str) -> Iterator[None]:
    try:
        yield
    except MatsearchError:
        raise
    except ModuleNotFoundError as err:
        # A missing import inside the module says its own name.
        raise ConfigError(f"{what}: no module named {err.name!r}; is it installed?") from err
    except (Exception, SystemExit) as err:  # someone else's module may raise anything
        raise ConfigError(f"{what}: importing {module_name} failed with {type(err).__name__}: {err}") from err


def _attribute(what: str, module: ModuleType, path: str) -> Any:
    found: Any = module
    try:
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except AttributeError as err:
        raise ConfigError(f"{what}: module {module.__name__!r} has no {path!r}") from err
    return found


def _import_file(path: Path) -> ModuleType:
    """Import a Python file under a name of its own, once a process."""
    name = f"_matsearch_file_{path.resolve()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
