"""The words of the embedded model: compact crystals, and a few for the tasks.

A prompt is one line of tokens, as the templates in `prompts/compact` render it:

    crossover <crystal> <crystal> from Li Mg O child
    mutate <crystal> within 12 stable child
    explore from Li Mg O within 12 stable bulk7 child
    predict K 1 Zn 1 F 3 stable child

`from` lists the elements that the reply may hold, `within` the most atoms of its primitive cell. The words before
`child` say what crystal is sought: how stable, how dense, how stiff. Any of them may be left out.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from matsearch.crystal.wyckoff import COUNTS, ELEMENTS, vocabulary

PAD = "<pad>"
UNKNOWN = "<unk>"
END = "end"
TASKS = ("crossover", "mutate", "explore", "predict")
STABILITIES = {"stable": 0.001, "nearly": 0.03, "metastable": 0.1, "unstable": float("inf")}
"""Energy above the hull, in eV/atom, up to which each word holds."""
DENSITIES = tuple(f"density{bin}" for bin in range(16))
"""Mass density, in steps of 1 g/cm3; the last has no upper end."""
BULK_MODULI = tuple(f"bulk{bin}" for bin in range(10))
"""Bulk modulus, in steps of 40 GPa; the last has no upper end."""
BULK_STEP_GPA = 40.0
CONDITIONS = (*STABILITIES, *DENSITIES, *BULK_MODULI)

_FORMULA = re.compile(r"(?:[A-Z][a-z]?\d*)+")
_FORMULA_PART = re.compile(r"([A-Z][a-z]?)(\d*)")


@cache
def model_words() -> list[str]:
    """Every word of the model, in the order of its token ids; the padding is number 0."""
    return [PAD, UNKNOWN, *vocabulary(), *TASKS, "from", "within", "child", *CONDITIONS]


@cache
def _known() -> frozenset[str]:
    return frozenset(model_words()) - {PAD, UNKNOWN}


def prompt_words(text: str) -> list[str]:
    """Split a prompt into words of the model; a formula such as KZnF3 becomes `K 1 Zn 1 F 3`.

    Raises:
        ValueError: A word that the model was never trained on: it could only answer at random.
    """
    words = text.split()
    expanded: list[str] = []
    # A lone symbol is a formula after `predict` and an element in a crystal or a list.
    in_composition = False
    for position, word in enumerate(words):
        if position and words[position - 1] == "predict":
            in_composition = True
        if word not in _known() or (in_composition and word in ELEMENTS and not _has_count(words, position)):
            expanded += _formula_words(word)
        else:
            expanded.append(word)
        in_composition = in_composition and word != "child"
    return expanded


def _has_count(words: Sequence[str], position: int) -> bool:
    return position + 1 < len(words) and words[position + 1] in COUNTS


def _formula_words(word: str) -> list[str]:
    if not _FORMULA.fullmatch(word):
        raise ValueError(f"{word[:40]!r} is no word of the embedded model")
    counts: dict[str, int] = {}
    for symbol, count in _FORMULA_PART.findall(word):
        counts[symbol] = counts.get(symbol, 0) + int(count or 1)
    for symbol, number in counts.items():
        if symbol not in ELEMENTS or str(number) not in COUNTS:
            raise ValueError(
                f"{symbol}{number} in {word[:40]!r} is beyond the embedded model, which knows H to Pu without the "
                f"noble gases and up to {COUNTS[-1]} atoms of an element"
            )
    ordered = sorted(counts, key=ELEMENTS.index)
    return [token for symbol in ordered for token in (symbol, str(counts[symbol]))]


def stability_word(energy_above_hull: float) -> str:
    """The word for an energy above the hull in eV/atom."""
    return next(word for word, limit in STABILITIES.items() if energy_above_hull <= limit)


def density_word(g_per_cm3: float) -> str:
    """The word for a mass density in g/cm3."""
    return _bin(DENSITIES, g_per_cm3)


def bulk_word(gpa: float) -> str:
    """The word for a bulk modulus in GPa."""
    return _bin(BULK_MODULI, gpa / BULK_STEP_GPA)


def _bin(words: Sequence[str], value: float) -> str:
    return words[min(max(int(value), 0), len(words) - 1)]


def condition_words(objectives: Sequence[Mapping[str, Any]], seed: int) -> list[str]:
    """What a prompt asks for, given the objectives of a campaign.

    Always a stable crystal; for bulk modulus and density a word towards the wanted end, drawn from the outer third.

    Args:
        objectives: Mappings with `name` and `direction` (`min` or `max`); those of other properties have no words.
        seed: Decides which of the words.
    """
    words, rng = ["stable"], random.Random(seed)
    for families, choices in ((("density", "mass_density"), DENSITIES), (("bulk_modulus",), BULK_MODULI)):
        for objective in objectives:
            if objective["name"] in families:
                third = len(choices) // 3
                words.append(rng.choice(choices[-third:] if objective["direction"] == "max" else choices[:third]))
                break
    return words
