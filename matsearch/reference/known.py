"""Known phases with their energies by one potential, and questions to the hull that they span."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matsearch.crystal.identity import KnownStructures, reduced_formula
from matsearch.errors import MissingReferenceError, MixedHullError
from matsearch.records import Rejection, Relaxed, Stage
from matsearch.reference.catalogue import (
    GEOMETRY,
    Catalogue,
    composition_key,
    formula_of,
    read_catalogue,
    version_of,
)
from matsearch.reference.energies import energies_path, potentials_in, read_energies

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from pymatgen.core import Composition, Structure

    from matsearch.reference.hull import Hull, HullPoint

VIEWS_KEPT = 4
"""Views of a reference with phases hidden that are kept for who asks again: each holds tables and hulls of its own."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One known phase.

    Attributes:
        id: Its id in the source, such as `mp-2657`.
        formula: Reduced.
        structure: Relaxed by the potential where `relaxed`, else as its source lists it.
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


@dataclass(frozen=True, slots=True)
class _Extra:
    """A phase that a user added."""

    id: str
    formula: str
    amounts: Mapping[str, float]
    structure: Structure
    energy_per_atom: float


class Reference:
    """The known phases, by one potential.

    Attributes:
        potential: Name of the potential whose energies these are.
        energy_scale: What the energies mean; they meet no others.
        elements: A hull exists within these.
        attribution: Whose data this is, and under which licence.
        protocol: How the phases were relaxed, as JSON.
        n_pending: Phases near the hull that have not been relaxed yet.
        n_missing: Phases that have no energy because the build was stopped before them: large cells.
    """

    def __init__(self, catalogue: Catalogue, table: pa.Table, metadata: Mapping[str, str]) -> None:
        self.potential = metadata["potential"]
        self.energy_scale = metadata["energy_scale"]
        self.elements = frozenset(metadata["elements"].split(","))
        self.protocol = metadata["protocol"]
        self.n_pending = int(metadata["n_pending"])
        self.n_missing = int(metadata.get("n_missing", "0"))
        self.attribution = f"{catalogue.attribution} Energies and relaxed cells: matsearch, {self.potential}."
        self._catalogue = catalogue
        self._table = table
        self._extra: dict[str, _Extra] = {}
        self._hidden_names: frozenset[str] = frozenset()
        self._views: dict[frozenset[str], Reference] = {}
        self._whole = self
        self._points: dict[tuple[tuple[str, float], ...], HullPoint] = {}
        self._known: dict[str, KnownStructures[str]] = {}

    def __repr__(self) -> str:
        return f"Reference({self.potential}: {len(self.phases)} phases of {len(self.elements)} elements)"

    def extended(self, phases: Sequence[tuple[str, Relaxed]]) -> Reference:
        """A reference with more phases: they join the hull and what is known.

        Args:
            phases: Ids that no phase has yet, and crystals relaxed by this potential and converged.

        Raises:
            MixedHullError: A crystal was relaxed by another potential.
            ValueError: An id is taken, a crystal did not converge, or holds an element without a hull.
        """
        extra = dict(self._extra)
        for phase_id, relaxed in phases:
            self._require_own(relaxed)
            if phase_id in extra or phase_id in self._catalogue.position:
                raise ValueError(f"a known phase is called {phase_id!r} already; give it another id")
            if not relaxed.converged:
                raise ValueError(f"{phase_id!r} is not relaxed to convergence; the hull holds only phases that are")
            amounts = amounts_by_symbol(relaxed.structure.composition)
            if missing := self.uncovered(amounts):
                raise ValueError(f"{phase_id!r} holds {', '.join(missing)}, and no hull of {self.potential} has that")
            formula = formula_of(relaxed.structure)
            extra[phase_id] = _Extra(phase_id, formula, amounts, relaxed.structure, relaxed.energy_per_atom)
        made = self._whole._copied()
        made._extra, made._whole, made._hidden_names = extra, made, frozenset()
        return made.hiding(self._hidden_names)

    def hiding(self, names: Collection[str]) -> Reference:
        """The same without some phases, as if nobody had met them: they are in no hull, in no list, and match nothing.

        An element's lowest phase stays in the hull even so, since all formation energies are measured from it. In
        `phases` the energies above the hull stay those above the whole one: to work all of them out anew would take
        minutes, and there they only say what is near it.

        Args:
            names: Ids, and formulas (reduced or not) for all phases of that composition.

        Raises:
            ValueError: A name is neither an id nor a formula of known elements.
        """
        hidden = self._hidden_names | frozenset(names)
        if hidden == self._hidden_names:
            return self
        views = self._whole._views
        made = views.get(hidden)
        if made is None:
            made = self._whole._copied()
            made._whole, made._hidden_names = self._whole, hidden
            made.hidden  # noqa: B018 - a name that says nothing is refused here
            while len(views) >= VIEWS_KEPT:
                del views[next(iter(views))]
            views[hidden] = made
        return made

    @property
    def whole(self) -> Reference:
        """The same with nothing hidden."""
        return self._whole

    @cached_property
    def hidden(self) -> frozenset[str]:
        """Ids of the phases that are hidden."""
        found: set[str] = set()
        for name in self._hidden_names:
            if name in self._catalogue.position or name in self._extra:
                found.add(name)
            else:
                found.update(self._ids_of(_key_of(name)))
        return frozenset(found)

    def holds(self, name: str) -> bool:
        """Whether a name is the id of a known phase, hidden or not, or the formula of one."""
        if name in self._catalogue.position or name in self._extra:
            return True
        try:
            return bool(self._ids_of(_key_of(name)))
        except ValueError:
            return False

    def _copied(self) -> Reference:
        """A copy without what was worked out."""
        made = copy.copy(self)
        for name, attribute in vars(type(self)).items():
            if isinstance(attribute, cached_property):
                made.__dict__.pop(name, None)
        made._points, made._known, made._views = {}, {}, {}
        return made

    @cached_property
    def phases(self) -> pd.DataFrame:
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
        columns["relaxed"] = self._with_energy["relaxed"].to_pandas()
        columns["spacegroup"] = self._catalogue.labels["spacegroup"].take(rows).to_pandas().astype("int16")
        columns["prototype"] = self._catalogue.labels["prototype"].take(rows).to_pandas()
        table = pd.DataFrame(columns)
        if self._visible_extra:
            table = self._with_extra(table)
        if self.hidden:
            table = table[~table["id"].isin(self.hidden)]
        order = np.lexsort((table["id"].to_numpy(dtype=str), table["energy_above_hull"].to_numpy()))
        return table.iloc[order].reset_index(drop=True)

    def structure(self, phase_id: str) -> Structure:
        """The crystal of a phase: relaxed where its relaxation converged, else as its source lists it.

        Raises:
            KeyError: No phase has this id.
        """
        if phase_id in self._extra:
            return self._extra[phase_id].structure
        position = self._catalogue.position[phase_id]
        if self._is_relaxed(position):
            return self._relaxed_structure(position)
        return self._catalogue.structure(position)

    def known(self, formula: str) -> list[str]:
        """Ids of the phases with this formula (reduced or not), lowest first, those without an energy last."""
        heights = self._height_of
        ids = [phase_id for phase_id in self._ids_of(_key_of(formula)) if phase_id not in self.hidden]
        return sorted(ids, key=lambda phase_id: (heights.get(phase_id, float("inf")), phase_id))

    def _ids_of(self, key: str) -> list[str]:
        """Ids of all phases of one composition, hidden ones included."""
        ids = [self._catalogue.ids[position] for position in self._catalogue.positions.get(key, ())]
        return ids + [one.id for one in self._extra.values() if composition_key(one.amounts) == key]

    def match(self, structure: Structure) -> str | None:
        """Id of a known phase that StructureMatcher calls the same crystal; None where there is none.

        Phases count as their source lists them, as this potential relaxed them, and those that were added.
        """
        key = reduced_formula(structure)
        if key not in self._known:
            self._known[key] = self._known_structures(key)
        return self._known[key].match_any(structure)

    @cached_property
    def known_elements(self) -> frozenset[str]:
        """Symbols that some known phase holds, with a hull or without; of others nobody can say what is novel."""
        return self._catalogue.elements.union(*(one.amounts for one in self._extra.values()))

    def uncovered(self, elements: Collection[str]) -> list[str]:
        """The elements that no hull exists for, sorted."""
        return sorted(set(elements) - self.elements)

    def height(self, relaxed: Relaxed) -> float | Rejection:
        """Energy of a relaxed crystal above the hull of the known phases, eV/atom; see `energy_above_hull`.

        A rejection `unconverged` for what is not at a minimum.

        Raises:
            MixedHullError: It was relaxed by another potential.
        """
        self._require_own(relaxed)
        if not relaxed.converged:
            return Rejection(Stage.SCORE, "unconverged", f"not at a minimum after {relaxed.n_steps} steps")
        return self.energy_above_hull(relaxed.structure.composition, relaxed.energy_per_atom)

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

    def _require_own(self, relaxed: Relaxed) -> None:
        if relaxed.potential != self.potential:
            raise MixedHullError(
                f"a crystal relaxed by {relaxed.potential or 'a potential without a name'} cannot be held against the "
                f"hull of {self.potential}; use the hull of its own potential"
            )

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

    @property
    def _visible_extra(self) -> list[_Extra]:
        return [one for one in self._extra.values() if one.id not in self.hidden]

    @cached_property
    def _hull(self) -> Hull:
        return self._hull_with(self._visible_extra)

    @cached_property
    def _spanning(self) -> np.ndarray:
        """Rows that span the hull: of the listed phases only those on it, in every chemical system.

        Where some of these are hidden, what lay above them may be on the hull of those that are left.
        """
        import numpy as np

        stable = np.flatnonzero(self._heights == 0.0)
        if not self.hidden:
            return stable
        whole, shown = self._whole, set(self._row_numbers.tolist())
        taken = [position for position in whole._row_numbers[whole._heights == 0.0].tolist() if position not in shown]
        systems = {frozenset(self._catalogue.amounts[position]) for position in taken}
        raised = [
            row
            for row, position in enumerate(self._row_numbers.tolist())
            if _holds_one(self._catalogue.amounts[position].keys(), systems)
        ]
        return np.union1d(stable, np.array(raised, dtype=stable.dtype))

    def _hull_with(self, extra: Sequence[_Extra]) -> Hull:
        import numpy as np

        from matsearch.reference.hull import Hull

        rows = self._spanning
        amounts: list[Mapping[str, float]] = [self._catalogue.amounts[self._row_numbers[row]] for row in rows]
        amounts += [one.amounts for one in extra]
        energies = [*self._energies[rows], *(one.energy_per_atom for one in extra)]
        return Hull(*fractions_of(amounts, sorted(self.elements)), np.array(energies))

    @cached_property
    def _hull_formulas(self) -> list[str]:
        formulas = self._catalogue.column("formula")
        return [formulas[self._row_numbers[row]] for row in self._spanning] + [
            one.formula for one in self._visible_extra
        ]

    @cached_property
    def _with_energy(self) -> pa.Table:
        import pyarrow.compute as pc

        columns = self._table.select(["phase", "energy_per_atom", "energy_above_hull", "relaxed"])
        columns = columns.filter(pc.field("energy_per_atom").is_valid())
        hidden = {self._catalogue.position[one] for one in self.hidden if one in self._catalogue.position}
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
        numbers: np.ndarray = self._with_energy["phase"].to_numpy()
        return numbers

    @cached_property
    def _energies(self) -> np.ndarray:
        energies: np.ndarray = self._with_energy["energy_per_atom"].to_numpy().astype(float)
        return energies

    @cached_property
    def _heights(self) -> np.ndarray:
        """Above the hull without extra phases."""
        heights: np.ndarray = self._with_energy["energy_above_hull"].to_numpy().astype(float)
        return heights

    @cached_property
    def _row_of(self) -> dict[int, int]:
        """Row of the catalogue to row of the energies."""
        return {position: row for row, position in enumerate(self._table["phase"].to_pylist())}

    @cached_property
    def _height_of(self) -> dict[str, float]:
        return dict(zip(self.phases["id"], self.phases["energy_above_hull"], strict=True))

    def _known_structures(self, key: str) -> KnownStructures[str]:
        """All that is known of one composition; of what looks alike the lowest comes first."""
        known: KnownStructures[str] = KnownStructures()
        for phase_id in self.known(key):
            if phase_id in self._extra:
                known.add(phase_id, self._extra[phase_id].structure)
                continue
            position = self._catalogue.position[phase_id]
            fingerprint = self._catalogue.fingerprint(position)
            known.add(phase_id, partial(self._catalogue.structure, position), key, fingerprint=fingerprint)
            if self._is_relaxed(position):
                # A phase that the potential moves far is known in both places. The fingerprint is the listed one's:
                # most move little, and it only says what to compare first.
                known.add(phase_id, partial(self._relaxed_structure, position), key, fingerprint=fingerprint)
        return known

    def _is_relaxed(self, position: int) -> bool:
        row = self._row_of.get(position)
        return row is not None and bool(self._table["relaxed"][row].as_py())

    def _relaxed_structure(self, position: int) -> Structure:
        from matsearch.reference.packing import unpack

        group, *lists = (self._table[name][self._row_of[position]] for name in GEOMETRY)
        return unpack(group.as_py(), *(one.values.to_numpy() for one in lists))

    def _with_extra(self, table: pd.DataFrame) -> pd.DataFrame:
        """The phases with the extra ones, all above the new hull."""
        import numpy as np
        import pandas as pd

        from matsearch.crystal.prototype import prototype_label

        rows = []
        for one in self._visible_extra:
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
        lower = [one for one in self._visible_extra if one.energy_per_atom < listed.at(one.amounts).energy]
        systems = {frozenset(one.amounts) for one in lower}
        amounts = [self._catalogue.amounts[position] for position in self._row_numbers]
        amounts += [dict(one.amounts) for one in self._visible_extra]
        # Elsewhere the hull is what it was.
        moved = [
            index
            for index, own in enumerate(amounts)
            if index >= len(self._row_numbers) or any(system <= own.keys() for system in systems)
        ]
        _, fractions = fractions_of([amounts[index] for index in moved], self._hull.elements)
        heights = table["energy_per_atom"].to_numpy()[moved] - self._hull.energies_at(fractions)
        table.loc[moved, "energy_above_hull"] = np.where(heights > 1e-6, heights.round(6), 0.0)
        return table


