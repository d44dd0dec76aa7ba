"""Vacancies and interstitials: orbits or single atoms taken out or put in so that charges balance where they can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from matsearch.crystal.space_groups import space_group
from matsearch.propose.operators.base import Operator, count, pick, refusal, symbols_of
from matsearch.propose.operators.compositions import allowed_elements, cell_formula
from matsearch.propose.operators.distortion import doubled
from matsearch.propose.operators.orbits import Orbits, primitive_images, to_orbits, to_primitive
from matsearch.propose.operators.oxidation import is_alloy, is_balanced
from matsearch.propose.operators.records import Change, Parent
from matsearch.propose.operators.spacing import distances, reduced, room_of, usual_distances
from matsearch.propose.operators.substitution import with_target
from matsearch.propose.operators.volumes import expected_volume
from matsearch.propose.space import most_atoms
from matsearch.records import Rejection

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.propose.space import Space

LARGEST_LOSS = 0.4
"""Share of the atoms that may be taken out."""
DOUBLED = 0.3
"""Share of attempts on single atoms in a doubled cell; all of those in a `SMALL` one."""
SMALL = 6
"""Atoms of a cell too small for a vacancy to leave much."""
N_HOLES = 150
"""Random points among which room for another atom is looked for."""
SNAPPED = 0.12
"""Fractional; points this near to a symmetry element are put on it."""
OWN_ELEMENT = 0.5
"""Share of interstitials that are of an element the parent has."""


class Vacancy(Operator):
    """Takes atoms out, puts atoms in, or (with a given composition) moves one atom into a hole.

    Symmetric attempts take whole orbits of the space group, the others single atoms, some in a doubled cell. What goes
    together with what is chosen so that the rest can be neutral; where nothing balances, anything goes. The cell
    follows the volume of its atoms, half as much where a hole is filled.
    """

    name = "vacancy"
    changes_formula = True

    def attempt(self, parents: Sequence[Parent], space: Space, rng: np.random.Generator) -> Change | Rejection:
        """One defect in one of the parents."""
        parent = parents[int(rng.integers(len(parents)))]
        structure = with_target(parent.structure, space, rng)
        if isinstance(structure, Rejection):
            return structure
        limit = most_atoms(space)
        n_most = limit if limit is not None else 10 * len(structure)
        is_full = len(structure) >= n_most
        orbits = to_orbits(structure) if rng.random() < 0.5 else None
        if orbits is None:
            is_small = len(structure) < SMALL or rng.random() < DOUBLED
            if is_small and 2 * len(structure) <= n_most:
                structure = doubled(structure, rng)
            orbits = as_orbits(structure)
        if space.composition is not None:
            made = self._move(orbits, rng)
        elif rng.random() < 0.5 or is_full:
            made = self._take_out(orbits, rng)
        else:
            made = self._put_in(orbits, space, n_most, rng)
        if isinstance(made, Rejection):
            return made
        structure, text = made
        return Change(structure, text, (parent.id,))

    def _take_out(self, orbits: Orbits, rng: np.random.Generator) -> tuple[Structure, str] | Rejection:
        sizes = orbits.sizes()
        counts = amounts(orbits)
        balanced: list[tuple[int, ...]] = []
        others: list[tuple[int, ...]] = []
        tried: dict[tuple[tuple[str, int], ...], bool] = {}
        n_kinds = 3 if len(sizes) <= 12 else 2
        for n in range(1, n_kinds + 1):
            for out in combinations(range(len(sizes)), n):
                lost: dict[str, int] = {}
                for index in out:
                    lost[orbits.symbols[index]] = lost.get(orbits.symbols[index], 0) + sizes[index]
                left = {symbol: k - lost.get(symbol, 0) for symbol, k in counts.items()}
                if sum(lost.values()) > LARGEST_LOSS * sum(sizes) or not all(left.values()):
                    continue
                key = tuple(left.items())
                if key not in tried:
                    tried[key] = is_balanced(left)
                (balanced if tried[key] else others).append(out)
            if balanced:
                break  # the fewest orbits that do
        ways = balanced or [out for out in others if len(out) == 1]
        if not ways:
            return refusal("nothing_to_take", f"{cell_formula(counts)} has no orbit that can be spared")
        out = ways[int(rng.integers(len(ways)))]
        kept = [index for index in range(len(sizes)) if index not in out]
        made = replace(orbits, symbols=tuple(orbits.symbols[index] for index in kept), points=orbits.points[kept])
        lost = {}
        for index in out:
            lost[orbits.symbols[index]] = lost.get(orbits.symbols[index], 0) + sizes[index]
        return resized(made, counts, 1.0), f"{cell_formula(lost)} out of {cell_formula(counts)}"

    def _put_in(
        self, orbits: Orbits, space: Space, n_most: int, rng: np.random.Generator
    ) -> tuple[Structure, str] | Rejection:
        counts = amounts(orbits)
        own = [symbol for symbol in counts if space.elements is None or symbol in space.elements]
        foreign = [one for one in allowed_elements(space) if one not in counts]
        holes = [
            (images, point)
            for images, point in self._holes(orbits, rng)
            if len(images) + sum(counts.values()) <= n_most
        ]
        if not holes:
            return refusal("too_many_atoms", f"no room for another orbit below {n_most} atoms")
        images, point = holes[int(rng.integers(len(holes)))]
        use_own = bool(own) and (rng.random() < OWN_ELEMENT or not foreign)
        weights: dict[str, float] = {}
        for balanced in (True, False):
            # Small atoms fit better.
            weights = {
                symbol: np.exp(-expected_volume({symbol: 1}) / 10)
                for symbol in (own if use_own else foreign)
                if not balanced or is_balanced({**counts, symbol: counts.get(symbol, 0) + len(images)})
            }
            if weights:
                break
        symbol = pick(rng, weights)
        if symbol is None:
            return refusal("no_element", "no element is allowed that could be put in")
        made = replace(orbits, symbols=(*orbits.symbols, symbol), points=np.vstack([orbits.points, point]))
        return resized(made, counts, 0.5), f"{cell_formula({symbol: len(images)})} into {cell_formula(counts)}"

    def _move(self, orbits: Orbits, rng: np.random.Generator) -> tuple[Structure, str] | Rejection:
        orbit = int(rng.integers(len(orbits.symbols)))
        size = orbits.sizes()[orbit]
        kept = [index for index in range(len(orbits.symbols)) if index != orbit]
        if not kept:
            return refusal("nothing_to_take", "the only orbit has nowhere to go")
        rest = replace(orbits, symbols=tuple(orbits.symbols[index] for index in kept), points=orbits.points[kept])
        holes = [point for images, point in self._holes(rest, rng) if len(images) == size]
        if not holes:
            return refusal("no_hole", f"no hole for {size} atoms")
        point = holes[int(rng.integers(len(holes)))]
        symbol = orbits.symbols[orbit]
        made = replace(rest, symbols=(*rest.symbols, symbol), points=np.vstack([rest.points, point]))
        return made.structure(), f"{cell_formula({symbol: size})} moved into a hole of {cell_formula(amounts(orbits))}"

    def _holes(self, orbits: Orbits, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
        """The five roomiest places found: atoms of the orbit in the primitive cell, and one of them in the other."""
        group = space_group(orbits.number)
        placed = np.concatenate([primitive_images(orbits.number, point) for point in orbits.points])
        symbols = [symbol for symbol, n in zip(orbits.symbols, orbits.sizes(), strict=True) for _ in range(n)]
        matrix = group.primitive @ orbits.matrix()
        alloy = is_alloy(orbits.symbols)
        points = rng.random((N_HOLES, 3))
        if orbits.number > 1:
            points[::2] = group.snap(points[::2], SNAPPED)
        # The room of a point is judged for an oxide ion, or the like of the alloy: what counts is the order of points.
        probe = symbols[0] if alloy else "O"
        inside = points @ to_primitive(orbits.number)
        rooms = (distances(matrix, inside, placed) / usual_distances([probe], symbols, alloy)).min(axis=1)
        found = []
        for index in np.argsort(-rooms)[:20]:
            images = primitive_images(orbits.number, points[index])
            own = room_of(matrix, probe, images, symbols, placed, alloy)
            if len(images) <= max(2, len(placed)):
                found.append((own, images, points[index]))
        found.sort(key=lambda one: -one[0])
        return [(images, point) for _, images, point in found[:5]]


def as_orbits(structure: Structure) -> Orbits:
    """The crystal without symmetry, every atom its own orbit, in a reduced cell."""
    small = reduced(structure)
    matrix, coords = np.asarray(small.lattice.matrix), np.asarray(small.frac_coords)
    if np.linalg.det(matrix) < 0:  # six numbers cannot say the hand of a cell; swapping two vectors changes only that
        matrix, coords = matrix[[1, 0, 2]], coords[:, [1, 0, 2]]
    lengths = np.linalg.norm(matrix, axis=1)
    cosines = np.array([matrix[i] @ matrix[j] / (lengths[i] * lengths[j]) for i, j in ((1, 2), (0, 2), (0, 1))])
    return Orbits(1, lengths, np.degrees(np.arccos(np.clip(cosines, -1, 1))), tuple(symbols_of(small)), coords)


def amounts(orbits: Orbits) -> dict[str, int]:
    """Atoms of each element in the primitive cell."""
    return count([symbol for symbol, n in zip(orbits.symbols, orbits.sizes(), strict=True) for _ in range(n)])


def resized(orbits: Orbits, before: Mapping[str, int], power: float) -> Structure:
    """The crystal, its volume scaled by that of its atoms to what it was `before`, to some power."""
    ratio = expected_volume(amounts(orbits)) / expected_volume(before)
    return replace(orbits, lengths=orbits.lengths * ratio ** (power / 3)).structure()
