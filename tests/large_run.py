"""A run folder of thousands of candidates, made up: what a long campaign of an LLM leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from matsearch.config import resolve_config
from matsearch.store import RunStore

HOSTILE = '<script>window.hurt = 1</script><img src=x onerror="window.hurt = 1">"\'</script>\u202eيمين\x00 '
ELEMENTS = "Li Na K Mg Ca Sr Ti Zr Al Si Zn O S F Cl N".split()
OBJECTIVES = [
    {"name": "energy_above_hull", "unit": "eV/atom", "direction": "min"},
    {"name": "bulk_modulus", "unit": "GPa", "direction": "max"},
]
ENDS = ["scored"] * 12 + ["parse", "check", "novelty", "novelty", "relax", "score", "waiting"]
REASONS = {"parse": "bad_poscar", "check": "overlapping_atoms", "novelty": "duplicate", "relax": "unconverged"}
SKEWED = [[4.1, 0.3, 0.0], [-1.2, 5.3, 0.2], [0.7, -0.4, -3.9]]
"""A left-handed cell: its candidate is `LEFT_HANDED`."""
LEFT_HANDED = 50


def make_large_run(run_dir: Path, n: int = 5000, seeds: int = 40) -> Path:
    """Two candidates a proposal, all kinds of ends, two objectives, hostile text wherever a model writes any."""
    rng = np.random.default_rng(0)
    config = resolve_config(
        {
            "name": "large",
            "preset": "best-of-n",
            "llm": {"backend": "scripted", "model": "m" + HOSTILE},
            "objectives": [{"name": one["name"]} for one in OBJECTIVES],
        },
        "test",
    )
    meta = {
        "config": json.dumps(config.plain()),
        "versions": json.dumps({"matsearch": "0.1.0", "platform": "Linux-6.18.44-x86_64-with-a-long-name-glibc2.36"}),
        "created": "2026-01-01T00:00:00+00:00",
        "status": "finished",
        "objectives": json.dumps(OBJECTIVES),
        "hours": "3.5",
    }
    RunStore.create(run_dir, meta, {})
    rows: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("proposals", "prompts", "replies", "candidates", "relaxations", "scores")
    }
    for number in range(n):
        _add(rows, number, number < seeds, rng)
    with RunStore(run_dir, writable=True) as store, store.transaction():
        for name, content in rows.items():
            store.insert(name, content)
    return run_dir


def _add(rows: dict[str, list[dict[str, Any]]], number: int, seed: bool, rng: np.random.Generator) -> None:
    stage = "scored" if seed or number == LEFT_HANDED else ENDS[int(rng.integers(len(ENDS)))]
    parents = [] if seed else sorted({int(one) for one in rng.integers(max(0, number - 400), number, 2)})
    proposal = None if seed else number // 2
    crystal, formula = _crystal(number, rng)
    row: dict[str, Any] = {
        "id": number, "proposal_id": proposal, "sample": number % 2, "parents": json.dumps(parents),
        "generation": 0 if seed else 1 + number // 200,
        "operator": "seed" if seed else ["mutate", "crossover"][number % 2],
        "model": "" if seed else "m" + HOSTILE, "name": f"mp-{number}" if seed else None, "formula": formula,
        "structure": None if stage == "parse" else json.dumps(crystal), "stage": stage,
        "reason": REASONS.get(stage), "detail": HOSTILE + "why " * 30 if stage == "parse" else None,
        "relaxation_key": f"k{number}" if stage in ("relax", "score", "scored") else None,
        "energy_above_hull": round(float(rng.gamma(1.2, 0.12)) - 0.02, 6) if stage in ("score", "scored") else None,
        "duplicate_of": number // 2 if stage == "scored" and not seed and rng.random() < 0.1 else None,
        "matched_known": f"mp-{number % 40}" if stage == "scored" and not seed and rng.random() < 0.1 else None,
        "add_status": None if seed or stage == "waiting" else "added",
    }  # fmt: skip
    if stage == "novelty":
        row["detail"] = f"matches candidate {number // 3}"
    if number == LEFT_HANDED + 1:
        row |= {"formula": HOSTILE[:60], "operator": HOSTILE}
    rows["candidates"].append(row)
    if row["relaxation_key"]:
        moved = np.array(crystal["frac_coords"]) + rng.normal(0, 0.005, (len(crystal["species"]), 3))
        relaxed = crystal | {"frac_coords": moved.tolist()}
        rows["relaxations"].append({
            "key": row["relaxation_key"], "structure": json.dumps(relaxed), "energy": -6.0 * len(moved), "converged": 1,
            "n_steps": int(rng.integers(5, 200)), "max_force": 0.03, "seconds": 1.25,
        })  # fmt: skip
    if stage in ("score", "scored"):
        for name, unit, value in [
            ("energy_above_hull", "eV/atom", row["energy_above_hull"]),
            ("bulk_modulus", "GPa", float(rng.normal(120, 40)) if stage == "scored" else None),
        ]:
            rows["scores"].append(
                {"candidate_id": number, "objective": name, "value": value, "unit": unit, "seconds": 0.5}
            )
    if proposal is None:
        return
    if not rows["proposals"] or rows["proposals"][-1]["id"] != proposal:
        rows["proposals"].append({
            "id": proposal, "generation": row["generation"], "operator": row["operator"], "parents": row["parents"],
            "n_children": 2, "llm": 0, "template": "chat/mutate", "template_hash": "0123456789abcdef",
        })  # fmt: skip
        shown = " ".join(f"{value:.5f}" for value in rng.random(150))
        asked = "Propose two new crystal structures that are stable. " * 12
        rows["prompts"].append({"hash": f"p{proposal}", "system": "You know crystals. " * 20, "user": asked + shown})
    answer = f"Here is {formula}:\n" + " ".join(f"{value:.6f}" for value in rng.random(60)) + HOSTILE
    rows["replies"].append({
        "key": f"r{number}", "proposal_id": proposal, "sample": number % 2, "prompt_hash": f"p{proposal}",
        "identity": '{"backend": "scripted", "model": "m"}', "seed": number,
        "text": answer * (1_000_000 // len(answer)) if number == LEFT_HANDED + 1 else answer, "reply_hash": "h",
        "finish_reason": "stop", "model": "m" + HOSTILE, "prompt_tokens": 900, "completion_tokens": 300, "seconds": 2.0,
    })  # fmt: skip


def _crystal(number: int, rng: np.random.Generator) -> tuple[dict[str, Any], str]:
    """A cell with atoms anywhere in it, and its formula."""
    if number == LEFT_HANDED:
        coords = [[0.0, 0.0, 0.0], [0.31, 0.52, 0.13], [0.72, 0.17, 0.64]]
        return {"lattice": SKEWED, "species": ["Ti", "O", "O"], "frac_coords": coords}, "TiO2"
    cation, other, anion = (*rng.choice(ELEMENTS[:11], 2, replace=False).tolist(), str(rng.choice(ELEMENTS[11:])))
    counts = [int(rng.integers(1, 5)), int(rng.integers(0, 4)), int(rng.integers(1, 9))]
    species = [one for one, count in zip((cation, other, anion), counts, strict=True) for _ in range(count)]
    edges = rng.uniform(3.0, 8.0, 3)
    lattice = np.diag(edges) + rng.normal(0, 0.2, (3, 3))
    formula = "".join(
        f"{one}{'' if count == 1 else count}"
        for one, count in zip((cation, other, anion), counts, strict=True)
        if count
    )
    crystal = {"lattice": lattice.tolist(), "species": species, "frac_coords": rng.random((len(species), 3)).tolist()}
    return crystal, formula
