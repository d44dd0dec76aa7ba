"""How fast and how complete a reference is, and how its hull compares with the Materials Project's own.

    python benchmarks/reference_hull.py [potential [folder]]

Prints loading and query times, memory, the time of pymatgen's PhaseDiagram on the same phases, and, where
MATSEARCH_SHARED names the folder with data/mp_structures.parquet, data/mp_legacy_hull.parquet and
data/mp20_mpts52.parquet, what the Materials Project calls stable against what this reference says of it. PASS or SHORT
stands beside what is required; n and the share that is relaxed (the others: energies of the listed crystals) beside
every number. Rows are matched by material_id.
"""

import os
import random
import resource
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Composition, Lattice, Structure

from matsearch.potential import load_potential
from matsearch.records import Relaxed
from matsearch.reference import load_reference
from matsearch.reference.catalogue import amounts_in, composition_key, read_catalogue
from matsearch.reference.energies import energies_path, read_energies
from matsearch.reference.known import shipped_folder
from matsearch.relaxation import relax

STABLE = 1e-6  # eV/atom: the tables are single precision
N_SYSTEMS, N_CANDIDATES, N_STABLE = 200, 1000, 1000
N_GAINS = 300


def main():
    warnings.simplefilter("ignore")
    name = sys.argv[1] if len(sys.argv) > 1 else "chgnet-0.3.0"
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    reference = measure_speed(name, folder)
    phases = reference.phases
    stable = phases[phases.energy_above_hull == 0]
    print(f"\n{reference}: {phases.relaxed.mean():.1%} relaxed, {reference.n_pending} near the hull are pending")
    print(f"on the hull {len(stable)}, {stable.relaxed.mean():.1%} of them relaxed\n")
    measure_relaxation(stable, name, read_catalogue(folder or shipped_folder()))
    compare_query_times(reference)
    shared = os.environ.get("MATSEARCH_SHARED")
    if not shared or not (Path(shared) / "data" / "mp_structures.parquet").is_file():
        print("\nno data/mp_structures.parquet under MATSEARCH_SHARED: comparison with the Materials Project skipped")
        return
    compare_with_materials_project(reference, name, folder or shipped_folder(), Path(shared) / "data")


def measure_relaxation(stable, name, catalogue):
    """By how much a single point, as the unrelaxed phases have it, is too high."""
    if not stable.relaxed.any():
        measure_gain_to_come(stable, name, catalogue)
        return
    sample = stable[stable.relaxed].sample(N_GAINS, random_state=0)
    listed = [catalogue.structure(catalogue.position[phase_id]) for phase_id in sample["id"]]
    energies = load_potential(name, "cpu").energies(listed)
    gains = 1e3 * (np.array([e / len(s) for e, s in zip(energies, listed, strict=True)]) - sample["energy_per_atom"])
    print(
        f"relaxation gained, {len(sample)} phases on the hull (seed 0): median {np.median(gains):.1f}, 95 % below "
        f"{np.percentile(gains, 95):.1f}, most {gains.max():.1f} meV/atom\n"
    )


def measure_gain_to_come(stable, name, catalogue):
    """The same where nothing is relaxed yet, from relaxing some small phases now."""
    potential = load_potential(name, "cpu")
    sample = stable[stable.n_atoms <= 24].sample(100, random_state=0)
    listed = [catalogue.structure(catalogue.position[phase_id]) for phase_id in sample["id"]]
    results = relax(listed, potential, 0.05, 500, optimizer="lbfgs")
    gains = [
        1e3 * (energy - one.energy_per_atom)
        for energy, one in zip(sample["energy_per_atom"], results, strict=True)
        if isinstance(one, Relaxed) and one.converged
    ]
    print(
        f"none is relaxed; a relaxation of {len(gains)} of 100 phases on the hull, up to 24 atoms (seed 0), gains: "
        f"median {np.median(gains):.1f}, 95 % below {np.percentile(gains, 95):.1f}, most {max(gains):.1f} meV/atom\n"
    )


def require(label, holds):
    print(f"  {'PASS ' if holds else 'SHORT'}  {label}")


