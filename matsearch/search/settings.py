"""Settings of the search, as they stand under `[search]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from matsearch.plugins import entry_point_names
from matsearch.search.operators import OPERATORS


def _known_operator(name: str) -> str:
    if name not in OPERATORS and ":" not in name and name not in (others := entry_point_names("matsearch.operators")):
        known = ", ".join([*OPERATORS, *others])
        raise ValueError(f'known operators: {known}, or a path "pkg.module:Attr" to one without an LLM')
    return name


Operator = Annotated[str, AfterValidator(_known_operator)]


class SearchSettings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How parents are chosen and how many children they get.

    Attributes:
        generations: How often the population is renewed.
        population: How many individuals survive a generation, and may be parents.
        parents_per_prompt: How many parents a crossover prompt shows.
        children_per_prompt: How many crystals a prompt is asked for.
        seeds: How many known phases start the search; as many as `population` if not given.
        operators: Weight of each operator that LLMs are asked for; each is the name of a prompt template, save
            `analogue`, `ion_exchange` and `random_prototype`, which start from known phases, and of your own
            (`"pkg.module:Attr"` or an entry point `matsearch.operators`): only the backend `operators` knows these.
        twins: Weight of each operator that is done beside the LLMs without one. If not given, those of the preset
            where the embedded model is the only LLM, else none.
        choices: Crystals that an operator without an LLM makes for one proposal, whose single points are compared: the
            lowest above the hull is proposed. 1, no hull, or a potential that is not batched: the first is, unseen.
        prompts: A folder of prompt templates that go before those of the same name in the package, or `matllmsearch`
            for those of its presets. None: the package's.
        bandit: Whether proposals are shared among (operator, LLM) by the new crystals near the hull that each has
            found for its cost, the weights being what is believed of them at first; else by weight alone.
        selection: `pareto` (non-dominated sorting with crowding), `weighted` (one weighted sum of objectives) or
            `lexicographic` (the first objective decides, among equals the second). Constraints go before.
        grouping: How parents come together: `shuffled` or `ranked` through the population within a generation, or
            `weighted`: drawn, the better, the less used, and the more its kind has found the likelier.
        archive: Whether the population keeps kinds apart (chemical family, crystal system, number of elements), so
            that each keeps its best.
        chemistry_cap: In the archive, the largest share of one chemical system, and of the f-block as a whole.
        islands: Populations that evolve apart.
        migration: Proposals after which the best of each island is copied to the next.
        unique_formula: Keep only the best individual of each reduced formula in the population.
        reject_known: Turn away what matches a known phase or an earlier candidate before it is relaxed.
        energy_floor: eV/atom; a candidate further below the hull is quarantined. None for no floor.
        second_opinion: A second potential with a hull of its own, such as `chgnet-r2scan`. A quarantined candidate that
            this one calls metastable is released, and counts as if it lay on the floor. None: none is released.
        show: Whether prompts show parents as `relaxed` or as `proposed`.
        show_scores: Whether prompts show the parents' energies and objectives.
        memory: Most lines of a prompt about earlier crystals of the chemical family: what worked, what failed. 0: none.
        lag: Proposal k sees the outcomes of proposals below k - lag. None: those of the generations before its own.
    """

    generations: PositiveInt = 5
    population: PositiveInt = 50
    parents_per_prompt: PositiveInt = 2
    children_per_prompt: PositiveInt = 2
    seeds: PositiveInt | None = None
    operators: dict[Operator, NonNegativeFloat] = Field(default={"crossover": 0.5, "mutate": 0.4, "explore": 0.1})
    twins: dict[Operator, NonNegativeFloat] = Field(default={})
    choices: PositiveInt = 1
    prompts: str | None = Field(default=None, min_length=1)
    bandit: bool = False
    selection: Literal["pareto", "weighted", "lexicographic"] = "pareto"
    grouping: Literal["shuffled", "ranked", "weighted"] = "shuffled"
    archive: bool = False
    chemistry_cap: float = Field(default=1.0, gt=0, le=1)
    islands: PositiveInt = 1
    migration: PositiveInt = 40
    unique_formula: bool = False
    reject_known: bool = True
    energy_floor: float | None = -0.1
    second_opinion: str | None = Field(default=None, min_length=1)
    show: Literal["relaxed", "proposed"] = "relaxed"
    show_scores: bool = True
    memory: NonNegativeInt = 6
    lag: PositiveInt | None = None

    @field_validator("operators")
    @classmethod
    def _some_weight(cls, operators: dict[Operator, float]) -> dict[Operator, float]:
        if sum(operators.values()) <= 0:
            raise ValueError("at least one operator needs a weight above 0")
        return operators

    @model_validator(mode="after")
    def _consistent(self) -> SearchSettings:
        if self.islands > 1 and self.grouping != "weighted":
            raise ValueError('islands above 1 need grouping = "weighted": their proposals take turns')
        if self.second_opinion is not None and self.energy_floor is None:
            raise ValueError("second_opinion needs an energy_floor: it releases what lies below that")
        if self.islands > self.population:
            raise ValueError(f"islands = {self.islands} share a population of {self.population}; give each a member")
        return self

    @property
    def proposals_per_generation(self) -> int:
        """Prompts a generation: each individual of the population is a parent once."""
        return -(-self.population // self.parents_per_prompt)

    @property
    def n_proposals(self) -> int:
        """Prompts of the whole campaign."""
        return self.generations * self.proposals_per_generation

    @property
    def n_seeds(self) -> int:
        """Known phases that start the search."""
        return self.seeds or self.population
