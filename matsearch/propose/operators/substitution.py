"""Ion exchange: other elements on the sites of a known crystal.

Ions are exchanged with the probability that data mining of the ICSD gave (Hautier, Fischer, Ehrlacher, Jain and Ceder,
Inorg. Chem. 50, 656 (2011); the table of pair weights is pymatgen's, MIT licence). It knows 230 ions, few of them
anions besides O, S and the halides. For other ions, and in alloys, nearness on Pettifor's Mendeleev numbers decides.

What is known of the structure type counts as well: where phases near the hull have an element in the same place, an
exchange for it succeeds more often, and where such phases lie high, less often.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from matsearch.propose.operators.base import Operator, count, pick, refusal, symbols_of
from matsearch.propose.operators.compositions import reduced_counts
from matsearch.propose.operators.oxidation import electronegativity, guess_states, is_balanced, states_of
from matsearch.propose.operators.records import Change, Parent
from matsearch.propose.operators.volumes import ELEMENTS, with_elements
from matsearch.propose.space import target_counts
from matsearch.records import Rejection

if TYPE_CHECKING:
    import numpy as np
    from pymatgen.core import Structure

    from matsearch.propose.space import Space

MENDELEEV_RANGE = 4.0
"""Mendeleev numbers over which the likelihood of an exchange falls to 1/e; neighbours in a group are 1 to 3 apart."""

CONFIDENCE = 4.0
"""Power of the success rate of an element in a structure type, by which an exchange is weighted."""

Ion = tuple[str, float]
Experience = Callable[[str, str], float]
"""Of an element of the crystal and one in its place: a factor of the likelihood of that exchange."""


class Substitute(Operator):
    """Exchanges one element, or two, for others by their likelihood; the cell takes the volume of the new ions.

    Likely is what often takes the same place in crystals, and what is known to do so in this structure type. Elements
    outside the space are exchanged first. With a given composition, its elements take the sites of those of a parent
    with the same stoichiometry; a parent that has the composition itself gets two elements swapped.
    """

    name = "substitute"
    changes_formula = True
    two_at_once = 0.1
    """Share of attempts that exchange two elements, where the crystal has two; they succeed less often than one."""

    def attempt(self, parents: Sequence[Parent], space: Space, rng: np.random.Generator) -> Change | Rejection:
        """One exchange in one of the parents."""
        parent = parents[int(rng.integers(len(parents)))]
        counts = count(symbols_of(parent.structure))
        if space.composition is not None:
            renamed: Mapping[str, str] | Rejection = assign(counts, target_counts(space), rng)
        else:
            renamed = self._exchange(counts, space, rng, self._experience(parent, counts))
        if isinstance(renamed, Rejection):
            return renamed
        return Change(with_elements(parent.structure, renamed), describe(renamed), (parent.id,))

    def _experience(self, parent: Parent, counts: Mapping[str, int]) -> Experience:
        """Weight of each element in the place of each element of a parent, from known phases of its structure type."""
        from matsearch.crystal.prototype import prototype_label

        label = prototype_label(parent.structure)
        amounts = reduced_counts(counts)
        return lambda old, new: self.pool.success(label, new, amounts[old]) ** CONFIDENCE

    def _exchange(
        self, counts: Mapping[str, int], space: Space, rng: np.random.Generator, experience: Experience
    ) -> Mapping[str, str] | Rejection:
        outside = [symbol for symbol in counts if space.elements is not None and symbol not in space.elements]
        inside = [symbol for symbol in counts if symbol not in outside]
        n_wanted = 2 if len(counts) > 1 and rng.random() < self.two_at_once else 1
        n_more = max(0, n_wanted - len(outside))
        chosen = outside + [inside[index] for index in rng.permutation(len(inside))[:n_more].tolist()]
        states = guess_states(counts)
        renamed: dict[str, str] = {}
        missing = 0.0  # charge that exchanges have left to be made up for
        for place, symbol in enumerate(chosen):
            taken = (counts.keys() - set(chosen)) | set(renamed.values())
            is_last = place == len(chosen) - 1
            if states is None:
                weights = {
                    new: _closeness(symbol, new) * experience(symbol, new) for new in _allowed(space, taken, symbol)
                }
                new = pick(rng, weights)
            else:
                wanted = states[symbol] + missing / counts[symbol] if is_last else None
                ions = exchanges((symbol, states[symbol]), _allowed(space, taken, symbol), wanted)
                weights = {
                    f"{other} {state}": weight * experience(symbol, other) for (other, state), weight in ions.items()
                }
                name = pick(rng, weights)
                new = name.split()[0] if name is not None else None
                if name is not None:
                    missing += counts[symbol] * (states[symbol] - float(name.split()[1]))
            if new is None:
                return refusal("no_exchange", f"no ion for {symbol} in {_spaced(counts)} that keeps it neutral")
            renamed[symbol] = new
        made = {renamed.get(symbol, symbol): n for symbol, n in counts.items()}
        if states is not None and not is_balanced(made):
            return refusal("charge_unbalanced", f"{describe(renamed)} in {_spaced(counts)} leaves a charge")
        return renamed


class Analogue(Substitute):
    """The same with parents drawn from known phases near the hull, if none are given."""

    name = "analogue"
    min_parents = 0

    def attempt(self, parents: Sequence[Parent], space: Space, rng: np.random.Generator) -> Change | Rejection:
        """One exchange in one known phase."""
        parents = parents or self.pool.draw_parents(space, rng, 1)
        if not parents:
            return refusal("no_parents", "no known phase is near enough to the space")
        return super().attempt(parents, space, rng)


class IonExchange(Analogue):
    """The same by the likelihood of the ions alone: the published baseline, which learns nothing from anything."""

    name = "ion_exchange"
    two_at_once = 0.3

    def _experience(self, _parent: Parent, _counts: Mapping[str, int]) -> Experience:
        return lambda _old, _new: 1.0


def _allowed(space: Space, taken: Collection[str], symbol: str) -> list[str]:
    pool = ELEMENTS if space.elements is None else sorted(space.elements)
    return [new for new in pool if new != symbol and new not in taken]


def exchanges(ion: Ion, elements: Sequence[str], state: float | None = None) -> dict[Ion, float]:
    """How likely an ion is to be exchanged for each ion of the elements given; shares that need not sum to one.

    Args:
        ion: Element and oxidation state, which may be the mean of two.
        elements: That may take its place.
        state: The oxidation state that the new ion must have; None for any of the same sign.
    """
    symbol, old = ion
    table = pair_weights()
    known = table.get((symbol, float(round(old))))
    found: dict[Ion, float] = {}
    for new in elements:
        for possible in _possible_states(new, state):
            if possible * old <= 0:
                continue
            if known is not None:
                # An ion that the table lacks is as likely as the rarest that it holds, at best.
                weight = known.get((new, float(round(possible))), min(known.values()) * _closeness(symbol, new))
            else:
                # Like charges, else the exchange has to be made up for by another one.
                weight = _closeness(symbol, new) * math.exp(-2 * abs(possible - old))
            found[new, possible] = weight
    return found


def _possible_states(symbol: str, state: float | None) -> list[float]:
    known = list(states_of(symbol))
    if state is None:
        return known
    positive = [one for one in known if one > 0]
    is_mean = state not in known and len(positive) > 1 and min(positive) < state < max(positive)
    return [state] if state in known or is_mean else []


@cache
def pair_weights() -> dict[Ion, dict[Ion, float]]:
    """Ion to the ions that were seen in its place, with P(new | old) = exp(lambda) / sum of exp(lambda)."""
    from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability

    model = SubstitutionProbability()
    ions = sorted(model.species)
    weights: dict[Ion, dict[Ion, float]] = {}
    for one in ions:
        row = {(new.symbol, float(new.oxi_state)): math.exp(model.get_lambda(one, new)) for new in ions}
        total = sum(row.values())
        weights[one.symbol, float(one.oxi_state)] = {ion: value / total for ion, value in row.items()}
    return weights


@cache
def _closeness(first: str, second: str) -> float:
    """exp(-|difference of Mendeleev numbers| / range); 0 for elements beyond Lr, which have none."""
    from pymatgen.core import Element

    # `Element.mendeleev_no` warns where there is none; the table itself does not.
    one, other = (Element(symbol).data.get("Mendeleev no") for symbol in (first, second))
    return 0.0 if one is None or other is None else math.exp(-abs(one - other) / MENDELEEV_RANGE)


def assign(
    counts: Mapping[str, int], target: Mapping[str, int], rng: np.random.Generator
) -> Mapping[str, str] | Rejection:
    """Which element of a composition takes the place of which, by likeness of electronegativities.

    Args:
        counts: Atoms of each element of the crystal.
        target: Of the composition, up to a factor.
        rng: Chooses where there is a choice.
    """
    import numpy as np

    n, wanted = sum(counts.values()), sum(target.values())
    if sorted(one * wanted for one in counts.values()) != sorted(one * n for one in target.values()):
        return refusal("wrong_stoichiometry", f"{_spaced(counts)} has not the stoichiometry of {_spaced(target)}")
    old = list(counts)
    ways = [
        way
        for way in itertools.permutations(target)
        if all(counts[a] * wanted == target[b] * n for a, b in zip(old, way, strict=True))
        and any(a != b for a, b in zip(old, way, strict=True))
    ]
    if not ways:
        return refusal("no_exchange", f"no two elements of {_spaced(counts)} can change places")
    # Only the order of electronegativities counts, so that a fluoride is as good a start as a telluride.
    rank_old = {symbol: rank for rank, symbol in enumerate(sorted(old, key=electronegativity))}
    rank_new = {symbol: rank for rank, symbol in enumerate(sorted(target, key=electronegativity))}
    costs = np.array([sum(abs(rank_old[a] - rank_new[b]) for a, b in zip(old, way, strict=True)) for way in ways])
    shares = np.exp(-(costs - costs.min()).astype(float))
    way = ways[int(rng.choice(len(ways), p=shares / shares.sum()))]
    return {a: b for a, b in zip(old, way, strict=True) if a != b}


def with_target(structure: Structure, space: Space, rng: np.random.Generator) -> Structure | Rejection:
    """A parent as it is, or with the elements of a given composition on its sites if it has others.

    A rejection where its stoichiometry is another one.
    """
    if space.composition is None:
        return structure
    counts, target = count(symbols_of(structure)), target_counts(space)
    n, wanted = sum(counts.values()), sum(target.values())
    if all(counts.get(symbol, 0) * wanted == k * n for symbol, k in target.items()):
        return structure
    renamed = assign(counts, target, rng)
    return renamed if isinstance(renamed, Rejection) else with_elements(structure, renamed)


def describe(renamed: Mapping[str, str]) -> str:
    """`Sr for Ca, Zr for Ti`."""
    return ", ".join(f"{new} for {old}" for old, new in renamed.items())


def _spaced(counts: Mapping[str, int]) -> str:
    return " ".join(f"{symbol}{n}" for symbol, n in counts.items())
