"""The training corpus of the embedded model: crystals as compact text, and prompt -> reply examples made of them.

    crossover  two parents -> child    parents that together hold the child's elements: its prototype, its chemistry
    mutate     one parent -> child     one element exchanged, or the same elements in another stoichiometry
    explore    elements -> child       any subset of the elements listed
    predict    composition -> child    reduced formula, or the atoms of the primitive cell

Held out are all crystals that a split file does not tag as training data, all of a benchmark file without split tags
and, to be on the safe side, every other crystal with the reduced formula of one of those.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.crystal.wyckoff import ELEMENTS, MAX_COUNT, encode
from matsearch.errors import InputError
from matsearch.llm.embedded.words import prompt_words
from matsearch.propose.templates import render

if TYPE_CHECKING:
    import pandas as pd

TRAINING_TAGS = frozenset({"mp20-train", "mp20-inferred-train"})
MAX_ATOMS = 20
MAX_PER_FORMULA = 4
"""Polymorphs kept of one formula; beyond that a few elements (carbon has 95 entries) would flood the corpus."""
TASK_WEIGHTS = {"crossover": 0.3, "mutate": 0.3, "explore": 0.25, "predict": 0.15}


@dataclass(frozen=True, slots=True)
class Entry:
    """One crystal of the corpus.

    Attributes:
        text: Compact text.
        formula: Reduced formula.
        counts: Atoms of each element in the primitive cell.
        space_group: ITA number.
    """

    text: str
    formula: str
    counts: dict[str, int]
    space_group: int

    @property
    def elements(self) -> frozenset[str]:
        """The elements."""
        return frozenset(self.counts)

    @property
    def prototype(self) -> tuple[int, tuple[int, ...], int]:
        """Space group, sorted counts and number of tokens: equal for crystals of one structure type."""
        return self.space_group, tuple(sorted(self.counts.values())), len(self.text.split())


@dataclass(frozen=True, slots=True)
class Shown:
    """A parent as the templates see it."""

    text: str
    formula: str
    energy_above_hull: float | None = None


def held_out(paths: Sequence[Path]) -> tuple[set[str], set[str]]:
    """Material ids and formulas that must not be trained on.

    Args:
        paths: Parquet files with `material_id` and `formula`; with a column `split` the rows tagged as training data
            only are free, without one no row is.

    Raises:
        InputError: A file cannot be read or lacks the columns.
    """
    ids: set[str] = set()
    formulas: set[str] = set()
    for path in paths:
        table = _read(path, ("material_id", "formula"))
        if "split" in table:
            table = table[[not set(tags) <= TRAINING_TAGS for tags in table["split"]]]
        ids |= set(table["material_id"])
        formulas |= set(table["formula"])
    return ids, formulas


def build_corpus(data: Path, splits: Sequence[Path], *, seed: int = 0) -> pd.DataFrame:
    """Compact text of every crystal that may be trained on.

    Args:
        data: Parquet with `material_id`, `formula` (reduced), `n_atoms`, `lattice`, `species`, `frac_coords`.
        splits: What is held out, see `held_out`.
        seed: Order of the rows, and which polymorphs of a formula are kept.

    Returns:
        Columns `material_id`, `formula`, `text`. `.attrs["counts"]` says how many crystals each rule removed.

    Raises:
        InputError: A file cannot be read or lacks the columns.
    """
    from ase.data import atomic_numbers
    from ase.geometry import cellpar_to_cell

    table = _read(data, ("material_id", "formula", "n_atoms", "lattice", "species", "frac_coords"))
    ids, formulas = held_out(splits)
    counts = {"crystals in the data": len(table)}
    table = table[table["n_atoms"] <= MAX_ATOMS]
    counts[f"up to {MAX_ATOMS} atoms"] = len(table)
    table = table[~table["material_id"].isin(ids)]
    counts["not held out"] = len(table)
    table = table[~table["formula"].isin(formulas)]
    counts["formula not held out either"] = len(table)
    table = table.sample(frac=1.0, random_state=seed)
    table = table[table.groupby("formula").cumcount() < MAX_PER_FORMULA]
    counts[f"at most {MAX_PER_FORMULA} of a formula"] = len(table)
    rows, seen = [], set()
    for row in table.itertuples():
        numbers = [atomic_numbers[symbol] for symbol in row.species]
        try:
            text = encode(cellpar_to_cell(np.asarray(row.lattice, float)), _coordinates(row.frac_coords), numbers)
        except ValueError:
            continue  # outside the vocabulary: nothing that the model could write
        if text not in seen:
            seen.add(text)
            rows.append((row.material_id, row.formula, text))
    counts["in the vocabulary, distinct"] = len(rows)
    import pandas as pd

    corpus = pd.DataFrame(rows, columns=["material_id", "formula", "text"])
    corpus.attrs["counts"] = counts
    return corpus


def _coordinates(flat: Any) -> np.ndarray:
    return np.asarray(flat, dtype=float).reshape(-1, 3)


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as err:
        raise InputError(f"cannot read {path} as Parquet: {err}") from err
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}")
    return table


def parse_entry(text: str, formula: str) -> Entry:
    """The corpus entry of a compact text."""
    composition, lattice, _ = text.split(" : ")
    words = composition.split()[1:]
    counts = {symbol: int(count) for symbol, count in zip(words[::2], words[1::2], strict=True)}
    return Entry(text, formula, counts, int(lattice.split()[0][2:]))


class Examples:
    """Draws prompt -> reply examples from a corpus."""

    def __init__(self, entries: Sequence[Entry], seed: int) -> None:
        self._entries = list(entries)
        self._random = random.Random(seed)
        self._by_prototype: dict[Any, list[Entry]] = defaultdict(list)
        self._by_elements: dict[frozenset[str], list[Entry]] = defaultdict(list)
        self._by_element: dict[str, list[Entry]] = defaultdict(list)
        for entry in self._entries:
            self._by_prototype[entry.prototype].append(entry)
            self._by_elements[entry.elements].append(entry)
            for element in entry.elements:
                self._by_element[element].append(entry)

    def draw(self, child: Entry) -> tuple[list[str], list[str]]:
        """Words of a prompt, ending in `child`, and of the reply, for one crystal and a random task."""
        task = self._random.choices(list(TASK_WEIGHTS), list(TASK_WEIGHTS.values()))[0]
        parents: list[Entry] = []
        if task == "mutate":
            parents = self._mutation_parent(child)
        elif task == "crossover":
            parents = self._crossover_parents(child)
        if not parents and task != "predict":
            task = "explore"
        variables = {
            "parents": [Shown(parent.text, parent.formula) for parent in parents],
            "elements": self._allowed_elements([child, *parents]),
            "composition": self._composition(child) if task == "predict" else None,
            "max_atoms": self._max_atoms(child),
            "n_children": 1,
        }
        return prompt_words(render("compact", task, variables)), child.text.split()

    def _mutation_parent(self, child: Entry) -> list[Entry]:
        kin = self._by_prototype[child.prototype]
        if self._random.random() < 0.7:
            for _ in range(40):
                parent = self._random.choice(kin)
                if len(parent.elements - child.elements) == 1:
                    return [parent]
        same_elements = [entry for entry in self._by_elements[child.elements] if entry is not child]
        return [self._random.choice(same_elements)] if same_elements else []

    def _crossover_parents(self, child: Entry) -> list[Entry]:
        kin = self._by_prototype[child.prototype]
        for _ in range(40):
            first = self._random.choice(kin)
            missing = child.elements - first.elements
            if first is child or first.elements == child.elements or len(missing) == len(child.elements):
                continue
            second = self._chemistry_parent(child, missing)
            if second is not None:
                pair = [first, second]
                self._random.shuffle(pair)
                return pair
        return []

    def _chemistry_parent(self, child: Entry, missing: frozenset[str]) -> Entry | None:
        """A crystal that holds the missing elements and, if there is one, nothing but elements of the child."""
        rarest = min(missing, key=lambda element: len(self._by_element[element]))
        found = None
        for _ in range(30):
            other = self._random.choice(self._by_element[rarest])
            if other is child or not missing <= other.elements:
                continue
            found = other
            if other.elements <= child.elements:
                break
        return found

    def _allowed_elements(self, shown: Sequence[Entry]) -> list[str] | None:
        if self._random.random() < 0.4:
            return None
        allowed = set().union(*(entry.elements for entry in shown))
        allowed |= set(self._random.sample(ELEMENTS, self._random.choice((0, 0, 1, 2, 4))))
        listed = sorted(allowed)
        self._random.shuffle(listed)
        return listed

    def _composition(self, child: Entry) -> str:
        divisor = gcd(*child.counts.values()) if self._random.random() < 0.5 else 1
        return "".join(f"{symbol}{count // divisor}" for symbol, count in child.counts.items())

    def _max_atoms(self, child: Entry) -> int | None:
        n_atoms = sum(child.counts.values())
        return self._random.randint(n_atoms, MAX_COUNT) if self._random.random() < 0.5 else None
