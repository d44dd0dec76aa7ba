"""Prompt -> reply examples made of a corpus, for the tasks and with the words of the prompts.

    crossover  two parents -> child    parents that together hold the child's elements: its prototype, its chemistry
    mutate     one parent -> child     one element exchanged, or the same elements in another stoichiometry
    explore    elements -> child       any subset of the elements listed
    predict    composition -> child    reduced formula, or the atoms of the primitive cell

Conditions say what the child is: how stable, dense and stiff. Parents are of any stability. Every condition is left out
at random, so that the model also answers prompts without it.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import gcd
from typing import Any

from matsearch.crystal.wyckoff import ELEMENTS, LENGTHS, MAX_COUNT
from matsearch.llm.embedded.words import bulk_word, density_word, prompt_words, stability_word
from matsearch.propose.templates import render
from matsearch.training.corpus import Entry

TASK_WEIGHTS = {"crossover": 0.15, "mutate": 0.3, "explore": 0.3, "predict": 0.25}
KEPT_CONDITIONS = {"stability": 0.65, "density": 0.35, "bulk": 0.65}
"""How often a condition is stated where it is known."""
CHILD_WEIGHTS = {"stable": 1.0, "nearly": 1.0, "metastable": 0.8, "unstable": 0.4}
"""How often a crystal is a child, by its stability: what is seldom asked for is seldom shown."""
JITTER = 0.1
"""How often one length of a parent is moved by a step (1 %), as a relaxation would."""
_NUMBERS = {text: number for number, text in enumerate(LENGTHS)}


@dataclass(frozen=True, slots=True)
class Shown:
    """A parent as the templates see it."""

    text: str
    formula: str
    energy_above_hull: float | None = None


class Examples:
    """Draws prompt -> reply examples from a corpus."""

    def __init__(self, entries: Sequence[Entry], seed: int) -> None:
        self._entries = list(entries)
        self._random = random.Random(seed)
        self._sums = list(accumulate(_child_weight(entry) for entry in self._entries))
        self._by_prototype: dict[Any, list[Entry]] = defaultdict(list)
        self._by_elements: dict[frozenset[str], list[Entry]] = defaultdict(list)
        self._by_element: dict[str, list[Entry]] = defaultdict(list)
        for entry in self._entries:
            self._by_prototype[entry.prototype].append(entry)
            self._by_elements[entry.elements].append(entry)
            for element in entry.elements:
                self._by_element[element].append(entry)

    def draw(self) -> tuple[list[str], list[str]]:
        """An example of a random crystal, see `CHILD_WEIGHTS`, and a random task."""
        return self.draw_for(self._entries[bisect(self._sums, self._random.random() * self._sums[-1])])

    def draw_for(self, child: Entry) -> tuple[list[str], list[str]]:
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
            "parents": [Shown(self._jittered(parent.text), parent.formula) for parent in parents],
            "elements": self._allowed_elements([child, *parents]),
            "composition": self._composition(child) if task == "predict" else None,
            "max_atoms": self._max_atoms(child),
            "n_children": 1,
            "conditions": self._conditions(child),
        }
        return prompt_words(render("compact", task, variables)), child.text.split()

    def _conditions(self, child: Entry) -> list[str]:
        words = {
            "stability": None if child.energy_above_hull is None else stability_word(child.energy_above_hull),
            "density": None if child.density is None else density_word(child.density),
            "bulk": None if child.bulk_modulus is None else bulk_word(child.bulk_modulus),
        }
        return [word for kind, word in words.items() if word and self._random.random() < KEPT_CONDITIONS[kind]]

    def _jittered(self, text: str) -> str:
        """The text with one length moved by a step, now and then."""
        if self._random.random() >= JITTER:
            return text
        words = text.split()
        places = [place for place, word in enumerate(words) if word in _NUMBERS]
        place = self._random.choice(places)
        number = _NUMBERS[words[place]] + self._random.choice((-1, 1))
        words[place] = LENGTHS[min(max(number, 0), len(LENGTHS) - 1)]
        return " ".join(words)

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
        if n_atoms > MAX_COUNT or self._random.random() < 0.5:
            return None
        return self._random.randint(n_atoms, MAX_COUNT)


def _child_weight(entry: Entry) -> float:
    return 1.0 if entry.energy_above_hull is None else CHILD_WEIGHTS[stability_word(entry.energy_above_hull)]
