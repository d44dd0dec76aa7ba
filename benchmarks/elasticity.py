"""Elastic tensors beside MatCalc's, with the same network, strains and tolerances, in one run.

    pip install matcalc
    python benchmarks/elasticity.py [--crystals 50] [--seed 0] [--systems cubic,trigonal] [--out results.jsonl]

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
strains change stands beside it. What `--out` holds already is taken from there, so that a run that was stopped goes on.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy loads it

import argparse
import importlib.metadata
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from pymatgen.core import Structure

import matsearch as ms
from matsearch.objectives import elastic_tensor
from matsearch.objectives.elastic_tensor import ElasticTensor, elastic_tensors
from matsearch.objectives.elasticity import moduli
from matsearch.records import Rejection, Relaxed, Stage
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


class Results:
    """What was computed, by key, in a file of JSON lines that is written as it comes; in memory alone without one."""

    def __init__(self, path):
        self._path, self._rows = path, {}
        if path and path.is_file():
            self._rows = {row["key"]: row["value"] for row in map(json.loads, path.read_text().splitlines())}

    def of(self, key, compute):
        """The value that goes by the key, computed where there is none yet."""
        if key not in self._rows:
            self._rows[key] = compute()
            if self._path:
                with self._path.open("a") as file:
                    file.write(json.dumps({"key": key, "value": self._rows[key]}) + "\n")
        return self._rows[key]


def timed(work, *arguments):
    """The result, and how long it took: on the clock, and of the processor."""
    start = np.array([time.perf_counter(), time.process_time()])
    return work(*arguments), (np.array([time.perf_counter(), time.process_time()]) - start).tolist()


def matcalc(chgnet_calculator, force_tol):
    """MatCalc's calculator of elastic tensors."""
    from matcalc import ElasticityCalc

    return ElasticityCalc(
        chgnet_calculator,
        norm_strains=elastic_tensor.STRAINS,
        shear_strains=elastic_tensor.STRAINS,
        fmax=force_tol,
        relax_structure=False,
        relax_deformed_structures=True,
        units_GPa=True,
    )


def matcalc_tensor(calculator, crystal):
    """The tensor [6, 6] in GPa as it comes, a list; None where MatCalc fails."""
    try:
        return np.array(calculator.calc(crystal)["elastic_tensor"].voigt).tolist()
    except (RuntimeError, ValueError) as err:
        print(f"MatCalc: {crystal.composition.reduced_formula}: {type(err).__name__}: {err}", flush=True)
        return None


def symmetric_part(voigt):
    """Of MatCalc's tensor: it, its K and its G."""
    from pymatgen.analysis.elasticity import ElasticTensor as PymatgenTensor

    symmetric = PymatgenTensor.from_voigt((np.array(voigt) + np.array(voigt).T) / 2)
    return np.array(symmetric.voigt), symmetric.k_vrh, symmetric.g_vrh


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


def written(tensors):
    """Tensors and rejections as JSON."""
    return [
        {"voigt": one.voigt.tolist(), "residual": one.residual, "n_strained": one.n_strained}
        if isinstance(one, ElasticTensor)
        else {"reason": one.reason, "detail": one.detail}
        for one in tensors
    ]


def read(rows):
    """What `written` wrote."""
    return [
        ElasticTensor(np.array(row["voigt"]), moduli(np.array(row["voigt"])), row["residual"], row["n_strained"])
        if "voigt" in row
        else Rejection(Stage.SCORE, row["reason"], row["detail"])
        for row in rows
    ]


def crystals_at_rest(listed, potential):
    rest = ms.relax(listed, potential, force_tol=0.001, max_steps=1000, optimizer="lbfgs")
    return [one.structure.as_dict() for one in rest if isinstance(one, Relaxed) and one.converged]


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


def compare(system, listed, potential, calculator, force_tol, results):
    """Print one crystal system.

    Returns:
        Differences of the stable crystals at equal strains [n, 3], and the ratios of processor times: at equal strains,
        and with those that symmetry leaves.
    """
    at_rest = [Structure.from_dict(one) for one in results.of(system, lambda: crystals_at_rest(listed, potential))]

    def ours_by(tensors):
        rows, taken = results.of(
            f"{system}: {tensors.__name__}",
            lambda: timed(lambda: written(tensors(at_rest, potential, force_tol))),
        )
        return read(rows), np.array(taken)

    ours, time_reduced = ours_by(matsearch_tensors)
    full, time_all = ours_by(matsearch_tensors_of_all_strains)
    n_strained = np.mean([one.n_strained for one in ours if isinstance(one, ElasticTensor)])
    line = f"{system}: {len(at_rest)} crystals, {n_strained:.1f} of 24 strained cells each"
    names = [crystal.composition.reduced_formula for crystal in at_rest]
    for name, one in zip(names, ours, strict=True):
        if not isinstance(one, ElasticTensor):
            line += f"; refused: {name}: {one.reason} ({one.detail})"
    if calculator is None:
        print(line, f"{time_reduced[0]:.1f} s, all 24 strains {time_all[0]:.1f} s", flush=True)
        return differences([], []), None
    found = [
        results.of(f"{system}: MatCalc: {number}", lambda crystal=crystal: timed(matcalc_tensor, calculator, crystal))
        for number, crystal in enumerate(at_rest)
    ]
    theirs = [voigt and symmetric_part(voigt) for voigt, _ in found]
    time_theirs = np.sum([taken for _, taken in found], axis=0)
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
    parser.add_argument("--out", type=Path, help="JSON lines; of the same crystals, precision and tolerance")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    versions = {name: importlib.metadata.version(name) for name in ("matsearch", "torch", "chgnet", "pymatgen")}
    print(versions, f"{torch.get_num_threads()} threads, seed {given.seed}, {'single' if given.single else 'double'}")
    potential = ms.load_potential("chgnet-0.3.0", "cpu")
    if not given.single:
        potential = potential.double()
    calculator = None if given.skip_matcalc else matcalc(stock_chgnet(not given.single), given.force_tol)
    results = Results(given.out)
    found, ratios = [], {}
    chosen = crystals(given.crystals, given.seed)
    for system in given.systems.split(","):
        equal, ratio = compare(system, chosen[system], potential, calculator, given.force_tol, results)
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
