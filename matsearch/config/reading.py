"""Campaign files: read, laid over their preset and checked.

Unknown keys are refused by name. Later sources win: defaults, preset, file, `--set`.
"""

from __future__ import annotations

import difflib
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from matsearch.config.paths import with_absolute_paths
from matsearch.config.settings import CampaignConfig, LLMSettings
from matsearch.errors import ConfigError

PRESETS = (
    "matsearch",
    "matllmsearch-v1",
    "matllmsearch-v3",
    "best-of-n",
    "ion-exchange",
    "random-prototypes",
    "operators-only",
)


def load_config(path: Path, overrides: list[str] | None = None) -> CampaignConfig:
    """Read and check a campaign file.

    Args:
        path: The TOML file.
        overrides: `a.b=VALUE` strings; VALUE is TOML, or a bare word.

    Raises:
        ConfigError: The file is missing or no TOML, a key is unknown, a value does not fit: names it.
    """
    data = read_toml(path)
    for override in overrides or []:
        apply_override(data, override)
    return resolve_config(data, str(path), path.resolve().parent)


def read_toml(path: Path) -> dict[str, Any]:
    """A campaign file as nested dicts, with its name.

    Raises:
        ConfigError: The file is missing or no TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as err:
        raise ConfigError(f"no campaign file {path}; give a TOML file or the folder of a run") from err
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"cannot read the campaign file {path}: {err}") from err
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{path} is no valid TOML: {err}") from err
    data.setdefault("name", path.stem)
    return data


def resolve_config(data: dict[str, Any], source: str, folder: Path | None = None) -> CampaignConfig:
    """Lay the data over its preset and check it.

    Args:
        data: The campaign as nested dicts.
        source: Where it comes from, for messages.
        folder: What relative paths start from; None leaves them as they are.

    Raises:
        ConfigError: See `load_config`.
    """
    preset = data.get("preset", "matsearch")
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r} in {source}; known presets: {', '.join(PRESETS)}")
    preset_text = resources.files("matsearch").joinpath("presets", f"{preset}.toml").read_text(encoding="utf-8")
    base = tomllib.loads(preset_text)
    search = base.setdefault("search", {})
    for who in ("operators", "twins") if "twins" in search else ("operators",):
        if data.get("task") == "predict":
            search[who] = {"predict": 1.0}
        elif data.get("task") == "optimise" and preset == "matsearch":
            search[who]["optimise"] = 0.3
    merged = _laid_over(_with_llm_list(base), _with_llm_list(data))
    _refuse_unknown_keys(CampaignConfig, merged, [], source)
    given = data.get("search", {})
    if isinstance(given, dict) and "twins" not in given and not _asks_embedded_alone(merged):
        merged["search"] = {**merged["search"], "twins": {}}
    try:
        config = CampaignConfig.model_validate(merged)
    except ValidationError as err:
        raise ConfigError(_first_problem(err, source)) from err
    config = _with_twins(config)
    return with_absolute_paths(config, folder) if folder else config


def _asks_embedded_alone(data: dict[str, Any]) -> bool:
    """Whether the model of the package is the only LLM: what was measured of twins was measured beside it alone."""
    llms = data.get("llm", [])
    return isinstance(llms, list) and all(
        isinstance(llm, dict) and llm.get("backend", "embedded") == "embedded" for llm in llms
    )


def _with_twins(config: CampaignConfig) -> CampaignConfig:
    """What does the `twins` stands among the LLMs, with the weight of the heaviest of them."""
    if not config.search.twins or any(llm.backend == "operators" for llm in config.llm):
        return config
    weight = max(llm.weight for llm in config.llm)
    twin = LLMSettings(backend="operators", weight=weight)
    return config.model_copy(update={"llm": [*config.llm, twin]})


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one `a.b.c=VALUE` in nested dicts; VALUE is TOML, or text where it is a bare word.

    Raises:
        ConfigError: No `=`, or the key runs through a value.
    """
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"--set {override!r}: expected key=value, such as --set search.generations=3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as err:
        if any(sign in text for sign in "[]{}\"'=\n"):
            raise ConfigError(f"--set {override!r}: {text.strip()!r} is no TOML value: {err}") from err
        value = text.strip()
    table = data
    for depth, part in enumerate(parts[:-1]):
        table = table.setdefault(part, {})
        if isinstance(table, list) and len(table) == 1:
            table = table[0]
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override!r}: {'.'.join(parts[: depth + 1])} is not one table")
    table[parts[-1]] = value


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Lines `key: old -> new` for every leaf that differs between two nested dicts."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}{key}.")
        elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            by_number = [{str(i): value for i, value in enumerate(values)} for values in (before, after)]
            lines += differences(by_number[0], by_number[1], f"{prefix}{key}.")
        else:
            lines.append(f"{prefix}{key}: {before!r} -> {after!r}")
    return lines


def _with_llm_list(data: dict[str, Any]) -> dict[str, Any]:
    """`[llm]` is short for one `[[llm]]`."""
    llm = data.get("llm")
    return {**data, "llm": [llm]} if isinstance(llm, dict) else data


def _laid_over(base: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in data.items():
        below = merged.get(key)
        if key in ("operators", "twins"):
            merged[key] = value  # weights are one choice, not a table to fill up
        elif key == "llm" and isinstance(below, list) and isinstance(value, list):
            merged[key] = [_laid_over(below[0], one) if isinstance(one, dict) else one for one in value]
        elif isinstance(below, dict) and isinstance(value, dict):
            merged[key] = _laid_over(below, value)
        else:
            merged[key] = value
    return merged


def _refuse_unknown_keys(model: type[BaseModel], data: Any, where: list[str], source: str) -> None:
    if not isinstance(data, dict):
        return  # pydantic says what was expected
    known = model.model_fields
    for key, value in data.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            table = f"[{'.'.join(where)}] of " if where else ""
            raise ConfigError(f"unknown key {key!r} in {table}{source}{hint}; known keys: {', '.join(known)}")
        section = _section_of(known[key].annotation)
        if section is not None:
            for item in value if isinstance(value, list) else [value]:
                _refuse_unknown_keys(section, item, [*where, key], source)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The model behind `Model`, `Model | None` or `list[Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_of(part))), None)


def _first_problem(err: ValidationError, source: str) -> str:
    problem = err.errors()[0]
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    message = problem["msg"].removeprefix("Value error, ")
    if not where:
        return f"{source}: {message}"
    more = f" ({err.error_count() - 1} more after it)" if err.error_count() > 1 else ""
    return f"{where} in {source}: {message}{_came(problem['type'], problem['input'])}{more}"


def _came(kind: str, value: Any) -> str:
    """What stood in the place of a problem; a whole table would bury the message."""
    if kind == "missing":
        return "; got nothing"
    if isinstance(value, dict):
        return "" if kind == "value_error" else "; got a table"
    return f"; got {value!r}"
