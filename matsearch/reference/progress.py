"""What a build of a reference has computed so far: one database, committed chunk by chunk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from matsearch.errors import StoreError
from matsearch.records import Rejection, Relaxed
from matsearch.reference.packing import PackedCrystal, pack

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = """
CREATE TABLE IF NOT EXISTS phase (
    id TEXT PRIMARY KEY,
    single_point REAL,       -- eV/atom, as listed
    energy REAL,             -- eV/atom after relaxation
    converged INTEGER,       -- of the relaxation; NULL before it
    "group" INTEGER, lattice BLOB, numbers BLOB, coords BLOB,
    failure TEXT             -- why there is no energy
);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT);
"""
_KINDS = {"lattice": np.int32, "numbers": np.uint8, "coords": np.uint16}


class State(NamedTuple):
    """What is known of a phase."""

    id: str
    energy: float | None
    """eV/atom, the relaxed one where there is one."""
    converged: bool | None
    """None before a relaxation."""
    failure: str | None


class BuildProgress:
    """The database of one build.

    Attributes:
        potential: Name of the potential.
    """

    def __init__(self, path: Path, potential_name: str, digest: str, weights: str) -> None:
        """Open it, or make it.

        Args:
            path: The file.
            potential_name: Whose energies.
            digest: Of the phases.
            weights: Hash of the potential's weights.

        Raises:
            StoreError: It belongs to another potential, other weights or other phases, or cannot be opened.
        """
        self.potential = potential_name
        try:
            self._connection = sqlite3.connect(path)
        except sqlite3.Error as err:
            raise StoreError(f"cannot open {path}: {err}") from err
        try:
            self._require_own(path, {"potential": potential_name, "catalogue": digest, "weights": weights})
        except BaseException:
            self.close()
            raise

    def _require_own(self, path: Path, owner: Mapping[str, str]) -> None:
        try:
            with self._connection:
                self._connection.executescript(SCHEMA)
                self._connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", owner.items())
            found = dict(self._connection.execute("SELECT key, value FROM meta"))
        except sqlite3.Error as err:
            raise StoreError(f"cannot open {path}: {err}; delete it to begin anew") from err
        for key, value in owner.items():
            if found[key] != value:
                raise StoreError(f"{path} holds a build with {key} {found[key]}, not {value}; delete it to begin anew")

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def states(self) -> list[State]:
        """All phases that something is known of."""
        rows = self._connection.execute(
            "SELECT id, CASE WHEN converged IS NULL THEN single_point ELSE energy END, converged, failure FROM phase"
        )
        return [State(one, energy, None if done is None else bool(done), why) for one, energy, done, why in rows]

    def cells(self) -> dict[str, PackedCrystal]:
        """Id to cell of the phases whose relaxation converged."""
        rows = self._connection.execute(
            'SELECT id, "group", lattice, numbers, coords FROM phase WHERE converged = 1 AND energy IS NOT NULL'
        )
        return {
            phase_id: PackedCrystal(
                group,
                *(np.frombuffer(blob, dtype=_KINDS[name]) for name, blob in zip(_KINDS, blobs, strict=True)),
            )
            for phase_id, group, *blobs in rows
        }

    def add_single_points(self, ids: Sequence[str], energies: Iterable[float | Rejection]) -> None:
        """Commit single points, eV/atom. A phase without one is a failure, and is not relaxed."""
        rows = [
            (phase_id, None, 0, f"{energy.reason}: as listed, {energy.detail}")
            if isinstance(energy, Rejection)
            else (phase_id, energy, None, None)
            for phase_id, energy in zip(ids, energies, strict=True)
        ]
        with self._connection:
            self._connection.executemany(
                "INSERT OR IGNORE INTO phase (id, single_point, converged, failure) VALUES (?, ?, ?, ?)", rows
            )

    def add_relaxations(self, results: Iterable[tuple[str, Relaxed | Rejection]]) -> None:
        """Commit relaxations of phases that have a single point."""
        with self._connection:
            for phase_id, result in results:
                if isinstance(result, Rejection):
                    values = (None, 0, None, None, None, None, f"{result.reason}: {result.detail}")
                else:
                    packed = pack(result.structure)
                    blobs = (getattr(packed, name).tobytes() for name in _KINDS)
                    values = (result.energy_per_atom, int(result.converged), packed.group, *blobs, None)
                self._connection.execute(
                    'UPDATE phase SET energy = ?, converged = ?, "group" = ?, lattice = ?, numbers = ?, coords = ?, '
                    "failure = ? WHERE id = ?",
                    (*values, phase_id),
                )

    def adopt(self, ids: Sequence[str], table: pa.Table) -> None:
        """Begin with what a file of energies holds.

        Args:
            ids: Of the phases of the catalogue.
            table: See `matsearch.reference.energies`.
        """
        rows = []
        for row in table.to_pylist():
            done = row["relaxed"] or row["unconverged"] or row["failure"] is not None
            cell = [None if row[name] is None else np.array(row[name], dtype=_KINDS[name]).tobytes() for name in _KINDS]
            energy = row["energy_per_atom"]
            if energy is None and not done:
                continue  # not computed when the file was written
            rows.append((
                ids[row["phase"]], None if done else energy, energy if done else None,
                int(row["relaxed"]) if done else None, row["group"], *cell, row["failure"],
            ))  # fmt: skip
        with self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO phase VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
