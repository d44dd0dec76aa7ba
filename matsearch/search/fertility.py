"""Which kinds of parents have children near the hull more often than others."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable

from matsearch.records import Kind

Trait = str | int
"""A chemical family, a crystal system, or a number of elements."""

PRIOR = 10.0
"""Expected finds that the prior of a trait is worth."""
BELIEVED: dict[Trait, float] = {
    "triclinic": 1.25, "monoclinic": 1.15, "orthorhombic": 1.08, "tetragonal": 0.88, "hexagonal": 0.88, "cubic": 0.9,
    2: 0.93, 3: 0.96, 4: 1.15, 5: 1.1,
}  # fmt: skip
"""Factors of traits before anything is known, 1 for all others: those of 900 ion exchanges of phases near the hull,
relaxed with CHGNet 0.3.0. What has few symmetries finds its minimum; what has many is held on a saddle by them."""
GREED = 4.0
"""Power of a kind's factor by which parents are weighted: kinds differ by factors of two at most."""


class Fertility:
    """A factor for every kind of parent: what its children found, to what was expected of the operators that made them.

    Finds are a Poisson process whose rate is the product of three factors, one for each trait of a kind: its chemical
    family, its crystal system, its number of elements. There are too many kinds to learn of each by itself. A factor
    has a Gamma prior and is drawn from its posterior (Thompson sampling), so that a kind of which little is
    known gets its chance.
    """

    def __init__(self) -> None:
        self._finds: defaultdict[Trait, float] = defaultdict(float)
        self._expected: defaultdict[Trait, float] = defaultdict(float)

    def learn(self, kinds: Iterable[Kind], finds: float, expected: float) -> None:
        """What came of a proposal.

        Args:
            kinds: Of its parents.
            finds: New crystals near the hull among its children.
            expected: How many its operator finds, whatever the parents.
        """
        for trait in {trait for kind in kinds for trait in kind}:
            self._finds[trait] += finds
            self._expected[trait] += expected

    def draw(self, kinds: Iterable[Kind], rng: random.Random) -> dict[Kind, float]:
        """One weight for each kind, in order, so that a seed repeats them."""
        factors: dict[Trait, float] = {}
        weights: dict[Kind, float] = {}
        for kind in dict.fromkeys(kinds):
            weights[kind] = 1.0
            for trait in kind:
                if trait not in factors:
                    finds, expected = self._finds.get(trait, 0.0), self._expected.get(trait, 0.0)
                    factors[trait] = (
                        rng.gammavariate(finds + PRIOR * BELIEVED.get(trait, 1.0), 1.0 / (expected + PRIOR)) ** GREED
                    )
                weights[kind] *= factors[trait]
        return weights
