"""Records of a leaderboard: what one finished run found, by which protocol and at what cost, checked against a schema.

A record holds numbers and names only: no crystal, no reply, no path of the machine it was made on.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, ValidationError, model_validator

from matsearch.errors import InputError
from matsearch.metrics.discovery import wilson_interval
from matsearch.records import Direction, content_hash
from matsearch.report.wording import plain

FORMAT: Literal[1] = 1
Name = Annotated[str, Field(min_length=1, max_length=300)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Spent = tuple[Count, Count]
"""Proposals and relaxations."""


class Part(BaseModel):
    """A part of a record: frozen, without unknown keys, without inf or NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SoughtGoal(Part):
    """One of the campaign's goals, as `matsearch.search.Goal` has it."""

    name: Name
    direction: Direction | None
    target: float | None = None
    tolerance: NonNegativeFloat = 0.0
    constraint: str | None = None


class Protocol(Part):
    """By what a run's crystals were judged, and what was looked for: runs are comparable where all of it agrees.

    Attributes:
        judge: Potential that relaxed and judged them.
        metastable: Largest energy above the hull, eV/atom.
        stable: The same of stable ones.
        quarantine: Below this an energy is not believed.
        matcher: What calls two crystals the same.
        relaxation: Settings of the relaxation that were set.
        reference: Hash of the known phases and their energies.
        task: Of the campaign.
        space: Settings of the space of crystals that were set.
        hidden: How many known phases were hidden from the search.
        goals: In the order of the campaign.
    """

    judge: Name
    metastable: float
    stable: float
    quarantine: float
    matcher: Name
    relaxation: dict[str, bool | int | float | str]
    reference: str
    task: Name
    space: dict[str, Any]
    hidden: Count = 0
    goals: tuple[SoughtGoal, ...]

    @property
    def hash(self) -> str:
        """Eight hexadecimal digits that are the same for the same protocol."""
        return content_hash(self.model_dump(mode="json"))[:8]


class Counts(Part):
    """How far the proposed candidates came, known seeds not among them."""

    proposed: Count
    parsed: Count
    valid: Count
    new: Count
    relaxed: Count
    scored: Count
    quarantined: Count
    metastable: Count
    stable: Count
    msun: Count
    sun: Count
    memorised: Count

    @model_validator(mode="after")
    def _nested(self) -> Counts:
        for chain in (
            ("proposed", "parsed", "valid", "new", "relaxed", "scored", "metastable", "msun", "sun"),
            ("metastable", "stable", "sun"),
            ("valid", "memorised"),
        ):
            for larger, smaller in pairwise(chain):
                if getattr(self, smaller) > getattr(self, larger):
                    raise ValueError(f"more {smaller} ({getattr(self, smaller)}) than {larger}")
        return self


class Cost(Part):
    """What the run spent.

    Attributes:
        replies: Of the LLMs and of operators in their place.
        tokens: Read and written, as far as backends reported them; None where none did.
        usd: None where a model has no prices.
        relaxations: Of proposed candidates; those of known seeds are not counted.
        hours: Wall time.
    """

    replies: Count
    tokens: Count | None
    usd: NonNegativeFloat | None
    relaxations: Count
    hours: NonNegativeFloat


class JudgeSays(Part):
    """What another potential says of the run's MSUN crystals that it has heard.

    Attributes:
        judge: Its name.
        how: How it judged.
        heard: Those it has elements for.
        metastable: By its own hull.
        stable: By its own hull.
        refused: Without an energy.
        outside: With elements that it knows nothing of; not among those heard.
    """

    judge: Name
    how: str
    heard: Count
    metastable: Count
    stable: Count
    refused: Count
    outside: Count

    @model_validator(mode="after")
    def _nested(self) -> JudgeSays:
        if self.metastable + self.refused > self.heard or self.stable > self.metastable:
            raise ValueError(f"{self.judge}: more verdicts than crystals heard")
        return self


class FrontPoint(Part):
    """A crystal that was not dominated when it was found.

    Attributes:
        at: Proposals and relaxations spent by then.
        values: Of the sought goals, in their order; energies above the hull from 0.
    """

    at: Spent
    values: tuple[float, ...]


