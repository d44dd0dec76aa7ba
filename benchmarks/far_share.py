"""How much of PQEq is left in crystals once near neighbours are taken out, by the length of the screening.

    MATSEARCH_SHARED=FOLDER python benchmarks/far_share.py [--crystals 400] [--seed 0]

Crystals of MP-20's validation split (`data/mp20_mpts52.parquet`), of up to 12 atoms, every other one strained and
rattled. Prints, for several lengths L (Å), what `matsearch.potential.longrange.far` leaves of energies, forces and
stresses: mean absolute values, of energies the 95th percentile, too; how far charges of the screened equilibrium are
from PQEq's; and of two ions 6 Å and 10 Å apart, the share of PQEq's force between them. The last line is PQEq itself:
the spread of its energies, which a network would have to unlearn, and its forces.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from longrange_physics import dimer
from pymatgen.core import Lattice, Structure

from matsearch.potential.batch import BatchPrediction, CrystalBatch
from matsearch.potential.longrange.pqeq import PQEq, PQEqParameters
from matsearch.training.anchored import distorted, distortion
from matsearch.units import EV_PER_A3_IN_GPA

LENGTHS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
IONS = (("Na", "Cl"), ("Li", "F"), ("Mg", "O"))
MOST_ATOMS = 12
TOGETHER = 40


def crystals(n: int, seed: int) -> list[Structure]:
    """At rest, and every other one distorted."""
    shared = os.environ.get("MATSEARCH_SHARED")
    if not shared or not (path := Path(shared) / "data/mp20_mpts52.parquet").is_file():
        raise SystemExit("needs data/mp20_mpts52.parquet of the folder named in MATSEARCH_SHARED")
    table = pd.read_parquet(path)
    table = table[table.split.map(lambda tags: "mp20-val" in tags) & (table.n_atoms <= MOST_ATOMS)]
    known = set(PQEqParameters.published("pqeq-far").symbols)
    table = table[table.species.map(lambda one: set(one) <= known)].sort_values("material_id")
    table = table.sample(min(n, len(table)), random_state=seed)
    rng = np.random.default_rng(seed)
    found = []
    for number, row in enumerate(table.itertuples()):
        coords = np.reshape(row.frac_coords, (-1, 3)).astype(float)
        structure = Structure(Lattice.from_parameters(*row.lattice), row.species, coords)
        found.append(distorted(structure, *distortion(len(structure), rng)) if number % 2 else structure)
    return found


def ask(potential: PQEq, structures: list[Structure]) -> list[BatchPrediction]:
    """In batches."""
    parts = [structures[start : start + TOGETHER] for start in range(0, len(structures), TOGETHER)]
    return [potential.evaluate(CrystalBatch.from_structures(part)) for part in parts]


def joined(predictions: list[BatchPrediction], name: str) -> np.ndarray:
    """One value of all batches."""
    return torch.cat([getattr(one, name) for one in predictions]).double().cpu().numpy()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    structures = crystals(asked.crystals, asked.seed)
    sizes = np.array([len(one) for one in structures])
    parameters = PQEqParameters.published("pqeq-far")
    dimers = [dimer(pair, distance) for pair in IONS for distance in (6.0, 10.0)]
    whole = PQEq("pqeq", parameters)
    all_of_it, pulls = ask(whole, structures), [one.forces[0, 0] for one in whole.predict(dimers)]
    energies = joined(all_of_it, "energies") / sizes
    print(f"{len(structures)} crystals of up to {MOST_ATOMS} atoms, torch {torch.__version__}, seed {asked.seed}")
    names = " ".join(f"{'-'.join(pair)} {distance}" for pair in IONS for distance in (6, 10))
    print(f"{'L, Å':>6}{'meV/atom':>10}{'95th':>8}{'meV/Å':>8}{'GPa':>8}{'charges, e':>12}   share of force: {names}")
    for length in LENGTHS:
        screened = PQEq("near", parameters, screening=length)
        near = ask(screened, structures)
        left = 1e3 * np.abs(energies - joined(near, "energies") / sizes)
        forces, stresses, charges = (
            np.nanmean(np.abs(joined(all_of_it, name) - joined(near, name)))
            for name in ("forces", "stresses", "charges")
        )
        shares = [1 - one.forces[0, 0] / pull for one, pull in zip(screened.predict(dimers), pulls, strict=True)]
        print(
            f"{length:6.1f}{np.nanmean(left):10.1f}{np.nanpercentile(left, 95):8.1f}{1e3 * forces:8.1f}"
            f"{EV_PER_A3_IN_GPA * stresses:8.3f}{charges:12.3f}   {' '.join(f'{one:.2f}' for one in shares)}"
        )
    forces = np.nanmean(np.abs(joined(all_of_it, "forces")))
    spread = 1e3 * np.nanstd(energies)
    print(
        f"PQEq itself: energies spread by {spread:.0f} meV/atom (standard deviation), forces {1e3 * forces:.0f} meV/Å"
    )


if __name__ == "__main__":
    main()
