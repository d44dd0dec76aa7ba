"""The evolutionary search as ask and tell.

The engine holds no clock and no thread. Its state is a function of its seed and of the outcomes told so far, in the
order the proposals were asked for; so a resumed campaign replays them and stands where it stood.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Sequence

from matsearch.records import AddStatus, Failed, Individual, Outcome, Parents, Rejection
from matsearch.search.families import chemical_family
from matsearch.search.memory import Memory, symbols_of
from matsearch.search.population import Population
from matsearch.search.selection import Goal
from matsearch.search.settings import SearchSettings

N_PARENTS = {"explore": 0, "repair": 0, "prototype": 2} | dict.fromkeys(
    ("substitute", "distort", "vacancy", "wyckoff", "mutate"), 1
)
"""Parents that an operator takes of its group; those not named take all."""


class Engine:
    """Asks for children of chosen parents, and learns what became of them.

    Args:
        settings: The `[search]` section.
        goals: What is minimised or maximised; every individual is scored for all of them.
        seeds: Scored known phases: the first population.
        seed: Seed of all choices.
        target: Reduced formula that is looked for; crystals of it come before all others. None: none.
    """

    def __init__(
        self,
        settings: SearchSettings,
        goals: Sequence[Goal],
        seeds: Sequence[Individual],
        seed: int,
        target: str | None = None,
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._target = target
        self._population = Population(
            settings.population, goals, settings.selection, unique_formula=settings.unique_formula, target=target
        )
        self._population.add(seeds)
        self._memory = Memory(settings.memory)
        self._groups: list[tuple[Individual, ...]] = []
        self._operators: deque[str] = deque()  # of the proposals that wait for their outcomes
        self.n_asked = 0
        self.n_told = 0

    @property
    def members(self) -> list[Individual]:
        """The population, best first."""
        return list(self._population.members)

    def horizon(self, proposal: int) -> int:
        """How many proposals must have been told when this one is asked for: no fewer, and no more."""
        if self._settings.lag is None:
            per_generation = self._settings.proposals_per_generation
            return proposal // per_generation * per_generation
        return max(0, proposal - self._settings.lag)

    def ask(self, n: int = 1) -> list[Parents]:
        """The next n proposals.

        Raises:
            RuntimeError: Outcomes that the proposal may see are missing, or too many have been told.
        """
        return [self._ask_one() for _ in range(n)]

    def _ask_one(self) -> Parents:
        proposal, settings = self.n_asked, self._settings
        if proposal >= settings.n_proposals:
            raise RuntimeError(f"all {settings.n_proposals} proposals were asked for; tell their outcomes")
        if self.n_told != self.horizon(proposal):
            raise RuntimeError(
                f"proposal {proposal} is to see the outcomes of {self.horizon(proposal)} proposals, "
                f"{self.n_told} were told"
            )
        self.n_asked += 1
        # A stream of its own for each proposal: what one draws does not move the next.
        rng = random.Random(f"{self._seed}/proposal/{proposal}")
        operator = self._choose_operator(rng)
        group = self._parents(proposal, rng)
        failed = self._memory.take_failed() if operator == "repair" else None
        if operator == "repair" and failed is None:
            operator = "mutate"  # nothing waits for repair
        members = self._members(operator, group, rng)
        self._operators.append(operator)
        return Parents(
            proposal=proposal,
            generation=proposal // settings.proposals_per_generation + 1,
            operator=operator,
            members=members,
            n_children=settings.children_per_prompt,
            lessons=self._memory.recall(self._families(members, failed)),
            failed=failed,
        )

    def _choose_operator(self, rng: random.Random) -> str:
        """One of the operators, by weight."""
        operators = sorted(self._settings.operators.items())
        (operator,) = rng.choices([name for name, _ in operators], weights=[weight for _, weight in operators])
        return operator

    def _members(self, operator: str, group: tuple[Individual, ...], rng: random.Random) -> tuple[Individual, ...]:
        """Those that the operator shows: of the proposal's group, or of the best for what is to improve on them."""
        if operator == "optimise":
            size = max(self._settings.parents_per_prompt, 2)  # a trade-off is between two
            best = self._population.members[: 2 * size]
            drawn = {individual.candidate.id for individual in rng.sample(best, min(size, len(best)))}
            return tuple(individual for individual in best if individual.candidate.id in drawn)
        return group[: N_PARENTS.get(operator, len(group))]

    def _families(self, members: Sequence[Individual], failed: Failed | None) -> set[str] | None:
        """The chemical families that a proposal is about; None for any."""
        if self._target is not None:
            return {chemical_family(re.findall("[A-Z][a-z]?", self._target))}
        shown = [member.relaxed for member in members] + ([] if failed is None else [failed.structure])
        return {chemical_family(symbols_of(structure)) for structure in shown} or None

    def _parents(self, proposal: int, rng: random.Random) -> tuple[Individual, ...]:
        """The group of parents of a proposal.

        Within a generation, consecutive groups of the shuffled population, as MatLLMSearch v1 does; with a lag, a
        draw from the population as it stands.
        """
        size = self._settings.parents_per_prompt
        members = self._population.members
        if not members:
            return ()
        if self._settings.lag is not None:
            return tuple(rng.sample(members, min(size, len(members))))
        position = proposal % self._settings.proposals_per_generation
        if position == 0:
            shuffled = list(members)
            random.Random(f"{self._seed}/shuffle/{proposal}").shuffle(shuffled)
            # A population smaller than its capacity goes round until every prompt has its parents.
            rounds = -(-size * self._settings.proposals_per_generation // len(shuffled))
            line = shuffled * rounds
            self._groups = [tuple(line[i : i + size]) for i in range(0, len(line), size)]
        # Going round can show an individual its own copy.
        return tuple({individual.candidate.id: individual for individual in self._groups[position]}.values())

    def tell(self, outcomes: Sequence[Outcome]) -> list[AddStatus]:
        """The outcomes of the oldest proposal that has none yet; one status each, in order.

        Raises:
            RuntimeError: No proposal is waiting for outcomes.
        """
        if self.n_told >= self.n_asked:
            raise RuntimeError("tell was called before ask: no proposal is waiting for outcomes")
        self.n_told += 1
        operator = self._operators.popleft()
        for outcome in outcomes:
            self._memory.learn(outcome, operator)
        newcomers = [outcome.result for outcome in outcomes if isinstance(outcome.result, Individual)]
        added = iter(self._population.add(newcomers))
        return [AddStatus.REJECTED if isinstance(outcome.result, Rejection) else next(added) for outcome in outcomes]
