"""Wyckoff edit: one orbit moved within its position, put on another one, or exchanged with another orbit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher

from matsearch.crystal.space_groups import space_group
from matsearch.crystal.wyckoff_positions import WyckoffPosition, wyckoff_letter, wyckoff_positions
from matsearch.propose.operators.base import Operator, refusal
from matsearch.propose.operators.orbits import Orbits, primitive_images, to_orbits
from matsearch.propose.operators.oxidation import is_alloy
from matsearch.propose.operators.records import Change, Parent
from matsearch.propose.operators.spacing import room_of
from matsearch.propose.operators.substitution import with_target
from matsearch.records import Rejection

if TYPE_CHECKING:
    from matsearch.propose.space import Space

N_PLACES = 20
"""Random places of an orbit of which the roomiest is taken."""


class WyckoffEdit(Operator):
    """Edits one orbit of a parent; composition and space group stay (or more symmetry comes about).

    Whatever is possible is as likely: the orbit anywhere else on its position; on another position with as many atoms,
    unless that is full; two orbits of unlike atoms and equal size exchanged.
    """

    name = "wyckoff"
    needs_balance = False

    def attempt(self, parents: Sequence[Parent], space: Space, rng: np.random.Generator) -> Change | Rejection:
        """One edit of one of the parents."""
        parent = parents[int(rng.integers(len(parents)))]
        structure = with_target(parent.structure, space, rng)
        if isinstance(structure, Rejection):
            return structure
        orbits = to_orbits(structure)
        if orbits is None:
            return refusal("no_symmetry", "no space group was found for the parent")
        try:
            edits = self._edits(orbits)
        except ValueError as err:
            return refusal("no_symmetry", str(err))
        if not edits:
            return refusal("nothing_to_edit", f"the orbits of space group {orbits.number} have no other place")
        kinds = sorted({kind for kind, _, _ in edits})
        kind = kinds[int(rng.integers(len(kinds)))]
        chosen = [(orbit, where) for name, orbit, where in edits if name == kind]
        orbit, where = chosen[int(rng.integers(len(chosen)))]
        symbol = orbits.symbols[orbit]
        if isinstance(where, int):
            symbols = list(orbits.symbols)
            symbols[orbit], symbols[where] = symbols[where], symbols[orbit]
            made, text = replace(orbits, symbols=tuple(symbols)), f"{symbol} and {symbols[orbit]} exchanged"
        else:
            points = orbits.points.copy()
            points[orbit] = self._place(orbits, orbit, where, rng)
            made = replace(orbits, points=points)
            text = f"{symbol} moved on its position {where.letter}"
            if kind == "other":
                old, _ = wyckoff_letter(orbits.number, orbits.points[orbit])
                text = f"{symbol} from position {old} to {where.letter}"
        edited = made.structure()
        if kind != "moved" and StructureMatcher().fit(edited, structure):
            return refusal("same_crystal", f"{text} is the same crystal in another description")
        return Change(edited, f"{text}, space group {orbits.number}", (parent.id,))

    def _edits(self, orbits: Orbits) -> list[tuple[str, int, WyckoffPosition | int]]:
        """Kind, orbit, and its new position or the orbit to exchange it with."""
        positions = wyckoff_positions(orbits.number)
        letters = [wyckoff_letter(orbits.number, point)[0] for point in orbits.points]
        sizes = orbits.sizes()
        edits: list[tuple[str, int, WyckoffPosition | int]] = []
        for orbit, letter in enumerate(letters):
            if positions[letter].free:
                edits.append(("moved", orbit, positions[letter]))
            for other in positions.values():
                is_full = other.is_single and other.letter in letters
                if other.letter != letter and other.primitive_multiplicity == sizes[orbit] and not is_full:
                    edits.append(("other", orbit, other))
            for partner in range(orbit):
                if sizes[partner] == sizes[orbit] and orbits.symbols[partner] != orbits.symbols[orbit]:
                    edits.append(("exchanged", orbit, partner))
        # The only orbit of a crystal goes nowhere that a shift of the origin does not undo.
        return edits if len(letters) > 1 else [one for one in edits if one[0] == "moved"]

    def _place(self, orbits: Orbits, orbit: int, position: WyckoffPosition, rng: np.random.Generator) -> np.ndarray:
        """The roomiest of some points on a position."""
        rest = [index for index in range(len(orbits.points)) if index != orbit]
        others = [primitive_images(orbits.number, orbits.points[index]) for index in rest]
        symbols = [orbits.symbols[index] for index, images in zip(rest, others, strict=True) for _ in images]
        placed = np.concatenate(others) if others else np.zeros((0, 3))
        matrix = space_group(orbits.number).primitive @ orbits.matrix()
        best, room = orbits.points[orbit], -1.0
        for _ in range(N_PLACES if position.free else 1):
            point = position.point(rng.random(len(position.free)))
            images = primitive_images(orbits.number, point)
            if len(images) != position.primitive_multiplicity:
                continue
            found = room_of(matrix, orbits.symbols[orbit], images, symbols, placed, is_alloy(orbits.symbols))
            if found > room:
                best, room = point, found
        return best
