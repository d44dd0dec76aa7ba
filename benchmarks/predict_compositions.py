"""How often the embedded model writes the known crystal of a composition that it was not trained on.

    MATSEARCH_SHARED=FOLDER python benchmarks/predict_compositions.py [--samples 20] [--model FOLDER]

The compositions are drawn from the rows of MP-20's test set in FOLDER/data/mp20_mpts52.parquet, which holds only its
binary and ternary part: the rates are not comparable with published ones. The prompt gives the atoms of the listed cell
and asks for a stable crystal. A match is one by StructureMatcher with its default tolerances. Nothing is relaxed.
"""

import argparse
import os
import random
import time
import warnings
from collections import Counter
from pathlib import Path

import torch

from matsearch.crystal.checks import check_structure
from matsearch.crystal.identity import same_crystal
from matsearch.crystal.wyckoff import ELEMENTS, MAX_COUNT, from_compact
from matsearch.llm.base import load_backend
from matsearch.metrics import wilson_interval
from matsearch.records import Prompt
from matsearch.training.held_out import CRYSTAL_COLUMNS, read_parquet, structure_of


def targets(n, seed):
    """`n` crystals of MP-20's test set whose compositions the model can write."""
    folder = os.environ.get("MATSEARCH_SHARED")
    if folder is None:
        raise SystemExit("set MATSEARCH_SHARED to the folder that holds data/mp20_mpts52.parquet")
    table = read_parquet(Path(folder) / "data" / "mp20_mpts52.parquet", (*CRYSTAL_COLUMNS, "split"))
    table = table[["mp20-test" in tags for tags in table["split"]]].sort_values("material_id")
    rows = list(table.itertuples())
    random.Random(seed).shuffle(rows)
    counted = ((structure_of(row), Counter(row.species)) for row in rows)
    known = ((s, counts) for s, counts in counted if set(counts) <= set(ELEMENTS) and max(counts.values()) <= MAX_COUNT)
    return [next(known) for _ in range(n)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compositions", type=int, default=100)
    parser.add_argument("--samples", type=int, default=20, help="of each composition")
    parser.add_argument("--model", default="default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    backend = load_backend("embedded", given.model, {})
    crystals = targets(given.compositions, given.seed)
    users = [
        f"predict {''.join(f'{symbol}{count}' for symbol, count in counts.items())} stable child"
        for _, counts in crystals
        for _ in range(given.samples)
    ]
    # Like prompts together are answered together; replies to short ones are short.
    start, texts = time.perf_counter(), []
    for first in range(0, len(users), backend.chunk):
        chunk = users[first : first + backend.chunk]
        prompts = [Prompt(user=user, seed=first + i) for i, user in enumerate(chunk)]
        texts += [completion.text for completion in backend.complete(prompts)]
    print(f"{len(texts)} samples in {time.perf_counter() - start:.0f} s")
    n_valid, first_hits, any_hits = 0, 0, 0
    for number, (target, _) in enumerate(crystals):
        hits = []
        for text in texts[number * given.samples : (number + 1) * given.samples]:
            try:
                structure = from_compact(text)
            except ValueError:
                hits.append(False)
                continue
            is_valid = check_structure(structure) is None
            n_valid += is_valid
            hits.append(is_valid and same_crystal(target, structure))
        first_hits += hits[0]
        any_hits += any(hits)
    for label, count, total in (
        ("structurally valid", n_valid, len(texts)),
        ("match rate, 1 sample", first_hits, len(crystals)),
        (f"match rate, {given.samples} samples", any_hits, len(crystals)),
    ):
        low, high = wilson_interval(count, total)
        print(f"  {label:26s} {count:4d} / {total}  {count / total:6.1%}  [{low:.1%}, {high:.1%}]")


if __name__ == "__main__":
    main()
