"""The embedded model beside ion exchange and random prototypes, at an equal number of relaxed crystals.

    python benchmarks/proposers.py [--crystals 200] [--model FOLDER] [--corpus OUT/corpus.parquet] [--seed 0]

Four proposers: the embedded model with the tasks `explore` and `mutate`, ion exchange (`substitute`) and random
prototypes (`random_prototype`). Parents are drawn from one pool of known phases near the hull and shown one after the
other to each. Every proposer goes on until it has the number of crystals that pass `check_structure` and `check_space`;
how many proposals that took is printed. All are relaxed with CHGNet 0.3.0 (L-BFGS, 0.05 eV/Å) and judged against the
shipped reference, with 95 % Wilson intervals. Unique and novel are judged on what came out of the relaxation. Memorised
matches a crystal of the training corpus, and can only be said with one.

The operators keep the charges balanced where an attempt can, and take up to ten attempts; the model's replies are taken
as they come.
"""

import argparse
import time
import warnings
from collections import Counter

import numpy as np
import torch
from embedded_model import rate, read_corpus

import matsearch as ms
from matsearch.crystal.checks import check_space, check_structure
from matsearch.crystal.wyckoff import from_compact, to_compact
from matsearch.llm.base import load_backend
from matsearch.propose.operators import propose, shipped_pool
from matsearch.propose.proposer import Space
from matsearch.records import Prompt, Rejection

SPACE = Space(max_atoms=20)


def from_model(backend, users):
    """What the model replies to prompts, one after the other: structures, or None."""
    for first in range(0, len(users), backend.chunk):
        chunk = users[first : first + backend.chunk]
        prompts = [Prompt(user=user, seed=first + i) for i, user in enumerate(chunk)]
        for completion in backend.complete(prompts):
            try:
                yield from_compact(completion.text)
            except ValueError:
                yield None


def from_operator(name, parents, rng):
    """What an operator makes of each parent in turn."""
    for parent in parents:
        proposal = propose(name, [parent], SPACE, rng)
        yield None if isinstance(proposal, Rejection) else proposal.structure


def passes(structure):
    if check_structure(structure) is not None:
        return False
    return check_space(structure, SPACE.elements, SPACE.max_atoms, SPACE.composition) is None


def take(proposals, n):
    """The first `n` structures that pass, and how many proposals that took."""
    kept, n_tried = [], 0
    for structure in proposals:
        n_tried += 1
        if structure is not None and passes(structure):
            kept.append(structure)
        if len(kept) == n:
            break
    return kept, n_tried


def report(name, kept, n_tried, made_in, corpus):
    start = time.perf_counter()
    evaluation = ms.evaluate(kept, "chgnet-0.3.0")
    table, n = evaluation.table, len(kept)
    print(f"{name}: {n} crystals of {n_tried} proposals, made in {made_in:.0f} s, judged in "
          f"{time.perf_counter() - start:.0f} s")  # fmt: skip
    rate("valid, of the proposals", n, n_tried)
    columns = {
        "charge_valid": "charge valid",
        "converged": "converged",
        "metastable": "metastable (<= 0.1 eV/atom)",
        "stable": "stable (<= 0.001 eV/atom)",
        "unique": "unique",
        "novel": "novel",
        "msun": "metastable, unique and novel",
        "sun": "stable, unique and novel",
    }
    for column, label in columns.items():
        rate(label, int(table[column].sum()), n)
    if corpus is not None:
        rate("memorised (matches the corpus)", sum(corpus.match_any(s) is not None for s in kept), n)
    heights = table["energy_above_hull"].dropna()
    print(f"  median above the hull: {heights.median():.3f} eV/atom; chemical systems: "
          f"{len(Counter(s.chemical_system for s in kept))}", flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crystals", type=int, default=200, help="of each proposer")
    parser.add_argument("--model", default="default")
    parser.add_argument("--temperature", type=float, help="of the model, else the default")
    parser.add_argument("--corpus", help="the training corpus, as matsearch.training made it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--proposers", nargs="+", default=["explore", "mutate", "substitute", "random_prototype"])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    corpus = read_corpus(given.corpus) if given.corpus else None
    rng = np.random.default_rng(given.seed)
    parents = shipped_pool().draw_parents(SPACE, rng, 4 * given.crystals)
    texts = []
    for parent in parents:
        try:
            texts.append(to_compact(parent.structure))
        except ValueError:
            continue  # not in the vocabulary
    options = {} if given.temperature is None else {"temperature": given.temperature}
    backend = load_backend("embedded", given.model, options)
    proposers = {
        "explore": lambda: from_model(backend, ["explore within 20 stable child"] * 4 * given.crystals),
        "mutate": lambda: from_model(backend, [f"mutate {text} within 20 stable child" for text in texts]),
        "substitute": lambda: from_operator("substitute", parents, rng),
        "random_prototype": lambda: from_operator("random_prototype", parents, rng),
    }
    for name in given.proposers:
        start = time.perf_counter()
        kept, n_tried = take(proposers[name](), given.crystals)
        report(name, kept, n_tried, time.perf_counter() - start, corpus)


if __name__ == "__main__":
    main()
