"""Progress on stderr: bars on a terminal, one plain line a generation elsewhere."""

from __future__ import annotations

import collections
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from matsearch.campaign.progress import Progress
from matsearch.records import Individual, Outcome, Rejection


@contextmanager
def watching() -> Iterator[Progress]:
    """A progress display that fits stderr."""
    if not sys.stderr.isatty():
        lines = Lines()
        try:
            yield lines
        finally:
            lines.end()
        return
    with _display() as display:
        yield Bars(display)


class Counter:
    """Counts things that are done. On a terminal a bar shows it, elsewhere a plain line now and then."""

    INTERVAL = 30.0
    """Seconds between two plain lines."""

    def __init__(self, what: str, total: int, display: RichProgress | None) -> None:
        self._what = what
        self._total, self._n_done = total, 0
        self._display = display
        self._task = None if display is None else display.add_task(what, total=total, note="")
        self._started = self._spoken = time.monotonic()

    def expect(self, n: int) -> None:
        """There are more of them than was said."""
        self._total += n
        if self._display is not None and self._task is not None:
            self._display.update(self._task, total=self._total)

    def count(self) -> None:
        """One more is done."""
        self._n_done += 1
        if self._display is not None and self._task is not None:
            self._display.advance(self._task)
        elif (now := time.monotonic()) > self._spoken + self.INTERVAL:
            self._spoken = now
            line = f"[{now - self._started:6.0f} s] {self._what}: {self._n_done} of {self._total}"
            print(line, file=sys.stderr, flush=True)


@contextmanager
def counting(what: str, total: int) -> Iterator[Counter]:
    """A counter that fits stderr."""
    if not sys.stderr.isatty():
        yield Counter(what, total, None)
        return
    with _display() as display:
        yield Counter(what, total, display)


def _display() -> RichProgress:
    """Bars on stderr; what is printed meanwhile comes above them, unless it goes elsewhere."""
    columns = (
        TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    return RichProgress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty())


class Lines(Progress):
    """One plain line a generation."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._generation: int | None = None
        self._counts: collections.Counter[str] = collections.Counter()
        self._best: Individual | None = None

    def say(self, line: str) -> None:
        """Print it, with the time that has passed."""
        print(f"[{time.monotonic() - self._started:6.0f} s] {line}", file=sys.stderr, flush=True)

    def start(self, what: str, total: int) -> None:
        """Name the phase."""
        self.say(f"{what}: {total}")

    def told(self, n_told: int, generation: int, outcomes: Sequence[Outcome], best: Individual | None) -> None:  # noqa: ARG002 - a hook
        """Count; speak when a generation is over."""
        if self._generation not in (None, generation):
            self._close()
        self._generation, self._best = generation, best
        for outcome in outcomes:
            self._counts["rejected" if isinstance(outcome.result, Rejection) else "scored"] += 1

    def _close(self) -> None:
        self.say(
            f"generation {self._generation}: {self._counts.total()} proposed, {self._counts['scored']} scored"
            f"{_best_text(self._best)}"
        )
        self._counts.clear()

    def stopping(self) -> None:
        """Say that Ctrl-C was heard."""
        self.say("stopping after what is in flight; Ctrl-C again stops at once")

    def end(self) -> None:
        """Speak for the last generation."""
        if self._generation is not None:
            self._close()
            self._generation = None


class Bars(Progress):
    """Bars that rich draws."""

    def __init__(self, display: RichProgress) -> None:
        self._display = display
        self._seeds: TaskID | None = None
        self._proposals: TaskID | None = None
        self._scored = self._total = 0
        self._best: Individual | None = None

    def start(self, what: str, total: int) -> None:
        """A bar for each phase."""
        task = self._display.add_task(what, total=total, note="")
        if what == "seeds":
            self._seeds = task
        else:
            if self._seeds is not None:
                self._display.update(self._seeds, completed=self._display.tasks[self._seeds].total)
            self._proposals = task

    def say(self, line: str) -> None:
        """Print it above the bars."""
        self._display.console.print(line, markup=False)

    def stopping(self) -> None:
        """Say that Ctrl-C was heard."""
        self._display.console.print("stopping after what is in flight; Ctrl-C again stops at once")

    def count(self, what: str, n: int = 1) -> None:
        """Candidates move the first bar until the second one is there."""
        if what == "candidates" and self._proposals is None and self._seeds is not None:
            self._display.advance(self._seeds, n)

    def told(self, n_told: int, generation: int, outcomes: Sequence[Outcome], best: Individual | None) -> None:
        """Move the bar and show the best so far."""
        self._total += len(outcomes)
        self._scored += sum(not isinstance(outcome.result, Rejection) for outcome in outcomes)
        note = f"generation {generation}, {self._scored} of {self._total} scored{_best_text(best)}"
        if self._proposals is not None:
            self._display.update(self._proposals, completed=n_told, note=note)


def _best_text(best: Individual | None) -> str:
    if best is None:
        return ""
    hull = "" if best.energy_above_hull is None else f" ({round(best.energy_above_hull, 3) + 0.0:.3f} eV/atom)"
    return f", first of the population: {best.relaxed.composition.reduced_formula}{hull}"
