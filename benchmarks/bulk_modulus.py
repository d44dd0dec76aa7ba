"""Bulk and shear moduli against DFT.

    MATSEARCH_SHARED=... python benchmarks/bulk_modulus.py [--crystals 300] [--cubics 70] [--out scores.csv]

Of the folder's `data/mp_binary_elasticity.parquet` (3,361 binaries with K_VRH and G_VRH of the Materials Project) a
random sample: K by the equation of state (`bulk_modulus`, shape of the cell relaxed: Reuss-like), K and G by the
elastic tensor. Of `data/elastic_tensors.parquet` (70 cubic crystals) the components, turned into the cubic axes. Prints
mean absolute error, median relative error, Spearman's rank correlation, and failures by reason: a failed crystal is
counted, never a number. Binaries that `--out` holds already are taken from there: a run that was stopped goes on.
"""

import argparse
import os
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Lattice, Structure
from scipy.stats import spearmanr

import matsearch as ms
from matsearch.objectives.elastic_tensor import ElasticTensor, elastic_tensors
from matsearch.objectives.elasticity import rotated
from matsearch.objectives.rest import REST_TOL
from matsearch.records import Relaxed


def structure_of(row):
    coords = np.asarray(row.frac_coords, dtype=float).reshape(-1, 3)
    return Structure(Lattice.from_parameters(*row.lattice), list(row.species), coords)


def report(label, found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    error = np.abs(found - expected)
    relative = error / np.abs(expected)
    print(
        f"  {label:22s} n = {len(found)}, MAE {error.mean():.1f} GPa, median relative error {np.median(relative):.1%}, "
        f"Spearman {spearmanr(found, expected).statistic:.3f}, bias {np.mean(found - expected):+.1f} GPa"
    )


OBJECTIVES = {"bulk_modulus": "K_VRH_GPa", "bulk_modulus_vrh": "K_VRH_GPa", "shear_modulus": "G_VRH_GPa"}
TOGETHER = 10


def scores_of(table, given, potential):
    """Scores of the rows of a table, those in the file first; by row number."""
    columns = [column for name in OBJECTIVES for column in (name, f"{name}_rejected")]
    done = pd.read_csv(given.out, index_col="row") if given.out and given.out.is_file() else pd.DataFrame()
    parts = [done.loc[done.index.intersection(table.index)]] if len(done) else []
    missing = table[~table.index.isin(done.index)]
    for start in range(0, len(missing), TOGETHER):
        rows = missing.iloc[start : start + TOGETHER]
        scores = ms.score([structure_of(row) for row in rows.itertuples()], list(OBJECTIVES), potential)[columns]
        scores.index = pd.Index(rows.index, name="row")
        parts.append(scores)
        if given.out:
            scores.to_csv(given.out, mode="a", header=not given.out.is_file())
        print(f"  {start + len(rows)} of {len(missing)}", flush=True)
    return pd.concat(parts).loc[table.index]


def binaries(data, given, potential):
    table = pd.read_parquet(data / "mp_binary_elasticity.parquet")
    table = table[(table.K_VRH_GPa > 0) & (table.G_VRH_GPa > 0)].sample(given.crystals, random_state=given.seed)
    start = time.perf_counter()
    scores = scores_of(table, given, potential)
    print(f"{len(table)} binaries with K and G above 0 (seed {given.seed}), {time.perf_counter() - start:.0f} s")
    for name, column in OBJECTIVES.items():
        has = scores[name].notna().to_numpy()
        report(name, scores[name][has], table[column].to_numpy()[has])
        reasons = Counter(scores.loc[~has, f"{name}_rejected"].str.split(":").str[0])
        if reasons:
            print(f"    failed: {dict(reasons.most_common())}")


def cubic_axes(crystal):
    """Rotation that turns the crystal's axes into those of its conventional cell."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    operations = SpacegroupAnalyzer(crystal, symprec=0.05).get_symmetry_operations(cartesian=True)
    # Fourfold (or, without them, twofold) axes of a cubic crystal are its cell edges.
    axes = []
    for operation in operations:
        rotation = operation.rotation_matrix * np.sign(np.linalg.det(operation.rotation_matrix))
        order = {1: 4, -1: 2}.get(round(np.trace(rotation)))
        if order is None:
            continue
        values, vectors = np.linalg.eig(rotation)
        axis = np.real(vectors[:, np.argmin(np.abs(values - 1))])
        axes.append((order, axis / np.linalg.norm(axis)))
    best = max(order for order, _ in axes)
    edges = []
    for order, axis in axes:
        if order == best and all(abs(axis @ one) < 0.1 for one in edges):
            edges.append(axis)
    frame = np.array(edges[:3])
    return frame if np.linalg.det(frame) > 0 else frame[[1, 0, 2]]


def cubics(data, given, potential):
    table = pd.read_parquet(data / "elastic_tensors.parquet")
    table = table.sample(min(given.cubics, len(table)), random_state=given.seed)
    crystals = [structure_of(row) for row in table.itertuples()]
    relaxed = ms.relax(crystals, potential, REST_TOL, optimizer="lbfgs")
    pairs = [
        (one.structure, np.array(row.C_voigt_GPa).reshape(6, 6))
        for one, row in zip(relaxed, table.itertuples(), strict=True)
        if isinstance(one, Relaxed) and one.converged
    ]
    tensors = elastic_tensors([crystal for crystal, _ in pairs], potential)
    print(f"{len(table)} cubic crystals with a tensor")
    columns = {"C11": (0, 0), "C12": (0, 1), "C44": (3, 3)}
    ours, theirs = {name: [] for name in columns}, {name: [] for name in columns}
    for (crystal, expected), found in zip(pairs, tensors, strict=True):
        if isinstance(found, ElasticTensor):
            tensor = rotated(found.voigt, cubic_axes(crystal))
            for name, place in columns.items():
                ours[name].append(tensor[place])
                theirs[name].append(expected[place])
    for name in columns:
        report(name, ours[name], theirs[name])
    failed = Counter(one.reason for one in [*relaxed, *tensors] if isinstance(one, ms.Rejection))
    failed["unconverged"] += sum(isinstance(one, Relaxed) and not one.converged for one in relaxed)
    print(f"    failed: {dict(+failed)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crystals", type=int, default=300)
    parser.add_argument("--cubics", type=int, default=70)
    parser.add_argument("--out", type=Path, help="CSV of the binaries' scores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--potential", default="chgnet-0.3.0")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = os.environ.get("MATSEARCH_SHARED")
    if not folder or not (Path(folder) / "data" / "mp_binary_elasticity.parquet").is_file():
        raise SystemExit("needs data/mp_binary_elasticity.parquet in the folder that MATSEARCH_SHARED names")
    potential = ms.load_potential(given.potential)
    if given.crystals:
        binaries(Path(folder) / "data", given, potential)
    if given.cubics:
        cubics(Path(folder) / "data", given, potential)


if __name__ == "__main__":
    main()