def relaxed_share(rows):
    return f"n = {len(rows)}, {rows.relaxed.mean():.1%} relaxed" if len(rows) else "n = 0"


def measure_speed(name, folder):
    import scipy.optimize  # noqa: F401

    import matsearch.crystal.identity  # noqa: F401 - what every command that asks has imported

    before, start = memory(), time.perf_counter()
    reference = load_reference(name, folder)
    loaded = time.perf_counter()
    reference.energy_above_hull("LiMgTiO3" if reference.elements >= {"Li", "Mg", "Ti", "O"} else "LiO", -6.0)
    asked = time.perf_counter()
    print(f"load {1e3 * (loaded - start):.0f} ms, first query {1e3 * (asked - loaded):.0f} ms", end="")
    print(f", memory {memory() - before:.0f} MB for both")
    rng = random.Random(0)
    symbols = sorted(reference.elements)
    times = []
    for number in range(N_SYSTEMS):
        system = rng.sample(symbols, 2 + number % 5)
        asked = Composition({symbol: rng.randint(1, 5) for symbol in system})
        start = time.perf_counter()
        reference.energy_above_hull(asked, 0.0)
        times.append(1e3 * (time.perf_counter() - start))
    print(f"new chemical systems, {N_SYSTEMS} of 2 to 6 elements: median {np.median(times):.1f} ms, ", end="")
    print(f"90 % below {np.percentile(times, 90):.1f} ms, most {max(times):.1f} ms")
    require("every new chemical system in under 50 ms after the first", max(times) < 50)
    start = time.perf_counter()
    phases = reference.phases
    print(f"table of {len(phases)} phases {time.perf_counter() - start:.2f} s, memory {memory() - before:.0f} MB")
    measure_batch(reference, phases)
    print(f"memory in the end {memory() - before:.0f} MB more than without a reference")
    return reference


