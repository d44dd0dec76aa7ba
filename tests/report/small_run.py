"""A small run folder, made through the store, with one candidate or more for each way to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pymatgen.core import Lattice, Structure

from matsearch.config import resolve_config
from matsearch.crystal.identity import structure_hash
from matsearch.crystal.text import to_json
from matsearch.store import RunStore

OBJECTIVES = [
    {"name": "energy_above_hull", "unit": "eV/atom", "direction": "min"},
    {"name": "bulk_modulus", "unit": "GPa", "direction": "max"},
]
HOSTILE = '<script>alert("x")</script><img src=https://example.org/a.png>\u202eيمين\x00 🧪 '


def rock_salt(cation: str, anion: str, edge: float = 4.2) -> Structure:
    corners = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    centres = [[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    return Structure(Lattice.cubic(edge), [cation] * 4 + [anion] * 4, corners + centres)


def make_store(run_dir: Path, **meta: str) -> Path:
    config = resolve_config(
        {
            "name": "small",
            "llm": {"backend": "scripted", "model": "one<b>bold"},
            "objectives": [{"name": one["name"]} for one in OBJECTIVES],
        },
        "test",
    )
    standing = {
        "config": json.dumps(config.plain()),
        "versions": json.dumps({"matsearch": "0.1.0", "chgnet": "0.4.2"}),
        "created": "2026-01-01T00:00:00+00:00",
        "status": "finished",
        "objectives": json.dumps(OBJECTIVES),
        "hours": "0.25",
    }
    RunStore.create(run_dir, {**standing, **meta}, {})
    return run_dir


def add(store: RunStore, number: int, stage: str, reason: str | None = None, **more: Any) -> None:
    """One candidate; with `energy`, one that was relaxed and scored."""
    structure, energy, bulk = more.pop("structure", None), more.pop("energy", None), more.pop("bulk", 100.0)
    seed = more.get("operator") == "seed"
    row = {
        "id": number, "proposal_id": None if seed else 0, "parents": "[]" if seed else "[0, 1]",
        "generation": 0 if seed else 1, "operator": "mutate", "model": "" if seed else "one<b>bold",
        "stage": stage, "reason": reason, "add_status": None if seed or stage == "waiting" else "added",
    } | more  # fmt: skip
    if structure is not None:
        row |= {"formula": structure.composition.reduced_formula, "structure": to_json(structure)}
        row["structure_hash"] = structure_hash(structure)
    if stage in ("relax", "score", "scored"):
        row["relaxation_key"] = key = f"key{number}"
        relaxation = {"key": key, "energy": -10.0, "converged": 1, "n_steps": 12, "max_force": 0.01, "seconds": 1.5}
        store.insert("relaxations", [relaxation | {"structure": to_json(structure)}])
    row["energy_above_hull"] = energy
    store.insert("candidates", [row])
    if energy is not None:
        for name, value, unit in [("energy_above_hull", energy, "eV/atom"), ("bulk_modulus", bulk, "GPa")]:
            score = {"candidate_id": number, "objective": name, "value": value, "unit": unit, "seconds": 0.5}
            store.insert("scores", [score])


def fill(store: RunStore) -> None:
    """Two seeds and twelve proposed candidates: three MSUN, one of them above the two others in nothing."""
    with store.transaction():
        store.insert("proposals", [{
            "id": 0, "generation": 1, "operator": "mutate", "parents": "[0, 1]", "n_children": 12, "llm": 0,
            "template": "chat/mutate", "template_hash": "h",
        }])  # fmt: skip
        store.insert("prompts", [{"hash": "p", "system": "", "user": "write"}])
        reply = {"proposal_id": 0, "prompt_hash": "p", "identity": "{}", "seed": 0, "text": HOSTILE, "reply_hash": "r"}
        reply |= {"finish_reason": "stop", "model": "m", "seconds": 2.0}
        counted = {"prompt_tokens": 1000, "completion_tokens": 400}
        store.insert("replies", [{**reply, **counted, "key": "a", "sample": 0}, {**reply, "key": "b", "sample": 1}])
        add(store, 0, "scored", operator="seed", name="mp-1", structure=rock_salt("Mg", "O"), energy=0.0, bulk=150.0)
        add(store, 1, "scored", operator="seed", name="mp-2", structure=rock_salt("Ca", "O", 4.8), energy=0.0)
        add(store, 2, "parse", "bad_poscar", detail=HOSTILE + "long " * 4000)
        add(store, 3, "parse", "missing")
        add(store, 4, "check", "overlapping_atoms", structure=rock_salt("Mg", "O", 2.0))
        add(store, 5, "novelty", "known", detail="matches mp-9", structure=rock_salt("Sr", "O", 5.1))
        add(store, 6, "novelty", "duplicate", detail="matches candidate 0", structure=rock_salt("Mg", "O"))
        add(store, 7, "relax", "unconverged", structure=rock_salt("Ba", "O", 5.5))
        add(store, 8, "score", "quarantined", structure=rock_salt("Li", "O", 4.0), energy=-0.4)
        add(store, 9, "scored", structure=rock_salt("Ti", "O"), energy=0.02, bulk=200.0)
        add(store, 10, "scored", structure=rock_salt("V", "O"), energy=0.0004, bulk=90.0)
        add(store, 11, "scored", structure=rock_salt("Mn", "O", 4.4), energy=0.05, bulk=80.0)
        add(store, 12, "scored", structure=rock_salt("Ti", "O"), energy=0.019, bulk=200.0, duplicate_of=9)
        add(store, 13, "waiting", structure=rock_salt("Fe", "O", 4.3))
