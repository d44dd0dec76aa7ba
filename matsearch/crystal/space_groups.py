"""Space groups as arrays: orbits, special positions, and the equally good ways to describe one crystal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Group:
    """The operations of one space group in its conventional cell.

    Attributes:
        number: ITA number.
        rotations: [n_ops, 3, 3], each once.
        translations: [n_ops, 3].
        centring: [n_centring, 3] lattice points of the conventional cell.
        primitive: [3, 3] primitive lattice vectors as rows, in the conventional basis.
        polar: [3] axes along which the origin may be anywhere.
    """

    number: int
    rotations: np.ndarray
    translations: np.ndarray
    centring: np.ndarray
    primitive: np.ndarray
    polar: np.ndarray

    @cached_property
    def views(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Turns W [3, 3] and, for each, moves of the origin [n, 3] with which x -> W x + move keeps the operations.

        The same crystal is then described in another, equally good way (the group's Euclidean normaliser; the hand of a
        chiral group is kept).
        """
        candidates = _lattice_rotations(self.number, len(self.centring))
        return _views(candidates, self.rotations, self.translations, self.centring, self.polar)

    def images(self, points: np.ndarray) -> np.ndarray:
        """[..., n_ops, 3] images of fractional coordinates [..., 3], not wrapped, centring left out."""
        turned: np.ndarray = points @ self.rotations.reshape(-1, 3).T
        return turned.reshape(*points.shape[:-1], -1, 3) + self.translations

    def nearest(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors [..., 3] less the lattice vector that lies, in primitive coordinates, nearest."""
        reduced = vectors @ np.linalg.inv(self.primitive)
        short: np.ndarray = (reduced - np.round(reduced)) @ self.primitive
        return short

    def offsets(self, points: np.ndarray) -> np.ndarray:
        """[..., n_ops, 3] from each point to the nearest copy of each of its images; zero for those that are itself."""
        return self.nearest(self.images(points) - points[..., None, :])

    def snap(self, points: np.ndarray, tolerance: float) -> np.ndarray:
        """Points [..., 3] moved onto the special positions they are nearly on.

        These are the points whose images lie within the tolerance, which is one of fractional coordinates.
        """
        for _ in range(6):
            offsets = self.offsets(points)
            near = (np.abs(offsets) <= tolerance).all(axis=-1, keepdims=True)
            move = (offsets * near).sum(axis=-2) / near.sum(axis=-2)
            points = points + move
            if np.abs(move).max() < 1e-9:
                break
        return points

    def multiplicity(self, points: np.ndarray) -> np.ndarray:
        """[...] atoms of the primitive cell in the orbits of points [..., 3] that are exactly where they should be."""
        n_self = (np.abs(self.offsets(points)) < 1e-5).all(axis=-1).sum(axis=-1)
        counts: np.ndarray = len(self.rotations) // n_self
        return counts

    def orbit(self, point: np.ndarray) -> np.ndarray:
        """[n, 3] distinct images of a point in the conventional cell, within [0, 1)."""
        images = (self.images(point)[:, None, :] + self.centring[None, :, :]).reshape(-1, 3)
        # The small irrational-like offset keeps exact fractions off the edges of the bins.
        bins = np.floor((images + 3.1415e-6) * 1e5).astype(np.int64) % 100_000
        _, first = np.unique(bins, axis=0, return_index=True)
        return images[np.sort(first)] % 1.0

    def representatives(self, positions: np.ndarray, kinds: Sequence[Any] | np.ndarray) -> list[int]:
        """Index of one atom of each orbit among the atoms [n, 3] of the conventional cell.

        Raises:
            ValueError: They do not form whole orbits of one kind each.
        """
        left = np.ones(len(positions), dtype=bool)
        chosen = []
        while left.any():
            first = int(np.argmax(left))
            images = self.orbit(positions[first])
            offsets = positions[:, None, :] - images[None, :, :]
            offsets -= np.round(offsets)
            members = (np.abs(offsets).max(axis=2) < 1e-3).any(axis=1)
            if members.sum() != len(images) or any(
                kinds[one] != kinds[first] for one in np.flatnonzero(members).tolist()
            ):
                raise ValueError("the atoms found do not form whole orbits of the space group found")
            left &= ~members
            chosen.append(first)
        return chosen


@lru_cache(maxsize=230)
def space_group(number: int) -> Group:
    """The space group with an ITA number, in moyo's standard setting."""
    import moyopy

    operations = moyopy.operations_from_number(number, setting=moyopy.Setting.standard())
    rotations = np.array(operations.rotations, dtype=float)
    translations = np.array(operations.translations, dtype=float) % 1.0
    identity = np.eye(3)
    centring = translations[(rotations == identity).all(axis=(1, 2))]
    polar = (rotations == identity).all(axis=(0, 1))
    rotations, first = np.unique(rotations, axis=0, return_index=True)
    translations = translations[first]
    return Group(number, rotations, translations, centring, _primitive_vectors(centring), polar)


def _primitive_vectors(centring: np.ndarray) -> np.ndarray:
    """Primitive lattice vectors (rows, conventional basis) for a set of centring translations [n, 3]."""
    half = 0.5
    if len(centring) == 1:
        return np.eye(3)
    if len(centring) == 4:  # F
        return np.array([[0, half, half], [half, 0, half], [half, half, 0]])
    if len(centring) == 3:  # R, obverse, hexagonal axes
        return np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3
    extra = centring[np.abs(centring).sum(axis=1) > 0.1][0]
    if np.allclose(extra, half):  # I
        return np.array([[-half, half, half], [half, -half, half], [half, half, -half]])
    if extra[2] < 0.1:  # C
        return np.array([[half, -half, 0], [half, half, 0], [0, 0, 1]])
    return np.array([[1, 0, 0], [0, half, -half], [0, half, half]])  # A


def _lattice_rotations(number: int, n_centring: int) -> np.ndarray:
    """[n, 3, 3] rotations that every lattice of the crystal system has, in the conventional basis."""
    import moyopy

    limits = ((2, 2), (15, 10), (74, 47), (142, 123), (194, 166 if n_centring == 3 else 191), (230, 221))
    holohedral = next(group for last, group in limits if number <= last)
    operations = moyopy.operations_from_number(holohedral, setting=moyopy.Setting.standard())
    return np.unique(np.array(operations.rotations, dtype=float), axis=0)


def _views(
    candidates: np.ndarray, rotations: np.ndarray, translations: np.ndarray, centring: np.ndarray, polar: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The normaliser of a group, one turn for each coset of its point group; moves on a grid of 1/24.

    (W, s) (R, t) (W, s)^-1 = (R', W t + s - R' s) with R' = W R W^-1 must be in the group.
    """
    is_chiral = bool((np.linalg.det(rotations) > 0).all())
    steps = [np.zeros(1) if free else np.arange(24) / 24 for free in polar]
    all_moves = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    views: list[tuple[np.ndarray, np.ndarray]] = []
    for turn in sorted(candidates, key=lambda rotation: not (rotation == np.eye(3)).all()):
        is_known = any((np.linalg.inv(known) @ turn == rotations).all(axis=(1, 2)).any() for known, _ in views)
        if is_known or (is_chiral and np.linalg.det(turn) < 0):
            continue
        moves = all_moves
        for rotation, offset in zip(rotations, translations, strict=True):
            turned = np.round(turn @ rotation @ np.linalg.inv(turn))
            match = (rotations == turned).all(axis=(1, 2))
            if not match.any():
                moves = moves[:0]
                break
            wanted = turn @ offset - translations[int(np.argmax(match))]
            moved = (moves @ (turned - np.eye(3)).T - wanted)[:, None, :] - centring[None, :, :]
            moves = moves[(np.abs(moved - np.round(moved)) < 1e-6).all(axis=2).any(axis=1)]
        if len(moves):
            views.append((turn, moves))
    return views
