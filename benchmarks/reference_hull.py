"""How fast the reference answers, and how its hull compares with the Materials Project's own.

    python benchmarks/reference_hull.py [potential]

Prints loading and query times, the time of pymatgen's PhaseDiagram on the same phases, and, where MATSEARCH_SHARED
names the folder with data/mp_structures.parquet, the rank correlation with the listed energies above the hull.
"""

import os
import random
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from matsearch.reference import load_reference


def timed(label, function):
    start = time.perf_counter()
    result = function()
    print(f"{label:60s} {1e3 * (time.perf_counter() - start):9.1f} ms")
    return result


def main():
    warnings.simplefilter("ignore")
    name = sys.argv[1] if len(sys.argv) > 1 else "chgnet-0.3.0"
    reference = timed("load", lambda: load_reference(name))
    phases = reference.phases
    print(f"{reference}: {phases.relaxed.mean():.1%} relaxed, {(phases.energy_above_hull == 0).sum()} on the hull")
    timed("first query (LiMgTiO3)", lambda: reference.energy_above_hull("LiMgTiO3", -6.0))
    compare_query_times(reference)
    timed("select(Li, Mg, Ti, O; 20 atoms)", lambda: reference.select(["Li", "Mg", "Ti", "O"], 20))
    timed("select(everything)", reference.select)
    compare_with_materials_project(phases)


def compare_query_times(reference):
    """The linear programme against PhaseDiagram, by number of elements."""
    rng = random.Random(0)
    symbols = sorted(reference.elements)
    phases = reference.phases
    inside = [frozenset(e.symbol for e in Composition(formula).elements) for formula in phases.formula]
    for n in range(2, min(6, len(symbols)) + 1):
        times, diagrams, gaps = [], [], []
        for _ in range(3):
            system = rng.sample(symbols, n)
            asked = Composition({symbol: rng.randint(1, 5) for symbol in system})
            start = time.perf_counter()
            height = reference.energy_above_hull(asked, 0.0)
            times.append(time.perf_counter() - start)
            rows = phases[[found <= set(system) for found in inside]].drop_duplicates("formula")
            entries = [
                PDEntry(Composition(row.formula), row.energy_per_atom * Composition(row.formula).num_atoms)
                for row in rows.itertuples()
            ]
            start = time.perf_counter()
            diagram = PhaseDiagram(entries)
            gaps.append(abs(-diagram.get_hull_energy_per_atom(asked) - height))
            diagrams.append(time.perf_counter() - start)
        print(
            f"{n} elements, new system: {1e3 * max(times):7.1f} ms at most; "
            f"PhaseDiagram {1e3 * max(diagrams):8.1f} ms; largest difference {max(gaps):.1e} eV/atom"
        )


def compare_with_materials_project(phases):
    """Rank correlation of E_hull with the listed one, and agreement on what is stable."""
    import pandas as pd

    folder = os.environ.get("MATSEARCH_SHARED")
    source = Path(folder or ".") / "data" / "mp_structures.parquet"
    if not source.exists():
        print("no mp_structures.parquet under MATSEARCH_SHARED: comparison with the Materials Project skipped")
        return
    listed = pd.read_parquet(source, columns=["material_id", "e_above_hull_mp2020"]).set_index("material_id")
    both = phases.assign(listed=listed.e_above_hull_mp2020.reindex(phases["id"]).to_numpy()).dropna(subset="listed")
    for label, rows in (("all", both), ("relaxed", both[both.relaxed])):
        rank = rows.energy_above_hull.rank().corr(rows.listed.rank())
        error = np.abs(rows.energy_above_hull - rows.listed)
        agree = ((rows.energy_above_hull <= 0.1) == (rows.listed <= 0.1)).mean()
        print(
            f"E_hull against the Materials Project ({label}, {len(rows)}): Spearman {rank:.3f}, "
            f"mean difference {error.mean():.3f}, median {error.median():.3f} eV/atom, same side of 0.1: {agree:.1%}"
        )


if __name__ == "__main__":
    main()
