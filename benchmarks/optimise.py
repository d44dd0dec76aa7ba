"""Ways of selection by the hypervolume of (energy above hull, bulk modulus) that they reach at equal budget.

    python benchmarks/optimise.py [--seeds 0,1,2] [--relaxations 100] [--backend operators] [--out runs/optimise]

One campaign of preset `matsearch` (`operators-only` where operators stand in the place of an LLM) looks for stiff
crystals near the hull, by each way of selection with each seed; everything else is the same, the known phases that it
starts from included. `weighted` is the sum of MatLLMSearch (0.7 and 0.3, Gan et al. 2025, arXiv 2502.20933),
`lexicographic` its other way: within 0.03 eV/atom above the hull, then by bulk modulus. `bounded` is `pareto` with the
constraint that keeps what lies more than 0.1 eV/atom above the hull from being scored further.

The hypervolume is that of the metastable crystals, energies above the hull clipped at 0, against 0.1 eV/atom and 100
GPa; all runs are cut at the proposals and relaxations of the first that ended. Runs are kept in `--out` and go on where
they were stopped; what is through is not run again.
"""

import argparse
import json
from pathlib import Path

from matsearch.campaign.campaign import Campaign
from matsearch.config import resolve_config
from matsearch.metrics.comparison import cut, interval, spent
from matsearch.metrics.discovery import verdicts
from matsearch.metrics.hypervolume import volume_curve
from matsearch.search import Goal

GOALS = [Goal("energy_above_hull", "min"), Goal("bulk_modulus", "max")]
WORST = {"energy_above_hull": 0.1, "bulk_modulus": 100.0}
# Wide enough that 100 relaxations do not exhaust it: with ten elements and six atoms all ways found the same crystal.
SPACE = {"elements": "Al B C Co Cr Fe Hf Ir Mn Mo N Nb Ni O Os Re Rh Ru Si Ta Ti V W Zr".split(), "max_atoms": 10}
BOTH = [
    {"name": "energy_above_hull", "direction": "min", "weight": 0.7},
    {"name": "bulk_modulus", "direction": "max", "weight": 0.3, "reference": 100.0},
]
WAYS = {
    "pareto": ("pareto", BOTH),
    "bounded": ("pareto", [{**BOTH[0], "constraint": "<= 0.1"}, BOTH[1]]),
    "weighted": ("weighted", BOTH),
    # From the floor of -0.1 to 0.03 eV/atom all are equal; as a constraint it would keep others from being scored.
    "lexicographic": ("lexicographic", [{"name": "energy_above_hull", "target": -0.035, "tolerance": 0.065}, BOTH[1]]),
}


def campaign(way, seed, backend, relaxations, folder):
    """One of the campaigns; its folder may hold a part of it."""
    selection, objectives = WAYS[way]
    data = {
        "name": f"optimise-{way}-{seed}",
        "task": "optimise",
        "preset": "operators-only" if backend == "operators" else "matsearch",
        "seed": seed,
        "space": SPACE,
        "search": {"selection": selection, "population": 24, "seeds": 24, "generations": 10_000},
        "objectives": objectives,
        "budget": {"relaxations": relaxations},
    }
    if backend != "operators":
        data["llm"] = {"backend": backend}
    return Campaign.from_config(resolve_config(data, "benchmark"), folder, budget_may_change=True)


def best(frame, limit):
    """GPa of the stiffest metastable crystal up to a height above the hull."""
    table = verdicts(frame)
    found = frame.loc[table.index[table["metastable"]]]
    return found.loc[found["energy_above_hull"] <= limit, "bulk_modulus"].max()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--ways", default=",".join(WAYS))
    arguments.add_argument("--seeds", default="0,1,2")
    arguments.add_argument("--relaxations", type=int, default=100)
    arguments.add_argument("--backend", default="operators")
    arguments.add_argument("--out", type=Path, default=Path("runs/optimise"))
    given = arguments.parse_args()
    ways, seeds = given.ways.split(","), [int(text) for text in given.seeds.split(",")]
    frames = {}
    for seed in seeds:
        for way in ways:
            one = campaign(way, seed, given.backend, given.relaxations, given.out / way / f"seed-{seed}")
            if one.status != "finished" and not one.status.startswith(f"budget: relaxations ({given.relaxations} "):
                print(f"{way}, seed {seed}", flush=True)
                one.run()
            frames[way, seed] = one.candidates()
    costs = [spent(frame) for frame in frames.values()]
    proposals, relaxations = min(one[0] for one in costs), min(one[1] for one in costs)
    parts = {key: cut(frame, proposals, relaxations) for key, frame in frames.items()}
    curves = {key: volume_curve(part, GOALS, WORST) for key, part in parts.items()}
    print(f"cut at {proposals} proposals or {relaxations} relaxations; mean and 95 % interval over {len(seeds)} seeds")
    print(f"{'':14} hypervolume, eV/atom GPa   at half   per seed                K_max <= 0.03, <= 0.1 eV/atom, GPa")
    for way in ways:
        own = [curves[way, seed] for seed in seeds]
        mean, half = interval([float(curve[-1]) for curve in own])
        early = interval([float(curve[len(curve) // 2]) for curve in own])[0]
        stiff = [max(best(parts[way, seed], limit) for seed in seeds) for limit in (0.03, 0.1)]
        each = ", ".join(f"{curve[-1]:.1f}" for curve in own)
        spread = "" if half is None else f" ± {half:.1f}"
        print(f"{way:14} {mean:10.2f}{spread:12} {early:12.2f}   {each:24} {stiff[0]:.0f}, {stiff[1]:.0f}")
    first = ways[0]
    for way in ways[1:]:
        ratios = [float(curves[first, seed][-1] / curves[way, seed][-1]) for seed in seeds]
        mean, half = interval(ratios)
        print(f"{first} / {way}: {mean:.3f}" + ("" if half is None else f" ± {half:.3f}"))
    given.out.joinpath("curves.json").write_text(
        json.dumps({f"{way}/{seed}": curve.tolist() for (way, seed), curve in curves.items()}) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
