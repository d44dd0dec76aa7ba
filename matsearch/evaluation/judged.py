"""Compared searches before judges: what of their finalists other potentials confirm.

Each judge holds a finalist against a hull of its own:

- With a hull of relaxed phases, it relaxes the finalist.
- With a hull of phases as listed (CHGNet-r2SCAN), it takes the finalist's cell as it is. These cells are the searched
  potential's, the phases' are DFT's, which puts finalists a little too high: of 300 known phases within 0.1 eV/atom of
  CHGNet 0.3.0's hull, CHGNet-r2SCAN puts the cells relaxed by 0.3.0 above those listed by 1.3 meV/atom in the median
  (-5.5 to 9.4 from the 5th to the 95th of a hundred), and all 300 within 0.1 of its own hull.
- Without a hull, it relaxes the finalist and the phases that compete (`local_hull`).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from matsearch.evaluation.corrections import RAW, correction
from matsearch.evaluation.energies import Energies
from matsearch.evaluation.finalists import Finalist, Finalists, Finals, draw_finalists
from matsearch.evaluation.judging import Judge, find_judges
from matsearch.evaluation.local_hull import LocalHull
from matsearch.metrics.comparison import interval
from matsearch.metrics.discovery import METASTABLE, QUARANTINE, STABLE, wilson_interval
from matsearch.records import Rejection
from matsearch.reference import Reference, load_reference
from matsearch.reference.catalogue import read_catalogue
from matsearch.reference.known import shipped_folder

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.potential import Potential

ENERGIES = "judges.sqlite"
RESULT = "judges.json"
VERDICTS = {"metastable": METASTABLE, "stable": STABLE}
ALL = "all judges"
PAUSE = 60.0  # seconds between two states of the result on the disk
OUTSIDE = ("untrained_element", "no_reference")
"""Reasons for which a judge has no say."""

Height = float | Rejection


class Bench(Protocol):
    """Where one judge sits."""

    def heights(self, crystals: Sequence[Structure]) -> list[Height]:
        """Energies above the judge's own hull in eV/atom."""
        ...

    def describe(self) -> dict[str, Any]:
        """How it judges, as JSON-like data."""
        ...


class OwnHull:
    """A judge whose hull was built before."""

    def __init__(self, energies: Energies, reference: Reference) -> None:
        self._energies = energies
        self._reference = reference
        phases = reference.phases
        self._relaxes = bool(phases.loc[phases["energy_above_hull"] == 0.0, "relaxed"].any())

    def heights(self, crystals: Sequence[Structure]) -> list[Height]:
        """See `Bench`."""
        energies = self._energies.relaxed(crystals) if self._relaxes else self._energies.as_they_are(crystals)
        return [
            one if isinstance(one, Rejection) else self._reference.energy_above_hull(crystal.composition, one)
            for crystal, one in zip(crystals, energies, strict=True)
        ]

    def describe(self) -> dict[str, Any]:
        """See `Bench`."""
        how = "relaxed, against relaxed phases" if self._relaxes else "as they are, against phases as listed"
        return {"finalists": how, "phases": len(self._reference.phases)}


class MadeHull:
    """A judge whose hull is made where it is asked for."""

    def __init__(self, energies: Energies, hull: LocalHull) -> None:
        self._energies = energies
        self._hull = hull

    def heights(self, crystals: Sequence[Structure]) -> list[Height]:
        """See `Bench`."""
        scale = self._energies.potential.energy_scale
        energies = self._energies.relaxed(crystals)
        hull = self._hull.at([crystal.composition for crystal in crystals])
        shifts = [correction(crystal, scale) for crystal in crystals]
        return [_height(*parts) for parts in zip(energies, shifts, hull, strict=True)]

    def describe(self) -> dict[str, Any]:
        """See `Bench`."""
        gains = self._hull.gains
        return {
            "finalists": "relaxed, against the phases that compete, those of the mixture relaxed",
            "correction": "Materials Project 2020" if self._energies.potential.energy_scale == RAW else None,
            "phases": self._hull.n_phases,
            "phases_relaxed": len(gains),
            "phases_not_relaxed": self._hull.n_failed,
            "gain_median": float(np.median(gains)) if gains else None,
            "gain_95": float(np.quantile(gains, 0.95)) if gains else None,
        }


