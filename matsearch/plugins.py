"""One way to find a thing by name: built in, `"pkg.module:Attr"`, or an entry point."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from matsearch.errors import ConfigError


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
            return point.load()
    known = ", ".join(sorted(builtins) + entry_point_names(group))
    raise ConfigError(f'unknown {kind} {name!r}; known: {known}, or a path "pkg.module:Attr"')


def import_path(kind: str, path: str) -> Any:
    """Import `"pkg.module:Attr"`, or `"folder/module.py:Attr"`.

    Raises:
        ConfigError: The module or the attribute does not exist.
    """
    module_name, _, attribute = path.rpartition(":")
    try:
        module = (
            _import_file(Path(module_name)) if module_name.endswith(".py") else importlib.import_module(module_name)
        )
    except ModuleNotFoundError as err:
        # A missing import inside the module says its own name.
        raise ConfigError(f"{kind} {path!r}: no module named {err.name!r}; is it installed?") from err
    except FileNotFoundError as err:
        raise ConfigError(f"{kind} {path!r}: there is no file {module_name}") from err
    try:
        return getattr(module, attribute)
    except AttributeError as err:
        raise ConfigError(f"{kind} {path!r}: module {module_name!r} has no {attribute!r}") from err


def _import_file(path: Path) -> ModuleType:
    """Import a Python file under a name of its own, once a process."""
    name = f"_matsearch_file_{path.resolve()}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise FileNotFoundError(path)
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
