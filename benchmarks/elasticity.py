"""Elastic tensors beside MatCalc's, with the same network, strains and tolerances, in one run.

    pip install matcalc
    python benchmarks/elasticity.py [--crystals 50] [--seed 0] [--systems cubic,trigonal] [--skip-matcalc]

The crystals are phases on the shipped hull, 2 to 12 atoms, spread evenly over the seven crystal systems. Both sides
start from the cell that matsearch relaxed to 0.002 eV/Å, strain it by +-0.5 and +-1 % (normal and shear components of
the Green-Lagrange tensor) and relax the ions in each strained cell to 0.01 eV/Å. MatCalc's `ElasticityCalc` takes one
crystal after the other, with the stock CHGNet as its calculator; both fit stresses. MatCalc runs with all 24 strains,
as it does by default; matsearch with those that symmetry leaves independent (and, for the time at equal strains, with
all 24). Prints by crystal system: the differences of K, G and the components of the tensor, relative to the largest
component; and the ratio of times: on the clock, and of the processor, which a busy machine does not blur. Crystals that
give way under some strain count for the times alone: their atoms fall to whichever side rounding tips them.
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


def stock_chgnet(double):
    """The stock network as a calculator; chgnet itself knows single precision only."""
    import chgnet.graph.converter
    import chgnet.model.model
    from chgnet.model import CHGNet, CHGNetCalculator

    model = CHGNet.load(verbose=False)
    if double:
        model = model.double()
        chgnet.graph.converter.TORCH_DTYPE = chgnet.model.model.TORCH_DTYPE = torch.float64
        fractions = model.composition_model._assemble_graphs
        model.composition_model._assemble_graphs = lambda graphs: fractions(graphs).double()
    return CHGNetCalculator(model, use_device="cpu")


def matcalc_tensors(crystals_at_rest, chgnet_calculator):
    """Tensor, K and G of each crystal; None where MatCalc fails."""
    from matcalc import ElasticityCalc

    strains = elastic_tensor.STRAINS
    calculator = ElasticityCalc(
        chgnet_calculator,
        norm_strains=strains,
        shear_strains=strains,
        fmax=FORCE_TOL,
        relax_structure=False,
        relax_deformed_structures=True,
        units_GPa=True,
    )
    tensors = []
    for crystal in crystals_at_rest:
        try:
            result = calculator.calc(crystal)
        except (RuntimeError, ValueError) as err:
            print(f"MatCalc: {crystal.composition.reduced_formula}: {type(err).__name__}: {err}")
            tensors.append(None)
            continue
        tensors.append(
            (np.array(result["elastic_tensor"].voigt), result["bulk_modulus_vrh"], result["shear_modulus_vrh"])
        )
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
    """The result, and how long it took: on the clock, and of the processor."""
    start = np.array([time.perf_counter(), time.process_time()])
    return work(*arguments), np.array([time.perf_counter(), time.process_time()]) - start


def crystals_at_rest(listed, potential):
    rest = ms.relax(listed, potential, force_tol=0.002, max_steps=1000, optimizer="lbfgs")
    return [one.structure for one in rest if isinstance(one, Relaxed) and one.converged]


def compare(system, at_rest, potential, calculator):
    """Print one crystal system; the differences of stable crystals, and the two ratios of processor times."""
    ours, time_reduced = seconds(matsearch_tensors, at_rest, potential)
    _, time_all = seconds(matsearch_tensors_of_all_strains, at_rest, potential)
    n_strained = np.mean([one.n_strained for one in ours if isinstance(one, ElasticTensor)])
    line = f"{system:13s} {len(at_rest):2d} crystals, {n_strained:4.1f} strained cells each"
    for crystal, one in zip(at_rest, ours, strict=True):
        if not isinstance(one, ElasticTensor):
            line += f"; refused: {crystal.composition.reduced_formula}: {one.reason} ({one.detail})"
    if calculator is None:
        print(line, f"{time_reduced[0]:.1f} s, all 24 strains {time_all[0]:.1f} s", flush=True)
        return [], None
    theirs, time_theirs = seconds(matcalc_tensors, at_rest, calculator)
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if isinstance(a, ElasticTensor) and b is not None]
    stable = [(a, b) for a, b in pairs if a.moduli.least_stiffness > 0]
    components = [np.abs(a.voigt - b[0]).max() / np.abs(b[0]).max() for a, b in stable]
    bulk = [abs(a.moduli.bulk / b[1] - 1) for a, b in stable]
    shear = [abs(a.moduli.shear / b[2] - 1) for a, b in stable]
    equal, reduced = time_theirs / time_all, time_theirs / time_reduced
    print(
        f"{line}; {len(stable)} of them stable: largest difference of a component {max(components, default=0):.2%}, "
        f"of K {max(bulk, default=0):.2%}, of G {max(shear, default=0):.2%}; matcalc {time_theirs[0]:.1f} s on the "
        f"clock, {time_theirs[1]:.1f} s of the processor: {equal[0]:.1f} ({equal[1]:.1f}) times ours at equal strains, "
        f"{reduced[0]:.1f} ({reduced[1]:.1f}) times ours with symmetry",
        flush=True,
    )
    for crystal, own, other in zip(at_rest, ours, theirs, strict=True):
        if not isinstance(own, ElasticTensor) or other is None:
            continue
        difference = np.abs(own.voigt - other[0]).max() / np.abs(other[0]).max()
        if difference > 0.01:
            kind = "stable" if own.moduli.least_stiffness > 0 else "gives way under strain"
            name = crystal.composition.reduced_formula
            print(f"    {name}: {difference:.2%}, {kind}, residual of the fit {own.residual:.1%}", flush=True)
    return components, (float(equal[1]), float(reduced[1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crystals", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="of " + ", ".join(SYSTEMS))
    parser.add_argument("--single", action="store_true", help="single precision on both sides, as in use")
    parser.add_argument("--skip-matcalc", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    versions = {name: importlib.metadata.version(name) for name in ("matsearch", "torch", "chgnet", "pymatgen")}
    print(versions, f"{torch.get_num_threads()} threads, seed {given.seed}, {'single' if given.single else 'double'}")
    potential = ms.load_potential("chgnet-0.3.0", "cpu")
    if not given.single:
        potential = potential.double()
    calculator = None if given.skip_matcalc else stock_chgnet(not given.single)
    differences, ratios = [], {}
    chosen = crystals(given.crystals, given.seed)
    for system in given.systems.split(","):
        components, ratio = compare(system, crystals_at_rest(chosen[system], potential), potential, calculator)
        differences += components
        if ratio is not None:
            ratios[system] = ratio
    if not ratios:
        return
    close = sum(one <= 0.01 for one in differences)
    print(f"all components within 1 %: {close} of {len(differences)} stable crystals")
    verdicts = {
        "all components of stable crystals within 1 %": max(differences) <= 0.01,
        "4 times faster at equal strains": min(equal for equal, _ in ratios.values()) >= 4,
        **{f"10 times faster with symmetry: {name}": r[1] >= 10 for name, r in ratios.items() if name != "triclinic"},
    }
    for verdict, holds in verdicts.items():
        print(f"  {'PASS ' if holds else 'SHORT'}  {verdict}")


if __name__ == "__main__":
    main()
