"""Whether a structure can be a crystal at all, before anything expensive is done with it.

The rule is that of LeMat-GenBench: distances, volume, densities, cell edges, a space group. This is the only place
where validity is defined.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from matsearch.crystal.tokens import count_formula, is_element, ordered_symbols
from matsearch.records import Rejection, Stage
from matsearch.units import AMU_PER_A3_IN_G_PER_CM3

if TYPE_CHECKING:
    from pymatgen.core import Structure

# moyo logs every cell that is not its standard one; without a handler that would land on stderr.
logging.getLogger("moyo").addHandler(logging.NullHandler())

MIN_VOLUME = 1.0
"""Å^3, of the cell."""
EDGES = (1.0, 100.0)
"""Å, allowed lengths of the cell's edges."""
MASS_DENSITIES = (0.01, 25.0)
"""g/cm^3."""
ATOMIC_DENSITIES = (1e-5, 0.5)
"""Atoms/Å^3."""
SYMPREC = 0.01
"""Å, tolerance of the space-group search."""
FALLBACK_RADIUS = 1.5
"""Å, for elements without any radius in pymatgen (At, Fr and those beyond Am)."""


def check_structure(structure: Structure) -> Rejection | None:
    """Why a structure is not valid; None where it is.

    Valid: every periodic distance d_ij >= 0.5 (0.7 + r_i + r_j) Å with the atomic radii r of pymatgen, an atom's own
    images included; volume > 1 Å^3; mass density 0.01-25 g/cm^3; atomic density 1e-5-0.5 Å^-3; edges 1-100 Å; a space
    group is found. A left-handed cell is legal.

    Where `Element.atomic_radius` is missing, the calculated atomic radius is used (He, Ne, Kr, Xe, Rn), and where that
    is missing too, `FALLBACK_RADIUS`.

    Returns:
        A rejection of `Stage.CHECK` with the reason `not_finite`, `no_atoms`, `disordered`, `unknown_element`,
        `cell_edge`, `zero_volume`, `density`, `overlapping_atoms` or `no_space_group`.
    """
    matrix = np.asarray(structure.lattice.matrix, dtype=float)
    coords = np.asarray(structure.frac_coords, dtype=float).reshape(-1, 3)
    if not np.isfinite(matrix).all():
        return _rejection("not_finite", "the lattice vectors are not finite")
    if not np.isfinite(coords).all():
        site = int(np.argmin(np.isfinite(coords).all(axis=1)))
        return _rejection("not_finite", f"the coordinates of site {site} are not finite")
    if len(coords) == 0:
        return _rejection("no_atoms", "the structure has no atoms")
    if not structure.is_ordered:
        return _rejection("disordered", "sites are shared or partly empty")
    for site, symbol in enumerate(ordered_symbols(structure)):
        if not is_element(symbol):
            return _rejection("unknown_element", f"site {site}: {symbol!r} is no element")
    return (
        _check_cell(structure, matrix)
        or _check_distances(structure, matrix, coords)
        or _check_symmetry(structure, coords)
    )


def check_space(
    structure: Structure, elements: frozenset[str] | None, max_atoms: int | None, composition: str | None
) -> Rejection | None:
    """Why a structure lies outside the space of a campaign; None where it lies inside.

    Args:
        structure: The candidate.
        elements: Symbols it may hold, or None for all.
        max_atoms: Most atoms in its cell as written, or None.
        composition: The formula it must have, up to a factor, or None.

    Returns:
        A rejection of `Stage.CHECK` with the reason `outside_elements`, `too_many_atoms` or `wrong_composition`.
    """
    from pymatgen.core import Composition

    found = structure.composition.element_composition
    if elements is not None and (outside := sorted({element.symbol for element in found} - elements)):
        return _rejection("outside_elements", f"{', '.join(outside)} not among {', '.join(sorted(elements))}")
    if max_atoms is not None and len(structure) > max_atoms:
        return _rejection("too_many_atoms", f"{len(structure)} atoms in the cell; at most {max_atoms}")
    if composition is not None:
        wanted = Composition(composition)
        if not wanted.fractional_composition.almost_equals(found.fractional_composition):
            return _rejection("wrong_composition", f"{count_formula(ordered_symbols(structure))}; wanted {composition}")
    return None


def least_distance(first: str, second: str) -> float:
    """Å, the least distance that atoms of two elements keep in a valid structure."""
    return 0.5 * (0.7 + _radius(first) + _radius(second))


def _rejection(reason: str, detail: str) -> Rejection:
    return Rejection(Stage.CHECK, reason, detail)


