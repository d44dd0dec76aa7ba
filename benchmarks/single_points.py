"""What the energy of a crystal as it was proposed tells of where its relaxation ends.

    python benchmarks/single_points.py RUN [RUN ...]

Of all crystals that the runs of `matsearch compare` have relaxed: how often one that ended within 0.1 eV/atom of the
hull stood lower, as proposed, than one that did not (area under the curve; 0.5 is chance), by who proposed it; what
share of the lower half ended there; and what a single point costs beside a relaxation, in one run on this machine.
Runs whose operators chose by single points (`[search] choices`) say less: what stood high was never relaxed.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from matsearch.campaign.single_points import SinglePoints
from matsearch.crystal.text import from_json
from matsearch.potential import load_potential
from matsearch.reference import load_reference
from matsearch.relaxation import relax
from matsearch.store import RunStore

NEAR = 0.1
"""eV/atom above the hull."""


def proposed(run_dir):
    """Structure, whether it ended near the hull, and who proposed it, of each candidate that was relaxed."""
    query = (
        "SELECT structure, stage, energy_above_hull AS height, operator, model FROM candidates "
        "WHERE operator != 'seed' AND relaxation_key IS NOT NULL ORDER BY id"
    )
    with RunStore(run_dir, writable=False) as store:
        rows = store.rows(query)
    return [
        (
            from_json(row["structure"]),
            row["stage"] == "scored" and row["height"] is not None and row["height"] <= NEAR,
            f"{row['model']}/{row['operator']}",
        )
        for row in rows
    ]


def area(heights, near):
    """Share of pairs of one that ended near and one that did not in which the first stood lower; ties are halves."""
    low, high = heights[near], heights[~near]
    if not len(low) or not len(high):
        return None
    below = low[:, None] < high
    return float((below + 0.5 * (low[:, None] == high)).mean())


def show(name, heights, near):
    """One line."""
    found = area(heights, near)
    half = heights <= np.median(heights)
    print(
        f"{name:32} {len(near):6} {near.mean():8.1%} {'-' if found is None else f'{found:.3f}':>8} "
        f"{near[half].mean():12.1%} {near[~half].mean() if (~half).any() else float('nan'):12.1%}"
    )


def main():
    """Read the runs, compute single points, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    given = parser.parse_args()
    rows = [row for run in given.runs for row in proposed(run)]
    potential = load_potential("chgnet-0.3.0")
    points = SinglePoints(potential, load_reference("chgnet-0.3.0"), None)
    points([rows[0][0]])  # loads what is loaded once
    structures = [row[0] for row in rows]
    start = time.process_time()
    heights = np.array([9.0 if height is None else height for height in points(structures)])
    each = (time.process_time() - start) / len(rows)
    near = np.array([row[1] for row in rows])
    print(f"{'':32} {'n':>6} {'near':>8} {'area':>8} {'lower half':>12} {'upper half':>12}")
    show("all", heights, near)
    for name in sorted({row[2] for row in rows}):
        of_it = np.array([row[2] == name for row in rows])
        if of_it.sum() >= 20:
            show(name, heights[of_it], near[of_it])
    few = structures[:64]
    start = time.process_time()
    relax(few, potential, optimizer="lbfgs")
    whole = (time.process_time() - start) / len(few)
    print(f"of the processor, a single point takes {each * 1e3:.1f} ms ({each / whole:.1%} of a relaxation)")


if __name__ == "__main__":
    main()
