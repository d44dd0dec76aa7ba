"""Searches side by side: the default preset, its baselines, and the default with one part after the other taken away.

    python benchmarks/search.py --out runs/search [--seeds 6,7,8] [--relaxations 1000] [--others 300] [--show]

Runs `benchmarks/search.toml` (any crystal of up to 20 atoms, the embedded model, CHGNet 0.3.0) by the presets
`matsearch` and `matllmsearch-v1` up to `--relaxations`, by all others and the ablations up to `--others`: two or three
hours on one core. What was stopped goes on with the same command. `--show` runs nothing and prints what there is.

`matllmsearch-v1` is that system's loop; the embedded model reads compact prompts instead of its text. Every table is
cut where the first of its runs had used up its proposals or its relaxations, whichever came first. Known seeds do not
count. MSUN: metastable (0.1 eV/atom above CHGNet's own hull, not below -0.1 where a preset has that floor), unique and
novel, both judged after relaxation. Beside its relaxations the default computes up to four single points for each
crystal that its operators propose, a tenth of a relaxation (`benchmarks/single_points.py`). f-block: share of the finds
that hold a lanthanoid or an actinoid; families: of how many chemical families they are, were all as frequent
(exponential of the entropy). Means and 95 % Student intervals are over seeds. `matsearch judge RUNS` holds some of the
finds against other potentials.
"""

import argparse
import math
import re
from collections import Counter
from pathlib import Path

from pymatgen.core import Element

from matsearch.campaign import Campaign
from matsearch.campaign.compare import Comparison, compare, measure
from matsearch.metrics.comparison import interval
from matsearch.metrics.discovery import verdicts
from matsearch.search.families import chemical_family
from matsearch.store import is_run_dir

CAMPAIGN = Path(__file__).with_name("search.toml")
MAIN = ("matsearch", "matllmsearch-v1")
OTHERS = ("best-of-n", "operators-only", "ion-exchange", "random-prototypes")
ABLATIONS = {
    "1 known turned away": ("search.reject_known=false",),
    "2 relaxed parents, scores, memory": ("search.show=proposed", "search.show_scores=false", "search.memory=0"),
    "3 the LLM": (
        'llm=[{backend="operators"}]',
        "search.operators={ion_exchange=0.93, analogue=0.9, vacancy=0.85, substitute=0.85, mutate=0.7}",
    ),
    "3 operators beside the LLM": ("search.twins={}",),
    "3 bandit": ("search.bandit=false",),
    "3 single points": ("search.choices=1",),
    "4 archive, kinds, cap": ("search.archive=false", "search.grouping=shuffled", "search.chemistry_cap=1.0"),
}
"""What is taken away; the fifth, Pareto selection, needs two objectives: benchmarks/optimise.py. Of the second, compact
prompts hold the parents alone: what scores and memory are worth to a chat model is not measured here."""
CHOOSING = ("operators-only", "ion-exchange")
"""Presets that are also run with the single points of the default."""
COLUMNS = ("msun", "sun", "unique_prototypes", "memorised", "relaxations_per_msun", "f-block", "families")


def folders(out: Path, name: str, preset: str, seeds: list[int]) -> dict[tuple[str, int], Path]:
    """Those of a preset's runs that there are."""
    found = {(name, seed): out / preset / f"seed-{seed}" for seed in seeds}
    return {key: folder for key, folder in found.items() if is_run_dir(folder)}


def variety(run_dir: Path, proposals: int) -> dict[str, float] | None:
    """How the MSUN crystals among the first so many proposed are spread over chemistry; None where there are none."""
    frame = Campaign.open(run_dir).candidates()
    frame = frame[frame["operator"] != "seed"].head(proposals)
    found = verdicts(frame)
    elements = [sorted(set(re.findall("[A-Z][a-z]?", one))) for one in frame.loc[found.index[found["msun"]], "formula"]]
    if not elements:
        return None
    families = Counter(map(chemical_family, elements))
    heavy = sum(any(Element(one).is_lanthanoid or Element(one).is_actinoid for one in held) for held in elements)
    shares = [n / len(elements) for n in families.values()]
    return {"f-block": heavy / len(elements), "families": math.exp(-sum(share * math.log(share) for share in shares))}


