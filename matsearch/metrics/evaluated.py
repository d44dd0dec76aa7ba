"""What an evaluation found: counts, rates with their denominators and intervals, agreement of judges, cost.

Thresholds and intervals are those of campaigns, see `matsearch.metrics.discovery`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from matsearch.metrics.discovery import METASTABLE, QUARANTINE, STABLE, wilson_interval

if TYPE_CHECKING:
    import pandas as pd

NEAR = 0.03
"""eV/atom above the hull: between metastable and stable, also counted."""

DEFINITIONS = {
    "structurally_valid": "distances, densities, cell and space group are those of a crystal",
    "charge_valid": "all metals, or an assignment of known oxidation states is neutral",
    "valid": "structurally and charge valid",
    "unique": "structurally valid and matches no earlier one",
    "novel": "structurally valid and matches no known phase",
    "converged": "relaxed within the steps allowed",
    "metastable": f"converged, {QUARANTINE:g} <= E_hull <= {METASTABLE:g} eV/atom",
    "near_hull": f"converged, {QUARANTINE:g} <= E_hull <= {NEAR:g} eV/atom",
    "stable": f"converged, {QUARANTINE:g} <= E_hull <= {STABLE:g} eV/atom",
    "msun": f"E_hull <= {METASTABLE:g} eV/atom, matches no earlier one and no known phase, as relaxed",
    "sun": f"E_hull <= {STABLE:g} eV/atom, matches no earlier one and no known phase, as relaxed",
    "no_rmsd": "as relaxed, it cannot be matched to itself as given",
}
AGAINST_KNOWN = {"novel", "metastable", "near_hull", "stable", "msun", "sun"}
"""Rates that depend on the reference set."""
BEFORE = [
    ("structurally_valid", "proposed"),
    ("charge_valid", "proposed"),
    ("valid", "proposed"),
    ("unique", "structurally_valid"),
    ("novel", "novelty_judged"),
]
"""Rates that need no energies. What novelty could not be judged of is in no denominator of it, but in MSUN's."""
JUDGED = [
    ("unique", "structurally_valid"),
    ("novel", "novelty_judged"),
    ("converged", "structurally_valid"),
    ("no_rmsd", "relaxed"),
]
STABILITY = [
    ("metastable", "proposed"),
    ("near_hull", "proposed"),
    ("stable", "proposed"),
    ("msun", "proposed"),
    ("msun", "structurally_valid"),
    ("sun", "proposed"),
    ("sun", "structurally_valid"),
]


def verdicts(view: pd.DataFrame) -> pd.DataFrame:
    """What each structure counts as, by one judge: quarantined, metastable, near_hull, stable, msun, sun; all bool.

    Args:
        view: unique, novel, converged (bool), energy_above_hull (eV/atom, NaN for none).
    """
    import pandas as pd

    energy = view["energy_above_hull"]  # a comparison with NaN is false
    plausible = view["converged"] & (energy >= QUARANTINE)
    new = view["unique"] & view["novel"]
    return pd.DataFrame(
        {
            "quarantined": view["converged"] & (energy < QUARANTINE),
            "metastable": plausible & (energy <= METASTABLE),
            "near_hull": plausible & (energy <= NEAR),
            "stable": plausible & (energy <= STABLE),
            "msun": plausible & (energy <= METASTABLE) & new,
            "sun": plausible & (energy <= STABLE) & new,
        }
    ).astype(bool)


