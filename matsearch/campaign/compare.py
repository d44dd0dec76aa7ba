"""The same campaign by several presets and seeds, at equal budget."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matsearch.campaign.campaign import Campaign
from matsearch.config import PRESETS, apply_override, read_toml, resolve_config
from matsearch.crystal.prototype import prototype_label
from matsearch.crystal.text import from_json
from matsearch.errors import ConfigError
from matsearch.metrics.comparison import cut, found_curve, interval, spent
from matsearch.metrics.discovery import verdicts
from matsearch.metrics.hypervolume import REFERENCE_POINT, common_reference_point, found_volume
from matsearch.report.best import goals_of
from matsearch.report.frame import candidates_frame
from matsearch.store import RunStore

if TYPE_CHECKING:
    import pandas as pd

WITHOUT_END = 100_000
"""Generations: budgets alone end the runs."""
MEASURES = ("msun", "sun", "metastable", "unique_prototypes", "memorised", "hypervolume", "relaxations_per_msun")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run had found when the first of all runs was through.

    Attributes:
        preset: Its preset.
        seed: Its seed.
        proposed: Candidates that count.
        relaxed: Relaxations among them.
        msun: Metastable, unique and novel crystals.
        sun: The same, stable.
        metastable: Metastable ones, known or not.
        unique_prototypes: Distinct prototypes among the msun.
        memorised: Share of the valid ones that are known phases not shown as parents; None without valid ones.
        hypervolume: Of the metastable set, against the common reference point; None with fewer than two objectives.
        relaxations_per_msun: None without any.
    """

    preset: str
    seed: int
    proposed: int
    relaxed: int
    msun: int
    sun: int
    metastable: int
    unique_prototypes: int
    memorised: float | None
    hypervolume: float | None
    relaxations_per_msun: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs at equal cost.

    Attributes:
        proposals: At which all are compared: the least of all runs.
        relaxations: The same; whichever a run reaches first.
        reference_point: Of the hypervolume: objective to value.
        runs: One a preset and seed.
        curves: Preset to one curve a seed: MSUN crystals after each relaxation.
    """

    proposals: int
    relaxations: int
    reference_point: dict[str, float]
    runs: list[Measured]
    curves: dict[str, list[list[int]]]

    def summary(self) -> dict[str, dict[str, tuple[float, float | None] | None]]:
        """Preset to measure to mean and half width of its 95 % interval over seeds; None where no run has it."""
        presets = dict.fromkeys(run.preset for run in self.runs)
        table: dict[str, dict[str, tuple[float, float | None] | None]] = {}
        for preset in presets:
            own = [run for run in self.runs if run.preset == preset]
            table[preset] = {}
            for name in MEASURES:
                values = [value for run in own if (value := getattr(run, name)) is not None]
                table[preset][name] = interval(values) if values else None
        return table

    def plain(self) -> dict[str, Any]:
        """As JSON-like data."""
        return {**asdict(self), "summary": self.summary()}


def compare(
    path: Path,
    presets: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    overrides: Sequence[str] = (),
    run: Callable[[Campaign], Any] = Campaign.run,
    say: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Run a campaign by each preset with each seed, and hold them against one another.

    What ran to its end before is not run again, and what was stopped goes on. Of the file count the space, the seeds,
    the objectives, the potential, the budget and the LLM; how a preset searches is its own, and so is what it names in
    the place of an LLM.

    Args:
        path: The campaign file; needs a budget of proposals or relaxations, which ends the runs.
        presets: Names of presets.
        seeds: Seeds of the campaigns.
        out: Folder; gets one run folder a preset and seed, and `comparison.json`.
        overrides: As in `load_config`.
        run: Runs one campaign.
        say: Is told which campaign begins.

    Raises:
        ConfigError: A preset is unknown, an override would make all runs one, the budget is missing, or the file is
            wrong.
    """
    if unknown := [name for name in presets if name not in PRESETS]:
        raise ConfigError(f"unknown preset {unknown[0]!r}; known presets: {', '.join(PRESETS)}")
    for override in overrides:
        if (key := override.partition("=")[0].strip()) in ("preset", "seed"):
            raise ConfigError(f"--set {key}: each run of a comparison has its own; give --{key}s")
    folders: dict[tuple[str, int], Path] = {}
    campaigns = []
    for preset in presets:
        for seed in seeds:
            folders[preset, seed] = out / preset / f"seed-{seed}"
            campaigns.append(_campaign(path, preset, seed, folders[preset, seed], overrides))
    for number, campaign in enumerate(campaigns, start=1):
        if _is_through(campaign):
            continue
        say(f"run {number} of {len(campaigns)}: {campaign.run_dir}")
        run(campaign)
    comparison = measure(folders)
    out.joinpath("comparison.json").write_text(json.dumps(comparison.plain(), indent=2) + "\n", encoding="utf-8")
    return comparison


