"""Known phases of the covered elements, their energies by one potential, and questions to the hull they span."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from matsearch.errors import MissingReferenceError
from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    import pandas as pd
    import pyarrow as pa
    from pymatgen.core import Composition, Structure

    from matsearch.reference.hull import Hull, HullPoint

GEOMETRY = ("lattice", "numbers", "coords")


@dataclass(frozen=True, slots=True)
class Phase:
    """One known phase.

    Attributes:
        id: Its Materials Project id.
        formula: Reduced.
        structure: Relaxed by the potential where `relaxed`, else as the Materials Project lists it.
        energy_per_atom: eV/atom, on the potential's energy scale.
        energy_above_hull: eV/atom, at least 0.
        relaxed: Whether the relaxation converged. Else the energy is an upper bound: of the cell as listed, or of the
            last step.
    """

    id: str
    formula: str
    structure: Structure
    energy_per_atom: float
    energy_above_hull: float
    relaxed: bool


class Reference:
    """All known phases of some elements, by one potential.

    Attributes:
        potential: Name of the potential whose energies these are.
        energy_scale: What the energies mean; they meet no others.
        elements: Every chemical system within these is covered completely.
        attribution: Whose data this is, and under which licence.
    """

    def __init__(self, table: pa.Table) -> None:
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        self.potential = metadata["potential"]
        self.energy_scale = metadata["energy_scale"]
        self.elements = frozenset(metadata["elements"].split(","))
        self.attribution = metadata["attribution"]
        self._table = table
        self._points: dict[tuple[tuple[str, float], ...], HullPoint] = {}

    def __repr__(self) -> str:
        return f"Reference({self.potential}: {self._table.num_rows} phases of {'-'.join(sorted(self.elements))})"

    @cached_property
    def phases(self) -> pd.DataFrame:
        """One row a phase: id, formula, energy_per_atom, energy_above_hull (eV/atom), n_atoms, relaxed, spacegroup.

        Lowest above the hull first, then by id. The space group is the one that the Materials Project lists.
        """
        return self._table.drop_columns(list(GEOMETRY)).to_pandas()

    def structure(self, phase_id: str) -> Structure:
        """The crystal of a phase.

        Raises:
            KeyError: No phase has this id.
        """
        return self._structure_at(self._position[phase_id])

    def known(self, formula: str) -> list[str]:
        """Ids of the phases with this formula (reduced or not), lowest first; empty for none."""
        from pymatgen.core import Composition

        return list(self._by_formula.get(Composition(formula).reduced_formula, ()))

    def select(self, elements: Collection[str] | None = None, max_atoms: int | None = None) -> list[Phase]:
        """Phases to start a search from.

        Args:
            elements: Only phases that hold none but these; None for all that are covered. Elements that are not
                covered add nothing: ask `uncovered` where that matters.
            max_atoms: Only cells of up to so many atoms; None for any size.

        Returns:
            Lowest above the hull first, then by id.
        """
        allowed = self.elements if elements is None else frozenset(elements)
        return [
            Phase(
                row.id,
                row.formula,
                self._structure_at(position),
                float(row.energy_per_atom),
                float(row.energy_above_hull),
                bool(row.relaxed),
            )
            for position, row in enumerate(self.phases.itertuples(index=False))
            if (max_atoms is None or row.n_atoms <= max_atoms) and self._symbols[position] <= allowed
        ]

    def uncovered(self, elements: Collection[str]) -> list[str]:
        """The elements that no hull exists for, sorted."""
        return sorted(set(elements) - self.elements)

    def energy_above_hull(self, composition: Composition | str, energy_per_atom: float) -> float | Rejection:
        """How far an energy lies above the hull of the known phases.

        The hull holds known phases only, one of the same formula included, and never other candidates.

        Args:
            composition: Of the crystal.
            energy_per_atom: eV/atom by this reference's potential, relaxed by the same protocol.

        Returns:
            eV/atom; negative below the hull (new and stable by this potential), not rounded. A rejection where an
            element is not covered.
        """
        point = self._hull_point(composition)
        return point if isinstance(point, Rejection) else energy_per_atom - point.energy

    def decomposition(self, composition: Composition | str) -> dict[str, float] | Rejection:
        """The known phases that a composition falls apart into: reduced formula to its share of the atoms.

        Largest share first; shares sum to 1. A rejection where an element is not covered.
        """
        point = self._hull_point(composition)
        if isinstance(point, Rejection):
            return point
        formulas = self._hull_formulas
        shares = sorted(
            ((formulas[index], share) for index, share in point.mixture.items()), key=lambda x: (-x[1], x[0])
        )
        return dict(shares)

    def _hull_point(self, composition: Composition | str) -> HullPoint | Rejection:
        from pymatgen.core import Composition

        amounts = amounts_by_symbol(composition if isinstance(composition, Composition) else Composition(composition))
        if missing := self.uncovered(amounts):
            return Rejection(
                Stage.SCORE,
                "no_reference",
                f"no hull of known phases with {', '.join(missing)} for {self.potential}; "
                f"covered: {', '.join(sorted(self.elements))}",
            )
        total = sum(amounts.values())
        key = tuple(sorted((symbol, amount / total) for symbol, amount in amounts.items()))
        if key not in self._points:
            self._points[key] = self._hull.at(dict(key))
        return self._points[key]

    @cached_property
    def _hull(self) -> Hull:
        """Only phases on the hull: they alone span it, in every chemical system."""
        import numpy as np
        from pymatgen.core import Composition

        from matsearch.reference.hull import Hull

        symbols = sorted(self.elements)
        stable = self.phases[self.phases.energy_above_hull == 0.0]
        fractions = np.zeros((len(stable), len(symbols)))
        for row, formula in enumerate(stable.formula):
            amounts = amounts_by_symbol(Composition(formula))
            for symbol, amount in amounts.items():
                fractions[row, symbols.index(symbol)] = amount / sum(amounts.values())
        return Hull(symbols, fractions, stable.energy_per_atom.to_numpy())

    @cached_property
    def _hull_formulas(self) -> list[str]:
        return self.phases.formula[self.phases.energy_above_hull == 0.0].tolist()

    @cached_property
    def _position(self) -> dict[str, int]:
        return {phase_id: position for position, phase_id in enumerate(self.phases["id"])}

    @cached_property
    def _by_formula(self) -> dict[str, list[str]]:
        return self.phases.groupby("formula", sort=False)["id"].apply(list).to_dict()

    @cached_property
    def _symbols(self) -> list[frozenset[str]]:
        """The elements of each phase, in the order of `phases`."""
        from pymatgen.core import Element

        return [
            frozenset(Element.from_Z(z).symbol for z in set(numbers)) for numbers in self._table["numbers"].to_pylist()
        ]

    def _structure_at(self, position: int) -> Structure:
        from matsearch.reference.packing import unpack

        return unpack(*(self._table[column][position].values.to_numpy() for column in GEOMETRY))


def amounts_by_symbol(composition: Composition) -> Mapping[str, float]:
    """Symbol to amount; oxidation states, which no potential here sees, are dropped."""
    return composition.element_composition.get_el_amt_dict()


@lru_cache(maxsize=8)
def load_reference(potential_name: str) -> Reference:
    """The known phases and the hull of one potential, read once a process.

    Raises:
        MissingReferenceError: None was computed for this potential; names those that have one.
    """
    files = reference_files()
    if potential_name not in files:
        raise MissingReferenceError(
            f"no hull of known phases for potential {potential_name!r}; potentials that have one: "
            f"{', '.join(sorted(files)) or 'none'}. Use one of those, or an objective that needs no hull"
        )
    import pyarrow.parquet as pq

    with resources.as_file(files[potential_name]) as path:
        return Reference(pq.read_table(path))


def reference_files() -> dict[str, Traversable]:
    """Name of a potential to the data file that ships with the package."""
    folder = resources.files("matsearch.reference") / "data"
    return {file.name.removesuffix(".parquet"): file for file in folder.iterdir() if file.name.endswith(".parquet")}
