"""Repair: a crystal that was refused made into one that can be relaxed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from matsearch.crystal.checks import EDGES, MIN_VOLUME, check_structure
from matsearch.propose.operators.base import Operator, count, refusal, symbols_of
from matsearch.propose.operators.compositions import cell_formula
from matsearch.propose.operators.crossover import nearest_balanced, without_surplus
from matsearch.propose.operators.oxidation import is_alloy, is_balanced
from matsearch.propose.operators.records import Change, Parent
from matsearch.propose.operators.spacing import offsets, reduced, usual_distances
from matsearch.propose.operators.volumes import expected_volume
from matsearch.propose.space import most_atoms
from matsearch.records import Rejection

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.propose.space import Space

VOLUMES = (0.75, 1.6)
"""In volumes of the atoms; a cell outside is scaled to a random one between `USUAL`."""
USUAL = (0.95, 1.2)
JITTER = 0.05
"""Å; atoms on top of each other have no direction in which to be pushed."""
N_STEPS = 60
"""Rounds of pushing near atoms apart."""
BEYOND = frozenset({"not_finite", "no_atoms", "disordered", "unknown_element"})
"""What `check_structure` says of crystals that nothing can be made of."""


class Repair(Operator):
    """Scales a cell that is far too small or too large, pushes atoms apart, and takes out atoms that leave a charge.

    Pushing is what soft spheres do that are as large as `usual_distances` says.
    """

    name = "repair"
    takes_broken = True

    def attempt(self, parents: Sequence[Parent], space: Space, rng: np.random.Generator) -> Change | Rejection:
        """One mended copy of the first parent."""
        parent = parents[0]
        found = check_structure(parent.structure)
        if found is not None and found.reason in BEYOND:
            return refusal("beyond_repair", found.detail)
        edges = np.linalg.norm(parent.structure.lattice.matrix, axis=1)
        if not (EDGES[0] / 2 < edges.min() and edges.max() < EDGES[1] and parent.structure.volume > MIN_VOLUME / 8):
            return refusal("beyond_repair", f"edges of {edges.min():.3g} to {edges.max():.3g} Å span no cell")
        structure = reduced(parent.structure)
        symbols, points = symbols_of(structure), np.asarray(structure.frac_coords)
        done = []
        counts = count(symbols)
        if space.composition is None and not is_balanced(counts):
            target = nearest_balanced(counts, {}, most_atoms(space))
            if not isinstance(target, Rejection) and target != counts:
                symbols, points = without_surplus(np.asarray(structure.lattice.matrix), symbols, points, target)
                lost = {one: n - target.get(one, 0) for one, n in counts.items() if n > target.get(one, 0)}
                done.append(f"{cell_formula(lost)} taken out")
        matrix = np.asarray(structure.lattice.matrix)
        room = abs(np.linalg.det(matrix)) / expected_volume(count(symbols))
        if not VOLUMES[0] <= room <= VOLUMES[1]:
            wanted = float(rng.uniform(*USUAL))
            matrix = matrix * (wanted / room) ** (1 / 3)
            done.append(f"cell scaled by {wanted / room:.2f}")
        pushed = push_apart(matrix, symbols, points + rng.normal(0, JITTER, points.shape) @ np.linalg.inv(matrix))
        done.append("near atoms pushed apart")
        return Change(_crystal(matrix, symbols, pushed), ", ".join(done), (parent.id,))


def push_apart(matrix: np.ndarray, symbols: Sequence[str], points: np.ndarray) -> np.ndarray:
    """Fractional coordinates [n, 3] after pairs nearer than usual have moved apart, each atom by half of what lacks."""
    alloy = is_alloy(symbols)
    wanted = usual_distances(symbols, symbols, alloy)
    inverse = np.linalg.inv(matrix)
    for _ in range(N_STEPS):
        vectors = offsets(matrix, points, points)
        lengths = np.linalg.norm(vectors, axis=-1)
        np.fill_diagonal(lengths, np.inf)
        lacking = np.clip(wanted - lengths, 0, None)
        if not lacking.any():
            break
        away = vectors / np.maximum(lengths, 1e-6)[:, :, None]
        points = points + (0.5 * lacking[:, :, None] * away).sum(axis=1) @ inverse
    return points


def _crystal(matrix: np.ndarray, symbols: Sequence[str], points: np.ndarray) -> Structure:
    from pymatgen.core import Lattice, Structure

    return Structure(Lattice(matrix), list(symbols), points % 1.0)
