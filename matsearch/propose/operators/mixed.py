"""Operators that pick one of the others: the twins of the prompts that leave open what is to be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matsearch.propose.operators.base import Operator, pick, refusal
from matsearch.propose.operators.crossover import Crossover
from matsearch.propose.operators.distortion import Distort
from matsearch.propose.operators.explore import Explore
from matsearch.propose.operators.prototype import Prototype
from matsearch.propose.operators.records import Change, Parent
from matsearch.propose.operators.substitution import Substitute
from matsearch.propose.operators.vacancy import Vacancy
from matsearch.propose.operators.wyckoff_edit import WyckoffEdit
from matsearch.records import Rejection

if TYPE_CHECKING:
    import numpy as np

    from matsearch.propose.operators.pool import Pool
    from matsearch.propose.space import Space


class _OneOf(Operator):
    """Each attempt is one of another operator, by weight, among those that have parents enough."""

    weights: Mapping[type[Operator], float]

    def __init__(self, pool: Pool | None = None) -> None:
        super().__init__(pool)
        self._operators = {kind.name: kind(pool) for kind in self.weights}
        self._shares = {kind.name: weight for kind, weight in self.weights.items()}

    def attempt(self, parents: Sequence[Parent], space: Space, rng: np.random.Generator) -> Change | Rejection:
        """One attempt of one of them."""
        able = {
            name: share for name, share in self._shares.items() if self._operators[name].min_parents <= len(parents)
        }
        name = pick(rng, able)
        if name is None:
            return refusal("no_parents", f"{self.name} takes at least {self.min_parents} parents")
        return self._operators[name].attempt(parents, space, rng)


class Mutate(_OneOf):
    """Changes one parent in one respect: half the time its elements, else its atoms, symmetry or structure type."""

    name = "mutate"
    weights = {Substitute: 0.5, Vacancy: 0.2, Distort: 0.1, WyckoffEdit: 0.1, Prototype: 0.1}  # noqa: RUF012


class Optimise(_OneOf):
    """Follows up what is good already: its structure with other elements, its elements in other structures."""

    name = "optimise"
    weights = {Substitute: 0.5, Prototype: 0.2, Vacancy: 0.15, Crossover: 0.15}  # noqa: RUF012


class Predict(_OneOf):
    """Crystals of a given composition: known structure types, random ones, and whatever parents lead to."""

    name = "predict"
    min_parents = 0
    needs_composition = True
    needs_balance = False
    weights = {  # noqa: RUF012
        Prototype: 0.4,
        Explore: 0.2,
        Substitute: 0.2,
        WyckoffEdit: 0.1,
        Distort: 0.05,
        Crossover: 0.05,
    }
