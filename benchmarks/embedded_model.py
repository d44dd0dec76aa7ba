"""What the embedded model writes: how much of it is read, valid, neutral, different and new, and how long it takes.

    python benchmarks/embedded_model.py [--samples 1000] [--model FOLDER] [--corpus OUT/corpus.parquet]

Rates with 95 % Wilson intervals, of all samples of a task, as the default options of the backend give them; `explore`
is sampled without the mask too. Prompts are those of a campaign: parents of `mutate` and `crossover` are known phases
near the hull, and a stable crystal is asked for. Novel is what matches no phase of the shipped reference, memorised
what matches a crystal of the training corpus; nothing is relaxed here (see proposers.py). Time is the wall's and, since
machines are busy, that of the processor; a second thread only costs time, the model is that small.
"""

import argparse
import time
import warnings
from collections import Counter

import numpy as np
import torch
from pymatgen.core import Composition

import matsearch as ms
from matsearch.crystal.identity import KnownStructures
from matsearch.crystal.wyckoff import from_compact, to_compact
from matsearch.llm.base import load_backend
from matsearch.llm.embedded.backend import EmbeddedBackend, EmbeddedOptions
from matsearch.metrics import wilson_interval
from matsearch.propose.operators import shipped_pool
from matsearch.propose.proposer import Space
from matsearch.records import Prompt, Rejection, Stage

COMPOSITIONS = ["Ag6O2", "Bi2F8", "Co2Sb2", "Co4B2", "Cr4Si4", "KZnF3", "Sr2O4", "YMg3"]  # MatLLMSearch's targets


class Unmasked(EmbeddedBackend):
    """The bare model."""

    def _masks(self, texts, n_prompt):  # noqa: ARG002
        return []


def rate(label, count, total):
    low, high = wilson_interval(count, total)
    print(f"  {label:34s} {count:5d} / {total}  {count / total:6.1%}  [{low:.1%}, {high:.1%}]")


def sample(backend, users):
    texts = []
    for first in range(0, len(users), backend.chunk):
        chunk = users[first : first + backend.chunk]
        texts += [c.text for c in backend.complete([Prompt(user=user, seed=first + i) for i, user in enumerate(chunk)])]
    return texts


def measure(backend, task, users, corpus):
    """Sample one reply for each prompt and print the rates."""
    n, wall, cpu = len(users), time.perf_counter(), time.process_time()
    texts = sample(backend, users)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows = []
    for text in texts:
        try:
            rows.append(from_compact(text))
        except ValueError as err:
            reason = "does not add up" if "composition says" in str(err) else str(err)[:60]
            rows.append(Rejection(Stage.PARSE, reason, str(err)))
    table = ms.evaluate(rows).table
    print(f"{task}: {n} samples in {wall:.0f} s, {cpu:.0f} s of processor")
    is_valid = table["structurally_valid"].to_numpy(bool)
    parsed = np.array([not isinstance(row, Rejection) for row in rows])
    rate("parsed", parsed.sum(), n)
    rate("structurally valid", is_valid.sum(), n)
    rate("charge valid", (is_valid & table["charge_valid"]).sum(), n)
    rate("valid and unique", (is_valid & table["unique"]).sum(), n)
    rate("valid, unique and novel", (is_valid & table["unique"] & table["novel"]).sum(), n)
    if corpus is not None:
        matched = [ok and corpus.match_any(row) is not None for ok, row in zip(is_valid, rows, strict=True)]
        rate("memorised (matches the corpus)", sum(matched), n)
    if task in ("mutate", "crossover"):
        rate("copy of a parent", sum(text in user for text, user in zip(texts, users, strict=True)), n)
    lost = Counter(str(reason).split(":")[0] for reason in table.loc[~is_valid, "reasons"])
    print(f"  not valid: {dict(lost.most_common(6))}", flush=True)


def read_corpus(path):
    import pandas as pd

    known = KnownStructures()
    for row in pd.read_parquet(path).itertuples():
        known.add(row.material_id, lambda text=row.text: from_compact(text), Composition(row.formula).formula)
    return known


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1000, help="of explore; of other tasks a fifth")
    parser.add_argument("--model", default="default")
    parser.add_argument("--temperature", type=float, help="else the default")
    parser.add_argument("--corpus", help="the training corpus, as matsearch.training made it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--tasks", nargs="+", default=["explore", "unmasked", "within", "mutate", "crossover", "predict"]
    )
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    corpus = read_corpus(given.corpus) if given.corpus else None
    options = {} if given.temperature is None else {"temperature": given.temperature}
    backend = load_backend("embedded", given.model, options)
    backend.complete([Prompt(user="explore child")])  # loading is not timed
    phases = shipped_pool().draw_parents(Space(max_atoms=20), np.random.default_rng(0), 600)
    parents = []
    for phase in phases:
        try:
            parents.append(to_compact(phase.structure))
        except ValueError:
            continue  # not in the vocabulary
    n, few = given.samples, given.samples // 5
    explore = "explore within 20 stable child"
    if "explore" in given.tasks:
        measure(backend, "explore", [explore] * n, corpus)
    if "unmasked" in given.tasks:
        bare = Unmasked(given.model, EmbeddedOptions(**options))
        measure(bare, "explore without the mask", [explore] * few, corpus)
    if "within" in given.tasks:
        within = "explore from Li Mg Ti O within 20 stable child"
        measure(backend, "explore within Li Mg Ti O", [within] * few, corpus)
    if "mutate" in given.tasks:
        singles = [f"mutate {parents[i % len(parents)]} within 20 stable child" for i in range(few)]
        measure(backend, "mutate", singles, corpus)
    if "crossover" in given.tasks:
        both = [f"{parents[2 * i % len(parents)]} {parents[(2 * i + 1) % len(parents)]}" for i in range(few)]
        measure(backend, "crossover", [f"crossover {pair} within 20 stable child" for pair in both], corpus)
    if "predict" in given.tasks:
        compositions = [f"predict {COMPOSITIONS[i % 8]} stable child" for i in range(few)]
        measure(backend, "predict (8 compositions)", compositions, corpus)


if __name__ == "__main__":
    main()
