"""Which crystals a campaign wants."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matsearch.crystal.checks import SYMPREC, check_space
from matsearch.crystal.group_symbols import standard_symbol
from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

MAX_FORMULA_UNITS = 4
"""Of a given composition, in a primitive cell."""
CRYSTAL_SYSTEMS = {
    "triclinic": range(1, 3),
    "monoclinic": range(3, 16),
    "orthorhombic": range(16, 75),
    "tetragonal": range(75, 143),
    "trigonal": range(143, 168),
    "hexagonal": range(168, 195),
    "cubic": range(195, 231),
}
"""Numbers of their space groups."""
_ANONYMOUS = re.compile(r"(?:[A-Z](?:[1-9][0-9]?)?)+")


@dataclass(frozen=True, slots=True)
class Space:
    """Which crystals are wanted; None where anything goes.

    Attributes:
        elements: Only these.
        max_atoms: At most this many atoms in the cell as written.
        composition: This formula, up to a factor.
        min_atoms: At least this many atoms in the cell as written.
        whole_system: Whether all of the elements must be there.
        ratio: Atoms of each species in the reduced formula, ascending: (1, 1, 3) for ABX3.
        space_groups: Numbers of the space groups that a crystal may have, as proposed and within 0.1 Å.
        hidden: Ids and formulas of known phases that must not be looked up.
    """

    elements: frozenset[str] | None = None
    max_atoms: int | None = None
    composition: str | None = None
    min_atoms: int | None = None
    whole_system: bool = False
    ratio: tuple[int, ...] | None = None
    space_groups: frozenset[int] | None = None
    hidden: frozenset[str] = frozenset()

    def check(self, structure: Structure) -> Rejection | None:
        """Why a valid crystal lies outside the space; None where it lies inside.

        Returns:
            A rejection of `Stage.CHECK` with a reason of `check_space`, or `missing_elements`, `too_few_atoms`,
            `wrong_stoichiometry`, `wrong_space_group` or `too_many_formula_units`.
        """
        return (
            check_space(structure, self.elements, self.max_atoms, self.composition)
            or self._check_content(structure)
            or self._check_units(structure)
            or self._check_group(structure)
        )

    def _check_content(self, structure: Structure) -> Rejection | None:
        counts = structure.composition.element_composition.get_el_amt_dict()
        if self.whole_system and (missing := sorted((self.elements or frozenset()) - counts.keys())):
            return _outside("missing_elements", f"no {', '.join(missing)} in it")
        if self.min_atoms is not None and len(structure) < self.min_atoms:
            return _outside("too_few_atoms", f"{len(structure)} atoms in the cell; at least {self.min_atoms}")
        if self.ratio is not None and (found := ratio_of([round(n) for n in counts.values()])) != self.ratio:
            return _outside("wrong_stoichiometry", f"{_colons(found)}; wanted {_colons(self.ratio)}")
        return None

    def _check_units(self, structure: Structure) -> Rejection | None:
        """How many formula units: of the primitive cell, since any other cell of the crystal would do as well."""
        if self.composition is None:
            return None
        from pymatgen.core import Composition

        unit = Composition(self.composition).element_composition.reduced_composition.num_atoms
        if len(structure) <= MAX_FORMULA_UNITS * unit:
            return None
        units = _n_primitive(structure) / unit
        if units <= MAX_FORMULA_UNITS:
            return None
        return _outside("too_many_formula_units", f"{units:g} in the primitive cell; at most {MAX_FORMULA_UNITS}")

    def _check_group(self, structure: Structure) -> Rejection | None:
        if self.space_groups is None:
            return None
        from matsearch.search.memory import space_group_number

        number = space_group_number(structure)
        if number in self.space_groups:
            return None
        named = "no space group" if number is None else f"space group {standard_symbol(number)} ({number})"
        return _outside("wrong_space_group", f"{named}; wanted {describe_groups(self.space_groups)}")


def most_atoms(space: Space) -> int | None:
    """Atoms that a cell as written may have; None for any number."""
    if space.composition is None:
        return space.max_atoms
    limit = MAX_FORMULA_UNITS * sum(target_counts(space).values())
    return limit if space.max_atoms is None else min(limit, space.max_atoms)


def target_counts(space: Space) -> dict[str, int]:
    """Atoms of each element in one formula unit of the composition asked for, reduced."""
    from pymatgen.core import Composition

    if space.composition is None:
        return {}
    amounts = Composition(space.composition).element_composition.reduced_composition.get_el_amt_dict()
    return {symbol: round(amount) for symbol, amount in amounts.items()}


def anonymous_ratio(formula: str) -> tuple[int, ...]:
    """(1, 1, 3) for `ABX3`: each capital letter stands for one element.

    Raises:
        ValueError: It is no such formula.
    """
    if not _ANONYMOUS.fullmatch(formula):
        raise ValueError('write one capital letter an element, such as "ABX3"')
    counts = re.findall("([A-Z])([0-9]*)", formula)
    if len({letter for letter, _ in counts}) < len(counts):
        raise ValueError("each letter stands for one element and is written once")
    return ratio_of([int(count or 1) for _, count in counts])


def ratio_of(counts: list[int]) -> tuple[int, ...]:
    """Numbers of atoms, ascending, in lowest terms."""
    divisor = math.gcd(*counts) or 1
    return tuple(sorted(count // divisor for count in counts))


def group_numbers(symmetry: list[int | str]) -> frozenset[int]:
    """Space groups by number, and all of a crystal system by its name.

    Raises:
        ValueError: There is no such space group or system.
    """
    found: set[int] = set()
    for one in symmetry:
        if isinstance(one, int) and 1 <= one <= 230:
            found.add(one)
        elif one in CRYSTAL_SYSTEMS:
            found.update(CRYSTAL_SYSTEMS[str(one)])
        else:
            systems = ", ".join(CRYSTAL_SYSTEMS)
            raise ValueError(f"no space group or crystal system goes by {one!r}; give numbers from 1 to 230, {systems}")
    return frozenset(found)


def describe_groups(numbers: frozenset[int]) -> str:
    """`any cubic space group, or Pnma (62)`."""
    left, words = set(numbers), []
    for name, members in CRYSTAL_SYSTEMS.items():
        if left.issuperset(members):
            words.append(f"any {name} space group")
            left -= set(members)
    return ", or ".join([*words, *(f"{standard_symbol(number)} ({number})" for number in sorted(left))])


def describe_ratio(ratio: tuple[int, ...]) -> str:
    """`A:B:C = 1:1:3`, in words that a chemist reads as a stoichiometry."""
    return f"{':'.join('ABCDEFGHIJKLMNOPQRSTUVWXYZ'[: len(ratio)])} = {_colons(ratio)}"


def _colons(ratio: tuple[int, ...]) -> str:
    return ":".join(map(str, ratio))


def _outside(reason: str, detail: str) -> Rejection:
    return Rejection(Stage.CHECK, reason, detail)


def _n_primitive(structure: Structure) -> int:
    import moyopy

    cell = moyopy.Cell(
        structure.lattice.matrix.tolist(), (structure.frac_coords % 1.0).tolist(), [s.specie.Z for s in structure]
    )
    return len(moyopy.MoyoDataset(cell, symprec=SYMPREC).prim_std_cell.numbers)
