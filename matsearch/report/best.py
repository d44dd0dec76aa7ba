"""The best crystals of a campaign: metastable ones first, new ones first among equals, then as its selection goes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.crystal.text import from_json, to_cif
from matsearch.metrics.discovery import QUARANTINE, verdicts
from matsearch.records import HULL, Stage
from matsearch.search import Goal, goal_from, preference_order
from matsearch.store import RunStore

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure

SYMPREC = 0.1
"""Å, tolerance of the space-group search for relaxed crystals (as the Materials Project uses it)."""


@dataclass(frozen=True)
class BestCrystal:
    """One of the best.

    Attributes:
        rank: From 1.
        row: Its row of `candidates_frame`, as a dict; None where a value does not exist.
        n_duplicates: Later candidates that relaxed to the same crystal.
        space_group: Hermann-Mauguin symbol and number of the relaxed crystal, or None where none is found.
        n_atoms: Atoms in the relaxed cell.
        cif: The relaxed crystal.
        file_name: Of the CIF: rank, formula, energy above the hull.
    """

    rank: int
    row: dict[str, Any]
    n_duplicates: int
    space_group: str | None
    n_atoms: int
    cif: str
    file_name: str

    @property
    def suspect(self) -> bool:
        """Whether it lies so far below the hull that the potential is more likely wrong than the crystal stable."""
        energy = self.row["energy_above_hull"]
        return energy is not None and energy < QUARANTINE


@dataclass(frozen=True)
class Ranking:
    """The best crystals, and how the seeds compare.

    Attributes:
        crystals: Best first; no seeds, and nothing that an earlier candidate or a seed is already.
        seeds_ahead: Scored seeds that the campaign's goals prefer to the first of them (all where there is none).
        best_seed: The best seed's row of `candidates_frame`, if one was scored.
    """

    crystals: list[BestCrystal]
    seeds_ahead: int
    best_seed: dict[str, Any] | None


def goals_of(store: RunStore) -> list[Goal]:
    """What the campaign's selection optimises; empty for a campaign that never began."""
    described = json.loads(store.meta.get("objectives", "[]"))
    hull = [one for one in described if one["name"] == HULL]
    # A plug-in's objective has a name of its own, but stands in the order of the configuration.
    others = iter([one for one in described if one["name"] != HULL])
    goals = []
    for setting in store.config["objectives"]:
        one = next(iter(hull) if setting["name"] == HULL else others, None)
        if one is not None:
            goals.append(goal_from(setting, one["name"], one["direction"]))
    return goals


def rank(store: RunStore, frame: pd.DataFrame, count: int = 20) -> Ranking:
    """The best `count` crystals, with their structures.

    What keeps all constraints comes first. Metastable ones come before others, among both the new ones before known
    phases, and then the campaign's goals decide: one goal's extreme far above the hull is a point of the Pareto front,
    but no crystal to make.

    Args:
        store: The campaign.
        frame: Its `candidates_frame`.
        count: How many at most.
    """
    goals = goals_of(store)
    if not goals:
        return Ranking([], 0, None)
    names = [goal.name for goal in goals]
    is_first = (frame["operator"] == "seed") | frame["duplicate_of"].isna()
    pool = frame[(frame["stage"] == Stage.SCORED) & is_first & frame[names].notna().all(axis=1)]
    values = pool[names].to_numpy(dtype=float)
    sought = [goal for goal in goals if goal.is_sought]
    losses = np.array([[goal.loss(one[names.index(goal.name)]) for goal in sought] for one in values])
    losses = losses.reshape(len(values), len(sought))
    broken = _violations(goals, values)
    is_seed = (pool["operator"] == "seed").to_numpy()
    seeds, found = np.flatnonzero(is_seed), np.flatnonzero(~is_seed)
    selection = store.config["search"]["selection"]
    verdict = verdicts(frame).loc[pool.index[found]]
    tiers = (2 * ~verdict["metastable"] + ~verdict["novel"]).to_numpy()
    best: list[int] = []
    for tier in range(4):
        members = found[(tiers == tier) & (broken[found] == 0)]
        best += _first(members, losses, broken, goals, selection, count - len(best))
    best += _first(found[broken[found] > 0], losses, broken, goals, selection, count - len(best))
    best_seed = _first(seeds, losses, broken, goals, selection, 1)
    compared = np.array([*seeds, *best[:1]], dtype=int)
    order = _first(compared, losses, broken, goals, selection, len(compared))
    copies = frame["duplicate_of"].value_counts()
    crystals = []
    for number, position in enumerate(best, start=1):
        row = _plain(pool.iloc[position])
        crystals.append(_crystal(store, number, row, int(copies.get(row["id"], 0))))
    return Ranking(
        crystals,
        seeds_ahead=next((n for n, i in enumerate(order) if not is_seed[i]), len(seeds)),
        best_seed=_plain(pool.iloc[best_seed[0]]) if len(best_seed) else None,
    )


