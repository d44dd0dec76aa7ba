"""What PQEq costs: a batch against crystals one at a time, beside a step of CHGNet, and its growth with the cell.

    python benchmarks/pqeq.py [--device cuda] [--largest 2000] [--atoms 1000] [--repeat 3]

Crystals are grids of random elements (Li, O, Si, Ti, Ba), rattled, 16 Å^3 an atom. A step is energy, forces and stress;
each time is the shortest of some repeats that take turns. On a CPU one thread is used.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from pymatgen.core import Lattice, Structure

from matsearch.potential import load_potential
from matsearch.potential.batch import CrystalBatch

ELEMENTS = ("Li", "O", "Si", "Ti", "Ba")


def crystal(n_atoms: int, rng: np.random.Generator) -> Structure:
    """A rattled grid of atoms, with as many points along each axis as its length allows."""
    side = (16.0 * n_atoms) ** (1 / 3)
    points = int(np.ceil(n_atoms ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(points)] * 3, indexing="ij"), -1).reshape(-1, 3) / points
    chosen = grid[rng.permutation(len(grid))[:n_atoms]]
    rattled = chosen + rng.normal(scale=0.15, size=chosen.shape) / side
    return Structure(Lattice.cubic(side), rng.choice(ELEMENTS, n_atoms).tolist(), rattled)


def shortest(works: dict[str, Callable[[], object]], repeat: int, cuda: bool) -> dict[str, float]:
    """Seconds of each, the shortest of some repeats in turn."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(repeat):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if cuda:
                torch.cuda.synchronize()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


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
    per_call = asked.atoms if cuda else 160  # what CHGNet is fastest with
    print("milliseconds a crystal, of energy, forces and stress")
    print(f"{'atoms':>6} {'crystals':>8} {'batch':>9} {'one by one':>10} {'CHGNet':>9} {'of CHGNet':>9}")
    for n_atoms in (8, 10, 20, 50, 100, 200, 500, 1000, 2000):
        if n_atoms > asked.largest:
            break
        structures = [crystal(n_atoms, rng) for _ in range(max(1, asked.atoms // n_atoms))]
        together = CrystalBatch.from_structures(structures, pqeq.device)
        singles = [CrystalBatch.from_structures([one], pqeq.device) for one in structures[:10]]
        chunk = max(1, per_call // n_atoms)
        sample = structures[: max(1, 320 // n_atoms)]
        parts = [CrystalBatch.from_structures(sample[i : i + chunk], pqeq.device) for i in range(0, len(sample), chunk)]
        works: dict[str, Callable[[], object]] = {
            "batch": lambda: pqeq.evaluate(together),  # noqa: B023 - called within the turn
            "singles": lambda: [pqeq.evaluate(one) for one in singles],  # noqa: B023
            "chgnet": lambda: [chgnet.evaluate(part) for part in parts],  # noqa: B023
        }
        if len(structures) == 1:
            del works["singles"]
        repeat = asked.repeat if n_atoms <= 200 else 1
        shortest(works, 1, cuda) if n_atoms <= 20 else None
        best = shortest(works, repeat, cuda)
        batch, network = best["batch"] / len(structures) * 1e3, best["chgnet"] / len(sample) * 1e3
        single = f"{best['singles'] / len(singles) * 1e3:10.2f}" if "singles" in best else " " * 10
        print(
            f"{n_atoms:6} {len(structures):8} {batch:9.2f} {single} {network:9.2f} {batch / network:9.0%}", flush=True
        )


if __name__ == "__main__":
    main()
