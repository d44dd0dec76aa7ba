"""The surroundings of a crystal's atoms in twelve bytes, to compare the most alike crystals first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from matsearch.crystal.tokens import ordered_symbols

if TYPE_CHECKING:
    from pymatgen.core import Structure

FINGERPRINT_VERSION = 1
"""Kept beside stored fingerprints: those of another version are stale."""
SHELLS = np.array([0.7, 0.95, 1.2, 1.45, 1.7, 1.95])
"""Centres of the shells, in units of (volume / atom)^(1/3)."""
SHELL_WIDTH = 0.25
SCALE = 16.0
"""Steps per neighbour in the square root of a count."""


def fingerprint(structure: Structure) -> np.ndarray:
    """How many neighbours an atom has on average in each of six shells: of all species, then of other species.

    Distances are in units of (volume / atom)^(1/3), so a strained copy keeps its fingerprint. Shells overlap and end
    smoothly, so that a small move of an atom is a small change of the fingerprint. It depends neither on the setting
    nor on the cell, supercell, hand or order of the sites, nor on the names of the species. It proves nothing: it says
    which crystals to compare first.

    Args:
        structure: Ordered, with a cell of finite volume.

    Returns:
        [12] uint8, the square roots of the counts in steps of 1/16.

    Raises:
        ValueError: The cell is flat, or a number is not finite.
        TextError: `disordered`.
    """
    from vesin import NeighborList

    symbols = ordered_symbols(structure)
    kinds = {symbol: kind for kind, symbol in enumerate(dict.fromkeys(symbols))}
    species = np.array([kinds[symbol] for symbol in symbols])
    matrix = np.asarray(structure.lattice.matrix, dtype=float)
    coords = np.asarray(structure.frac_coords, dtype=float).reshape(-1, 3)
    volume = abs(float(np.linalg.det(matrix)))
    # vesin ends the process at a cell of NaN.
    if not (np.isfinite(matrix).all() and np.isfinite(coords).all() and volume > 0 and len(coords)):
        raise ValueError(f"a fingerprint needs atoms in a cell of finite volume; got {len(coords)} in {volume:g} Å^3")
    unit = (volume / len(coords)) ** (1 / 3)
    search = NeighborList(cutoff=float(SHELLS[-1] + SHELL_WIDTH), full_list=True)
    first, second, distances = search.compute(
        points=(coords - np.floor(coords)) @ matrix / unit, box=matrix / unit, periodic=True, quantities="ijd"
    )
    # A triangle around the centre: every distance between two centres is shared by both.
    weights = np.clip(1 - np.abs(distances[:, None] - SHELLS) / SHELL_WIDTH, 0, 1)
    weights[distances < SHELLS[0], 0] = 1
    unlike = weights[species[first] != species[second]]
    counts = np.concatenate([weights.sum(axis=0), unlike.sum(axis=0)]) / len(coords)
    # Rounded twice, so that a value half-way between two steps is not decided by the noise of a setting.
    steps = np.rint(np.round(SCALE * np.sqrt(counts), 6))
    return np.minimum(steps, 255).astype(np.uint8)
