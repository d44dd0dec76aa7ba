"""What the embedded model writes: how much of it can be read, is valid, is different, and how long it takes.

    python benchmarks/embedded_model.py [--samples 200] [--model FOLDER] [--corpus OUT/corpus.parquet]

Rates with 95 % Wilson intervals, of all samples of a task. Parents of `mutate` and `crossover` are the model's own
`explore` replies. With the training corpus, the share of replies that stand in it word for word is printed too.
"""

import argparse
import time
import warnings
from collections import Counter

import torch

from matsearch.crystal.checks import check_structure
from matsearch.crystal.identity import KnownStructures
from matsearch.crystal.wyckoff import from_compact
from matsearch.llm.base import load_backend
from matsearch.metrics import wilson_interval
from matsearch.records import Prompt

COMPOSITIONS = ["Ag6O2", "Bi2F8", "Co2Sb2", "Co4B2", "Cr4Si4", "KZnF3", "Sr2O4", "YMg3"]  # MatLLMSearch's targets


def rate(label, count, total):
    low, high = wilson_interval(count, total)
    print(f"  {label:28s} {count:4d} / {total}  {count / total:6.1%}  [{low:.1%}, {high:.1%}]")


def measure(backend, task, users, known_texts):
    """Sample one reply for each prompt, print the rates, give back the texts of the valid ones."""
    start = time.perf_counter()
    texts = []
    for first in range(0, len(users), backend.chunk):
        chunk = users[first : first + backend.chunk]
        prompts = [Prompt(user=user, seed=first + i) for i, user in enumerate(chunk)]
        texts += [completion.text for completion in backend.complete(prompts)]
    seconds = time.perf_counter() - start
    reasons, parsed, valid, seen, n_unique = Counter(), 0, [], KnownStructures(), 0
    for text in texts:
        try:
            structure = from_compact(text)
        except ValueError as err:
            reasons["does not add up" if "composition says" in str(err) else str(err)] += 1
            continue
        parsed += 1
        if (rejection := check_structure(structure)) is not None:
            reasons[rejection.reason] += 1
            continue
        valid.append(text)
        if seen.match(structure) is None:
            n_unique += 1
        seen.add(len(valid), structure)
    print(f"{task}: {len(users)} samples, {1e3 * seconds / len(users):.0f} ms each")
    rate("parsed", parsed, len(users))
    rate("parsed, valid", len(valid), len(users))
    rate("parsed, valid, unique", n_unique, len(users))
    if known_texts is not None:
        rate("word for word in the corpus", sum(text in known_texts for text in texts), len(users))
    if task in ("mutate", "crossover"):
        rate("copy of a parent", sum(text in user for text, user in zip(texts, users, strict=True)), len(users))
    print(f"  lost: {dict(reasons.most_common())}")
    return valid


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--model", default="default")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--corpus")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    known_texts = None
    if given.corpus:
        import pandas as pd

        known_texts = set(pd.read_parquet(given.corpus)["text"])
    n = given.samples
    backend = load_backend("embedded", given.model, {"temperature": given.temperature})
    backend.complete([Prompt(user="explore child")])  # loading is not timed
    parents = measure(backend, "explore", ["explore child"] * n, known_texts)
    measure(backend, "explore within Li Mg Ti O", ["explore from Li Mg Ti O within 20 child"] * n, known_texts)
    if not parents:
        raise SystemExit("no valid reply to take as a parent")
    singles = [f"mutate {parents[i % len(parents)]} child" for i in range(n)]
    measure(backend, "mutate", singles, known_texts)
    pairs = [f"crossover {parents[i % len(parents)]} {parents[(i + 1) % len(parents)]} child" for i in range(n)]
    measure(backend, "crossover", pairs, known_texts)
    measure(backend, "predict", [f"predict {COMPOSITIONS[i % 8]} child" for i in range(n)], known_texts)


if __name__ == "__main__":
    main()
