"""Make the reference of known phases for one potential: relax them, keep what it took, write one file.

All phases of the covered elements get a single point. Those that could be on the hull are relaxed by the campaigns' own
protocol, lowest first, until no such phase is left; then small ones that are good seeds; then the lowest phase of each
formula. The rest keep their single point and say so (`relaxed` = False). Every chunk is committed, so that a
stopped build continues where it was, and a later build with more elements uses what is there.

    python -m matsearch.reference.build --source mp_structures.parquet --elements Li,Mg,Ti,O --work DIR --out FILE
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.errors import InputError
from matsearch.records import Prediction, Rejection, Relaxed
from matsearch.reference.hull import Hull
from matsearch.reference.packing import PackedCrystal, pack, unpack

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure

    from matsearch.potential.base import Potential

ATTRIBUTION = (
    "Crystal structures: Materials Project v2025.02.12 (https://materialsproject.org), CC-BY 4.0, "
    "A. Jain et al., APL Materials 1, 011002 (2013). Energies and relaxed cells: computed by matsearch, {potential}."
)
FORCE_TOL = 0.05  # eV/Å, and
MAX_STEPS = 500  # as campaigns relax
# (up to so many atoms, relax when the energy is at most so many eV/atom above the hull). Of 334 oxides a relaxation
# gained 1.2 meV/atom in the median, up to 20 atoms at most 20 in 97 % of them, above 20 atoms at most 7: the first
# windows hold what could be on the hull. The second are wider for small cells, which are cheap and make good seeds.
HULL_WINDOWS = ((20, 0.03), (10_000, 0.01))
SEED_WINDOWS = ((12, 0.10), (20, 0.05), (40, 0.02))
LOWEST_MAX_ATOMS = 20  # the lowest phase of a formula is relaxed up to this size, however high it lies
CHUNK_ATOMS = 400  # work between two commits

SCHEMA = """
CREATE TABLE IF NOT EXISTS phase (
    id TEXT PRIMARY KEY,
    single_point REAL,   -- eV/atom, as listed
    energy REAL,         -- eV/atom after relaxation, or NULL
    converged INTEGER,
    n_steps INTEGER,
    lattice BLOB, coords BLOB,
    failure TEXT
)
"""


@dataclass
class Phases:
    """What the source lists of the covered elements, and what is known of it by now.

    Attributes:
        table: id, formula, chemsys, n_atoms, spacegroup; one row a phase.
        elements: Symbols, sorted.
        fractions: [n_phases, n_elements] atomic fractions.
        energies: [n_phases] in eV/atom, the best known; NaN before the single point.
        tried: [n_phases] whether a relaxation was tried.
    """

    table: pd.DataFrame
    elements: list[str]
    fractions: np.ndarray
    energies: np.ndarray
    tried: np.ndarray

    def above_hull(self) -> np.ndarray:
        """[n_phases] in eV/atom; NaN for phases without an energy."""
        known = np.flatnonzero(np.isfinite(self.energies))
        heights = np.full(len(self.energies), np.nan)
        heights[known] = Hull(self.elements, self.fractions[known], self.energies[known]).above()
        return heights


def read_source(source: Path, elements: Sequence[str]) -> Phases:
    """All listed phases that hold no other element.

    Raises:
        InputError: The file does not exist, or lists no phase of one of the elements.
    """
    import pandas as pd
    from pymatgen.core import Composition

    columns = ["material_id", "chemsys", "n_atoms", "spacegroup", "lattice", "species", "frac_coords"]
    try:
        table = pd.read_parquet(source, columns=columns)
    except FileNotFoundError as err:
        raise InputError(f"no structures at {source}; give the Parquet file of known phases") from err
    covered = set(elements)
    table = table[[set(system.split("-")) <= covered for system in table.chemsys]].reset_index(drop=True)
    if missing := sorted(covered - set(table.chemsys)):
        raise InputError(f"{source} lists no phase of pure {', '.join(missing)}; leave it out of the elements")
    table = table.rename(columns={"material_id": "id"})
    table["formula"] = [Composition("".join(species)).reduced_formula for species in table.species]
    symbols = sorted(covered)
    fractions = np.array([[np.count_nonzero(species == symbol) for symbol in symbols] for species in table.species])
    fractions = fractions / fractions.sum(axis=1, keepdims=True)
    empty = np.full(len(table), np.nan)
    return Phases(table, symbols, fractions, empty, np.zeros(len(table), dtype=bool))


def source_structure(row: Any) -> Structure:
    """The phase as listed, rounded as it will be shipped."""
    from pymatgen.core import Lattice, Structure

    lattice = Lattice.from_parameters(*[float(value) for value in row.lattice])
    structure = Structure(lattice, list(row.species), np.asarray(row.frac_coords, dtype=float).reshape(-1, 3))
    return unpack(*pack(structure))


class BuildStore:
    """The database of a build: what was computed, by the id of the phase."""

    def __init__(self, workdir: Path, potential_name: str) -> None:
        workdir.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(workdir / f"{potential_name}.sqlite")
        self._connection.execute(SCHEMA)

    def fill(self, phases: Phases) -> None:
        """Set the energies and what was tried from what is stored.

        A phase whose relaxation was rejected has no energy: a candidate like it would be rejected, too.
        """
        position = {phase_id: index for index, phase_id in enumerate(phases.table["id"])}
        for phase_id, single_point, energy, converged in self._connection.execute(
            "SELECT id, single_point, energy, converged FROM phase"
        ):
            if (index := position.get(phase_id)) is not None:
                phases.tried[index] = converged is not None
                best = energy if phases.tried[index] else single_point
                phases.energies[index] = np.nan if best is None else best

    def known(self) -> set[str]:
        """Ids with a single point, or that failed there."""
        return {phase_id for (phase_id,) in self._connection.execute("SELECT id FROM phase")}

    def add_single_points(self, ids: Sequence[str], energies: Sequence[float]) -> None:
        """Commit one chunk of single points, eV/atom."""
        with self._connection:
            self._connection.executemany(
                "INSERT INTO phase (id, single_point) VALUES (?, ?)", list(zip(ids, energies, strict=True))
            )

    def add_relaxations(self, ids: Sequence[str], results: Sequence[Relaxed | Rejection]) -> None:
        """Commit one chunk of relaxations."""
        with self._connection:
            for phase_id, result in zip(ids, results, strict=True):
                if isinstance(result, Rejection):
                    self._connection.execute(
                        "UPDATE phase SET converged = 0, failure = ? WHERE id = ?",
                        (f"{result.reason}: {result.detail}", phase_id),
                    )
                else:
                    packed = pack(result.structure)
                    self._connection.execute(
                        "UPDATE phase SET energy = ?, converged = ?, n_steps = ?, lattice = ?, coords = ? WHERE id = ?",
                        (
                            result.energy_per_atom,
                            int(result.converged),
                            result.n_steps,
                            packed.lattice.tobytes(),
                            packed.coords.tobytes(),
                            phase_id,
                        ),
                    )

    def failure(self, phase_id: str) -> str:
        """Why a relaxation was rejected."""
        (text,) = self._connection.execute("SELECT failure FROM phase WHERE id = ?", (phase_id,)).fetchone()
        return str(text)

    def relaxations(self) -> dict[str, tuple[float, bool, np.ndarray, np.ndarray]]:
        """Id to energy (eV/atom), converged, lattice and coordinates of what was relaxed."""
        rows = self._connection.execute(
            "SELECT id, energy, converged, lattice, coords FROM phase WHERE energy IS NOT NULL"
        )
        return {
            phase_id: (
                energy,
                bool(converged),
                np.frombuffer(lattice, dtype=np.float32),
                np.frombuffer(coords, dtype=np.uint16),
            )
            for phase_id, energy, converged, lattice, coords in rows
        }

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def build(
    source: Path,
    potential_name: str,
    elements: Sequence[str],
    out: Path,
    workdir: Path,
    *,
    device: str = "cpu",
    minutes: float | None = None,
    seeds: bool = True,
) -> None:
    """Compute the reference of all known phases of some elements and write it.

    Args:
        source: Parquet file of known phases (material_id, chemsys, n_atoms, spacegroup, lattice, species, frac_coords).
        potential_name: As `load_potential` knows it.
        elements: Symbols; every chemical system of these is covered, and no other.
        out: Parquet file to write.
        workdir: Folder that keeps what was computed, for the next build.
        device: Where the potential runs.
        minutes: Stop relaxing after so long; single points are always completed.
        seeds: Also relax phases that cannot be on the hull but are good to start a search from.

    Raises:
        InputError: The source does not serve.
    """
    from matsearch.potential import load_potential

    deadline = time.monotonic() + (float("inf") if minutes is None else 60.0 * minutes)
    phases = read_source(source, elements)
    potential = load_potential(potential_name, device=device)
    build_store = BuildStore(workdir, potential_name)
    try:
        say(f"{len(phases.table)} phases of {'-'.join(phases.elements)}, {phases.table.n_atoms.sum()} atoms")
        compute_single_points(phases, potential, build_store)
        pending = relax_until_settled(phases, potential, build_store, deadline, seeds)
        write(phases, potential, build_store, out, pending)
    finally:
        build_store.close()


def compute_single_points(phases: Phases, potential: Potential, build_store: BuildStore) -> None:
    """The energy of every phase as listed."""
    known = build_store.known()
    missing = [index for index, phase_id in enumerate(phases.table["id"]) if phase_id not in known]
    done = 0
    for chunk in chunks(missing, phases.table.n_atoms.to_numpy()):
        structures = [source_structure(phases.table.iloc[index]) for index in chunk]
        predictions: list[Prediction] = potential.predict(structures)
        energies = [p.energy / len(s) for p, s in zip(predictions, structures, strict=True)]
        build_store.add_single_points(list(phases.table["id"].iloc[chunk]), energies)
        done += len(chunk)
        say(f"single points {done}/{len(missing)}")
    build_store.fill(phases)


def relax_until_settled(
    phases: Phases, potential: Potential, build_store: BuildStore, deadline: float, seeds: bool
) -> int:
    """Relax what may be on the hull, or serve as a seed; returns how many of the former were left when time ran out."""
    from matsearch.relaxation import relax

    sizes = phases.table.n_atoms.to_numpy()
    while True:
        wanted = to_relax(phases, seeds)
        if not wanted:
            return 0
        # The hull moves with every phase relaxed: a few chunks, lowest first, then look again.
        for chunk in chunks(wanted[: max(16, len(wanted) // 4)], sizes):
            if time.monotonic() > deadline:
                say(f"out of time with {len(wanted)} phases to relax")
                return len(to_relax(phases, seeds=False))
            structures = [source_structure(phases.table.iloc[index]) for index in chunk]
            results = relax(structures, potential, force_tol=FORCE_TOL, max_steps=MAX_STEPS)
            build_store.add_relaxations(list(phases.table["id"].iloc[chunk]), results)
            say(f"relaxed {len(chunk)}, {int(phases.tried.sum())} before, about {len(wanted)} wanted")
            build_store.fill(phases)


def to_relax(phases: Phases, seeds: bool = True) -> list[int]:
    """What may be on the hull, lowest first; then seeds, lowest first; then the lowest small phase of each formula."""
    heights = phases.above_hull()
    sizes = phases.table.n_atoms.to_numpy()
    untried = ~phases.tried & np.isfinite(heights)
    order = np.argsort(heights, kind="stable")
    for windows in (HULL_WINDOWS, SEED_WINDOWS) if seeds else (HULL_WINDOWS,):
        inside = np.zeros(len(sizes), dtype=bool)
        for max_atoms, height in windows:
            inside |= (sizes <= max_atoms) & (heights <= height)
        if near := [int(index) for index in order if untried[index] and inside[index]]:
            return near
    if not seeds:
        return []
    lowest = phases.table["formula"].iloc[order].drop_duplicates().index
    return [int(index) for index in lowest if untried[index] and sizes[index] <= LOWEST_MAX_ATOMS]


def write(phases: Phases, potential: Potential, build_store: BuildStore, out: Path, pending: int) -> None:
    """One Parquet file: a row a phase, what it is in the metadata."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    relaxations = build_store.relaxations()
    heights = phases.above_hull()
    rows = []
    for index, row in enumerate(phases.table.itertuples()):
        if not np.isfinite(heights[index]):
            say(f"{row.id} {row.formula}: left out, {build_store.failure(row.id)}")
            continue
        packed = pack(source_structure(row))
        converged = False
        if row.id in relaxations:
            _, converged, lattice, coords = relaxations[row.id]
            packed = PackedCrystal(lattice, packed.numbers, coords)
        rows.append(
            {
                "id": row.id,
                "formula": row.formula,
                "energy_per_atom": round(float(phases.energies[index]), 6),
                "energy_above_hull": round(float(heights[index]), 6),
                "n_atoms": row.n_atoms,
                "relaxed": converged,
                "spacegroup": row.spacegroup,
                "lattice": packed.lattice,
                "numbers": packed.numbers,
                "coords": packed.coords,
            }
        )
    rows.sort(key=lambda row: (row["energy_above_hull"], row["id"]))
    metadata = {
        "potential": potential.name,
        "energy_scale": potential.energy_scale,
        "elements": ",".join(phases.elements),
        "protocol": json.dumps({"force_tol": FORCE_TOL, "max_steps": MAX_STEPS, "relaxed_within": HULL_WINDOWS}),
        "pending": str(pending),  # phases that may still lower the hull
        "attribution": ATTRIBUTION.format(potential=potential.name),
    }
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("formula", pa.string()),
            ("energy_per_atom", pa.float64()),
            ("energy_above_hull", pa.float64()),
            ("n_atoms", pa.int16()),
            ("relaxed", pa.bool_()),
            ("spacegroup", pa.int16()),
            ("lattice", pa.list_(pa.float32())),
            ("numbers", pa.list_(pa.uint8())),
            ("coords", pa.list_(pa.uint16())),
        ],
        metadata=metadata,
    )
    partial = out.with_suffix(".partial")
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), partial, compression="zstd", compression_level=19)
    partial.replace(out)
    n_relaxed = sum(row["relaxed"] for row in rows)
    say(f"{out}: {len(rows)} phases, {n_relaxed} relaxed, {out.stat().st_size / 1e6:.2f} MB")
    if pending:
        say(f"{pending} phases that may lower the hull were not relaxed: run the same command again")


def chunks(indices: Sequence[int], sizes: np.ndarray) -> Iterator[list[int]]:
    """The indices in order, in groups of up to CHUNK_ATOMS atoms and at least one phase."""
    group: list[int] = []
    atoms = 0
    for index in indices:
        if group and atoms + sizes[index] > CHUNK_ATOMS:
            yield group
            group, atoms = [], 0
        group.append(index)
        atoms += sizes[index]
    if group:
        yield group


def say(text: str) -> None:
    """Narrate on stderr."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a build from the command line."""
    parser = argparse.ArgumentParser(prog="python -m matsearch.reference.build", description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="Parquet file of known phases")
    parser.add_argument("--potential", default="chgnet-0.3.0")
    parser.add_argument("--elements", required=True, help="symbols, separated by commas")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps what was computed")
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, help="stop relaxing after so long")
    parser.add_argument("--hull-only", action="store_true", help="do not relax seeds that cannot be on the hull")
    given = parser.parse_args(arguments)
    build(
        given.source,
        given.potential,
        given.elements.split(","),
        given.out,
        given.work,
        device=given.device,
        minutes=given.minutes,
        seeds=not given.hull_only,
    )


if __name__ == "__main__":
    main()
