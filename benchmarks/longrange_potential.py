"""Potentials side by side: bulk crystals against DFT, and what long-range charges should give.

    MATSEARCH_SHARED=FOLDER python benchmarks/longrange_potential.py chgnet-0.3.0 FOLDER_LR FOLDER_TWIN \\
        [--only formation,moduli] [--size 1.0] [--seed 0] [--device auto]

The first potential named is what the others are compared with. --size is the share of the full samples.

Of the folder's data (splits of MP-20 and MPTS-52 that are held out, never those to train on):

- formation: energies of formation of `mp20_mpts52.parquet` (MP2020) at PBE's cells, each potential's elements its own;
- volumes: the cells that relaxation gives against PBE's;
- moduli: `mp_binary_elasticity.parquet`, K by elastic tensors: Voigt, Reuss, Hill against K_VRH;
- states: crystals rattled by 0.3 Å at volumes from 0.8 to 1.2: forces and energies above rest against CHGNet-r2SCAN
  and, where installed, SevenNet-0, which are no DFT, but were not what was learned from;
- hulls: heights above each potential's shipped hull of known phases against the Materials Project's, of the test
  splits' crystals (their own hull is part of what is compared: all known phases by one potential each);
- softening: the slope of forces on hot BaTiO3 (`benchmarks/softening.py`), before and after one labelled frame.

And without data: dimers, slabs, water, charges, md, cost (`benchmarks/longrange_physics.py`). A crystal with an element
that a potential was not trained on is in no sample.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import longrange_physics
import numpy as np
import pandas as pd
from longrange_physics import Potentials
from pymatgen.core import Lattice, Structure
from softening import frames

import matsearch as ms
from matsearch.errors import MissingReferenceError, PotentialError
from matsearch.metrics.discovery import METASTABLE
from matsearch.objectives.elastic_tensor import ElasticTensor, elastic_tensors
from matsearch.potential import Potential, load_potential
from matsearch.records import Relaxed
from matsearch.reference import load_reference
from matsearch.training.anchored import distorted
from matsearch.training.softening import one_datum_scale, softening

JUDGES = ("chgnet-r2scan", "sevennet-0")
SETS = {"MP-20 test": "mp20-test", "MPTS-52 test": "mpts52-test"}
ON_HULL = 1e-4
"""eV/atom."""
RATTLE = 0.3
"""Å."""
LARGEST_FORCE = 15.0
"""eV/Å; states that have a larger one by the judge are left out: atoms in each other would outweigh all the rest."""


def held_out(split: str, potentials: Potentials, n: int, seed: int) -> pd.DataFrame:
    """Crystals of a split whose cells are PBE's, of elements that all potentials know."""
    table = pd.read_parquet(_shared() / "data/mp20_mpts52.parquet")
    training = table.split.map(lambda tags: any("train" in tag for tag in tags))
    table = table[
        table.split.map(lambda tags: split in tags)
        & ~training
        & table.structure_source.isin(("mp20-csv", "mpts52-csv"))
        & table.formation_energy_per_atom.notna()
    ]
    return _sample(table, potentials, n, seed)


def _sample(table: pd.DataFrame, potentials: Potentials, n: int, seed: int) -> pd.DataFrame:
    known = frozenset.intersection(*(one.elements for one in potentials.values()))
    table = table[table.species.map(lambda one: set(one) <= known)]
    return table.sample(min(n, len(table)), random_state=seed)


def structures_of(table: pd.DataFrame) -> list[Structure]:
    """As listed."""
    return [
        Structure(
            Lattice.from_parameters(*row.lattice), row.species, np.reshape(row.frac_coords, (-1, 3)).astype(float)
        )
        for row in table.itertuples()
    ]


