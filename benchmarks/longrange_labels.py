"""Labels to train matsearch-lr and its twin on: energies of the Materials Project, slopes of a teacher about them.

    python benchmarks/longrange_labels.py --out labels [--structures 12500] [--stiffness 1.11]

Reads `data/mp20_mpts52.parquet` and `data/mp_structures.parquet` of the folder named in MATSEARCH_SHARED. Crystals are
those of MP-20's training split that are in no split of MPTS-52, of up to --most-atoms atoms, at their formation energy
(MP2020 corrections) over the teacher's elements; nothing is read of test splits. Geometries there come from PBE or from
r2SCAN (`benchmarks/pbe_cells.py` tells which, and how surely):

- those of PBE are at rest as they are, and the teacher's slopes are taken to that (`training.anchored`);
- the others are relaxed by the teacher and get the reference's energy there; slopes are the teacher's own.

About each crystal at rest come --each distorted ones; about every third one at another volume (0.7 to 1.25), every
sixth a slab, every tenth a torn cluster. What strain costs is taken times --stiffness: by --softening CHGNet's bulk
moduli are 0.90 of DFT's (slope; 0.87 in the median), while its forces are as large as SevenNet-0's and larger than
CHGNet-r2SCAN's (`longrange_potential.py --only states`), so that these stay. Across the vacuum of slabs and clusters
the teacher sees nothing: they get what PQEq makes of it (`pqeq-far`, less that of the crystal at rest). What is held
out, to look at while training, is made likewise of the validation split's crystals in PBE's cells.

Writes, of --chunk crystals each, `pbe-0000.parquet`, ... (those in PBE's cells) and `train-0000.parquet`, ... (the
others), `elements.parquet` (the lowest phase of each element, from which all energies of formation count) and
`held_out.parquet`; what is there already stays, so that the same command goes on where it stopped, and a larger
--structures adds to a set. A file that is named twice counts twice: elements and PBE's cells are few.

    python benchmarks/longrange_labels.py --softening 60     # prints K of that many training binaries against DFT

    matsearch potential fine-tune labels/train-*.parquet labels/{pbe,pbe,pbe}-*.parquet \\
        labels/{elements,elements,elements,elements,elements,elements}.parquet \\
        --held-out-data labels/held_out.parquet --epochs 4 --learning-rate 5e-4 --batch-atoms 100 \\
        --energy-scale mp2020 --trained-share 0.35 --long-range pqeq --out matsearch-lr \\
        --data-licence "Materials Project, CC-BY 4.0; CHGNet (modified BSD)"

and that with `--long-range none` for the control.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from pbe_cells import LEAST, fitted, is_pbe, probabilities, tables
from pymatgen.core import Lattice, Structure

import matsearch as ms
from matsearch.potential import Potential, load_potential
from matsearch.records import Relaxed
from matsearch.reference import load_reference
from matsearch.training.anchored import around, at_rest, distorted, distortion, raised, stiffened
from matsearch.training.configurations import fragments, slab, stretched
from matsearch.training.data import LabelledStructure, write_labelled

FORCE_TOL = 0.05
"""eV/Å, of the teacher's relaxations."""
MOST_STEPS = 60
LARGEST_FORCE = 15.0
"""eV/Å; a distorted crystal with a larger one is left out."""
SOONER = 4.0
"""How much sooner."""
RELAXED = ", relaxed by the teacher"
STRAINED, CUT = (", distorted", ", volume"), (", slab", ", fragments")
EVERY = {"volume": 3, "slab": 6, "fragments": 10}


def elements(teacher: str) -> dict[str, LabelledStructure]:
    """By symbol the lowest phase of each element on the teacher's hull, of any size, at its energy there."""
    reference = load_reference(teacher)
    phases = reference.phases
    symbols = phases.formula.str.extract(r"^([A-Z][a-z]?)\d*$")[0]  # O2 is oxygen
    lowest = phases.loc[phases.energy_per_atom.groupby(symbols).idxmin()]
    found = {}
    for symbol, phase, energy in zip(symbols.loc[lowest.index], lowest["id"], lowest.energy_per_atom, strict=True):
        structure = reference.structure(phase)
        found[symbol] = at_rest(structure, len(structure) * float(energy), phase)
    return found


def crystals(table: pd.DataFrame, energies: dict[str, float]) -> list[LabelledStructure]:
    """At rest, in the order of the table."""
    found = []
    for (name, structure), formation in zip(structures(table), table.formation_energy_per_atom, strict=True):
        of_elements = sum(energies[site.specie.symbol] for site in structure)
        found.append(at_rest(structure, len(structure) * float(formation) + of_elements, name))
    return found


