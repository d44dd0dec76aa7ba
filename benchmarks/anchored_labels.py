"""Labels to train a potential on: energies and geometries of the Materials Project, slopes of a teacher around them.

    python benchmarks/anchored_labels.py --out labels [--structures 12000] [--each 2] [--scale 1.05] [--device auto]

Reads `data/mp20_mpts52.parquet` of the folder named in MATSEARCH_SHARED; writes `train.parquet`, `held_out.parquet`:

- crystals of MP-20's training (validation) split whose cell was relaxed in PBE, of up to 20 atoms, each at rest at its
  formation energy (MP2020 corrections) over the teacher's elements;
- distorted ones about each of them, labelled by the teacher anchored there (`matsearch.training.anchored`), its slopes
  times --scale.

    matsearch potential fine-tune labels/train.parquet --held-out-data labels/held_out.parquet --energy-scale mp2020 \\
        --long-range pqeq --out matsearch-lr --data-licence "Materials Project, CC-BY 4.0; CHGNet (modified BSD)"

and the same with `--long-range none` for the control.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Lattice, Structure

from matsearch.potential import load_potential
from matsearch.reference import load_reference
from matsearch.training.anchored import around, at_rest
from matsearch.training.data import LabelledStructure, write_labelled

IN_PBE = ("mp20-csv", "mpts52-csv")
MOST_ATOMS = 20
CHUNK = 500


def elements(teacher: str) -> dict[str, float]:
    """eV/atom of the lowest phase of each element on the teacher's hull."""
    reference = load_reference(teacher)
    phases = reference.phases
    symbols = phases.formula.str.extract(r"^([A-Z][a-z]?)\d*$")[0]  # O2 is oxygen
    return phases.energy_per_atom.groupby(symbols).min().to_dict()


def crystals(split: str, n: int, table: dict[str, float], rng: np.random.Generator) -> list[LabelledStructure]:
    """At rest, drawn at random."""
    data = pd.read_parquet(Path(os.environ["MATSEARCH_SHARED"]) / "data/mp20_mpts52.parquet")
    data = data[
        data.formation_energy_per_atom.notna()
        & data.structure_source.isin(IN_PBE)
        & (data.n_atoms <= MOST_ATOMS)
        & data.split.map(lambda tags: split in tags)
    ]
    found = []
    for index in rng.permutation(len(data)):
        row = data.iloc[index]
        if not set(row.species) <= table.keys():
            continue
        structure = Structure(
            Lattice.from_parameters(*row.lattice), row.species, np.reshape(row.frac_coords, (-1, 3)).astype(float)
        )
        energy = len(structure) * float(row.formation_energy_per_atom) + sum(table[one] for one in row.species)
        found.append(at_rest(structure, energy, row.material_id))
        if len(found) == n:
            break
    return found


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--structures", type=int, default=12_000)
    parser.add_argument("--held-out", type=int, default=500)
    parser.add_argument("--each", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--teacher", default="chgnet-0.3.0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    teacher, table = load_potential(asked.teacher, asked.device), elements(asked.teacher)
    table = {symbol: energy for symbol, energy in table.items() if symbol in teacher.elements}
    rng = np.random.default_rng(asked.seed)
    asked.out.mkdir(parents=True, exist_ok=True)
    # Held out first: whatever was held out stays out, however many are trained on.
    held_out = crystals("mp20-val", asked.held_out, table, rng)
    formulas = {row.structure.composition.reduced_formula for row in held_out}
    training = crystals("mp20-train", asked.structures, table, rng)
    training = [row for row in training if row.structure.composition.reduced_formula not in formulas]
    for name, rows in (("held_out", held_out), ("train", training)):
        made = list(rows)
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            made += around(some, teacher, rng, n_each=asked.each, scale=asked.scale)
            print(f"{name}: {min(start + CHUNK, len(rows))} of {len(rows)} crystals", flush=True)
        write_labelled(made, asked.out / f"{name}.parquet")
        n_atoms = sum(len(row.structure) for row in made)
        symbols = {symbol.symbol for row in made for symbol in row.structure.composition.elements}
        print(f"{name}.parquet: {len(made)} labels, {n_atoms} atoms, {len(symbols)} elements", flush=True)


if __name__ == "__main__":
    main()