def summarise_evaluated(
    table: pd.DataFrame,
    judges: Sequence[str],
    *,
    hulls: Mapping[str, str | None],
    phases: str,
    seconds: Mapping[str, float],
    refused: Mapping[str, int],
) -> dict[str, Any]:
    """Counts and rates of an evaluation.

    Args:
        table: See `matsearch.evaluation.evaluate`.
        judges: Names of the potentials, in the order of the columns.
        hulls: The reference set of each judge, in words; None where it has none.
        phases: What novelty is judged by where there is no hull, in words.
        seconds: Wall time of each judge's relaxations.
        refused: Relaxations that each judge began and rejected on the way; they cost, too.

    Returns:
        `counts`: of the structures as given. `rates`: one dict a rate, with `name`, `count`, `of` (the denominator),
        `total`, `rate` (None where `total` is 0), `low`, `high` (95 %, Wilson), `definition`, `judge` (None: as given),
        `reference` (the known phases that it depends on). `judges`: one dict a judge with its `name`, `reference`,
        `counts`, `energy_above_hull` and `rmsd` (medians in eV/atom and Å, and of how many) and `cost`: `relaxations`
        that were begun, `potential_calls` of those that came to an end, `wall_seconds`, each also `per_msun`.
        `agreement`: one dict for two judges that both have a hull.
    """
    as_given = table
    if judges:
        as_given = table.assign(unique=table["unique_as_given"], novel=table["novel_as_given"])
    counts = _counts(as_given, ["structurally_valid", "charge_valid", "unique", "novel", "novelty_judged"])
    counts["readable"] = int(table["n_atoms"].notna().sum())
    counts["valid"] = int((table["structurally_valid"] & table["charge_valid"]).sum())
    views = {judge: view_of(table, judge) for judge in judges}
    rates = [_rate(*one, counts, None, phases) for one in BEFORE]
    found = []
    for judge, view in views.items():
        found.append(_judged(judge, view, hulls[judge], seconds[judge], refused[judge]))
        wanted = [*JUDGED, *(STABILITY if hulls[judge] is not None else [])]
        rates += [_rate(*one, found[-1]["counts"], judge, hulls[judge] or phases) for one in wanted]
    return {
        "counts": counts,
        "rates": rates,
        "judges": found,
        "agreement": [
            _agreement(first, second, views)
            for first, second in combinations(judges, 2)
            if hulls[first] is not None and hulls[second] is not None
        ],
    }


def view_of(table: pd.DataFrame, judge: str) -> pd.DataFrame:
    """The table as one of several judges sees it: its own columns under their plain names."""
    own = {name.partition(":")[0]: table[name] for name in table.columns if name.partition(":")[2] == judge}
    return table.assign(**own)


def _judged(judge: str, view: pd.DataFrame, hull: str | None, seconds: float, refused: int) -> dict[str, Any]:
    names = ["structurally_valid", "unique", "novel", "novelty_judged", "converged"]
    if hull is not None:
        names += ["quarantined", "metastable", "near_hull", "stable", "msun", "sun"]
    counts = _counts(view, names)
    relaxed = view["energy_per_atom"].notna()
    counts["relaxed"] = int(relaxed.sum())
    counts["no_rmsd"] = int((relaxed & view["rmsd"].isna()).sum())
    cost: dict[str, Any] = {
        "relaxations": counts["relaxed"] + refused,
        # Every step asks once, and so does the start.
        "potential_calls": int((view["n_steps"].dropna() + 1).sum()),
        "wall_seconds": seconds,
    }
    if hull is not None:
        cost["per_msun"] = {name: value / counts["msun"] if counts["msun"] else None for name, value in cost.items()}
    found: dict[str, Any] = {"name": judge, "reference": hull, "counts": counts}
    for name in ("energy_above_hull", "rmsd"):
        found[name] = {"median": _number(view[name].median()), "of": int(view[name].notna().sum())}
    return found | {"cost": cost}


def _agreement(first: str, second: str, views: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """How two judges agree about what both gave an energy above the hull."""
    heights = [views[judge]["energy_above_hull"] for judge in (first, second)]
    both = heights[0].notna() & heights[1].notna()
    low = [views[judge]["metastable"][both] for judge in (first, second)]
    ranks = [one[both].rank() for one in heights]
    varied = all(one.nunique() > 1 for one in ranks)
    differ = low[0] != low[1]
    return {
        "judges": [first, second],
        "judged_by_both": int(both.sum()),
        "spearman": _number(ranks[0].corr(ranks[1])) if varied else None,
        "threshold": METASTABLE,
        "metastable_by_both": int((low[0] & low[1]).sum()),
        "metastable_by_first_alone": int((low[0] & ~low[1]).sum()),
        "metastable_by_second_alone": int((low[1] & ~low[0]).sum()),
        "metastable_by_neither": int((~low[0] & ~low[1]).sum()),
        "rows_that_differ": [int(row) for row in differ[differ].index],
        "msun_by_both": int((views[first]["msun"] & views[second]["msun"]).sum()),
    }


def _counts(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, int]:
    return {"proposed": len(frame)} | {name: int(frame[name].sum()) for name in names}


def _rate(name: str, of: str, counts: Mapping[str, int], judge: str | None, reference: str) -> dict[str, Any]:
    count, total = counts[name], counts[of]
    low, high = wilson_interval(count, total)
    rate = count / total if total else None
    return {
        "name": name, "count": count, "of": of, "total": total, "rate": rate, "low": low, "high": high,
        "definition": DEFINITIONS[name], "judge": judge, "reference": reference if name in AGAINST_KNOWN else None,
    }  # fmt: skip


def _number(value: float) -> float | None:
    """None for the NaN that stands for nothing to take a median of."""
    return None if math.isnan(value) else float(value)