@cache
def _radius(symbol: str) -> float:
    """Atomic radius in Å; see `check_structure` for the fallbacks."""
    from pymatgen.core import Element

    element = Element(symbol)
    if element.atomic_radius is not None:
        return float(element.atomic_radius)
    # `Element.atomic_radius_calculated` warns where it has none; the table itself does not.
    calculated = element.data.get("Atomic radius calculated")
    return float(calculated) if isinstance(calculated, int | float) else FALLBACK_RADIUS


def _check_cell(structure: Structure, matrix: np.ndarray) -> Rejection | None:
    """Edges first: they are cheap, and everything after them is then of a sane size."""
    edges = np.linalg.norm(matrix, axis=1)
    low, high = EDGES
    for name, edge in zip("abc", edges, strict=True):
        if edge == 0:
            return _rejection("zero_volume", f"{name} = 0 Å")
        if not low <= edge <= high:
            return _rejection("cell_edge", f"{name} = {edge:.4g} Å; allowed {low:g}-{high:g} Å")
    # A left-handed cell has a negative determinant and is as periodic as any other.
    volume = abs(float(np.linalg.det(matrix)))
    if volume <= MIN_VOLUME:
        return _rejection("zero_volume", f"volume {volume:.4g} Å^3; must exceed {MIN_VOLUME:g} Å^3")
    mass = sum(float(site.specie.atomic_mass) for site in structure)
    for value, (low, high), unit in (
        (mass * AMU_PER_A3_IN_G_PER_CM3 / volume, MASS_DENSITIES, "g/cm^3"),
        (len(structure) / volume, ATOMIC_DENSITIES, "atoms/Å^3"),
    ):
        if not low <= value <= high:
            return _rejection("density", f"{value:.4g} {unit}; allowed {low:g}-{high:g} {unit}")
    return None


def _check_distances(structure: Structure, matrix: np.ndarray, coords: np.ndarray) -> Rejection | None:
    from pymatgen.core import Lattice
    from pymatgen.optimization.neighbors import find_points_in_spheres

    symbols = [site.specie.symbol for site in structure]
    radii = np.array([_radius(symbol) for symbol in symbols])
    # In a reduced cell no face is much nearer than the shortest vector, so few images are searched even when the cell
    # as written is a thin needle.
    reduced = np.ascontiguousarray(Lattice(matrix).get_lll_reduced_lattice().matrix, dtype=float)
    shortest = float(np.linalg.norm(reduced, axis=1).min())
    biggest = int(np.argmax(radii))
    if shortest < 0.35 + radii[biggest]:
        return _overlap(symbols, biggest, biggest, shortest, 0.35 + radii[biggest])
    cartesian = np.ascontiguousarray((coords - np.floor(coords)) @ matrix)
    centers, points, images, distances = find_points_in_spheres(
        cartesian, cartesian, r=float(0.35 + radii.max()), pbc=np.ones(3, dtype=np.int64), lattice=reduced, tol=1e-8
    )
    itself = (centers == points) & (images == 0).all(axis=1)
    limits = 0.5 * (0.7 + radii[centers] + radii[points])
    too_near = np.flatnonzero((distances < limits) & ~itself)
    if len(too_near) == 0:
        return None
    worst = too_near[np.argmin(distances[too_near])]
    pair = sorted((int(centers[worst]), int(points[worst])))
    return _overlap(symbols, pair[0], pair[1], float(distances[worst]), float(limits[worst]))


def _overlap(symbols: list[str], first: int, second: int, distance: float, limit: float) -> Rejection:
    other = f"{symbols[second]} (site {second})" if second != first else "its own image"
    return _rejection(
        "overlapping_atoms",
        f"{symbols[first]} (site {first}) and {other} are {distance:.3f} Å apart; least {limit:.3f} Å",
    )


def _check_symmetry(structure: Structure, coords: np.ndarray) -> Rejection | None:
    try:
        _space_group(structure, coords)
    except ValueError as err:
        return _rejection("no_space_group", f"none found within {SYMPREC:g} Å: {err}")
    return None


def space_group(structure: Structure) -> int:
    """International number of the space group within `SYMPREC`.

    Args:
        structure: A valid one: `check_structure` found a space group.
    """
    return _space_group(structure, np.asarray(structure.frac_coords, dtype=float))


def _space_group(structure: Structure, coords: np.ndarray) -> int:
    import moyopy

    cell = moyopy.Cell(
        structure.lattice.matrix.tolist(), (coords - np.floor(coords)).tolist(), [site.specie.Z for site in structure]
    )
    return int(moyopy.MoyoDataset(cell, symprec=SYMPREC).number)
