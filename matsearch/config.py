"""A campaign's configuration: TOML in, one checked and frozen object out.

Unknown keys are refused by name. Later sources win: defaults, preset, file, `--set`.
"""

from __future__ import annotations

import difflib
import glob
import math
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from matsearch.errors import ConfigError
from matsearch.llm.base import find_backend
from matsearch.llm.prices import Prices
from matsearch.potential.base import from_folder
from matsearch.propose.settings import SpaceSettings, composition_elements
from matsearch.records import Direction
from matsearch.relaxation.settings import RelaxSettings
from matsearch.search.settings import SearchSettings

PRESETS = (
    "matsearch",
    "matllmsearch-v1",
    "matllmsearch-v3",
    "best-of-n",
    "ion-exchange",
    "random-prototypes",
    "operators-only",
)
CONSTRAINT = re.compile(r"\s*(<=|>=)\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", re.ASCII)


class Section(BaseModel):
    """A table of the campaign file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LLMSettings(Section):
    """`[llm]`, or one of several `[[llm]]`: who proposes.

    Attributes:
        backend: A built-in name, an entry point, or `"pkg.module:Attr"`.
        model: What the backend calls the model; a local path is taken from the campaign file's folder.
        weight: Share of the proposals, against the other `[[llm]]`.
        options: What the backend's `Options` declare.
        prices: For the cost ledger.
    """

    backend: str = "embedded"
    model: str = "default"
    weight: PositiveFloat = 1.0
    options: dict[str, Any] = Field(default_factory=dict)
    prices: Prices | None = None

    @property
    def title(self) -> str:
        """The model, or the backend that has but one."""
        return self.backend if self.model == "default" else self.model


class PotentialSettings(Section):
    """`[potential]`: what relaxes and scores."""

    name: str = "chgnet-0.3.0"
    device: str = "auto"


class ReferenceSettings(Section):
    """`[reference]`: the known phases that span the hull and that are not new.

    Attributes:
        path: Folder of a reference made by `matsearch reference build`; the shipped one if left out.
        extra: Files, folders or patterns such as `"my_phases/*.cif"`: phases that are added, relaxed by the campaign.
        hide: Ids and formulas of phases that the search must not know of, to see whether it finds them: a list, or a
            file with one a line. A report still says what matches them.
    """

    path: str | None = Field(default=None, min_length=1)
    extra: list[Annotated[str, Field(min_length=1)]] = []
    hide: list[Annotated[str, Field(min_length=1)]] | Annotated[str, Field(min_length=1)] = []


class ObjectiveSettings(Section):
    """One of `[[objectives]]`.

    A constraint keeps candidates that break it from objectives of a higher cost class.

    Attributes:
        name: A built-in name, an entry point, or `"pkg.module:Attr"`.
        direction: `min` or `max`; if left out, the objective's own, or none where there is a target or a constraint.
        weight: For `search.selection = "weighted"`.
        target: The value that is looked for, in the objective's unit, instead of the least or the most.
        tolerance: Off the target by no more than this is as good as on it.
        timeout: Seconds that one crystal may take; what takes longer is rejected with the reason `timeout`.
        options: What the objective's class takes beside the context.
        constraint: `"<= 0.1"` or `">= 200"`: what keeps it is preferred to what does not, whatever the other values.
        reference: The worst value that still counts in the hypervolume, in the objective's unit; if left out, 0.1 for
            `energy_above_hull`, and the worst of the known phases that the search starts from for others.
    """

    name: str
    direction: Direction | None = None
    weight: PositiveFloat = 1.0
    target: float | None = None
    tolerance: NonNegativeFloat = 0.0
    constraint: str | None = None
    timeout: PositiveFloat | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    reference: float | None = None

    @field_validator("constraint")
    @classmethod
    def _limit(cls, constraint: str | None) -> str | None:
        if constraint is None:
            return None
        if not CONSTRAINT.fullmatch(constraint):
            raise ValueError('write "<= 0.1" or ">= 200"')
        if not math.isfinite(float(constraint.strip()[2:])):
            raise ValueError('needs a finite number, such as "<= 0.1"')
        return constraint

    @model_validator(mode="after")
    def _one_wish(self) -> ObjectiveSettings:
        if self.target is not None and self.direction is not None:
            raise ValueError(f"{self.name}: give a target or a direction, not both")
        if self.target is None and self.tolerance:
            raise ValueError(f"{self.name}: a tolerance needs a target")
        if self.reference is not None and self.direction is None and self.target is None and self.constraint:
            raise ValueError(f"{self.name}: a reference needs a direction or a target beside the constraint")
        return self


class BudgetSettings(Section):
    """`[budget]`: the campaign stops when the first of these is spent; None has no limit."""

    proposals: NonNegativeInt | None = None
    relaxations: NonNegativeInt | None = None
    tokens: NonNegativeInt | None = None
    usd: NonNegativeFloat | None = None
    hours: NonNegativeFloat | None = None


class CampaignConfig(Section):
    """A whole campaign file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: Literal["generate", "predict", "optimise"] = "generate"
    preset: str = "matsearch"
    seed: NonNegativeInt = 0
    space: SpaceSettings = SpaceSettings()
    llm: list[LLMSettings] = Field(default=[LLMSettings()], min_length=1)
    search: SearchSettings = SearchSettings()
    potential: PotentialSettings = PotentialSettings()
    relax: RelaxSettings = RelaxSettings()
    reference: ReferenceSettings = ReferenceSettings()
    objectives: list[ObjectiveSettings] = Field(
        default=[ObjectiveSettings(name="energy_above_hull", direction="min")], min_length=1
    )
    budget: BudgetSettings = BudgetSettings()

    @model_validator(mode="after")
    def _consistent(self) -> CampaignConfig:
        names = [objective.name for objective in self.objectives]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"[[objectives]] names {', '.join(sorted(twice))} twice")
        if self.task == "predict" and self.space.composition is None:
            raise ValueError('task = "predict" needs [space] composition, such as "KZnF3"')
        if self.search.operators.get("predict") and self.space.composition is None:
            raise ValueError('[search] operator "predict" needs [space] composition, such as "KZnF3"')
        if self.space.composition is not None and self.space.elements is not None:
            missing = composition_elements(self.space.composition) - set(self.space.elements)
            if missing:
                raise ValueError(f"[space] composition needs {', '.join(sorted(missing))}, which elements leaves out")
        if self.budget.usd is not None and any(llm.prices is None and llm.backend != "operators" for llm in self.llm):
            raise ValueError("[budget] usd needs prices = { prompt = ..., completion = ... } in every [llm]")
        return self

    def plain(self) -> dict[str, Any]:
        """As JSON-like data; `CampaignConfig.model_validate` reads it back."""
        return self.model_dump(mode="json")


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
    return _with_absolute_paths(config, folder) if folder else config


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


