"""The words of the embedded model: compact crystals, and a few for the tasks.

A prompt is one line of tokens, as the templates in `prompts/compact` render it:

    crossover <crystal> <crystal> from Li Mg O child
    mutate <crystal> within 12 child
    explore from Li Mg O within 12 child
    predict K 1 Zn 1 F 3 child

`from` lists the elements that the reply may hold, `within` the most atoms of its primitive cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from matsearch.crystal.wyckoff import COUNTS, ELEMENTS, vocabulary

PAD = "<pad>"
UNKNOWN = "<unk>"
END = "end"
TASKS = ("crossover", "mutate", "explore", "predict")

_FORMULA = re.compile(r"(?:[A-Z][a-z]?\d*)+")
_FORMULA_PART = re.compile(r"([A-Z][a-z]?)(\d*)")


@cache
def model_words() -> list[str]:
    """Every word of the model, in the order of its token ids; the padding is number 0."""
    return [PAD, UNKNOWN, *vocabulary(), *TASKS, "from", "within", "child"]


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
