"""Elastic tensors beside MatCalc's, with the same network, strains and tolerances, in one run.

    pip install matcalc
    python benchmarks/elasticity.py [--crystals 50] [--seed 0] [--skip-matcalc]

The crystals are phases on the shipped hull, 2 to 12 atoms, spread evenly over the seven crystal systems. Both sides
start from the cell that matsearch relaxed to 0.002 eV/Å, strain it by +-0.5 and +-1 % (normal and shear components of
the Green-Lagrange tensor) and relax the ions in each strained cell to 0.01 eV/Å. MatCalc's `ElasticityCalc` takes one
crystal after the other, with the stock CHGNet as its calculator; both fit stresses. MatCalc runs with all 24 strains,
as it does by default; matsearch with those that symmetry leaves independent (and, for the time at equal strains, with
all 24). Prints by crystal system: the differences of K, G and the components of the tensor, relative to the largest
component; and the ratio of times.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy loads it

import argparse
import importlib.metadata
import time
import warnings

import numpy as np
import torch

import matsearch as ms
from matsearch.objectives import elastic_tensor
from matsearch.objectives.elastic_tensor import ElasticTensor, elastic_tensors
from matsearch.records import Relaxed
from matsearch.reference import load_reference

FORCE_TOL = 0.01
SYSTEMS = {
    "triclinic": (1, 2),
    "monoclinic": (3, 15),
    "orthorhombic": (16, 74),
    "tetragonal": (75, 142),
    "trigonal": (143, 167),
    "hexagonal": (168, 194),
    "cubic": (195, 230),
}


def crystals(n, seed):
    """System to relaxed crystals, about n in all."""
    reference = load_reference("chgnet-0.3.0")
    phases = reference.phases
    phases = phases[(phases.energy_above_hull == 0) & phases.relaxed & phases.n_atoms.between(2, 12)]
    chosen = {}
    for system, (low, high) in SYSTEMS.items():
        few = phases[phases.spacegroup.between(low, high)].sample(-(-n // 7), random_state=seed)
        chosen[system] = [reference.structure(phase_id) for phase_id in few["id"]]
    return chosen


def matcalc_tensors(crystals_at_rest, double):
    from chgnet.model import CHGNet, CHGNetCalculator
    from matcalc import ElasticityCalc

    if double:
        torch.set_default_dtype(torch.float64)
    model = CHGNet.load(verbose=False)
    if double:
        model = model.double()
    strains = elastic_tensor.STRAINS
    calculator = ElasticityCalc(
        CHGNetCalculator(model, use_device="cpu"),
        norm_strains=strains,
        shear_strains=strains,
        fmax=FORCE_TOL,
        relax_structure=False,
        relax_deformed_structures=True,
        units_GPa=True,
    )
    tensors = []
    for crystal in crystals_at_rest:
        result = calculator.calc(crystal)
        tensors.append(
            (np.array(result["elastic_tensor"].voigt), result["bulk_modulus_vrh"], result["shear_modulus_vrh"])
        )
    torch.set_default_dtype(torch.float32)
    return tensors


def matsearch_tensors(crystals_at_rest, potential):
    return elastic_tensors(crystals_at_rest, potential, force_tol=FORCE_TOL)


def matsearch_tensors_of_all_strains(crystals_at_rest, potential):
    """With the identity as the only symmetry no strain is left out."""
    found = elastic_tensor.cartesian_rotations
    elastic_tensor.cartesian_rotations = lambda _: np.eye(3)[None]
    try:
        return matsearch_tensors(crystals_at_rest, potential)
    finally:
        elastic_tensor.cartesian_rotations = found


def seconds(work, *arguments):
    start = time.perf_counter()
    return work(*arguments), time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crystals", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--single", action="store_true", help="single precision on both sides, as in use")
    parser.add_argument("--skip-matcalc", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    versions = {name: importlib.metadata.version(name) for name in ("matsearch", "torch", "chgnet", "pymatgen")}
    print(versions, f"{torch.get_num_threads()} threads, seed {given.seed}, {'single' if given.single else 'double'}")
    potential = ms.load_potential("chgnet-0.3.0", "cpu")
    if not given.single:
        potential = potential.double()
    worst, ratios = [], []
    for system, listed in crystals(given.crystals, given.seed).items():
        rest = ms.relax(listed, potential, force_tol=0.002, max_steps=1000, optimizer="lbfgs")
        at_rest = [one.structure for one in rest if isinstance(one, Relaxed) and one.converged]
        ours, time_reduced = seconds(matsearch_tensors, at_rest, potential)
        _, time_all = seconds(matsearch_tensors_of_all_strains, at_rest, potential)
        refused = [one for one in ours if not isinstance(one, ElasticTensor)]
        n_strained = np.mean([one.n_strained for one in ours if isinstance(one, ElasticTensor)])
        line = f"{system:13s} {len(at_rest):2d} crystals, {n_strained:4.1f} strained cells each"
        for one in refused:
            line += f"; refused: {one.reason} ({one.detail})"
        if given.skip_matcalc:
            print(line, f"{time_reduced:.1f} s, all 24 strains {time_all:.1f} s")
            continue
        theirs, time_theirs = seconds(matcalc_tensors, at_rest, not given.single)
        pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if isinstance(a, ElasticTensor)]
        components = [np.abs(a.voigt - b[0]).max() / np.abs(b[0]).max() for a, b in pairs]
        bulk = [abs(a.moduli.bulk / b[1] - 1) for a, b in pairs if a.moduli.least_stiffness > 0]
        shear = [abs(a.moduli.shear / b[2] - 1) for a, b in pairs if a.moduli.least_stiffness > 0]
        worst += components
        ratios.append((time_theirs / time_all, time_theirs / time_reduced))
        print(
            f"{line}; largest difference of a component {max(components):.2%}, of K {max(bulk):.2%}, of G "
            f"{max(shear):.2%}; matcalc {time_theirs:.1f} s, {ratios[-1][0]:.1f} times ours at equal strains "
            f"({time_all:.1f} s), {ratios[-1][1]:.1f} times ours with symmetry ({time_reduced:.1f} s)",
            flush=True,
        )
    if worst:
        print(f"components within 1 %: {sum(one <= 0.01 for one in worst)} of {len(worst)} crystals")
        print(f"  {'PASS ' if max(worst) <= 0.01 else 'SHORT'}  all components within 1 %")
        print(f"  {'PASS ' if min(r[0] for r in ratios) >= 4 else 'SHORT'}  4 times faster at equal strains")
        print(f"  {'PASS ' if ratios[-1][1] >= 10 else 'SHORT'}  10 times faster with the symmetry of cubic crystals")


if __name__ == "__main__":
    main()