def _holds_one(elements: Collection[str], systems: Collection[frozenset[str]]) -> bool:
    """Whether one of some chemical systems lies within the elements."""
    sizes = range(1, len(elements) + 1)
    return any(frozenset(some) in systems for size in sizes for some in combinations(sorted(elements), size))


def _key_of(formula: str) -> str:
    """Raises ValueError for what is no formula."""
    from pymatgen.core import Composition

    return composition_key(amounts_by_symbol(Composition(formula)))


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


def load_reference(potential_name: str, folder: Path | None = None) -> Reference:
    """The known phases and the hull of one potential, read once a process unless the files change.

    Args:
        potential_name: As `load_potential` knows it.
        folder: Made by `matsearch reference build`; None for what comes with the package.

    Raises:
        MissingReferenceError: None was computed for this potential; names those that have one.
        InputError: A file is broken, or belongs to other phases.
        MixedHullError: A file holds the energies of another potential.
    """
    place = shipped_folder() if folder is None else Path(folder)
    path = energies_path(place, potential_name)
    if not path.is_file():
        raise MissingReferenceError(
            f"no hull of known phases for potential {potential_name!r}"
            + (f" in {place}" if folder is not None else "")
            + f"; potentials that have one: {', '.join(potentials_in(place)) or 'none'}. Make it with "
            f"`matsearch reference build --potential {shlex.quote(potential_name)} --out FOLDER` (hours on a CPU), use "
            "one of those, or an objective that needs no hull"
        )
    return _load_reference(potential_name, path, version_of(path), read_catalogue(place))


@lru_cache(maxsize=8)
def _load_reference(potential_name: str, path: Path, _version: int, catalogue: Catalogue) -> Reference:
    return Reference(catalogue, *read_energies(path, potential_name, catalogue))


def shipped_folder() -> Path:
    """Where the references lie that come with the package."""
    return Path(str(resources.files("matsearch.reference"))) / "data"
