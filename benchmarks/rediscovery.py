"""How many stable phases a search finds again that were hidden from it.

    python benchmarks/rediscovery.py --out RUNS [--hide 200] [--relaxations 400] [--seeds 0 1] [--splits PARQUET]

Of the phases on CHGNet's hull with only `--elements` in them, at least two of them, and at most `--most-atoms` in the
primitive cell, `--hide` are hidden: first those of whose formulas the embedded model's training corpus (`--corpus`)
holds no crystal, and those of MP-20's test set (`--splits`), which were kept out of it. With each go all phases of its
formula: they are missing from seeds, parents, the operators' pool, the hull and the text of decompositions, and from
what is turned away as known. Then task `generate`, preset `matsearch`, with the embedded model and the operators, looks
for crystals of these elements. Found again is a hidden phase that a relaxed candidate matches (StructureMatcher, ltol
0.2, stol 0.3, angle 5). Run folders are continued by the same command.

What is found is that of a search that knows the other phases of these systems; CHGNet itself was trained on the hidden
ones.
"""

import argparse
import random
import time
import warnings
from pathlib import Path

import torch

from matsearch.campaign.campaign import Campaign
from matsearch.config import resolve_config
from matsearch.reference import load_reference
from matsearch.reference.catalogue import amounts_in, composition_key
from matsearch.store import RunStore, is_run_dir

ELEMENTS = "Li Na K Mg Ca Sr Ba Al Ga Ti Zr Zn O S F Cl".split()


def stable_phases(reference, elements, most_atoms):
    """Rows of the phases on the hull that could be hidden."""
    phases = reference.phases
    phases = phases[(phases.energy_above_hull == 0.0) & phases.relaxed & (phases.n_atoms <= most_atoms)]
    inside = [len(amounts := amounts_in(formula)) > 1 and amounts.keys() <= set(elements) for formula in phases.formula]
    return phases[inside]


def choose(phases, n, first, seed):
    """`n` of the phases, those whose ids come `first` before the others."""
    ids = sorted(phases["id"])
    random.Random(seed).shuffle(ids)
    return sorted(ids, key=lambda phase_id: phase_id not in first)[:n]


def test_ids(path):
    """Ids of MP-20's test set."""
    import pandas as pd

    table = pd.read_parquet(path, columns=["material_id", "split"])
    return set(table.loc[["mp20-test" in tags for tags in table["split"]], "material_id"])


def campaign_of(given, formulas, seed):
    """The campaign with one seed."""
    run_dir = given.out / f"seed{seed}"
    if is_run_dir(run_dir):
        return Campaign.open(run_dir, [f"budget.relaxations={given.relaxations}"])
    data = {
        "name": f"rediscovery-{seed}",
        "seed": seed,
        "space": {"elements": given.elements, "max_atoms": given.most_atoms},
        "reference": {"hide": formulas},
        "llm": [{"backend": "embedded"}, {"backend": "operators"}],
        "search": {"generations": 1000, "population": 50, "children_per_prompt": 2, "seeds": 50, "lag": 16},
        "budget": {"relaxations": given.relaxations},
    }
    return Campaign.from_config(resolve_config(data, "the benchmark"), run_dir)


def found_again(run_dir, hidden):
    """Number of relaxations, in the order of the candidates, at which each hidden phase was first met; and of all."""
    first, n = {}, 0
    with RunStore(run_dir, writable=False) as store:
        rows = store.rows(
            "SELECT matched_known FROM candidates WHERE proposal_id IS NOT NULL AND relaxation_key IS NOT NULL "
            "ORDER BY id"
        )
    for n, row in enumerate(rows, start=1):
        if row["matched_known"] in hidden:
            first.setdefault(row["matched_known"], n)
    return first, n


def show(seed, first, n, hidden, trained, test):
    steps = [step for step in (50, 100, 200, 400, 1000, 2000) if step < n] + [n]
    curve = ", ".join(f"{sum(at <= step for at in first.values())} at {step}" for step in steps)
    print(f"seed {seed}: {len(first)} of {len(hidden)} hidden phases found again in {n} relaxations ({curve})")
    parts = [f"{len(first.keys() & test)} of the {len(set(hidden) & test)} of MP-20's test set"] if test else []
    if trained is not None:
        known = set(hidden) & trained
        parts += [f"{len(first.keys() & known)} of the {len(known)} with formulas in the embedded model's corpus",
                  f"{len(first.keys() - known)} of the {len(hidden) - len(known)} without"]  # fmt: skip
    if parts:
        print("  of these " + ", ".join(parts), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the run folders")
    parser.add_argument("--elements", nargs="+", default=ELEMENTS)
    parser.add_argument("--hide", type=int, default=200)
    parser.add_argument("--most-atoms", type=int, default=12)
    parser.add_argument("--relaxations", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--splits", help="Parquet with material_id and split: MP-20's test set is hidden first")
    parser.add_argument("--corpus", help="the training corpus of the embedded model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--count", action="store_true", help="only count what is there")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    reference = load_reference("chgnet-0.3.0")
    phases = stable_phases(reference, given.elements, given.most_atoms)
    test = test_ids(given.splits) if given.splits else set()
    trained = None
    if given.corpus:
        import pandas as pd

        written = {composition_key(amounts_in(formula)) for formula in set(pd.read_parquet(given.corpus)["formula"])}
        is_written = [composition_key(amounts_in(formula)) in written for formula in phases.formula]
        trained = set(phases.loc[is_written, "id"])
    untrained = set() if trained is None else set(phases["id"]) - trained
    hidden = choose(phases, given.hide, test | untrained, 0)
    formulas = sorted(set(phases.set_index("id").loc[hidden, "formula"]))
    n_trained = "unknown" if trained is None else len(set(hidden) & trained)
    print(
        f"{len(hidden)} of {len(phases)} stable phases hidden, with all of their {len(formulas)} formulas: "
        f"{len(reference.hiding(formulas).hidden)} phases; in MP-20's test set {len(set(hidden) & test)}; of formulas "
        f"in the embedded model's corpus {n_trained}",
        flush=True,
    )
    for seed in given.seeds:
        start = time.monotonic()
        if not given.count:
            campaign_of(given, formulas, seed).run()
        if is_run_dir(given.out / f"seed{seed}"):
            first, n = found_again(given.out / f"seed{seed}", set(hidden))
            show(seed, first, n, hidden, trained, test)
            print(f"  {(time.monotonic() - start) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
