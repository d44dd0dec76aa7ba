"""Phases that a user adds to a campaign: they join the hull and what is known.

They are read once, when the run folder is made, and kept in the run store; the run then needs their files no more.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import TYPE_CHECKING

from matsearch.campaign.loop import Interrupted
from matsearch.campaign.parts import Parts
from matsearch.campaign.progress import Progress
from matsearch.campaign.relaxations import Relaxations
from matsearch.campaign.rows import relaxation_key, relaxation_row, relaxed_of
from matsearch.crystal.checks import check_structure
from matsearch.crystal.text import from_json, to_json
from matsearch.errors import ConfigError, InputError
from matsearch.records import Rejection, Relaxed
from matsearch.reference.sources import read_phases
from matsearch.store import RunStore

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.reference.known import Reference

META = "extra_phases"
PREFIX = "extra/"
"""Of their ids, so that nobody takes them for those of a database."""


def read_extra(parts: Parts) -> list[tuple[str, Structure]]:
    """Id and crystal of every phase in the files that the patterns of `[reference] extra` name.

    Raises:
        ConfigError: A pattern matches nothing, or a file cannot be used; names it.
    """
    paths: dict[Path, None] = {}
    for pattern in parts.config.reference.extra:
        # Not Path.glob, which takes no absolute patterns.
        matching = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
        if not matching:
            raise ConfigError(f"[reference] extra: nothing matches {pattern!r}")
        paths |= dict.fromkeys(Path(one).resolve() for one in matching)
    # A file in a folder that is given too is one phase, not two.
    paths = {path: None for path in paths if not any(folder in paths for folder in path.parents)}
    phases: dict[str, Structure] = {}
    taken = set(parts.reference.phases["id"]) if paths and parts.reference is not None else set()
    for path in paths:
        try:
            found = list(read_phases(path))
        except InputError as err:
            raise ConfigError(f"[reference] extra: {err}") from err
        for name, phase in found:
            where = f"[reference] extra: {path}" + ("" if len(found) == 1 else f", {name}")
            refused = phase if isinstance(phase, Rejection) else check_structure(phase)
            if refused is not None:
                raise ConfigError(f"{where}: {refused.reason}: {refused.detail}")
            if missing := parts.potential.untrained(phase):
                raise ConfigError(
                    f"{where}: {parts.potential.name} was not trained on {', '.join(missing)}; take it out"
                )
            phase_id = f"{PREFIX}{name}"
            if phase_id in taken:
                phase_id = f"{PREFIX}{path.parent.name}/{name}"
            if phase_id in taken:
                raise ConfigError(f"{where}: another phase is called {phase_id}; give the file another name")
            taken.add(phase_id)
            phases[phase_id] = phase
    return list(phases.items())


def extra_text(phases: Sequence[tuple[str, Structure]], parts: Parts) -> str:
    """As a run store keeps them: a list of objects with id, structure and relaxation_key."""
    return json.dumps(
        [
            {
                "id": phase_id,
                "structure": to_json(structure),
                "relaxation_key": relaxation_key(structure, parts.potential.name, parts.protocol),
            }
            for phase_id, structure in phases
        ]
    )


def attribution(store: RunStore) -> str:
    """What a report adds to the reference's own; empty where there are no extra phases."""
    ids = [row["id"] for row in json.loads(store.meta.get(META, "[]"))]
    if not ids:
        return ""
    named = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    return f" With phases that the user gave: {named}."


def add_extra(store: RunStore, parts: Parts, progress: Progress, stopping: Callable[[], bool]) -> Parts:
    """The parts with the extra phases of a run, after relaxing those that have not been.

    Under pressure, or without a hull, nothing is relaxed: they are only known. So are those that do not converge.

    Raises:
        Interrupted: The user asked to stop; what was in flight is committed.
    """
    rows = json.loads(store.meta.get(META, "[]"))
    if not rows:
        return parts
    phases = [(row["id"], row["relaxation_key"], from_json(row["structure"])) for row in rows]
    if parts.reference is None or parts.config.relax.pressure_gpa:
        return parts.with_phases([], [(phase_id, structure) for phase_id, _, structure in phases])
    _relax(store, parts, {key: structure for _, key, structure in phases}, progress, stopping)
    settled: list[tuple[str, Relaxed]] = []
    unsettled: list[tuple[str, Structure]] = []
    for phase_id, key, structure in phases:
        row = store.row("SELECT * FROM relaxations WHERE key = ?", key)
        assert row is not None, "all have been relaxed"
        result = relaxed_of(row, structure, parts.potential.name)
        why = _no_part_of_the_hull(result, structure, parts.reference)
        if isinstance(result, Relaxed) and why is None:
            settled.append((phase_id, result))
        else:
            unsettled.append((phase_id, structure))
            progress.say(f"{phase_id} is known, but not part of the hull: {why}")
    return parts.with_phases(settled, unsettled)


def _no_part_of_the_hull(result: Relaxed | Rejection, structure: Structure, reference: Reference) -> str | None:
    if isinstance(result, Rejection):
        return f"{result.reason} {result.detail}".strip()
    if not result.converged:
        return f"not converged after {result.n_steps} steps"
    if missing := reference.uncovered([element.symbol for element in structure.composition.elements]):
        return f"the hull of {reference.potential} does not cover {', '.join(missing)}"
    return None


def _relax(
    store: RunStore, parts: Parts, wanted: dict[str, Structure], progress: Progress, stopping: Callable[[], bool]
) -> None:
    """Relax what the store does not hold, and commit each result when it arrives."""
    relaxations = Relaxations(parts.potential, parts.config.relax)
    missing = [key for key in wanted if store.row("SELECT 1 FROM relaxations WHERE key = ?", key) is None]
    if missing:
        progress.say(f"extra phases to relax: {len(missing)}")
    for key in missing:
        relaxations.enter(key, wanted[key])
    finished = False
    try:
        if not stopping():
            relaxations.send()
        while relaxations.pending:
            for future in wait(relaxations.pending, return_when=FIRST_COMPLETED).done:
                row = relaxation_row(*relaxations.take(future))
                with store.transaction():
                    store.insert("relaxations", [row])
            if not stopping():
                relaxations.send()
        finished = True
    finally:
        relaxations.close(finish=finished)
    if stopping():
        raise Interrupted
