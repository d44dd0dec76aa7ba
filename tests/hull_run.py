"""A made-up run in Li-Mg-Ti-O whose energies stand on the shipped hull, with all that a report can show of one.

The hull is pymatgen's, so that what a report says of it can be held against other code than its own.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Lattice, Structure

from matsearch.config import resolve_config
from matsearch.crystal.identity import structure_hash
from matsearch.crystal.text import to_json
from matsearch.potential.names import load_potential
from matsearch.reference import load_reference
from matsearch.store import RunStore

NAME = "chgnet-0.3.0"
OBJECTIVES = [
    {"name": "energy_above_hull", "unit": "eV/atom", "direction": "min"},
    {"name": "bulk_modulus", "unit": "GPa", "direction": "max"},
]
PRICES = {"prompt": 3.0, "completion": 11.0, "cached": 0.5, "reasoning": 13.0}
EXTRA = ("extra/mine", 0.03)
"""A phase of the user's, TiO, and how far above the hull it is."""
WORST = {"energy_above_hull": 0.1, "bulk_modulus": 95.0}
"""That count in the campaign's hypervolume."""
JUDGE = "other"
SITES = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]

# Cations of a rock salt with four of them, edge in Å, energy above the hull in eV/atom, bulk modulus in GPa, how it
# ends (stage, reason), and what it was found to be. The first two are seeds.
CRYSTALS: list[tuple[str, float, float | None, float | None, str, str | None, dict[str, Any]]] = [
    ("Mg Mg Mg Mg", 4.2, 0.0, 150.0, "scored", None, {"name": "mp-1265"}),
    ("Li Li Mg Mg", 4.3, 0.061, 120.0, "scored", None, {"name": "mp-2"}),
    ("Mg Mg Mg Mg", 4.25, 0.013, 140.0, "scored", None, {"matched_known": "mp-1265"}),
    ("Li Mg Mg Mg", 4.22, 0.041, 131.5, "scored", None, {}),
    ("Li Li Li Mg", 4.31, 0.092, 99.0, "scored", None, {}),
    ("Ti Ti Mg Mg", 4.21, -0.021, 170.0, "scored", None, {}),
    ("Ti Mg Mg Mg", 4.23, 0.0006, 160.0, "scored", None, {}),
    ("Ti Mg Mg Mg", 4.24, 0.0007, 159.0, "scored", None, {"duplicate_of": 6}),
    ("Ti Li Mg Mg", 4.26, 0.151, 145.0, "scored", None, {}),
    ("Ti Ti Ti Mg", 4.2, 0.077, 181.25, "scored", None, {}),
    ("Ti Ti Ti Li", 4.2, -0.31, 183.0, "score", "quarantined", {}),
    ("Ti Ti Li Li", 4.28, 0.083, None, "score", "no_value", {}),
    ("Li Li Li Li", 4.6, None, None, "relax", "unconverged", {}),
    ("Ti Ti Ti Ti", 4.2, None, None, "novelty", "known", {"detail": "matches mp-9"}),
    ("Mg Mg Li Ti", 4.27, None, None, "novelty", "duplicate", {"detail": "matches candidate 8"}),
    ("Mg Mg Mg Ti", 2.0, None, None, "check", "overlapping_atoms", {}),
    ("", 0.0, None, None, "parse", "no_structure", {}),
    ("Li Ti Ti Ti", 4.29, None, None, "waiting", None, {}),
]
N_SEEDS = 2
FAMILY = {number: [0] for number in range(N_SEEDS, 8)} | {number: [1, 5] for number in range(8, len(CRYSTALS))}
SECOND_OPINION = {10: 0.04}
N_CHARGED = 7
"""So many have charges, as if the potential gave any."""
JUDGED = {3: 0.052, 5: -0.011, 6: 0.003}


def rock_salt(cations: str, edge: float) -> Structure:
    """Of four cations and four O, the sites of the O a little off, so that no two have the same volume by chance."""
    anions = [[x + 0.5, y, z] for x, y, z in SITES]
    return Structure(Lattice.cubic(edge), [*cations.split(), *"OOOO"], [*SITES, *anions])


@cache
def phase_diagram() -> PhaseDiagram:
    """Of the shipped phases in the run's elements, with the user's."""
    shipped = load_reference(NAME).phases
    entries = [
        PDEntry(Composition(formula) * 2, 2 * energy * Composition(formula).num_atoms, name=name)
        for name, formula, energy in zip(shipped["id"], shipped["formula"], shipped["energy_per_atom"], strict=True)
        if {one.symbol for one in Composition(formula)} <= {"Li", "Mg", "Ti", "O"}
    ]
    titanium_oxide = Composition("Ti4O4")
    name, height = EXTRA
    energy = 8 * (height + PhaseDiagram(entries).get_hull_energy_per_atom(titanium_oxide))
    return PhaseDiagram([*entries, PDEntry(titanium_oxide, energy, name=name)])


