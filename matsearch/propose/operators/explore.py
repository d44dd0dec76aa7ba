"""Random crystals by symmetry: a composition, a space group, Wyckoff positions that hold it, atoms with room to them.

The way of AIRSS (Pickard and Needs, J. Phys.: Condens. Matter 23, 053201 (2011)) and PyXtal (Fredericks et al.,
Comput. Phys. Commun. 261, 107810 (2021)), cut down to what a first guess needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from matsearch.crystal.space_groups import space_group
from matsearch.crystal.wyckoff import n_free_lengths_and_angles
from matsearch.crystal.wyckoff_positions import WyckoffPosition, wyckoff_positions
from matsearch.propose.operators.base import Operator, refusal
from matsearch.propose.operators.compositions import allowed_elements, cell_formula, random_elements
from matsearch.propose.operators.orbits import Orbits, cell_matrix, primitive_images
from matsearch.propose.operators.oxidation import is_alloy
from matsearch.propose.operators.records import Change, Parent
from matsearch.propose.operators.spacing import room_of, shortest_vector
from matsearch.propose.operators.volumes import expected_volume
from matsearch.propose.space import MAX_FORMULA_UNITS, most_atoms, target_counts
from matsearch.records import Rejection
from matsearch.reference.catalogue import amounts_in

if TYPE_CHECKING:
    from matsearch.propose.space import Space

SIZE = 20
"""Most atoms in a cell where the space sets no limit."""
N_GROUPS, N_FILLS, N_CELLS, N_PLACES = 30, 10, 8, 20
"""Space groups tried for a composition, fills of one, cells for a choice of positions, points for an orbit."""
VOLUMES = (0.9, 1.25)
"""Range of the cell's volume, in volumes of its atoms."""
ELONGATION = 0.35
"""Standard deviation of the logarithm of each length; of angles, 15 degrees around 90."""
ENOUGH_ROOM = (1.0, 0.8)
"""In usual distances, what an orbit needs in the first cell and in the last."""


class Explore(Operator):
    """A random crystal with symmetry; takes no notice of parents.

    Stoichiometries are those of known phases, space groups as frequent as among them, volumes those of the atoms.
    """

    name = "explore"
    min_parents = 0

    def attempt(self, _parents: Sequence[Parent], space: Space, rng: np.random.Generator) -> Change | Rejection:
        """One composition, one crystal."""
        limit = most_atoms(space) or SIZE
        counts = target_counts(space) or self._composition(space, limit, rng)
        if isinstance(counts, Rejection):
            return counts
        n_units = limit // sum(counts.values())
        if n_units < 1:
            return refusal("too_many_atoms", f"{cell_formula(counts)} has more than {limit} atoms")
        units = int(rng.integers(1, min(n_units, MAX_FORMULA_UNITS) + 1))
        total = {symbol: n * units for symbol, n in counts.items()}
        numbers, shares = self.pool.space_groups_in(space)
        for number in rng.choice(numbers, size=N_GROUPS, p=shares).tolist():
            positions = choose_positions(number, total, rng)
            if positions is not None and (made := place(number, positions, total, rng)) is not None:
                return Change(made.structure(), f"random {cell_formula(total)} in space group {number}")
        return refusal("no_room", f"no room for {cell_formula(total)} in {N_GROUPS} space groups")

    def _composition(self, space: Space, limit: int, rng: np.random.Generator) -> dict[str, int] | Rejection:
        allowed = allowed_elements(space)
        types = self.pool.types_for(space, limit, len(allowed))
        if not types:
            return refusal("no_stoichiometry", f"no known stoichiometry of {len(allowed)} elements is that small")
        [(_, phase_id)] = self.pool.draw_type(types, rng)
        counts = amounts_in(self.pool.formula(phase_id))
        renamed = random_elements(counts, allowed, rng)
        return {renamed[symbol]: n for symbol, n in counts.items()}


Placed = tuple[str, WyckoffPosition]


