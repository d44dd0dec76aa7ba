"""Crystals as templates see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matsearch.propose import wording
from matsearch.records import Score


@dataclass(frozen=True, slots=True)
class Shown:
    """A crystal as a template sees it.

    Attributes:
        text: In the representation that the template chooses.
        formula: Reduced.
        energy_above_hull: eV/atom, or None.
        scores: Of the objectives, with units.
        space_group: `Fm-3m (225)`, or empty.
        stability: `0.012 eV/atom above the hull`, or empty.
        competing: The known phases of the hull there, `0.67 Li2O + 0.33 TiO2` (shares of the atoms), or empty.
        reason: Why it failed, in one snake_case word; empty for a parent.
        problem: The same for a chemist.
    """

    text: str
    formula: str
    energy_above_hull: float | None = None
    scores: Sequence[Score] = ()
    space_group: str = ""
    stability: str = ""
    competing: str = ""
    reason: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Remembered:
    """An earlier crystal of the search as a template sees it.

    Attributes:
        formula: Reduced.
        space_group: `Fm-3m (225)`, or empty.
        operator: What made it.
        outcome: How stable it is, or what went wrong.
    """

    formula: str
    space_group: str
    operator: str
    outcome: str


def example(name: str, *, rich: bool) -> dict[str, Any]:
    """Variables such as a template may get: as much as there can be, or as little."""
    text = "a crystal"
    if not rich:
        failed = Shown(text, "NaCl", reason="unconverged", problem="its relaxation did not converge")
        return {
            "parents": [] if name in ("explore", "predict") else [Shown(text, "NaCl")],
            "failed": failed if name == "repair" else None,
            "n_children": 1,
            "elements": None,
            "whole_system": False,
            "stoichiometry": None,
            "symmetry": None,
            "min_atoms": None,
            "max_atoms": None,
            "composition": "NaCl" if name == "predict" else None,
            "objectives": [],
            "memory": {"worked": [], "failed": []},
            "conditions": [],
        }
    parent = Shown(
        text, "NaCl", 0.012, [Score("bulk_modulus", 24.0, "GPa")], "Fm-3m (225)", wording.stability(0.012),
        "0.50 Na + 0.50 Cl2", "overlapping_atoms", "atoms are too close to each other",
    )  # fmt: skip
    remembered = Remembered("NaCl", "Fm-3m (225)", "mutate", "0.012 eV/atom above the hull")
    return {
        "parents": [parent, parent],
        "failed": parent,
        "n_children": 2,
        "elements": ["Cl", "Na"],
        "whole_system": True,
        "stoichiometry": "A:B = 1:1",
        "symmetry": "any cubic space group",
        "min_atoms": 2,
        "max_atoms": 8,
        "composition": "NaCl",
        "objectives": [
            {
                "name": "bulk_modulus",
                "unit": "GPa",
                "direction": "max",
                "target": None,
                "best": 24.0,
                "wish": "high bulk_modulus (GPa)",
            },
            {
                "name": "density",
                "unit": "",
                "direction": "min",
                "target": 3.0,
                "best": None,
                "wish": "density of 3",
            },
        ],
        "memory": {"worked": [remembered], "failed": [remembered]},
        "conditions": ["stable"],
    }
