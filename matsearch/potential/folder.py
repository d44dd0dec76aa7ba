"""Potentials that are folders, named by their path: what kind one is stands in its `model.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from matsearch.errors import PotentialError
from matsearch.plugins import import_path
from matsearch.potential.names import MODEL_FILE

if TYPE_CHECKING:
    from matsearch.potential.base import Potential

KINDS = {
    "corrected": "matsearch.potential.corrected:load",
    "latent": "matsearch.potential.longrange.latent:load",
    "refitted": "matsearch.potential.refitted:load",
}


def load(folder: str, device: str = "auto") -> Potential:
    """The potential of a folder, under the folder's path as its name.

    Raises:
        PotentialError: A file is missing or does not say what it should.
    """
    path = Path(folder).expanduser() / MODEL_FILE
    try:
        settings = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as err:
        raise PotentialError(f"{path.parent} holds no model: {path.name} cannot be read: {err}") from err
    kind = settings.get("potential") if isinstance(settings, dict) else None
    if kind not in KINDS:
        raise PotentialError(f"{path} is of a potential {kind!r}; expected one of {', '.join(sorted(KINDS))}")
    potential: Potential = import_path("potential", KINDS[kind])(folder, device)
    potential.weight_files = potential.weight_files or (path, *sorted(path.parent.glob("*.safetensors")))
    return potential
