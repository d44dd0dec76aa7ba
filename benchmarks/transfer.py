"""CHGNet-0.3.0 to r2SCAN labels, with and without elemental referencing, and from scratch: learning curves in small.

    python benchmarks/transfer.py [--sizes 50,200,800] [--epochs 30] [--seed 0] [--out runs/transfer] [--device auto]

After Huang et al., npj Comput. Mater. (2025), whose labels were r2SCAN's own; here they are those of `chgnet-r2scan`
(energies, forces, stresses), so that the figures tell of the method and not of r2SCAN. The crystals are phases on the
shipped hull of up to 12 atoms of 24 common elements, rattled by 0.1 Å; what is held out has other formulas.
Prints first what a step of training costs, then for each number of labels and each way

- referenced: from 0.3.0, composition energies refitted first (`matsearch potential fine-tune`),
- as it is: from 0.3.0 with its own composition energies,
- from scratch: random weights, composition energies refitted,

the errors on what was held out before training and at the best epoch. Trainings lie under --out and go on from there.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np

from matsearch.potential import load_potential
from matsearch.reference import load_reference
from matsearch.training.data import LabelledData, LabelledStructure
from matsearch.training.epochs import Epoch
from matsearch.training.refit import Refitted, fine_tune
from matsearch.training.refit_settings import RefitSettings

ELEMENTS = frozenset("Li Na K Mg Ca Sr Ba Al Si Ti V Cr Mn Fe Co Ni Cu Zn N O P S F Cl".split())
N_HELD_OUT = 150
WAYS = {
    "referenced": {},
    "as it is": {"referencing": False},
    "from scratch": {"start": "scratch"},
}


def labelled(n: int, seed: int, device: str) -> list[LabelledStructure]:
    """Rattled phases of the hull of different formulas with labels of chgnet-r2scan."""
    reference, rng = load_reference("chgnet-0.3.0"), np.random.default_rng(seed)
    phases = reference.phases
    phases = phases[(phases.energy_above_hull == 0) & phases.n_atoms.between(2, 12)]
    found, formulas = [], set()
    for phase_id in rng.permutation(phases["id"].to_numpy()):
        structure = reference.structure(phase_id)
        formula = structure.composition.reduced_formula
        if {one.symbol for one in structure.composition.elements} <= ELEMENTS and formula not in formulas:
            moves = rng.normal(scale=0.1, size=(len(structure), 3))
            for site, move in enumerate(moves):
                structure.translate_sites([site], move, frac_coords=False)
            found.append(structure)
            formulas.add(formula)
        if len(found) == n:
            break
    labels = load_potential("chgnet-r2scan", device).predict(found)
    return [
        LabelledStructure(one, label.energy, label.forces, label.stress, label.magmoms, f"phase {number}")
        for number, (one, label) in enumerate(zip(found, labels, strict=True))
        if label.out_of_domain is None
    ]


def print_errors(n: int, way: str, made: Refitted) -> None:
    """One line."""

    def errors(epoch: Epoch) -> str:
        found = epoch.errors
        return f"{1e3 * (found.energy or 0):10.1f} {1e3 * (found.force or 0):8.1f} {found.stress or 0:7.3f}"

    end = made.history[-1]
    print(
        f"{n:6d}  {way:13}{errors(made.history[0])}   {errors(made.best)}  {made.best.epoch:5d} of {end.epoch:<3d} "
        f"{end.n_steps:6d} {end.seconds:8.0f}",
        flush=True,
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="50,200,800")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-atoms", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    sizes = [int(one) for one in asked.sizes.split(",")]
    rows = labelled(max(sizes) + N_HELD_OUT, asked.seed, asked.device)
    held_out, rows = LabelledData(tuple(rows[:N_HELD_OUT]), ()), rows[N_HELD_OUT:]
    print_cost(rows, asked.device)
    print(f"{len(held_out.rows)} crystals held out; mean absolute errors before training, and at the best epoch")
    print(
        "labels  way             meV/atom    meV/Å     GPa     meV/atom    meV/Å     GPa  best epoch    steps  seconds"
    )
    for n in sizes:
        for way, changes in WAYS.items():
            settings = RefitSettings(
                energy_scale="r2scan",
                epochs=asked.epochs,
                patience=asked.epochs,
                batch_atoms=asked.batch_atoms,
                averaging=0.99,
                seed=asked.seed,
                **changes,
            )
            folder = asked.out / f"{n}-{way.replace(' ', '-')}-{asked.epochs}-{asked.seed}"
            data = LabelledData(tuple(rows[:n]), ())
            print_errors(n, way, fine_tune(data, settings, folder, held_out=held_out, device=asked.device))


def print_cost(rows: list[LabelledStructure], device: str) -> None:
    """Milliseconds of a step of training, and of forces, of about 100 atoms; CPU time of this process."""
    import torch

    from matsearch.potential.device import torch_device
    from matsearch.potential.threads import one_thread
    from matsearch.training.epochs import known
    from matsearch.training.refit import make_trainee
    from matsearch.training.said import packs
    from matsearch.training.targets import make_targets, starting_point
    from matsearch.training.trainee import Shown, huber

    sizes = [len(row.structure) for row in rows]
    chosen = next(packs(range(len(rows)), sizes, 100))
    some = [rows[index] for index in chosen]
    start, where = starting_point("chgnet-0.3.0"), torch_device(device)
    targets = make_targets(some, some[:1], start, (), device=str(where))
    trainee = make_trainee(start, RefitSettings(energy_scale="r2scan"), targets, where)
    shown = Shown.of(targets.training, where)

    def training() -> None:
        huber(trainee.misses(shown), (3.0, 1.0, 0.1, 0.1), 0.1, known(targets.training)).backward()

    def forces() -> None:
        trainee.misses(shown, training=False)

    for what, work in (("forces", forces), ("a step of training", training)):
        seconds = []
        for _ in range(5):
            began = time.process_time()
            with one_thread(where):
                work()
            if where.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.process_time() - began)
        print(f"{what}: {1e3 * min(seconds[1:]):.0f} ms for {shown.batch.n_atoms} atoms of {len(some)} crystals")


if __name__ == "__main__":
    main()
