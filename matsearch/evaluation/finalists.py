"""The finalists of compared searches: a random sample of what each run found, not the best by its own potential."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matsearch.crystal.text import from_json
from matsearch.errors import InputError
from matsearch.metrics.comparison import cut, spent
from matsearch.metrics.discovery import verdicts
from matsearch.records import content_hash
from matsearch.report.frame import candidates_frame
from matsearch.store import RunStore

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure


@dataclass(frozen=True)
class Finalist:
    """A crystal that a search calls metastable, unique and novel.

    Attributes:
        id: Of the candidate in its run.
        formula: Reduced.
        structure: As the searched potential relaxed it.
        energy_above_hull: eV/atom by the searched potential.
    """

    id: int
    formula: str
    structure: Structure
    energy_above_hull: float


@dataclass(frozen=True)
class Finals:
    """One run and whom it sends to the judges.

    Attributes:
        preset: Its preset.
        seed: Its seed.
        msun: How many it has to send.
        drawn: Those that were drawn, in the order of the draw.
    """

    preset: str
    seed: int
    msun: int
    drawn: tuple[Finalist, ...]


@dataclass(frozen=True)
class Finalists:
    """The finalists of all runs, at equal cost.

    Attributes:
        proposals: Up to which candidates count, in every run.
        relaxations: The same; whichever a run reaches first.
        potential: That the runs searched with.
        reference: Folder of its known phases; None for those of the package.
        runs: In order of preset and seed.
        left_out: Folders of runs that have not come to their end.
    """

    proposals: int
    relaxations: int
    potential: str
    reference: Path | None
    runs: list[Finals]
    left_out: list[Path]


def draw_finalists(
    folder: Path, sample: int | None = None, seed: int = 0, presets: Collection[str] | None = None
) -> Finalists:
    """Draw from each finished run that `matsearch compare` left in a folder, at equal cost.

    A larger sample holds every smaller one.

    Args:
        folder: Holds `PRESET/seed-N/run.sqlite`.
        sample: At most so many of each run; None for all.
        seed: Of the draw.
        presets: Only these; None for all.

    Raises:
        InputError: There is no finished run, or they searched with different potentials.
    """
    frames: dict[tuple[str, int], tuple[Path, pd.DataFrame]] = {}
    searched: dict[tuple[str, str | None], Path] = {}
    left_out = []
    for path in sorted(folder.glob("*/seed-*/run.sqlite")):
        run, number = path.parent, path.parent.name.removeprefix("seed-")
        if not number.isdigit() or (presets is not None and run.parent.name not in presets):
            continue
        with RunStore(run, writable=False) as store:
            status = store.meta.get("status", "")
            if status != "finished" and not status.startswith("budget"):
                left_out.append(run)
                continue
            frames[run.parent.name, int(number)] = run, candidates_frame(store)
            config = store.config
            searched[config["potential"]["name"], config["reference"].get("path")] = run
    if not frames:
        raise InputError(
            f"no finished run in {folder}; expected PRESET/seed-N there, as `matsearch compare` makes them"
        )
    if len(searched) > 1:
        runs = " and ".join(map(str, list(searched.values())[:2]))
        raise InputError(f"{runs} searched with different potentials or known phases; judge them apart")
    ((potential, reference),) = searched
    costs = [spent(frame) for _, frame in frames.values()]
    proposals, relaxations = min(one[0] for one in costs), min(one[1] for one in costs)
    found = []
    for (preset, run_seed), (run, frame) in sorted(frames.items()):
        part = cut(frame, proposals, relaxations)
        table = verdicts(part)
        ids: list[int] = part.loc[table.index[table["msun"]], "id"].tolist()
        drawn = sorted(ids, key=lambda one: content_hash([seed, preset, run_seed, one]))[:sample]
        found.append(Finals(preset, run_seed, len(ids), _read(run, drawn)))
    return Finalists(proposals, relaxations, potential, None if reference is None else Path(reference), found, left_out)


def _read(run: Path, ids: list[int]) -> tuple[Finalist, ...]:
    with RunStore(run, writable=False) as store:
        rows = [
            store.row(
                "SELECT c.id, c.formula, c.energy_above_hull, r.structure FROM candidates c "
                "JOIN relaxations r ON r.key = c.relaxation_key WHERE c.id = ?",
                one,
            )
            for one in ids
        ]
    return tuple(
        Finalist(row["id"], row["formula"], from_json(row["structure"]), row["energy_above_hull"])
        for row in rows
        if row is not None
    )
