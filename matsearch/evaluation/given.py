"""A structure as it was given: what can be said of it without any energy."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from matsearch.crystal.charges import check_charges
from matsearch.crystal.checks import check_structure, space_group
from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure


class Compact(NamedTuple):
    """A crystal in few bytes and to the last bit: of ten thousand, pymatgen's own would fill hundreds of megabytes.

    Isotopes, charges and site properties, which no potential here sees, are left behind.

    Attributes:
        lattice: [3, 3] in Å, vectors as rows.
        numbers: [n_atoms] atomic numbers, uint8.
        coords: [n_atoms, 3] fractional.
    """

    lattice: np.ndarray
    numbers: np.ndarray
    coords: np.ndarray

    @classmethod
    def of(cls, structure: Structure) -> Compact:
        """The crystal of an ordered structure of real elements."""
        return cls(
            np.array(structure.lattice.matrix, dtype=float),
            np.array([site.specie.Z for site in structure], dtype=np.uint8),
            np.array(structure.frac_coords, dtype=float).reshape(-1, 3),
        )

    @property
    def finite(self) -> bool:
        """Whether every number in it is one."""
        return bool(np.isfinite(self.lattice).all() and np.isfinite(self.coords).all())

    def structure(self) -> Structure:
        """As a structure, periodic along all three vectors."""
        from pymatgen.core import Element, Lattice, Structure

        return Structure(Lattice(self.lattice), [Element.from_Z(int(z)) for z in self.numbers], self.coords)


@dataclass(frozen=True, slots=True)
class Given:
    """A structure as it was given, and what was found out.

    Attributes:
        crystal: None where it could not be read or is no crystal of real atoms.
        formula: Reduced.
        n_atoms: In the cell.
        spacegroup: International number, None where none is found.
        flaw: Why it is not structurally valid; None where it is.
        charge_flaw: Why its charges do not balance; None where they do.
    """

    crystal: Compact | None
    formula: str | None = None
    n_atoms: int | None = None
    spacegroup: int | None = None
    flaw: Rejection | None = None
    charge_flaw: Rejection | None = None

    @property
    def valid(self) -> bool:
        """Structurally valid: what is not is neither relaxed nor compared with anything."""
        return self.flaw is None


def look_at(one: Structure | Rejection) -> Given:
    """Check a structure, or take over why there is none."""
    if isinstance(one, Rejection):
        return Given(None, flaw=one, charge_flaw=Rejection(Stage.CHECK, "no_crystal", "there is no crystal to check"))
    if (flaw := _unreal(one)) is not None:
        return Given(None, _formula(one), len(one), flaw=flaw, charge_flaw=flaw)
    crystal = Compact.of(one)
    structure = crystal.structure()
    flaw = _not_periodic(one) or check_structure(structure)
    number = None if flaw is not None else space_group(structure)
    return Given(crystal, _formula(structure), len(structure), number, flaw, check_charges(structure))


def _unreal(structure: Structure) -> Rejection | None:
    """Why this is no crystal of whole atoms of real elements."""
    from pymatgen.core import DummySpecies

    if not len(structure):
        return Rejection(Stage.CHECK, "no_atoms", "the structure has no atoms")
    if not structure.is_ordered:
        return Rejection(Stage.CHECK, "disordered", "sites are shared or partly empty")
    if dummies := sorted({str(one) for one in structure.species if isinstance(one, DummySpecies)}):
        return Rejection(Stage.CHECK, "unknown_element", f"{', '.join(dummies)}: no such element")
    return None


def _not_periodic(structure: Structure) -> Rejection | None:
    if all(structure.lattice.pbc):
        return None
    periodic = " ".join("FT"[bool(one)] for one in structure.lattice.pbc)
    return Rejection(
        Stage.CHECK, "not_periodic", f"expected a crystal periodic along all three vectors, got pbc = {periodic}"
    )


def _formula(structure: Structure) -> str:
    with warnings.catch_warnings():
        # pymatgen orders the symbols by electronegativity, and warns that helium, neon and argon have none.
        warnings.filterwarnings("ignore", message="No Pauling electronegativity")
        return str(structure.composition.reduced_formula)
