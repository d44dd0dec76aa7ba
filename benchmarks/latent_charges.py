"""Latent charges against what is known: a gas of charges, charged dimers, and Born charges of BaTiO3 by DFT.

    python benchmarks/latent_charges.py gas|dimers|batio3 [--out FOLDER] [--epochs 100]

- gas: 128 charges of +1 and -1 e at random; charges, errors of energies and forces, beside the short-range twin with
  the same cutoff (4 Å), trained alike. The twin is also taken at its best step, as it gets worse with training.
- dimers: of charged molecules, shown from 5 to 8 Å apart, asked from 10 to 60 Å; the cutoff is 4 Å.
- batio3: 59 frames of 135 atoms of the folder named in MATSEARCH_SHARED (molecular dynamics, from allegro-pol, MIT).
  Trained on energies and forces of the first 47, and so is a short-range twin. For the last 12, Born charges: R² of
  their deviations from each site's mean over those frames, for which any constant of a site scores zero. eps_inf is
  the trace of the DFT polarizabilities of the training frames (in e Å²/V).

One CPU thread. Training goes on from a checkpoint in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pymatgen.core import Lattice, Structure

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.ewald import COULOMB
from matsearch.potential.longrange.latent import LatentPotential, LatentSettings, LocalSettings
from matsearch.potential.response import dipole_change
from matsearch.testing.point_charges import CHARGES, ChargedSystems, charge_gas, charged_dimers, labelled
from matsearch.training.latent import FitSettings, Labelled, errors, fit, label_sets, polish

FILE = "data/batio3_bec_polarization.jsonl.zst"
HELD_OUT = 12


def sets(systems: ChargedSystems) -> list[Labelled]:
    return label_sets(systems.structures, systems.energies, systems.forces, batch_atoms=1500)


def gas(n_atoms: int, side: float, n_training: int, steps: int) -> None:
    rng = np.random.default_rng(0)
    training, held_out = charge_gas(n_training, n_atoms, side, rng), charge_gas(10, n_atoms, side, rng)
    shown, asked = sets(training), sets(held_out)
    network = LocalSettings(cutoff=4.0, n_radial=10, n_channels=1)
    forces = np.concatenate(held_out.forces)
    print(
        f"gas: {n_training} + 10 crystals of {n_atoms} charges in ({side} Å)³; force components {forces.std():.3f} eV/Å"
    )
    best = {}
    for long_range in (True, False):
        settings = LatentSettings(
            elements=("Cl", "Na"), energy_scale="gas", network=network, width=0, long_range=long_range
        )
        potential = LatentPotential.new(settings)
        looks = []

        def tell(line: str, potential: LatentPotential = potential, looks: list = looks) -> None:
            looks.append(errors(potential, asked))
            print(f"  {line}", flush=True)

        start = time.process_time()
        last = polish(potential, shown, asked, steps, tell=tell)
        looks.append(last)
        best[long_range] = last, min(one.energy for one in looks), min(one.force for one in looks)
        name = "latent" if long_range else "twin"
        seconds = time.process_time() - start
        print(f"{name}: {1e3 * last.energy:.3f} meV/atom, {1e3 * last.force:.2f} meV/Å; {seconds:.0f} s")
        if long_range:
            charges = torch.cat([potential.evaluate(one.batch).charges for one in asked]).numpy()
            wrong = charges * np.sign(charges[0]) - held_out.charges
            print(f"charges: largest error {np.abs(wrong).max():.4f} e, root mean square {wrong.std():.4f} e")
    (ours, _, _), (theirs, energy, force) = best[True], best[False]
    print(f"twin over latent: energy {theirs.energy / ours.energy:.0f}, force {theirs.force / ours.force:.0f}")
    print(f"the twin at its best step: energy {energy / ours.energy:.0f}, force {force / ours.force:.0f}", flush=True)


def dimers(steps: int) -> None:
    rng = np.random.default_rng(1)
    shown = charged_dimers([*np.linspace(5.0, 8.0, 7)] * 8, rng)
    elements = tuple(sorted(CHARGES.keys() - {"Na", "Cl"}))
    settings = LatentSettings(
        elements=elements,
        energy_scale="dimers",
        network=LocalSettings(cutoff=4.0, n_radial=3, n_channels=1),
        width=0,
    )
    potential = LatentPotential.new(settings).isolated()
    near = charged_dimers([10.0] * 20, rng)
    last = polish(potential, sets(shown), sets(near), steps)
    print(
        f"dimers: {len(shown.structures)} shown; at 10 Å {1e3 * last.energy:.3f} meV/atom, {1e3 * last.force:.2f} meV/Å"
    )
    charges = potential.predict(near.structures[:1])[0].charges
    names = [site.specie.symbol for site in near.structures[0]]
    print("charges:", ", ".join(f"{name} {q:+.3f} ({CHARGES[name]:+})" for name, q in zip(names, charges, strict=True)))
    found_far, wanted_far = energies_at(potential, near, 500.0)
    for distance in (10.0, 15.0, 20.0, 30.0, 60.0):
        found, wanted = energies_at(potential, near, distance)
        ours, exact = found - found_far, wanted - wanted_far
        point = -COULOMB * (1 / distance - 1 / 500)
        print(
            f"{distance:5.0f} Å: binding {ours.mean():8.4f} eV, exact {exact.mean():8.4f}, "
            f"of -C/r {ours.mean() / point:.4f}, largest error {1e3 * np.abs(ours - exact).max():.2f} meV",
            flush=True,
        )


def energies_at(potential: LatentPotential, dimer: ChargedSystems, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Energies of dimers from 10 Å taken further apart, and the exact ones."""
    moved = []
    for one in dimer.structures:
        positions = one.cart_coords.copy()
        positions[2:, 0] += distance - 10.0
        moved.append(Structure(Lattice.cubic(4 * distance), one.species, positions, coords_are_cartesian=True))
    exact = labelled(moved, periodic=False)
    return np.array([one.energy for one in potential.predict(moved)]), np.array(exact.energies)