def element_energies(potential: Potential, symbols: Sequence[str]) -> dict[str, float]:
    """eV/atom of each element's lowest known phase, relaxed by the potential."""
    reference = load_reference("chgnet-0.3.0")
    phases = reference.phases
    of_element = phases.formula.str.extract(r"^([A-Z][a-z]?)\d*$")[0]
    lowest = phases.loc[phases.energy_per_atom.groupby(of_element).idxmin()]
    lowest.index = of_element.loc[lowest.index]
    chosen = [symbol for symbol in symbols if symbol in lowest.index]
    relaxed = ms.relax([reference.structure(lowest["id"][one]) for one in chosen], potential, optimizer="lbfgs")
    return {
        symbol: one.energy / len(one.structure)
        for symbol, one in zip(chosen, relaxed, strict=True)
        if isinstance(one, Relaxed)
    }


def formation(potentials: Potentials, n: int, seed: int) -> None:
    """Energies of formation at PBE's cells."""
    for title, split in SETS.items():
        table = held_out(split, potentials, n, seed)
        structures = structures_of(table)
        true = table.formation_energy_per_atom.to_numpy(float)
        symbols = sorted({symbol for one in table.species for symbol in one})
        found = {}
        for name, potential in potentials.items():
            elements = element_energies(potential, symbols)
            energies = potential.energies(structures)
            found[name] = np.array(
                [
                    (energy - sum(elements[one.symbol] for one in structure.species)) / len(structure)
                    if isinstance(energy, float) and all(one.symbol in elements for one in structure.species)
                    else np.nan
                    for structure, energy in zip(structures, energies, strict=True)
                ]
            )
        _print_errors(f"energies of formation, {title}, eV/atom", true, found)


def volumes(potentials: Potentials, n: int, seed: int) -> None:
    """Relative errors of relaxed cells."""
    table = held_out("mp20-test", potentials, n, seed)
    structures = structures_of(table)
    found = {}
    for name, potential in potentials.items():
        relaxed = ms.relax(structures, potential, optimizer="lbfgs")
        found[name] = np.array(
            [
                one.structure.volume / structure.volume - 1 if isinstance(one, Relaxed) and one.converged else np.nan
                for one, structure in zip(relaxed, structures, strict=True)
            ]
        )
    _print_errors("volumes of relaxed crystals of MP-20's test split, relative to PBE's", np.zeros(len(table)), found)


def moduli(potentials: Potentials, n: int, seed: int) -> None:
    """Bulk moduli of binaries that are in no training split."""
    table = pd.read_parquet(_shared() / "data/mp_binary_elasticity.parquet")
    sets = pd.read_parquet(_shared() / "data/mp20_mpts52.parquet", columns=["material_id", "split"])
    training = sets[sets.split.map(lambda tags: any("train" in tag for tag in tags))].material_id
    table = table[(table.K_VRH_GPa > 0) & ~table.material_id.isin(training)]
    table = _sample(table, potentials, n, seed)
    structures = structures_of(table)
    true = table.K_VRH_GPa.to_numpy(float)
    found: dict[str, dict[str, np.ndarray]] = {"Hill": {}, "Voigt": {}, "Reuss": {}}
    for name, potential in potentials.items():
        for column in found.values():
            column[name] = np.full(len(table), np.nan)
        relaxed = ms.relax(structures, potential, force_tol=0.01, max_steps=1000, optimizer="lbfgs")
        good = [number for number, one in enumerate(relaxed) if isinstance(one, Relaxed) and one.converged]
        tensors = elastic_tensors([relaxed[number].structure for number in good], potential)
        for number, tensor in zip(good, tensors, strict=True):
            if isinstance(tensor, ElasticTensor) and tensor.moduli.least_stiffness > 0:
                found["Hill"][name][number] = tensor.moduli.bulk
                found["Voigt"][name][number] = tensor.moduli.bulk_voigt
                found["Reuss"][name][number] = tensor.moduli.bulk_reuss
    for kind, values in found.items():
        _print_errors(f"K by {kind} against K_VRH, GPa", true, values)


