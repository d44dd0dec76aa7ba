"""A campaign as people hold it: made from a TOML file or opened from its folder, run, and looked at."""

from __future__ import annotations

import datetime
import json
import shlex
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matsearch.campaign import extra
from matsearch.campaign.ledger import Ledger
from matsearch.campaign.loop import Interrupted, Loop
from matsearch.campaign.parts import Parts, versions
from matsearch.campaign.progress import Progress
from matsearch.config import (
    BudgetSettings,
    CampaignConfig,
    apply_override,
    changeable_options,
    differences,
    load_config,
    resolve_config,
)
from matsearch.errors import BackendError, BackendUnavailableError, ConfigError, MatsearchError, StoreError
from matsearch.plugins import source_hash
from matsearch.potential.weights import weight_hashes
from matsearch.report.frame import candidates_frame
from matsearch.report.page import write_report
from matsearch.search.operators import n_parents
from matsearch.store import RunStore, continue_command, is_run_dir

if TYPE_CHECKING:
    import pandas as pd

    from matsearch.reference.known import Phase


class Campaign:
    """One search campaign and the folder that holds all of it.

    Attributes:
        config: Resolved and checked.
        run_dir: The run folder; it appears when the campaign first runs.
        status: `new`, `running`, `interrupted`, `finished`, or `budget: ...` after the latest `run`.
    """

    def __init__(self, config: CampaignConfig, run_dir: Path, source: str = "") -> None:
        self.config = config
        self.run_dir = run_dir
        self.status = "new"
        self._source = source

    @classmethod
    def from_toml(cls, path: str | Path, run_dir: str | Path | None = None, overrides: Sequence[str] = ()) -> Campaign:
        """A campaign from its TOML file.

        Args:
            path: The campaign file.
            run_dir: The run folder itself; `runs/<name>` if not given. One that holds the same campaign is continued.
            overrides: `a.b=VALUE` strings laid over the file.

        Raises:
            ConfigError: The file or a value is wrong, or the folder holds a campaign with another configuration.
        """
        path = Path(path)
        config = load_config(path, list(overrides))
        return cls.from_config(
            config,
            Path(run_dir or Path("runs") / config.name),
            path.read_text(encoding="utf-8"),
            budget_may_change=any(one.startswith("budget.") for one in overrides),
        )

    @classmethod
    def from_config(
        cls, config: CampaignConfig, run_dir: Path, source: str = "", *, budget_may_change: bool = False
    ) -> Campaign:
        """A campaign from what its file says.

        Args:
            config: Resolved and checked.
            run_dir: The run folder itself. One that holds the same campaign is continued.
            source: Text of the file, kept in the folder.
            budget_may_change: Whether the folder may have been begun with another budget.

        Raises:
            ConfigError, StoreError: As `from_toml`.
        """
        campaign = cls(config, run_dir, source)
        if is_run_dir(campaign.run_dir):
            campaign._agree_with_folder(budget_was_set=budget_may_change)
        elif campaign.run_dir.exists() and (not campaign.run_dir.is_dir() or any(campaign.run_dir.iterdir())):
            raise StoreError(f"{campaign.run_dir} exists and holds no campaign; name another folder with --run-dir")
        return campaign

    @classmethod
    def open(cls, run_dir: str | Path, overrides: Sequence[str] = ()) -> Campaign:
        """The campaign in a run folder, to look at or to continue.

        Args:
            run_dir: The run folder.
            overrides: `budget.NAME=VALUE` strings; nothing else can change once a run has begun.

        Raises:
            StoreError: There is no campaign in the folder.
            ConfigError: Something other than a budget was to change.
        """
        run_dir = Path(run_dir)
        with RunStore(run_dir, writable=False) as store:
            data, meta = store.config, store.meta
        free = changeable_options(resolve_config(data, str(run_dir))) if overrides else set()
        for override in overrides:
            key = override.partition("=")[0].strip()
            # One [llm] needs no number in its key.
            if not _is_one_of(key, {"budget"}) and key.replace("llm.", "llm.0.", 1) not in free and key not in free:
                raise ConfigError(
                    f"--set {key}: a run that has begun can change only its budgets "
                    f"({', '.join('budget.' + name for name in BudgetSettings.model_fields)}), "
                    f"how its LLM is reached, and where the folder of reference.path lies; start a new run for it"
                )
            apply_override(data, override)
        config = resolve_config(data, str(run_dir))
        if (path := config.reference.path) is not None:
            reference = config.reference.model_copy(update={"path": str(Path(path).expanduser().absolute())})
            config = config.model_copy(update={"reference": reference})
        campaign = cls(config, run_dir)
        campaign.status = meta.get("status", "new")
        return campaign

    def _agree_with_folder(self, *, budget_was_set: bool) -> None:
        """Continue a folder only if it holds this very campaign; budgets may change where they were set on purpose."""
        with RunStore(self.run_dir, writable=False) as store:
            data, self.status = store.config, store.meta.get("status", "new")
        old = resolve_config(data, str(self.run_dir)).plain()  # with what an earlier version did not know
        new = self.config.plain()
        free = changeable_options(self.config) | ({"budget"} if budget_was_set else set())
        changed = [line for line in differences(old, new) if not _is_one_of(line.partition(": ")[0], free)]
        if changed:
            raise ConfigError(
                f"{self.run_dir} holds a campaign with another configuration: {'; '.join(changed)}. "
                f"Continue that one with `{continue_command(self.run_dir)}`, or name another folder with --run-dir"
            )

    def run(self, progress: Progress | None = None) -> Campaign:
        """Run to the end, or on from where it stopped, and write the report.

        Returns:
            The campaign itself.

        Raises:
            MatsearchError: Something is wrong or broken; the message ends with the command that continues.
            KeyboardInterrupt: Ctrl-C; what was in flight is committed.
        """
        progress = progress or Progress()
        try:
            # A run that goes on may need no more replies; one that does will ask for them soon.
            parts = Parts.build(self.config, check_backends=not is_run_dir(self.run_dir))
        except BackendUnavailableError as unavailable:
            # Where all else is right the folder is made, so that there is a command that continues.
            try:
                parts = Parts.build(self.config)
            except MatsearchError:
                raise unavailable from None
        try:
            if not is_run_dir(self.run_dir):
                parts.seed_phases()  # a space without any is said before there is a folder
                RunStore.create(self.run_dir, *self._first_records(parts))
            with RunStore(self.run_dir, writable=True) as store, _stop_on_signal(progress) as stopping:
                self._continue(store, parts, progress, stopping)
        finally:
            parts.close()
        return self

    def _first_records(self, parts: Parts) -> tuple[dict[str, str], dict[str, str]]:
        """Meta rows and files that stand before any work starts."""
        config, found, weights = self.config.plain(), versions(), _weights(parts)
        meta = {
            "config": json.dumps(config),
            "versions": json.dumps(found),
            "weights": json.dumps(weights),
            "objective_sources": json.dumps(_own_objectives(parts)),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "status": "new",
            "reference_hash": parts.reference_hash(),
            "hidden_phases": json.dumps(sorted(_hidden(parts))),
            extra.META: extra.extra_text(extra.read_extra(parts), parts),
        }
        resolved = json.dumps({"config": config, "versions": found, "weights": weights}, indent=2)
        return meta, {"campaign.toml": self._source, "resolved.json": resolved + "\n"}

    def _continue(self, store: RunStore, parts: Parts, progress: Progress, stopping: threading.Event) -> None:
        store.set_meta("config", json.dumps(self.config.plain()))  # budgets and time-outs may have changed
        described = [{"name": one.name, "unit": one.unit, "direction": one.direction} for one in parts.objectives]
        directions = {goal.name: goal.better for goal in parts.goals}
        described = [{**one, "direction": directions.get(one["name"], one["direction"])} for one in described]
        store.set_meta("objectives", json.dumps(described))
        if store.meta.get("reference_hash", now := parts.reference_hash()) != now:
            raise ConfigError(
                f"the known phases of {parts.potential.name} are not those that {self.run_dir} began with; continue "
                "with the versions in resolved.json and the folder of [reference] path as it was, or start a new run"
            )
        began_with = json.loads(store.meta.get("weights", "null"))  # runs of earlier versions say nothing of weights
        if began_with is not None and (other := sorted(_differing(began_with, _weights(parts)))):
            raise ConfigError(
                f"the weights of {', '.join(other)} are not those that {self.run_dir} began with (SHA-256 in "
                "resolved.json): energies of two potentials meet on no hull; put the files back, or start a new run"
            )
        written = json.loads(store.meta.get("objective_sources", "null"))
        if written is not None and (other := sorted(_differing(written, _own_objectives(parts)))):
            raise ConfigError(
                f"what objective {', '.join(other)} is imported from is not as it was when {self.run_dir} began: "
                "values of two versions would meet in one table; put the file back, or start a new run"
            )
        store.set_meta("status", "running")
        ledger = Ledger(self.config.budget, earlier_hours=float(store.meta.get("hours", "0")))
        try:
            parts = extra.add_extra(store, parts, progress, stopping.is_set)
            if parts.reference is not None:
                store.set_meta("attribution", f"{parts.reference.attribution}{extra.attribution(store)}")
            self.status = Loop(store, parts, ledger, progress, stopping.is_set).run()
            if hidden := _hidden(parts):
                rows = store.rows("SELECT DISTINCT matched_known FROM candidates WHERE matched_known IS NOT NULL")
                found = sorted(hidden & {row["matched_known"] for row in rows})
                named = f": {', '.join(found[:10])}{', ...' if len(found) > 10 else ''}" if found else ""
                progress.say(f"of {len(hidden)} hidden phases {len(found)} found again{named}")
        except (Interrupted, KeyboardInterrupt) as stop:
            self.status = "interrupted"
            store.set_meta("status", self.status)
            how = str(stop) or "stopped"
            raise KeyboardInterrupt(f"{how}; continue with `{continue_command(self.run_dir)}`") from stop
        except BackendError as err:
            raise type(err)(f"{err}. Then continue with `{continue_command(self.run_dir)}`") from err
        finally:
            store.set_meta("hours", repr(ledger.hours))
        store.set_meta("status", self.status)
        self.write_report(store)

    def write_report(self, store: RunStore | None = None) -> Path:
        """Write `report.html` and the CIFs of the best crystals into the run folder; returns the page's path.

        Raises:
            StoreError: The folder cannot be written.
        """
        if store is None:
            with RunStore(self.run_dir, writable=False) as opened:
                return self.write_report(opened)
        try:
            return write_report(store)
        except OSError as err:
            raise StoreError(
                f"cannot write the report in {self.run_dir}: {err}; mend that, then "
                f"`matsearch report {shlex.quote(str(self.run_dir))}`"
            ) from err

    def candidates(self) -> pd.DataFrame:
        """One row a candidate: id, parents, generation, operator, model, stage, reason, formula, energy_above_hull,
        and a column for each objective.
        """
        with RunStore(self.run_dir, writable=False) as store:
            return candidates_frame(store)

    def dry_run(self) -> dict[str, Any]:
        """Try every part once, without a run folder: one prompt, two relaxation steps.

        Returns:
            `prompt` (that of the operator with the largest weight, as text), `own prompts` (name to text, of the
            campaign's own templates), `relaxation` (a line), `backends`, `objectives`, `seeds`, `extra phases`.

        Raises:
            MatsearchError: Something is wrong or broken.
        """
        from matsearch.records import Rejection
        from matsearch.relaxation.relaxer import relax

        parts = Parts.build(self.config, check_backends=True)
        try:
            phases = parts.seed_phases()
            n_extra = len(extra.read_extra(parts))
            operator = max(self.config.search.operators.items(), key=lambda item: item[1])[0]
            style = parts.backends[0].style
            prompts = {
                name: _sample_prompt(parts, phases, name, style)
                for name in (operator, *parts.proposer.templates.own_names(style))
            }
            line = "no seed to relax"
            if phases:
                settings = self.config.relax.model_copy(update={"max_steps": 2})
                (result,) = relax([phases[0].structure], parts.potential, **settings.model_dump())
                if isinstance(result, Rejection):
                    raise MatsearchError(f"relaxing {phases[0].formula} failed: {result.reason} {result.detail}")
                line = f"{phases[0].formula}: {result.n_steps} steps, {result.energy_per_atom:.3f} eV/atom"
        finally:
            parts.close()
        return {
            "prompt": prompts.pop(operator),
            "own prompts": prompts,
            "relaxation": line,
            "backends": [f"{llm.backend} ({llm.model})" for llm in self.config.llm],
            "objectives": [objective.name for objective in parts.objectives],
            "seeds": len(phases),
            "extra phases": n_extra,
        }


