"""What a campaign's configuration holds: one frozen section for each table of the file."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    field_validator,
    model_validator,
)

from matsearch.llm.base import find_backend
from matsearch.llm.prices import Prices
from matsearch.propose.settings import SpaceSettings, composition_elements
from matsearch.records import HULL, Direction
from matsearch.relaxation.settings import RelaxSettings
from matsearch.search.settings import SearchSettings

CONSTRAINT = re.compile(r"\s*(<=|>=)\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", re.ASCII)


class Section(BaseModel):
    """A table of the campaign file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LLMSettings(Section):
    """`[llm]`, or one of several `[[llm]]`: who proposes.

    Attributes:
        backend: A built-in name, an entry point, or `"pkg.module:Attr"`.
        model: What the backend calls the model; a local path is taken from the campaign file's folder.
        weight: Share of the proposals, against the other `[[llm]]`.
        options: What the backend's `Options` declare.
        prices: For the cost ledger.
    """

    backend: str = "embedded"
    model: str = "default"
    weight: PositiveFloat = 1.0
    options: dict[str, Any] = Field(default_factory=dict)
    prices: Prices | None = None

    @property
    def title(self) -> str:
        """The model, or the backend that has but one."""
        return self.backend if self.model == "default" else self.model


class PotentialSettings(Section):
    """`[potential]`: what relaxes and scores."""

    name: str = "chgnet-0.3.0"
    device: str = "auto"


class ReferenceSettings(Section):
    """`[reference]`: the known phases that span the hull and that are not new.

    Attributes:
        path: Folder of a reference made by `matsearch reference build`; the shipped one if left out.
        extra: Files, folders or patterns such as `"my_phases/*.cif"`: phases that are added, relaxed by the campaign.
        hide: Ids and formulas of phases that the search must not know of, to see whether it finds them: a list, or a
            file with one a line. A report still says what matches them.
    """

    path: str | None = Field(default=None, min_length=1)
    extra: list[Annotated[str, Field(min_length=1)]] = []
    hide: list[Annotated[str, Field(min_length=1)]] | Annotated[str, Field(min_length=1)] = []


class ObjectiveSettings(Section):
    """One of `[[objectives]]`.

    A constraint keeps candidates that break it from objectives of a higher cost class, and so from the population;
    known phases that would start the search, too.

    Attributes:
        name: A built-in name, an entry point, or `"pkg.module:Attr"`.
        direction: `min` or `max`; if left out, the objective's own, or none where there is a target or a constraint.
        weight: For `search.selection = "weighted"`.
        target: The value that is looked for, in the objective's unit, instead of the least or the most.
        tolerance: Off the target by no more than this is as good as on it.
        timeout: Seconds that one crystal may take; what takes longer is rejected with the reason `timeout`.
        options: What the objective's class takes beside the context.
        constraint: `"<= 0.1"` or `">= 200"`: what keeps it is preferred to what does not, whatever the other values.
        reference: The worst value that still counts in the hypervolume, in the objective's unit; if left out, 0.1 for
            `energy_above_hull`, and the worst of the known phases that the search starts from for others.
    """

    name: str
    direction: Direction | None = None
    weight: PositiveFloat = 1.0
    target: float | None = None
    tolerance: NonNegativeFloat = 0.0
    constraint: str | None = None
    timeout: PositiveFloat | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    reference: float | None = None

    @field_validator("constraint")
    @classmethod
    def _limit(cls, constraint: str | None) -> str | None:
        if constraint is None:
            return None
        if not CONSTRAINT.fullmatch(constraint):
            raise ValueError('write "<= 0.1" or ">= 200"')
        if not math.isfinite(float(constraint.strip()[2:])):
            raise ValueError('needs a finite number, such as "<= 0.1"')
        return constraint

    @model_validator(mode="after")
    def _one_wish(self) -> ObjectiveSettings:
        if self.target is not None and self.direction is not None:
            raise ValueError(f"{self.name}: give a target or a direction, not both")
        if self.target is None and self.tolerance:
            raise ValueError(f"{self.name}: a tolerance needs a target")
        if self.reference is not None and self.direction is None and self.target is None and self.constraint:
            raise ValueError(f"{self.name}: a reference needs a direction or a target beside the constraint")
        return self


class BudgetSettings(Section):
    """`[budget]`: the campaign stops when the first of these is spent; None has no limit."""

    proposals: NonNegativeInt | None = None
    relaxations: NonNegativeInt | None = None
    tokens: NonNegativeInt | None = None
    usd: NonNegativeFloat | None = None
    hours: NonNegativeFloat | None = None


class CampaignConfig(Section):
    """A whole campaign file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: Literal["generate", "predict", "optimise"] = "generate"
    preset: str = "matsearch"
    seed: NonNegativeInt = 0
    space: SpaceSettings = SpaceSettings()
    llm: list[LLMSettings] = Field(default=[LLMSettings()], min_length=1)
    search: SearchSettings = SearchSettings()
    potential: PotentialSettings = PotentialSettings()
    relax: RelaxSettings = RelaxSettings()
    reference: ReferenceSettings = ReferenceSettings()
    objectives: list[ObjectiveSettings] = Field(default=[ObjectiveSettings(name=HULL, direction="min")], min_length=1)
    budget: BudgetSettings = BudgetSettings()

    @model_validator(mode="after")
    def _consistent(self) -> CampaignConfig:
        names = [objective.name for objective in self.objectives]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"[[objectives]] names {', '.join(sorted(twice))} twice")
        if self.task == "predict" and self.space.composition is None:
            raise ValueError('task = "predict" needs [space] composition, such as "KZnF3"')
        asked = {**self.search.operators, **self.search.twins}
        if asked.get("predict") and self.space.composition is None:
            raise ValueError('[search] operator "predict" needs [space] composition, such as "KZnF3"')
        if self.space.composition is not None and self.space.elements is not None:
            missing = composition_elements(self.space.composition) - set(self.space.elements)
            if missing:
                raise ValueError(f"[space] composition needs {', '.join(sorted(missing))}, which elements leaves out")
        if self.budget.usd is not None and any(llm.prices is None and llm.backend != "operators" for llm in self.llm):
            raise ValueError("[budget] usd needs prices = { prompt = ..., completion = ... } in every [llm]")
        return self

    def plain(self) -> dict[str, Any]:
        """As JSON-like data; `CampaignConfig.model_validate` reads it back."""
        return self.model_dump(mode="json")


def changeable_options(config: CampaignConfig) -> set[str]:
    """Keys, as `differences` writes them, that change no result: how the LLMs are reached, where the reference lies.

    A run holds the hash of its known phases against those that it finds there.
    """
    return {"reference.path"} | {
        f"llm.{number}.options.{option}"
        for number, llm in enumerate(config.llm)
        for option in find_backend(llm.backend).connection_options
    }
