"""The `[space]` of a campaign file."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, PositiveInt, field_validator, model_validator

from matsearch.propose.space import MAX_FORMULA_UNITS, Space, anonymous_ratio, group_numbers

SYMBOLS = frozenset(
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr".split()
)
"""Of the elements; pymatgen, which knows them too, takes a second to load."""


class SpaceSettings(BaseModel, frozen=True, extra="forbid"):
    """`[space]`: which crystals are looked for.

    All of them are checked of crystals as proposed; a relaxation may raise the symmetry.

    Attributes:
        elements: Only these. None: any.
        chemical_system: Exactly these, all of them: `["Li", "Mg", "O"]` or `"Li-Mg-O"`.
        stoichiometry: A formula with letters for elements, such as `"ABX3"`.
        symmetry: Numbers of space groups, names of crystal systems, or both: `["cubic", 62]`.
        min_atoms: At least this many atoms in the cell as proposed.
        max_atoms: At most this many atoms in the cell as proposed.
        composition: Only this reduced formula, one to four of it in the primitive cell (task `predict`).
    """

    elements: list[str] | None = None
    chemical_system: list[str] | None = None
    stoichiometry: str | None = None
    symmetry: list[int | str] | None = None
    min_atoms: PositiveInt | None = None
    max_atoms: PositiveInt = 40
    composition: str | None = None

    @property
    def allowed(self) -> list[str] | None:
        """The elements that a crystal may hold; None: any."""
        return self.elements or self.chemical_system

    def space(self, hidden: Collection[str] = ()) -> Space:
        """What candidates are held against; hidden: ids and formulas of phases that nobody may look up."""
        return Space(
            elements=frozenset(self.allowed) if self.allowed else None,
            max_atoms=self.max_atoms,
            composition=self.composition,
            min_atoms=self.min_atoms,
            whole_system=self.chemical_system is not None,
            ratio=anonymous_ratio(self.stoichiometry) if self.stoichiometry else None,
            space_groups=group_numbers(self.symmetry) if self.symmetry else None,
            hidden=frozenset(hidden),
        )

    @field_validator("chemical_system", mode="before")
    @classmethod
    def _system(cls, system: Any) -> Any:
        return system.split("-") if isinstance(system, str) else system

    @field_validator("symmetry", mode="before")
    @classmethod
    def _one_or_more(cls, symmetry: Any) -> Any:
        return [symmetry] if isinstance(symmetry, int | str) and not isinstance(symmetry, bool) else symmetry

    @field_validator("symmetry")
    @classmethod
    def _groups(cls, symmetry: list[int | str] | None) -> list[int | str] | None:
        if symmetry is not None and not group_numbers(symmetry):
            raise ValueError("needs at least one space group or crystal system; leave the key out for any")
        return symmetry

    @field_validator("stoichiometry")
    @classmethod
    def _anonymous(cls, stoichiometry: str | None) -> str | None:
        if stoichiometry is not None:
            anonymous_ratio(stoichiometry)
        return stoichiometry

    @model_validator(mode="after")
    def _possible(self) -> SpaceSettings:
        if self.chemical_system is not None and self.elements is not None:
            raise ValueError("give elements (any of them) or a chemical_system (all of them), not both")
        if self.composition is not None and (self.chemical_system is not None or self.stoichiometry is not None):
            raise ValueError("a composition says it all; leave chemical_system and stoichiometry out")
        if self.min_atoms is not None and self.min_atoms > self.max_atoms:
            raise ValueError(f"min_atoms = {self.min_atoms} is more than max_atoms = {self.max_atoms}")
        if self.composition is not None:
            unit = atoms_in(self.composition)
            sizes = [n * unit for n in range(1, MAX_FORMULA_UNITS + 1)]
            if not any((self.min_atoms or 1) <= size <= self.max_atoms for size in sizes):
                raise ValueError(
                    f"one to {MAX_FORMULA_UNITS} of {self.composition} have {', '.join(map(str, sizes))} atoms, none "
                    f"of which lies from min_atoms = {self.min_atoms or 1} to max_atoms = {self.max_atoms}"
                )
        if self.stoichiometry is not None:
            ratio = anonymous_ratio(self.stoichiometry)
            if sum(ratio) > self.max_atoms:
                raise ValueError(f"{self.stoichiometry} has more atoms than max_atoms = {self.max_atoms}")
            n_allowed = len(self.allowed) if self.allowed else len(ratio)
            if n_allowed < len(ratio) or (self.chemical_system is not None and n_allowed > len(ratio)):
                raise ValueError(f"{self.stoichiometry} has {len(ratio)} elements, {n_allowed} are given")
        return self

    @field_validator("elements", "chemical_system")
    @classmethod
    def _symbols(cls, elements: list[str] | None) -> list[str] | None:
        if elements is None:
            return None
        if not elements:
            raise ValueError("needs at least one element; leave the key out for any")
        if unknown := [symbol for symbol in elements if symbol not in SYMBOLS]:
            raise ValueError(f"no element goes by {', '.join(map(repr, unknown))}")
        return sorted(set(elements))

    @field_validator("composition")
    @classmethod
    def _formula(cls, composition: str | None) -> str | None:
        if composition is None:
            return None
        from pymatgen.core import Composition

        try:
            parsed, symbols = Composition(composition), composition_elements(composition)
        except (ValueError, AttributeError) as err:
            raise ValueError(f"cannot be read as a formula: {err}") from err
        # pymatgen passes over what stands there with an amount of 0, be that an element or not.
        if not symbols or symbols - SYMBOLS or set(re.findall("[A-Z][a-z]*", composition)) - symbols:
            raise ValueError("cannot be read as a formula of known elements")
        if any(amount != round(amount) for amount in parsed.values()):
            raise ValueError("needs whole numbers of atoms")
        formula: str = parsed.reduced_formula
        return formula


def atoms_in(formula: str) -> int:
    """Atoms of a formula in its smallest whole numbers: one of oxygen for O2."""
    from pymatgen.core import Composition

    return round(Composition(formula).reduced_composition.num_atoms)


def composition_elements(formula: str) -> set[str]:
    """Element symbols of a formula."""
    from pymatgen.core import Composition

    return {element.symbol for element in Composition(formula).elements}
