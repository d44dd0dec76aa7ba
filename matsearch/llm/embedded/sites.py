"""Where the next orbit of a crystal can be: free coordinates that do not merge its atoms, and keep atoms apart.

All coordinates are integers, in steps of the grid: rotations are whole numbers and translations multiples of 1/24, so
that whether two atoms coincide is decided exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product

import numpy as np

from matsearch.crystal.checks import least_distance
from matsearch.crystal.space_groups import space_group
from matsearch.crystal.wyckoff import GRID, conventional_parameters
from matsearch.crystal.wyckoff_positions import wyckoff_positions

# Coordinates that are looked at in place of all 120: every multiple of 1/24 (special positions of other letters among
# them), or of 1/12.
_SIEVE = np.arange(0, GRID, 5)
_COARSE_SIEVE = np.arange(0, GRID, 10)
# Coordinates that meet no special position but those of every site with the first ones.
_GENERIC = ((37, 11), (53, 97), (7, 71), (101, 29))


@dataclass(frozen=True)
class OrbitForm:
    """The atoms of a Wyckoff position as functions of its free coordinates, in grid steps of the primitive cell.

    Attributes:
        matrices: [multiplicity, 3, n_free].
        offsets: [multiplicity, 3]; the first atom is the representative.
    """

    matrices: np.ndarray
    offsets: np.ndarray

    @property
    def n_free(self) -> int:
        """How many free coordinates."""
        return int(self.matrices.shape[2])

    def atoms(self, steps: np.ndarray) -> np.ndarray:
        """[n, multiplicity, 3] for free coordinates [n, n_free]."""
        found: np.ndarray = np.einsum("mif,nf->nmi", self.matrices, steps) + self.offsets
        return found

    def is_whole(self, steps: np.ndarray) -> np.ndarray:
        """[n] whether the representative coincides with none of the others, for free coordinates [n, n_free]."""
        atoms = self.atoms(steps)
        merged: np.ndarray = ((atoms[:, 1:] - atoms[:, :1]) % GRID == 0).all(axis=2).any(axis=1)
        return ~merged


@lru_cache(maxsize=1731)
def orbit_form(number: int, letter: str) -> OrbitForm:
    """The atoms of a Wyckoff position of a space group."""
    group, position = space_group(number), wyckoff_positions(number)[letter]
    to_primitive = np.linalg.inv(group.primitive)
    # A point that is special in no other way shows which operations lead to different atoms.
    generic = group.images(position.point(np.array([0.1357924, 0.3718281, 0.7320508])[: len(position.free)]))
    reduced = (generic @ to_primitive + 3.1415e-6) % 1.0
    _, first = np.unique(np.floor(reduced * 1e5), axis=0, return_index=True)
    identity = int(np.argmax((group.rotations == np.eye(3)).all(axis=(1, 2))))
    away = reduced[first] - reduced[identity]
    is_same = (np.abs(away - np.round(away)) < 1e-6).all(axis=1)
    chosen = [identity, *(int(index) for index in first[~is_same])]
    turned = group.rotations[chosen] @ position.matrix[:, list(position.free)]
    moved = group.rotations[chosen] @ position.offset + group.translations[chosen]
    matrices = np.einsum("mjf,ji->mif", turned, to_primitive)
    return OrbitForm(np.rint(matrices).astype(np.int64), np.rint(moved @ to_primitive * GRID).astype(np.int64))


@lru_cache(maxsize=20_000)
def whole_steps(number: int, letter: str, given: tuple[int, ...]) -> np.ndarray:
    """Values of the next free coordinate, in grid steps, with which the orbit can keep its multiplicity.

    Args:
        number: ITA number of the space group.
        letter: Of the position.
        given: The free coordinates before.
    """
    form = orbit_form(number, letter)
    n_after = form.n_free - len(given) - 1
    is_open = np.zeros(GRID, dtype=bool)
    if n_after == 0:
        return np.flatnonzero(form.is_whole(_with_next(given, ())))
    for after in _GENERIC:
        is_open |= form.is_whole(_with_next(given, after[:n_after]))
    for step in np.flatnonzero(~is_open):  # merged whatever follows, most likely
        rest = np.stack(np.meshgrid(*[np.arange(GRID)] * n_after, indexing="ij"), axis=-1).reshape(-1, n_after)
        head = np.broadcast_to([*given, int(step)], (len(rest), len(given) + 1))
        is_open[step] = form.is_whole(np.concatenate([head, rest], axis=1)).any()
    return np.flatnonzero(is_open)


def _with_next(given: Sequence[int], after: Sequence[int]) -> np.ndarray:
    """[120, n_free] free coordinates, of which one takes all values."""
    steps = np.empty((GRID, len(given) + 1 + len(after)), dtype=np.int64)
    steps[:, : len(given)], steps[:, len(given)], steps[:, len(given) + 1 :] = given, np.arange(GRID), after
    return steps


class Sites:
    """The atoms of one cell that are there, and where more can be."""

    def __init__(self, number: int, lengths: list[float], angles: list[float]) -> None:
        self._number = number
        primitive = space_group(number).primitive @ _lattice(*conventional_parameters(number, lengths, angles))
        turn = _reduction(primitive)
        self._lattice = turn @ primitive
        self._to_reduced = np.rint(np.linalg.inv(turn)).astype(np.int64)
        self._spacings = 1 / np.linalg.norm(np.linalg.inv(self._lattice), axis=0)
        self._taken: dict[str, np.ndarray] = {}

    def occupy(self, element: str, letter: str, steps: Sequence[int]) -> None:
        """Take an orbit."""
        form = orbit_form(self._number, letter)
        atoms = form.atoms(np.array(steps, dtype=np.int64).reshape(1, -1))[0] @ self._to_reduced
        known = self._taken.get(element)
        self._taken[element] = atoms if known is None else np.concatenate([known, atoms])

    def has_place(self, element: str, letter: str) -> bool:
        """Whether an orbit, at one of many free coordinates looked at, keeps the least distances."""
        form = orbit_form(self._number, letter)
        samples = _samples(form.n_free)
        # Most often one of the first few will do.
        return any(self.are_apart(element, form, some).any() for some in (samples[:40], samples[40:]) if len(some))

    def next_steps(self, element: str, letter: str, given: Sequence[int]) -> np.ndarray:
        """Values of the next free coordinate, in grid steps.

        The orbit can keep its multiplicity with all of them. If there are such, only those with which it also keeps
        the least distances; the first of three free coordinates is not looked at for that.
        """
        form = orbit_form(self._number, letter)
        steps = whole_steps(self._number, letter, tuple(given))
        n_after = form.n_free - len(given) - 1
        if n_after == 2:
            return steps
        after = _SIEVE if n_after else np.zeros(1, dtype=np.int64)
        varied = np.stack(np.meshgrid(steps, after, indexing="ij"), axis=-1).reshape(-1, 2)[:, : n_after + 1]
        head = np.broadcast_to(np.array(given, dtype=np.int64), (len(varied), len(given)))
        is_apart = self.are_apart(element, form, np.concatenate([head, varied], axis=1))
        preferred = steps[is_apart.reshape(len(steps), -1).any(axis=1)]
        return preferred if len(preferred) else steps

    def are_apart(self, element: str, form: OrbitForm, steps: np.ndarray) -> np.ndarray:
        """[n] whether orbits with free coordinates [n, n_free] are whole and keep the distances of valid crystals."""
        atoms = form.atoms(steps) @ self._to_reduced
        first = atoms[:, :1]
        is_apart = self._is_far(atoms[:, 1:] - first, least_distance(element, element))
        for other, taken in self._taken.items():
            looked_at = np.flatnonzero(is_apart)
            is_apart[looked_at] = self._is_far(first[looked_at] - taken, least_distance(element, other))
        return is_apart

    def _is_far(self, vectors: np.ndarray, distance: float) -> np.ndarray:
        """[n] whether all vectors [n, m, 3], in grid steps of the reduced cell, and their copies have a length."""
        wrapped = vectors / GRID
        wrapped -= np.rint(wrapped)
        cartesian = wrapped @ self._lattice
        is_far: np.ndarray = (np.einsum("nmi,nmi->nm", cartesian, cartesian) >= distance**2).all(axis=1)
        # Along an axis whose lattice planes are wide apart the nearest copy is the only one that matters.
        reach = [(-1, 0, 1) if spacing < 2 * distance else (0,) for spacing in self._spacings]
        copies = np.array([copy for copy in product(*reach) if any(copy)]).reshape(-1, 3) @ self._lattice
        if len(copies) and is_far.any():
            looked_at = cartesian[is_far]
            # |v + t|^2 = v.v + 2 v.t + t.t
            squares = np.einsum("nmi,nmi->nm", looked_at, looked_at)[:, :, None] + 2 * looked_at @ copies.T
            is_far[is_far] = (squares + (copies**2).sum(axis=1) >= distance**2).all(axis=(1, 2))
        return is_far


@cache
def _samples(n_free: int) -> np.ndarray:
    """[n, n_free] values of free coordinates, in a random order."""
    values = (np.zeros(0), np.arange(GRID), _SIEVE, _COARSE_SIEVE)[n_free]
    if n_free == 0:
        return np.zeros((1, 0), dtype=np.int64)
    steps = np.stack(np.meshgrid(*[values] * n_free, indexing="ij"), axis=-1).reshape(-1, n_free)
    shuffled: np.ndarray = np.random.default_rng(0).permutation(steps)
    return shuffled


def _lattice(a: float, b: float, c: float, alpha: float, beta: float, gamma: float) -> np.ndarray:
    """[3, 3] lattice vectors as rows, Å, from lengths and angles in degrees."""
    cos_a, cos_b, cos_g = np.cos(np.radians([alpha, beta, gamma]))
    sin_g = np.sqrt(1 - cos_g**2)
    third = (cos_a - cos_b * cos_g) / sin_g
    height = np.sqrt(1 - cos_b**2 - third**2)
    return np.array([[a, 0, 0], [b * cos_g, b * sin_g, 0], [c * cos_b, c * third, c * height]])


def _reduction(lattice: np.ndarray) -> np.ndarray:
    """[3, 3] whole numbers that turn lattice vectors into shorter ones, pair by pair."""
    turn = np.eye(3)
    for _ in range(100):
        vectors = turn @ lattice
        i, j = max(
            ((i, j) for i in range(3) for j in range(3) if i != j),
            key=lambda pair: abs(vectors[pair[0]] @ vectors[pair[1]]) / (vectors[pair[1]] @ vectors[pair[1]]),
        )
        n = np.rint(vectors[i] @ vectors[j] / (vectors[j] @ vectors[j]))
        if n == 0:
            break
        turn[i] -= n * turn[j]
    return turn
