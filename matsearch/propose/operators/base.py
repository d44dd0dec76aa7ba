"""What an operator is: parents in, one new crystal or the reason why there is none out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matsearch.crystal.charges import check_charges
from matsearch.crystal.checks import check_structure
from matsearch.crystal.identity import KnownStructures
from matsearch.propose.operators.pool import Pool, shipped_pool
from matsearch.propose.operators.records import Change, Parent, Proposal
from matsearch.propose.space import most_atoms, target_counts
from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    import numpy as np
    from pymatgen.core import Structure

    from matsearch.propose.space import Space

N_TRIES = 10
"""Attempts at one proposal, each with other random choices, before it is given up."""


class Operator(ABC):
    """One way to make a crystal, from parents or from nothing.

    Attributes:
        name: As reports show it.
        min_parents: Fewer than these are not enough.
        takes_broken: Whether parents may be such as `check_structure` refuses.
        needs_composition: Whether it works only in a space with a given composition.
        needs_balance: Whether the crystals it makes should be neutral where an attempt can bring that about.
        changes_formula: Whether it is to find other formulas, so that one which was tried is not worth another try.
    """

    name: str
    min_parents: int = 1
    takes_broken: bool = False
    needs_composition: bool = False
    needs_balance: bool = True
    changes_formula: bool = False

    def __init__(self, pool: Pool | None = None) -> None:
        self._pool = pool

    @property
    def pool(self) -> Pool:
        """Known phases to draw on: those given, or those that come with the package."""
        if self._pool is None:
            self._pool = shipped_pool()
        return self._pool

    @abstractmethod
    def attempt(self, parents: Sequence[Parent], space: Space, rng: np.random.Generator) -> Change | Rejection:
        """One try. What it makes is checked by `propose`, so it need not be valid.

        Args:
            parents: At least `min_parents`, valid unless `takes_broken`.
            space: Which crystals are wanted.
            rng: All randomness comes from here.
        """

    def propose(
        self, parents: Sequence[Parent], space: Space, rng: np.random.Generator, tried: Collection[str] = ()
    ) -> Proposal | Rejection:
        """A valid crystal within the space, or why there is none: the last of `N_TRIES` reasons.

        What is known already, or was `tried` (reduced formulas), is not made again, save in a prediction. One that
        `check_charges` finds unbalanced is kept only if no attempt was better.
        """
        found = self.proposals(parents, space, rng, tried)
        return found if isinstance(found, Rejection) else found[0]

    def proposals(
        self,
        parents: Sequence[Parent],
        space: Space,
        rng: np.random.Generator,
        tried: Collection[str] = (),
        n: int = 1,
        met: Sequence[KnownStructures[Any]] = (),
    ) -> list[Proposal] | Rejection:
        """Up to n crystals to choose from, of at most `N_TRIES` attempts each; or why there is none.

        As `propose`; of an operator that is to find other formulas, each of another one. With a given composition no
        crystal twice, and none of those that were `met`.
        """
        sound = [one for one in parents if self.takes_broken or check_structure(one.structure) is None]
        if len(sound) < self.min_parents:
            detail = f"{self.name} takes at least {self.min_parents} valid parents, got {len(sound)}"
            return Rejection(Stage.CHECK, "no_parents", detail)
        if self.needs_composition and space.composition is None:
            return Rejection(Stage.CHECK, "no_composition", f"{self.name} takes a space with a composition")
        formulas, made = set(tried), KnownStructures[int]()
        earlier = [made, *met]
        found: list[Proposal] = []
        for number in range(n):
            one = self._one(sound, space, rng, formulas, earlier)
            if isinstance(one, Rejection):
                return found or one
            found.append(one)
            formulas.add(one.structure.composition.reduced_formula)
            made.add(number, one.structure)
        return found

    def _one(
        self,
        parents: Sequence[Parent],
        space: Space,
        rng: np.random.Generator,
        tried: Collection[str],
        earlier: Sequence[KnownStructures[Any]],
    ) -> Proposal | Rejection:
        unbalanced: Proposal | None = None
        refused = Rejection(Stage.CHECK, "no_attempt")
        for number in range(1, N_TRIES + 1):
            change = self.attempt(parents, space, rng)
            if isinstance(change, Rejection):
                refused = change
                continue
            made = Proposal(change.structure, self.name, change.used, change.text, number)
            if (found := check_structure(made.structure) or check_against(made.structure, space)) is not None:
                refused = found
            elif self.changes_formula and made.structure.composition.reduced_formula in tried:
                refused = Rejection(Stage.NOVELTY, "tried", f"{made.change} gives what was tried")
            elif space.composition is not None and any(one.match_any(made.structure) is not None for one in earlier):
                refused = Rejection(Stage.NOVELTY, "tried", f"{made.change} gives a crystal that was tried")
            elif space.composition is None and (phase := self.pool.match(made.structure)) is not None:
                refused = Rejection(Stage.NOVELTY, "known", f"{made.change} gives {phase}")
            elif self.needs_balance and check_charges(made.structure) is not None:
                unbalanced = unbalanced or made
            else:
                return made
        return unbalanced or refused


def refusal(reason: str, detail: str) -> Rejection:
    """Why an attempt made nothing."""
    return Rejection(Stage.CHECK, reason, detail)


def check_against(structure: Structure, space: Space) -> Rejection | None:
    """Why a crystal lies outside the space; a given composition takes whole formula units."""
    found = space.check(structure)
    if found is None and (limit := most_atoms(space)) is not None and len(structure) > limit:
        return refusal("too_many_atoms", f"{len(structure)} atoms in the cell; at most {limit}")
    if found is None and space.composition is not None and len(structure) % sum(target_counts(space).values()):
        return refusal("wrong_composition", f"{len(structure)} atoms are no whole number of {space.composition}")
    return found


def symbols_of(structure: Structure) -> list[str]:
    """The element of each site, charges left out."""
    return [site.specie.symbol for site in structure]


def count(symbols: Sequence[str]) -> dict[str, int]:
    """Atoms of each element, in the order in which they first appear."""
    return {symbol: symbols.count(symbol) for symbol in dict.fromkeys(symbols)}


def pick(rng: np.random.Generator, weights: Mapping[str, float]) -> str | None:
    """One of the keys by weight; None where all weights are zero."""
    import numpy as np

    names = [name for name, weight in weights.items() if weight > 0]
    if not names:
        return None
    shares = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]