def measure(folders: Mapping[tuple[str, int], Path]) -> Comparison:
    """Hold runs against one another at equal cost.

    Args:
        folders: Preset and seed to run folder.
    """
    frames: dict[tuple[str, int], pd.DataFrame] = {}
    goals, points = [], []
    for key, folder in folders.items():
        with RunStore(folder, writable=False) as store:
            frames[key] = candidates_frame(store)
            goals = goals_of(store)
            points.append(json.loads(store.meta.get(REFERENCE_POINT, "{}")))
    costs = [spent(frame) for frame in frames.values()]
    proposals, relaxations = min(one[0] for one in costs), min(one[1] for one in costs)
    parts = {key: cut(frame, proposals, relaxations) for key, frame in frames.items()}
    reference_point = common_reference_point(goals, points) if sum(goal.is_sought for goal in goals) > 1 else {}
    runs = []
    for (preset, seed), part in parts.items():
        table = verdicts(part)
        counts = {name: int(table[name].sum()) for name in table.columns}
        volume = found_volume(part, goals, reference_point) if reference_point else None
        n_proposed, n_relaxed = spent(part)
        ids = part.loc[table.index[table["msun"]], "id"].tolist()
        runs.append(
            Measured(
                preset=preset,
                seed=seed,
                proposed=n_proposed,
                relaxed=n_relaxed,
                msun=counts["msun"],
                sun=counts["sun"],
                metastable=counts["metastable"],
                unique_prototypes=len(_prototypes(folders[preset, seed], ids)),
                memorised=counts["memorised"] / counts["valid"] if counts["valid"] else None,
                hypervolume=volume,
                relaxations_per_msun=n_relaxed / counts["msun"] if counts["msun"] else None,
            )
        )
    curves: dict[str, list[list[int]]] = {}
    for (preset, _), part in parts.items():
        curves.setdefault(preset, []).append(found_curve(part).tolist())
    return Comparison(proposals, relaxations, reference_point, runs, curves)


def _campaign(path: Path, preset: str, seed: int, folder: Path, overrides: Sequence[str]) -> Campaign:
    data = read_toml(path)
    own = tomllib.loads(resources.files("matsearch").joinpath("presets", f"{preset}.toml").read_text(encoding="utf-8"))
    if "backend" in own.get("llm", {}):
        data.pop("llm", None)
    search = {key: value for key, value in data.get("search", {}).items() if key in ("seeds", "lag")}
    data |= {"preset": preset, "seed": seed, "search": {**search, "generations": WITHOUT_END}}
    for override in overrides:
        apply_override(data, override)
    config = resolve_config(data, str(path), path.resolve().parent)
    if config.budget.proposals is None and config.budget.relaxations is None:
        raise ConfigError(f"{path} needs [budget] proposals or relaxations: what all presets are given alike")
    return Campaign.from_config(config, folder, path.read_text(encoding="utf-8"), budget_may_change=True)


def _is_through(campaign: Campaign) -> bool:
    """Whether a run has come to its end, or to that of the very budget it has now."""
    if not campaign.status.startswith("budget"):
        return campaign.status == "finished"
    with RunStore(campaign.run_dir, writable=False) as store:
        return bool(store.config["budget"] == campaign.config.budget.model_dump(mode="json"))


def _prototypes(folder: Path, ids: Sequence[int]) -> set[str]:
    """Prototype labels of relaxed candidates."""
    with RunStore(folder, writable=False) as store:
        rows = store.rows(
            "SELECT c.id, r.structure FROM candidates c JOIN relaxations r ON r.key = c.relaxation_key "
            "WHERE r.structure IS NOT NULL"
        )
    wanted = set(ids)
    return {prototype_label(from_json(row["structure"])) for row in rows if row["id"] in wanted}
