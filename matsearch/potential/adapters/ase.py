"""Any ASE calculator as a potential."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, CalculatorError, PropertyNotImplementedError
from pymatgen.core import Element, Structure

from matsearch.errors import PotentialError
from matsearch.potential.ase import to_atoms
from matsearch.potential.base import Potential
from matsearch.records import Prediction


class AsePotential(Potential):
    """An ASE calculator that gives energy, forces and stress, asked about one crystal at a time.

    A function of the device that gives one is all it takes to have a calculator everywhere, as `"module:function"`:
    in `load_potential`, in a campaign's `[potential]`, on the command line.

    ```python
    # emt_potential.py: load_potential("emt_potential:emt")
    from ase.calculators.emt import EMT
    from matsearch.potential.adapters.ase import AsePotential

    def emt(device):
        return AsePotential(EMT(), name="emt_potential:emt", energy_scale="emt", elements=["Al", "Cu", "Ni"])
    ```

    Calculators see right-handed cells alone: some divide the stress by a signed volume, and the one of a left-handed
    cell is negative. Magnetic moments, charges and atomic energies come where the calculator implements them.
    """

    def __init__(
        self,
        calculator: BaseCalculator,
        *,
        name: str,
        energy_scale: str,
        elements: Iterable[str],
        device: str = "cpu",
    ) -> None:
        """Make a potential of a calculator.

        Args:
            calculator: In ASE's units: eV, eV/Å, eV/Å^3 with a positive stress under tension.
            name: As `load_potential` knows it.
            energy_scale: What its energies mean: `mp2020`, `pbe-raw`, `r2scan`, or a word of its own.
            elements: Symbols it was trained on.
            device: Where the calculator was told to run; a note for the user.

        Raises:
            PotentialError: The calculator gives no energy, forces or stress.
            ValueError: `elements` holds what is no symbol of an element, or nothing.
        """
        self.name = name
        self.energy_scale = energy_scale
        self.elements = _symbols(elements)
        self.device = device
        self.calculator = calculator
        # A calculator keeps the crystal it works on, and campaigns relax and score in threads of their own.
        self._lock = threading.Lock()
        implemented = calculator.implemented_properties
        if lacking := [wanted for wanted in ("energy", "forces", "stress") if wanted not in implemented]:
            raise PotentialError(
                f"{name} needs a calculator of energy, forces and stress; {type(calculator).__name__} gives no "
                f"{' and no '.join(lacking)}"
            )

    def predict(self, structures: Sequence[Structure]) -> list[Prediction]:
        """Energy, forces, stress and what else the calculator gives of each structure, in order.

        Raises:
            PotentialError: A structure holds an untrained element, a partly occupied site or coordinates that are no
                numbers, or the calculator failed on it.
            TypeError: One structure instead of a list of them.
        """
        self.require_predictable(structures)
        with self._lock:
            return [self._predict_one(number, structure) for number, structure in enumerate(structures)]

    def _predict_one(self, number: int, structure: Structure) -> Prediction:
        atoms = right_handed(to_atoms(structure))
        atoms.calc = self.calculator
        try:
            energy = atoms.get_potential_energy()
            forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
            moments, charges, energies = (self._of_atoms(one, atoms) for one in ("magmoms", "charges", "energies"))
        except CalculatorError as err:
            raise PotentialError(
                f"{self.name} failed on structure {number} ({structure.composition.reduced_formula}): "
                f"{type(err).__name__}: {err}"
            ) from err
        return Prediction(
            energy=float(energy),
            forces=np.array(forces, dtype=float),
            stress=np.array(stress, dtype=float),
            magmoms=None if moments is None else np.abs(moments),  # the sign needs a spin axis, which Prediction lacks
            charges=charges,
            atom_energies=energies,
        )

    def _of_atoms(self, name: str, atoms: Atoms) -> np.ndarray | None:
        """[n_atoms] of a property, or None where the calculator does not give it."""
        if name not in self.calculator.implemented_properties:
            return None
        try:
            values = self.calculator.get_property(name, atoms)
        except PropertyNotImplementedError:  # some name a property for all models that only some of them have
            return None
        return np.array(values, dtype=float).reshape(len(atoms))


def right_handed(atoms: Atoms) -> Atoms:
    """The same crystal by right-handed lattice vectors: (a, c, b) instead of (a, b, c) where it has to be."""
    if np.linalg.det(atoms.cell.array) < 0:
        atoms = atoms.copy()
        atoms.set_cell(atoms.cell.array[[0, 2, 1]], scale_atoms=False)
    return atoms


def _symbols(elements: Iterable[str]) -> frozenset[str]:
    symbols = frozenset([elements] if isinstance(elements, str) else elements)
    if wrong := sorted(str(one) for one in symbols if not Element.is_valid_symbol(one)):
        raise ValueError(f'elements takes symbols such as ["Al", "O"]; got {", ".join(map(repr, wrong))}')
    if not symbols:
        raise ValueError("elements is empty: name those that the calculator was made for")
    return symbols
