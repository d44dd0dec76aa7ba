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


NO_ATOMS = ("no_atoms", "disordered", "unknown_element")
"""Reasons of what has no sites of one element each."""


FLAT = 1e-3
"""Å^3; a cell of less has no angles worth writing."""


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
    def can_be_written(self) -> bool:
        """Whether every number in it is one, and its cell has lengths, angles and a volume."""
        is_finite = np.isfinite(self.lattice).all() and np.isfinite(self.coords).all()
        return bool(is_finite and abs(np.linalg.det(self.lattice)) > FLAT)

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
        return Given(None, flaw=one, charge_flaw=one)
    charge_flaw = check_charges(one)
    flaw = check_structure(one) or _not_periodic(one)
    if charge_flaw is not None and charge_flaw.reason in NO_ATOMS:
        return Given(None, _formula(one), len(one), flaw=flaw, charge_flaw=charge_flaw)
    number = space_group(one) if flaw is None else None
    return Given(Compact.of(one), _formula(one), len(one), number, flaw, charge_flaw)


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
