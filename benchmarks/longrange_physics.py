"""What follows from charges, and what molecular dynamics needs: the measures of `longrange_potential.py` beyond bulk.

Each takes the potentials by name, and a number that says how much of it; each prints a table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from ase import units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from pymatgen.core import Lattice, Structure

from matsearch.errors import PotentialError
from matsearch.potential import Potential
from matsearch.potential.ase import to_atoms
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.conditions import ChargedPotential, Conditions
from matsearch.potential.longrange.ewald import COULOMB
from matsearch.potential.threads import one_thread
from matsearch.reference import load_reference

Potentials = Mapping[str, Potential]

BOX = 60.0
"""Å, edge of the cell of a dimer: its images are felt, but as in every row of the table."""
WATER = 1.45
"""Å^3, mean polarizability of the molecule, measured."""
CHARGED = {
    "NaCl": {"Na": 1, "Cl": -1},
    "MgO": {"Mg": 2, "O": -2},
    "BaTiO3": {"Ba": 2, "Ti": 4, "O": -2},
    "Li7La3Zr2O12": {"Li": 1, "La": 3, "Zr": 4, "O": -2},
}
"""Crystals whose charges are shown beside the formal ones."""


def dimer(symbols: tuple[str, str], distance: float) -> Structure:
    """Two atoms in a large cell."""
    places = [[BOX / 2, BOX / 2, BOX / 2], [BOX / 2 + distance, BOX / 2, BOX / 2]]
    return Structure(Lattice.cubic(BOX), list(symbols), places, coords_are_cartesian=True)


def dimers(potentials: Potentials, n: int) -> None:
    """Energies of dimers from 2 to 15 Å, their forces against Coulomb's, and the largest kink."""
    shown = np.array([2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0])
    fine = np.linspace(2.0, 15.0, n)
    for symbols in (("Na", "Cl"), ("Na", "Na")):
        print(f"\n{'-'.join(symbols)} in a cell of {BOX:g} Å: eV against 15 Å; r in Å")
        print(f"{'':24}" + "".join(f"{r:9.1f}" for r in shown))
        for name, potential in potentials.items():
            found = potential.predict([dimer(symbols, r) for r in shown])
            print(f"{name[-24:]:24}" + "".join(f"{one.energy - found[-1].energy:9.3f}" for one in found))
            pulls = np.array([one.forces[0, 0] for one in found])
            print(f"{'  pull, eV/Å':24}" + "".join(f"{one:9.4f}" for one in pulls))
            if found[0].charges is not None:
                charges = np.array([one.charges[0] for one in found])
                print(f"{'  charge, e':24}" + "".join(f"{one:9.3f}" for one in charges))
                ratios = [
                    p * r**2 / (COULOMB * q**2) if abs(q) > 0.01 else math.nan
                    for p, r, q in zip(pulls, shown, charges, strict=True)
                ]
                print(f"{'  pull by k q²/r²':24}" + "".join(f"{one:9.3f}" for one in ratios))
            print(f"  {smoothness(potential, [dimer(symbols, r) for r in fine], fine)}")


def smoothness(potential: Potential, structures: list[Structure], places: np.ndarray) -> str:
    """How well slopes are those of the energy, and the largest kink along a line of structures."""
    found = potential.predict(structures)
    energies = np.array([one.energy for one in found])
    pulls = np.array([one.forces[0, 0] for one in found])
    step = places[1] - places[0]
    # The integral of the slopes by the trapezoid rule against the energies.
    missing = np.diff(energies) - step * 0.5 * (pulls[1:] + pulls[:-1])
    jumps = np.abs(np.diff(pulls))
    beyond = places[1:] > 3.5
    worst = int(np.flatnonzero(beyond)[jumps[beyond].argmax()])
    return (
        f"along {len(places)} points: slopes miss {1e3 * np.abs(missing).max():.2f} meV of the energy at most; beyond "
        f"3.5 Å the pull changes by {1e3 * jumps[worst]:.2f} meV/Å in {step:.2f} Å at most, at {places[worst]:.2f} Å"
    )