def measure_batch(reference, phases):
    """Candidates that are known crystals, moved and strained a little, and as many that are not."""
    rng = np.random.default_rng(0)
    chosen = phases[phases.n_atoms <= 40].sample(N_CANDIDATES // 2, random_state=0)
    candidates = []
    for phase_id in chosen["id"]:
        crystal = reference.structure(phase_id)
        strain = np.eye(3) + rng.uniform(-0.02, 0.02, (3, 3))
        moves = rng.uniform(-0.003, 0.003, (len(crystal), 3))
        candidates.append(Structure(crystal.lattice.matrix @ strain, crystal.species, crystal.frac_coords + moves))
        edge = (crystal.volume * 1.3) ** (1 / 3)
        candidates.append(Structure(Lattice.cubic(edge), crystal.species, rng.uniform(0, 1, (len(crystal), 3))))
    start = time.perf_counter()
    for one in candidates:
        reference.energy_above_hull(one.composition, -5.0)
    asked = time.perf_counter()
    found = [reference.match(one) for one in candidates]
    matched = time.perf_counter()
    again = [reference.match(one) for one in candidates]
    n_known = sum(one is not None for one in found[::2])
    print(
        f"{len(candidates)} candidates of as many systems as come: hull {asked - start:.2f} s, novelty "
        f"{matched - asked:.2f} s, the same again {time.perf_counter() - matched:.2f} s; "
        f"known {n_known} of {len(found[::2])} moved crystals and {sum(x is not None for x in found[1::2])} random ones"
    )
    require(f"hull and novelty of {len(candidates)} candidates in less than 10 s", matched - start < 10)
    if again != found:
        print("  SHORT  the same question had two answers")


def memory():
    """MB at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare_query_times(reference):
    """The linear programme against PhaseDiagram, by number of elements."""
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

    rng = random.Random(1)
    symbols = sorted(reference.elements)
    phases = reference.phases
    inside = [frozenset(amounts_in(formula)) for formula in phases.formula]
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


def compare_with_materials_project(reference, name, folder, data):
    phases = reference.phases.set_index("id")
    listed = pd.read_parquet(data / "mp_structures.parquet", columns=["material_id", "formula", "e_above_hull_mp2020"])
    listed = listed.rename(columns={"material_id": "id", "e_above_hull_mp2020": "theirs"}).dropna(subset="theirs")
    given = pd.read_parquet(
        data / "mp20_mpts52.parquet", columns=["material_id", "formula", "e_above_hull", "formation_energy_per_atom"]
    ).rename(columns={"material_id": "id", "e_above_hull": "theirs"})
    legacy = pd.read_parquet(data / "mp_legacy_hull.parquet", columns=["formula", "Ed_eV_per_atom"])
    legacy = legacy.rename(columns={"Ed_eV_per_atom": "theirs"})
    heights = given.dropna(subset="theirs")
    why = Missing(reference, name, folder)
    print("\nIs what the Materials Project calls stable, or nearly, in the hull? By formula, then by id:")
    for label, table in (("mp_structures", listed), ("mp20_mpts52", heights), ("legacy", legacy)):
        why.formulas(f"{label}, formulas stable", table[table.theirs <= STABLE])
        why.formulas(f"{label}, formulas within 0.1", table[table.theirs <= 0.1])
    for label, table in (("mp_structures", listed), ("mp20_mpts52", heights)):
        why.ids(f"{label}, phases within 0.1", table[table.theirs <= 0.1])

    print("\nHeights, eV/atom:")
    theirs = pd.concat([listed, heights[["id", "formula", "theirs"]]]).drop_duplicates("id").set_index("id").theirs
    compare_extremes(phases, theirs)
    compare_heights("mp20_mpts52", phases, heights.set_index("id").theirs)
    compare_formation(reference, phases, given.set_index("id").formation_energy_per_atom.dropna())


class Missing:
    """What is not in the hull, and why."""

    def __init__(self, reference, name, folder):
        self.reference = reference
        self.with_energy = set(reference.phases["id"])
        self.formulas_there = {key_of(formula) for formula in reference.phases.formula.unique()}
        catalogue = read_catalogue(folder)
        table = read_energies(energies_path(folder, name), name, catalogue)[0]
        failures = table.select(["phase", "failure"]).to_pandas().dropna().set_index("phase").failure
        self.failures = {catalogue.ids[row]: text.split(":")[0] for row, text in failures.items()}
        self.catalogue = catalogue

    def formulas(self, label, table):
        formulas = {key_of(formula): formula for formula in table.formula}
        missing = {key: formula for key, formula in formulas.items() if key not in self.formulas_there}
        reasons = [(self._formula_reason(key, formula), formula) for key, formula in missing.items()]
        self._print(label, len(formulas), reasons)

    def ids(self, label, table):
        table = table.drop_duplicates("id")
        missing = table[[one not in self.with_energy for one in table["id"]]]
        reasons = [(self._id_reason(row.id, row.formula), row.id) for row in missing.itertuples()]
        self._print(label, len(table), reasons)

    def _print(self, label, n, reasons):
        share = 1 - len(reasons) / n
        require(f"{label:36s} {share:8.3%} of {n} (at least 99 %)", share >= 0.99)
        examples = {}
        for reason, example in reasons:
            examples.setdefault(reason, []).append(example)
        for reason, count in Counter(reason for reason, _ in reasons).most_common(8):
            print(f"           {count:6d} {reason}, such as {', '.join(examples[reason][:3])}")

    def _formula_reason(self, key, formula):
        if self.reference.uncovered(amounts_in(formula)):
            return "with an element that no hull covers"
        rows = self.catalogue.positions.get(key, [])
        return self._failure(self.catalogue.ids[rows[0]]) if rows else "formula not among the known phases"

    def _id_reason(self, phase_id, formula):
        if self.reference.uncovered(amounts_in(formula)):
            return "with an element that no hull covers"
        if phase_id in self.catalogue.position:
            return self._failure(phase_id)
        there = key_of(formula) in self.formulas_there
        return f"id not among the known phases, formula {'there' if there else 'neither'}"

    def _failure(self, phase_id):
        return f"no energy: {self.failures.get(phase_id, 'not computed')}"


def key_of(formula):
    return composition_key(amounts_in(formula))


def compare_extremes(phases, theirs):
    stable = theirs[theirs <= STABLE].sample(min(N_STABLE, (theirs <= STABLE).sum()), random_state=0)
    found = phases.reindex(stable.index).dropna(subset="energy_above_hull")
    ours = found.energy_above_hull
    print(f"{len(stable)} random phases that they call stable; in ours {relaxed_share(found)}:")
    require(f"{len(found)} of {len(stable)} in ours (99 %)", len(found) >= 0.99 * len(stable))
    if len(found):
        require(f"median {ours.median():.4f} (below 0.010)", ours.median() < 0.010)
        require(f"90 % below {ours.quantile(0.9):.4f} (0.050)", ours.quantile(0.9) < 0.050)
        print(f"         on our hull {(ours == 0).mean():.1%}, above 0.1: {(ours > 0.1).sum()}")
    high = phases.reindex(theirs[theirs > 0.2].index).dropna(subset="energy_above_hull")
    print(f"all that they put more than 0.2 above; in ours {relaxed_share(high)}:")
    if len(high):
        ours = high.energy_above_hull
        require(f"median {ours.median():.4f} (above 0.1)", ours.median() > 0.1)
        counts = [f"within {limit} {(ours <= limit).sum()}" for limit in (0.001, 0.03, 0.1)]
        print(f"         false stables: on our hull {(ours == 0).sum()}, {', '.join(counts)}")


def compare_heights(label, phases, theirs):
    rows = phases.assign(theirs=theirs.reindex(phases.index)).dropna(subset="theirs")
    print(f"e_above_hull of {label}, {len(theirs)} given:")
    for part, both in (("all", rows), ("relaxed", rows[rows.relaxed])):
        if len(both) < 2:
            continue
        ours, given = both.energy_above_hull, both.theirs
        error = (ours - given).abs()
        print(
            f"  {part:8s} {relaxed_share(both)}: Spearman {ours.rank().corr(given.rank()):.3f}, "
            f"above both hulls {spearman_above(ours, given):.3f}, mean difference {error.mean():.4f}, "
            f"median {error.median():.4f}"
        )
        low, given_low = ours <= 0.1, given <= 0.1
        print(
            f"           at 0.1: both low {(low & given_low).sum()}, ours alone {(low & ~given_low).sum()}, "
            f"theirs alone {(~low & given_low).sum()}, both high {(~low & ~given_low).sum()}\n"
            f"           agreed {(low == given_low).mean():.2%}: of what is low by them "
            f"{low[given_low].mean():.2%}, of what is high {(~low)[~given_low].mean():.2%}"
        )


def spearman_above(ours, given):
    """Without what is on either hull: the many zeros are ties."""
    above = (ours > 0) & (given > STABLE)
    return ours[above].rank().corr(given[above].rank())


def compare_formation(reference, phases, theirs):
    """Energies against the lowest phase of each element in the hull."""
    rows = phases.assign(theirs=theirs.reindex(phases.index)).dropna(subset="theirs")
    elements = phases[[len(amounts_in(formula)) == 1 for formula in phases.formula]]
    symbols = [next(iter(amounts_in(formula))) for formula in elements.formula]
    lowest = elements.groupby(symbols).energy_per_atom.min()
    formation = []
    for row in rows.itertuples():
        amounts = amounts_in(row.formula)
        total = sum(amounts.values())
        formation.append(row.energy_per_atom - sum(amounts[one] * lowest[one] for one in amounts) / total)
    print(f"formation_energy_per_atom of mp20_mpts52, {len(theirs)} given ({reference.energy_scale} energies):")
    for part, both in (("all", rows.assign(ours=formation)),):
        for kind, some in ((part, both), ("relaxed", both[both.relaxed])):
            if some.empty:
                continue
            error = (some.ours - some.theirs).abs()
            bias = (some.ours - some.theirs).mean()
            print(f"  {kind:8s} {relaxed_share(some)}: MAE {error.mean():.4f}, median {error.median():.4f}, ", end="")
            print(f"mean difference {bias:+.4f}, 99 % below {error.quantile(0.99):.3f} eV/atom")


if __name__ == "__main__":
    main()
