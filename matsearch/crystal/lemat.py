"""Crystals as LeMat-GenBench reads them.

Its `scripts/run_benchmarks.py` takes a folder of CIF files (`--cifs`, searched for `*.cif`, each read by
`Structure.from_file`) or a table (`--csv`) whose column `structure` holds structures as pymatgen writes them in JSON.
Source: https://github.com/LeMaterial/lemat-genbench.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from matsearch.crystal.text import to_cif
from matsearch.errors import InputError

if TYPE_CHECKING:
    from pymatgen.core import Structure

TABLE = "structures.csv"


class LematFolder:
    """Writes crystals into a folder, one by one: `structures.csv`, which loses nothing, and a CIF of each.

    Both hold the crystals as they were proposed: the benchmark counts what it is given and relaxes by itself.

    Attributes:
        table: The file `structures.csv`.
        n_written: Crystals so far.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises:
            InputError: It holds CIFs already, which the benchmark would read as well.
            OSError: It cannot be made, or not be written to.
        """
        if any(folder.rglob("*.cif")):
            raise InputError(f"{folder} holds CIF files already, which the benchmark would take in; name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.table = folder / TABLE
        self._file = self.table.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(["material_id", "structure"])
        self.n_written = 0

    def write(self, number: int, structure: Structure) -> None:
        """Write a crystal, named by its number."""
        name = f"{number:06d}"
        self._rows.writerow([name, json.dumps(structure.as_dict(), allow_nan=False)])
        (self._folder / f"{name}.cif").write_text(to_cif(structure), encoding="utf-8")
        self.n_written += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
