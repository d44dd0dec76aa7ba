"""Identity against StructureMatcher on all pairs: the same answers, and how much sooner.

    python benchmarks/identity.py [--small]

Uniqueness of 10,000 crystals (known phases, whole families of polymorphs, perturbed and strained copies, supercells,
relabelled and left-handed copies, generated CIFs) and novelty of 500 candidates against every known phase, where
MATSEARCH_SHARED names the folder with data/mp_structures.parquet. Without it, a small set is made of prototypes.

`StructureMatcher.fit` is called on every pair of one formula; of the pairs of different formulas, which are millions, a
sample is timed. Both ways run in one process, one after the other on the same pairs.
"""

import os
import random
import sys
import time
import warnings
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
from pymatgen.core import Composition, Lattice, Structure

from matsearch.crystal.checks import check_structure
from matsearch.crystal.fingerprint import fingerprint
from matsearch.crystal.identity import KnownStructures, primitive_cell, structure_matcher
from matsearch.crystal.mapping import ReducedCell, proven
from matsearch.crystal.text import from_cif
from matsearch.crystal.tokens import TextError

PROTOTYPES = {
    "rocksalt": ("Fm-3m", Lattice.cubic(4.8), [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "zincblende": ("F-43m", Lattice.cubic(5.4), [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "wurtzite": ("P6_3mc", Lattice.hexagonal(3.8, 6.2), [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.375]]),
    "nickeline": ("P6_3/mmc", Lattice.hexagonal(3.6, 5.0), [[0, 0, 0], [1 / 3, 2 / 3, 0.25]]),
    "caesium chloride": ("Pm-3m", Lattice.cubic(3.6), [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "litharge": ("P4/nmm", Lattice.tetragonal(4.0, 5.0), [[0, 0, 0], [0, 0.5, 0.24]]),
}


class Phases:
    """Known phases, as functions that make them."""

    def __init__(self):
        folder = os.environ.get("MATSEARCH_SHARED")
        self.generated = []
        if folder is None:
            print("MATSEARCH_SHARED is not set: prototypes instead of known phases")
            pairs = [f"{a} {b}" for a in "Li Na K Mg Ca Zn Cd Fe".split() for b in "O S Se F Cl N".split()]
            made = [Structure.from_spacegroup(g, cell, ["Na", "Cl"], xyz) for g, cell, xyz in PROTOTYPES.values()]
            self.rows = [(pair, structure) for pair in pairs for structure in made]
            self.formulas = [pair.replace(" ", "") for pair, _ in self.rows]
            return
        import pyarrow.parquet as pq

        table = pq.read_table(Path(folder) / "data" / "mp_structures.parquet")
        self.rows = None
        self.formulas = table["formula"].to_pylist()
        self._columns = [table[name] for name in ("lattice", "species", "frac_coords")]
        cifs = pq.read_table(Path(folder) / "data" / "crystallm_cifs_labelled.parquet")["Generated_CIF"]
        self.generated = cifs.to_pylist()

    def structure(self, index):
        if self.rows is not None:
            pair, made = self.rows[index]
            species = dict(zip(("Na", "Cl"), pair.split(), strict=True))
            return Structure(made.lattice, [species[site.specie.symbol] for site in made], made.frac_coords)
        lattice, species, coords = (column[index].as_py() for column in self._columns)
        return Structure(Lattice.from_parameters(*lattice), species, np.reshape(coords, (-1, 3)))


def changed(structure, rng, numbers):
    """A copy that may or may not still be the same crystal."""
    copy = structure.copy()
    how = rng.choice(["perturbed", "strained", "supercell", "relabelled", "left-handed", "exchanged"])
    if how == "perturbed":
        copy.perturb(rng.choice([0.02, 0.1, 0.3, 0.6]), min_distance=0, seed=rng.randrange(10**6))
    elif how == "strained":
        copy.apply_strain(numbers.uniform(-1, 1, 3) * rng.choice([0.02, 0.1, 0.25]))
    elif how == "supercell" and len(copy) <= 40:
        copy.make_supercell(
            rng.choice([[1, 1, 2], [2, 1, 1], [[1, 1, 0], [0, 1, 0], [0, 0, 2]], [[1, 1, 0], [-1, 1, 0], [0, 0, 1]]])
        )
        copy.perturb(rng.choice([0, 0.02, 0.1]), min_distance=0, seed=rng.randrange(10**6))
    elif how == "relabelled":
        order = rng.sample(range(len(copy)), len(copy))
        coords = copy.frac_coords[order] + numbers.random(3)
        copy = Structure(copy.lattice, [copy[i].specie for i in order], coords)
    elif how == "left-handed":
        order = [1, 0, 2]
        copy = Structure(Lattice(copy.lattice.matrix[order]), copy.species, copy.frac_coords[:, order])
    elif how == "exchanged":
        counts = Counter(site.specie.symbol for site in copy)
        pairs = [(a, b) for a, b in combinations(sorted(counts), 2) if counts[a] == counts[b]]
        if pairs:
            a, b = rng.choice(pairs)
            copy.replace_species({a: b, b: a})
    return copy


def make_set(phases, n, rng):
    """Crystals in random order: known phases, families, changed copies and generated ones."""
    numbers = np.random.default_rng(rng.randrange(10**6))
    families = defaultdict(list)
    for index, formula in enumerate(phases.formulas):
        families[formula].append(index)
    several = sorted(formula for formula, members in families.items() if len(members) > 1)
    found = [
        phases.structure(index) for index in rng.sample(range(len(phases.formulas)), min(n // 4, len(phases.formulas)))
    ]
    if "O2Si" in families:
        found += [phases.structure(index) for index in families["O2Si"][: n // 250]]
    while len(found) < 0.55 * n:
        members = families[rng.choice(several)]
        found += [phases.structure(index) for index in rng.sample(members, min(12, len(members)))]
    found += [changed(rng.choice(found), rng, numbers) for _ in range(n * 9 // 10 - len(found))]
    found += generated(phases, n - len(found), rng)
    rng.shuffle(found)
    return found[:n]


def generated(phases, n, rng):
    """Valid crystals that a model wrote."""
    found = []
    for text in rng.sample(phases.generated, min(len(phases.generated), n)):
        try:
            structure = from_cif(text)
        except TextError:
            continue
        if check_structure(structure) is None:
            found.append(structure)
    return found


def seconds(function, *args):
    """Of this process alone, so that others on the machine count less; and the result."""
    start = time.process_time()
    result = function(*args)
    return time.process_time() - start, result


def plain_formula(composition):
    return Composition(composition.get_el_amt_dict()).reduced_formula


def fit(first, second):
    return structure_matcher().fit(first, second)


def sampled_cost(structures, others, rng, n=3000):
    """Mean seconds of `fit` for pairs of different formulas."""
    pairs = []
    while len(pairs) < n:
        first, second = rng.choice(structures), rng.choice(others)
        if plain_formula(first.composition) != plain_formula(second.composition):
            pairs.append((first, second))
    taken, verdicts = seconds(lambda: [fit(*pair) for pair in pairs])
    assert not any(verdicts)
    return taken / n


def compare(verdicts):
    """Counts, precision and recall of (ours, fit) for every pair of one formula, and why they differ."""
    counts = Counter((ours, theirs) for ours, theirs, *_ in verdicts)
    right, extra, missed = counts[True, True], counts[True, False], counts[False, True]
    print(f"  pairs of one formula {len(verdicts)}, of them the same by fit {right + missed}")
    print(f"  precision {right / max(right + extra, 1):.5f}   recall {right / max(right + missed, 1):.5f}")
    reasons = Counter()
    for ours, theirs, first, second in verdicts:
        if ours == theirs:
            continue
        reduced = structure_matcher().fit(primitive_cell(first), primitive_cell(second), skip_structure_reduction=True)
        handed = any(np.linalg.det(structure.lattice.matrix) < 0 for structure in (first, second))
        once = [s.get_reduced_structure().get_primitive_structure() for s in (first, second)]
        if reduced != ours:
            reason = "UNEXPLAINED"
        elif any(len(a) != len(primitive_cell(b)) for a, b in zip(once, (first, second), strict=True)):
            reason = "fit leaves a cell that is not primitive"
        else:
            reason = "fit reduces a left-handed cell otherwise" if handed else "fit reduces to another cell"
        reasons[f"{reason} (ours {'same' if ours else 'different'})"] += 1
    left = sum(count for reason, count in reasons.items() if reason.startswith("UNEXPLAINED"))
    print(f"  against fit on fully reduced cells: {left} pairs differ")
    for reason, count in reasons.most_common():
        print(f"  {count} differ: {reason}")


def uniqueness(structures, rng):
    n = len(structures)
    print(f"\nuniqueness of {n} crystals")

    def ours():
        known, earliest = KnownStructures(), []
        for index, structure in enumerate(structures):
            earliest.append(known.match(structure))
            known.add(index, structure)
        return earliest

    our_time, earliest = seconds(ours)
    buckets = defaultdict(list)
    for index, structure in enumerate(structures):
        buckets[plain_formula(structure.composition)].append(index)
    pairs = [pair for bucket in buckets.values() for pair in combinations(bucket, 2)]
    fit_time, theirs = seconds(lambda: [fit(structures[a], structures[b]) for a, b in pairs])
    cells = {}

    def decide_all():
        for pair in pairs:
            for index in pair:
                if index not in cells:
                    cells[index] = ReducedCell(primitive_cell(structures[index]))
        return [proven(cells[a], cells[b]) for a, b in pairs]

    pair_time, verdicts = seconds(decide_all)
    asked = sum(verdict is None for verdict in verdicts)
    asking, verdicts = seconds(
        lambda: [
            structure_matcher().fit(cells[a].structure, cells[b].structure, skip_structure_reduction=True)
            if verdict is None
            else verdict
            for verdict, (a, b) in zip(verdicts, pairs, strict=True)
        ]
    )
    compare([(v, t, structures[a], structures[b]) for v, t, (a, b) in zip(verdicts, theirs, pairs, strict=True)])
    first = {}
    for (a, b), same in zip(pairs, theirs, strict=True):
        if same and (b not in first or a < first[b]):
            first[b] = a
    print(f"  not unique: {sum(e is not None for e in earliest)} ours, {len(first)} by fit; ", end="")
    print(f"another earliest match: {sum(first.get(b) != a for b, a in enumerate(earliest))}")
    print(f"  left to StructureMatcher: {asked} of {len(pairs)} pairs")
    other_pairs = n * (n - 1) // 2 - len(pairs)
    others = sampled_cost(structures, structures, rng) * other_pairs
    total = fit_time + others
    print(f"  fit on all pairs {total:10.1f} s CPU, {fit_time:.1f} of one formula, {others:.1f} of others by a sample")
    print(f"  match and add    {our_time:10.1f} s      {total / our_time:8.0f} times faster")
    taken = pair_time + asking
    print(f"  all pairs of one formula: fit {fit_time:.1f} s, here {taken:.1f} s, {fit_time / taken:.1f} times faster")


def novelty(phases, n, rng):
    numbers = np.random.default_rng(rng.randrange(10**6))
    candidates = generated(phases, n // 3, rng)
    while len(candidates) < n:
        structure = phases.structure(rng.randrange(len(phases.formulas)))
        candidates.append(changed(structure, rng, numbers))
    print(f"\nnovelty of {n} candidates against {len(phases.formulas)} phases")
    known, stored = KnownStructures(), KnownStructures()

    def load():
        for index, formula in enumerate(phases.formulas):
            known.add(index, lambda index=index: phases.structure(index), formula=formula)

    load_time, _ = seconds(load)
    # Pairs by pymatgen's own formulas, not by the keys that are under test.
    near = {plain_formula(candidate.composition): [] for candidate in candidates}
    for index, formula in enumerate(phases.formulas):
        if (key := plain_formula(Composition(formula))) in near:
            near[key].append(index)
    # As the shipped reference holds them: reduced and with a fingerprint.
    for index in sorted(index for bucket in near.values() for index in bucket):
        reduced = primitive_cell(phases.structure(index))
        stored.add(index, reduced, reduced=True, fingerprint=fingerprint(reduced))
    pairs = [
        (index, c) for c, candidate in enumerate(candidates) for index in near[plain_formula(candidate.composition)]
    ]
    made = {index: phases.structure(index) for index in {index for index, _ in pairs}}
    our_time, found = seconds(lambda: [known.match(candidate) for candidate in candidates])
    stored_time, again = seconds(lambda: [stored.match(candidate) for candidate in candidates])
    any_time, some = seconds(lambda: [stored.match_any(candidate) for candidate in candidates])
    assert found == again
    assert [match is None for match in found] == [match is None for match in some]
    fit_time, theirs = seconds(lambda: [fit(made[index], candidates[c]) for index, c in pairs])
    truth = {c for (_, c), same in zip(pairs, theirs, strict=True) if same}
    ours = {c for c, match in enumerate(found) if match is not None}
    print(f"  phases of the candidates' formulas: {len(pairs)} pairs")
    print(
        f"  known by fit {len(truth)}, ours {len(ours)}; precision {len(ours & truth) / max(len(ours), 1):.5f}", end=""
    )
    print(f"   recall {len(ours & truth) / max(len(truth), 1):.5f}")
    for c in sorted(ours ^ truth):
        side = "ours" if c in ours else "fit"
        print(
            f"  only {side}: {candidates[c].composition.formula}, {len(candidates[c])} atoms, "
            f"left-handed {np.linalg.det(candidates[c].lattice.matrix) < 0}, "
            f"primitive {len(primitive_cell(candidates[c]))} atoms"
        )
    others = sampled_cost(candidates, list(made.values()), rng) * (n * len(phases.formulas) - len(pairs))
    total = fit_time + others
    print(f"  fit on all pairs {total:10.1f} s CPU, {fit_time:.1f} of one formula, {others:.1f} of others by a sample")
    print(f"  adding all phases                    {load_time:8.1f} s, once")
    for label, taken in (
        ("match, phases reduced when met      ", our_time),
        ("match, phases stored reduced        ", stored_time),
        ("match_any, phases stored reduced    ", any_time),
    ):
        print(f"  {label} {taken:8.2f} s   {total / taken:10.0f} times faster; of one formula {fit_time / taken:.1f}")


def main():
    warnings.simplefilter("ignore")
    small = "--small" in sys.argv
    rng = random.Random(0)
    phases = Phases()
    full = not small and phases.rows is None
    uniqueness(make_set(phases, 10_000 if full else 300, rng), rng)
    novelty(phases, 500 if full else 40, rng)


if __name__ == "__main__":
    main()