@dataclass
class Judged:
    """What the judges say of the finalists that they have heard.

    Attributes:
        finalists: All that were drawn.
        judges: Names.
        heights: Judge to (preset, seed, candidate) to energy above its hull, of the finalists heard so far.
        described: Judge to how it judges.
    """

    finalists: Finalists
    judges: list[str]
    heights: dict[str, dict[tuple[str, int, int], Height]] = field(default_factory=dict)
    described: dict[str, dict[str, Any]] = field(default_factory=dict)

    def runs(self) -> list[dict[str, Any]]:
        """One row a run and judge, and one for all judges together where there are several.

        `heard` finalists, of which the judge calls `metastable` and `stable` so many (as everywhere: converged, and not
        below the quarantine of -0.1 eV/atom), `quarantined` below it, `refused` without an energy. `outside` are not
        among them: they hold elements of which the judge knows nothing. `confirmed`: the run's MSUN crystals times the
        share that is metastable (None where it has some and none was heard).
        """
        return [self._run(run, judges) for run in self.finalists.runs for judges in self._panels()]

    def presets(self) -> list[dict[str, Any]]:
        """One row a preset and judge.

        Sums over seeds with the rates' 95 % Wilson intervals, and means over seeds with the half widths of their 95 %
        Student intervals (None for one seed).
        """
        runs = self.runs()
        rows = []
        for preset in dict.fromkeys(run["preset"] for run in runs):
            for judge in dict.fromkeys(run["judge"] for run in runs):
                own = [run for run in runs if run["preset"] == preset and run["judge"] == judge]
                rows.append({"preset": preset, "judge": judge, **_over_seeds(own)})
        return rows

    def spearman(self) -> list[dict[str, Any]]:
        """Rank correlation of energies above hull between the searched potential and each judge, and between judges.

        Over the finalists that both have an energy of. All lie below 0.1 by the searched potential, which narrows what
        there is to rank.
        """
        searched: dict[tuple[str, int, int], Height] = {
            (run.preset, run.seed, one.id): one.energy_above_hull for run in self.finalists.runs for one in run.drawn
        }
        columns = {self.finalists.potential: searched} | {name: self.heights.get(name, {}) for name in self.judges}
        return [
            {"between": [first, second], **_rank_correlation(columns[first], columns[second])}
            for first, second in combinations(columns, 2)
        ]

    def plain(self) -> dict[str, Any]:
        """As JSON-like data."""
        return {
            "searched": self.finalists.potential,
            "proposals": self.finalists.proposals,
            "relaxations": self.finalists.relaxations,
            "thresholds": {**VERDICTS, "quarantine": QUARANTINE},
            "judges": self.described,
            "presets": self.presets(),
            "spearman": self.spearman(),
            "runs": self.runs(),
            "finalists": [self._finalist(run, one) for run in self.finalists.runs for one in run.drawn],
            "left_out": [str(path) for path in self.finalists.left_out],
        }

    def _panels(self) -> list[tuple[str, ...]]:
        alone: list[tuple[str, ...]] = [(name,) for name in self.judges]
        return alone + [tuple(self.judges)] * (len(self.judges) > 1)

    def _run(self, run: Finals, judges: tuple[str, ...]) -> dict[str, Any]:
        """Of several judges all must say so."""
        own = [
            [self.heights.get(judge, {}).get((run.preset, run.seed, one.id)) for judge in judges] for one in run.drawn
        ]
        complete = [[height for height in heights if height is not None] for heights in own if None not in heights]
        heard = [each for each in complete if not any(_is_outside(one) for one in each)]
        counts = {
            name: sum(all(_is_within(one, limit) for one in each) for each in heard) for name, limit in VERDICTS.items()
        }
        return {
            "preset": run.preset,
            "seed": run.seed,
            "judge": judges[0] if len(judges) == 1 else ALL,
            "msun": run.msun,
            "heard": len(heard),
            "outside": len(complete) - len(heard),
            **counts,
            "quarantined": sum(any(_is_quarantined(one) for one in each) for each in heard),
            "refused": sum(any(isinstance(one, Rejection) for one in each) for each in heard),
            "confirmed": run.msun * counts["metastable"] / len(heard) if heard else (0.0 if not run.msun else None),
        }

    def _finalist(self, run: Finals, one: Finalist) -> dict[str, Any]:
        key = (run.preset, run.seed, one.id)
        said: dict[str, Any] = {}
        for judge in self.judges:
            height = self.heights.get(judge, {}).get(key)
            if height is not None:
                said[judge] = f"{height.reason}: {height.detail}" if isinstance(height, Rejection) else round(height, 6)
        return {
            "preset": run.preset,
            "seed": run.seed,
            "id": one.id,
            "formula": one.formula,
            self.finalists.potential: one.energy_above_hull,
            **said,
        }


