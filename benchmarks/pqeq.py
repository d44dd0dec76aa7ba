"""What PQEq costs: batches of 1,000 atoms, of 160 and single crystals, beside a step of CHGNet; growth with the cell.

    python benchmarks/pqeq.py [--device cuda] [--largest 2000] [--atoms 1000] [--repeat 3]

Crystals are grids of random elements (Li, O, Si, Ti, Ba), rattled, 16 Å^3 an atom; where MATSEARCH_SHARED names a
folder with data/mp_structures.parquet, also random ones of that with 10 and with 30 atoms. A step is energy, forces and
stress; each time is the shortest of some repeats that take turns. On a CPU one thread is used, and its time is the
processor's. CHGNet takes batches of 160 atoms there, with which it is fastest; a sum of both takes these, too.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from pymatgen.core import Lattice, Structure

from matsearch.potential import load_potential
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.batched import BatchedPotential

ELEMENTS = ("Li", "O", "Si", "Ti", "Ba")


def crystal(n_atoms: int, rng: np.random.Generator) -> Structure:
    """A rattled grid of atoms, with as many points along each axis as its length allows."""
    side = (16.0 * n_atoms) ** (1 / 3)
    points = int(np.ceil(n_atoms ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(points)] * 3, indexing="ij"), -1).reshape(-1, 3) / points
    chosen = grid[rng.permutation(len(grid))[:n_atoms]]
    rattled = chosen + rng.normal(scale=0.15, size=chosen.shape) / side
    return Structure(Lattice.cubic(side), rng.choice(ELEMENTS, n_atoms).tolist(), rattled)


def known_crystals(n_atoms: int, n_crystals: int, rng: np.random.Generator) -> list[Structure]:
    """Some of the Materials Project; none where its structures are not at hand."""
    path = Path(os.environ.get("MATSEARCH_SHARED", "")) / "data" / "mp_structures.parquet"
    if not path.is_file():
        return []
    table = pq.read_table(path, columns=["lattice", "species", "frac_coords"], filters=[("n_atoms", "=", n_atoms)])
    rows = table.take(rng.permutation(len(table))[:n_crystals]).to_pylist()
    return [
        Structure(
            Lattice.from_parameters(*row["lattice"]), row["species"], np.reshape(row["frac_coords"], (n_atoms, 3))
        )
        for row in rows
    ]


def shortest(works: dict[str, Callable[[], object]], repeat: int, cuda: bool) -> dict[str, float]:
    """Seconds of each, the shortest of some repeats in turn."""
    clock = time.perf_counter if cuda else time.thread_time
    best = dict.fromkeys(works, float("inf"))
    for _ in range(repeat):
        for name, work in works.items():
            start = clock()
            work()
            if cuda:
                torch.cuda.synchronize()
            best[name] = min(best[name], clock() - start)
    return best


def batches(structures: list[Structure], n_atoms: int, device: str) -> list[CrystalBatch]:
    """Crystals of one size in batches of at most so many atoms."""
    chunk = max(1, n_atoms // len(structures[0]))
    return [CrystalBatch.from_structures(structures[i : i + chunk], device) for i in range(0, len(structures), chunk)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--largest", type=int, default=2000, help="atoms of the largest cell")
    parser.add_argument("--atoms", type=int, default=1000, help="atoms of a batch")
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pqeq, chgnet = load_potential("pqeq", asked.device), load_potential("chgnet-0.3.0", asked.device)
    cuda = "cuda" in pqeq.device
    per_call = asked.atoms if cuda else BatchedPotential.batch_atoms
    sizes = [size for size in (8, 10, 20, 50, 100, 200, 500, 1000, 2000) if size <= asked.largest]
    sets = {f"{size}": [crystal(size, rng) for _ in range(max(1, asked.atoms // size))] for size in sizes}
    for size in (10, 30):
        known = known_crystals(size, asked.atoms // size, rng)
        trained = [one for one in known if not pqeq.untrained(one) and not chgnet.untrained(one)]
        sets |= {f"{size}, MP": trained} if trained else {}
    print("milliseconds a crystal, of energy, forces and stress; shares of a step of CHGNet")
    print(
        f"{'atoms':>7} {'crystals':>8} {'batch':>9} {'parts':>9} {'singles':>9} {'CHGNet':>9} {'batch':>6} {'parts':>6}"
    )
    for name, structures in sets.items():
        together = batches(structures, asked.atoms, pqeq.device)
        parts = batches(structures, per_call, pqeq.device)
        singles = batches(structures[:10], 1, pqeq.device)
        works: dict[str, Callable[[], object]] = {
            "batch": lambda: [pqeq.evaluate(one) for one in together],  # noqa: B023 - called within the turn
            "parts": lambda: [pqeq.evaluate(one) for one in parts],  # noqa: B023
            "singles": lambda: [pqeq.evaluate(one) for one in singles],  # noqa: B023
            "chgnet": lambda: [chgnet.evaluate(one) for one in parts],  # noqa: B023
        }
        best = shortest(works, asked.repeat if len(structures[0]) <= 200 else 1, cuda)
        counts = {"singles": len(singles)}
        cost = {work: 1e3 * seconds / counts.get(work, len(structures)) for work, seconds in best.items()}
        shares = [f"{cost[work] / cost['chgnet']:6.0%}" for work in ("batch", "parts")]
        print(f"{name:>7} {len(structures):8}", *[f"{one:9.2f}" for one in cost.values()], *shares, flush=True)


if __name__ == "__main__":
    main()
