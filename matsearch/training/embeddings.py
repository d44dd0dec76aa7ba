"""Where the words of the embedded model start: like words near each other.

A length of 5.65 Å and one of 5.71 Å, sodium and potassium, 11/120 and 12/120 are different words, but not unrelated
ones. With little text to learn from, every word would have to be seen many times before the model knew; started near
its neighbours it learns from theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from matsearch.crystal.wyckoff import ANGLES, COORDINATES, COUNTS, ELEMENTS, LENGTHS, SPACE_GROUPS
from matsearch.llm.embedded.words import BULK_MODULI, DENSITIES, STABILITIES

SCALE = 0.02
"""Root mean square of an entry, the usual one."""
SHARES = {"kind": 0.3, "place": 0.5, "own": 0.2}
"""Of the variance: what a word shares with its kind, with its neighbours, and with none."""


def initial_embeddings(words: Sequence[str], size: int, seed: int) -> np.ndarray:
    """[n_words, size] vectors to start from.

    Words of one kind are points in a space of their own, and the likeness of two is exp(-d^2 / 2) of their distance
    there, by random Fourier features (A. Rahimi and B. Recht, NeurIPS 20, 2007).
    """
    rng = np.random.default_rng(seed)
    index = {word: number for number, word in enumerate(words)}
    vectors = SCALE * rng.standard_normal((len(words), size))
    for points in _kinds():
        rows = [index[word] for word in points]
        coords = np.array(list(points.values()), dtype=float)
        waves = rng.standard_normal((coords.shape[1], size))
        place = np.sqrt(2) * np.cos(coords @ waves + rng.uniform(0, 2 * np.pi, size))
        kind = rng.standard_normal(size)
        shared = np.sqrt(SHARES["place"]) * place + np.sqrt(SHARES["kind"]) * kind
        vectors[rows] = np.sqrt(SHARES["own"]) * vectors[rows] + SCALE * shared
    return vectors


def _kinds() -> list[Mapping[str, tuple[float, ...]]]:
    """Word -> point, kind by kind; a distance of 1 is that of close relatives."""
    return [
        _in_line(LENGTHS, 10.0),
        _in_line(ANGLES, 4.0),
        _in_line(COUNTS, 1.5),
        _in_line(SPACE_GROUPS, 3.0),
        _in_line(tuple(STABILITIES), 1.0),
        _in_line(DENSITIES, 1.5),
        _in_line(BULK_MODULI, 1.5),
        _on_a_circle(COORDINATES, 2.0),
        {symbol: _place_in_the_table(symbol) for symbol in ELEMENTS},
    ]


def _in_line(words: Sequence[str], reach: float) -> dict[str, tuple[float, ...]]:
    return {word: (number / reach,) for number, word in enumerate(words)}


def _on_a_circle(words: Sequence[str], reach: float) -> dict[str, tuple[float, ...]]:
    radius = len(words) / (2 * np.pi * reach)
    turns = [2 * np.pi * number / len(words) for number in range(len(words))]
    return {word: (radius * np.cos(a), radius * np.sin(a)) for word, a in zip(words, turns, strict=True)}


def _place_in_the_table(symbol: str) -> tuple[float, ...]:
    """Row, group, place in the f block, electronegativity and radius of an element, in units of close relatives."""
    from pymatgen.core import Element

    element = Element(symbol)
    is_f_block = element.is_lanthanoid or element.is_actinoid
    in_f_block = (element.Z - (57 if element.is_lanthanoid else 89)) / 8 if is_f_block else 0.0
    electronegativity = element.data.get("X") or 1.3  # `Element.X` warns where there is none
    radius = float(element.data.get("Atomic radius") or 1.5)
    row = element.row - 2 if is_f_block else element.row
    return (0.6 * row, 0.35 * element.group, 2.0 * is_f_block + in_f_block, 1.2 * electronegativity, 1.2 * radius)
