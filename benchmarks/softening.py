"""How soft CHGNet is on hot BaTiO3, and what one labelled frame mends.

    MATSEARCH_SHARED=FOLDER python benchmarks/softening.py [--every 4] [--potentials chgnet-0.3.0 chgnet-r2scan]

The labels are DFT forces of molecular dynamics of 135 atoms, `data/batio3_bec_polarization.jsonl.zst` (allegro-pol,
MIT); the functional is theirs, not CHGNet's, so that part of what is printed as softening may be that difference.
Each of the frames in turn is the one datum, and the others are asked: mean and spread over these choices; frames too
near rest to be one are counted. Prints the
softening scale (slope of predicted against reference force components), the mean absolute error, and that with the
slope set to 1, before and after.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from pymatgen.core import Lattice, Structure

from matsearch.potential import load_potential
from matsearch.training.softening import one_datum_scale, softening

FILE = "data/batio3_bec_polarization.jsonl.zst"


def frames(every: int) -> tuple[list[Structure], list[np.ndarray]]:
    """Structures and their forces in eV/Å."""
    shared = os.environ.get("MATSEARCH_SHARED")
    if not shared or not (Path(shared) / FILE).is_file():
        raise SystemExit(f"needs {FILE} of the folder named in MATSEARCH_SHARED")
    with pa.input_stream(Path(shared) / FILE, compression="zstd") as stream:
        rows = [json.loads(line) for line in stream.read().decode().splitlines()][::every]
    structures = [Structure(Lattice(r["cell"]), r["species"], r["positions"], coords_are_cartesian=True) for r in rows]
    return structures, [np.array(r["atoms_forces"]).reshape(-1, 3) for r in rows]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--potentials", nargs="+", default=["chgnet-0.3.0", "chgnet-r2scan"])
    asked = parser.parse_args()
    structures, reference = frames(asked.every)
    print(f"{len(structures)} frames, forces {np.std(np.concatenate(reference)):.3f} eV/Å")
    for name in asked.potentials:
        predicted = [one.forces for one in load_potential(name).predict(structures)]
        before = softening(reference, predicted)
        scales, after, n_refused = [], [], 0
        for datum in range(len(structures)):
            others = [index for index in range(len(structures)) if index != datum]
            try:
                scales.append(one_datum_scale([reference[datum]], [predicted[datum]]))
            except ValueError as err:
                n_refused += 1
                print(f"  frame {datum}: {err}")
                continue
            told = [scales[-1] * predicted[index] for index in others]
            after.append(softening([reference[index] for index in others], told))
        print(f"{name}: {n_refused} frames refused, c = {np.mean(scales):.3f} +- {np.std(scales):.3f}")
        print(
            f"  before  slope {before.slope:.3f}, MAE {before.mae:.4f}, at slope 1 {before.mae_at_slope_one:.4f} eV/Å"
        )
        slopes, errors = [one.slope for one in after], [one.mae for one in after]
        print(f"  after   slope {np.mean(slopes):.3f} +- {np.std(slopes):.3f}, MAE {np.mean(errors):.4f} eV/Å")


if __name__ == "__main__":
    main()
