"""Any potential as an ASE calculator, so that ASE's tools run on it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from pymatgen.core import Structure

from matsearch.errors import PotentialError
from matsearch.potential.base import Potential
from matsearch.potential.names import load_potential


class PotentialCalculator(Calculator):
    """ASE calculator over a `Potential`: what optimisers, phonopy, MatCalc and the rest of ASE's world run on.

    ```python
    from ase.build import bulk
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE
    from matsearch.potential.ase import PotentialCalculator

    atoms = bulk("MgO", "rocksalt", a=4.3)
    atoms.calc = PotentialCalculator("chgnet-0.3.0")
    FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=0.05)
    ```

    Energy and free energy in eV, forces in eV/Å, stress (Voigt) in eV/Å^3; where the potential gives them, energies of
    the atoms in eV, magnetic moments (magnitudes) in μB and charges in e.

    Raises (when it calculates):
        PotentialError: The atoms are no crystal (not periodic in three directions, or a cell without volume), or hold
            an element that the potential was not trained on.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "forces",
        "stress",
        "energies",
        "magmoms",
        "charges",
    ]

    def __init__(self, potential: Potential | str, device: str = "auto", **kwargs: Any) -> None:
        """Make a calculator.

        Args:
            potential: A potential, or a name for `load_potential`.
            device: Where one given by name runs.
            **kwargs: As `ase.calculators.calculator.Calculator` takes them.
        """
        super().__init__(**kwargs)
        self.potential = load_potential(potential, device) if isinstance(potential, str) else potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Predict all properties at once, whatever was asked for: they come from one pass."""
        super().calculate(atoms, properties, system_changes)
        _require_crystal(self.atoms)
        prediction = self.potential.predict([to_structure(self.atoms)])[0]
        self.results = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "forces": np.asarray(prediction.forces),
            "stress": full_3x3_to_voigt_6_stress(prediction.stress),
        }
        of_atoms = {
            "energies": prediction.atom_energies,
            "magmoms": prediction.magmoms,
            "charges": prediction.charges,
        }
        self.results |= {name: np.asarray(values) for name, values in of_atoms.items() if values is not None}


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


def _require_crystal(atoms: Atoms) -> None:
    if not len(atoms):
        raise PotentialError("a potential needs a crystal, got no atoms")
    if not atoms.pbc.all() or not atoms.cell.volume > 0:
        raise PotentialError(
            "a potential needs a crystal, periodic in three directions with a cell that has a volume; got "
            f"pbc={atoms.pbc.tolist()} and a cell of {atoms.cell.volume:.3g} Å^3; for a molecule or a slab, call "
            "atoms.center(vacuum=8) along what is not periodic and set atoms.pbc = True"
        )
