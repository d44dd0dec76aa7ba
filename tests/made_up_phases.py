"""A made-up potential and a made-up list of phases, to build references from in a second."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from matsearch.potential.base import Potential
from matsearch.records import Prediction

VOLUME = 12.0  # Å^3 that an atom likes


class BallPotential(Potential):
    """Atoms bind by kind, unlike ones a little more, and want a volume of 12 Å^3.

    `BALL_PAUSE` in the environment: seconds that every call takes.
    """

    name = "made_up_phases:BallPotential"
    energy_scale = "made-up"
    depths: ClassVar = {"H": -0.5, "Li": -1.0, "Mg": -2.0, "O": -4.0, "Ti": -6.0}
    elements = frozenset(depths)
    n_calls = 0

    def __init__(self, device):
        self.device = "cpu"

    def predict(self, structures):
        time.sleep(float(os.environ.get("BALL_PAUSE", "0")))
        BallPotential.n_calls += len(structures)
        return [self._prediction(structure) for structure in structures]

    def _prediction(self, structure):
        n = len(structure)
        excess = structure.volume / n - VOLUME
        energy = sum(self.depths[site.specie.symbol] for site in structure) + n * 0.01 * excess**2
        energy -= 0.5 * n * (len(structure.composition) - 1)
        return Prediction(energy, np.zeros((n, 3)), 0.02 * excess * np.eye(3))


class DeepBallPotential(BallPotential):
    """The same with oxygen bound more deeply."""

    name = "made_up_phases:DeepBallPotential"
    depths: ClassVar = BallPotential.depths | {"O": -5.0}


class MuteBallPotential(BallPotential):
    """Has no number to say of anything with titanium, but of the pure element."""

    name = "made_up_phases:MuteBallPotential"

    def _prediction(self, structure):
        if "Ti" in structure.symbol_set and len(structure.symbol_set) > 1:
            return Prediction(float("nan"), np.zeros((len(structure), 3)), np.zeros((3, 3)))
        return super()._prediction(structure)


def row(phase_id: str, edge: float, species: list[str]) -> dict[str, object]:
    """A row of a table of phases: atoms along the diagonal of a cube with an edge in Å."""
    n = len(species)
    return {
        "material_id": phase_id,
        "lattice": [edge, edge, edge, 90.0, 90.0, 90.0],
        "species": species,
        "frac_coords": [value / n for site in range(n) for value in (site, site, site)],
    }


ROWS = [
    row("a-1", 2.3, ["Li"]),
    row("a-2", 2.4, ["Li"]),
    row("a-3", 2.3, ["Mg"]),
    row("a-4", 2.3, ["O"]),
    row("a-5", 2.9, ["Li", "O"]),
    row("a-6", 2.9, ["Mg", "O"]),
    row("a-7", 4.2, ["Mg", "O"]),  # 6 eV/atom of strain: far above the hull, and not the lowest of its formula
    row("a-8", 3.3, ["Li", "Mg", "O"]),
    row("a-9", 2.3, ["Ti"]),
]
"""Phases of Li, Mg and O, and Ti alone."""


def write_phases(path: Path, rows: list[dict[str, object]] | None = None) -> Path:
    """A Parquet file of phases, `ROWS` unless told."""
    pd.DataFrame(ROWS if rows is None else rows).to_parquet(path)
    return path