def show(title: str, found: dict[tuple[str, int], Path], against: str) -> None:
    """One table, and the ratio of the first preset's MSUN to that of another one."""
    if not found:
        return
    comparison: Comparison = measure(found)
    print(f"\n{title}: cut at {comparison.proposals} proposals or {comparison.relaxations} relaxations")
    print(f"{'':34} seeds " + " ".join(f"{name:>20}" for name in COLUMNS))
    for name, row in comparison.summary().items():
        n_seeds = sum(run.preset == name for run in comparison.runs)
        cells = []
        varied = [variety(folder, comparison.proposals) for (preset, _), folder in found.items() if preset == name]
        for what in ("f-block", "families"):
            row[what] = interval([one[what] for one in varied if one is not None]) if all(varied) else None
        for column in COLUMNS:
            mean, half = row[column] or (None, None)
            cells.append("-" if mean is None else f"{mean:.4g}" + ("" if half is None else f" ± {half:.2g}"))
        print(f"{name:34} {n_seeds:5} " + " ".join(f"{cell:>20}" for cell in cells))
    counts = {(run.preset, run.seed): run.msun for run in comparison.runs}
    for name in dict.fromkeys(run.preset for run in comparison.runs):
        pairs = [(counts[against, seed], n) for (preset, seed), n in counts.items() if preset == name != against]
        complete = all((against, seed) in counts for _, seed in counts) and all(n for _, n in pairs)
        if ratios := [first / n for first, n in pairs] if complete else []:
            mean, half = interval(ratios)
            print(f"MSUN of {against} / {name}: {mean:.2f}" + ("" if half is None else f" ± {half:.2f}"))


def main() -> None:
    """Run what is missing, and print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--seeds", default="6,7,8", help="0 to 5 were seen while the default was made")
    arguments.add_argument("--relaxations", type=int, default=1000)
    arguments.add_argument("--others", type=int, default=300)
    arguments.add_argument("--show", action="store_true", help="run nothing")
    given = arguments.parse_args()
    seeds = [int(text) for text in given.seeds.split(",")]
    parts = {name: given.out / "without" / name.replace(" ", "-").replace(",", "") for name in ABLATIONS}
    if not given.show:
        for presets, n in ((MAIN, given.relaxations), (OTHERS, given.others)):
            compare(CAMPAIGN, presets, seeds, given.out, [f"budget.relaxations={n}"], say=print)
        for name, overrides in ABLATIONS.items():
            budget = f"budget.relaxations={given.others}"
            compare(CAMPAIGN, MAIN[:1], seeds, parts[name], [budget, *overrides], say=print)
        overrides = [f"budget.relaxations={given.others}", "search.choices=4"]
        compare(CAMPAIGN, CHOOSING, seeds, given.out / "choosing", overrides, say=print)
    main_runs = {key: one for preset in MAIN for key, one in folders(given.out, preset, preset, seeds).items()}
    show("The two loops", main_runs, MAIN[0])
    others = {key: one for preset in OTHERS for key, one in folders(given.out, preset, preset, seeds).items()}
    show("All presets", main_runs | others, MAIN[0])
    named = {preset: f"{preset}, choosing" for preset in CHOOSING}
    choosing = {
        key: one
        for preset in CHOOSING
        for key, one in folders(given.out / "choosing", named[preset], preset, seeds).items()
    }
    show("Baselines that choose by single points too", main_runs | choosing, MAIN[0])
    whole = folders(given.out, "nothing", MAIN[0], seeds)
    without = {key: one for name, out in parts.items() for key, one in folders(out, name, MAIN[0], seeds).items()}
    show("The default preset without", whole | without, "nothing")


if __name__ == "__main__":
    main()
