"""Which operator is asked next: a bandit that shares the budget by what each has found for its cost."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Generic, TypeVar

Arm = TypeVar("Arm")

PRIOR_COST = 20.0
"""Units of cost that the prior is worth: after so much of its own, an arm counts by itself as much as by its weight."""
MEMORY = 400.0
"""Units of cost after which what was found counts 1/e: operators that brought much early may have run dry."""


class Bandit(Generic[Arm]):
    """Thompson sampling of rates of finds.

    Finds come at a rate of their own from each arm, as a Poisson process in its cost. The rate has a Gamma prior whose
    mean is the arm's weight times what all arms together have found for theirs. For each choice one rate is drawn from
    each posterior and the arm with the largest is taken: so arms are tried as often as they may yet be the best.

    Source: D. J. Russo et al., Found. Trends Mach. Learn. 11, 1 (2018).

    Args:
        weights: Of each arm, above 0: how much it is believed to find, in proportion to the others; and, as long as
            nothing has been found, how often it is taken.
    """

    def __init__(self, weights: Mapping[Arm, float]) -> None:
        self._weights = {arm: weight for arm, weight in weights.items() if weight > 0}
        if not self._weights:
            raise ValueError("a bandit needs an arm with a weight above 0")
        self._finds = dict.fromkeys(self._weights, 0.0)
        self._costs = dict.fromkeys(self._weights, 0.0)

    def choose(self, rng: random.Random) -> Arm:
        """The arm to take; arms are drawn for in their given order, so that a seed repeats the choice."""
        arms, weights = list(self._weights), list(self._weights.values())
        if not any(self._finds.values()):
            # With nothing found yet nothing tells the arms apart.
            return rng.choices(arms, weights)[0]
        return max(arms, key=lambda arm: rng.gammavariate(self._shape(arm), 1.0 / (self._costs[arm] + PRIOR_COST)))

    def expected(self, arm: Arm) -> float:
        """Finds that an arm is expected to bring for a unit of cost: the mean of its posterior."""
        return self._shape(arm) / (self._costs[arm] + PRIOR_COST)

    def _shape(self, arm: Arm) -> float:
        """Of the Gamma posterior."""
        by_weight = sum(weight * self._costs[other] for other, weight in self._weights.items())
        # Before anything is known the weights are taken for the rates themselves.
        scale = (sum(self._finds.values()) + PRIOR_COST) / (by_weight + PRIOR_COST)
        return self._finds[arm] + scale * self._weights[arm] * PRIOR_COST

    def learn(self, arm: Arm, finds: float, cost: float) -> None:
        """What an arm has brought.

        Args:
            arm: One of those given.
            finds: New crystals near the hull.
            cost: In the unit that arms share: relaxations, and what else is paid for in their terms.
        """
        fade = math.exp(-cost / MEMORY)
        for one in self._weights:
            self._finds[one] *= fade
            self._costs[one] *= fade
        if arm in self._weights:
            self._finds[arm] += finds
            self._costs[arm] += cost

    def rates(self) -> dict[Arm, float | None]:
        """Finds per unit of cost of each arm, of late; None for one that cost nothing yet."""
        return {arm: self._finds[arm] / cost if cost else None for arm, cost in self._costs.items()}
