"""The evolutionary search as ask and tell.

The engine holds no clock and no thread. Its state is a function of its seed and of the outcomes told so far, in the
order the proposals were asked for; so a resumed campaign replays them and stands where it stood.
"""

from __future__ import annotations

import random
import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matsearch.records import AddStatus, Failed, Individual, Kind, Outcome, Parents, Rejection, Stage
from matsearch.search.archive import Archive, cell_of, draw_parents
from matsearch.search.bandit import Bandit
from matsearch.search.families import chemical_family
from matsearch.search.fertility import Fertility
from matsearch.search.islands import Islands, Pool
from matsearch.search.memory import NEAR_HULL, Memory, symbols_of
from matsearch.search.operators import KINDS_OF_KNOWN, n_parents
from matsearch.search.population import Population
from matsearch.search.selection import Goal
from matsearch.search.settings import SearchSettings
from matsearch.search.tried import Tried

PROPOSAL_COST = 0.1
"""What a proposed crystal costs beside its relaxation, in relaxations."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A proposal that waits for its outcomes."""

    proposal: int
    operator: str
    llm: int
    parents: tuple[int, ...]
    kinds: frozenset[Kind]


class Engine:
    """Asks for children of chosen parents, and learns what became of them.

    Args:
        settings: The `[search]` section.
        goals: What is minimised or maximised; every individual is scored for all of them.
        seeds: Scored known phases: the first population.
        seed: Seed of all choices.
        target: Reduced formula that is looked for; crystals of it come before all others. None: none.
        arms: Weight of each (operator, number of the LLM or of what stands in its place). None: the operators of the
            settings, and one LLM.
    """

    def __init__(
        self,
        settings: SearchSettings,
        goals: Sequence[Goal],
        seeds: Sequence[Individual],
        seed: int,
        target: str | None = None,
        arms: Mapping[tuple[str, int], float] | None = None,
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._target = target
        self._islands = Islands(
            [self._pool(goals) for _ in range(settings.islands)], goals, settings.selection, settings.migration
        )
        self._islands.settle(seeds)
        self._seeds = list(seeds)
        self._memory = Memory(settings.memory)
        weights = arms or {(operator, 0): weight for operator, weight in settings.operators.items()}
        self._arms = {arm: weights[arm] for arm in sorted(weights) if weights[arm] > 0}
        self._bandit: Bandit[tuple[str, int]] = Bandit(self._arms)
        self._fertility = Fertility()
        self._kinds: dict[int, Kind] = {}
        self._groups: list[tuple[Individual, ...]] = []
        self._waiting: deque[_Asked] = deque()
        self._n_children: Counter[int] = Counter()
        self._tried = Tried(target)
        self.n_asked = 0
        self.n_told = 0

    def _pool(self, goals: Sequence[Goal]) -> Pool:
        """What one island holds."""
        settings = self._settings
        capacity = -(-settings.population // settings.islands)
        if settings.archive and self._target is None:
            return Archive(capacity, goals, settings.selection, cap=settings.chemistry_cap)
        return Population(
            capacity, goals, settings.selection, unique_formula=settings.unique_formula, target=self._target
        )

    @property
    def members(self) -> list[Individual]:
        """The population, best first."""
        return list(self._islands.members)

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
        operator, llm = self._choose_operator(rng)
        group = self._parents(proposal, rng)
        failed = self._memory.take_failed() if operator == "repair" else None
        if operator == "repair" and failed is None:
            operator = "mutate"  # nothing waits for repair
        members = self._members(operator, group, rng)
        ids = tuple(member.candidate.id for member in members)
        kind, kinds = None, frozenset[Kind]()
        if settings.grouping == "weighted":  # nothing else asks which kinds are fertile
            kind = self._known_kind(rng) if operator in KINDS_OF_KNOWN else None
            kinds = frozenset(map(self._kind, members) if kind is None else {kind})
        asked = _Asked(proposal, operator, llm, ids, kinds)
        self._waiting.append(asked)
        return Parents(
            proposal=proposal,
            generation=proposal // settings.proposals_per_generation + 1,
            operator=operator,
            members=members,
            n_children=settings.children_per_prompt,
            lessons=self._memory.recall(self._families(members, failed)),
            failed=failed,
            llm=llm,
            kind=kind,
            tried=self._tried.formulas(members),
            tried_crystals=self._tried.crystals,
        )

    def _choose_operator(self, rng: random.Random) -> tuple[str, int]:
        """One of the operators and one of the LLMs: by weight, or by what they have brought."""
        if self._settings.bandit:
            return self._bandit.choose(rng)
        (arm,) = rng.choices(list(self._arms), list(self._arms.values()))
        return arm

    def _members(self, operator: str, group: tuple[Individual, ...], rng: random.Random) -> tuple[Individual, ...]:
        """Those that the operator shows: of the proposal's group, or of the best for what is to improve on them."""
        if operator == "optimise":
            size = max(self._settings.parents_per_prompt, 2)  # a trade-off is between two
            best = self._islands.members[: 2 * size]
            drawn = {individual.candidate.id for individual in rng.sample(best, min(size, len(best)))}
            return tuple(individual for individual in best if individual.candidate.id in drawn)
        return group[: n_parents(operator, len(group))]

    def _families(self, members: Sequence[Individual], failed: Failed | None) -> set[str] | None:
        """The chemical families that a proposal is about; None for any."""
        if self._target is not None:
            return {chemical_family(re.findall("[A-Z][a-z]?", self._target))}
        shown = [member.relaxed for member in members] + ([] if failed is None else [failed.structure])
        return {chemical_family(symbols_of(structure)) for structure in shown} or None

    def _kind(self, individual: Individual) -> Kind:
        """Looking for symmetry costs a millisecond, so once for each."""
        number = individual.candidate.id
        if number not in self._kinds:
            self._kinds[number] = cell_of(individual)
        return self._kinds[number]

    def _known_kind(self, rng: random.Random) -> Kind | None:
        """A kind of known phases, by its share of those that the search began with, and by what it has found."""
        shares = Counter(self._kind(seed) for seed in self._seeds)
        if not shares:
            return None
        kinds = sorted(shares)
        drawn = self._fertility.draw(kinds, rng)
        (kind,) = rng.choices(kinds, [shares[one] * drawn[one] for one in kinds])
        return kind

    def _parents(self, proposal: int, rng: random.Random) -> tuple[Individual, ...]:
        """The group of parents of a proposal.

        Within a generation, consecutive groups of the population, shuffled as in MatLLMSearch v1 or ranked as in v3;
        with a lag, or by weight, a draw from the proposal's island as it stands.
        """
        size, grouping = self._settings.parents_per_prompt, self._settings.grouping
        members = self._islands.of(proposal)
        if not members:
            return ()
        if grouping == "weighted":
            kinds = {one.candidate.id: self._kind(one) for one in members}
            drawn = self._fertility.draw(kinds.values(), rng)
            return draw_parents(members, size, self._n_children, rng, {one: drawn[kind] for one, kind in kinds.items()})
        if self._settings.lag is not None:
            return tuple(rng.sample(members, min(size, len(members))))
        position = proposal % self._settings.proposals_per_generation
        if position == 0:
            order = list(members)
            if grouping == "shuffled":
                random.Random(f"{self._seed}/shuffle/{proposal}").shuffle(order)
            # A population smaller than its capacity goes round until every prompt has its parents.
            rounds = -(-size * self._settings.proposals_per_generation // len(order))
            line = order * rounds
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
        asked = self._waiting.popleft()
        for outcome in outcomes:
            self._memory.learn(outcome, asked.operator)
        finds, cost, arm = sum(map(_is_find, outcomes)), sum(map(_cost, outcomes)), (asked.operator, asked.llm)
        if arm in self._arms:
            self._fertility.learn(asked.kinds, finds, cost * self._bandit.expected(arm))
            self._bandit.learn(arm, finds, cost)
        self._n_children.update(dict.fromkeys(asked.parents, len(outcomes)))
        self._tried.learn(outcomes, asked.parents)
        newcomers = [outcome.result for outcome in outcomes if isinstance(outcome.result, Individual)]
        added = iter(self._islands.add(asked.proposal, newcomers))
        return [AddStatus.REJECTED if isinstance(outcome.result, Rejection) else next(added) for outcome in outcomes]


def _is_find(outcome: Outcome) -> bool:
    """Whether it is what a search is for: a new crystal near the hull, or a new one where there is no hull."""
    if not isinstance(outcome.result, Individual) or not outcome.new:
        return False
    energy = outcome.result.energy_above_hull
    return energy is None or energy <= NEAR_HULL


def _cost(outcome: Outcome) -> float:
    """In relaxations."""
    turned_away = isinstance(outcome.result, Rejection) and outcome.result.stage in (
        Stage.PARSE, Stage.CHECK, Stage.NOVELTY,
    )  # fmt: skip
    return PROPOSAL_COST + (0.0 if turned_away else 1.0)
