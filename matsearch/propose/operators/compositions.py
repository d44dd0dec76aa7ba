"""Random elements in the roles of those of a known phase."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from math import gcd
from typing import TYPE_CHECKING

from matsearch.propose.operators.oxidation import electronegativity, is_balanced, is_metal
from matsearch.propose.operators.volumes import ELEMENTS

if TYPE_CHECKING:
    import numpy as np

    from matsearch.propose.space import Space

N_DRAWS = 60
"""Sets of random elements, of which the first that can be neutral is taken; else the last."""


def allowed_elements(space: Space) -> list[str]:
    """What may be drawn, in a fixed order."""
    return list(ELEMENTS) if space.elements is None else sorted(space.elements)


def random_elements(counts: Mapping[str, int], allowed: Sequence[str], rng: np.random.Generator) -> dict[str, str]:
    """Old element to new one: metals for metals, in the order of electronegativities, neutral where a draw is.

    Where too few metals (or others) are allowed, any element takes any role.

    Args:
        counts: Atoms of each element of a known phase.
        allowed: At least as many elements.
        rng: Draws.
    """
    metals, others = [one for one in allowed if is_metal(one)], [one for one in allowed if not is_metal(one)]
    old_metals = [symbol for symbol in counts if is_metal(symbol)]
    keeps_roles = len(old_metals) <= len(metals) and len(counts) - len(old_metals) <= len(others)
    roles = sorted(counts, key=electronegativity)
    renamed: dict[str, str] = {}
    for _ in range(N_DRAWS):
        if keeps_roles:
            drawn = _draw(metals, len(old_metals), rng) + _draw(others, len(counts) - len(old_metals), rng)
        else:
            drawn = _draw(allowed, len(counts), rng)
        renamed = dict(zip(roles, sorted(drawn, key=electronegativity), strict=True))
        made = {renamed[symbol]: n for symbol, n in counts.items()}
        if made != counts and is_balanced(made):
            break
    return renamed


def random_formula(ratio: Sequence[int], allowed: Sequence[str], rng: random.Random) -> str:
    """Random elements in a stoichiometry, neutral where a draw is: `CaTiO3` of (1, 1, 3)."""
    counts: dict[str, int] = {}
    for _ in range(N_DRAWS):
        counts = dict(zip(rng.sample(list(allowed), len(ratio)), ratio, strict=True))
        if is_balanced(counts):
            break
    return cell_formula(counts)


def _draw(elements: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    return [elements[index] for index in rng.permutation(len(elements))[:n].tolist()]


def cell_formula(counts: Mapping[str, int]) -> str:
    """`Na2Cl2`: what is in a cell."""
    return "".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in counts.items())


def reduced_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """Divided by what they have in common."""
    divisor = gcd(*counts.values())
    return {symbol: n // divisor for symbol, n in counts.items()}
