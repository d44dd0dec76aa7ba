"""The guard around what a potential can know: colliding atoms, crushed cells, holes of the energy surface.

Where the limits come from (Materials Project v2025.02.12; `benchmarks/energy_holes.py`):

- Distances. The relatively closest pair of each of 64,580 crystals with a computed energy keeps 0.611 of the sum of
  covalent radii (Pu-Pu in GaPu, Rb-Rb in Rb4CO4); half of all crystals keep 0.90. Of 76,403 entries without an energy
  162 fall below 0.58, with O-H at 0.50 Å or K-K at 1.30 Å: geometries never relaxed.
- Volumes. The densest of 150,836 crystals fills 0.556 of the volume of its atoms' covalent spheres (Pu, mp-107).
- Energies. Of 12,500 crystals of up to 24 atoms, among them the 400 most stable fluorides and oxides and 400 elements,
  the network's part of the energy is at least -2.38 eV/atom with chgnet-0.3.0 (Tc) and -1.68 with chgnet-r2scan (AcOF).

Compressed down to 0.15 of their volume, 9 of 35 prototype crystals fall below their minimum with chgnet-r2scan (MgO to
-1029 eV/atom, NiO from 0.29 of its volume on), none with chgnet-0.3.0. Every such volume is flagged, the 39 at which
the energy lies more than 1 eV/atom below among them, and none between 0.6 and 1.3 of the volume. Of 1,120 random
deformations 59 fall below with chgnet-r2scan and 2 with chgnet-0.3.0; all are flagged, which took 0.58 rather than 0.55
(SiC, pressed along one axis). A shallow hole at ordinary distances and densities is not seen.
"""

from __future__ import annotations

import math

import torch
from ase.data import chemical_symbols, covalent_radii

from matsearch.potential.base import Potential
from matsearch.potential.batch import CrystalBatch

LEAST_RATIO = 0.58
"""Least distance of two atoms, as a fraction of the sum of their covalent radii."""
LEAST_FILLING = 0.45
"""Least volume of a crystal, as a fraction of the volume of its atoms' covalent spheres."""
ENERGY_FLOOR = -3.0
"""eV/atom, relative to the potential's own references, above which all crystals lie."""
REACH = 3.1
"""Å; more than `LEAST_RATIO` allows to any two atoms (two of Fr: 3.02 Å)."""


def out_of_domain(batch: CrystalBatch, energies: torch.Tensor, potential: Potential) -> list[str | None]:
    """Why each crystal lies outside what a potential can know; None where it does not.

    Args:
        batch: The crystals.
        energies: What the potential says of them, [n_systems] in eV.
        potential: The energy is held to `ENERGY_FLOOR` where it declares `energy_references`.
    """
    collisions, fillings = _collisions(batch), _fillings(batch)
    network_energies = _network_energies(batch, energies, potential)
    texts: list[str | None] = []
    for system, energy in enumerate(energies.tolist()):
        wrong = []
        if not math.isfinite(energy):
            wrong.append(potential.not_finite)
        if system in collisions:
            wrong.append(collisions[system])
        if fillings[system] < LEAST_FILLING:
            wrong.append(
                f"the volume is {fillings[system]:.2f} of that of its atoms' covalent spheres (least {LEAST_FILLING})"
            )
        if network_energies is not None and network_energies[system] < ENERGY_FLOOR:
            wrong.append(
                f"the energy is {network_energies[system]:.2f} eV/atom from the references of {potential.name} "
                f"(least {ENERGY_FLOOR})"
            )
        texts.append("; ".join(wrong) or None)
    return texts


def _collisions(batch: CrystalBatch) -> dict[int, str]:
    """The pair of atoms that is relatively the closest, for each crystal that has one too close."""
    pairs = batch.pairs(REACH)
    radii = _radii(batch)
    ratios = pairs.lengths / (radii.index_select(0, pairs.first) + radii.index_select(0, pairs.second))
    close = torch.nonzero(ratios < LEAST_RATIO)[:, 0]
    texts: dict[int, str] = {}
    for index in close[ratios[close].argsort(stable=True)].tolist():
        first, second = sorted(
            chemical_symbols[int(batch.numbers[atom[index]])] for atom in (pairs.first, pairs.second)
        )
        texts.setdefault(
            int(pairs.system_idx[index]),
            f"{first} and {second} are {float(pairs.lengths[index]):.2f} Å apart, "
            f"{float(ratios[index]):.2f} of the sum of their covalent radii (least {LEAST_RATIO})",
        )
    return texts


def _fillings(batch: CrystalBatch) -> list[float]:
    """Volume of each crystal over that of its atoms' covalent spheres."""
    spheres = batch.per_system(4 / 3 * math.pi * _radii(batch) ** 3)
    fillings: list[float] = (batch.volumes / spheres).tolist()
    return fillings


def _network_energies(batch: CrystalBatch, energies: torch.Tensor, potential: Potential) -> list[float] | None:
    """Energy of each crystal in eV/atom without the references of its composition; None without references."""
    if potential.energy_references is None:
        return None
    table = torch.tensor([potential.energy_references.get(symbol, math.nan) for symbol in chemical_symbols])
    references = table.to(energies).index_select(0, batch.numbers)
    counts = torch.tensor(batch.sizes).to(energies)
    network: list[float] = ((energies - batch.per_system(references)) / counts).tolist()
    return network


def _radii(batch: CrystalBatch) -> torch.Tensor:
    """[n_atoms] covalent radii in Å (Cordero et al., Dalton Trans. 2832 (2008), as in ASE)."""
    return torch.as_tensor(covalent_radii).to(batch.positions).index_select(0, batch.numbers)