def _first(
    rows: np.ndarray, losses: np.ndarray, broken: np.ndarray, goals: Sequence[Goal], selection: str, count: int
) -> list[int]:
    """The first `count` of some rows in the order of preference: those that keep the constraints, then by violation."""
    kept = rows[broken[rows] == 0]
    first = kept[_preferred(losses[kept], goals, selection, count)].tolist()
    others = rows[broken[rows] > 0]
    return [*first, *others[np.argsort(broken[others], kind="stable")].tolist()][:count]


def _preferred(losses: np.ndarray, goals: Sequence[Goal], selection: str, count: int) -> list[int]:
    """The first `count` indices by the goals alone."""
    kept = np.arange(len(losses))
    if selection == "pareto":
        # All that dominate a point come before it, so one that `count` others dominate is not among the first. This
        # leaves the order of the rest as it is, and spares sorting thousands of points into fronts.
        kept = kept[[_n_dominating(losses, loss) < count for loss in losses]]
    order = preference_order(losses[kept].tolist(), goals, selection)
    return [int(kept[i]) for i in order[:count]]


def _violations(goals: Sequence[Goal], values: np.ndarray) -> np.ndarray:
    """[n] how far rows of values [n, n_goals] are from keeping the constraints, as selection counts it."""
    totals = np.zeros(len(values))
    for column, goal in enumerate(goals):
        if goal.limit is not None:
            one = np.array([goal.limit.violation(value) for value in values[:, column]])
            totals += one / one.max() if len(one) and one.max() > 0 else 0.0
    return totals


def _n_dominating(losses: np.ndarray, loss: np.ndarray) -> int:
    return int(((losses <= loss).all(axis=1) & (losses < loss).any(axis=1)).sum())


def _plain(row: pd.Series) -> dict[str, Any]:
    """A row with None for every missing value, and numbers of Python's own types."""
    import pandas as pd

    plain: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, np.generic):
            value = value.item()  # noqa: PLW2901
        plain[str(name)] = None if value is pd.NA or (isinstance(value, float) and np.isnan(value)) else value
    return plain


def _crystal(store: RunStore, number: int, row: dict[str, Any], n_duplicates: int) -> BestCrystal:
    found = store.row(
        "SELECT r.structure FROM candidates c JOIN relaxations r ON r.key = c.relaxation_key WHERE c.id = ?", row["id"]
    )
    assert found is not None  # what is scored was relaxed
    structure = from_json(found["structure"])
    energy = row["energy_above_hull"]
    shown = "" if energy is None else f"_{round(energy, 3) + 0.0:.3f}"
    return BestCrystal(
        rank=number,
        row=row,
        n_duplicates=n_duplicates,
        space_group=space_group(structure),
        n_atoms=len(structure),
        cif=to_cif(structure),
        file_name=f"{number:02d}_{_file_formula(structure)}{shown}.cif",
    )


def _file_formula(structure: Structure) -> str:
    """The reduced formula without parentheses, which shells take for their own."""
    amounts = structure.composition.reduced_composition.get_el_amt_dict()
    return "".join(f"{symbol}{'' if n == 1 else f'{n:g}'}" for symbol, n in amounts.items())


def space_group(structure: Structure) -> str | None:
    """Hermann-Mauguin symbol and number, such as `P6_3/mmc (194)`; None where none is found."""
    import moyopy

    cell = moyopy.Cell(
        structure.lattice.matrix.tolist(),
        np.mod(structure.frac_coords, 1.0).tolist(),
        [site.specie.Z for site in structure],
    )
    try:
        number = moyopy.MoyoDataset(cell, symprec=SYMPREC).number
    except ValueError:
        return None
    return f"{moyopy.SpaceGroupType(number).hm_short.replace(' ', '')} ({number})"