def judge_finalists(
    folder: Path,
    judges: Sequence[Potential | str],
    *,
    sample: int | None = None,
    seed: int = 0,
    presets: Collection[str] | None = None,
    minutes: float | None = None,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> Judged:
    """Let potentials judge the finalists of compared searches, and write `judges.json` beside them.

    Judge after judge, and each hears one finalist of each run after the other, so that whoever stops it has a smaller
    sample of all. Energies are kept in `judges.sqlite`: the same call again goes on, and one with a larger sample takes
    over the smaller one.

    Args:
        folder: Of `matsearch compare`.
        judges: Potentials or their names, quick ones first.
        sample: Finalists a run at most; None for all.
        seed: Of the draw.
        presets: Only these; None for all in the folder.
        minutes: No further finalists are heard after so long.
        device: Of judges given by name.
        say: Is told how far it has come.

    Raises:
        ConfigError: A judge is unknown, or named twice.
        InputError: The folder holds no finished run.
        PotentialError: A judge cannot be loaded.
    """
    deadline = math.inf if minutes is None else time.monotonic() + 60.0 * minutes
    finalists = draw_finalists(folder, sample, seed, presets)
    for unfinished in finalists.left_out:
        say(f"not finished, left out: {unfinished}")
    panel = find_judges(judges, device, finalists.reference)
    judged = Judged(finalists, [one.name for one in panel])
    written = time.monotonic()
    try:
        with _benches(panel, folder / ENERGIES, finalists, say) as benches:
            for name, bench in benches.items():
                judged.heights[name] = {}
                for rank in range(max(len(run.drawn) for run in finalists.runs)):
                    if time.monotonic() >= deadline:
                        break
                    part = [(run, run.drawn[rank]) for run in finalists.runs if len(run.drawn) > rank]
                    heights = bench.heights([one.structure for _, one in part])
                    for (run, one), height in zip(part, heights, strict=True):
                        judged.heights[name][run.preset, run.seed, one.id] = height
                    judged.described[name] = bench.describe()
                    say(f"{name}: heard {rank + 1} of each run")
                    if time.monotonic() >= written + PAUSE:
                        written = time.monotonic()
                        _write(judged, folder)
    finally:
        _write(judged, folder)
    return judged


@contextmanager
def _benches(
    panel: Sequence[Judge], path: Path, finalists: Finalists, say: Callable[[str], None]
) -> Iterator[dict[str, Bench]]:
    opened = [Energies(judge.potential, path, say) for judge in panel]
    try:
        benches: dict[str, Bench] = {}
        for judge, energies in zip(panel, opened, strict=True):
            if judge.reference is not None:
                benches[judge.name] = OwnHull(energies, judge.reference)
            else:
                known = load_reference(finalists.potential, finalists.reference)
                catalogue = read_catalogue(finalists.reference or shipped_folder())
                benches[judge.name] = MadeHull(energies, LocalHull(energies, known, catalogue))
        yield benches
    finally:
        for energies in opened:
            energies.close()


def _write(judged: Judged, folder: Path) -> None:
    partial = folder / f"{RESULT}.partial"
    partial.write_text(json.dumps(judged.plain(), indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / RESULT)


def _height(energy: Height, shift: Height, hull: Height) -> Height:
    for one in (energy, shift, hull):
        if isinstance(one, Rejection):
            return one
    return energy + shift - hull  # type: ignore[operator]  # no rejection among them


def _is_number(height: Height) -> bool:
    return not isinstance(height, Rejection)


def _is_outside(height: Height) -> bool:
    return isinstance(height, Rejection) and height.reason in OUTSIDE


def _is_quarantined(height: Height) -> bool:
    return not isinstance(height, Rejection) and height < QUARANTINE


def _is_within(height: Height, limit: float) -> bool:
    return not isinstance(height, Rejection) and QUARANTINE <= height <= limit


def _over_seeds(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    heard = sum(run["heard"] for run in runs)
    row: dict[str, Any] = {"seeds": len(runs), "msun": interval([run["msun"] for run in runs]), "heard": heard}
    for name in VERDICTS:
        count = sum(run[name] for run in runs)
        shares = [run[name] / run["heard"] for run in runs if run["heard"]]
        row[name] = {
            "count": count,
            "rate": count / heard if heard else None,
            "wilson": wilson_interval(count, heard),
            "over_seeds": interval(shares) if shares else None,
        }
    for name in ("outside", "quarantined", "refused"):
        row[name] = sum(run[name] for run in runs)
    confirmed = [run["confirmed"] for run in runs]
    row["confirmed"] = None if None in confirmed else interval(confirmed)
    return row


def _rank_correlation(first: dict[Any, Height], second: dict[Any, Height]) -> dict[str, Any]:
    from scipy.stats import spearmanr

    pairs = [(first[key], second[key]) for key in first if key in second]
    numbers = [pair for pair in pairs if _is_number(pair[0]) and _is_number(pair[1])]
    if len(numbers) < 3 or any(len(set(column)) < 2 for column in zip(*numbers, strict=True)):
        return {"n": len(numbers), "spearman": None}
    value = float(spearmanr(*zip(*numbers, strict=True)).statistic)
    return {"n": len(numbers), "spearman": None if math.isnan(value) else value}