def states(potentials: Potentials, n: int, seed: int) -> None:
    """Forces and energies above rest of crystals far from rest, against other potentials."""
    judges = {}
    for name in JUDGES:
        try:
            judges[name] = load_potential(name, next(iter(potentials.values())).device)
        except PotentialError as err:
            print(f"\n{name} is not asked: {err}")
    table = held_out("mp20-test", {**potentials, **judges}, n, seed)
    rng = np.random.default_rng(seed)
    rest = structures_of(table)
    far = []
    for one in rest:
        strain = (np.exp(rng.uniform(np.log(0.8), np.log(1.2)) / 3) - 1) * np.eye(3)
        far.append(distorted(one, rng.normal(scale=RATTLE, size=(len(one), 3)), strain))
    of_judges = {name: _above_rest(judge, rest, far, LARGEST_FORCE) for name, judge in judges.items()}
    of_potentials = {name: _above_rest(one, rest, far) for name, one in potentials.items()}
    for judge, (forces, energies) in of_judges.items():
        print(f"\n{len(far)} states rattled by {RATTLE} Å, volumes 0.8 to 1.2, against {judge}")
        print(f"{'':24}{'n':>5}{'forces eV/Å':>13}{'slope':>8}{'at slope 1':>12}{'energies eV/atom':>18}")
        for name, (own, own_energies) in of_potentials.items():
            both = np.isfinite(energies) & np.isfinite(own_energies)
            chosen = np.flatnonzero(both)
            told = softening([forces[i] for i in chosen], [own[i] for i in chosen])
            error = np.abs(energies - own_energies)[both].mean()
            print(
                f"{name[-24:]:24}{len(chosen):5d}{told.mae:13.4f}{told.slope:8.3f}{told.mae_at_slope_one:12.4f}"
                f"{error:18.4f}"
            )


def _above_rest(
    potential: Potential, rest: Sequence[Structure], far: Sequence[Structure], largest_force: float = np.inf
) -> tuple[list[np.ndarray], np.ndarray]:
    """Forces, and eV/atom above the crystal at rest; NaN where either lies outside the domain, or forces are larger."""
    still, found = potential.predict(rest), potential.predict(far)
    energies = [
        np.nan
        if one.out_of_domain or other.out_of_domain or np.abs(one.forces).max() > largest_force
        else (one.energy - other.energy) / len(structure)
        for one, other, structure in zip(found, still, far, strict=True)
    ]
    return [one.forces for one in found], np.array(energies)


def hulls(potentials: Potentials, n: int, seed: int) -> None:
    """Heights above shipped hulls, of what is known and was not trained on, against the Materials Project's."""
    references = {}
    for name in potentials:
        try:
            references[name] = load_reference(name)
        except MissingReferenceError as err:
            print(f"\n{name} is not asked: {str(err).partition(';')[0]}")
    table = pd.concat([held_out(split, potentials, n, seed) for split in SETS.values()])
    table = table[table.e_above_hull.notna()].drop_duplicates("material_id")
    found = {}
    for name, reference in references.items():
        phases = reference.phases.set_index("id").reindex(table.material_id)
        found[name] = phases.energy_above_hull.to_numpy(float)
        relaxed = float(phases.relaxed.fillna(False).mean())
        print(f"\n{name}: {relaxed:.0%} of these phases are relaxed, {reference.n_pending} near the hull are not yet")
    true = table.e_above_hull.to_numpy(float)
    common = np.all([np.isfinite(one) for one in found.values()], axis=0)
    print(f"heights of {common.sum()} of {len(table)} crystals above the hull, eV/atom")
    print(f"{'':24}{'MAE':>10}{'median':>10}{'bias':>10}{'Spearman':>10}{'on one hull only':>18}{'one above 0.1':>15}")
    for name, values in found.items():
        ours, theirs = values[common], true[common]
        error = ours - theirs
        rank = pd.Series(ours).corr(pd.Series(theirs), method="spearman")
        stable = np.mean((ours < ON_HULL) != (theirs < ON_HULL))
        low = np.mean((ours <= METASTABLE) != (theirs <= METASTABLE))
        print(
            f"{name[-24:]:24}{np.abs(error).mean():10.4f}{np.median(np.abs(error)):10.4f}{error.mean():+10.4f}"
            f"{rank:10.3f}{stable:18.1%}{low:15.1%}"
        )


