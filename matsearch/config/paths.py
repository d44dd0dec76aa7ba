"""Paths in a campaign file: they start from its folder."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from matsearch.config.settings import CampaignConfig
from matsearch.errors import ConfigError
from matsearch.llm.base import find_backend
from matsearch.potential.names import from_folder


def with_absolute_paths(config: CampaignConfig, folder: Path) -> CampaignConfig:
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
