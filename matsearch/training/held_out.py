"""Which crystals must not be trained on: those of the benchmarks, and those that are the same crystal as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.crystal.identity import KnownStructures
from matsearch.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure

TRAINING_TAGS = frozenset({"mp20-train", "mp20-inferred-train"})
CRYSTAL_COLUMNS = ("material_id", "formula", "lattice", "species", "frac_coords")


class HeldOut:
    """The crystals that must not be trained on.

    Attributes:
        ids: Their material ids.
        formulas: Reduced formulas of those of which no structure is known: nothing of that formula is free.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        """Of the rows of a table as `read_held_out` gives it."""
        self.ids = frozenset(table["material_id"])
        is_known = table["lattice"].notna()
        self.formulas = frozenset(table.loc[~is_known, "formula"])
        self._known: KnownStructures[str] = KnownStructures()
        for row in table[is_known].itertuples():
            self._known.add(row.material_id, partial(structure_of, row), row.formula)

    def holds(self, material_id: str, formula: str, structure: Structure) -> bool:
        """Whether a crystal is one of them by id, or by StructureMatcher with its default tolerances."""
        if material_id in self.ids or formula in self.formulas:
            return True
        return self._known.match_any(structure) is not None


def read_held_out(paths: Sequence[Path], data: pd.DataFrame) -> pd.DataFrame:
    """The rows that must not be trained on.

    Args:
        paths: Parquet files of crystals. Of one with a column `split`, rows tagged as training data and as nothing else
            are free; of one without, none is.
        data: The crystals to choose from. What it lists under a held-out id is held out too, since a benchmark may
            hold another geometry of the same material.

    Raises:
        InputError: A file cannot be read or lacks a column.
    """
    import pandas as pd

    tables = []
    for path in paths:
        table = read_parquet(path, CRYSTAL_COLUMNS)
        if "split" in table:
            table = table[[not set(tags) <= TRAINING_TAGS for tags in table["split"]]]
        tables.append(table[list(CRYSTAL_COLUMNS)])
    listed = pd.concat(tables) if tables else data.iloc[:0][list(CRYSTAL_COLUMNS)]
    return pd.concat([listed, data.loc[data["material_id"].isin(set(listed["material_id"])), list(CRYSTAL_COLUMNS)]])


def structure_of(row: Any) -> Structure:
    """The crystal of a row with `lattice` (a, b, c in Å and angles in degrees), `species` and flat `frac_coords`."""
    from pymatgen.core import Lattice, Structure

    coords = np.asarray(row.frac_coords, dtype=float).reshape(-1, 3)
    return Structure(Lattice.from_parameters(*(float(value) for value in row.lattice)), list(row.species), coords)


def read_parquet(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """A table that has at least some columns.

    Raises:
        InputError: The file cannot be read or lacks a column.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as err:
        raise InputError(f"cannot read {path} as Parquet: {err}") from err
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}")
    return table
