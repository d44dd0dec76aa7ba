"""The prototype of a crystal as a short label: which symmetry its atoms have, whatever their species."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.crystal.tokens import ordered_symbols

if TYPE_CHECKING:
    from pymatgen.core import Structure

# moyo logs every cell that is not its standard one; without a handler that would land on stderr.
logging.getLogger("moyo").addHandler(logging.NullHandler())

PROTOTYPE_VERSION = 2
"""Kept beside stored labels: those of another version are stale."""
SYMPRECS = (0.1, 0.01)
"""Å. The first is what the Materials Project quotes its space groups for, and forgiving enough that a relaxed copy of a
phase keeps its label; moyo finds it too large for a few crystals, which are then labelled by the second."""

NEEDLE = 15.0
"""Longest edge to shortest. With the first tolerance moyo does not return from some cells more extreme than this (one
of 3 x 3 x 60 Å was met), so that they are only searched with the second."""


def prototype_label(structure: Structure) -> str:
    """Anonymous formula, Pearson symbol, space group and Wyckoff letters of each species: `AB2_tP6_136_a_f`.

    Species are ordered by their number of atoms, then by their letters; letters carry the number of orbits where it is
    not one. Every description that the Euclidean normaliser of the space group calls equal (another origin, axes or
    hand) is written out, and the label is the smallest. So it does not depend on the names and the order of the
    species, on the setting, supercell, hand or origin.

    Not normalised: axes that only the affine normaliser exchanges. An orthorhombic crystal and another one with the
    same atoms and differently long axes may have two labels. Free parameters are not in it: one label, many crystals.
    It orders comparisons and names what is alike; it proves nothing.

    Args:
        structure: Ordered. Charges of species are ignored, and D is H.

    Returns:
        The label; `AB2_?` where moyo finds no symmetry, or only by merging atoms that lie on top of each other.

    Raises:
        TextError: `disordered`.
    """
    import moyopy

    symbols = ordered_symbols(structure)
    kinds = sorted(set(symbols))
    numbers = [kinds.index(symbol) + 1 for symbol in symbols]
    formula = _anonymous_formula(sorted(Counter(numbers).values()))
    coords = np.asarray(structure.frac_coords, dtype=float).reshape(-1, 3)
    if not numbers or not (np.isfinite(coords).all() and np.isfinite(structure.lattice.matrix).all()):
        return f"{formula}_?"
    cell = moyopy.Cell(structure.lattice.matrix.tolist(), (coords - np.floor(coords)).tolist(), numbers)
    edges = np.linalg.norm(structure.lattice.matrix, axis=1)
    for symprec in SYMPRECS if edges.max() <= NEEDLE * edges.min() else SYMPRECS[1:]:
        try:
            dataset = moyopy.MoyoDataset(cell, symprec=symprec)
            descriptions = dataset.normalizer_wyckoff_positions().coset_representatives
        except ValueError:
            continue
        species = np.array(dataset.std_cell.numbers)
        counts = np.bincount(species)
        if _anonymous_formula(sorted(counts[counts > 0].tolist())) != formula:
            continue
        letters = min(_letters(species, counts, positions) for _, positions in descriptions)
        return "_".join([formula, dataset.pearson_symbol, str(dataset.number), *(text for _, text in letters)])
    return f"{formula}_?"


def _letters(species: np.ndarray, counts: np.ndarray, positions: Sequence[Any]) -> list[tuple[int, str]]:
    """Atoms in the standard cell and Wyckoff letters of each species, in the order of the label."""
    atoms = Counter((int(kind), site.letter, site.multiplicity) for kind, site in zip(species, positions, strict=True))
    text: dict[int, str] = {}
    for (kind, letter, multiplicity), number in sorted(atoms.items()):
        n_orbits = number // multiplicity
        text[kind] = text.get(kind, "") + (letter if n_orbits == 1 else f"{n_orbits}{letter}")
    return sorted((int(counts[kind]), letters) for kind, letters in text.items())


def _anonymous_formula(counts: list[int]) -> str:
    """A2B3 for the counts [4, 6]."""
    divisor = int(np.gcd.reduce(counts)) if counts else 1
    names = (chr(ord("A") + index) for index in range(len(counts)))
    return "".join(
        f"{name}{count // divisor if count != divisor else ''}" for name, count in zip(names, counts, strict=True)
    )
