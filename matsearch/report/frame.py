"""A campaign's candidates as a table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from matsearch.metrics.discovery import SECOND_OPINION
from matsearch.store import RunStore

if TYPE_CHECKING:
    import pandas as pd


# Of a fixed type each, whatever the content: text is an object column, so that nothing is None.
COLUMNS = {
    "id": "int64",
    "parents": "object",
    "generation": "int64",
    "operator": "object",
    "model": "object",
    "stage": "object",
    "reason": "object",
    "detail": "object",
    "formula": "object",
    "energy_above_hull": "float64",
    "n_steps": "Int64",
    "energy": "float64",
    "duplicate_of": "Int64",
    "matched_known": "object",
    "name": "object",
    "add_status": "object",
}


def candidates_frame(store: RunStore) -> pd.DataFrame:
    """One row a candidate, seeds included.

    Columns: id, parents (tuple of ids), generation, operator, model, stage, reason, detail, formula,
    energy_above_hull (eV/atom), one for each other objective (in its unit, see `.attrs["units"]`), n_steps,
    energy (eV), duplicate_of, matched_known, name, add_status. What does not exist is NaN in floats, `pd.NA` in n_steps
    and duplicate_of (integers), None in text. Where the campaign asks for a second opinion, its column second_opinion
    (eV/atom) stands behind the objectives.
    """
    import pandas as pd

    rows = store.rows(
        "SELECT c.id, c.parents, c.generation, c.operator, c.model, c.stage, c.reason, c.detail, c.formula, "
        "c.energy_above_hull, r.n_steps, r.energy, c.duplicate_of, c.matched_known, c.name, c.add_status "
        "FROM candidates c LEFT JOIN relaxations r ON r.key = c.relaxation_key ORDER BY c.id"
    )
    content = {name: [row[name] for row in rows] for name in COLUMNS}
    content["parents"] = [tuple(json.loads(text)) for text in content["parents"]]
    frame = pd.DataFrame({name: pd.Series(content[name], dtype=kind) for name, kind in COLUMNS.items()})
    frame.attrs["units"] = {"energy_above_hull": "eV/atom"}
    position = list(COLUMNS).index("energy_above_hull") + 1
    scores = store.rows("SELECT candidate_id, objective, value FROM scores")
    for objective in json.loads(store.meta.get("objectives", "[]")):
        name = objective["name"]
        frame.attrs["units"][name] = objective["unit"]
        if name not in frame:
            values = {row["candidate_id"]: row["value"] for row in scores if row["objective"] == name}
            frame.insert(position, name, frame["id"].map(values).astype(float))
            position += 1
    if store.config["search"].get("second_opinion") is not None:
        frame.attrs["units"][SECOND_OPINION] = "eV/atom"
        values = {row["candidate_id"]: row["value"] for row in scores if row["objective"] == SECOND_OPINION}
        frame.insert(position, SECOND_OPINION, frame["id"].map(values).astype(float))
    return frame
