"""Labels to train matsearch-lr and its twin on: energies of the Materials Project, slopes of a teacher about them.

    python benchmarks/longrange_labels.py --out labels [--structures 12000] [--stiffness 1.11]

Reads `data/mp20_mpts52.parquet` and `data/mp_structures.parquet` of the folder named in MATSEARCH_SHARED. Crystals are
those of MP-20's training split that are in no split of MPTS-52, of up to --most-atoms atoms, at their formation energy
(MP2020 corrections) over the teacher's elements; nothing is read of test splits. Geometries there come from PBE or from
r2SCAN (`benchmarks/pbe_cells.py` tells which, and how surely):

- those of PBE are at rest as they are, and the teacher's slopes are taken to that (`training.anchored`);
- the others are relaxed by the teacher and get the reference's energy there; slopes are the teacher's own.

About each crystal at rest come --each distorted ones; about every third one at another volume (0.7 to 1.25), every
sixth a slab, every tenth a torn cluster. What strain costs is taken times --stiffness: by --softening CHGNet's bulk
moduli are 0.90 of DFT's (slope; 0.87 in the median), while its forces are as large as SevenNet-0's and larger than
CHGNet-r2SCAN's (`longrange_potential.py --only states`), so that these stay. What is held out, to
look at while training, is made likewise of the validation split's crystals in PBE's cells.

With --crystals, first `crystals-0000.parquet`, ...: crystals of the Materials Project that are in no held-out split,
half of them distorted, with the teacher's energies; from these atoms learn their share of PQEq, for which no reference
is needed (`--prefit-only`).

Writes `train-0000.parquet`, ... of --chunk crystals each, and `held_out.parquet`; what is there already stays, so that
the same command goes on where it stopped, and a larger --structures adds to a set.

    python benchmarks/longrange_labels.py --softening 60     # prints K of that many training binaries against DFT

    matsearch potential fine-tune labels/crystals-*.parquet --held-out-data labels/held_out.parquet \\
        --energy-scale mp2020 --long-range pqeq --prefit 20 --prefit-only --out start
    matsearch potential fine-tune labels/train-*.parquet --held-out-data labels/held_out.parquet --from start \\
        --energy-scale mp2020 --long-range pqeq --out matsearch-lr \\
        --data-licence "Materials Project, CC-BY 4.0; CHGNet (modified BSD)"

and the last with `--from chgnet-0.3.0 --long-range none` for the control.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator, Sequence
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
STRUCTURE = ["n_atoms", "lattice", "species", "frac_coords"]
CRYSTALS = 2000
"""Of a file without a reference."""
SOONER = 4.0
"""How much sooner."""
STRAINED = (", distorted", ", volume")
EVERY = {"volume": 3, "slab": 6, "fragments": 10}


def elements(teacher: str) -> dict[str, float]:
    """eV/atom of the lowest phase of each element on the teacher's hull."""
    reference = load_reference(teacher)
    phases = reference.phases
    symbols = phases.formula.str.extract(r"^([A-Z][a-z]?)\d*$")[0]  # O2 is oxygen
    return phases.energy_per_atom.groupby(symbols).min().to_dict()


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
        at_rest(one.structure, row.energy, f"{row.source}, relaxed by the teacher")
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
    """Labels, those of strained crystals stiffer."""
    rest = {row.source: row for row in made}
    strained = [row for row in made if row.source.endswith(STRAINED)]
    stiffer = stiffened(strained, [rest[row.source.rpartition(", ")[0]] for row in strained], teacher, stiffness)
    return [row for row in made if not row.source.endswith(STRAINED)] + stiffer


def write_crystals(asked: argparse.Namespace, teacher: Potential, known: frozenset[str]) -> None:
    """Crystals without a reference."""
    data = Path(os.environ["MATSEARCH_SHARED"]) / "data"
    sets = pd.read_parquet(data / "mp20_mpts52.parquet", columns=["material_id", "split"])
    kept_back = sets[sets.split.map(lambda tags: any("val" in tag or "test" in tag for tag in tags))].material_id
    table = pd.read_parquet(data / "mp_structures.parquet", columns=["material_id", *STRUCTURE])
    table = table[~table.material_id.isin(kept_back) & (table.n_atoms <= asked.most_atoms)]
    table = table[table.species.map(lambda one: set(one) <= known)]
    table = table.sort_values("material_id").sample(min(asked.crystals, len(table)), random_state=asked.seed)
    for number, start in enumerate(range(0, len(table), CRYSTALS)):
        path = asked.out / f"crystals-{number:04d}.parquet"
        if path.exists():
            continue
        rng = np.random.default_rng([asked.seed, 1, number])
        rows = [at_rest(one, 0.0, name) for name, one in structures(table.iloc[start : start + CRYSTALS])]
        made = [
            distorted(row.structure, *distortion(len(row.structure), rng)) if place % 2 else row.structure
            for place, row in enumerate(rows)
        ]
        found = [
            LabelledStructure(one, energy, source=row.source)
            for row, one, energy in zip(rows, made, teacher.energies(made), strict=True)
            if isinstance(energy, float)
        ]
        _write(found, path)


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
    parser.add_argument("--structures", type=int, default=12_000)
    parser.add_argument("--held-out", type=int, default=250)
    parser.add_argument("--crystals", type=int, default=0)
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
    teacher, energies = load_potential(asked.teacher, asked.device), elements(asked.teacher)
    if asked.softening:
        softness(asked.softening, training, teacher)
    if asked.out is None:
        return
    training["of_pbe"] = probabilities(training, fitted(looked_at)) > LEAST
    looked_at["of_pbe"] = is_pbe(looked_at)
    energies = {symbol: energy for symbol, energy in energies.items() if symbol in teacher.elements}
    looked_at = chosen_rows(looked_at[looked_at.of_pbe], energies, asked.most_atoms, asked.seed)[: asked.held_out]
    formulas = set(looked_at.formula)
    training = training[~training.formula.isin(formulas)]
    training = chosen_rows(training, energies, asked.most_atoms, asked.seed)[: asked.structures]
    n_of_pbe = training.of_pbe.sum()
    print(f"{len(training)} crystals to train on, {n_of_pbe} with PBE's cell; {len(looked_at)} held out", flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    write_crystals(asked, teacher, frozenset(energies))
    starts = range(0, len(training), asked.chunk)
    chunks = {asked.out / "held_out.parquet": looked_at}
    for number, start in enumerate(starts):
        chunks[asked.out / f"train-{number:04d}.parquet"] = training.iloc[start : start + asked.chunk]
    for number, (path, table) in enumerate(chunks.items()):
        if path.exists():
            continue
        # Each file is what it is however many are made, and however often that is interrupted.
        rng = np.random.default_rng([asked.seed, number])
        made = []
        for part, label in ((table[table.of_pbe], labels), (table[~table.of_pbe], labels_at_teachers_rest)):
            if len(part):
                made += label(crystals(part, energies), teacher, rng, asked.each)
        _write(mended(made, teacher, asked.stiffness), path)


if __name__ == "__main__":
    main()
