"""Known phases to draw parents and structure types from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from matsearch.propose.operators.records import Parent
from matsearch.propose.space import most_atoms, target_counts
from matsearch.records import Kind
from matsearch.reference.catalogue import amounts_in
from matsearch.search.families import kind_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from pymatgen.core import Structure

    from matsearch.propose.space import Space
    from matsearch.reference.known import Reference

MAX_HEIGHT = 0.05
"""eV/atom above the hull, of the phases in a pool."""
MAX_ATOMS = 40
"""In the primitive cells of the phases in a pool."""
HIGH = 0.1
"""eV/atom above the hull: a phase that lies higher is no success."""
TYPICAL = 0.67
"""Share of exchanges of likely ions that come to lie near the hull, where nothing is known of the structure type."""
TYPICAL_PHASES = 2.0
"""Phases of a structure type that this is worth."""


@dataclass(frozen=True, slots=True)
class Type:
    """A known structure type.

    Attributes:
        label: See `matsearch.crystal.prototype`.
        ratio: Atoms of each species in the reduced formula, ascending: (1, 1, 3) for a perovskite.
        n_atoms: In the primitive cell.
        ids: Phases that have it.
    """

    label: str
    ratio: tuple[int, ...]
    n_atoms: int
    ids: tuple[str, ...]


class Pool:
    """Phases near the hull of a reference.

    Args:
        reference: The known phases.
        hidden: Ids of phases that must not be drawn, such as the target's in a prediction.
    """

    def __init__(self, reference: Reference, hidden: Collection[str] = ()) -> None:
        self._reference = reference
        self._hidden = frozenset(hidden)
        self._by_size: dict[int | None, dict[tuple[int, ...], list[Type]]] = {}
        self._drawn_from: dict[Space, list[str]] = {}

    def structure(self, phase_id: str) -> Structure:
        """The crystal of a phase."""
        return self._reference.structure(phase_id)

    def formula(self, phase_id: str) -> str:
        """The reduced formula of a phase of the pool."""
        return self._formulas[phase_id]

    def match(self, structure: Structure) -> str | None:
        """Id of a known phase, near the hull or not, that is the same crystal; None where there is none."""
        return self._reference.match(structure)

    @cached_property
    def types(self) -> list[Type]:
        """All structure types, by label."""
        found = []
        for label, rows in self._phases.groupby("prototype", sort=True):
            if str(label).endswith("?"):
                continue
            ratio = tuple(sorted(amounts_in(rows["formula"].iloc[0]).values()))
            found.append(Type(str(label), ratio, int(rows["n_atoms"].iloc[0]), tuple(rows["id"])))
        return found

    def types_of(self, ratio: Sequence[int], max_atoms: int | None) -> list[Type]:
        """The types of one stoichiometry whose primitive cells are no larger than that."""
        return self._grouped(max_atoms).get(tuple(sorted(ratio)), [])

    def draw_type(self, types: Sequence[Type], rng: np.random.Generator, n: int = 1) -> list[tuple[Type, str]]:
        """Types, drawn by the square root of how many phases have them, and one phase of each.

        Uniform shares would draw mostly crystals that are one of a kind; by number a tenth would be Heusler phases.
        """
        import numpy as np

        shares = np.sqrt([len(one.ids) for one in types])
        drawn = [types[index] for index in rng.choice(len(types), size=n, p=shares / shares.sum()).tolist()]
        return [(one, one.ids[int(rng.integers(len(one.ids)))]) for one in drawn]

    def types_up_to(self, max_atoms: int | None, max_species: int) -> list[Type]:
        """All types of compounds with no more atoms and species than that."""
        grouped = self._grouped(max_atoms)
        return [one for ratio, types in grouped.items() if 2 <= len(ratio) <= max_species for one in types]

    def types_for(self, space: Space, max_atoms: int | None, max_species: int) -> list[Type]:
        """Those of `types_up_to` that have the stoichiometry, the number of elements and the symmetry of a space."""
        if space.ratio is not None:
            types = self.types_of(space.ratio, max_atoms)
        else:
            types = self.types_up_to(max_atoms, max_species)
        if space.whole_system and space.elements is not None:
            types = [one for one in types if len(one.ratio) == len(space.elements)]
        if space.space_groups is not None:
            types = [one for one in types if int(one.label.split("_")[2]) in space.space_groups]
        return types

    def space_groups_in(self, space: Space) -> tuple[np.ndarray, np.ndarray]:
        """Of `space_groups` those that a space allows; alike in share where no phase has any of them."""
        import numpy as np

        numbers, shares = self.space_groups
        if space.space_groups is None:
            return numbers, shares
        allowed = np.isin(numbers, sorted(space.space_groups))
        if not allowed.any():
            numbers = np.array(sorted(space.space_groups))
            return numbers, np.full(len(numbers), 1 / len(numbers))
        return numbers[allowed], shares[allowed] / shares[allowed].sum()

    @cached_property
    def space_groups(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the space groups of the phases, and the share of each."""
        import numpy as np

        numbers, n_phases = np.unique(self._phases["spacegroup"].to_numpy(), return_counts=True)
        return numbers, n_phases / n_phases.sum()

    def success(self, label: str, symbol: str, amount: int) -> float:
        """Share of the known phases of a structure type with an element in one place that are near the hull.

        Args:
            label: Of the structure type, see `matsearch.crystal.prototype`.
            symbol: The element.
            amount: Its atoms in the reduced formula: its place.

        Returns:
            Between 0 and 1, drawn towards what is typical where there are few of them.
        """
        near, high = self._records.get((label, symbol, amount), (0, 0))
        return (near + TYPICAL * TYPICAL_PHASES) / (near + high + TYPICAL_PHASES)

    def draw_parents(self, space: Space, rng: np.random.Generator, n: int, kind: Kind | None = None) -> list[Parent]:
        """Phases on or near the hull, in random order, each once; fewer where there are not that many.

        With a given composition those of its stoichiometry. Of the elements of the space a phase holds all but one or
        more, so that an exchange can bring it inside; those that are inside are drawn as well. Of a kind only those
        that are of it, if there are any.
        """
        if space not in self._drawn_from:
            self._drawn_from[space] = self._parents_for(space)
        ids = self._drawn_from[space]
        if kind is not None:
            ids = [one for one in ids if self._kinds[one] == kind] or ids
        chosen = rng.permutation(len(ids))[:n]
        return [Parent(self.structure(ids[index]), ids[index]) for index in chosen.tolist()]

    def _parents_for(self, space: Space) -> list[str]:
        limit = most_atoms(space)
        ratio = tuple(sorted(target_counts(space).values())) if space.composition is not None else space.ratio
        rows = self._phases if limit is None else self._phases[self._phases["n_atoms"] <= limit]
        found = []
        for phase_id, formula in zip(rows["id"], rows["formula"], strict=True):
            amounts = amounts_in(formula)
            if len(amounts) < 2:
                continue
            if ratio is not None:
                if tuple(sorted(amounts.values())) == ratio:
                    found.append(phase_id)
            elif space.elements is None or len(amounts.keys() - space.elements) <= 1:
                found.append(phase_id)
        return found

    def _grouped(self, max_atoms: int | None) -> dict[tuple[int, ...], list[Type]]:
        if max_atoms not in self._by_size:
            grouped: dict[tuple[int, ...], list[Type]] = {}
            for one in self.types:
                if max_atoms is None or one.n_atoms <= max_atoms:
                    grouped.setdefault(one.ratio, []).append(one)
            self._by_size[max_atoms] = grouped
        return self._by_size[max_atoms]

    @cached_property
    def _records(self) -> dict[tuple[str, str, int], tuple[int, int]]:
        """Of structure type, element and its atoms in the formula: how many phases lie near the hull, how many high."""
        found: dict[tuple[str, str, int], tuple[int, int]] = {}
        table = self._reference.phases
        table = table[table["n_atoms"] <= MAX_ATOMS]
        columns = (table[name] for name in ("prototype", "formula", "energy_above_hull"))
        for label, formula, height in zip(*columns, strict=True):
            if MAX_HEIGHT < height <= HIGH:
                continue
            for symbol, amount in amounts_in(formula).items():
                near, high = found.get((label, symbol, amount), (0, 0))
                found[label, symbol, amount] = (near + (height <= MAX_HEIGHT), high + (height > HIGH))
        return found

    @cached_property
    def _kinds(self) -> dict[str, Kind]:
        """Of each phase."""
        columns = (self._phases[name] for name in ("id", "formula", "spacegroup"))
        return {one: kind_of(amounts_in(formula), number) for one, formula, number in zip(*columns, strict=True)}

    @cached_property
    def _formulas(self) -> dict[str, str]:
        return dict(zip(self._phases["id"], self._phases["formula"], strict=True))

    @cached_property
    def _phases(self) -> pd.DataFrame:
        table = self._reference.phases
        near = (table["energy_above_hull"] <= MAX_HEIGHT) & (table["n_atoms"] <= MAX_ATOMS)
        table = table[near]
        return table[~table["id"].isin(self._hidden)] if self._hidden else table


@cache
def shipped_pool() -> Pool:
    """The phases that come with the package, by the potential whose hull is the default."""
    from matsearch.reference.known import load_reference

    return Pool(load_reference("chgnet-0.3.0"))
