"""A quick calculator that is right to rounding, for tests of what stands around a potential."""

from typing import ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

from matsearch.potential.adapters.ase import AsePotential


class Springs(Calculator):
    """Pairs repel smoothly up to 4 Å; as some calculators do, it divides the virial by a signed volume."""

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "forces",
        "stress",
        "energies",
        "magmoms",
        "charges",
    ]
    cutoff = 4.0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        i, j, vectors, lengths = neighbor_list("ijDd", atoms, self.cutoff)
        strength = np.sqrt(atoms.numbers[i] * atoms.numbers[j]) / 100
        gap = self.cutoff - lengths
        energies = np.bincount(i, 0.5 * strength * gap**4, len(atoms)) - atoms.numbers
        pull = (-2 * strength * gap**3 / lengths)[:, None] * vectors  # dE/dvector of a directed pair
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, i, pull)
        np.add.at(forces, j, -pull)
        virial = np.einsum("pa,pb->ab", vectors, pull) / np.linalg.det(atoms.cell.array)
        self.results = {
            "energy": energies.sum(),
            "free_energy": energies.sum(),
            "energies": energies,
            "forces": forces,
            "stress": virial.ravel()[[0, 4, 8, 5, 2, 1]],
            "magmoms": -np.bincount(i, gap**2, len(atoms)),
            "charges": atoms.numbers - np.bincount(i, gap**2 * atoms.numbers[j], len(atoms)),
        }


def springs():
    elements = ["Li", "O", "Na", "Mg", "Al", "Cl", "Fe"]
    return AsePotential(Springs(), name="springs", energy_scale="springs", elements=elements)