def structures(table: pd.DataFrame) -> Iterator[tuple[str, Structure]]:
    """Names and crystals."""
    for row in table.itertuples():
        coords = np.reshape(row.frac_coords, (-1, 3)).astype(float)
        yield row.material_id, Structure(Lattice.from_parameters(*row.lattice), row.species, coords)


def labels(
    rows: Sequence[LabelledStructure], teacher: Potential, rng: np.random.Generator, each: int
) -> list[LabelledStructure]:
    """Those of crystals that are at rest as they are."""
    return [*rows, *around(rows, teacher, rng, n_each=each), *far(rows, teacher, rng)]


def labels_at_teachers_rest(
    rows: Sequence[LabelledStructure], teacher: Potential, rng: np.random.Generator, each: int
) -> list[LabelledStructure]:
    """Those of crystals whose cells are not the reference's."""
    relaxed = ms.relax(
        [row.structure for row in rows], teacher, force_tol=FORCE_TOL, max_steps=MOST_STEPS, optimizer="lbfgs"
    )
    still = [
        at_rest(one.structure, row.energy, row.source + RELAXED)
        for row, one in zip(rows, relaxed, strict=True)
        if isinstance(one, Relaxed) and one.converged
    ]
    chosen = [row for row in still for _ in range(each)]
    made = [distorted(row.structure, *distortion(len(row.structure), rng)) for row in chosen]
    return [*still, *_raised(chosen, made, ["distorted"] * len(made), teacher), *far(still, teacher, rng)]


def far(rest: Sequence[LabelledStructure], teacher: Potential, rng: np.random.Generator) -> list[LabelledStructure]:
    """Crystals at other volumes, slabs and clusters."""
    chosen, made, kinds = [], [], []
    for number, row in enumerate(rest):
        for kind, make in (("volume", stretched), ("slab", slab), ("fragments", fragments)):
            structure = make(row.structure, rng) if number % EVERY[kind] == 0 else None
            if structure is not None:
                chosen.append(row)
                made.append(structure)
                kinds.append(kind)
    return _raised(chosen, made, kinds, teacher)


def _raised(
    rows: Sequence[LabelledStructure], made: Sequence[Structure], kinds: Sequence[str], teacher: Potential
) -> list[LabelledStructure]:
    found = []
    unique = {id(row): row for row in rows}
    still = dict(zip(unique, teacher.predict([row.structure for row in unique.values()]), strict=True))
    for row, structure, kind, after in zip(rows, made, kinds, teacher.predict(made), strict=True):
        before = still[id(row)]
        known = before.out_of_domain is None and after.out_of_domain is None
        if not known or np.abs(after.forces).max() > LARGEST_FORCE:
            continue
        if kind == "fragments":
            # Of no whole formula units, so that there is nothing to stand above but the teacher's own zero.
            one = LabelledStructure(structure, after.energy, after.forces, after.stress)
        else:
            one = raised(row, structure, before, after)
        found.append(replace(one, source=f"{row.source}, {kind}"))
    return found


def mended(made: Sequence[LabelledStructure], teacher: Potential, stiffness: float) -> list[LabelledStructure]:
    """Labels, those of strained crystals stiffer, those of cut ones with what the teacher does not see."""
    rest = {row.source: row for row in made}
    whole: list[LabelledStructure] = []
    strained: list[LabelledStructure] = []
    cut: list[LabelledStructure] = []
    for row in made:
        (strained if row.source.endswith(STRAINED) else cut if row.source.endswith(CUT) else whole).append(row)
    stiffer = stiffened(strained, [rest[_of_rest(row)] for row in strained], teacher, stiffness)
    return whole + with_far(cut, rest, teacher.device) + stiffer


def with_far(
    cut: Sequence[LabelledStructure], rest: Mapping[str, LabelledStructure], device: str
) -> list[LabelledStructure]:
    """Labels of slabs and clusters with PQEq beyond near neighbours, over that of the crystal at rest.

    A cluster is of no whole formula units: as for the teacher, its zero is the potential's own.
    """
    term = load_potential("pqeq-far", device)
    found = []
    for row in cut:
        (added,) = term.predict([row.structure])
        energy = added.energy
        if row.source.endswith(", slab"):
            crystal = rest[_of_rest(row)].structure
            energy -= len(row.structure) / len(crystal) * term.predict([crystal])[0].energy
        if np.isfinite(energy) and row.forces is not None and row.stress is not None:
            mended_row = replace(
                row, energy=row.energy + energy, forces=row.forces + added.forces, stress=row.stress + added.stress
            )
            found.append(mended_row)
    return found


def _of_rest(row: LabelledStructure) -> str:
    return row.source.rpartition(", ")[0]


