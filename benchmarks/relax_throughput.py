"""How fast matsearch relaxes crystals, next to the stock CHGNet package, in one run on one machine.

    python benchmarks/relax_throughput.py [--device cuda] [--threads 1 2] [--crystals 64] [--seed 0] [--optimizer lbfgs]

The crystals are phases of the shipped reference, 2 to 80 atoms, rattled by 0.1 Å and strained by up to 3 %. Both sides
run FIRE with the Frechet cell filter to the same largest force (0.1 eV/Å) from the same starts: the stock side is
`chgnet.model.StructOptimizer` with its `fast` graph converter, one crystal after the other; matsearch relaxes them in
flight. Both get OPENBLAS_NUM_THREADS=1: with more, ASE's filter spends its time in threaded 3 x 3 solves. matsearch is
timed before and after the stock package, since machines are noisy.

Prints the ratios of wall and CPU time, the steps of both, and how far energies and volumes of the results differ. On a
GPU also µs per atom and step, atoms per second, relaxed crystals per GPU-hour and the peak memory, for a batch of about
10,000 atoms. `--optimizer lbfgs` adds the time and the steps of L-BFGS, and compares the minima of both optimisers at
force 0.005 eV/Å and a stress of 0.0005 eV/Å^3. The last lines compare the peak memory of one evaluation.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy loads it

import argparse
import contextlib
import importlib.metadata
import io
import platform
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pymatgen.core import Lattice, Structure

import matsearch as ms
from matsearch.potential.batch import CrystalBatch
from matsearch.reference import load_reference

FORCE_TOL = 0.1  # eV/Å
MAX_STEPS = 500


@dataclass
class Timing:
    """Seconds of one run, on the wall and of the processor."""

    wall: float
    cpu: float


def timed(work):
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, Timing(time.perf_counter() - wall, time.process_time() - cpu)


def crystals(n, seed):
    """`n` phases of the reference, spread evenly over their sizes, rattled and strained."""
    reference = load_reference("chgnet-0.3.0")
    phases = reference.phases
    phases = phases[phases.relaxed & phases.n_atoms.between(2, 80)].sort_values(["n_atoms", "id"])
    rng = np.random.default_rng(seed)
    slots = np.array_split(np.arange(len(phases)), n)
    return [disturbed(reference.structure(phases.id.iloc[rng.choice(slot)]), rng) for slot in slots]


def disturbed(structure, rng):
    strain = rng.uniform(-0.03, 0.03, size=(3, 3))
    lattice = Lattice(structure.lattice.matrix @ (np.eye(3) + 0.5 * (strain + strain.T)))
    return moved(Structure(lattice, structure.species, structure.frac_coords), 0.1, rng)


def moved(structure, distance, rng):
    """Every atom in a direction of its own."""
    directions = rng.normal(size=(len(structure), 3))
    moves = distance * directions / np.linalg.norm(directions, axis=1)[:, None]
    return Structure(structure.lattice, structure.species, structure.cart_coords + moves, coords_are_cartesian=True)


def stock_optimizer(device):
    with contextlib.redirect_stdout(io.StringIO()):
        from chgnet.model import CHGNet, StructOptimizer

        model = CHGNet.load(use_device=device, verbose=False)
        model.graph_converter.set_isolated_atom_response("ignore")
        assert model.graph_converter.algorithm == "fast", "the stock package fell back to its slow converter"
        return StructOptimizer(model=model, optimizer_class="FIRE", use_device=device)


def relax_stock(optimizer, structures):
    """Final structure, energy (eV) and steps of each."""
    results = []
    for structure in structures:
        with contextlib.redirect_stdout(io.StringIO()):
            result = optimizer.relax(
                structure, fmax=FORCE_TOL, steps=MAX_STEPS, ase_filter="FrechetCellFilter", verbose=False
            )
        trajectory = result["trajectory"]  # the start, each step, and the end once more
        results.append((result["final_structure"], float(trajectory.energies[-1]), len(trajectory) - 2))
    return results


def relax_ours(potential, structures, **settings):
    settings = {"force_tol": FORCE_TOL, "max_steps": MAX_STEPS, **settings}
    results = ms.relax(structures, potential, **settings)
    for structure, one in zip(structures, results, strict=True):
        if isinstance(one, ms.Rejection):
            raise SystemExit(f"{structure.formula} was rejected: {one.reason}: {one.detail}")
    return results


def compare_with_stock(potential, optimizer, structures, threads):
    torch.set_num_threads(threads)
    relax_ours(potential, structures[:4])  # warm up
    ours, before = timed(lambda: relax_ours(potential, structures))
    stock, theirs = timed(lambda: relax_stock(optimizer, structures))
    _, after = timed(lambda: relax_ours(potential, structures))
    wall, cpu = (before.wall + after.wall) / 2, (before.cpu + after.cpu) / 2
    print(f"\n{threads} thread(s), {len(structures)} crystals, {sum(map(len, structures))} atoms, FIRE")
    print(f"  stock      {theirs.wall:8.1f} s wall {theirs.cpu:8.1f} s CPU  {sum(one[2] for one in stock)} steps")
    print(f"  matsearch  {wall:8.1f} s wall {cpu:8.1f} s CPU  {sum(one.n_steps for one in ours)} steps")
    print(f"  ratio      {theirs.wall / wall:8.2f} wall   {theirs.cpu / cpu:8.2f} CPU", flush=True)
    return ours, stock


def compare_results(ours, stock):
    same = sum(one.n_steps == other[2] for one, other in zip(ours, stock, strict=True))
    volumes = [abs(one.structure.volume / other[0].volume - 1) for one, other in zip(ours, stock, strict=True)]
    energies = [1000 * abs(one.energy - other[1]) / len(one.structure) for one, other in zip(ours, stock, strict=True)]
    print(f"\nsame number of FIRE steps: {same} of {len(ours)}")
    print(f"volumes within 0.05 %:     {sum(one < 5e-4 for one in volumes)} of {len(ours)}, largest {max(volumes):.2e}")
    print(f"energies: largest difference {max(energies):.4f} meV/atom, converged {sum(o.converged for o in ours)}")
    for index, (one, other) in enumerate(zip(ours, stock, strict=True)):
        if one.n_steps != other[2] or volumes[index] >= 5e-4:
            print(
                f"  {one.structure.formula}: {one.n_steps} steps, stock {other[2]}; volume off by {volumes[index]:.1e}"
            )


def compare_optimizers(potential, structures):
    """L-BFGS against FIRE: the time to the same largest force, then their minima with tight tolerances.

    Where these differ, the higher one starts once more, rattled by 0.01 Å. If it falls, it was none: the optimiser had
    stopped on a saddle or a flat slope, where forces vanish, too.
    """
    fire, fire_time = timed(lambda: relax_ours(potential, structures))
    lbfgs, lbfgs_time = timed(lambda: relax_ours(potential, structures, optimizer="lbfgs"))
    print(f"\nL-BFGS: {sum(one.n_steps for one in lbfgs)} steps, FIRE {sum(one.n_steps for one in fire)};", end=" ")
    print(f"time ratio FIRE / L-BFGS {fire_time.wall / lbfgs_time.wall:.2f}")
    tight = {"force_tol": 0.005, "stress_tol": 5e-4, "max_steps": 2000}
    pairs = [
        (one, other)
        for one, other in zip(
            relax_ours(potential, structures, **tight),
            relax_ours(potential, structures, optimizer="lbfgs", **tight),
            strict=True,
        )
        if one.converged and other.converged
    ]
    print(f"tight: {len(pairs)} of {len(structures)} converged with both,", end=" ")
    print(f"FIRE {sum(one.n_steps for one, _ in pairs)} steps, L-BFGS {sum(other.n_steps for _, other in pairs)}")
    apart = [pair for pair in pairs if abs(gap(*pair)) >= 1]
    higher = [max(pair, key=lambda one: one.energy_per_atom) for pair in apart]
    rng = np.random.default_rng(0)
    rattled = [moved(one.structure, 0.01, rng) for one in higher]
    restarted = relax_ours(potential, rattled, optimizer="lbfgs", **tight)
    falls = [gap(one, other) <= -1 for one, other in zip(higher, restarted, strict=True)]
    print(
        f"  same minimum within 1 meV/atom: {len(pairs) - len(apart)}; the higher one no minimum: {sum(falls)};",
        end=" ",
    )
    print(f"different minima: {len(falls) - sum(falls)}")
    for (one, other), fell, again in zip(apart, falls, restarted, strict=True):
        print(f"  {one.structure.formula}: L-BFGS {gap(one, other):+.1f} meV/atom;", end=" ")
        print(f"the higher one, rattled, {'falls' if fell else 'stays'}, to {gap(one, again):+.1f}")


def gap(one, other):
    """Energy of the second above the first, in meV/atom."""
    return 1000 * (other.energy_per_atom - one.energy_per_atom)


def gpu_numbers(potential, structures):
    """Throughput of a batch of about 10,000 atoms."""
    many = [structures[index % len(structures)] for index in range(10_000 * len(structures))]
    sizes = np.cumsum([len(one) for one in many])
    many = many[: int(np.searchsorted(sizes, 10_000)) + 1]
    batch = CrystalBatch.from_structures(many, potential.device)
    potential.evaluate(batch)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    for _ in range(20):
        potential.evaluate(batch)
    torch.cuda.synchronize()
    step = (time.perf_counter() - start) / 20
    print(f"\nevaluation of {batch.n_atoms} atoms: {1e6 * step / batch.n_atoms:.2f} µs per atom and step,", end=" ")
    print(f"{batch.n_atoms / step:,.0f} atoms/s, peak {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
    with torch.profiler.profile() as profile:
        potential.evaluate(batch)
        torch.cuda.synchronize()
    print(profile.key_averages().table(sort_by="self_device_time_total", row_limit=15, max_name_column_width=50))
    results, timing = timed(lambda: relax_ours(potential, many))
    steps = sum(one.n_steps * len(one.structure) for one in results)
    print(f"relaxation of {len(many)} crystals: {timing.wall:.1f} s,", end=" ")
    print(f"{1e6 * timing.wall / steps:.2f} µs per atom and step, {3600 * len(many) / timing.wall:,.0f} crystals/hour")


def peak_memory(side, n_atoms):
    """MiB that one evaluation of a crystal adds to a process; runs in a process of its own."""
    reference = load_reference("chgnet-0.3.0")
    phases = reference.phases
    phase = phases[phases.relaxed & (phases.n_atoms == 40)].id.iloc[0]
    structure = reference.structure(phase) * (1, 1, n_atoms // 40)
    torch.set_num_threads(1)
    if side == "stock":
        model = stock_optimizer("cpu").calculator.model
        run = model.predict_structure
    else:
        potential = ms.load_potential("chgnet-0.3.0", "cpu")

        def run(one):
            return potential.predict([one])

    run(Structure(Lattice.cubic(3), ["Al"], [[0, 0, 0]]))
    Path("/proc/self/clear_refs").write_text("5")  # the largest size so far is forgotten
    before = resident("VmRSS")
    run(structure)
    print((resident("VmHWM") - before) / 1024 / len(structure))


def resident(field):
    """KiB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))