def batio3(out: Path, epochs: int, network: LocalSettings) -> None:
    shared = os.environ.get("MATSEARCH_SHARED")
    if not shared or not (Path(shared) / FILE).is_file():
        print(f"batio3: needs {FILE} of the folder named in MATSEARCH_SHARED; left out")
        return
    with pa.input_stream(Path(shared) / FILE, compression="zstd") as stream:
        rows = [json.loads(line) for line in stream.read().decode().splitlines()]
    structures = [Structure(Lattice(r["cell"]), r["species"], r["positions"], coords_are_cartesian=True) for r in rows]
    energies = [r["info"]["total_energy"] for r in rows]
    forces = [np.array(r["atoms_forces"]) for r in rows]
    born = np.array([r["atoms_born_charge"] for r in rows]).reshape(len(rows), -1, 3, 3)
    volumes = np.array([one.volume for one in structures])
    traces = np.trace(np.array([r["info"]["polarizability"] for r in rows]).reshape(-1, 3, 3), axis1=1, axis2=2) / 3
    first = len(rows) - HELD_OUT
    dielectric = float((1 + 4 * np.pi * COULOMB * traces / volumes)[:first].mean())
    shown = label_sets(structures[:first], energies[:first], forces[:first], batch_atoms=135)
    asked = label_sets(structures[first:], energies[first:], forces[first:], batch_atoms=135)
    source = "DFT polarizabilities of the training frames, a third of the trace"
    print(f"batio3: {first} frames shown, {HELD_OUT} asked, forces {np.std(forces[first:]):.3f} eV/Å")
    print(f"eps_inf {dielectric:.3f}: {source}")
    out.mkdir(parents=True, exist_ok=True)
    trained = {}
    for name, long_range in (("batio3", True), ("batio3-twin", False)):
        settings = LatentSettings(
            elements=("Ba", "O", "Ti"),
            energy_scale="allegro-pol",
            network=network,
            width=16,
            long_range=long_range,
            optical_dielectric=dielectric,
            optical_dielectric_source=source,
        )
        trained[name] = potential = LatentPotential.new(settings)

        def tell(line: str, name: str = name, potential: LatentPotential = potential) -> None:
            print(f"  {name}: {line}", flush=True)
            potential.save(out / name)

        fit(
            potential,
            shown,
            asked,
            FitSettings(epochs=epochs, learning_rate=4e-3, energy_weight=0.1, check_every=5),
            out / f"{name}.pt",
            tell=tell,
        )
        potential.save(out / name)
    for name, potential in trained.items():
        last = errors(potential, asked)
        print(f"held out, {name}: {1e3 * last.energy:.2f} meV/atom, {1e3 * last.force:.1f} meV/Å")
    potential = trained["batio3"]
    ours = np.stack([potential.response(one.batch).born_charges.numpy() for one in asked])
    report_born_charges(np.array([site.specie.symbol for site in structures[0]]), ours, born[:first], born[first:])
    report_polarization(rows[first:], ours, born[first:])
    report_cells(potential, structures)


