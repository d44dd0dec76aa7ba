"""From finished runs to records of a leaderboard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.crystal.identity import ANGLE_TOL, LENGTH_TOL, SITE_TOL
from matsearch.crystal.prototype import prototype_label
from matsearch.crystal.text import from_json
from matsearch.errors import InputError
from matsearch.metrics.comparison import UNRELAXED, spent
from matsearch.metrics.discovery import METASTABLE, QUARANTINE, STABLE, verdicts
from matsearch.metrics.hypervolume import REFERENCE_POINT
from matsearch.records import HULL, content_hash
from matsearch.report.best import goals_of
from matsearch.report.frame import candidates_frame
from matsearch.report.judges import RESULT
from matsearch.report.leaderboard_records import (
    Cost,
    Counts,
    FrontPoint,
    JudgeSays,
    Protocol,
    RunRecord,
    SoughtGoal,
    Spent,
    read_records,
)
from matsearch.report.spending import spending
from matsearch.search import Goal
from matsearch.store import RunStore, is_run_dir

if TYPE_CHECKING:
    import pandas as pd

RECORDS = "records.json"
ALL_JUDGES = "all judges"
MATCHER = f"pymatgen StructureMatcher, ltol {LENGTH_TOL:g}, stol {SITE_TOL:g}, angle_tol {ANGLE_TOL:g}"
OUTSIDE = ("untrained_element", "no_reference")
"""Reasons for which a judge has no say."""


def collect(places: Sequence[Path], say: Callable[[str], None] = lambda _: None) -> list[RunRecord]:
    """Records of all runs in some places, one a setup and seed: of two, the later run counts.

    Args:
        places: Run folders, folders that hold runs one or two levels down, files of records, or
            folders of a leaderboard.
        say: Is told what is left out, and why.

    Raises:
        InputError: A place holds none of that, or no finished run was found.
        StoreError: A run cannot be read.
    """
    found: dict[tuple[str, int], RunRecord] = {}
    for place in places:
        for record in _records_of(place, say):
            key = record.setup, record.seed
            earlier = found.get(key)
            if earlier is not None and earlier.created != record.created:
                say(f"{record.preset}, seed {record.seed}: the later of two runs with the same settings counts")
            # At the same moment it is the same run, of which judges may have heard more since.
            if earlier is None or earlier.created <= record.created:
                found[key] = record
    if not found:
        raise InputError("no finished run to put on a leaderboard; give run folders, or the folder of a comparison")
    return sorted(found.values(), key=lambda one: (one.campaign, one.preset, one.setup, one.seed))


def _records_of(place: Path, say: Callable[[str], None]) -> Iterator[RunRecord]:
    if place.is_file():
        yield from read_records(place).runs
        return
    if (place / RECORDS).is_file():
        yield from read_records(place / RECORDS).runs
        return
    runs = [place] if is_run_dir(place) else sorted(one.parent for one in place.glob("*/run.sqlite"))
    runs = runs or sorted(one.parent for one in place.glob("*/*/run.sqlite"))
    if not runs:
        raise InputError(f"{place} holds no run and no {RECORDS}; give run folders, or the folder of a comparison")
    for run in runs:
        with RunStore(run, writable=False) as store:
            status = store.meta.get("status", "new")
            if status == "finished" or status.startswith("budget"):
                yield record_of(store)
            else:
                say(f"{run} is left out: not finished ({status}); `matsearch run {run}` continues it")


def record_of(store: RunStore) -> RunRecord:
    """The record of one run."""
    meta, config = store.meta, store.config
    frame, goals = candidates_frame(store), goals_of(store)
    table = verdicts(frame)
    proposed = frame.loc[table.index]
    relaxed = np.cumsum((~proposed["stage"].isin(UNRELAXED)).to_numpy())
    at = [(position + 1, int(spent_by_then)) for position, spent_by_then in enumerate(relaxed)]
    msun = [at[one] for one in np.flatnonzero(table["msun"].to_numpy())]
    cost = spending(store)
    tells_tokens = cost.tokens > 0 or cost.replies_without_usage < cost.replies or not cost.replies
    names = Counts.model_fields.keys() - {"proposed"}
    llms = tuple(dict.fromkeys(_llm_title(one) for one in config["llm"]))
    return RunRecord(
        campaign=config["name"],
        preset=config["preset"],
        setup=content_hash({key: value for key, value in _without_none(config).items() if key != "seed"})[:16],
        seed=config["seed"],
        llms=llms,
        created=meta.get("created", ""),
        matsearch_version=json.loads(meta.get("versions", "{}")).get("matsearch", "unknown"),
        protocol=_protocol(meta, config, goals),
        counts=Counts(proposed=len(proposed), **{name: int(table[name].sum()) for name in names}),
        msun_at=tuple(msun),
        prototypes_at=tuple(
            msun[one] for one in _first_of_prototype(store, proposed.loc[table["msun"], "id"].tolist())
        ),
        front=_front(proposed, table, goals, at),
        reference_point=json.loads(meta.get(REFERENCE_POINT, "{}")),
        cost=Cost(
            replies=cost.replies,
            tokens=cost.tokens if tells_tokens else None,
            usd=cost.usd if all(one.usd is not None for one in cost.by_model) else None,
            relaxations=spent(frame)[1],
            hours=cost.hours,
        ),
        judges=_judges(store),
    )


def _protocol(meta: dict[str, str], config: dict[str, Any], goals: Sequence[Goal]) -> Protocol:
    return Protocol(
        judge=without_folder(config["potential"]["name"]),
        metastable=METASTABLE,
        stable=STABLE,
        quarantine=QUARANTINE,
        matcher=MATCHER,
        relaxation=_without_none(config["relax"]),
        reference=meta.get("reference_hash", ""),
        task=config["task"],
        space=_without_none(config["space"]),
        hidden=len(config["reference"].get("hide") or []),
        goals=tuple(
            SoughtGoal(
                name=goal.name,
                direction=goal.direction,
                target=goal.target,
                tolerance=goal.tolerance,
                constraint=None if goal.limit is None else str(goal.limit),
            )
            for goal in goals
        ),
    )


def without_folder(name: str) -> str:
    """A name without the folders of the machine: `mace:/home/me/a.model` as `mace:a.model`."""
    return "+".join(":".join(PurePath(part).name or part for part in one.split(":")) for one in name.split("+"))


def _llm_title(llm: dict[str, Any]) -> str:
    backend, model = without_folder(llm["backend"]), llm["model"]
    if model == "default":
        return backend
    is_path = PurePath(model).is_absolute() or model.startswith(".")
    return f"{PurePath(model).name if is_path else model} ({backend})"


def _without_none(content: Any) -> Any:
    """Settings that were not set are left out, so that one that a later version adds changes no hash."""
    if isinstance(content, dict):
        return {key: _without_none(value) for key, value in content.items() if value not in (None, [], {})}
    return [_without_none(value) for value in content] if isinstance(content, list) else content


def _first_of_prototype(store: RunStore, ids: Sequence[int]) -> list[int]:
    """Positions, among some relaxed candidates, of the first of each prototype."""
    rows = store.rows("SELECT c.id, r.structure FROM candidates c JOIN relaxations r ON r.key = c.relaxation_key")
    structures = {row["id"]: row["structure"] for row in rows}
    first: dict[str, int] = {}
    for position, one in enumerate(ids):
        first.setdefault(prototype_label(from_json(structures[one])), position)
    return list(first.values())


def _front(
    proposed: pd.DataFrame, table: pd.DataFrame, goals: Sequence[Goal], at: Sequence[Spent]
) -> tuple[FrontPoint, ...]:
    """Of what counts in a hypervolume, that which nothing before it dominates or equals."""
    sought = [goal for goal in goals if goal.is_sought]
    if len(sought) < 2:
        return ()
    has_hull = proposed[HULL].notna().any()
    counts = table["metastable" if has_hull else "scored"] & proposed[[goal.name for goal in goals]].notna().all(axis=1)
    for goal in goals:
        if goal.limit is not None:
            counts &= proposed[goal.name].map(goal.limit.violation) == 0
    values = proposed[[goal.name for goal in sought]].to_numpy(dtype=float)
    front: list[FrontPoint] = []
    losses: list[np.ndarray] = []
    for position in np.flatnonzero(counts.to_numpy()).tolist():
        row = [float(one) for one in values[position]]
        # Errors of the potential earn nothing.
        row = [max(one, 0.0) if goal.name == HULL else one for goal, one in zip(sought, row, strict=True)]
        own = np.array([goal.loss(one) for goal, one in zip(sought, row, strict=True)])
        if not any((one <= own).all() for one in losses):
            losses.append(own)
            front.append(FrontPoint(at=at[position], values=tuple(row)))
    return tuple(front)


def _judges(store: RunStore) -> tuple[JudgeSays, ...]:
    """What `matsearch judge` wrote about this run; nothing where it fits another one."""
    folder = store.run_dir.absolute()
    try:
        content = json.loads((folder.parent.parent / RESULT).read_text(encoding="utf-8"))
        own = [
            one
            for one in content["finalists"]
            if (one["preset"], f"seed-{one['seed']}") == (folder.parent.name, folder.name)
        ]
        described: dict[str, dict[str, Any]] = dict(content["judges"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    formulas = {row["id"]: row["formula"] for row in store.rows("SELECT id, formula FROM candidates")}
    if any(formulas.get(one["id"]) != one["formula"] for one in own):
        return ()
    said = [_says([judge], str(how.get("finalists", "")), own) for judge, how in described.items()]
    if len(described) > 1:
        said.append(_says(list(described), "each by its own hull; all must say so", own))
    return tuple(one for one in said if one.heard)


def _says(judges: Sequence[str], how: str, finalists: Sequence[dict[str, Any]]) -> JudgeSays:
    complete = [[one[judge] for judge in judges] for one in finalists if all(judge in one for judge in judges)]
    heard = [each for each in complete if not any(_is_outside(one) for one in each)]
    return JudgeSays(
        judge=judges[0] if len(judges) == 1 else ALL_JUDGES,
        how=how,
        heard=len(heard),
        metastable=sum(all(_is_within(one, METASTABLE) for one in each) for each in heard),
        stable=sum(all(_is_within(one, STABLE) for one in each) for each in heard),
        refused=sum(any(isinstance(one, str) for one in each) for each in heard),
        outside=len(complete) - len(heard),
    )


def _is_outside(height: float | str) -> bool:
    return isinstance(height, str) and height.partition(":")[0] in OUTSIDE


def _is_within(height: float | str, limit: float) -> bool:
    return not isinstance(height, str) and QUARANTINE <= height <= limit