def make_hull_run(run_dir: Path) -> Path:
    """Write the run, and beside it what a judge said of it; `run_dir` is FOLDER/PRESET/seed-N."""
    config = resolve_config(
        {
            "name": "hulls",
            "llm": [
                {"backend": "scripted", "model": "priced", "prices": PRICES},
                {"backend": "operators", "model": "default"},
            ],
            "objectives": [{"name": one["name"]} for one in OBJECTIVES],
            "search": {"selection": "lexicographic", "second_opinion": "chgnet-r2scan"},
        },
        "test",
    )
    meta = {
        "config": json.dumps(config.plain()),
        "versions": json.dumps({"matsearch": "0.1.0", "chgnet": "0.4.2"}),
        "weights": json.dumps({NAME: {"weights.tar": "0123456789abcdef" * 4}}),
        "created": "2026-01-01T00:00:00+00:00",
        "status": "finished",
        "objectives": json.dumps(OBJECTIVES),
        "hours": "0.25",
        "reference_hash": "41300e08",
        "reference_point": json.dumps(WORST),
        "extra_phases": json.dumps([{"id": EXTRA[0], "relaxation_key": "extra"}]),
    }
    RunStore.create(run_dir, meta, {})
    with RunStore(run_dir, writable=True) as store, store.transaction():
        _fill(store)
    finalists = [
        {
            "preset": run_dir.parent.name, "seed": int(run_dir.name.removeprefix("seed-")), "id": number,
            "formula": rock_salt(*CRYSTALS[number][:2]).composition.reduced_formula, JUDGE: height,
        }
        for number, height in JUDGED.items()
    ]  # fmt: skip
    content = {"judges": {JUDGE: {}}, "finalists": finalists}
    (run_dir.parent.parent / "judges.json").write_text(json.dumps(content), encoding="utf-8")
    return run_dir


def _fill(store: RunStore) -> None:
    known = phase_diagram()
    (mine,) = [entry for entry in known.all_entries if entry.name == EXTRA[0]]
    _relaxation(store, "extra", rock_salt("Ti Ti Ti Ti", 4.18), mine.energy, 0)
    charges = _charges([rock_salt(cations, edge) for cations, edge, *_ in CRYSTALS[:N_CHARGED]])
    for llm, (operator, template) in enumerate([("mutate", "chat/mutate"), ("substitute", "operators/substitute")]):
        store.insert("proposals", [{
            "id": llm, "generation": 1, "operator": operator, "parents": json.dumps(FAMILY[N_SEEDS + 6 * llm]),
            "n_children": 6, "llm": llm, "template": template, "template_hash": f"hash{llm}",
        }])  # fmt: skip
        store.insert("prompts", [{"hash": f"p{llm}", "system": "You know crystals.", "user": f"Write some. {llm}"}])
    for number in range(N_SEEDS, len(CRYSTALS)):
        llm = int(number >= 8)
        counted = {"prompt_tokens": 1000 + number, "completion_tokens": 400, "cached_tokens": 20, "reasoning_tokens": 7}
        said = f"Ti for Mg; from 0, mp-1265; the lowest of 4, as it stands -0.01{number} eV/atom above the hull\n{{}}"
        store.insert("replies", [{
            "key": f"r{number}", "proposal_id": llm, "sample": number, "prompt_hash": f"p{llm}", "seed": number,
            "identity": json.dumps({"backend": ["scripted", "operators"][llm]}), "text": said if llm else "x" * number,
            "reply_hash": "h", "finish_reason": "stop", "model": "m", "seconds": 0.5 * number,
            **(counted if number < 7 else {}),
        }])  # fmt: skip
    for number, (cations, edge, height, bulk, stage, reason, more) in enumerate(CRYSTALS):
        seed = number < N_SEEDS
        llm = int(number >= 8)
        row = {
            "id": number, "proposal_id": None if seed else llm, "sample": number, "generation": int(not seed),
            "parents": json.dumps(FAMILY.get(number, [])),
            "operator": "seed" if seed else ["mutate", "substitute"][llm], "model": "" if seed else ["m", "n"][llm],
            "stage": stage, "reason": reason, "energy_above_hull": height,
            "add_status": None if seed or stage == "waiting" else "added", **more,
        }  # fmt: skip
        if cations:
            structure = rock_salt(cations, edge)
            row |= {"formula": structure.composition.reduced_formula, "structure": to_json(structure)}
            row["structure_hash"] = structure_hash(structure)
            if stage in ("relax", "score", "scored"):
                row["relaxation_key"] = f"k{number}"
                relaxed = structure.copy().apply_strain(0.01 * (number % 3))
                hull = known.get_hull_energy_per_atom(structure.composition)
                energy = 8 * (hull + (0.5 if height is None else height))
                _relaxation(store, f"k{number}", relaxed, energy, number, charges.get(number))
        store.insert("candidates", [row])
        values = {"energy_above_hull": height, "bulk_modulus": bulk, "second_opinion": SECOND_OPINION.get(number)}
        for name, value in values.items():
            if value is not None:
                score = {"candidate_id": number, "objective": name, "value": value, "seconds": 0.25}
                store.insert("scores", [score | {"unit": "GPa" if name == "bulk_modulus" else "eV/atom"}])


def _charges(structures: list[Structure]) -> dict[int, list[float]]:
    """By PQEq: what a potential with charges leaves in a run."""
    predictions = load_potential("pqeq", "cpu").predict(structures)
    return {number: one.charges.tolist() for number, one in enumerate(predictions) if one.charges is not None}


def _relaxation(
    store: RunStore, key: str, structure: Structure, energy: float, number: int, charges: list[float] | None = None
) -> None:
    content = json.loads(to_json(structure))
    if charges is not None:
        content["charges"] = charges
    store.insert("relaxations", [{
        "key": key, "structure": json.dumps(content), "energy": energy, "converged": int(number != 12),
        "n_steps": 10 + number, "max_force": 0.001 * number, "seconds": 1.5 + number,
    }])  # fmt: skip
