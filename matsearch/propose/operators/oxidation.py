"""Oxidation states guessed from a composition alone.

How often each state occurs is pymatgen's count over the ICSD (`PRIOR_PROB`, MIT licence); elements that it lacks
(Pt, Au, Tc, Os, most actinides) take their tabulated common states.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from functools import cache, lru_cache

from matsearch.crystal.charges import ELECTRONEGATIVITY_SLACK, FALLBACK_ELECTRONEGATIVITY, METALLOIDS_AS_METALS

RAREST = 0.01
"""Share below which a state is left out: typing errors of the ICSD are as frequent."""
MOST_STATES = {5: 4, 6: 3}
"""Of each element, by the number of elements: the commonest are tried, so that all guesses take about a millisecond."""
MIXED_PENALTY = math.log(0.05)
"""Of a guess in which one element takes two states at once (Fe3O4)."""


def is_alloy(symbols: Collection[str]) -> bool:
    """Whether no charges are to be looked for: metals alone, or one element."""
    return len(set(symbols)) == 1 or all(is_metal(symbol) for symbol in symbols)


def is_balanced(counts: Mapping[str, int]) -> bool:
    """Whether a composition is an alloy, or neutral with states that its elements commonly take."""
    return is_alloy(counts) or guess_states(counts) is not None


def guess_states(counts: Mapping[str, int]) -> dict[str, float] | None:
    """The likeliest neutral assignment, one state an element; None where there is none.

    Where no whole states balance, one element may take the mean of two of its positive states. No cation is more
    electronegative than an anion (by more than `ELECTRONEGATIVITY_SLACK`).

    Args:
        counts: Atoms of each element.
    """
    divisor = math.gcd(*counts.values()) if counts else 1
    found = _guess(tuple(sorted((symbol, n // divisor) for symbol, n in counts.items())))
    return dict(found) if found is not None else None


@lru_cache(maxsize=100_000)
def _guess(counts: tuple[tuple[str, int], ...]) -> tuple[tuple[str, float], ...] | None:
    symbols = [symbol for symbol, _ in counts]
    n_kept = MOST_STATES.get(len(symbols), 2 if len(symbols) > 6 else 8)
    tables = [dict(sorted(states_of(symbol).items(), key=lambda one: -one[1])[:n_kept]) for symbol in symbols]
    best: tuple[float, tuple[float, ...]] | None = None
    for last in range(len(symbols)):
        if last and not can_mix(symbols[last]):
            continue  # whole states come out the same whichever element is solved for
        others = [index for index in range(len(symbols)) if index != last]
        for states in itertools.product(*(tables[index] for index in others)):
            rest = -sum(state * counts[index][1] for index, state in zip(others, states, strict=True))
            state = rest / counts[last][1]
            weight = _weight_of(symbols[last], tables[last], state)
            if weight is None:
                continue
            score = weight + sum(tables[index][one] for index, one in zip(others, states, strict=True))
            if best is not None and score <= best[0] + 1e-12:
                continue
            whole = list(states)
            whole.insert(last, state)
            if _order_holds(symbols, whole):
                best = score, tuple(whole)
        if last == 0 and best is not None and all(state in table for state, table in zip(best[1], tables, strict=True)):
            break
    return None if best is None else tuple(zip(symbols, best[1], strict=True))


def _weight_of(symbol: str, table: Mapping[float, float], state: float) -> float | None:
    """Log of the share of a state, or of two mixed ones; None where the element cannot take it."""
    if state in table:
        return table[state]
    positive = [known for known in table if known > 0]
    if not can_mix(symbol) or not min(positive, default=0) < state < max(positive, default=0):
        return None
    return MIXED_PENALTY + max(table[known] for known in positive)


def can_mix(symbol: str) -> bool:
    """Whether an element takes two positive states at once."""
    return is_metal(symbol) and sum(state > 0 for state in states_of(symbol)) > 1


def _order_holds(symbols: list[str], states: list[float]) -> bool:
    cations = [electronegativity(symbol) for symbol, state in zip(symbols, states, strict=True) if state > 0]
    anions = [electronegativity(symbol) for symbol, state in zip(symbols, states, strict=True) if state < 0]
    return not cations or not anions or max(cations) <= min(anions) + ELECTRONEGATIVITY_SLACK


@cache
def states_of(symbol: str) -> dict[float, float]:
    """Oxidation states but zero, with the log of their share among the element's ions; empty for noble gases."""
    found = {state: n for state, n in _occurrences().get(symbol, {}).items() if state}
    total = sum(found.values())
    if total:
        return {state: math.log(n / total) for state, n in found.items() if n >= RAREST * total}
    from pymatgen.core import Element

    element = Element(symbol)
    states = element.common_oxidation_states or element.oxidation_states
    return {float(state): -math.log(len(states)) for state in states if state}


@cache
def _occurrences() -> dict[str, dict[float, int]]:
    from pymatgen.analysis.bond_valence import PRIOR_PROB

    found: dict[str, dict[float, int]] = {}
    for species, n in PRIOR_PROB.items():
        found.setdefault(species.symbol, {})[float(species.oxi_state)] = int(n)
    return found


@cache
def electronegativity(symbol: str) -> float:
    """Pauling's, with the fallback of `check_charges`."""
    from pymatgen.core import Element

    # `Element.X` warns where there is none; the table itself does not.
    value = Element(symbol).data.get("X")
    return float(value or FALLBACK_ELECTRONEGATIVITY)


@cache
def is_metal(symbol: str) -> bool:
    """Whether its alloys need no charges: Ge, Sb and Po count."""
    from pymatgen.core import Element

    return bool(Element(symbol).is_metal) or symbol in METALLOIDS_AS_METALS