def report_born_charges(symbols: np.ndarray, ours: np.ndarray, shown: np.ndarray, theirs: np.ndarray) -> None:
    """R² of the deviations, and plain R² beside that of constants of an element."""
    sites = np.broadcast_to(shown.mean(0), theirs.shape)
    elements = np.empty_like(theirs)
    for symbol in np.unique(symbols):
        elements[:, symbols == symbol] = shown[:, symbols == symbol].mean((0, 1))
        for name, values in (("latent", ours), ("DFT", theirs)):
            means = values[:, symbols == symbol].mean((0, 1))
            print(f"mean Born charge of {symbol}, {name}: {np.round(means.diagonal(), 2).tolist()}")
    total = np.square(theirs - theirs.mean()).sum()
    for name, values in (("latent", ours), ("constant per element", elements), ("constant per site", sites)):
        print(f"plain R² of all components, {name}: {1 - np.square(values - theirs).sum() / total:.3f}")
    eye = np.eye(3, dtype=bool)
    mine, exact = ours - ours.mean(0), theirs - theirs.mean(0)
    for name, chosen in (("diagonal", eye), ("off-diagonal", ~eye)):
        for of in ("all", *np.unique(symbols)):
            atoms = np.isin(symbols, [of]) if of != "all" else np.ones(len(symbols), dtype=bool)
            a, b = mine[:, atoms][..., chosen].ravel(), exact[:, atoms][..., chosen].ravel()
            r2, slope = 1 - np.square(a - b).sum() / np.square(b).sum(), a @ b / (b @ b)
            print(
                f"deviations from the site's mean, {name}, {of}: R² {r2:.3f} (a constant: 0), "
                f"correlation {np.corrcoef(a, b)[0, 1]:.3f}, slope {slope:.2f}, spread of DFT {b.std():.3f} e"
            )


def report_polarization(rows: list[dict], ours: np.ndarray, theirs: np.ndarray) -> None:
    """Changes of the cell's dipole from frame to frame, modulo e a_i."""
    positions = np.array([r["positions"] for r in rows])
    quantum = np.linalg.norm(np.array(rows[0]["cell"]), axis=1)
    exact = np.diff([r["info"]["polarization"] for r in rows], axis=0)
    steps = torch.tensor(np.diff(positions, axis=0))
    for name, charges in (("latent", ours), ("DFT Born charges", theirs), ("no change", 0 * ours)):
        wrong = dipole_change(torch.tensor(charges), steps).numpy() - exact
        wrong -= quantum * np.round(wrong / quantum)
        error = np.sqrt(np.square(wrong).mean())
        print(
            f"dipole from frame to frame modulo e a_i, {name}: root mean square error {error:.3f} e Å "
            f"(anything at random: {quantum.mean() / np.sqrt(12):.2f})"
        )


def report_cells(potential: LatentPotential, structures: list[Structure]) -> None:
    """The averaged 5-atom cell and its supercells, which are one crystal."""
    frames = np.array([one.frac_coords for one in structures])
    away = frames - frames[0]
    mean = (frames[0] + (away - np.round(away)).mean(0)) * 3 % 1
    symbols = np.array([site.specie.symbol for site in structures[0]])
    metal = [int(np.flatnonzero(symbols == one)[0]) for one in ("Ba", "Ti")]
    oxygen: list[int] = []
    for atom in np.flatnonzero(symbols == "O"):
        near = [np.abs((mean[atom] - mean[one] + 0.5) % 1 - 0.5).max() for one in oxygen]
        if all(distance > 0.25 for distance in near):
            oxygen.append(int(atom))
    chosen = metal + oxygen
    cell = Structure(structures[0].lattice.matrix / 3, symbols[chosen], mean[chosen])
    small = potential.response(CrystalBatch.from_structures([cell])).born_charges
    energy = potential.predict([cell])[0].energy / len(cell)
    for n in (2, 3):
        large = cell * (n, n, n)
        repeated = potential.response(CrystalBatch.from_structures([large])).born_charges.view(len(cell), n**3, 3, 3)
        worst = float((repeated - small[:, None]).abs().max())
        per_atom = potential.predict([large])[0].energy / len(large)
        print(
            f"{cell.formula} and its {n} x {n} x {n} supercell: Born charges differ by {worst:.1e} e, "
            f"energies by {abs(per_atom - energy):.1e} eV/atom"
        )


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["gas", "dimers", "batio3"])
    parser.add_argument("--out", type=Path, default=Path("latent"), help="folder of checkpoints and models")
    parser.add_argument("--epochs", type=int, default=100, help="of BaTiO3")
    parser.add_argument("--steps", type=int, default=500, help="of the gas and the dimers")
    parser.add_argument("--atoms", type=int, default=128, help="of a crystal of the gas")
    parser.add_argument("--crystals", type=int, default=10, help="of the gas, shown")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sys.stdout.reconfigure(line_buffering=True)
    if asked.what == "gas":
        gas(asked.atoms, 20.0 * (asked.atoms / 128) ** (1 / 3), asked.crystals, asked.steps)
    elif asked.what == "dimers":
        dimers(asked.steps)
    else:
        batio3(asked.out, asked.epochs, LocalSettings(cutoff=5.0, n_radial=8, n_channels=6))


if __name__ == "__main__":
    main()
