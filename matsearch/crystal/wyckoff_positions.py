"""The Wyckoff positions of the 230 space groups, in the setting of `space_group`.

The table beside this file holds letter, multiplicity and representative of all 1,731 positions, as moyo knows them for
its standard setting (unique axis b, hexagonal axes, origin choice 2). moyo names only positions that a crystal
occupies; `python -m matsearch.crystal.wyckoff_positions` makes crystals until every special position has been named,
and writes the table anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from matsearch.crystal.space_groups import Group, space_group

TABLE = Path(__file__).with_suffix(".json")
LETTERS = "abcdefghijklmnopqrstuvwxyzA"
"""Wyckoff letters in order; only space group 47 needs the last."""
ON_POSITION = 1e-4
"""Fractional coordinates; how near a point must be to a position's affine form to lie on it."""

_TERM = re.compile(r"([+-]?)(?:(\d?)([xyz])|(\d+(?:/\d+)?))")


@dataclass(frozen=True)
class WyckoffPosition:
    """One Wyckoff position.

    Attributes:
        letter: `a`, `b`, ...
        multiplicity: Atoms of the conventional cell.
        primitive_multiplicity: Atoms of the primitive cell.
        coordinates: The representative as the International Tables print it: `x,2x,1/4`.
        matrix: [3, 3]; the representative is `matrix @ (x, y, z) + offset`.
        offset: [3].
        free: Which of x, y, z (0, 1, 2) the representative depends on.
    """

    letter: str
    multiplicity: int
    primitive_multiplicity: int
    coordinates: str
    matrix: np.ndarray
    offset: np.ndarray
    free: tuple[int, ...]

    @property
    def is_single(self) -> bool:
        """Whether it has no free coordinate, so that one crystal can use it but once."""
        return not self.free

    def point(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Fractional coordinates [..., 3] of the representative, given its free coordinates [..., n_free]."""
        points: np.ndarray = np.asarray(values, dtype=float) @ self.matrix[:, list(self.free)].T + self.offset
        return points

    def values(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Free coordinates of points of the conventional cell, as far as they lie on the representative's form.

        Args:
            points: [..., 3] fractional coordinates.

        Returns:
            Free coordinates [..., n_free] within [0, 1), and how far the point is from its form: the largest
            difference [...] of a fractional coordinate, up to whole translations of the conventional cell.
        """
        # Every free coordinate stands alone, up to its sign, in at least one of the three places.
        rows = [self._row(axis) for axis in self.free]
        signs = np.array([self.matrix[row, axis] for row, axis in zip(rows, self.free, strict=True)])
        values = ((points[..., rows] - self.offset[rows]) * signs) % 1.0
        away = points - self.point(values)
        return values, np.abs(away - np.round(away)).max(axis=-1)

    def _row(self, axis: int) -> int:
        alone = (np.abs(self.matrix[:, axis]) == 1) & ((self.matrix != 0).sum(axis=1) == 1)
        return int(np.argmax(alone))


@lru_cache(maxsize=230)
def wyckoff_positions(number: int) -> dict[str, WyckoffPosition]:
    """The Wyckoff positions of a space group (ITA number), by letter, from `a` to the general one.

    Raises:
        ValueError: There is no such space group.
    """
    if not 1 <= number <= 230:
        raise ValueError(f"space group must be 1 to 230, got {number}")
    return {position.letter: position for position in _parsed(_table()[str(number)], len(space_group(number).centring))}


def wyckoff_letter(number: int, point: np.ndarray) -> tuple[str, np.ndarray]:
    """Letter of the position that a point [3] of the conventional cell occupies, and its free coordinates.

    Where several members of the orbit lie on the representative's form, the smallest free coordinates are given.

    Raises:
        ValueError: The point is so near to a symmetry element, but not on it, that some of its images coincide.
    """
    orbit = space_group(number).orbit(point)
    for position in wyckoff_positions(number).values():
        if position.multiplicity == len(orbit):
            values, away = position.values(orbit)
            if (away < ON_POSITION).any():
                found = values[away < ON_POSITION]
                found[found > 1 - ON_POSITION] = 0.0
                return position.letter, found[np.lexsort(found.T[::-1])[0]] if position.free else np.zeros(0)
    raise ValueError(f"{point} lies on no Wyckoff position of space group {number} with {len(orbit)} atoms")


@cache
def _table() -> dict[str, list[str]]:
    table: dict[str, list[str]] = json.loads(TABLE.read_text())
    return table


def _parsed(rows: Sequence[str], n_centring: int) -> list[WyckoffPosition]:
    """Positions of rows such as `4e x,x,1/4`."""
    positions = []
    for row in rows:
        label, coordinates = row.split()
        matrix, offset = _affine(coordinates)
        free = tuple(int(axis) for axis in np.flatnonzero(matrix.any(axis=0)))
        multiplicity = int(label[:-1])
        primitive = multiplicity // n_centring
        positions.append(WyckoffPosition(label[-1], multiplicity, primitive, coordinates, matrix, offset, free))
    return positions


def _affine(coordinates: str) -> tuple[np.ndarray, np.ndarray]:
    """[3, 3] and [3] of `x,-x+1/4,2z`."""
    matrix, offset = np.zeros((3, 3)), np.zeros(3)
    for row, text in enumerate(coordinates.split(",")):
        for sign, factor, variable, constant in _TERM.findall(text):
            value = -1.0 if sign == "-" else 1.0
            if constant:
                offset[row] += value * float(Fraction(constant))
            else:
                matrix[row, "xyz".index(variable)] += value * int(factor or 1)
    return matrix, offset


# ---- How the table was made


def derive_positions(number: int) -> list[str]:
    """Rows of the table for one space group, found with moyo.

    Crystals of three general orbits and one special position are made until every special position has been named.

    Raises:
        ValueError: A special position could not be named.
    """
    group = space_group(number)
    random = np.random.default_rng(number)
    # Constants of special positions are multiples of 1/24; lines and planes are met by points moved onto them.
    corners = np.stack(np.meshgrid(*[np.arange(24) / 24] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    moved = [group.snap(random.random((500, 3)), tolerance) for tolerance in (0.3, 0.2, 0.1)]
    points = np.concatenate([corners, *moved])
    named = _named(number, group, random, None)
    for _ in range(300):
        points = points[~_is_named(group, points, _parsed(sorted(named), len(group.centring)))]
        if not len(points):
            return sorted(named, key=lambda row: LETTERS.index(row.split()[0][-1]))
        for point in random.permutation(points)[:4]:
            named |= _named(number, group, random, point)
    raise ValueError(f"special positions of space group {number} have no name: {points[:3]}")


def _named(number: int, group: Group, random: np.random.Generator, point: np.ndarray | None) -> set[str]:
    """Rows for the positions that moyo finds in a crystal with an atom at a point, if one is given."""
    import moyopy

    orbits = [group.orbit(random.random(3)) for _ in range(3)] + ([] if point is None else [group.orbit(point)])
    numbers = np.repeat(np.arange(len(orbits)) + 1, [len(orbit) for orbit in orbits])
    # A metric that the rotations leave as it is, and no others do.
    metric = np.diag([50.0, 80.0, 160.0]) + np.array([[0, 7, -9], [7, 0, -5], [-9, -5, 0]])
    metric = np.mean([rotation.T @ metric @ rotation for rotation in group.rotations], axis=0)
    cell = moyopy.Cell(np.linalg.cholesky(metric).tolist(), np.concatenate(orbits).tolist(), numbers.tolist())
    dataset = moyopy.MoyoDataset(cell, symprec=1e-3, setting=moyopy.Setting.standard())
    if dataset.number != number:
        return set()
    # Described from another of the equally good origins, the same atoms have other letters.
    views = dataset.normalizer_wyckoff_positions().coset_representatives
    found = {(one.multiplicity, one.letter, one.coordinates) for _, letters in views for one in letters}
    return {f"{multiplicity}{letter} {coordinates.replace(' ', '')}" for multiplicity, letter, coordinates in found}


def _is_named(group: Group, points: np.ndarray, positions: Sequence[WyckoffPosition]) -> np.ndarray:
    """[n] whether each point lies on one of the positions."""
    multiplicities = group.multiplicity(points) * len(group.centring)
    images = (group.images(points)[:, :, None, :] + group.centring).reshape(len(points), -1, 3)
    is_named = np.zeros(len(points), dtype=bool)
    for position in positions:
        _, away = position.values(images)
        is_named |= (multiplicities == position.multiplicity) & (away < ON_POSITION).any(axis=1)
    return is_named


def main() -> None:
    """Write the table."""
    rows = {str(number): derive_positions(number) for number in range(1, 231)}
    lines = [f'"{number}": {json.dumps(found)}' for number, found in rows.items()]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