def _with_absolute_paths(config: CampaignConfig, folder: Path) -> CampaignConfig:
    """Values that name a file, taken from the campaign file's folder, so that a run continues from anywhere."""

    def module(name: str) -> str:
        """`"mod:Attr"` with `mod.py` beside the campaign file, as `"/folder/mod.py:Attr"`."""
        path, colon, attribute = name.rpartition(":")
        file = folder / (path if path.endswith(".py") else f"{path.replace('.', '/')}.py")
        return f"{file}:{attribute}" if colon and file.is_file() else name

    def absolute(value: Any) -> Any:
        if not isinstance(value, str) or Path(value).is_absolute():
            return value
        if ":" in value and not (folder / value).exists():
            return module(value)  # a function, not a file
        return str(folder / value)

    def absolute_pattern(pattern: str) -> str:
        """The folder's own name is no pattern, whatever signs it holds."""
        expanded = Path(pattern).expanduser()
        is_file = (folder / expanded).exists()
        return str(folder / expanded if is_file else Path(glob.escape(str(folder))) / expanded)

    llms = []
    for llm in config.llm:
        backend = module(llm.backend)
        paths = find_backend(backend).path_options
        options = {key: absolute(value) if key in paths else value for key, value in llm.options.items()}
        # A model is a path only where it looks like one, and a hub id looks like one, too.
        is_path = llm.model.startswith(".") or ("/" in llm.model and (folder / llm.model).exists())
        model = absolute(llm.model) if is_path else llm.model
        llms.append(llm.model_copy(update={"options": options, "model": model, "backend": backend}))
    objectives = [one.model_copy(update={"name": module(one.name)}) for one in config.objectives]

    def of_potential(name: str) -> str:
        return module(from_folder(name, folder))

    potential = config.potential.model_copy(update={"name": of_potential(config.potential.name)})
    path, extra, hide = config.reference.path, config.reference.extra, config.reference.hide
    reference = config.reference.model_copy(
        update={
            "path": None if path is None else str(folder / Path(path).expanduser()),
            "extra": [absolute_pattern(pattern) for pattern in extra],
            # Read once: a run goes on without the file.
            "hide": _listed(folder / Path(hide).expanduser()) if isinstance(hide, str) else hide,
        }
    )
    prompts = config.search.prompts
    if prompts is not None and (own := folder / Path(prompts).expanduser()).is_dir():
        prompts = str(own)  # else a name of the package's
    second = config.search.second_opinion
    second = None if second is None else of_potential(second)
    operators, twins = (
        {module(name): weight for name, weight in weights.items()}
        for weights in (config.search.operators, config.search.twins)
    )
    search = config.search.model_copy(
        update={"prompts": prompts, "second_opinion": second, "operators": operators, "twins": twins}
    )
    return config.model_copy(
        update={
            "llm": llms, "objectives": objectives, "potential": potential, "reference": reference, "search": search
        }
    )  # fmt: skip


def _listed(path: Path) -> list[str]:
    """The lines of a file, without blank ones and what stands behind `#`.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(
            f"[reference] hide: cannot read {path}: {err}; give a list, or a file with one a line"
        ) from err
    return [line for one in lines if (line := one.partition("#")[0].strip())]


def changeable_options(config: CampaignConfig) -> set[str]:
    """Keys, as `differences` writes them, that change no result: how the LLMs are reached, where the reference lies.

    A run holds the hash of its known phases against those that it finds there.
    """
    return {"reference.path"} | {
        f"llm.{number}.options.{option}"
        for number, llm in enumerate(config.llm)
        for option in find_backend(llm.backend).connection_options
    }
