"""What D3 costs beside CHGNet, and how far its cutoffs are from the full sums.

    python benchmarks/dispersion.py [--device cuda] [--crystals 64] [--seed 0]

The crystals are phases of the shipped reference, 2 to 40 atoms, in the batches that the potentials compute on. Times
are CPU seconds of energies, forces and stresses of all of them, the least of three, on one thread (on a GPU seconds on
the wall): of crystals seen for the first time, for which neighbours are searched, and of the same a step of a
relaxation later, 1e-3 Å away, for which they are known. All are taken in one run, since machines are noisy.

Where the package dftd3 is installed (it comes with matsearch[test]), the last lines compare energies with its full
sums: pairs summed in reciprocal space, coordination numbers to 40 Bohr, triples to 40 Bohr (of crystals of up to 4
atoms: they take minutes).
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch and NumPy load
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import importlib.util
import time

import numpy as np
import torch

from matsearch.potential import load_potential
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.batched import _batches
from matsearch.potential.device import torch_device
from matsearch.potential.longrange.d3_parameters import BOHR, HARTREE
from matsearch.potential.longrange.dispersion import D3, DFTD3, Cutoffs
from matsearch.reference import load_reference


def phases(n, seed):
    """`n` phases of the reference, spread evenly over their sizes."""
    reference = load_reference("chgnet-0.3.0")
    table = reference.phases
    table = table[table.n_atoms.between(2, 40)].sort_values("n_atoms", kind="stable")
    rows = np.linspace(0, len(table) - 1, n).astype(int) + np.random.default_rng(seed).integers(-50, 50, n)
    return [reference.structure(one) for one in table.id.iloc[np.clip(rows, 0, len(table) - 1)]]


def clock(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def seconds(potential, groups, device):
    """Of all batches when new, and a step later."""
    first, later = [], []
    for _ in range(3):
        batches = [CrystalBatch.from_structures(group, device) for group in groups]
        moved = [one.moved(one.positions + 1e-3 * torch.randn_like(one.positions), one.cells) for one in batches]
        for work, times in ((batches, first), (moved, later)):
            begin = clock(device)
            for batch in work:
                potential.evaluate(batch)
            times.append(clock(device) - begin)
    return min(first), min(later)


def print_costs(chosen, device):
    network = load_potential("chgnet-0.3.0", str(device))
    n_atoms = network.batch_atoms if device.type == "cpu" else 10_000
    together, alone = list(_batches(chosen, n_atoms)), [[one] for one in chosen]
    sides = {
        "d3(pbe,bj)": load_potential("d3(pbe,bj)", str(device)),
        "d3(pbe,zero)": load_potential("d3(pbe,zero)", str(device)),
        "d3(pbe,bj,atm)": load_potential("d3(pbe,bj,atm)", str(device)),
        "d3(pbe,bj) to 60 Bohr": D3("pbe", "bj", device, cutoffs=DFTD3),
    }
    print(f"{len(chosen)} crystals, {sum(map(len, chosen))} atoms, batches of up to {n_atoms} atoms, on {device}")
    beside = seconds(network, together, device), seconds(network, alone, device)
    print(f"{'':24} {'batched':>9} {'step later':>11} {'singly':>9} {'step later':>11}   of CHGNet, batched")
    print(f"{'chgnet-0.3.0':24} {beside[0][0]:8.2f}s {beside[0][1]:10.2f}s {beside[1][0]:8.2f}s {beside[1][1]:10.2f}s")
    for name, potential in sides.items():
        batched, singly = seconds(potential, together, device), seconds(potential, alone, device)
        print(
            f"{name:24} {batched[0]:8.2f}s {batched[1]:10.2f}s {singly[0]:8.2f}s {singly[1]:10.2f}s   "
            f"{batched[0] / beside[0][0]:.0%} new, {batched[1] / beside[0][1]:.0%} a step later"
        )


def from_dftd3(structure, *, three_body):
    from dftd3.interface import DispersionModel, RationalDampingParam

    positions = structure.lattice.get_cartesian_coords(structure.frac_coords % 1)
    numbers = np.array([site.specie.Z for site in structure])
    model = DispersionModel(numbers, positions / BOHR, structure.lattice.matrix / BOHR, np.array([True] * 3))
    model.set_ewald_summation()
    parameters = RationalDampingParam(method="pbe", atm=three_body)
    return model.get_dispersion(parameters, grad=False)["energy"] * HARTREE / len(structure)


def print_deviations(chosen):
    small = [one for one in chosen if len(one) <= 4]
    full = np.array([from_dftd3(one, three_body=False) for one in chosen])
    triples = np.array([from_dftd3(one, three_body=True) for one in small])
    triples -= [from_dftd3(one, three_body=False) for one in small]

    def energies(crystals, three_body, cutoffs):
        potential = D3("pbe", "bj", torch.device("cpu"), three_body=three_body, cutoffs=cutoffs)
        return np.array(potential.energies(crystals)) / [len(one) for one in crystals]

    print("\nmeV/atom from the full sums of dftd3, d3(pbe,bj):              mean    largest")
    for text, cutoffs in (
        ("pairs, with the cutoffs used", None),
        ("pairs, to 60 Bohr as dftd3 cuts them off", DFTD3),
        ("pairs, to 16 Å and nothing beyond", Cutoffs(sharp=True)),
    ):
        off = 1e3 * np.abs(energies(chosen, False, cutoffs) - full)
        print(f"{text:60} {off.mean():8.3f} {off.max():8.3f}   of {1e3 * np.abs(full).mean():.0f}")
    for text, cutoffs in (
        ("triples, with the cutoffs used", None),
        ("triples, to 9 Å and nothing beyond", Cutoffs(triples=9.0, sharp=True)),
    ):
        off = 1e3 * np.abs(energies(small, True, cutoffs) - energies(small, False, cutoffs) - triples)
        print(f"{text:60} {off.mean():8.3f} {off.max():8.3f}   of {1e3 * np.abs(triples).mean():.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--crystals", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chosen, device = phases(arguments.crystals, arguments.seed), torch_device(arguments.device)
    print_costs(chosen, device)
    if importlib.util.find_spec("dftd3") is not None:
        print_deviations(chosen)


if __name__ == "__main__":
    main()