def _hidden(parts: Parts) -> frozenset[str]:
    """Ids of the known phases that the search is not told of."""
    return frozenset() if parts.reference is None else parts.reference.hidden


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Names of what is not the same."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _weights(parts: Parts) -> dict[str, dict[str, str]]:
    """Potential to its files of weights to their SHA-256; those without such files are left out."""
    asked = [parts.potential, *([] if parts.second_opinion is None else [parts.second_opinion.potential])]
    return {one.name: hashes for one in asked if (hashes := weight_hashes(one))}


def _own_objectives(parts: Parts) -> dict[str, str]:
    """Name to version of the objectives that are not matsearch's own."""
    written = {one.name: one.written_as for one in parts.objectives}
    return {
        name: source_hash(found)
        for name, found in written.items()
        if getattr(found, "__module__", "").partition(".")[0] != "matsearch"
    }


def _sample_prompt(parts: Parts, phases: Sequence[Phase], operator: str, style: str) -> str:
    """A prompt of an operator with seeds as parents, as text."""
    from matsearch.records import Candidate, Failed, Individual, Parents, Rejection, Stage

    search = parts.config.search
    members = tuple(
        Individual(
            Candidate(i, one.structure, 0, "seed"), one.structure, round(one.energy_above_hull, 3), {},
            parts.decomposition(one.structure),
        )
        for i, one in enumerate(phases[: n_parents(operator, search.parents_per_prompt)])
    )  # fmt: skip
    failed = None
    if operator == "repair" and phases:
        failed = Failed(0, phases[0].structure, Rejection(Stage.RELAX, "unconverged"))
    asked = Parents(0, 1, operator, members, search.children_per_prompt, failed=failed)
    prompt = parts.proposer.prompts(asked, style)[0]
    return f"{prompt.system}\n\n{prompt.user}".strip()


def _is_one_of(key: str, free: set[str]) -> bool:
    """Whether a dotted key is, or lies in, one of the keys that may change."""
    return any(key == one or key.startswith(f"{one}.") for one in free)


@contextmanager
def _stop_on_signal(progress: Progress) -> Iterator[threading.Event]:
    """The first Ctrl-C (or SIGTERM) asks to stop after the step; the second one stops at once."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def ask(_signum: int, _frame: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt("stopped at once, what was committed is kept")
        stopping.set()
        progress.stopping()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
