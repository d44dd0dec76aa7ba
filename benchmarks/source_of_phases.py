"""The file that the shipped list of known phases was made from: two tables of the Materials Project, angles put right.

    python benchmarks/source_of_phases.py OUT.parquet [reference folder]

Takes `data/mp_structures.parquet` under MATSEARCH_SHARED, and what only `data/mp20_mpts52.parquet` holds, up to 120
atoms. With a reference built from that (single points are enough), cells are looked for in which one angle is written
as its supplement to 180 degrees: of the low-symmetry crystals (monoclinic and triclinic) that the table gives no energy
for, those more than 0.1 eV/atom above the hull get a single point with each angle replaced by 180 degrees less that
angle. Where that lowers the energy by more than 0.1 eV/atom, and brings the crystal to less than 0.3 eV/atom above the
hull, the angle was wrong. Every such cell is printed.
"""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from matsearch.potential import load_potential
from matsearch.records import Rejection
from matsearch.reference import load_reference
from matsearch.reference.sources import phase_structure

SUSPECT, GAIN, PLAUSIBLE = 0.1, 0.1, 0.3  # eV/atom
AT_ONCE = 64
MAX_ATOMS = 120
ATTRIBUTION = (
    "Crystal structures: Materials Project v2025.02.12 (https://materialsproject.org), CC-BY 4.0, "
    "A. Jain et al., APL Materials 1, 011002 (2013)."
)


def main(out, folder=None):
    warnings.simplefilter("ignore")
    table = joined(Path(os.environ["MATSEARCH_SHARED"]) / "data")
    if folder is not None:
        table = with_right_angles(table, Path(folder))
    pq.write_table(table.replace_schema_metadata({"attribution": ATTRIBUTION}), out)


def joined(folder):
    table = pq.read_table(folder / "mp_structures.parquet")
    more = pq.read_table(folder / "mp20_mpts52.parquet").filter(pc.field("n_atoms") <= MAX_ATOMS)
    new = ~np.isin(more["material_id"].to_numpy(), table["material_id"].to_numpy())
    more = more.filter(pa.array(new))
    print(f"{table.num_rows} structures of mp_structures.parquet, {more.num_rows} more of mp20_mpts52.parquet")
    columns = [name for name in more.column_names if name in table.column_names]
    return pa.concat_tables([table, more.select(columns)], promote_options="permissive")


def with_right_angles(table, folder):
    reference = load_reference("chgnet-0.3.0", folder)
    heights = dict(zip(reference.phases["id"], reference.phases["energy_above_hull"], strict=True))
    energies = dict(zip(reference.phases["id"], reference.phases["energy_per_atom"], strict=True))
    frame = table.to_pandas()
    columns = [name for name in frame if name.startswith("formation_energy")]
    without = frame[columns].isna().all(axis=1) & (frame.spacegroup <= 15)
    high = frame.material_id.map(heights).fillna(0.0) > SUSPECT
    print(f"{int(without.sum())} low-symmetry cells without an energy, {int((without & high).sum())} of them suspect")
    potential = load_potential("chgnet-0.3.0", "cpu")
    lattices = [np.array(lattice, dtype=np.float32) for lattice in frame.lattice]
    trials = [(row, angle) for row in np.flatnonzero(without & high) for angle in (3, 4, 5)]
    best = {}
    for start in range(0, len(trials), AT_ONCE):
        chunk = []
        for row, angle in trials[start : start + AT_ONCE]:
            turned = lattices[row].copy()
            turned[angle] = 180 - turned[angle]
            made = phase_structure(turned, frame.species[row], frame.frac_coords[row])
            if not isinstance(made, Rejection) and made.volume > len(made):
                chunk.append((row, turned, made))
        for (row, turned, made), energy in zip(chunk, potential.energies([made for *_, made in chunk]), strict=True):
            name = frame.material_id[row]
            gain = energies[name] - energy / len(made)
            if gain > max(GAIN, best.get(row, (0.0,))[0]) and heights[name] - gain < PLAUSIBLE:
                best[row] = gain, turned
    for row, (gain, turned) in sorted(best.items()):
        name = frame.material_id[row]
        print(f"{name} {frame.formula[row]}: {lattices[row][3:]} -> {turned[3:]}, {gain:.3f} eV/atom lower")
        lattices[row] = turned
    print(f"{len(best)} angles put right")
    kind = table.schema.field("lattice").type
    column = pa.array([lattice.tolist() for lattice in lattices], type=kind)
    return table.set_column(table.column_names.index("lattice"), "lattice", column)


if __name__ == "__main__":
    main(*sys.argv[1:])
