"""A leaderboard: tables of searches that were judged alike, with ranks.

One line is one setup (campaign, preset, LLM and all other settings) over its seeds. Lines stand in one table where
their protocols agree in everything; numbers of different tables are not comparable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from matsearch.errors import ConfigError
from matsearch.metrics.comparison import interval
from matsearch.metrics.discovery import wilson_interval
from matsearch.metrics.hypervolume import hypervolume
from matsearch.records import Direction
from matsearch.report.leaderboard_records import PublishedTable, RunRecord, Spent, within
from matsearch.search import Goal

Kind = Literal["share", "count", "number"]
CONFIRMED = "confirmed:"
"""Before a judge's name: the share of the proposed that is MSUN by the search and metastable by that judge."""
WEIGHTS = {"msun": 1.0, "sun": 0.5}
"""What counts where the user says nothing."""
N_POINTS = 120
"""Of a curve, at most."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One column that is ranked.

    Attributes:
        key: As in `--weights`.
        title: For people.
        better: Which way.
        kind: How it is written.
        meaning: What it is, with its denominator.
    """

    key: str
    title: str
    better: Direction
    kind: Kind
    meaning: str


METRICS = (
    Metric("msun", "MSUN", "max", "share", "metastable, unique and novel crystals, of all proposed"),
    Metric("sun", "SUN", "max", "share", "the same, stable"),
    Metric(
        "msun_at_equal_cost", "MSUN at equal cost", "max", "count", "found by the time the first run of the table ended"
    ),
    Metric("prototypes", "prototypes", "max", "count", "distinct ones among the MSUN crystals, at equal cost"),
    Metric("memorised", "memorised", "min", "share", "known phases not among the parents shown, of the valid"),
    Metric("hypervolume", "hypervolume", "max", "number", "of the metastable, at equal cost, one reference point"),
    Metric("relaxations_per_msun", "relaxations per MSUN", "min", "number", "those of seeds not counted"),
    Metric("tokens_per_msun", "tokens per MSUN", "min", "number", "read and written by LLMs"),
    Metric("usd_per_msun", "USD per MSUN", "min", "number", "by the prices that the campaign states"),
    Metric("seconds_per_msun", "seconds per MSUN", "min", "number", "wall time, comparable on one machine alone"),
)


@dataclass(frozen=True)
class Value:
    """A metric of a line: mean over seeds, and its 95 % interval.

    Attributes:
        mean: Over seeds.
        low: Student's interval over seeds; of a single run Wilson's for a share, else None.
        high: As `low`.
    """

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass
class Line:
    """One setup over its seeds.

    Attributes:
        runs: One a seed.
        values: By the metric's key; a metric that not all runs have is missing.
        ranks: By the metric's key, from 1; equal means share a rank.
        score: Weighted mean of the shares of the other lines that it stands before, 1 before all; None without any.
    """

    runs: list[RunRecord]
    values: dict[str, Value] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    score: float | None = None

    @property
    def title(self) -> str:
        """Its preset."""
        return self.runs[0].preset

    @property
    def llms(self) -> str:
        """Who proposed."""
        return ", ".join(self.runs[0].llms)

    @property
    def seeds(self) -> list[int]:
        """Of its runs."""
        return [run.seed for run in self.runs]

    def mean(self, get: Callable[[RunRecord], float | None]) -> float | None:
        """Of something that every run has; None where one lacks it."""
        values = [get(run) for run in self.runs]
        return None if None in values else float(np.mean([one for one in values if one is not None]))

    def curve(self) -> tuple[list[int], list[float]]:
        """Relaxations, and the mean number of MSUN crystals found by then, until the first of its runs ended."""
        last = min(run.cost.relaxations for run in self.runs)
        steps = sorted({round(one) for one in np.linspace(0, last, min(last + 1, N_POINTS))})
        return steps, [
            float(np.mean([_found(run.msun_at, (run.counts.proposed, one)) for run in self.runs])) for one in steps
        ]


@dataclass
class Table:
    """Lines whose protocols agree.

    Attributes:
        hash: Of the protocol.
        metrics: That some line has.
        lines: Best score first.
        proposals: At which MSUN crystals are counted at equal cost.
        relaxations: The same; whichever a run reaches first.
        reference_point: Of the hypervolumes: goal to the worst value that counts.
    """

    hash: str
    metrics: list[Metric]
    lines: list[Line]
    proposals: int
    relaxations: int
    reference_point: dict[str, float]

    @property
    def protocol(self) -> str:
        """In words."""
        return protocol_line(self.lines[0].runs[0])


@dataclass
class PublishedLine:
    """A published method with its ranks."""

    method: str
    values: dict[str, float]
    ranks: dict[str, int]


