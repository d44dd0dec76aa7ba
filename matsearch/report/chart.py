"""Line charts of a campaign's progress, as the points of inline SVG paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matsearch.metrics.discovery import METASTABLE, QUARANTINE, verdicts
from matsearch.records import Stage

if TYPE_CHECKING:
    import pandas as pd

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 44  # margins that hold ticks and labels

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One step line: a CSS class, a label, and an SVG path."""

    style: str
    label: str
    path: str


@dataclass(frozen=True)
class Panel:
    """One chart, in the coordinates of its SVG."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def progress_panels(frame: pd.DataFrame) -> list[Panel]:
    """Best energy above the hull so far, and metastable new crystals so far, against relaxations.

    Seeds are not counted. Empty where nothing was relaxed.
    """
    verdict = verdicts(frame)
    proposed = frame.loc[verdict.index]
    relaxed = proposed["n_steps"].notna() | proposed["stage"].isin([Stage.RELAX, Stage.SCORE, Stage.SCORED])
    verdict, proposed = verdict[relaxed], proposed[relaxed]
    if proposed.empty:
        return []
    plausible = verdict["scored"] & (proposed["energy_above_hull"] >= QUARANTINE)
    found = plausible & verdict["unique"] & verdict["novel"]
    energies = proposed["energy_above_hull"].to_numpy()
    of_new, of_all = (_lowest_so_far(energies, mask.to_numpy()) for mask in (found, plausible))
    n_new = [(0.0, 0.0)]
    for x, hit in enumerate(verdict["msun"], start=1):
        if hit:
            n_new.append((float(x), n_new[-1][1] + 1))
    n = len(proposed)
    panels = []
    if of_all:
        lines = [("all", "any scored crystal", of_all), ("new", "unique and novel", of_new)]
        panels.append(_panel("Lowest energy above the hull so far", "eV/atom", lines, n, include_zero=True))
    title = f"Unique, novel and metastable (≤ {METASTABLE:g} eV/atom) so far"
    panels.append(_panel(title, "crystals", [("new", "", n_new)], n, include_zero=True, whole=True))
    return panels


def _lowest_so_far(energies: Sequence[float], counted: Sequence[bool]) -> Points:
    points: Points = []
    for x, (energy, counts) in enumerate(zip(energies, counted, strict=True), start=1):
        if counts and (not points or energy < points[-1][1]):
            points.append((float(x), float(energy)))
    return points


def _panel(
    title: str, y_label: str, lines: list[tuple[str, str, Points]], n: int, *, include_zero: bool, whole: bool = False
) -> Panel:
    values = [y for _, _, points in lines for _, y in points] + [0.0] * include_zero
    y_ticks = _ticks(min(values), max(values), whole=whole)
    low, high = min(y_ticks[0], *values), max(y_ticks[-1], *values)

    def at_x(x: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * x / n, 1)

    def at_y(y: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low), 1)

    drawn = [
        Line(style, label, "".join([f"M{at_x(points[0][0])} {at_y(points[0][1])}"]
             + [f"H{at_x(x)}V{at_y(y)}" for x, y in points[1:]] + [f"H{at_x(n)}"]))
        for style, label, points in lines
        if points
    ]  # fmt: skip
    x_ticks = [tick for tick in _ticks(0, n, whole=True) if tick <= n]
    return Panel(
        title,
        "relaxations",
        y_label,
        drawn,
        [(at_x(tick), f"{tick:g}") for tick in x_ticks],
        [(at_y(tick), f"{tick:g}") for tick in y_ticks],
    )


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """About five round numbers whose first and last enclose the range."""
    span = max(high - low, 1.0 if whole else 1e-3)
    power = 10 ** math.floor(math.log10(span / 4))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= span / 4 * 0.999)
    if whole:
        step = max(1.0, round(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, max(last, first + 1) + 1)]
