"""Which words may follow in a compact crystal that is being written.

The model chooses among the words that can still lead to a crystal: elements and composition that the prompt asks for,
the right number of lattice parameters for the space group, and an end when, and only when, the orbits add up.
The coordinates of a site lead to an orbit that has no more atoms than are left and, if possible, overlaps no other.
Where the space group has none, the line ends with a composition that does not agree, and reading it says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from matsearch.crystal.checks import least_distance
from matsearch.crystal.space_groups import space_group
from matsearch.crystal.wyckoff import (
    ANGLES,
    COORDINATES,
    COUNTS,
    ELEMENTS,
    GRID,
    LENGTHS,
    SNAP,
    SPACE_GROUPS,
    conventional_parameters,
    n_free_lengths_and_angles,
)

LEAST_ORBITS = tuple(
    int(digit)
    for digit in (
        "111211212121222122421112122242224212212221212212222424244224"
        "442212221212421424121112221212442244121222222412241222122212"
        "121222222422424224122413311111333311122121212121663321121663"
        "32122212121222111441212144121214441112261222122418"
    )
)
"""Fewest atoms of the primitive cell in an orbit, space group by space group; a test derives them again."""
# Where not all orbits are multiples of the smallest: the greatest common divisor.
_DIVISORS = {199: 2, 214: 2, 220: 2, 230: 4}

_STEPS = {text: step for step, text in enumerate(COORDINATES)}


class LineGrammar:
    """Follows one line, word by word.

    Attributes:
        allowed: Words that may come next.
    """

    def __init__(
        self,
        elements: Sequence[str] = ELEMENTS,
        max_atoms: int | None = None,
        composition: Mapping[str, int] | None = None,
    ) -> None:
        """Follow a line of certain elements, of a number of atoms at most, of a multiple of a composition."""
        self._elements = tuple(elements)
        self._room = max_atoms
        self._wanted = dict(composition or {})
        self._left: dict[str, int] = {}
        self._part = "start"
        self._element = ""
        self._number = 1
        self._pending: list[Sequence[str]] = []
        self._steps: list[int] = []
        self._lengths: list[float] = []
        self._angles: list[float] = []
        self._sites: Sites | None = None
        self.allowed: Sequence[str] = ("crystal",)

    def accept(self, word: str) -> None:
        """Take the word that was written; it should be one of `allowed`."""
        if self._part == "start":
            self._part = "composition"
            self._after_composition()
        elif self._part == "composition":
            self._accept_composition(word)
        elif self._part == "lattice":
            self._accept_lattice(word)
        elif self._part == "orbits":
            self._accept_orbits(word)

    def _accept_composition(self, word: str) -> None:
        if word == ":":
            self._part = "lattice"
            self.allowed = tuple(name for name in SPACE_GROUPS if can_hold(int(name[2:]), self._left.values()))
        elif word in COUNTS:
            self._left[self._element] = int(word)
            if self._room is not None:
                self._room -= int(word)
            self._after_composition()
        else:
            self._element = word
            self.allowed = self._counts(word)

    def _counts(self, element: str) -> Sequence[str]:
        """Counts that an element of the composition may have."""
        if not self._wanted:
            return COUNTS if self._room is None else COUNTS[: self._room]
        wanted = self._wanted[element]
        if not self._left:
            largest = max(self._wanted.values())
            return tuple(str(wanted * k) for k in range(1, len(COUNTS) // largest + 1))
        first, count = next(iter(self._left.items()))
        return (str(wanted * count // self._wanted[first]),)

    def _after_composition(self) -> None:
        missing = tuple(element for element in self._elements if element not in self._left)
        if self._wanted:
            self.allowed = missing[:1] or (":",)
        elif self._room is not None and self._room < 1:
            self.allowed = (":",)
        else:
            self.allowed = (*missing, ":") if self._left else missing

    def _accept_lattice(self, word: str) -> None:
        if word in SPACE_GROUPS:
            self._number = int(word[2:])
            n_lengths, n_angles = n_free_lengths_and_angles(self._number)
            self._pending = [*[LENGTHS] * n_lengths, *[ANGLES] * n_angles, (":",)]
        elif word in LENGTHS:
            self._lengths.append(float(word))
        elif word in ANGLES:
            self._angles.append(float(word.removesuffix("deg")))
        if self._pending:
            self.allowed = self._pending.pop(0)
        else:
            self._part = "orbits"
            self._sites = Sites(self._number, self._lengths, self._angles)
            self._after_orbit()

    def _accept_orbits(self, word: str) -> None:
        if word == "end":
            self._part = "done"
            self.allowed = ("end",)
        elif word in _STEPS:
            assert self._sites is not None
            self._steps.append(_STEPS[word])
            if len(self._steps) == 3:
                self._left[self._element] -= self._sites.occupy(self._element, self._steps)
                self._after_orbit()
            else:
                fitting = self._sites.next_steps(self._element, self._steps, room=self._left[self._element])
                self.allowed = tuple(COORDINATES[step] for step in fitting) or COORDINATES
        else:
            self._element, self._steps = word, []
            first = np.flatnonzero(least_multiplicities(self._number) <= self._left[word])
            self.allowed = tuple(COORDINATES[step] for step in first) or COORDINATES

    def _after_orbit(self) -> None:
        open_elements = tuple(element for element, count in self._left.items() if count > 0)
        is_overfull = any(count < 0 for count in self._left.values())
        # Element by element, in the order of the composition, as all compact crystals are written.
        self.allowed = ("end",) if is_overfull or not open_elements else open_elements[:1]


class Sites:
    """The sites of one cell that are taken, and those that still can be."""

    def __init__(self, number: int, lengths: list[float], angles: list[float]) -> None:
        a, b, c, *degrees = conventional_parameters(number, lengths, angles)
        cosines = np.cos(np.radians(degrees))
        self._number = number
        self._group = space_group(number)
        self._metric = np.outer([a, b, c], [a, b, c]) * np.array(
            [[1, cosines[2], cosines[1]], [cosines[2], 1, cosines[0]], [cosines[1], cosines[0], 1]]
        )
        self._taken: list[tuple[str, np.ndarray]] = []

    def next_steps(self, element: str, steps: Sequence[int], *, room: int) -> list[int]:
        """Second or third coordinates, in grid steps, that lead to an orbit of at most `room` atoms.

        They should also keep the orbit's atoms apart, and away from those that are there, by what `check_structure`
        asks; where none does, all that fit by number are given.
        """
        fits = multiplicities(self._number, steps[0]) <= room
        if len(steps) == 1:
            # Rows with many choices are looked at through a sieve that holds all special positions.
            is_looked_at = fits & ((fits.sum(axis=1) <= 24)[:, None] | (np.arange(GRID) % 5 == 0)[None, :])
            second, third = np.nonzero(is_looked_at)
            choices = second
        else:
            third = np.flatnonzero(fits[steps[1]])
            second, choices = np.full(len(third), steps[1]), third
        if len(third) == 0:
            return []
        is_apart = self._are_apart(element, np.stack([np.full(len(third), steps[0]), second, third], axis=1))
        return [int(step) for step in np.unique(choices[is_apart] if is_apart.any() else choices)]

    def _are_apart(self, element: str, steps: np.ndarray) -> np.ndarray:
        """[n] whether the orbits of sites [n, 3] keep the least distances."""
        points = self._group.snap(steps / GRID, SNAP)
        offsets = self._group.offsets(points)
        is_self = (np.abs(offsets) < 1e-5).all(axis=2)
        is_far = self._squares(offsets) >= least_distance(element, element) ** 2
        is_apart: np.ndarray = np.all(is_far | is_self, axis=1)
        for taken, orbit in self._taken:
            offsets = self._group.nearest(points[:, None, :] - orbit[None, :, :])
            is_apart &= (self._squares(offsets) >= least_distance(element, taken) ** 2).all(axis=1)
        return is_apart

    def occupy(self, element: str, steps: Sequence[int]) -> int:
        """Take the orbit of a site; the atoms of the primitive cell that it holds."""
        orbit = self._group.orbit(self._group.snap(np.array(steps) / GRID, SNAP))
        self._taken.append((element, orbit))
        return len(orbit) // len(self._group.centring)

    def _squares(self, offsets: np.ndarray) -> np.ndarray:
        """Squared lengths in Å^2 of fractional vectors [..., 3]."""
        squares: np.ndarray = np.einsum("...i,ij,...j->...", offsets, self._metric, offsets)
        return squares


def can_hold(number: int, counts: Iterable[int]) -> bool:
    """Whether a space group has orbits that add up to these numbers of atoms in the primitive cell."""
    least = LEAST_ORBITS[number - 1]
    divisor = _DIVISORS.get(number, least)
    return all(count >= least and count % divisor == 0 for count in counts)


@lru_cache(maxsize=1000)
def multiplicities(number: int, x: int) -> np.ndarray:
    """[y, z] atoms of the primitive cell in the orbit of (x, y, z), all in grid steps."""
    group = space_group(number)
    counts = np.empty((GRID, GRID), dtype=np.int16)
    steps = np.arange(GRID)
    for y in range(GRID):  # row by row: the whole plane would take 100 MB for a cubic group
        grid = np.stack([np.full(GRID, x), np.full(GRID, y), steps], axis=1) / GRID
        counts[y] = group.multiplicity(group.snap(grid, SNAP))
    return counts


@lru_cache(maxsize=230)
def least_multiplicities(number: int) -> np.ndarray:
    """[x] fewest atoms of the primitive cell in an orbit with that first coordinate, in grid steps.

    Special positions have coordinates that are multiples of 1/24, or such a multiple away from those before them (or
    from twice, or half of them); any other value is as good as one in general.
    """
    group = space_group(number)
    constants = np.arange(24) / 24
    general_y, general_z = 0.1357924, 0.2718281

    def least(x: float, related: tuple[float, ...]) -> int:
        ys = np.concatenate([constants + start for start in (0.0, *related)] + [[general_y]])
        fewest = len(group.rotations)
        for y in ys:
            zs = np.concatenate([constants + start for start in (0.0, *related, y, -y)] + [[general_z]])
            points = np.stack([np.full(len(zs), x), np.full(len(zs), y), zs], axis=1)
            fewest = min(fewest, int(group.multiplicity(points).min()))
        return fewest

    in_general = 0.0654321
    counts = np.full(GRID, least(in_general, (in_general, -in_general, 2 * in_general, in_general / 2)))
    for index, x in enumerate(constants):
        counts[index * GRID // 24] = least(float(x), ())
    return counts


def grammar_for(prompt: Sequence[str]) -> LineGrammar:
    """The grammar of a reply to a prompt: what `predict`, `from` and `within` ask for."""
    words = list(prompt)
    if words[0] == "predict":
        pairs = words[1 : words.index("child")]
        composition = {symbol: int(count) for symbol, count in zip(pairs[::2], pairs[1::2], strict=True)}
        return LineGrammar(sorted(composition, key=ELEMENTS.index), composition=composition)
    max_atoms = int(words[words.index("within") + 1]) if "within" in words else None
    listed = [word for word in words[words.index("from") + 1 :] if word in ELEMENTS] if "from" in words else []
    return LineGrammar(sorted(set(listed), key=ELEMENTS.index) or ELEMENTS, max_atoms)
