"""The file that the shipped list of known phases was made from: two tables of the Materials Project.

    python benchmarks/source_of_phases.py known_phases.parquet

Takes `data/mp_structures.parquet` under MATSEARCH_SHARED, and what only `data/mp20_mpts52.parquet` holds, up to 120
atoms.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

MAX_ATOMS = 120
ATTRIBUTION = (
    "Crystal structures: Materials Project v2025.02.12 (https://materialsproject.org), CC-BY 4.0, "
    "A. Jain et al., APL Materials 1, 011002 (2013)."
)


def main(out):
    folder = Path(os.environ["MATSEARCH_SHARED"]) / "data"
    table = pq.read_table(folder / "mp_structures.parquet")
    more = pq.read_table(folder / "mp20_mpts52.parquet").filter(pc.field("n_atoms") <= MAX_ATOMS)
    more = more.filter(pa.array(~np.isin(more["material_id"].to_numpy(), table["material_id"].to_numpy())))
    print(f"{table.num_rows} structures of mp_structures.parquet, {more.num_rows} more of mp20_mpts52.parquet")
    columns = [name for name in more.column_names if name in table.column_names]
    joined = pa.concat_tables([table, more.select(columns)], promote_options="permissive")
    pq.write_table(joined.replace_schema_metadata({"attribution": ATTRIBUTION}), out)


if __name__ == "__main__":
    main(sys.argv[1])
