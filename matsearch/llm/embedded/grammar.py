"""Which words may follow in a compact crystal that is being written.

The model chooses among the words that can still lead to a crystal that reads: elements and composition that the prompt
asks for, a space group whose positions can hold them, angles that span a cell, Wyckoff letters that leave room for the
rest, coordinates that do not merge the atoms of an orbit, and an end when, and only when, the orbits add up.
Among letters and coordinates only those are offered that keep the atoms apart, if there are any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from matsearch.crystal.wyckoff import (
    ANGLES,
    COORDINATES,
    COUNTS,
    ELEMENTS,
    LENGTHS,
    LETTERS,
    MAX_COUNT,
    SPACE_GROUPS,
    n_free_lengths_and_angles,
)
from matsearch.crystal.wyckoff_positions import wyckoff_positions
from matsearch.llm.embedded.feasibility import fitting_letters, space_groups_for
from matsearch.llm.embedded.sites import Sites

_STEPS = {text: step for step, text in enumerate(COORDINATES)}
LEAST_SQUARED_VOLUME = 1e-3
"""Of a cell of unit edges, (V / abc)^2; a flatter one is no crystal's."""


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
        self._room = MAX_COUNT if max_atoms is None else max_atoms
        self._wanted = dict(composition or {})
        self._left: dict[str, int] = {}
        self._part = "start"
        self._element = ""
        self._number = 1
        self._n_lengths, self._n_angles = 3, 3
        self._letter = ""
        self._steps: list[int] = []
        self._taken: frozenset[str] = frozenset()
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
            held = space_groups_for(tuple(sorted(self._left.values())))
            self.allowed = tuple(SPACE_GROUPS[number - 1] for number in held)
        elif word in COUNTS:
            self._left[self._element] = int(word)
            self._room -= int(word)
            self._after_composition()
        else:
            self._element = word
            self.allowed = self._counts(word)

    def _counts(self, element: str) -> Sequence[str]:
        """Counts that an element of the composition may have."""
        if not self._wanted:
            return COUNTS[: self._room]
        wanted = self._wanted[element]
        if not self._left:
            # Whole multiples as far as all their atoms can be counted, but at least the composition itself.
            n_multiples = max(1, MAX_COUNT // sum(self._wanted.values()))
            return tuple(str(wanted * k) for k in range(1, n_multiples + 1))
        first, count = next(iter(self._left.items()))
        return (str(wanted * count // self._wanted[first]),)

    def _after_composition(self) -> None:
        # From electropositive to electronegative, as all compact crystals are written.
        missing = self._elements[self._elements.index(self._element) + 1 :] if self._left else self._elements
        if self._wanted:
            self.allowed = missing[:1] or (":",)
        elif self._room < 1:
            self.allowed = (":",)
        else:
            self.allowed = (*missing, ":") if self._left else missing

    def _accept_lattice(self, word: str) -> None:
        if word in SPACE_GROUPS:
            self._number = int(word[2:])
            self._n_lengths, self._n_angles = n_free_lengths_and_angles(self._number)
        elif word in LENGTHS:
            self._lengths.append(float(word))
        elif word in ANGLES:
            self._angles.append(float(word.removesuffix("deg")))
        if word == ":":
            self._part = "orbits"
            self._sites = Sites(self._number, self._lengths, self._angles)
            self._after_orbit()
        elif len(self._lengths) < self._n_lengths:
            self.allowed = LENGTHS
        elif len(self._angles) < self._n_angles:
            self.allowed = ANGLES if len(self._angles) < 2 else _third_angles(*self._angles)
        else:
            self.allowed = (":",)

    def _accept_orbits(self, word: str) -> None:
        if word == "end":
            self._part = "done"
            self.allowed = ("end",)
            return
        assert self._sites is not None
        if word in LETTERS:
            self._letter, self._steps = word, []
        elif word in _STEPS:
            self._steps.append(_STEPS[word])
        else:
            self._element = word
            fitting = fitting_letters(self._number, word, self._left, self._taken)
            preferred = [letter for letter in fitting if self._sites.has_place(word, letter)]
            self.allowed = preferred or fitting
            return
        position = wyckoff_positions(self._number)[self._letter]
        if len(self._steps) < len(position.free):
            steps = self._sites.next_steps(self._element, self._letter, self._steps)
            self.allowed = [COORDINATES[step] for step in steps]
            return
        self._sites.occupy(self._element, self._letter, self._steps)
        self._left[self._element] -= position.primitive_multiplicity
        if position.is_single:
            self._taken |= {self._letter}
        self._after_orbit()

    def _after_orbit(self) -> None:
        # Element by element, in the order of the composition, as all compact crystals are written.
        unplaced = tuple(element for element, count in self._left.items() if count > 0)
        self.allowed = unplaced[:1] or ("end",)


def _third_angles(alpha: float, beta: float) -> list[str]:
    """Angles gamma that span a cell with two others; in degrees."""
    cos_a, cos_b = np.cos(np.radians([alpha, beta]))
    cos_g = np.cos(np.radians([float(text.removesuffix("deg")) for text in ANGLES]))
    squares = 1 - cos_a**2 - cos_b**2 - cos_g**2 + 2 * cos_a * cos_b * cos_g
    return [text for text, square in zip(ANGLES, squares, strict=True) if square > LEAST_SQUARED_VOLUME]


def grammar_for(prompt: Sequence[str]) -> LineGrammar:
    """The grammar of a reply to a prompt: what `predict`, `from` and `within` ask for."""
    words = list(prompt)
    if words[0] == "predict":
        symbols = [place for place, word in enumerate(words) if word in ELEMENTS]
        composition = {words[place]: int(words[place + 1]) for place in symbols}
        return LineGrammar(sorted(composition, key=ELEMENTS.index), composition=composition)
    max_atoms = int(words[words.index("within") + 1]) if "within" in words else None
    listed = [word for word in words[words.index("from") + 1 :] if word in ELEMENTS] if "from" in words else []
    return LineGrammar(sorted(set(listed), key=ELEMENTS.index) or ELEMENTS, max_atoms)
