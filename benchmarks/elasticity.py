"""Elastic tensors beside MatCalc's, with the same network, strains and tolerances, in one run.

    pip install matcalc
    python benchmarks/elasticity.py [--crystals 50] [--seed 0] [--systems cubic,trigonal] [--skip-matcalc]

The crystals are phases on the shipped hull, 2 to 12 atoms, spread evenly over the seven crystal systems. Both sides
start from the cell that matsearch relaxed to 0.001 eV/Å, strain it by +-0.5 and +-1 % (normal and shear components of
the Green-Lagrange tensor) and relax the ions in each strained cell to 0.0005 eV/Å: at 0.002 the two stop at different
places, and what force is left makes more than 1 % of a component of a soft crystal (`--force-tol`). MatCalc's
`ElasticityCalc` takes one crystal after the other, with the stock CHGNet as its calculator; both fit stresses. MatCalc
runs with all 24 strains, as it does by default; matsearch with those that symmetry leaves independent (and, for the
time at equal strains, with all 24). Prints by crystal system: the differences of K, G and the components of the tensor,
relative to the largest component; and the ratio of times: on the clock, and of the processor, which a busy machine does
not blur. Crystals that give way under some strain count for the times alone: their atoms fall to whichever side
rounding tips them. Where stresses are not linear in the strain MatCalc's tensor is not symmetric, and has not the
symmetry of the crystal: what is compared is its symmetric part; parity is judged at equal strains, and what fewer
strains change stands beside it.
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


def matcalc_tensors(crystals_at_rest, chgnet_calculator, force_tol):
    """The symmetric part of the tensor, its K and its G, of each crystal; None where MatCalc fails."""
    from matcalc import ElasticityCalc
    from pymatgen.analysis.elasticity import ElasticTensor as PymatgenTensor

    strains = elastic_tensor.STRAINS
    calculator = ElasticityCalc(
        chgnet_calculator,
        norm_strains=strains,
        shear_strains=strains,
        fmax=force_tol,
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
        voigt = np.array(result["elastic_tensor"].voigt)
        symmetric = PymatgenTensor.from_voigt((voigt + voigt.T) / 2)
        tensors.append((np.array(symmetric.voigt), symmetric.k_vrh, symmetric.g_vrh))
    return tensors


def matsearch_tensors(crystals_at_rest, potential, force_tol):
    return elastic_tensors(crystals_at_rest, potential, force_tol=force_tol)


def matsearch_tensors_of_all_strains(crystals_at_rest, potential, force_tol):
    """With the identity as the only symmetry no strain is left out."""
    found = elastic_tensor.cartesian_rotations
    elastic_tensor.cartesian_rotations = lambda _: np.eye(3)[None]
    try:
        return matsearch_tensors(crystals_at_rest, potential, force_tol)
    finally:
        elastic_tensor.cartesian_rotations = found


def seconds(work, *arguments):
    """The result, and how long it took: on the clock, and of the processor."""
    start = np.array([time.perf_counter(), time.process_time()])
    return work(*arguments), np.array([time.perf_counter(), time.process_time()]) - start


def crystals_at_rest(listed, potential):
    rest = ms.relax(listed, potential, force_tol=0.001, max_steps=1000, optimizer="lbfgs")
    return [one.structure for one in rest if isinstance(one, Relaxed) and one.converged]


def differences(ours, theirs):
    """Largest of a component relative to the largest one, of K and of G: [n, 3], for pairs where both have a tensor."""
    return np.array(
        [
            (
                np.abs(a.voigt - b[0]).max() / np.abs(b[0]).max(),
                abs(a.moduli.bulk / b[1] - 1),
                abs(a.moduli.shear / b[2] - 1),
            )
            for a, b in zip(ours, theirs, strict=True)
        ]
    ).reshape(-1, 3)


def compare(system, at_rest, potential, calculator, force_tol):
    """Print one crystal system.

    Returns:
        Differences of the stable crystals at equal strains [n, 3], and the ratios of processor times: at equal strains,
        and with those that symmetry leaves.
    """
    ours, time_reduced = seconds(matsearch_tensors, at_rest, potential, force_tol)
    full, time_all = seconds(matsearch_tensors_of_all_strains, at_rest, potential, force_tol)
    n_strained = np.mean([one.n_strained for one in ours if isinstance(one, ElasticTensor)])
    line = f"{system}: {len(at_rest)} crystals, {n_strained:.1f} of 24 strained cells each"
    names = [crystal.composition.reduced_formula for crystal in at_rest]
    for name, one in zip(names, ours, strict=True):
        if not isinstance(one, ElasticTensor):
            line += f"; refused: {name}: {one.reason} ({one.detail})"
    if calculator is None:
        print(line, f"{time_reduced[0]:.1f} s, all 24 strains {time_all[0]:.1f} s", flush=True)
        return differences([], []), None
    theirs, time_theirs = seconds(matcalc_tensors, at_rest, calculator, force_tol)
    whole = [
        number
        for number, (a, b, c) in enumerate(zip(ours, full, theirs, strict=True))
        if isinstance(a, ElasticTensor) and isinstance(b, ElasticTensor) and c is not None
    ]
    stable = [number for number in whole if full[number].moduli.least_stiffness > 0]
    equal = differences([full[number] for number in stable], [theirs[number] for number in stable])
    reduced = differences([ours[number] for number in stable], [theirs[number] for number in stable])
    print(f"{line}; {len(stable)} stable")
    for label, found, taken in (("equal strains", equal, time_all), ("symmetry", reduced, time_reduced)):
        worst = found.max(axis=0, initial=0)
        clock, processor = time_theirs / taken
        print(
            f"  {label:13s} largest difference of a component {worst[0]:.2%}, K {worst[1]:.2%}, G {worst[2]:.2%}; "
            f"{clock:.1f} times as fast as MatCalc on the clock, {processor:.1f} by time of the processor",
            flush=True,
        )
        for number, difference in zip(stable, found[:, 0], strict=True):
            if difference > 0.01:
                print(
                    f"    {names[number]}: {difference:.2%}, residual of the fit {full[number].residual:.1%}",
                    flush=True,
                )
    return equal, ((time_theirs / time_all)[1], (time_theirs / time_reduced)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crystals", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="of " + ", ".join(SYSTEMS))
    parser.add_argument("--force-tol", type=float, default=0.0005, help="eV/Å, of the ions in the strained cells")
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
    found, ratios = [], {}
    chosen = crystals(given.crystals, given.seed)
    for system in given.systems.split(","):
        at_rest = crystals_at_rest(chosen[system], potential)
        equal, ratio = compare(system, at_rest, potential, calculator, given.force_tol)
        found.append(equal)
        if ratio is not None:
            ratios[system] = ratio
    if not ratios:
        return
    close = np.concatenate(found)[:, 0] <= 0.01
    print(f"all components within 1 % at equal strains: {close.sum()} of {len(close)} stable crystals")
    verdicts = {
        "all components of stable crystals within 1 %": bool(close.all()),
        "4 times as fast at equal strains": min(equal for equal, _ in ratios.values()) >= 4,
        **{f"10 times as fast with symmetry: {one}": r[1] >= 10 for one, r in ratios.items() if one != "triclinic"},
    }
    for verdict, holds in verdicts.items():
        print(f"  {'PASS ' if holds else 'SHORT'}  {verdict}")


if __name__ == "__main__":
    main()