def charged_slabs(potentials: Potentials, n: int) -> None:
    """Two ionic layers, one of Na and one of Cl, 12 Å and more apart: what pulls them together."""
    gaps = (8.0, 12.0, 16.0)
    print(f"\nlayers of {n * n} Na and of {n * n} Cl, 4 Å squares, in a cell of 60 Å: pull in eV/Å an atom; gap in Å")
    print(f"{'':24}" + "".join(f"{gap:10.0f}" for gap in gaps))
    for name, potential in potentials.items():
        found = potential.predict([layers(gap, n) for gap in gaps])
        print(f"{name[-24:]:24}" + "".join(f"{one.forces[: n * n, 2].mean():10.5f}" for one in found))
        if found[0].charges is not None:
            print(f"{'  charge of Na, e':24}" + "".join(f"{one.charges[: n * n].mean():10.4f}" for one in found))


def layers(gap: float, n: int) -> Structure:
    """A square layer of Na below one of Cl."""
    places = [[4.0 * i, 4.0 * j, height] for height in (20.0, 20.0 + gap) for i in range(n) for j in range(n)]
    symbols = ["Na"] * n * n + ["Cl"] * n * n
    return Structure(Lattice.tetragonal(4.0 * n, 60.0), symbols, places, coords_are_cartesian=True)


def water(potentials: Potentials, _: int) -> None:
    """Polarizability of one molecule in a cell: of the shells alone, and with charges that flow, by energies."""
    angle = math.radians(104.52 / 2)
    across, up = 0.9572 * math.sin(angle), 0.9572 * math.cos(angle)
    places = np.array([[0, 0, 0], [across, 0, up], [-across, 0, up]]) + 10.0
    molecule = Structure(Lattice.cubic(20.0), ["O", "H", "H"], places, coords_are_cartesian=True)
    print(f"\nwater in a field: polarizability in Å^3 (measured {WATER} Å^3)")
    for name, potential in potentials.items():
        if not isinstance(potential, ChargedPotential) or not potential.has_charges:
            print(f"{name[-24:]:24} none: no charges")
            continue
        found = potential.response(CrystalBatch.from_structures([molecule], potential.device)).polarizability[0]
        shells = float(found.trace()) / 3
        try:
            axes = [_of_field(potential, molecule, axis) for axis in range(3)]
        except PotentialError as err:
            print(f"{name[-24:]:24} shells alone {shells:.3f} ({shells / WATER - 1:+.0%}); {err}")
            continue
        mean = sum(axes) / 3
        print(
            f"{name[-24:]:24} {mean:.3f} ({mean / WATER - 1:+.0%}), along x, y, z "
            f"{', '.join(f'{one:.3f}' for one in axes)}; shells alone {shells:.3f} ({shells / WATER - 1:+.0%})"
        )


def _of_field(potential: ChargedPotential, molecule: Structure, axis: int, strength: float = 0.02) -> float:
    """Å^3, from the curvature of the energy in a field in V/Å along an axis across which there is vacuum."""
    energies = []
    for sign in (-1, 0, 1):
        field = torch.zeros(3, dtype=torch.float64)
        field[axis] = sign * strength
        energies.append(potential.predict_under([molecule], Conditions(field=field, slab_axis=axis))[0].energy)
    below, rest, above = energies
    return COULOMB * (2 * rest - below - above) / strength**2


def charges(potentials: Potentials, _: int) -> None:
    """Charges of known crystals beside formal ones."""
    reference = load_reference("chgnet-0.3.0")
    phases = reference.phases
    print("\ncharges in e, mean of each element (formal charge)")
    for formula, formal in CHARGED.items():
        of_formula = phases[phases.formula == formula].sort_values("energy_per_atom")
        if of_formula.empty:
            continue
        structure = reference.structure(of_formula["id"].iloc[0])
        for name, potential in potentials.items():
            found = potential.predict([structure])[0].charges
            if found is None:
                continue
            symbols = np.array([site.specie.symbol for site in structure])
            means = [f"{one} {found[symbols == one].mean():+.3f} ({formal[one]:+d})" for one in formal]
            print(f"{name[-24:]:24} {formula}: {', '.join(means)}")


