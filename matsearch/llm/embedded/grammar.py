"""Which words may follow in a compact crystal that is being written.

The model chooses among the words that can still lead to a crystal: elements and composition that the prompt asks for,
the right number of lattice parameters for the space group, and an end when, and only when, the orbits add up.
The coordinates of a site lead to an orbit that has no more atoms than are left and overlaps no other. Where the first
coordinate leaves none, the line ends with a composition that does not agree, and reading it says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

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

MIN_DISTANCE = 0.9
"""Å. Not a rule of validity: it keeps two atoms off one site, and spares the shortest bonds (O-H 0.96 Å)."""

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
            self.allowed = SPACE_GROUPS
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
                self._left[self._element] -= self._sites.occupy(*self._steps)
                self._after_orbit()
            else:
                fitting = self._sites.next_steps(self._steps, room=self._left[self._element])
                self.allowed = tuple(COORDINATES[step] for step in fitting) or COORDINATES
        else:
            self._element, self._steps = word, []
            self.allowed = COORDINATES

    def _after_orbit(self) -> None:
        open_elements = tuple(element for element, count in self._left.items() if count > 0)
        is_overfull = any(count < 0 for count in self._left.values())
        self.allowed = ("end",) if is_overfull or not open_elements else open_elements


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
        self._taken = np.zeros((0, 3))

    def next_steps(self, steps: Sequence[int], *, room: int) -> list[int]:
        """Second or third coordinates, in grid steps, that lead to an orbit of at most `room` atoms.

        A third coordinate must also keep the orbit away from itself and from the atoms that are there.
        """
        n_atoms = multiplicities(self._number, steps[0])
        if len(steps) == 1:
            return [int(step) for step in np.flatnonzero((n_atoms <= room).any(axis=1))]
        small = np.flatnonzero(n_atoms[steps[1]] <= room)
        if len(small) == 0:
            return []
        grid = np.stack([np.full(len(small), steps[0]), np.full(len(small), steps[1]), small], axis=1) / GRID
        points = self._group.snap(grid, SNAP)
        offsets = self._group.images(points) - points[:, None, :]
        offsets -= np.round(offsets)
        is_self = (np.abs(offsets) < 1e-5).all(axis=2)
        is_free = ((self._squares(offsets) >= MIN_DISTANCE**2) | is_self).all(axis=1)
        to_taken = points[:, None, :] - self._taken[None, :, :]
        to_taken -= np.round(to_taken)
        is_apart = (self._squares(to_taken) >= MIN_DISTANCE**2).all(axis=1)
        return [int(step) for step in small[is_free & is_apart]]

    def occupy(self, x: int, y: int, z: int) -> int:
        """Take the orbit of a site; the atoms of the primitive cell that it holds."""
        orbit = self._group.orbit(self._group.snap(np.array([x, y, z]) / GRID, SNAP))
        self._taken = np.concatenate([self._taken, orbit])
        return len(orbit) // self._group.n_centring

    def _squares(self, offsets: np.ndarray) -> np.ndarray:
        """Squared lengths in Å^2 of fractional vectors [..., 3]."""
        squares: np.ndarray = np.einsum("...i,ij,...j->...", offsets, self._metric, offsets)
        return squares


@lru_cache(maxsize=1000)
def multiplicities(number: int, x: int) -> np.ndarray:
    """[y, z] atoms of the primitive cell in the orbit of (x, y, z), all in grid steps."""
    group = space_group(number)
    counts = np.empty((GRID, GRID), dtype=np.int16)
    steps = np.arange(GRID)
    for y in range(GRID):  # row by row: all at once would take 100 MB for a cubic group
        grid = np.stack([np.full(GRID, x), np.full(GRID, y), steps], axis=1) / GRID
        points = group.snap(grid, SNAP)
        offsets = group.images(points) - points[:, None, :]
        n_self = (np.abs(offsets - np.round(offsets)) < 1e-5).all(axis=2).sum(axis=1)
        counts[y] = len(group.rotations) // n_self // group.n_centring
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
