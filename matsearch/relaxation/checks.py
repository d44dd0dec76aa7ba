"""Geometry at which a crystal is not relaxed, or no further."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pymatgen.core import Structure
from torch import Tensor

from matsearch.potential.base import Potential
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.neighbors import Pairs
from matsearch.records import Rejection, Stage

MAX_EXPANSION = 5.0
"""A cell that grows by more than this falls apart."""
MIN_VOLUME = 2.0
"""Å^3/atom, below which a cell has fallen into a hole of the energy surface: diamond has 5.7, dense hydrides 4."""
EDGE_LIMITS = (0.7, 200.0)
"""Shortest and longest cell edge in Å that is followed."""
MIN_HEIGHT = 0.3
"""Å between opposite faces of a cell; the number of cells within reach of an atom grows with the inverse."""
MIN_DISTANCE = 0.5
"""Atoms closer than this (Å) sit in a hole of the energy surface: no two nuclei of a crystal do (H2: 0.74)."""
ISOLATION_DISTANCE = 6.0
"""An atom without a neighbour this near (Å) feels nothing in CHGNet, whose cutoff this is, and little in a crystal."""


def refuse(reason: str, detail: str) -> Rejection:
    """A rejection of this stage."""
    return Rejection(Stage.RELAX, reason, detail)


MAX_CELLS_AWAY = 1e6
"""A position farther away than this many cells leaves less than 1e-9 Å of its place in the cell."""


def unfit(structure: Structure, potential: Potential) -> Rejection | None:
    """Why a structure cannot be relaxed at all, its atoms' distances aside."""
    if not len(structure):
        return refuse("empty", "the structure has no atoms")
    if not structure.is_ordered:
        return refuse("disordered", "a site is shared by several elements or partly occupied")
    if missing := potential.untrained(structure):
        return refuse("untrained_element", f"{potential.name} was not trained on {', '.join(missing)}")
    # Such a coordinate is as good as none; a comparison with NaN is false.
    if not (np.isfinite(structure.lattice.matrix).all() and (np.abs(structure.frac_coords) < MAX_CELLS_AWAY).all()):
        return refuse("not_finite", f"the lattice or a coordinate is NaN, inf or beyond {MAX_CELLS_AWAY:.0e} cells")
    if not all(structure.lattice.pbc):
        periodic = " ".join("FT"[bool(one)] for one in structure.lattice.pbc)
        return refuse(
            "not_periodic",
            f"expected a crystal periodic along all three vectors, got pbc = {periodic}; "
            "leave vacuum (8 Å) along the others and say that they are periodic, too",
        )
    return _unfit_cell(structure)


def out_of_bounds(cells: Tensor, sizes: Tensor, volumes: Tensor, start_volumes: Tensor) -> tuple[Tensor, Tensor]:
    """[n_systems] whether each cell has exploded, or collapsed.

    Args:
        cells: [n_systems, 3, 3] in Å.
        sizes: [n_systems] atoms of each.
        volumes: [n_systems] in Å^3.
        start_volumes: [n_systems] at the start.
    """
    edges = torch.linalg.vector_norm(cells, dim=2)
    faces = torch.linalg.vector_norm(torch.linalg.cross(cells.roll(-1, 1), cells.roll(-2, 1), dim=2), dim=2)
    exploded = (volumes > MAX_EXPANSION * start_volumes) | (edges.amax(1) > EDGE_LIMITS[1])
    collapsed = (
        (volumes < MIN_VOLUME * sizes) | (edges.amin(1) < EDGE_LIMITS[0]) | (volumes < MIN_HEIGHT * faces.amax(1))
    )
    return exploded, collapsed


def collided(pairs: Pairs) -> set[int]:
    """The crystals with two atoms that sit on each other."""
    return set(pairs.system_idx[pairs.lengths < MIN_DISTANCE].tolist())


def isolated(pairs: Pairs, batch: CrystalBatch) -> dict[int, Rejection]:
    """The crystals with atoms that have no neighbour among the pairs (of `ISOLATION_DISTANCE`)."""
    alone = torch.ones(batch.n_atoms, dtype=torch.bool, device=pairs.first.device)
    alone[pairs.first] = False
    alone[pairs.second] = False
    atoms = torch.nonzero(alone)[:, 0]
    if not len(atoms):
        return {}
    found: dict[int, list[int]] = {}
    for system, number in zip(batch.system_idx[atoms].tolist(), batch.numbers[atoms].tolist(), strict=True):
        found.setdefault(system, []).append(number)
    return {system: _alone(numbers) for system, numbers in found.items()}


def collapse(batch: CrystalBatch, system: int, volumes: Tensor) -> Rejection:
    """That a cell collapsed."""
    edge = float(torch.linalg.vector_norm(batch.cells[system], dim=1).min())
    return refuse(
        "collapsed", f"{float(volumes[system]) / batch.sizes[system]:.2f} Å^3/atom, shortest edge {edge:.2f} Å"
    )


def explosion(batch: CrystalBatch, system: int, growth: float) -> Rejection:
    """That a cell exploded."""
    edge = float(torch.linalg.vector_norm(batch.cells[system], dim=1).max())
    return refuse("exploded", f"volume {growth:.2f} times that proposed, longest edge {edge:.1f} Å")


def collision(pairs: Pairs, system: int) -> Rejection:
    """That atoms collided."""
    nearest = float(pairs.lengths[pairs.system_idx == system].min())
    return refuse("collided", f"two atoms {nearest:.2f} Å apart, nearer than {MIN_DISTANCE} Å")


def _unfit_cell(structure: Structure) -> Rejection | None:
    lattice = structure.lattice
    if not structure.volume > MIN_VOLUME * len(structure):
        return refuse("collapsed", f"{structure.volume / len(structure):.3g} Å^3/atom as proposed")
    if max(lattice.abc) > EDGE_LIMITS[1]:
        return refuse("exploded", f"longest edge {max(lattice.abc):.1f} Å as proposed")
    if min(lattice.abc) < EDGE_LIMITS[0]:
        return refuse("collapsed", f"shortest edge {min(lattice.abc):.2f} Å as proposed")
    height = 1 / np.linalg.norm(lattice.inv_matrix, axis=0).max()
    if height < MIN_HEIGHT:
        return refuse("collapsed", f"opposite faces of the cell {height:.2g} Å apart as proposed")
    return None


def _alone(numbers: Sequence[int]) -> Rejection:
    from pymatgen.core import Element

    symbols = ", ".join(Element.from_Z(number).symbol for number in numbers[:3])
    return refuse("isolated_atom", f"{len(numbers)} atoms ({symbols}) without a neighbour within 6 Å")