def _write(rows: Sequence[LabelledStructure], path: Path) -> None:
    partial = path.with_suffix(".partial")
    write_labelled(rows, partial)
    partial.replace(path)
    print(f"{path.name}: {len(rows)} labels, {sum(len(row.structure) for row in rows)} atoms", flush=True)


def softness(n: int, training: pd.DataFrame, teacher: Potential) -> None:
    """Print how soft the teacher is by the bulk moduli of binaries to train on."""
    binaries = pd.read_parquet(Path(os.environ["MATSEARCH_SHARED"]) / "data/mp_binary_elasticity.parquet")
    chosen = binaries[binaries.material_id.isin(training.material_id) & (binaries.K_VRH_GPa > 10)]
    chosen = chosen[chosen.n_atoms <= 8].sample(n, random_state=0)
    found = ms.score([one for _, one in structures(chosen)], ["bulk_modulus"], teacher).bulk_modulus.to_numpy(float)
    known = np.isfinite(found)
    found, true = found[known], chosen.K_VRH_GPa.to_numpy(float)[known]
    ratios = found / true
    print(
        f"K of {known.sum()} of {n} binaries by {teacher.name}: median {np.median(ratios):.3f} of DFT's, quartiles "
        f"{np.quantile(ratios, 0.25):.3f} and {np.quantile(ratios, 0.75):.3f}, slope {found @ true / (true @ true):.3f}"
    )


def chosen_rows(table: pd.DataFrame, energies: dict[str, float], most_atoms: int, seed: int) -> pd.DataFrame:
    """Crystals that can be used, in a random order in which those of PBE's cells come sooner."""
    usable = table.species.map(lambda one: set(one) <= energies.keys()) & (table.n_atoms <= most_atoms)
    table = table[usable].sort_values("material_id")
    waits = np.random.default_rng(seed).exponential(size=len(table)) / np.where(table.of_pbe, SOONER, 1.0)
    return table.iloc[np.argsort(waits)]


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--structures", type=int, default=12_500)
    parser.add_argument("--held-out", type=int, default=250)
    parser.add_argument("--most-atoms", type=int, default=12)
    parser.add_argument("--each", type=int, default=1)
    parser.add_argument("--stiffness", type=float, default=1.11)
    parser.add_argument("--softening", type=int)
    parser.add_argument("--teacher", default="chgnet-0.3.0")
    parser.add_argument("--chunk", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    training, looked_at = tables()
    teacher = load_potential(asked.teacher, asked.device)
    lowest = {symbol: row for symbol, row in elements(asked.teacher).items() if symbol in teacher.elements}
    energies = {symbol: row.energy / len(row.structure) for symbol, row in lowest.items()}
    if asked.softening:
        softness(asked.softening, training, teacher)
    if asked.out is None:
        return
    training["of_pbe"] = probabilities(training, fitted(looked_at)) > LEAST
    looked_at["of_pbe"] = is_pbe(looked_at)
    looked_at = chosen_rows(looked_at[looked_at.of_pbe], energies, asked.most_atoms, asked.seed)[: asked.held_out]
    formulas = set(looked_at.formula)
    training = training[~training.formula.isin(formulas)]
    training = chosen_rows(training, energies, asked.most_atoms, asked.seed)[: asked.structures]
    n_of_pbe = training.of_pbe.sum()
    print(f"{len(training)} crystals to train on, {n_of_pbe} with PBE's cell; {len(looked_at)} held out", flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "elements.parquet"
    if not path.exists():
        made = labels_at_teachers_rest([*lowest.values()], teacher, np.random.default_rng([asked.seed, 1]), 2)
        _write(mended(made, teacher, asked.stiffness), path)
    parts = [looked_at, *(training.iloc[start : start + asked.chunk] for start in range(0, len(training), asked.chunk))]
    for number, table in enumerate(parts):
        path = asked.out / (f"train-{number - 1:04d}.parquet" if number else "held_out.parquet")
        if path.exists():
            continue
        # Each file is what it is however many are made, and however often that is interrupted.
        rng = np.random.default_rng([asked.seed, number])
        made = []
        for part, label in ((table[table.of_pbe], labels), (table[~table.of_pbe], labels_at_teachers_rest)):
            if len(part):
                made += label(crystals(part, energies), teacher, rng, asked.each)
        found = mended(made, teacher, asked.stiffness)
        if number:
            of_pbe = [row for row in found if RELAXED not in row.source]
            if of_pbe:
                _write(of_pbe, path.with_name(path.name.replace("train", "pbe")))
            found = [row for row in found if RELAXED in row.source]
        _write(found, path)


if __name__ == "__main__":
    main()