def softness(potentials: Potentials, n: int, _: int) -> None:
    """The slope of forces on hot BaTiO3, before and after one datum."""
    structures, reference = frames(max(1, 59 // n))
    print(f"\n{len(structures)} hot frames of BaTiO3 (DFT), forces in eV/Å: slope, error; with one datum; cMAE")
    for name, potential in potentials.items():
        predicted = [one.forces for one in potential.predict(structures)]
        before = softening(reference, predicted)
        slopes, errors = [], []
        for datum in range(len(structures)):
            others = [index for index in range(len(structures)) if index != datum]
            try:
                scale = one_datum_scale([reference[datum]], [predicted[datum]])
            except ValueError:
                continue  # Too near rest to tell.
            after = softening([reference[i] for i in others], [scale * predicted[i] for i in others])
            slopes.append(after.slope)
            errors.append(after.mae)
        mended = f"{np.mean(slopes):.3f} +- {np.std(slopes):.3f}, {np.mean(errors):.4f}" if slopes else "no datum"
        print(
            f"{name[-24:]:24} {before.slope:.3f}, {before.mae:.4f}; {mended}; {before.mae_at_slope_one:.4f}", flush=True
        )


MEASURES: dict[str, tuple[Callable[[Potentials, int, int], None], int]] = {
    "formation": (formation, 2000),
    "volumes": (volumes, 2000),
    "moduli": (moduli, 400),
    "states": (states, 500),
    "hulls": (hulls, 4000),
    "softening": (softness, 15),
}
"""By name: what measures, and how many crystals in full."""


def _print_errors(title: str, true: np.ndarray, found: dict[str, np.ndarray]) -> None:
    """One table, over what all have an answer to."""
    common = np.all([np.isfinite(one) for one in found.values()], axis=0)
    print(f"\n{title}: {common.sum()} of {len(true)} that all answer")
    print(f"{'':24}{'MAE':>10}{'median':>10}{'bias':>10}{'slope':>10}{'none':>6}{'MAE by the first':>18}", flush=True)
    first = None
    for name, values in found.items():
        error = (values - true)[common]
        mae = float(np.abs(error).mean())
        first = mae if first is None else first
        slope = values[common] @ true[common] / (true[common] @ true[common]) if true.any() else np.nan
        print(
            f"{name[-24:]:24}{mae:10.4f}{np.median(np.abs(error)):10.4f}{error.mean():+10.4f}{slope:10.3f}"
            f"{int((~np.isfinite(values)).sum()):6d}{mae / first:18.3f}",
            flush=True,
        )


def _shared() -> Path:
    shared = os.environ.get("MATSEARCH_SHARED")
    if not shared or not (Path(shared) / "data/mp20_mpts52.parquet").is_file():
        raise SystemExit("needs data/mp20_mpts52.parquet of the folder named in MATSEARCH_SHARED")
    return Path(shared)


def main() -> None:
    """Print the tables."""
    names = [*MEASURES, *longrange_physics.MEASURES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potentials", nargs="+")
    parser.add_argument("--only", default=",".join(names))
    parser.add_argument("--size", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    if unknown := set(asked.only.split(",")) - set(names):
        parser.error(f"no measure is called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    warnings.filterwarnings("ignore")
    potentials = {name: load_potential(name, asked.device) for name in asked.potentials}
    for name in asked.only.split(","):
        began = time.process_time()
        if name in MEASURES:
            measure, n = MEASURES[name]
            measure(potentials, max(4, round(asked.size * n)), asked.seed)
        else:
            measure_physics, n = longrange_physics.MEASURES[name]
            measure_physics(potentials, max(1, round(asked.size * n)) if n > 4 else n)
        print(f"({name}: {time.process_time() - began:.0f} s of the processor)", flush=True)


if __name__ == "__main__":
    main()
