"""The page's table: one row a candidate, with all that can be sorted, filtered and drawn."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from matsearch.crystal.text import from_json
from matsearch.metrics.discovery import verdicts
from matsearch.report.best import Ranking, space_group
from matsearch.report.hulls import Hulls
from matsearch.report.wording import plain
from matsearch.store import RunStore

if TYPE_CHECKING:
    import pandas as pd

FLAGS = ("msun", "sun", "metastable", "stable", "unique", "novel", "quarantined", "memorised", "waiting")
"""Of the verdicts; names as in `matsearch.metrics.discovery.verdicts`."""
LENGTHS = {"operator": 60, "model": 80, "reason": 60, "detail": 300, "matched_known": 80, "name": 80, "formula": 80}
"""Characters of each text that is shown."""

# moyo logs every cell that is not its standard one; without a handler that would land on stderr.
logging.getLogger("moyo").addHandler(logging.NullHandler())


def columns(store: RunStore, frame: pd.DataFrame, ranking: Ranking, known: Hulls) -> dict[str, list[Any]]:
    """The table by columns, None where a value does not exist.

    Columns of `candidates_frame`, texts made plain; `rank` among the best; `found_again`, how many later candidates
    relaxed to the same crystal; `space_group`, `space_group_number`, `n_atoms` and `volume` (Å^3/atom) of the crystal
    as relaxed, or as proposed where that is all there is; `converged`, `max_force` (eV/Å); `proposal`;
    `decomposition` (formula to share of the atoms) and `formation_energy` (eV/atom); `flags`, those that hold.
    """
    table: dict[str, list[Any]] = {}
    for name in frame.columns:
        values = frame[name].astype(object).where(frame[name].notna(), None).tolist()
        if name in LENGTHS:
            values = [None if one is None else plain(one, LENGTHS[name]) for one in values]
        table[str(name)] = values
    table["parents"] = [list(one) for one in frame["parents"]]
    ranks = {crystal.row["id"]: crystal for crystal in ranking.crystals}
    table["rank"] = [ranks[one].rank if one in ranks else None for one in table["id"]]
    copies = frame["duplicate_of"].value_counts().to_dict()
    table["found_again"] = [int(copies.get(one, 0)) for one in table["id"]]
    table |= _crystals(store)
    verdict = verdicts(frame)
    held = {
        int(frame.at[index, "id"]): [name for name, holds in zip(FLAGS, row, strict=True) if holds]
        for index, row in zip(verdict.index, verdict[list(FLAGS)].itertuples(index=False), strict=True)
    }
    table["flags"] = [held.get(one, []) for one in table["id"]]
    table["decomposition"] = [known.decomposition.get(one) for one in table["id"]]
    table["formation_energy"] = [known.formation_energy.get(one) for one in table["id"]]
    return table


def _crystals(store: RunStore) -> dict[str, list[Any]]:
    rows = store.rows(
        "SELECT COALESCE(r.structure, c.structure) AS crystal, r.converged, r.max_force, c.proposal_id "
        "FROM candidates c LEFT JOIN relaxations r ON r.key = c.relaxation_key ORDER BY c.id"
    )
    facts = [(None,) * 4 if row["crystal"] is None else _facts(row["crystal"]) for row in rows]
    names = ("space_group", "space_group_number", "n_atoms", "volume")
    table: dict[str, list[Any]] = {
        name: list(column) for name, column in zip(names, zip(*facts, strict=True), strict=False)
    }
    table["converged"] = [None if row["converged"] is None else bool(row["converged"]) for row in rows]
    table["max_force"] = [row["max_force"] for row in rows]
    table["proposal"] = [row["proposal_id"] for row in rows]
    return table or {name: [] for name in names}


@lru_cache(maxsize=20_000)
def _facts(text: str) -> tuple[str | None, int | None, int, float]:
    """Space group (symbol, number), atoms and volume an atom; kept, since a page that is written anew asks again."""
    structure = from_json(text)
    found = space_group(structure)
    symbol, number = (None, None) if found is None else (found.split(" ")[0], int(found.split("(")[1][:-1]))
    return symbol, number, len(structure), structure.volume / len(structure)


def order_of_interest(table: dict[str, list[Any]]) -> list[int]:
    """Ids, the most interesting first: the best, then new metastable ones, metastable ones, and the rest by energy."""

    def key(row: int) -> tuple[Any, ...]:
        rank, energy = table["rank"][row], table["energy_above_hull"][row]
        flags = table["flags"][row]
        tier = 2 * ("metastable" not in flags) + ("msun" not in flags)
        seed = table["operator"][row] == "seed"
        scored = table["stage"][row] == "scored"
        return (
            rank is None, rank or 0, not scored, seed, tier, energy is None, energy or 0.0, table["id"][row],
        )  # fmt: skip

    return [table["id"][row] for row in sorted(range(len(table["id"])), key=key)]


def yields(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """What each operator and model proposed and found; most productive first.

    Returns:
        One dict each: `operator`, `model`, `proposed`, `valid`, `scored`, `metastable`, `msun`, and `best`: the lowest
        plausible energy above the hull, None where there is none.
    """
    verdict = verdicts(frame)
    joined = frame.loc[verdict.index, ["operator", "model", "energy_above_hull"]].join(verdict)
    found = []
    for (operator, model), part in joined.groupby(["operator", "model"], sort=True):
        counts = {name: int(part[name].sum()) for name in ("valid", "scored", "metastable", "msun")}
        plausible = part.loc[part["scored"] & ~part["quarantined"], "energy_above_hull"].dropna()
        best = float(plausible.min()) if len(plausible) else None
        found.append({"operator": operator, "model": model, "proposed": len(part), **counts, "best": best})
    return sorted(found, key=lambda one: (-one["msun"], -one["metastable"], -one["proposed"]))


def provenance(store: RunStore) -> dict[str, Any]:
    """Who wrote the replies and from which templates: `models` (identity as text to replies), `templates`."""
    models = store.rows("SELECT identity, COUNT(*) AS n FROM replies GROUP BY identity ORDER BY n DESC, identity")
    templates = store.rows(
        "SELECT template, template_hash, COUNT(*) AS n FROM proposals GROUP BY 1, 2 ORDER BY n DESC, template"
    )
    return {
        "models": [(_identity(row["identity"]), row["n"]) for row in models],
        "templates": [(row["template"], row["template_hash"], row["n"]) for row in templates],
    }


def _identity(text: str) -> str:
    try:
        content = json.loads(text)
    except ValueError:
        return text
    return ", ".join(f"{key} {value}" for key, value in content.items()) if isinstance(content, dict) else text