class RunRecord(Part):
    """One run.

    Attributes:
        campaign: Its name.
        preset: Its preset.
        setup: Hash of all settings but the seed: runs that share it are seeds of one line.
        seed: Its seed.
        llms: Who proposed.
        created: When the run began, ISO 8601.
        matsearch_version: That made it.
        protocol: By what it was judged.
        counts: Its funnel and finds.
        msun_at: Proposals and relaxations spent when each MSUN crystal was found, in order.
        prototypes_at: The same of each first MSUN crystal of a prototype.
        front: The metastable crystals that no earlier one dominated, for hypervolumes; empty with fewer than two
            sought goals.
        reference_point: That the campaign states for its hypervolume.
        cost: What it spent.
        judges: What other potentials say.
    """

    campaign: Name
    preset: Name
    setup: Name
    seed: NonNegativeInt
    llms: tuple[Name, ...]
    created: str
    matsearch_version: str
    protocol: Protocol
    counts: Counts
    msun_at: tuple[Spent, ...]
    prototypes_at: tuple[Spent, ...]
    front: tuple[FrontPoint, ...] = ()
    reference_point: dict[str, float] = {}
    cost: Cost
    judges: tuple[JudgeSays, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> RunRecord:
        if len(self.msun_at) != self.counts.msun:
            raise ValueError(f"msun_at has {len(self.msun_at)} entries for {self.counts.msun} MSUN crystals")
        if len(self.prototypes_at) > len(self.msun_at):
            raise ValueError("more prototypes than MSUN crystals")
        if any(heard.heard > self.counts.msun for heard in self.judges):
            raise ValueError("a judge has heard more crystals than there are")
        return self

    def wilson(self, name: str, of: str = "proposed") -> tuple[float, float]:
        """95 % interval of the share that a count has."""
        return wilson_interval(getattr(self.counts, name), getattr(self.counts, of))


class Figure(Part):
    """What is given of every method of a published table."""

    key: Name
    title: Name
    unit: str = ""
    better: Direction = "max"


class PublishedRow(Part):
    """One method, with figures by key."""

    method: Name
    values: dict[str, float]


class PublishedTable(Part):
    """Figures that others published, all by one protocol.

    Attributes:
        title: What was measured.
        judge: Who judged.
        protocol: In words: thresholds, reference, denominator.
        source: Where the figures stand.
        figures: Columns.
        rows: Methods.
    """

    title: Name
    judge: Name
    protocol: Name
    source: Name
    figures: tuple[Figure, ...]
    rows: tuple[PublishedRow, ...]

    @model_validator(mode="after")
    def _known_figures(self) -> PublishedTable:
        known = {one.key for one in self.figures}
        for row in self.rows:
            if unknown := sorted(row.values.keys() - known):
                raise ValueError(
                    f"{row.method} has the figure {unknown[0]!r}; the table has {', '.join(sorted(known))}"
                )
        return self


class Records(Part):
    """A file of records."""

    format: Literal[1] = FORMAT
    runs: tuple[RunRecord, ...] = ()
    published: tuple[PublishedTable, ...] = ()


def within(at: Spent, limit: Spent) -> bool:
    """Whether something was found by the time either of two limits was reached."""
    return at[0] <= limit[0] and at[1] <= limit[1]


def read_records(path: Path) -> Records:
    """Records from a JSON file, checked.

    Raises:
        InputError: It cannot be read, or does not keep the schema; says where.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise InputError(f"cannot read the records {path}: {err}") from err
    return _parsed(text, str(path))


def published_records() -> tuple[PublishedTable, ...]:
    """The published figures that come with the package."""
    place = resources.files("matsearch.report").joinpath("assets", "leaderboard", "published.json")
    return _parsed(place.read_text(encoding="utf-8"), "published.json").published


def write_records(path: Path, runs: Iterable[RunRecord]) -> None:
    """Write runs as a file that `read_records` reads; one line a run, so that changes can be reviewed."""
    lines = ",\n".join(one.model_dump_json() for one in runs)
    path.write_text(f'{{"format": {FORMAT}, "runs": [\n{lines}\n]}}\n', encoding="utf-8")


def _parsed(text: str, source: str) -> Records:
    try:
        # Strict: "7" is no number and true no count.
        return Records.model_validate_json(text, strict=True)
    except ValidationError as err:
        problem, *others = err.errors()
        if problem["type"] == "json_invalid":
            why = problem["ctx"]["error"]
            raise InputError(f"{source} is no JSON: {why}; give a run folder or a records.json") from err
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        message = problem["msg"].removeprefix("Value error, ")
        # What came is told where it is one value: a part as a whole would be no line to read.
        came = problem["input"]
        got = f", got {came!r}"[:80] if isinstance(came, bool | int | float | str | None) else ""
        more = f" (and {len(others)} more)" if others else ""
        raise InputError(plain(f"{where} in {source}: {message}{got}{more}", 400)) from err
