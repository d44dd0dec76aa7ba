"""Made-up runs of `matsearch compare`, and a judge with an opinion of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from made_up_phases import BallPotential
from pymatgen.core import Lattice, Structure

from matsearch.config import resolve_config
from matsearch.crystal.text import to_json
from matsearch.store import RunStore


class PickyPotential(BallPotential):
    """Finds crystals of four atoms 0.2 eV/atom too high."""

    name = "compared_runs:PickyPotential"

    def _prediction(self, structure):
        found = super()._prediction(structure)
        return replace(found, energy=found.energy + 0.8) if len(structure) == 4 else found


def diagonal(edge: float, species: list[str]) -> Structure:
    """Atoms along the diagonal of a cube with an edge in Å."""
    n = len(species)
    return Structure(Lattice.cubic(edge), species, [[site / n] * 3 for site in range(n)])


def write_run(
    folder: Path,
    reference: Path,
    crystals: list[tuple[Structure, float]],
    status: str = "finished",
    potential: str = BallPotential.name,
) -> Path:
    """A run that found these crystals, with their energies above hull, each in a relaxation of its own."""
    config = resolve_config(
        {
            "name": "made-up",
            "llm": {"backend": "scripted", "model": "one"},
            "potential": {"name": potential},
            "reference": {"path": str(reference)},
        },
        "test",
    )
    meta = {"config": json.dumps(config.plain()), "status": status, "objectives": "[]", "hours": "0.0"}
    RunStore.create(folder, meta, {})
    with RunStore(folder, writable=True) as store, store.transaction():
        store.insert(
            "proposals",
            [
                {
                    "id": 0, "generation": 1, "operator": "mutate", "parents": "[]", "n_children": 9, "llm": 0,
                    "template": "chat/mutate", "template_hash": "h",
                }
            ],
        )  # fmt: skip
        for number, (crystal, height) in enumerate(crystals):
            relaxation = {"key": f"key{number}", "structure": to_json(crystal), "energy": -1.0, "converged": 1}
            store.insert("relaxations", [relaxation | {"n_steps": 3, "max_force": 0.01, "seconds": 0.1}])
            store.insert(
                "candidates",
                [
                    {
                        "id": number, "proposal_id": 0, "parents": "[]", "generation": 1, "operator": "mutate",
                        "model": "one", "formula": crystal.composition.reduced_formula, "structure": to_json(crystal),
                        "stage": "scored", "add_status": "added", "relaxation_key": f"key{number}",
                        "energy_above_hull": height,
                    }
                ],
            )  # fmt: skip
    return folder
