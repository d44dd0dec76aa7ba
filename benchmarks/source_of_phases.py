"""The file that the shipped list of known phases was made from: two tables of the Materials Project.

    python benchmarks/source_of_phases.py known_phases.parquet [reference folder]

Takes `data/mp_structures.parquet` under MATSEARCH_SHARED, and what only `data/mp20_mpts52.parquet` holds, up to 120
atoms. With a reference built from that (single points are enough), broken cells are looked for: in some triclinic and
monoclinic crystals that the table gives no energy for, cell and coordinates disagree by the sign of one axis. Those
that lie more than 0.1 eV/atom above the hull get a single point with each axis of the coordinates reversed; where the
lowest comes to less than 0.1 eV/atom above the hull, it is added as a phase of its own, `mp-1446650(-c)`. The listed
cell stays.
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
from matsearch.reference.phase_source import phase_structure

MAX_ATOMS = 120
HIGH, LOW = 0.1, 0.1  # eV/atom above the hull: as listed, with an axis reversed
AT_ONCE = 48
ATTRIBUTION = (
    "Crystal structures: Materials Project v2025.02.12 (https://materialsproject.org), CC-BY 4.0, "
    "A. Jain et al., APL Materials 1, 011002 (2013)."
)


def main(out, folder=None):
    warnings.simplefilter("ignore")
    data = Path(os.environ["MATSEARCH_SHARED"]) / "data"
    table = pq.read_table(data / "mp_structures.parquet")
    more = pq.read_table(data / "mp20_mpts52.parquet").filter(pc.field("n_atoms") <= MAX_ATOMS)
    more = more.filter(pa.array(~np.isin(more["material_id"].to_numpy(), table["material_id"].to_numpy())))
    print(f"{table.num_rows} structures of mp_structures.parquet, {more.num_rows} more of mp20_mpts52.parquet")
    columns = [name for name in more.column_names if name in table.column_names]
    tables = [table, more.select(columns)]
    if folder is not None:
        tables.append(mended(table, load_reference("chgnet-0.3.0", Path(folder))))
    joined = pa.concat_tables(tables, promote_options="permissive")
    pq.write_table(joined.replace_schema_metadata({"attribution": ATTRIBUTION}), out)


def mended(table, reference):
    """Rows of the crystals that come near the hull with one axis reversed."""
    phases = reference.phases
    heights = dict(zip(phases["id"], phases["energy_above_hull"], strict=True))
    energies = dict(zip(phases["id"], phases["energy_per_atom"], strict=True))
    frame = table.to_pandas()
    without = frame[[name for name in frame if name.startswith("formation_energy")]].isna().all(axis=1)
    high = frame["material_id"].map(heights).fillna(0.0) > HIGH
    suspects = frame[without & high & (frame["spacegroup"] <= 15)].sort_values("n_atoms")
    print(f"{len(suspects)} low-symmetry cells without an energy lie more than {HIGH} eV/atom above the hull")
    potential = load_potential("chgnet-0.3.0", "cpu")
    trials = [(row, axis) for row in suspects.index for axis in range(3)]
    best = {}
    for start in range(0, len(trials), AT_ONCE):
        made = [(row, axis, reversed_axis(frame.loc[row], axis)) for row, axis in trials[start : start + AT_ONCE]]
        made = [one for one in made if not isinstance(one[2], Rejection)]
        found = potential.energies([structure for *_, structure in made])
        for (row, axis, structure), energy in zip(made, found, strict=True):
            if isinstance(energy, Rejection):
                continue
            name = frame["material_id"][row]
            height = heights[name] - (energies[name] - energy / len(structure))
            if height < min(LOW, best.get(row, (LOW,))[0]):
                best[row] = height, axis
    rows = frame.loc[list(best)].copy()
    for row, (height, axis) in best.items():
        name = f"{frame['material_id'][row]}(-{'abc'[axis]})"
        print(f"{name} {frame['formula'][row]}: {heights[frame['material_id'][row]]:.3f} -> {height:.3f} eV/atom")
        rows.at[row, "material_id"] = name
        rows.at[row, "frac_coords"] = coordinates(frame.loc[row], axis).astype(np.float32)
    print(f"{len(rows)} crystals added with an axis reversed")
    return pa.Table.from_pandas(rows, schema=table.schema.remove_metadata(), preserve_index=False)


def reversed_axis(row, axis):
    return phase_structure(row.lattice, row.species, coordinates(row, axis))


def coordinates(row, axis):
    """[3 * n_atoms] fractional coordinates with one axis reversed."""
    turned = np.array(row.frac_coords, dtype=float).reshape(-1, 3)
    turned[:, axis] *= -1
    return turned.ravel()


if __name__ == "__main__":
    main(*sys.argv[1:])
