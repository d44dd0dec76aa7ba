"""Known phases with their energies by one potential, and questions to the hull that they span."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from matsearch.crystal.identity import KnownStructures, reduced_formula
from matsearch.errors import MissingReferenceError, MixedHullError
from matsearch.records import Rejection, Relaxed, Stage
from matsearch.reference.catalogue import (
    Catalogue,
    composition_key,
    formula_of,
    read_catalogue,
    version_of,
)
from matsearch.reference.energies import energies_path, potentials_in, read_energies, require_same_weights
from matsearch.reference.phases import AddedPhase, Phases, amounts_by_symbol, fractions_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pymatgen.core import Composition, Structure

    from matsearch.potential.base import Potential
    from matsearch.reference.hull import HullPoint

__all__ = ["Phase", "Reference", "fractions_of", "load_reference", "reference_of", "shipped_folder"]

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


class Reference:
    """The known phases, by one potential.

    Attributes:
        potential: Name of the potential whose energies these are.
        energy_scale: What the energies mean; they meet no others.
        elements: A hull exists within these.
        hidden: Ids of the phases that are hidden.
        attribution: Whose data this is, and under which licence.
        protocol: How the phases were relaxed, as JSON.
        metadata: All that the file of energies says of itself.
        n_pending: Phases near the hull that have not been relaxed yet.
        n_missing: Phases that have no energy because the build was stopped before them: large cells.
    """

    def __init__(self, catalogue: Catalogue, table: pa.Table, metadata: Mapping[str, str]) -> None:
        self.potential = metadata["potential"]
        self.energy_scale = metadata["energy_scale"]
        self.elements = frozenset(metadata["elements"].split(","))
        self.protocol = metadata["protocol"]
        self.metadata = dict(metadata)
        self.n_pending = int(metadata["n_pending"])
        self.n_missing = int(metadata.get("n_missing", "0"))
        self.attribution = f"{catalogue.attribution} Energies and relaxed cells: matsearch, {self.potential}."
        self._catalogue = catalogue
        self._table = table
        self._phases = self._phases_with({})
        self.hidden: frozenset[str] = frozenset()
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
        extra = dict(self._phases.extra)
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
            extra[phase_id] = AddedPhase(phase_id, formula, amounts, relaxed.structure, relaxed.energy_per_atom)
        made = self._copied(self._phases_with(extra))
        made._whole, made._hidden_names = made, frozenset()
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
            ids = frozenset(self._ids_named(hidden))
            made = self._copied(self._phases_with(self._phases.extra, ids))
            made.hidden, made._hidden_names = ids, hidden
            while len(views) >= VIEWS_KEPT:
                del views[next(iter(views))]
            views[hidden] = made
        return made

    @property
    def whole(self) -> Reference:
        """The same with nothing hidden."""
        return self._whole

    def _ids_named(self, names: Collection[str]) -> set[str]:
        found: set[str] = set()
        for name in names:
            if name in self._catalogue.position or name in self._phases.extra:
                found.add(name)
            else:
                found.update(self._ids_of(_key_of(name)))
        return found

    def holds(self, name: str) -> bool:
        """Whether a name is the id of a known phase, hidden or not, or the formula of one."""
        if name in self._catalogue.position or name in self._phases.extra:
            return True
        try:
            return bool(self._ids_of(_key_of(name)))
        except ValueError:
            return False

    def _phases_with(self, extra: Mapping[str, AddedPhase], hidden: frozenset[str] = frozenset()) -> Phases:
        whole = self._whole._phases if hidden else None
        return Phases(self._catalogue, self._table, sorted(self.elements), extra, hidden, whole)

    def _copied(self, phases: Phases) -> Reference:
        """A copy with other phases, without what was worked out of these."""
        made = copy.copy(self)
        for name, attribute in vars(type(self)).items():
            if isinstance(attribute, cached_property):
                made.__dict__.pop(name, None)
        made._phases, made.hidden = phases, frozenset()
        made._points, made._known, made._views = {}, {}, {}
        return made

    @property
    def phases(self) -> pd.DataFrame:
        """One row a phase that has an energy: id, formula, energy_per_atom, energy_above_hull (eV/atom), n_atoms,
        relaxed, spacegroup (within 0.1 Å), prototype.

        Lowest above the hull first, then by id.
        """
        return self._phases.table

    def structure(self, phase_id: str) -> Structure:
        """The crystal of a phase: relaxed where its relaxation converged, else as its source lists it.

        Raises:
            KeyError: No phase has this id.
        """
        if phase_id in self._phases.extra:
            return self._phases.extra[phase_id].structure
        position = self._catalogue.position[phase_id]
        if self._phases.is_relaxed(position):
            return self._phases.relaxed_structure(position)
        return self._catalogue.structure(position)

    def known(self, formula: str) -> list[str]:
        """Ids of the phases with this formula (reduced or not), lowest first, those without an energy last."""
        heights = self._height_of
        ids = [phase_id for phase_id in self._ids_of(_key_of(formula)) if phase_id not in self.hidden]
        return sorted(ids, key=lambda phase_id: (heights.get(phase_id, float("inf")), phase_id))

    def _ids_of(self, key: str) -> list[str]:
        """Ids of all phases of one composition, hidden ones included."""
        ids = [self._catalogue.ids[position] for position in self._catalogue.positions.get(key, ())]
        return ids + [one.id for one in self._phases.extra.values() if composition_key(one.amounts) == key]

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
        return self._catalogue.elements.union(*(one.amounts for one in self._phases.extra.values()))

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
        formulas = self._phases.hull_formulas
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
            self._points[key] = self._phases.hull.at(dict(key))
        return self._points[key]

    @cached_property
    def _height_of(self) -> dict[str, float]:
        return dict(zip(self.phases["id"], self.phases["energy_above_hull"], strict=True))

    def _known_structures(self, key: str) -> KnownStructures[str]:
        """All that is known of one composition; of what looks alike the lowest comes first."""
        known: KnownStructures[str] = KnownStructures()
        for phase_id in self.known(key):
            if phase_id in self._phases.extra:
                known.add(phase_id, self._phases.extra[phase_id].structure)
                continue
            position = self._catalogue.position[phase_id]
            fingerprint = self._catalogue.fingerprint(position)
            known.add(phase_id, partial(self._catalogue.structure, position), key, fingerprint=fingerprint)
            if self._phases.is_relaxed(position):
                # A phase that the potential moves far is known in both places. The fingerprint is the listed one's:
                # most move little, and it only says what to compare first.
                known.add(phase_id, partial(self._phases.relaxed_structure, position), key, fingerprint=fingerprint)
        return known


def _key_of(formula: str) -> str:
    """Raises ValueError for what is no formula."""
    from pymatgen.core import Composition

    return composition_key(amounts_by_symbol(Composition(formula)))


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
            f"`matsearch reference build --potential {shlex.quote(potential_name)} --out FOLDER` (hours on a CPU, "
            'minutes with `--elements`) and name it by `[reference] path = "FOLDER"`; or use one of those, or an '
            "objective that needs no hull"
        )
    return _load_reference(potential_name, path, version_of(path), read_catalogue(place))


def reference_of(potential: Potential, folder: Path | None = None) -> Reference:
    """`load_reference` for a potential at hand, whose weights must be those that gave the energies.

    Raises:
        MissingReferenceError: None was computed for this potential; names those that have one.
        InputError: A file is broken, or belongs to other phases.
        MixedHullError: A file holds the energies of another potential, or of other weights.
    """
    reference = load_reference(potential.name, folder)
    path = energies_path(shipped_folder() if folder is None else folder, potential.name)
    require_same_weights(path, reference.metadata, potential)
    return reference


@lru_cache(maxsize=8)
def _load_reference(potential_name: str, path: Path, _version: int, catalogue: Catalogue) -> Reference:
    return Reference(catalogue, *read_energies(path, potential_name, catalogue))


def shipped_folder() -> Path:
    """Where the references lie that come with the package."""
    return Path(str(resources.files("matsearch.reference"))) / "data"
