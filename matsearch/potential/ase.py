"""Any potential as an ASE calculator, so that ASE's tools run on it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from pymatgen.core import Structure

from matsearch.potential.base import Potential


class PotentialCalculator(Calculator):
    """ASE calculator over a `Potential`: energy (eV), forces (eV/Å), stress (Voigt, eV/Å^3), magmoms (μB).

    Raises (when it calculates):
        PotentialError: The atoms hold an element that the potential was not trained on.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress", "magmoms"]

    def __init__(self, potential: Potential, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Predict all properties at once, whatever was asked for: they come from one pass."""
        super().calculate(atoms, properties, system_changes)
        prediction = self.potential.predict([to_structure(self.atoms)])[0]
        self.results = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "forces": np.asarray(prediction.forces),
            "stress": full_3x3_to_voigt_6_stress(prediction.stress),
        }
        if prediction.magmoms is not None:
            self.results["magmoms"] = prediction.magmoms


def to_atoms(structure: Structure) -> Atoms:
    """The structure as ASE atoms, periodic, in the same order and with the same lattice vectors."""
    return Atoms(
        numbers=[site.specie.Z for site in structure],
        positions=structure.cart_coords,
        cell=structure.lattice.matrix,
        pbc=True,
    )


def to_structure(atoms: Atoms) -> Structure:
    """ASE atoms as a structure, in the same order and with the same lattice vectors."""
    return Structure(
        atoms.cell.array.copy(), atoms.get_chemical_symbols(), atoms.get_positions(), coords_are_cartesian=True
    )