@dataclass
class Board:
    """All tables.

    Attributes:
        tables: Of our kind of runs, the one with most runs first.
        published: Tables of others, with their lines, best by the first figure first.
        weights: That the scores were made with.
    """

    tables: list[Table]
    published: list[tuple[PublishedTable, list[PublishedLine]]]
    weights: dict[str, float]


def make_board(
    runs: Sequence[RunRecord], published: Sequence[PublishedTable] = (), weights: Mapping[str, float] | None = None
) -> Board:
    """Sort runs into tables and lines, and rank them.

    Args:
        runs: Records, one a setup and seed.
        published: Figures of others.
        weights: Metric to weight of its ranks in the score; `WEIGHTS` if None.

    Raises:
        ConfigError: A weight is of an unknown metric, negative, or all are 0.
    """
    chosen = dict(WEIGHTS if weights is None else weights)
    by_protocol: dict[str, list[RunRecord]] = {}
    for run in runs:
        by_protocol.setdefault(run.protocol.hash, []).append(run)
    known = {metric.key for metric in _metrics(runs)}
    if unknown := [key for key in chosen if key not in known]:
        raise ConfigError(f"unknown metric {unknown[0]!r} in the weights; known: {', '.join(sorted(known))}")
    if any(not math.isfinite(one) or one < 0 for one in chosen.values()) or not any(chosen.values()):
        raise ConfigError(f"weights are numbers from 0 on, at least one above it; got {chosen}")
    tables = [_table(key, own, chosen) for key, own in by_protocol.items()]
    tables.sort(key=lambda one: (-sum(len(line.runs) for line in one.lines), one.hash))
    return Board(tables, [(one, _published_lines(one)) for one in published], chosen)


def protocol_line(run: RunRecord) -> str:
    """A protocol in words."""
    it = run.protocol
    relaxation = dict(it.relaxation)
    words = [
        f"judge {it.judge}: metastable E_hull ≤ {it.metastable:g}, stable ≤ {it.stable:g}, "
        f"not believed below {it.quarantine:g} eV/atom",
        f"hull and known phases {it.reference[:8] or 'none'}"
        + (f", {it.hidden} hidden from the search" if it.hidden else ""),
        f"same crystal by {it.matcher}",
        "relaxed with "
        + str(relaxation.pop("optimizer", "fire")).upper().replace("LBFGS", "L-BFGS")
        + f" to {relaxation.pop('force_tol', '?')} eV/Å in at most {relaxation.pop('max_steps', '?')} steps"
        + "".join(f", {key} {value}" for key, value in sorted(relaxation.items()) if value),
        f"task {it.task}: " + ", ".join(f"{key} {_plainly(value)}" for key, value in sorted(it.space.items())),
        "goals " + "; ".join(_goal_words(goal.model_dump()) for goal in it.goals),
    ]
    return ". ".join(one[0].upper() + one[1:] for one in words) + "."