def molecular_dynamics(potentials: Potentials, n: int) -> None:
    """Drift of the energy of 216 atoms of NaCl at 300 K, 1 fs, by velocity Verlet, neighbours as they come."""
    print(f"\n216 atoms of NaCl, 300 K, 1 fs, {n} steps: drift by a line through the total energy, in meV/atom/ps")
    for name, potential in potentials.items():
        cell = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.70), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        atoms = to_atoms(cell * (3, 3, 3))
        MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=np.random.default_rng(0))
        Stationary(atoms)
        batch = CrystalBatch.from_structures([cell * (3, 3, 3)], potential.device)
        masses = torch.tensor(atoms.get_masses())[:, None]
        velocities = torch.tensor(atoms.get_velocities())
        step = 1.0 * units.fs
        found = potential.evaluate(batch)
        totals, kinetic = [], []
        for _ in range(n):
            velocities = velocities + 0.5 * step * found.forces.cpu() / masses
            batch = batch.moved(batch.positions + step * velocities.to(batch.positions), batch.cells)
            found = potential.evaluate(batch)
            velocities = velocities + 0.5 * step * found.forces.cpu() / masses
            kinetic.append(float((0.5 * masses * velocities**2).sum()))
            totals.append(kinetic[-1] + float(found.energies[0]))
        ps = np.arange(n) * 1e-3
        per_atom = 1e3 * np.array(totals) / 216
        second = slice(n // 5, None)
        drift = np.polyfit(ps[second], per_atom[second], 1)[0]
        temperature = np.mean(kinetic[n // 2 :]) / 216 / 1.5 / units.kB
        fresh = CrystalBatch(batch.positions, batch.cells, batch.numbers, batch.sizes, batch.system_idx)
        jump = abs(float(found.energies[0] - potential.evaluate(fresh).energies[0]))
        print(
            f"{name[-24:]:24} {drift:+.4f}, spread {per_atom[second].std():.4f} meV/atom, {temperature:.0f} K; "
            f"with neighbours searched anew {1e3 * jump / 216:.1e} meV/atom off",
            flush=True,
        )


def cost(potentials: Potentials, n: int) -> None:
    """Processor time of energies, forces and stresses of batches as in a relaxation, in turn, one thread."""
    for least, most, count in ((2, 20, n), (80, 120, max(1, n // 16))):
        _cost(potentials, least, most, count)


def _cost(potentials: Potentials, least: int, most: int, n: int) -> None:
    reference = load_reference("chgnet-0.3.0")
    phases = reference.phases
    known = frozenset.intersection(*(one.elements for one in potentials.values()))
    chosen = phases[phases.n_atoms.between(least, most)].sample(4 * n, random_state=0)
    structures = [reference.structure(one) for one in chosen["id"]]
    structures = [one for one in structures if {x.symbol for x in one.composition.elements} <= known][:n]
    parts = [structures[start : start + 16] for start in range(0, len(structures), 16)]
    seconds: dict[str, list[float]] = {name: [] for name in potentials}
    batches = {
        name: [CrystalBatch.from_structures(part, one.device) for part in parts] for name, one in potentials.items()
    }
    for turn in range(4):
        for name, potential in potentials.items():
            began = _clock(potential)
            with one_thread(torch.device(potential.device)):
                for batch in batches[name]:
                    moved = batch.positions + 1e-3 * turn
                    potential.evaluate(batch.moved(moved, batch.cells))
            seconds[name].append(_clock(potential) - began)
    first = next(iter(potentials))
    n_atoms = sum(map(len, structures))
    print(f"\na step of {len(structures)} crystals of {least} to {most} atoms, on one thread")
    for name, taken in seconds.items():
        print(
            f"{name[-24:]:24} {1e6 * min(taken) / n_atoms:7.0f} µs an atom, {min(taken) / min(seconds[first]):.2f} of "
            f"{first}"
        )


def _clock(potential: Potential) -> float:
    if "cuda" in potential.device:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


MEASURES: dict[str, tuple[Callable[[Potentials, int], None], int]] = {
    "dimers": (dimers, 261),
    "slabs": (charged_slabs, 4),
    "water": (water, 1),
    "charges": (charges, 4),
    "md": (molecular_dynamics, 10_000),
    "cost": (cost, 128),
}
"""By name: what measures, and how much of it in full."""
