"""Which crystals of MP-20's training split have the cell that was relaxed in PBE, as their energies were.

    MATSEARCH_SHARED=FOLDER python benchmarks/pbe_cells.py

Geometries of the Materials Project v2025.02.12 come from PBE or from r2SCAN, and do not say so; r2SCAN's cells are
some 2 % smaller. Of the validation split the cells in PBE are known (`mp20-csv`), so that a cell there that is the same
in both tables is PBE's. A logistic regression on marks that know nothing of volumes (negative zeros and rounding of the
newer files, height above the hull, number of the entry, elements) is fitted to one half of it; the table says how
often it is right on the other half. No energy of the validation split enters but its height above the hull.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize

LANTHANIDES = frozenset("La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Ac Th Pa U Np Pu".split())
FIRST_OF_KINDS = (5e3, 1.5e4, 3e4, 6e5, 8e5, 1e6, 1.1e6, 1.2e6)
"""Numbers of entries between which they came from other sources."""
USUAL_ANGLES = np.array([60.0, 90.0, 109.471221, 120.0])
SAME_VOLUME = 1e-4
LEAST = 0.8
"""Probability from which a cell is taken for PBE's."""


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Crystals of MP-20's training split alone, and of its validation split, by the geometry of v2025.02.12.

    The latter with the volume of the PBE cell, `volume_pbe`, in Å^3 an atom.
    """
    shared = os.environ.get("MATSEARCH_SHARED")
    if not shared or not (Path(shared) / "data/mp20_mpts52.parquet").is_file():
        raise SystemExit("needs data/mp20_mpts52.parquet and mp_structures.parquet of the folder in MATSEARCH_SHARED")
    sets = pd.read_parquet(Path(shared) / "data/mp20_mpts52.parquet")
    sets["volume_pbe"] = volumes(sets)
    sets = sets[sets.formation_energy_per_atom.notna()]
    # Training crystals of one set that are test crystals of the other belong to neither.
    training = sets[sets.split.map(tuple) == ("mp20-train",)]
    looked_at = sets[sets.split.map(lambda tags: "mp20-val" in tags) & (sets.structure_source == "mp20-csv")]
    now = pd.read_parquet(Path(shared) / "data/mp_structures.parquet")
    columns = ["material_id", "formation_energy_per_atom", "e_above_hull_calc", "volume_pbe"]
    return tuple(one[columns].merge(now, on="material_id") for one in (training, looked_at))


def volumes(table: pd.DataFrame) -> np.ndarray:
    """Å^3 an atom."""
    cells = np.stack(table.lattice.to_numpy()).astype(float)
    cosines = np.cos(np.radians(cells[:, 3:]))
    squared = 1 - (cosines**2).sum(1) + 2 * cosines.prod(1)
    return cells[:, :3].prod(1) * np.sqrt(squared) / table.n_atoms.to_numpy()


def is_pbe(table: pd.DataFrame) -> np.ndarray:
    """[n] of crystals whose cell in PBE is known: whether theirs is the same."""
    return np.abs(np.log(volumes(table) / table.volume_pbe.to_numpy())) < SAME_VOLUME


def marks(table: pd.DataFrame) -> np.ndarray:
    """[n, n_marks] numbers between 0 and about 2."""
    cells = np.stack(table.lattice.to_numpy()).astype(float)
    off = np.abs(cells[:, 3:, None] - USUAL_ANGLES).min(2)
    lengths = np.abs(cells[:, :3] - np.roll(cells[:, :3], 1, axis=1))
    numbers = table.material_id.str.extract(r"-(\d+)")[0].astype(float).to_numpy()
    height = table.e_above_hull_calc.to_numpy(float)
    elements = table.species.map(set)
    found = [
        np.ones(len(table)),
        table.frac_coords.map(lambda one: np.signbit(one[one == 0]).any()),
        ((off > 1e-7) & (off < 2e-3)).any(1),
        ((lengths > 0) & (lengths < 2e-5)).any(1),
        height < 1e-6,
        *(np.minimum(height, limit) / limit for limit in (0.01, 0.03, 0.1)),
        *(numbers > first for first in FIRST_OF_KINDS),
        table.formation_energy_legacy_2020.notna(),
        table.formation_energy_legacy_2018.notna(),
        np.log(table.n_atoms) / 2,
        *(elements.map(lambda one, symbol=symbol: symbol in one) for symbol in "O F Cl S Se Te N H".split()),
        elements.map(lambda one: bool(one & LANTHANIDES)),
        *(elements.map(len) == number for number in (1, 2, 3)),
    ]
    return np.array([np.asarray(one, float) for one in found]).T


def fitted(known: pd.DataFrame) -> np.ndarray:
    """Weights of the marks."""
    x, y = marks(known), is_pbe(known).astype(float)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = x @ weights
        slope = x.T @ (1 / (1 + np.exp(-logits)) - y) + 0.1 * weights
        return float((np.logaddexp(0, logits) - y * logits).sum() + 0.05 * weights @ weights), slope

    return minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x


def probabilities(table: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """[n] that a cell is PBE's."""
    return 1 / (1 + np.exp(-marks(table) @ weights))


def main() -> None:
    """Print how often it is right."""
    training, known = tables()
    order = np.random.default_rng(0).permutation(len(known))
    first, second = known.iloc[order[::2]], known.iloc[order[1::2]]
    weights = fitted(first)
    true, found, of_training = is_pbe(second), probabilities(second, weights), probabilities(training, weights)
    print(f"{len(known)} validation crystals, {is_pbe(known).mean():.1%} with PBE's cell; {len(training)} to train on")
    print("least probability  right on the other half  found of these  found to train on")
    for least in (0.5, 0.6, 0.7, 0.8, 0.9):
        chosen = found > least
        print(
            f"{least:17.1f} {true[chosen].mean():22.1%} {true[chosen].sum() / true.sum():15.1%} "
            f"{(of_training > least).sum():18d}"
        )


if __name__ == "__main__":
    main()
