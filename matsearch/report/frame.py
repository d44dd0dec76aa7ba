"""A campaign's candidates as a table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from matsearch.store import RunStore

if TYPE_CHECKING:
    import pandas as pd


def candidates_frame(store: RunStore) -> pd.DataFrame:
    """One row a candidate, seeds included.

    Columns: id, parents (tuple of ids), generation, operator, model, stage, reason, detail, formula,
    energy_above_hull (eV/atom), one for each other objective (in its unit, see `.attrs["units"]`), n_steps,
    duplicate_of, matched_known, name. A value that does not exist is NaN or None, beside its reason.
    """
    import pandas as pd

    rows = store.rows(
        "SELECT c.id, c.parents, c.generation, c.operator, c.model, c.stage, c.reason, c.detail, c.formula, "
        "c.energy_above_hull, r.n_steps, r.energy, c.duplicate_of, c.matched_known, c.name, c.add_status "
        "FROM candidates c LEFT JOIN relaxations r ON r.key = c.relaxation_key ORDER BY c.id"
    )
    columns = ["id", "parents", "generation", "operator", "model", "stage", "reason", "detail", "formula"]
    columns += ["energy_above_hull", "n_steps", "energy", "duplicate_of", "matched_known", "name", "add_status"]
    frame = pd.DataFrame([tuple(row) for row in rows], columns=columns)
    frame["parents"] = [tuple(json.loads(text)) for text in frame["parents"]]
    frame["energy_above_hull"] = frame["energy_above_hull"].astype(float)
    frame.attrs["units"] = {"energy_above_hull": "eV/atom"}
    position = columns.index("energy_above_hull") + 1
    scores = store.rows("SELECT candidate_id, objective, value FROM scores")
    for objective in json.loads(store.meta.get("objectives", "[]")):
        name = objective["name"]
        frame.attrs["units"][name] = objective["unit"]
        if name not in frame:
            values = {row["candidate_id"]: row["value"] for row in scores if row["objective"] == name}
            frame.insert(position, name, frame["id"].map(values).astype(float))
            position += 1
    return frame
