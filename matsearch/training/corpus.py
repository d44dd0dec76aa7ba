"""The training corpus of the embedded model: crystals as compact text, with what is known of them.

Two steps, each over several processes and resumable: which crystals are free to be trained on, and their text.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.crystal.wyckoff import encode, from_compact, vocabulary
from matsearch.errors import InputError
from matsearch.training.chunks import map_chunks
from matsearch.training.held_out import CRYSTAL_COLUMNS, HeldOut, read_held_out, read_parquet, structure_of

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

MAX_ATOMS = 24
"""Of the cell as the data list it."""
MAX_TOKENS = 100
"""Of a text: those beyond are a few crystals of low symmetry that cost as much as the rest."""
MAX_PER_FORMULA = 8
"""Polymorphs kept of one formula, the lowest in energy; beyond that a few (carbon has 95) would flood the corpus."""
MAX_ENERGY_ABOVE_HULL = 0.5
"""eV/atom; what lies higher is no example of anything that is sought."""
LABELS = ("energy_above_hull", "density", "bulk_modulus")


@dataclass(frozen=True, slots=True)
class Entry:
    """One crystal of the corpus.

    Attributes:
        text: Compact text.
        formula: Reduced formula.
        counts: Atoms of each element in the primitive cell.
        space_group: ITA number.
        energy_above_hull: eV/atom, by the potential of the reference; None where unknown.
        density: Mass density, g/cm^3.
        bulk_modulus: Voigt-Reuss-Hill average, GPa; None where unknown.
    """

    text: str
    formula: str
    counts: dict[str, int]
    space_group: int
    energy_above_hull: float | None = None
    density: float | None = None
    bulk_modulus: float | None = None

    @property
    def elements(self) -> frozenset[str]:
        """The elements."""
        return frozenset(self.counts)

    @property
    def prototype(self) -> tuple[int, tuple[int, ...], int]:
        """Space group, sorted counts and number of tokens: equal for crystals of one structure type."""
        return self.space_group, tuple(sorted(self.counts.values())), len(self.text.split())


def parse_entry(text: str, formula: str, **labels: float | None) -> Entry:
    """The corpus entry of a compact text."""
    composition, lattice, _ = text.split(" : ")
    words = composition.split()[1:]
    counts = {symbol: int(count) for symbol, count in zip(words[::2], words[1::2], strict=True)}
    return Entry(text, formula, counts, int(lattice.split()[0][2:]), **labels)


def build_corpus(
    data: Path,
    splits: Sequence[Path],
    out: Path,
    *,
    energies: pd.Series | None = None,
    elasticity: Path | None = None,
    processes: int = 1,
) -> pd.DataFrame:
    """Compact text of every crystal that may be trained on, kept in `OUT/corpus.parquet`.

    Args:
        data: Parquet with `material_id`, `formula` (reduced), `n_atoms`, `lattice`, `species`, `frac_coords`.
        splits: What is held out, see `held_out.read_held_out`.
        out: Folder of the result, and of what has been done so far.
        energies: Energy above the hull in eV/atom by material id.
        elasticity: Parquet of crystals with their bulk moduli `K_VRH_GPa`.
        processes: How many work at once.

    Returns:
        Columns `material_id`, `formula`, `text` and `LABELS`. How many crystals every rule removed is logged.

    Raises:
        InputError: A file cannot be read or lacks the columns, or nothing is left to train on.
    """
    import pandas as pd

    path = out / "corpus.parquet"
    if path.is_file():
        return pd.read_parquet(path)
    free_path = out / "free.parquet"
    if free_path.is_file():
        free = pd.read_parquet(free_path)
    else:
        free = _free_crystals(data, splits, out, energies, elasticity, processes)
        free.to_parquet(free_path)
    free = free.set_index("material_id", drop=False)
    log.info("valid, and not a held-out crystal by StructureMatcher: %d", len(free))
    # In no order, so that chunks take the same time.
    free = free.sample(frac=1.0, random_state=0)
    corpus = map_chunks(
        _writer, free, out / "chunks", version=f"text {' '.join(vocabulary())}", processes=processes
    ).drop_duplicates("text")
    log.info("with a text of up to %d tokens that reads back, distinct: %d", MAX_TOKENS, len(corpus))
    if corpus.empty:
        raise InputError(f"no crystal of {data} may be trained on; check what is held out")
    corpus.to_parquet(path)
    return corpus


def _free_crystals(
    data: Path,
    splits: Sequence[Path],
    out: Path,
    energies: pd.Series | None,
    elasticity: Path | None,
    processes: int,
) -> pd.DataFrame:
    """The crystals that are not held out and are valid, with their labels."""
    table = read_parquet(data, (*CRYSTAL_COLUMNS, "n_atoms"))
    log.info("in the data: %d crystals", len(table))
    held_out = read_held_out(splits, table)
    table = table[table["n_atoms"] <= MAX_ATOMS]
    log.info("up to %d atoms: %d", MAX_ATOMS, len(table))
    table = table[~table["material_id"].isin(set(held_out["material_id"]))]
    log.info("not held out by id: %d", len(table))
    table = table.set_index("material_id", drop=False)
    table["energy_above_hull"] = np.nan if energies is None else energies.reindex(table.index)
    table = table[~(table["energy_above_hull"] > MAX_ENERGY_ABOVE_HULL)].sort_values("energy_above_hull", kind="stable")
    log.info("up to %s eV/atom above the hull: %d", MAX_ENERGY_ABOVE_HULL, len(table))
    table = table[table.groupby("formula").cumcount() < MAX_PER_FORMULA]
    log.info("at most %d of a formula: %d", MAX_PER_FORMULA, len(table))
    # Crystals of one formula are compared with the same held-out ones: side by side, these are reduced once.
    table = table.sort_values("formula", kind="stable")
    stiff = None if elasticity is None else read_parquet(elasticity, (*CRYSTAL_COLUMNS, "K_VRH_GPa"))
    held_out = held_out[held_out["formula"].isin(set(table["formula"]))]
    version = f"free {data.name} {[path.name for path in splits]} {elasticity is not None} {energies is not None}"
    work = partial(_Judge, held_out, stiff)
    return map_chunks(work, table, out / "chunks", version=version, processes=processes)


class _Judge:
    """Leaves the rows that are free, and adds density and bulk modulus."""

    def __init__(self, held_out: pd.DataFrame, elasticity: pd.DataFrame | None) -> None:
        from matsearch.crystal.identity import KnownStructures

        self._held_out = HeldOut(held_out)
        self._stiff: KnownStructures[float] = KnownStructures()
        if elasticity is not None:
            for row in elasticity.itertuples():
                self._stiff.add(float(row.K_VRH_GPa), partial(structure_of, row), row.formula)

    def __call__(self, rows: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        from matsearch.crystal.checks import check_structure

        kept = []
        for row in rows.itertuples(index=False):
            structure = structure_of(row)
            if check_structure(structure) is not None:
                continue
            if self._held_out.holds(row.material_id, row.formula, structure):
                continue
            modulus = self._stiff.match_any(structure)
            labels = {
                "density": float(structure.density),
                "bulk_modulus": modulus if modulus is not None and modulus > 0 else None,
            }
            kept.append({**row._asdict(), **labels})
        return pd.DataFrame(kept, columns=[*rows.columns, "density", "bulk_modulus"]).astype({"bulk_modulus": float})


def _writer() -> Any:
    return _write_texts


def _write_texts(rows: pd.DataFrame) -> pd.DataFrame:
    """Compact texts, of the crystals that have one."""
    import pandas as pd
    from ase.data import atomic_numbers
    from ase.geometry import cellpar_to_cell

    kept = []
    for row in rows.itertuples(index=False):
        coords = np.asarray(row.frac_coords, dtype=float).reshape(-1, 3)
        numbers = [atomic_numbers[symbol] for symbol in row.species]
        try:
            text = encode(cellpar_to_cell(np.asarray(row.lattice, float)), coords, numbers)
            from_compact(text)
        except ValueError:
            continue  # outside the vocabulary: nothing that the model could write
        if len(text.split()) <= MAX_TOKENS:
            kept.append((row.material_id, row.formula, text, *(getattr(row, label) for label in LABELS)))
    return pd.DataFrame(kept, columns=["material_id", "formula", "text", *LABELS]).astype(dict.fromkeys(LABELS, float))
