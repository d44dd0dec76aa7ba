"""Crystals and molecules of point charges with exact energies and forces: what latent charges have to find again.

After the first test of latent Ewald summation (B. Cheng, npj Comput. Mater. 11, 80 (2025)), with numbers of our own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pymatgen.core import Lattice, Structure
from torch import Tensor

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.ewald import ewald_energy, isolated_energy

REACH, STEEPNESS, CONTACT, HEIGHT = 4.0, 12, 2.0, 0.2
"""Of the repulsion HEIGHT (CONTACT/r)^STEEPNESS in eV and Å; it ends at REACH, energy and slope."""
SPRING = 10.0
"""eV/Å² of a bond."""
CHARGES = {"Na": 1.0, "Cl": -1.0, "Mg": 0.7, "H": 0.3, "Se": -0.8, "F": -0.2}
"""In e."""
CATION, ANION, BOND = ("Mg", "H"), ("Se", "F"), 1.7
"""Molecules of two atoms, and their length in Å."""


@dataclass(frozen=True, eq=False)
class ChargedSystems:
    """Structures with their energies (eV), forces (eV/Å) and charges (e)."""

    structures: list[Structure]
    energies: list[float]
    forces: list[np.ndarray]
    charges: np.ndarray


def charge_gas(n_crystals: int, n_atoms: int, side: float, rng: np.random.Generator) -> ChargedSystems:
    """Charges of +1 e (Na) and -1 e (Cl), as many of each, anywhere in a cubic cell but closer than 2 Å."""
    species = ["Na", "Cl"] * (n_atoms // 2)
    structures = []
    for _ in range(n_crystals):
        placed: list[np.ndarray] = []
        while len(placed) < n_atoms:
            trial = rng.random(3) * side
            between = np.array([trial - one for one in placed]).reshape(-1, 3)
            between -= side * np.round(between / side)
            if (np.linalg.norm(between, axis=1) > CONTACT).all():
                placed.append(trial)
        structures.append(Structure(Lattice.cubic(side), species, placed, coords_are_cartesian=True))
    return labelled(structures, periodic=True)


def charged_dimers(distances: list[float], rng: np.random.Generator, *, spread: float = 0.05) -> ChargedSystems:
    """A cation MgH (+1 e) and an anion SeF (-1 e), turned at random, their centres a distance (Å) apart.

    Args:
        distances: Of each dimer, in Å.
        rng: Turns, and how long the bonds are.
        spread: Of the lengths of the bonds in Å.
    """
    structures = []
    for distance in distances:
        positions = []
        for centre in (np.zeros(3), np.array([distance, 0.0, 0.0])):
            direction = rng.normal(size=3)
            half = 0.5 * (BOND + spread * rng.normal()) * direction / np.linalg.norm(direction)
            positions += [centre + half, centre - half]
        box = Lattice.cubic(4 * distance + 40)
        structures.append(Structure(box, [*CATION, *ANION], positions, coords_are_cartesian=True))
    return labelled(structures, periodic=False)


def labelled(structures: list[Structure], *, periodic: bool) -> ChargedSystems:
    """Exact energies and forces of such crystals, or of such dimers."""
    batch = CrystalBatch.from_structures(structures)
    charges = torch.tensor([CHARGES[site.specie.symbol] for one in structures for site in one], dtype=torch.float64)
    positions = batch.positions.requires_grad_()
    with torch.enable_grad():
        moved = batch.moved(positions, batch.cells)
        if periodic:
            energies = ewald_energy(moved, charges) + _repulsion(moved)
        else:
            energies = isolated_energy(positions, charges, batch.system_idx, batch.n_systems) + _bonds(positions)
        (slope,) = torch.autograd.grad(energies.sum(), positions)
    forces = [-part.numpy() for part in slope.split(batch.sizes)]
    return ChargedSystems(structures, energies.tolist(), forces, charges.numpy())


def _repulsion(batch: CrystalBatch) -> Tensor:
    pairs = batch.pairs(REACH)
    lengths = torch.linalg.vector_norm(pairs.vectors(batch.positions, batch.cells), dim=1)
    end = HEIGHT * (CONTACT / REACH) ** STEEPNESS
    terms = HEIGHT * (CONTACT / lengths) ** STEEPNESS - end + (lengths - REACH) * STEEPNESS * end / REACH
    return terms.new_zeros(batch.n_systems).index_add(0, pairs.system_idx, terms)


def _bonds(positions: Tensor) -> Tensor:
    of_molecules = positions.view(-1, 2, 3)
    lengths = torch.linalg.vector_norm(of_molecules[:, 0] - of_molecules[:, 1], dim=1)
    return 0.5 * SPRING * (lengths - BOND).square().view(-1, 2).sum(1)
