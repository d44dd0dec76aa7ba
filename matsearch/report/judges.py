"""What other potentials say of a run's crystals, where `matsearch judge` has asked them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from matsearch.store import RunStore

RESULT = "judges.json"
"""What `matsearch judge` writes beside the runs of a comparison: FOLDER/PRESET/seed-N."""


def judged(store: RunStore) -> dict[str, dict[int, float]]:
    """Judge to candidate to energy above the judge's own hull, eV/atom; empty where nobody was asked.

    What does not fit the run (another run, another crystal of that number) is left out.
    """
    folder = store.run_dir.resolve()
    content = _read(folder.parent.parent / RESULT)
    formulas = {row["id"]: row["formula"] for row in store.rows("SELECT id, formula FROM candidates")}
    found: dict[str, dict[int, float]] = {}
    for row in content.get("finalists", []):
        if (row["preset"], f"seed-{row['seed']}") != (folder.parent.name, folder.name):
            continue
        if formulas.get(row["id"]) != row["formula"]:
            continue
        for judge in content["judges"]:
            height = row.get(judge)
            if isinstance(height, float) and math.isfinite(height):
                found.setdefault(judge, {})[row["id"]] = height
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and "judges" in content else {}
