"""Bonds and angles of one periodic crystal, as index arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pymatgen.optimization.neighbors import find_points_in_spheres


@dataclass(frozen=True, slots=True)
class BondGraph:
    """Directed bonds, the undirected bonds they pair up to, and angles between short bonds at one atom.

    Attributes:
        centers: [n_directed] atom a bond starts from.
        neighbors: [n_directed] atom it points to.
        images: [n_directed, 3] cell of that neighbour, in lattice vectors.
        directed_to_undirected: [n_directed] index of the undirected bond.
        undirected_to_directed: [n_undirected] one of its two directed bonds.
        angle_first: [n_angles] directed bond of an ordered pair of short bonds that share their centre.
        angle_second: [n_angles] the other bond of the pair.
    """

    centers: np.ndarray
    neighbors: np.ndarray
    images: np.ndarray
    directed_to_undirected: np.ndarray
    undirected_to_directed: np.ndarray
    angle_first: np.ndarray
    angle_second: np.ndarray


def bond_graph(lattice: np.ndarray, positions: np.ndarray, cutoff: float, short_cutoff: float) -> BondGraph:
    """All bonds up to a cutoff, and all angles between bonds up to a shorter one.

    Args:
        lattice: [3, 3] lattice vectors as rows, in Å, of either handedness.
        positions: [n_atoms, 3] Cartesian, in Å.
        cutoff: Longest bond, in Å.
        short_cutoff: Longest bond that forms angles, in Å.
    """
    points = np.ascontiguousarray(positions, dtype=float)
    centers, neighbors, images, lengths = find_points_in_spheres(
        points, points, r=cutoff, pbc=np.ones(3, dtype=np.int64), lattice=lattice, tol=1e-8
    )
    images = np.rint(images).astype(np.int64)
    itself = (centers == neighbors) & (images == 0).all(axis=1)
    centers, neighbors, images, lengths = centers[~itself], neighbors[~itself], images[~itself], lengths[~itself]

    forward, backward = _codes(centers, neighbors, images, len(points))
    _, inverse, counts = np.unique(np.minimum(forward, backward), return_inverse=True, return_counts=True)
    # Rounding can put one direction of a bond of exactly the cutoff inside and the other outside. Such a bond weighs
    # nothing (the envelope is zero there), so it is left out.
    paired = counts[inverse] == 2
    centers, neighbors, images, lengths = centers[paired], neighbors[paired], images[paired], lengths[paired]
    _, representative, undirected = np.unique(inverse[paired], return_index=True, return_inverse=True)

    # Both directions take the length of one of them, so that they are short or long together.
    short = np.flatnonzero(lengths[representative][undirected] < short_cutoff)
    first, second = _ordered_pairs(centers[short])
    return BondGraph(centers, neighbors, images, undirected, representative, short[first], short[second])


def _codes(
    centers: np.ndarray, neighbors: np.ndarray, images: np.ndarray, n_atoms: int
) -> tuple[np.ndarray, np.ndarray]:
    """One integer for each directed bond, and that of its reverse."""
    reach = int(np.abs(images).max(initial=0))
    base = 2 * reach + 1

    def code(start: np.ndarray, end: np.ndarray, cell: np.ndarray) -> np.ndarray:
        shifted = cell + reach
        return (((start * n_atoms + end) * base + shifted[:, 0]) * base + shifted[:, 1]) * base + shifted[:, 2]

    return code(centers, neighbors, images), code(neighbors, centers, -images)


def _ordered_pairs(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All ordered pairs (i, j), i != j, of entries in one group."""
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups) if len(groups) else np.zeros(0, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    per_entry = np.repeat(sizes, sizes)  # entries in the group of each sorted entry
    first = np.repeat(np.arange(len(groups)), per_entry)
    ramp = np.arange(len(first)) - np.repeat(np.cumsum(per_entry) - per_entry, per_entry)
    second = np.repeat(np.repeat(starts, sizes), per_entry) + ramp
    different = first != second
    return order[first[different]], order[second[different]]
