"""Make the reference of known phases for one potential: what they are, their energies, the hull.

All phases get a single point, small cells first. Those that could be on the hull are relaxed by the campaigns' own
protocol, lowest first, then those within reach of it and the only phases of their formulas, until nothing is left to
relax or time is up. The rest keep their single points and say so (`relaxed` = False). Every chunk is committed, so that
a stopped build continues where it was, and the file is written whenever it stops.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from matsearch.errors import InputError, PotentialError, StoreError
from matsearch.potential.weights import weight_hashes
from matsearch.records import Rejection
from matsearch.reference.catalogue import (
    GEOMETRY_FILE,
    LABELS_FILE,
    Catalogue,
    read_catalogue,
    write_catalogue,
)
from matsearch.reference.energies import energies_path, read_energies, require_same_weights, write_energies
from matsearch.reference.hull import Hull
from matsearch.reference.known import fractions_of, shipped_folder
from matsearch.reference.progress import BuildProgress, State
from matsearch.reference.sources import read_phases

if TYPE_CHECKING:
    from matsearch.potential.base import Potential

FORCE_TOL, MAX_STEPS = 0.05, 500  # eV/Å; as campaigns relax
OPTIMIZER: Literal["lbfgs"] = "lbfgs"
WITHIN = 0.1
"""eV/atom above the hull up to which phases are relaxed on a CPU; a GPU relaxes all."""
WINDOWS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
"""eV/atom above the hull. Lower windows first, and in each small cells first: a relaxation gains some meV/atom in the
median, so that what lies on the hull moves it most."""
CHUNK = 64  # phases between two commits
PATIENCE = 900.0  # seconds after which the hull is looked at again: it moves with every phase relaxed

Say = Callable[[str], None]


@dataclass
class Energies:
    """What is known of the phases that a build covers.

    Attributes:
        rows: [n] rows of the catalogue.
        hull: Elements and atomic fractions [n, n_elements], as `Hull` takes them.
        energies: [n] in eV/atom, the best known; NaN where there is none.
        tried: [n] whether a relaxation was tried.
        converged: [n] and converged.
        failures: [n] why there is no energy, or None.
    """

    rows: np.ndarray
    hull: tuple[list[str], np.ndarray]
    energies: np.ndarray
    tried: np.ndarray
    converged: np.ndarray
    failures: list[str | None]

    @cached_property
    def above_hull(self) -> np.ndarray:
        """[n] in eV/atom; NaN for phases without an energy. Minutes for 150,000 phases."""
        known = np.flatnonzero(np.isfinite(self.energies))
        elements, fractions = self.hull
        heights = np.full(len(self.energies), np.nan)
        heights[known] = Hull(elements, fractions[known], self.energies[known]).above()
        return heights


def build(
    potential: Potential,
    out: Path,
    say: Say,
    *,
    source: str | None = None,
    attribution: str | None = None,
    elements: Sequence[str] | None = None,
    within: float | None = None,
    minutes: float | None = None,
) -> None:
    """Make, or continue, the reference of a potential in a folder.

    Args:
        potential: Whose energies.
        out: Folder; gets `phases.parquet`, `structures.parquet` and the energies of the potential.
        say: Is told how far it has come.
        source: See `read_phases`; None for the phases that are in the folder, or else those of the package.
        attribution: Whose data the source is, and under which licence; None for what it says itself.
        elements: Symbols; only phases of these. None for all that the potential was trained on.
        within: eV/atom above the hull up to which phases are relaxed; None for `WITHIN` on a CPU and all on a GPU.
        minutes: Stop relaxing after so long; single points are always completed.

    Raises:
        InputError: The source does not serve, or the folder holds another one's phases.
        StoreError: The folder cannot be made, or holds the progress of another build.
        MixedHullError: It holds energies that the potential gave with other weights.
        PotentialError: The potential gives no pure element an energy.
    """
    deadline = math.inf if minutes is None else time.monotonic() + 60.0 * minutes
    if within is None:
        within = WITHIN if potential.device == "cpu" else math.inf
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise StoreError(f"cannot make the folder {out}: {err.strerror}; choose another --out") from err
    catalogue = _catalogue(out, source, attribution, say)
    path = energies_path(out, potential.name)
    if path.is_file() and elements is not None:
        before = set(read_energies(path, potential.name, catalogue)[1]["elements"].split(","))
        if kept := sorted(before - set(elements)):
            say(f"{path.name} holds {', '.join(kept)} already; they stay, with their systems with the others")
        elements = sorted(before | set(elements))
    rows = _covered(catalogue, potential, elements, say)
    if path.is_file():
        require_same_weights(path, read_energies(path, potential.name, catalogue)[1], potential)
    weights = weight_hashes(potential)
    short = hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()[:12]
    progress = BuildProgress(path.with_suffix(".progress.sqlite"), potential.name, catalogue.digest, short)
    try:
        if path.is_file() and not progress.states():
            progress.adopt(catalogue.ids, read_energies(path, potential.name, catalogue)[0])
        try:
            _compute_single_points(catalogue, rows, potential, progress, say)
            _relax_until_settled(catalogue, rows, potential, progress, within, deadline, say)
        finally:
            if progress.states():
                _write(catalogue, rows, potential, weights, progress, path, within, say)
    finally:
        progress.close()


def _catalogue(out: Path, source: str | None, attribution: str | None, say: Say) -> Catalogue:
    if (out / LABELS_FILE).is_file():
        catalogue = read_catalogue(out)
        if source is not None and catalogue.source_digest != read_phases(source, keep=out / "pages").digest:
            raise InputError(
                f"{out} holds the phases of {catalogue.source} as it was then, and {source} holds others; leave --from "
                "out to go on with those, or choose another --out"
            )
        say(f"{out} holds {len(catalogue)} phases of {catalogue.source} already; going on with those")
        return catalogue
    if source is not None:
        phases = read_phases(source, keep=out / "pages")
        write_catalogue(phases, Path(source).resolve().name, attribution or phases.attribution, out, say)
    else:
        for name in (GEOMETRY_FILE, LABELS_FILE):
            partial = out / f"{name}.partial"
            shutil.copyfile(shipped_folder() / name, partial)
            partial.replace(out / name)
    return read_catalogue(out)


def _covered(catalogue: Catalogue, potential: Potential, elements: Sequence[str] | None, say: Say) -> np.ndarray:
    """Rows of the phases to compute.

    Raises:
        InputError: There are none, or none of one of the elements alone: no hull reaches there.
    """
    allowed = potential.elements if elements is None else frozenset(elements)
    if unknown := sorted(allowed - potential.elements):
        raise InputError(f"{potential.name} was not trained on {', '.join(unknown)}; leave it out of --elements")
    inside = [position for position, amounts in enumerate(catalogue.amounts) if amounts.keys() <= allowed]
    pure = {symbol for position in inside for symbol in catalogue.amounts[position] if _is_pure(catalogue, position)}
    if elements is not None and (missing := sorted(allowed - pure)):
        raise InputError(f"no phase of pure {', '.join(missing)} is known; leave it out of --elements")
    inside = [position for position in inside if catalogue.amounts[position].keys() <= pure]
    if not inside:
        raise InputError(f"none of the {len(catalogue)} known phases lies between elements that have a phase each")
    say(f"{len(inside)} of {len(catalogue)} phases")
    if elements is None and (untrained := sorted(catalogue.elements - potential.elements)):
        say(f"left out are those with {', '.join(untrained)}: {potential.name} was not trained on them")
    if lone := sorted((catalogue.elements & allowed) - pure):
        say(f"left out are those with {', '.join(lone)}: no phase of the pure element is known")
    return np.array(inside)


def _is_pure(catalogue: Catalogue, position: int) -> bool:
    return len(catalogue.amounts[position]) == 1


def _compute_single_points(
    catalogue: Catalogue, rows: np.ndarray, potential: Potential, progress: BuildProgress, say: Say
) -> None:
    """The energy of every phase as listed, small cells first."""
    done = {state.id for state in progress.states()}
    sizes = catalogue.labels["n_atoms"].to_numpy()
    missing = [int(row) for row in rows if catalogue.ids[row] not in done]
    missing.sort(key=lambda row: (sizes[row], row))
    n_done = 0
    source = iter(missing)
    while chunk := list(islice(source, CHUNK)):
        structures = [catalogue.structure(row) for row in chunk]
        energies = potential.energies(structures)
        progress.add_single_points(
            [catalogue.ids[row] for row in chunk],
            [e if isinstance(e, Rejection) else e / len(s) for e, s in zip(energies, structures, strict=True)],
        )
        n_done += len(chunk)
        say(f"single points: {n_done} of {len(missing)}")


def _relax_until_settled(
    catalogue: Catalogue,
    rows: np.ndarray,
    potential: Potential,
    progress: BuildProgress,
    within: float,
    deadline: float,
    say: Say,
) -> None:
    """Relax what may be on the hull or near it, looking at the hull again and again."""
    from matsearch.relaxation import make_plan, relax_iter

    plan = make_plan(FORCE_TOL, MAX_STEPS, optimizer=OPTIMIZER)
    n_done = 0
    while time.monotonic() < deadline:
        wanted = [int(rows[index]) for index in _wanted(catalogue, _gather(catalogue, rows, progress), within)]
        if not wanted:
            return
        say(f"to relax: {len(wanted)} phases")
        drawn = _until(min(deadline, time.monotonic() + PATIENCE), wanted)
        results = relax_iter((catalogue.structure(row) for row in drawn), potential, plan)
        while chunk := [(catalogue.ids[wanted[number]], result) for number, result in islice(results, CHUNK)]:
            progress.add_relaxations(chunk)
            n_done += len(chunk)
            say(f"relaxed {n_done} phases")


def _until(moment: float, rows: Sequence[int]) -> Iterator[int]:
    for row in rows:
        if time.monotonic() >= moment:
            return
        yield row


def _gather(catalogue: Catalogue, rows: np.ndarray, progress: BuildProgress) -> Energies:
    """What is known by now.

    A phase without a single point yet has no energy. Nor has one whose relaxation was rejected: a candidate like it
    would be rejected, too. Where that leaves an element without a pure phase, no phase with it has one.

    Raises:
        PotentialError: No pure phase has an energy.
    """
    states = {state.id: state for state in progress.states()}
    found = [states.get(phase_id := catalogue.ids[row], State(phase_id, None, None, None)) for row in rows]
    energies = np.array([math.nan if state.energy is None else state.energy for state in found])
    failures = [state.failure for state in found]
    amounts = [catalogue.amounts[row] for row in rows]
    pure = {next(iter(amounts[index])) for index in np.flatnonzero(np.isfinite(energies)) if len(amounts[index]) == 1}
    if not pure:
        raise PotentialError(f"no pure element of these phases has an energy by {progress.potential}: {failures[0]}")
    for index, own in enumerate(amounts):
        if lost := sorted(own.keys() - pure):
            energies[index], amounts[index] = math.nan, {}
            failures[index] = failures[index] or f"no_hull: no phase of pure {', '.join(lost)} has an energy"
    return Energies(
        rows,
        fractions_of(amounts, sorted(pure)),
        energies,
        np.array([state.converged is not None for state in found]),
        np.array([bool(state.converged) for state in found]),
        failures,
    )


def _wanted(catalogue: Catalogue, known: Energies, within: float, *, only_near: bool = False) -> list[int]:
    """Indices of what to relax, in order: by window, then the only phases of their formulas; small cells first."""
    heights = known.above_hull
    sizes = catalogue.labels["n_atoms"].to_numpy()[known.rows]
    windows = np.digitize(heights, [1e-9, *WINDOWS[1:]])
    untried = ~known.tried & np.isfinite(heights)
    near = untried & (heights <= within)
    if not only_near:
        formulas = catalogue.labels["formula"].take(known.rows).to_pandas()
        near |= untried & ~formulas.duplicated(keep=False).to_numpy()
    order = np.lexsort((heights, sizes // 8, windows, heights > within))
    return [int(index) for index in order if near[index]]


def _write(
    catalogue: Catalogue,
    rows: np.ndarray,
    potential: Potential,
    weights: Mapping[str, str],
    progress: BuildProgress,
    path: Path,
    within: float,
    say: Say,
) -> None:
    known = _gather(catalogue, rows, progress)
    heights = known.above_hull
    cells = progress.cells()
    computed = {state.id for state in progress.states()}
    table = []
    for index, row in enumerate(rows):
        has_energy = bool(np.isfinite(heights[index]))
        relaxed = bool(known.converged[index]) and has_energy
        cell = cells[catalogue.ids[row]] if relaxed else None
        table.append(
            {
                "phase": int(row),
                "energy_per_atom": float(known.energies[index]) if has_energy else None,
                "energy_above_hull": float(heights[index]) if has_energy else None,
                "relaxed": relaxed,
                "unconverged": bool(known.tried[index]) and not known.converged[index] and has_energy,
                "failure": known.failures[index],
                **({} if cell is None else cell._asdict()),
            }
        )
    n_pending = len(_wanted(catalogue, known, within, only_near=True))
    protocol = {"optimizer": OPTIMIZER, "force_tol": FORCE_TOL, "max_steps": MAX_STEPS}
    metadata = {
        "potential": potential.name,
        "energy_scale": potential.energy_scale,
        "weights": json.dumps(weights),
        "elements": ",".join(known.hull[0]),
        "catalogue": catalogue.digest,
        "protocol": json.dumps(protocol | {"within": within if math.isfinite(within) else None}),
        "n_pending": str(n_pending),
        "n_missing": str(sum(phase_id not in computed for phase_id in (catalogue.ids[row] for row in rows))),
    }
    write_energies(path, table, metadata)
    n_failed = sum(failure is not None for failure in known.failures)
    say(
        f"{path}: {len(rows)} phases of {len(known.hull[0])} elements, {int(known.converged.sum())} relaxed, "
        f"{int((heights == 0).sum())} on the hull, {n_failed} without an energy, {path.stat().st_size / 1e6:.1f} MB"
    )
    if n_pending:
        say(f"{n_pending} phases near the hull are not relaxed yet: the same command goes on with them")
