"""The phases that one potential has energies of: which of them are seen, and the hull that they span."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

from matsearch.reference.catalogue import GEOMETRY, Catalogue

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from pymatgen.core import Composition, Structure

    from matsearch.reference.hull import Hull


@dataclass(frozen=True, slots=True)
class AddedPhase:
    """A phase that a user added."""

    id: str
    formula: str
    amounts: Mapping[str, float]
    structure: Structure
    energy_per_atom: float


class Phases:
    """Those of a catalogue with an energy, and those that were added, less those that are hidden.

    Args:
        catalogue: What the phases are.
        table: What the potential makes of them.
        elements: Symbols that the hull is of, sorted.
        added: By id.
        hidden: Ids.
        whole: The same with nothing hidden; None where nothing is.

    Attributes:
        extra: Those that were added, hidden ones included, by id.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        table: pa.Table,
        elements: Sequence[str],
        added: Mapping[str, AddedPhase],
        hidden: Collection[str] = (),
        whole: Phases | None = None,
    ) -> None:
        self.extra = dict(added)
        self._catalogue = catalogue
        self._table = table
        self._elements = elements
        self._hidden = frozenset(hidden)
        self._whole = whole

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a phase that has an energy: id, formula, energy_per_atom, energy_above_hull (eV/atom), n_atoms,
        relaxed, spacegroup (within 0.1 Å), prototype.

        Lowest above the hull first, then by id.
        """
        import numpy as np
        import pandas as pd

        rows = self._row_numbers
        columns: dict[str, Any] = {
            name: self._catalogue.labels[name].take(rows).to_pandas() for name in ("id", "formula")
        }
        columns["energy_per_atom"] = self._energies.round(6)
        columns["energy_above_hull"] = self._heights.round(6)
        columns["n_atoms"] = self._catalogue.labels["n_atoms"].take(rows).to_pandas()
        columns["relaxed"] = self._shown["relaxed"].to_pandas()
        columns["spacegroup"] = self._catalogue.labels["spacegroup"].take(rows).to_pandas().astype("int16")
        columns["prototype"] = self._catalogue.labels["prototype"].take(rows).to_pandas()
        table = pd.DataFrame(columns)
        if self._visible:
            table = self._with_extra(table)
        if self._hidden:
            table = table[~table["id"].isin(self._hidden)]
        order = np.lexsort((table["id"].to_numpy(dtype=str), table["energy_above_hull"].to_numpy()))
        return table.iloc[order].reset_index(drop=True)

    @property
    def _visible(self) -> list[AddedPhase]:
        return [one for one in self.extra.values() if one.id not in self._hidden]

    @cached_property
    def hull(self) -> Hull:
        """That of all phases which are not hidden, and of each element's lowest."""
        return self._hull_with(self._visible)

    @cached_property
    def _spanning(self) -> np.ndarray:
        """Rows that span the hull: of the listed phases only those on it, in every chemical system.

        Where some of these are hidden, what lay above them may be on the hull of those that are left.
        """
        import numpy as np

        stable = np.flatnonzero(self._heights == 0.0)
        if not self._hidden:
            return stable
        whole, shown = self._whole, set(self._row_numbers.tolist())
        assert whole is not None, "something is hidden of it"
        taken = [position for position in whole._row_numbers[whole._heights == 0.0].tolist() if position not in shown]
        systems = {frozenset(self._catalogue.amounts[position]) for position in taken}
        raised = [
            row
            for row, position in enumerate(self._row_numbers.tolist())
            if _holds_one(self._catalogue.amounts[position].keys(), systems)
        ]
        return np.union1d(stable, np.array(raised, dtype=stable.dtype))

    def _hull_with(self, extra: Sequence[AddedPhase]) -> Hull:
        import numpy as np

        from matsearch.reference.hull import Hull

        rows = self._spanning
        amounts: list[Mapping[str, float]] = [self._catalogue.amounts[self._row_numbers[row]] for row in rows]
        amounts += [one.amounts for one in extra]
        energies = [*self._energies[rows], *(one.energy_per_atom for one in extra)]
        return Hull(*fractions_of(amounts, self._elements), np.array(energies))

    @cached_property
    def hull_formulas(self) -> list[str]:
        """Of the phases of the hull, by their number in it."""
        formulas = self._catalogue.column("formula")
        return [formulas[self._row_numbers[row]] for row in self._spanning] + [one.formula for one in self._visible]

    @cached_property
    def _shown(self) -> pa.Table:
        import pyarrow.compute as pc

        columns = self._table.select(["phase", "energy_per_atom", "energy_above_hull", "relaxed"])
        columns = columns.filter(pc.field("energy_per_atom").is_valid())
        hidden = {self._catalogue.position[one] for one in self._hidden if one in self._catalogue.position}
        # An element's lowest phase, at 0, is what all energies are measured from.
        kept = [
            row
            for row, (position, height) in enumerate(
                zip(columns["phase"].to_pylist(), columns["energy_above_hull"].to_pylist(), strict=True)
            )
            if position not in hidden or (height == 0.0 and len(self._catalogue.amounts[position]) == 1)
        ]
        return columns.take(kept) if hidden else columns

    @cached_property
    def _row_numbers(self) -> np.ndarray:
        """Row of the catalogue of each phase with an energy."""
        numbers: np.ndarray = self._shown["phase"].to_numpy()
        return numbers

    @cached_property
    def _energies(self) -> np.ndarray:
        energies: np.ndarray = self._shown["energy_per_atom"].to_numpy().astype(float)
        return energies

    @cached_property
    def _heights(self) -> np.ndarray:
        """Above the hull without extra phases."""
        heights: np.ndarray = self._shown["energy_above_hull"].to_numpy().astype(float)
        return heights

    @cached_property
    def _row_of(self) -> dict[int, int]:
        """Row of the catalogue to row of the energies."""
        return {position: row for row, position in enumerate(self._table["phase"].to_pylist())}

    def is_relaxed(self, position: int) -> bool:
        """Whether the relaxation of a row of the catalogue converged."""
        row = self._row_of.get(position)
        return row is not None and bool(self._table["relaxed"][row].as_py())

    def relaxed_structure(self, position: int) -> Structure:
        """The crystal of a row of the catalogue as it relaxed."""
        from matsearch.reference.packing import unpack

        group, *lists = (self._table[name][self._row_of[position]] for name in GEOMETRY)
        return unpack(group.as_py(), *(one.values.to_numpy() for one in lists))

    def _with_extra(self, table: pd.DataFrame) -> pd.DataFrame:
        """The phases with the extra ones, all above the new hull."""
        import numpy as np
        import pandas as pd

        from matsearch.crystal.prototype import prototype_label

        rows = []
        for one in self._visible:
            label = prototype_label(one.structure)
            rows.append(
                {
                    "id": one.id,
                    "formula": one.formula,
                    "energy_per_atom": round(one.energy_per_atom, 6),
                    "energy_above_hull": 0.0,
                    "n_atoms": len(one.structure),
                    "relaxed": True,
                    "spacegroup": int(label.split("_")[2]) if label.count("_") > 1 else 1,
                    "prototype": label,
                }
            )
        table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True).astype(table.dtypes)
        listed = self._hull_with([])
        lower = [one for one in self._visible if one.energy_per_atom < listed.at(one.amounts).energy]
        systems = {frozenset(one.amounts) for one in lower}
        amounts = [self._catalogue.amounts[position] for position in self._row_numbers]
        amounts += [dict(one.amounts) for one in self._visible]
        # Elsewhere the hull is what it was.
        moved = [
            index
            for index, own in enumerate(amounts)
            if index >= len(self._row_numbers) or any(system <= own.keys() for system in systems)
        ]
        _, fractions = fractions_of([amounts[index] for index in moved], self.hull.elements)
        heights = table["energy_per_atom"].to_numpy()[moved] - self.hull.energies_at(fractions)
        table.loc[moved, "energy_above_hull"] = np.where(heights > 1e-6, heights.round(6), 0.0)
        return table


def _holds_one(elements: Collection[str], systems: Collection[frozenset[str]]) -> bool:
    """Whether one of some chemical systems lies within the elements."""
    sizes = range(1, len(elements) + 1)
    return any(frozenset(some) in systems for size in sizes for some in combinations(sorted(elements), size))


def amounts_by_symbol(composition: Composition) -> Mapping[str, float]:
    """Symbol to amount; oxidation states, which no potential here sees, are dropped."""
    return composition.element_composition.get_el_amt_dict()


def fractions_of(amounts: Sequence[Mapping[str, float]], symbols: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The symbols and the atomic fractions [n, n_symbols] of compositions."""
    import numpy as np

    column = {symbol: index for index, symbol in enumerate(symbols)}
    fractions = np.zeros((len(amounts), len(symbols)))
    for row, one in enumerate(amounts):
        total = sum(one.values())
        for symbol, amount in one.items():
            fractions[row, column[symbol]] = amount / total
    return list(symbols), fractions