def _plainly(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _goal_words(goal: Mapping[str, Any]) -> str:
    words = [goal["name"]]
    words += [goal["direction"]] if goal["direction"] else []
    words += [f"target {goal['target']:g} ± {goal['tolerance']:g}"] if goal["target"] is not None else []
    return " ".join(words + ([goal["constraint"]] if goal["constraint"] else []))


def _metrics(runs: Sequence[RunRecord]) -> list[Metric]:
    judges = dict.fromkeys(one.judge for run in runs for one in run.judges)
    return list(METRICS) + [
        Metric(
            f"{CONFIRMED}{judge}",
            f"confirmed by {judge}",
            "max",
            "share",
            "MSUN share times the share of the MSUN crystals heard that the judge calls metastable, too",
        )
        for judge in judges
    ]


def _table(key: str, runs: list[RunRecord], weights: Mapping[str, float]) -> Table:
    setups: dict[str, list[RunRecord]] = {}
    for run in runs:
        setups.setdefault(run.setup, []).append(run)
    lines = [Line(sorted(own, key=lambda one: one.seed)) for own in setups.values()]
    proposals = min(run.counts.proposed for run in runs)
    relaxations = min(run.cost.relaxations for run in runs)
    point, limit = _reference_point(runs), (proposals, relaxations)
    metrics = _metrics(runs)
    for line in lines:
        for metric in metrics:
            values = [_of_run(run, metric.key, limit, point) for run in line.runs]
            present = [one for one in values if one is not None]
            if len(present) == len(values):
                line.values[metric.key] = _value(line, metric, present)
    metrics = [metric for metric in metrics if any(metric.key in line.values for line in lines)]
    for metric in metrics:
        have = {number: line.values[metric.key].mean for number, line in enumerate(lines) if metric.key in line.values}
        for number, rank in _ranks(have, metric.better).items():
            lines[number].ranks[metric.key] = rank
    counted = {one: weights[one] for one in weights if any(one == metric.key for metric in metrics)}
    total = sum(counted.values())
    for line in lines:
        if total:
            line.score = sum(w * _points(line.ranks.get(one), len(lines)) for one, w in counted.items()) / total
    lines.sort(
        key=lambda line: (-(line.score or 0.0), line.ranks.get("msun", len(lines)), line.title, line.runs[0].setup)
    )
    return Table(key, metrics, lines, proposals, relaxations, point)


def _of_run(run: RunRecord, key: str, limit: Spent, point: Mapping[str, float]) -> float | None:
    """A metric of one run; None where it has none."""
    at_equal_cost: dict[str, Callable[[], float | None]] = {
        "hypervolume": lambda: _volume(run, limit, point),
        "msun_at_equal_cost": lambda: _found(run.msun_at, limit),
        "prototypes": lambda: _found(run.prototypes_at, limit),
    }
    return at_equal_cost[key]() if key in at_equal_cost else _of_whole_run(run, key)


def _of_whole_run(run: RunRecord, key: str) -> float | None:
    counts, cost = run.counts, run.cost
    if key.startswith(CONFIRMED):
        said = next((one for one in run.judges if one.judge == key.removeprefix(CONFIRMED)), None)
        if said is None or not counts.proposed:
            return None
        return counts.msun / counts.proposed * said.metastable / said.heard if said.heard else None
    if key in ("msun", "sun"):
        return getattr(counts, key) / counts.proposed if counts.proposed else None
    if key == "memorised":
        return counts.memorised / counts.valid if counts.valid else None
    spent = {"relaxations": cost.relaxations, "tokens": cost.tokens, "usd": cost.usd, "seconds": 3600.0 * cost.hours}
    amount = spent[key.removesuffix("_per_msun")]
    return None if amount is None or not counts.msun else amount / counts.msun


def _value(line: Line, metric: Metric, values: Sequence[float]) -> Value:
    mean, half = interval(values)
    if half is not None:
        return Value(mean, mean - half, mean + half)
    run = line.runs[0]
    if metric.key in ("msun", "sun"):
        return Value(mean, *run.wilson(metric.key))
    if metric.key == "memorised":
        return Value(mean, *run.wilson("memorised", "valid"))
    if metric.key.startswith(CONFIRMED):
        said = next(one for one in run.judges if one.judge == metric.key.removeprefix(CONFIRMED))
        share = run.counts.msun / run.counts.proposed
        low, high = wilson_interval(said.metastable, said.heard)
        return Value(mean, share * low, share * high)  # that of the judge's sample alone
    return Value(mean)


def _ranks(values: Mapping[int, float], better: Direction) -> dict[int, int]:
    """From 1; equal values share a rank, and the next one is that much later."""
    sign = -1.0 if better == "max" else 1.0
    losses = {key: sign * float(f"{value:.12g}") for key, value in values.items()}
    return {key: 1 + sum(other < own for other in losses.values()) for key, own in losses.items()}


def _points(rank: int | None, n_lines: int) -> float:
    """Share of the other lines that one stands before or beside; what has no value stands before none."""
    if rank is None:
        return 0.0
    return 1.0 if n_lines == 1 else (n_lines - rank) / (n_lines - 1)


def _goals(run: RunRecord) -> list[Goal]:
    goals = [Goal(one.name, one.direction, target=one.target, tolerance=one.tolerance) for one in run.protocol.goals]
    return [goal for goal in goals if goal.is_sought]


def _reference_point(runs: Sequence[RunRecord]) -> dict[str, float]:
    """The worst of the runs' own reference points; empty where a run lacks one for a goal."""
    goals = _goals(runs[0])
    if len(goals) < 2 or any(goal.name not in run.reference_point for run in runs for goal in goals):
        return {}
    return {goal.name: max((run.reference_point[goal.name] for run in runs), key=goal.loss) for goal in goals}


def _found(at: Sequence[Spent], limit: Spent) -> int:
    return sum(within(one, limit) for one in at)


def _volume(run: RunRecord, limit: Spent, point: Mapping[str, float]) -> float | None:
    if not point:
        return None
    goals = _goals(run)
    front = [one.values for one in run.front if within(one.at, limit)]
    losses = [[goal.loss(one) for goal, one in zip(goals, row, strict=True)] for row in front]
    reference = [goal.loss(point[goal.name]) for goal in goals]
    return hypervolume(np.array(losses, dtype=float), ["min"] * len(goals), reference)


def _published_lines(table: PublishedTable) -> list[PublishedLine]:
    lines = [PublishedLine(row.method, row.values, {}) for row in table.rows]
    for one in table.figures:
        have = {number: line.values[one.key] for number, line in enumerate(lines) if one.key in line.values}
        for number, rank in _ranks(have, one.better).items():
            lines[number].ranks[one.key] = rank
    first = table.figures[0].key
    return sorted(lines, key=lambda line: (line.ranks.get(first, len(lines) + 1), line.method))
