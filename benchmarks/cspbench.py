"""How often a prediction finds the known crystal of a composition: the targets of CSPBench (Wei et al. 2024).

    MATSEARCH_SHARED=FOLDER python benchmarks/cspbench.py --out RUNS [--targets 20] [--relaxations 200] [--minutes 60]

FOLDER/data/cspbench.parquet lists 108 targets, from `binary_easy` to `template-based_quartenary`. Each is a campaign of
task `predict`, preset `matsearch`, whose proposals the embedded model and the operators (prototype and substitution
transfer, random crystals) share; the target's polymorphs are hidden from seeds, parents, operators and the hull. One
run folder a target, which stops at its hit, and is continued by the same command. A hit is a relaxed crystal that
StructureMatcher (ltol 0.2, stol 0.3, angle 5) calls the target, as listed or as the potential relaxes that.

Targets are taken in turn from the difficulties, of each the smallest cells first, so that a run that is stopped has
some of all; left out are those without a listed structure. Sizes are those of the primitive cells: three targets are
listed as supercells. CHGNet was trained on the Materials Project and so on the targets: this tests the search, not the
potential. How many targets the embedded model was trained on is printed where its corpus is given.
"""

import argparse
import os
import statistics
import time
import warnings
from pathlib import Path

import torch

from matsearch.campaign.campaign import Campaign
from matsearch.campaign.progress import Progress
from matsearch.config import resolve_config
from matsearch.crystal.identity import KnownStructures
from matsearch.crystal.text import from_json
from matsearch.metrics import wilson_interval
from matsearch.records import Individual
from matsearch.reference import load_reference
from matsearch.store import RunStore, is_run_dir
from matsearch.training.held_out import read_parquet, structure_of

DIFFICULTIES = ("easy", "medium", "hard", "polymorph", "template-based")
PUBLISHED = (
    "published, of 180 targets and by other protocols: correct space group ParetoCSP 18, AGOX 4; templates TCSP 85, "
    "CSPML 100"
)


class UntilHit(Progress):
    """Stops a campaign at the first relaxed crystal that matches the target."""

    def __init__(self, target):
        self.target = target

    def told(self, n_told, generation, outcomes, best):  # noqa: ARG002 - as the loop calls it
        for one in outcomes:
            if isinstance(one.result, Individual) and self.target.match_any(one.result.relaxed) is not None:
                raise KeyboardInterrupt("found")


def difficulty(category):
    return next(name for name in DIFFICULTIES if name in category)


def read_targets(path):
    """Rows of the targets with a structure: in turn from the difficulties, of each the smaller cells first."""
    table = read_parquet(path, ("material_id", "pretty_formula", "category", "nsites_listed", "lattice"))
    table = table[table["lattice"].notna()].sort_values(["nsites_listed", "material_id"])
    lines = [[row for row in table.itertuples() if difficulty(row.category) == name] for name in DIFFICULTIES]
    return [line[place] for place in range(max(map(len, lines))) for line in lines if place < len(line)]


def known_target(row, reference):
    """The target as listed, and as the potential relaxes it where the reference holds that."""
    known = KnownStructures()
    known.add("listed", structure_of(row).get_primitive_structure())
    if row.material_id in set(reference.phases["id"]):
        known.add("relaxed", reference.structure(row.material_id))
    return known


def campaign_of(row, run_dir, relaxations, seed):
    """The campaign of one target."""
    if is_run_dir(run_dir):
        return Campaign.open(run_dir, [f"budget.relaxations={relaxations}"])
    data = {
        "name": row.material_id,
        "task": "predict",
        "seed": seed,
        "space": {"composition": row.pretty_formula},
        "llm": [{"backend": "embedded"}, {"backend": "operators"}],
        "search": {"generations": 1000, "population": 8, "children_per_prompt": 2, "seeds": 8, "lag": 8},
        "budget": {"relaxations": relaxations},
    }
    return Campaign.from_config(resolve_config(data, "the benchmark"), run_dir)


def relaxations_to_hit(run_dir, target):
    """How many candidates were relaxed up to the first hit, that one included; and how many in all.

    Seeds are not counted: they are known phases of other compositions.
    """
    n, hit = 0, None
    with RunStore(run_dir, writable=False) as store:
        rows = store.rows(
            "SELECT c.id, r.structure FROM candidates c LEFT JOIN relaxations r ON r.key = c.relaxation_key "
            "WHERE c.proposal_id IS NOT NULL AND c.relaxation_key IS NOT NULL ORDER BY c.id"
        )
    for row in rows:
        n += 1
        if hit is None and row["structure"] is not None and target.match_any(from_json(row["structure"])) is not None:
            hit = n
    return hit, n


def show(results, n_asked):
    """The table by difficulty, of (row, hit, n) of the targets that came to an end."""
    print(f"{'difficulty':16s} {'found':>9s} {'rate':>6s}  {'95 % interval':15s} relaxations to the hit (median)")
    groups = [(name, [one for one in results if difficulty(one[0].category) == name]) for name in DIFFICULTIES]
    for name, group in [*groups, ("all", results)]:
        if not group:
            continue
        hits = [hit for _, hit, _ in group if hit is not None and hit <= n_asked]
        n, (low, high) = len(group), wilson_interval(len(hits), len(group))
        median = f"{statistics.median(hits):g}" if hits else "-"
        print(f"{name:16s} {len(hits):4d}/{n:<4d} {len(hits) / n:6.1%}  [{low:.1%}, {high:.1%}]  {median}")
    print(PUBLISHED, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the run folders")
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--most-sites", type=int, default=40, help="in the target's primitive cell")
    parser.add_argument("--relaxations", type=int, default=200, help="of each target")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no target is begun after these")
    parser.add_argument("--corpus", help="the training corpus of the embedded model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    if "MATSEARCH_SHARED" not in os.environ:
        raise SystemExit("set MATSEARCH_SHARED to the folder that holds data/cspbench.parquet")
    rows = read_targets(Path(os.environ["MATSEARCH_SHARED"]) / "data" / "cspbench.parquet")
    rows = [row for row in rows if row.nsites_listed <= given.most_sites][: given.targets]
    reference = load_reference("chgnet-0.3.0")
    if given.corpus:
        import pandas as pd

        trained = set(pd.read_parquet(given.corpus, columns=["material_id"])["material_id"])
        print(
            f"targets in the embedded model's corpus: {sum(row.material_id in trained for row in rows)} of {len(rows)}"
        )
    start, results = time.monotonic(), []
    for row in rows:
        run_dir, target = given.out / row.material_id, known_target(row, reference)
        hit, n = relaxations_to_hit(run_dir, target) if is_run_dir(run_dir) else (None, 0)
        if hit is None and n < given.relaxations:
            if time.monotonic() - start > 60 * given.minutes:
                continue
            try:
                campaign_of(row, run_dir, given.relaxations, given.seed).run(UntilHit(target))
            except KeyboardInterrupt as stop:
                if "found" not in str(stop):
                    raise
            hit, n = relaxations_to_hit(run_dir, target)
        results.append((row, hit, n))
        found = f"found at relaxation {hit}" if hit else f"not found in {n}"
        print(f"{row.pretty_formula:12s} {row.category:26s} {row.nsites_listed:3d} sites: {found}, "
              f"{(time.monotonic() - start) / 60:.1f} min so far", flush=True)  # fmt: skip
    show(results, given.relaxations)
    if len(results) < len(rows):
        print(f"not begun: {len(rows) - len(results)} targets; the same command goes on with them")


if __name__ == "__main__":
    main()