def choose_positions(number: int, counts: Mapping[str, int], rng: np.random.Generator) -> list[Placed] | None:
    """Wyckoff positions of a space group that hold so many atoms of the primitive cell; None if no random fill does."""
    for _ in range(N_FILLS):
        chosen = _fill(list(wyckoff_positions(number).values()), counts, rng)
        if chosen is not None:
            return chosen
    return None


def _fill(
    positions: Sequence[WyckoffPosition], counts: Mapping[str, int], rng: np.random.Generator
) -> list[Placed] | None:
    used: set[str] = set()
    chosen: list[Placed] = []
    for symbol, n in counts.items():
        left = n
        while left:
            fitting = [
                one
                for one in positions
                if one.primitive_multiplicity <= left and not (one.is_single and one.letter in used)
            ]
            if not fitting:
                return None
            # Fewer and larger orbits are what known crystals have.
            weights = np.array([float(one.primitive_multiplicity) for one in fitting])
            taken = fitting[int(rng.choice(len(fitting), p=weights / weights.sum()))]
            used.add(taken.letter)
            chosen.append((symbol, taken))
            left -= taken.primitive_multiplicity
    return chosen


def place(number: int, chosen: Sequence[Placed], counts: Mapping[str, int], rng: np.random.Generator) -> Orbits | None:
    """Orbits with room to each other in a random cell; None where none of `N_CELLS` cells had it."""
    primitive = space_group(number).primitive
    alloy = is_alloy(counts)
    # Positions without freedom first, then the large orbits: what comes last finds room most easily.
    order = sorted(
        range(len(chosen)), key=lambda one: (len(chosen[one][1].free), -chosen[one][1].primitive_multiplicity)
    )
    for enough in np.linspace(*ENOUGH_ROOM, N_CELLS):
        cell = random_cell(number, expected_volume(counts) * float(rng.uniform(*VOLUMES)), rng)
        if cell is None:
            continue
        lengths, angles = cell
        matrix = primitive @ cell_matrix(number, lengths, angles)
        if shortest_vector(matrix) < enough:
            continue
        points: list[np.ndarray] = []
        symbols: list[str] = []
        images = np.zeros((0, 3))
        for index in order:
            symbol, position = chosen[index]
            point = roomiest(number, matrix, symbol, position, symbols, images, alloy, enough, rng)
            if point is None:
                break
            points.append(point)
            new = primitive_images(number, point)
            images = np.concatenate([images, new])
            symbols += [symbol] * len(new)
        if len(points) == len(chosen):
            names = tuple(chosen[index][0] for index in order)
            return Orbits(number, lengths, angles, names, np.array(points))
    return None


def roomiest(
    number: int,
    matrix: np.ndarray,
    symbol: str,
    position: WyckoffPosition,
    symbols: Sequence[str],
    others: np.ndarray,
    alloy: bool,
    enough: float,
    rng: np.random.Generator,
) -> np.ndarray | None:
    """The first of `N_PLACES` random points on a position that has enough room; None where none has."""
    for _ in range(N_PLACES if position.free else 1):
        point = position.point(rng.random(len(position.free)))
        images = primitive_images(number, point)
        is_whole = len(images) == position.primitive_multiplicity
        if is_whole and room_of(matrix, symbol, images, symbols, others, alloy) >= enough:
            return point
    return None


def random_cell(number: int, volume: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """Free lengths (Å) and angles (degrees) of a cell whose primitive cell has a volume (Å^3); None for no cell."""
    n_lengths, n_angles = n_free_lengths_and_angles(number)
    lengths = np.exp(rng.normal(0, ELONGATION, n_lengths))
    angles = 90 + rng.normal(0, 15, n_angles)
    try:
        matrix = space_group(number).primitive @ cell_matrix(number, lengths, angles)
    except ValueError:
        return None
    return lengths * (volume / abs(np.linalg.det(matrix))) ** (1 / 3), angles