def compare_memory(n_atoms=160):
    each = {}
    for side in ("stock", "matsearch"):
        command = [sys.executable, "-W", "ignore", __file__, "--memory", side, "--crystals", str(n_atoms)]
        each[side] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"\npeak memory of one evaluation, {n_atoms} atoms:", end=" ")
    print(f"stock {each['stock']:.2f}, matsearch {each['matsearch']:.2f} MiB an atom")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--crystals", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--optimizer", choices=["fire", "lbfgs"], default="fire")
    parser.add_argument("--memory", choices=["stock", "matsearch"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.memory:
        peak_memory(options.memory, options.crystals)
        return
    versions = {name: importlib.metadata.version(name) for name in ("torch", "chgnet", "ase", "matsearch")}
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, seed {options.seed}, {versions}")
    structures = crystals(options.crystals, options.seed)
    potential = ms.load_potential("chgnet-0.3.0", options.device)
    optimizer = stock_optimizer(potential.device.split(":")[0])
    threads = options.threads if potential.device == "cpu" else [1]
    for n_threads in threads:
        ours, stock = compare_with_stock(potential, optimizer, structures, n_threads)
    compare_results(ours, stock)
    if options.optimizer == "lbfgs":
        compare_optimizers(potential, structures)
    if potential.device == "cpu":
        compare_memory()
    else:
        gpu_numbers(potential, structures)


if __name__ == "__main__":
    main()
