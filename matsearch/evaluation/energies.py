"""Energies by one potential, each computed once and kept in a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from matsearch.crystal.identity import structure_hash
from matsearch.errors import StoreError
from matsearch.evaluation.judging import PROTOCOL
from matsearch.objectives.base import unconverged_detail
from matsearch.potential import Potential
from matsearch.potential.weights import weight_hashes
from matsearch.records import Rejection, Relaxed, Stage, content_hash
from matsearch.relaxation import make_plan, protocol, relax_iter

if TYPE_CHECKING:
    from pymatgen.core import Structure

SCHEMA = """
CREATE TABLE IF NOT EXISTS energies (
    key TEXT PRIMARY KEY,     -- hash of (structure, potential, its weights, protocol)
    energy REAL,              -- eV/atom; NULL with a reason
    reason TEXT,
    detail TEXT
)
"""
CHUNK = 32  # crystals between two commits
SINGLE_POINT = "single point"

Outcome = float | Rejection


class Energies:
    """What a potential says of crystals, in eV/atom; every number is committed when it is there."""

    def __init__(self, potential: Potential, path: Path, say: Callable[[str], None] = lambda _: None) -> None:
        """Open the file, or make it.

        Args:
            potential: Whose energies.
            path: SQLite file; several potentials may share it, one process at a time writes.
            say: Is told how far it has come.

        Raises:
            StoreError: It cannot be opened.
        """
        self.potential = potential
        self._weights = weight_hashes(potential)
        self._say = say
        self._path = path
        try:
            self._connection = sqlite3.connect(path, timeout=60.0)
            with self._connection:
                self._connection.execute(SCHEMA)
        except sqlite3.Error as err:
            raise StoreError(f"cannot open {path}: {err}; delete it to begin anew") from err

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def as_they_are(self, crystals: Sequence[Structure]) -> list[Outcome]:
        """Energies of cells as given, in order."""
        keys = [self._key(crystal, SINGLE_POINT) for crystal in crystals]
        missing = self._missing(keys, crystals)
        for start in range(0, len(missing), CHUNK):
            part = missing[start : start + CHUNK]
            energies = self.potential.energies([crystal for _, crystal in part])
            self._add(
                [
                    (key, one if isinstance(one, Rejection) else one / len(crystal))
                    for (key, crystal), one in zip(part, energies, strict=True)
                ]
            )
            self._say(f"{self.potential.name}: {start + len(part)} of {len(missing)} single points")
        return self._read(keys, crystals)

    def relaxed(self, crystals: Sequence[Structure]) -> list[Outcome]:
        """Energies at the minima that crystals relax to, in order; what does not converge is a rejection."""
        keys = [self._key(crystal, protocol(PROTOCOL)) for crystal in crystals]
        missing = self._missing(keys, crystals)
        plan = make_plan(PROTOCOL.force_tol, PROTOCOL.max_steps, optimizer=PROTOCOL.optimizer)
        results = relax_iter((crystal for _, crystal in missing), self.potential, plan)
        n_done = 0
        while part := [(missing[number][0], _energy(result)) for number, result in islice(results, 1)]:
            self._add(part)
            n_done += 1
            if n_done % 10 == 0 or n_done == len(missing):
                self._say(f"{self.potential.name}: {n_done} of {len(missing)} relaxations")
        return self._read(keys, crystals)

    def _key(self, crystal: Structure, how: object) -> str:
        return content_hash([structure_hash(crystal), self.potential.name, self._weights, how])

    def _missing(self, keys: Sequence[str], crystals: Sequence[Structure]) -> list[tuple[str, Structure]]:
        """What is to be computed: each crystal once, without those that hold an element it was not trained on."""
        wanted = dict(zip(keys, crystals, strict=True))
        return [
            (key, crystal)
            for key, crystal in wanted.items()
            if not self.potential.untrained(crystal) and self._find(key) is None
        ]

    def _read(self, keys: Sequence[str], crystals: Sequence[Structure]) -> list[Outcome]:
        found: list[Outcome] = []
        for key, crystal in zip(keys, crystals, strict=True):
            if missing := self.potential.untrained(crystal):
                detail = f"{self.potential.name} was not trained on {', '.join(missing)}"
                found.append(Rejection(Stage.RELAX, "untrained_element", detail))
                continue
            row = self._find(key)
            assert row is not None, "all that can be computed has been"
            energy, reason, detail = row
            found.append(Rejection(Stage.RELAX, reason, detail) if energy is None else float(energy))
        return found

    def _find(self, key: str) -> tuple[float | None, str, str] | None:
        row: tuple[float | None, str, str] | None = self._connection.execute(
            "SELECT energy, reason, detail FROM energies WHERE key = ?", (key,)
        ).fetchone()
        return row

    def _add(self, found: Sequence[tuple[str, Outcome]]) -> None:
        rows = [
            (key, None, one.reason, one.detail) if isinstance(one, Rejection) else (key, one, None, None)
            for key, one in found
        ]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO energies VALUES (?, ?, ?, ?)", rows)
        except sqlite3.Error as err:
            raise StoreError(f"cannot write {self._path}: {err}; mend that and give the same command again") from err


def _energy(result: Relaxed | Rejection) -> Outcome:
    if isinstance(result, Rejection):
        return result
    if not result.converged:
        return Rejection(Stage.RELAX, "unconverged", unconverged_detail(result))
    return result.energy_per_atom
