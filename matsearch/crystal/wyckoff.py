"""A crystal as one short line of tokens that is symmetric by construction.

    crystal Na 1 Cl 1 : sg225 5.65 : Na a Cl b end
    crystal Ti 2 O 4 : sg136 4.59 2.96 : Ti a O f 37/120 end

First the atoms of the primitive cell (elements from electropositive to electronegative), then the space group (ITA
number, standard setting: unique axis b, hexagonal axes, origin choice 2) and those lattice parameters of the
conventional cell that its crystal system leaves free (Å, then whole degrees), then every orbit: its element, its
Wyckoff letter and the free coordinates of its representative, as reduced fractions of 120, a grid that holds 1/3, 1/4,
1/5, 1/6, 1/8 and 1/12.

Every token is in the closed `vocabulary()`. Reading expands each orbit with the operations of the space group. The
composition is stated and must agree with the orbits, and an orbit must have as many atoms as its letter says.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.crystal.prototype import NEEDLE
from matsearch.crystal.space_groups import Group, space_group
from matsearch.crystal.wyckoff_positions import LETTERS, ON_POSITION, WyckoffPosition, wyckoff_positions

if TYPE_CHECKING:
    from pymatgen.core import Structure

COMPACT_START = re.compile(r"^[ \t]*crystal(?=[ \t]+[A-Z][a-z]?(?:\s|$))", re.MULTILINE)
"""Where a compact crystal starts in a text."""

# Hydrogen to plutonium without the noble gases, by Pauling electronegativity (1.1 where none is tabulated).
_BY_ELECTRONEGATIVITY = """
Fr Cs K Rb Ba Ra Na Sr Li Ca La Tb Yb Ac Ce Pr Pm Nd Sm Eu Gd Y Dy Ho Er Tm Lu Pu Hf Th Mg Zr Sc Np U Ta Pa Ti Mn
Be Nb Al Tl V Zn Cr Cd In Ga Fe Co Si Cu Tc Re Ni Ag Sn Hg Po Ge Bi B Sb Te Mo As P H Ru Pd Os Ir At Rh Pt Pb W Au
C Se S I Br N Cl O F
"""
ELEMENTS = tuple(_BY_ELECTRONEGATIVITY.split())
MAX_COUNT = 24
"""Most atoms of one element in the primitive cell that the vocabulary can count."""
GRID = 120
SYMMETRY_TOL = 0.1  # Å; the tolerance Materials Project symmetries are commonly quoted for
LENGTHS = tuple(f"{1.8 * 1.01**step:.2f}" for step in range(331))
"""Lengths in Å, 1 % apart, 1.8 to 48: the same relative error for a short and a long axis."""
ANGLES = tuple(f"{degrees}deg" for degrees in range(30, 151))
COORDINATES = tuple(str(Fraction(step, GRID)) for step in range(GRID))
SPACE_GROUPS = tuple(f"sg{number}" for number in range(1, 231))
COUNTS = tuple(str(count) for count in range(1, MAX_COUNT + 1))

_LOG_LENGTHS = np.log(np.array([float(text) for text in LENGTHS]))
_COORDINATE_STEP = {text: step for step, text in enumerate(COORDINATES)}
_ELEMENT_RANK = {symbol: rank for rank, symbol in enumerate(ELEMENTS)}
_CODES_PER_ELEMENT = len(LETTERS) * GRID**3


@cache
def vocabulary() -> list[str]:
    """Every token a compact crystal can hold, in a fixed order."""
    return ["crystal", ":", "end", *ELEMENTS, *COUNTS, *SPACE_GROUPS, *LENGTHS, *ANGLES, *COORDINATES, *LETTERS]


@cache
def _known() -> frozenset[str]:
    return frozenset(vocabulary())


def n_free_lengths_and_angles(space_group: int) -> tuple[int, int]:
    """How many lengths and angles of the conventional cell the crystal system leaves free."""
    if space_group <= 2:
        return 3, 3
    if space_group <= 15:
        return 3, 1
    if space_group <= 74:
        return 3, 0
    return (2, 0) if space_group <= 194 else (1, 0)


def to_compact(structure: Structure) -> str:
    """Write a crystal, given in any cell, as one line of tokens.

    Rounding moves atoms by up to 1/240 of an axis, lengths by 0.5 % and angles by half a degree; symmetry within
    0.1 Å is made exact. The origin is chosen among those the space group allows, so that one crystal has one text.

    Raises:
        ValueError: A noble gas or an element beyond Pu, partial occupancies, a cell that is a needle, more than 24
            atoms of an element in the primitive cell, an axis outside 1.8 to 48 Å, or atoms nearer to a symmetry
            element than the grid resolves.
    """
    if not structure.is_ordered:
        raise ValueError("a compact crystal cannot hold partial occupancies")
    numbers = [site.specie.Z for site in structure]
    return encode(structure.lattice.matrix, structure.frac_coords, numbers)


def encode(lattice: np.ndarray, frac_coords: np.ndarray, numbers: list[int]) -> str:
    """The same from arrays: lattice vectors as rows (Å), fractional coordinates [n, 3], atomic numbers.

    Raises:
        ValueError: As `to_compact`.
    """
    import moyopy

    edges = np.linalg.norm(lattice, axis=1)
    if edges.max() > NEEDLE * edges.min():
        raise ValueError(f"a cell with edges from {edges.min():.1f} to {edges.max():.1f} Å is a needle")
    # moyo warns of every supercell that it leaves out operations of the primitive cell; none of them is used here.
    logging.getLogger("moyo").setLevel(logging.ERROR)
    cell = moyopy.Cell(np.asarray(lattice).tolist(), np.asarray(frac_coords).tolist(), [int(z) for z in numbers])
    try:
        dataset = moyopy.MoyoDataset(cell, symprec=SYMMETRY_TOL, setting=moyopy.Setting.standard())
    except Exception as err:  # moyo has no exception class of its own
        raise ValueError(f"no space group found: {err}") from err
    group = space_group(dataset.number)
    symbols = [_symbol(z) for z in dataset.std_cell.numbers]
    positions = np.array(dataset.std_cell.positions)
    orbits = [(symbols[one], group.orbit(positions[one])) for one in group.representatives(positions, symbols)]
    counts: dict[str, int] = {}
    for symbol, points in orbits:
        counts[symbol] = counts.get(symbol, 0) + len(points) // len(group.centring)
    if max(counts.values()) > MAX_COUNT:
        raise ValueError(f"more than {MAX_COUNT} atoms of one element in the primitive cell: {counts}")
    tokens = ["crystal"]
    for symbol in sorted(counts, key=_ELEMENT_RANK.__getitem__):
        tokens += [symbol, str(counts[symbol])]
    tokens += [":", f"sg{dataset.number}", *_lattice_tokens(np.array(dataset.std_cell.basis), dataset.number), ":"]
    for symbol, letter, steps in _canonical_orbits(dataset.number, group, orbits):
        tokens += [symbol, letter, *(COORDINATES[step] for step in steps)]
    return " ".join([*tokens, "end"])


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    symbol = str(chemical_symbols[number])
    if symbol not in _ELEMENT_RANK:
        raise ValueError(f"element {symbol} is not in the compact vocabulary (H to Pu without the noble gases)")
    return symbol


def _canonical_orbits(
    number: int, group: Group, orbits: list[tuple[str, np.ndarray]]
) -> list[tuple[str, str, tuple[int, ...]]]:
    """Element, letter and grid steps of every orbit, sorted: the smallest such list over all allowed origins."""
    ranks = np.array([_ELEMENT_RANK[symbol] for symbol, _ in orbits])
    best: tuple[int, ...] | None = None
    for turn, moves in group.views:
        seen = [(symbol, points @ turn.T) for symbol, points in orbits]
        shifts = _origins(group, seen, moves)
        keys = np.stack([_orbit_codes(number, points[None, :, :] + shifts[:, None, :]) for _, points in seen], axis=1)
        codes = np.sort(ranks[None, :] * _CODES_PER_ELEMENT + keys, axis=1)
        smallest = min(tuple(int(code) for code in row) for row in codes)
        if best is None or smallest < best:
            best = smallest
    assert best is not None
    chosen = []
    for code in best:
        rank, rest = divmod(code, _CODES_PER_ELEMENT)
        position = wyckoff_positions(number)[LETTERS[rest // GRID**3]]
        steps = (rest // GRID**2 % GRID, rest // GRID % GRID, rest % GRID)[: len(position.free)]
        _check_multiplicity(group, position, steps)
        chosen.append((ELEMENTS[rank], position.letter, steps))
    return chosen


def _orbit_codes(number: int, points: np.ndarray) -> np.ndarray:
    """[n] letter and grid steps of orbits [n, multiplicity, 3] as numbers that sort like them, each the smallest."""
    codes = np.full(len(points), _CODES_PER_ELEMENT)
    for rank, position in enumerate(wyckoff_positions(number).values()):
        if position.multiplicity != points.shape[1]:
            continue
        values, away = position.values(points)
        weights = np.array([GRID * GRID, GRID, 1])[: len(position.free)]
        keys = rank * GRID**3 + _to_grid(values) @ weights
        codes = np.minimum(codes, np.where(away < ON_POSITION, keys, _CODES_PER_ELEMENT).min(axis=1))
    if (codes == _CODES_PER_ELEMENT).any():
        raise ValueError(f"{points.shape[1]} equivalent atoms found on no Wyckoff position of sg{number}")
    return codes


def _origins(group: Group, orbits: list[tuple[str, np.ndarray]], moves: np.ndarray) -> np.ndarray:
    """[n, 3] moves of the origin to choose from; where it may slide, it is put on an atom of the rarest kind."""
    if not group.polar.any():
        return moves
    kinds = [(len(points), _ELEMENT_RANK[symbol]) for symbol, points in orbits]
    rare = [points for kind, (_, points) in zip(kinds, orbits, strict=True) if kind == min(kinds)]
    slides = -np.concatenate(rare) * group.polar
    origins: np.ndarray = (moves[:, None, :] + slides[None, :, :]).reshape(-1, 3)
    return origins


def _to_grid(points: np.ndarray) -> np.ndarray:
    """Nearest grid steps; a thousandth of a step added, so that exact halves round the same way whatever the noise."""
    steps: np.ndarray = np.floor(points * GRID + 0.501).astype(np.int64) % GRID
    return steps


def _check_multiplicity(group: Group, position: WyckoffPosition, steps: Sequence[int]) -> None:
    """Refuse free coordinates, in grid steps, with which the orbit is one of higher symmetry.

    Raises:
        ValueError: They are such.
    """
    found = int(group.multiplicity(position.point(np.array(steps) / GRID)))
    if found != position.primitive_multiplicity:
        values = " ".join(COORDINATES[step] for step in steps)
        raise ValueError(
            f"position {position.letter} has {position.primitive_multiplicity} atoms, at {values} only {found}: "
            f"nearer to a symmetry element than 1/{GRID} of an axis resolves"
        )


def free_parameters(basis: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths (Å) and angles (degrees) that the crystal system leaves free, of a conventional cell [3, 3]."""
    lengths = np.linalg.norm(basis, axis=1)
    cosines = [basis[i] @ basis[j] / (lengths[i] * lengths[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    n_lengths, n_angles = n_free_lengths_and_angles(number)
    return (
        {3: lengths, 2: lengths[[0, 2]], 1: lengths[:1]}[n_lengths],
        {3: angles, 1: angles[1:2], 0: angles[:0]}[n_angles],
    )


def _lattice_tokens(basis: np.ndarray, number: int) -> list[str]:
    free_lengths, free_angles = free_parameters(basis, number)
    tokens = []
    for length in free_lengths:
        if not 1.79 < length < 48.2:
            raise ValueError(f"axis of {length:.2f} Å is outside the compact vocabulary (1.8 to 48 Å)")
        tokens.append(LENGTHS[int(np.argmin(np.abs(_LOG_LENGTHS - np.log(length))))])
    for angle in free_angles:
        if not 29.5 < angle < 150.5:
            raise ValueError(f"angle of {angle:.1f} degrees is outside the compact vocabulary (30 to 150)")
        tokens.append(f"{round(float(angle))}deg")
    return tokens


def from_compact(line: str) -> Structure:
    """Read one compact crystal; the primitive cell.

    Raises:
        ValueError: Names the first thing that is wrong: an unknown token, a line that ends early, a part out of
            place, or orbits that do not add up to the stated composition. Nothing is ever repaired.
    """
    from pymatgen.core import Lattice, Structure

    tokens = _Tokens(line)
    tokens.expect("crystal")
    stated: dict[str, int] = {}
    while tokens.next_is(_ELEMENT_RANK):
        symbol = tokens.take("an element", _ELEMENT_RANK)
        if symbol in stated:
            raise ValueError(f"{symbol} is stated twice in the composition")
        stated[symbol] = int(tokens.take(f"the count of {symbol}", COUNTS))
    if not stated:
        raise ValueError("no composition after 'crystal'")
    tokens.expect(":")
    number = int(tokens.take("a space group", SPACE_GROUPS)[2:])
    n_lengths, n_angles = n_free_lengths_and_angles(number)
    lengths = [float(tokens.take(f"{n_lengths} lengths for sg{number}", LENGTHS)) for _ in range(n_lengths)]
    angles = [float(tokens.take(f"{n_angles} angles for sg{number}", ANGLES)[:-3]) for _ in range(n_angles)]
    tokens.expect(":")
    group, positions = space_group(number), wyckoff_positions(number)
    taken: set[str] = set()
    symbols: list[str] = []
    points: list[np.ndarray] = []
    while tokens.next_is(_ELEMENT_RANK):
        symbol = tokens.take("an element", _ELEMENT_RANK)
        letter = tokens.take(f"a Wyckoff letter of sg{number} for {symbol}", positions)
        if letter in taken:
            raise ValueError(f"position {letter} of sg{number} is there once, but is taken twice")
        position = positions[letter]
        if position.is_single:
            taken.add(letter)
        what = f"{len(position.free)} free coordinates of {symbol} {letter}"
        steps = [_COORDINATE_STEP[tokens.take(what, _COORDINATE_STEP)] for _ in position.free]
        orbit = primitive_orbit(group, position, steps)
        symbols += [symbol] * len(orbit)
        points.extend(orbit)
    tokens.expect("end")
    tokens.expect_nothing_more()
    found = {symbol: symbols.count(symbol) for symbol in dict.fromkeys([*stated, *symbols])}
    if found != stated:
        raise ValueError(f"orbits give {_formula(found)}, but the composition says {_formula(stated)}")
    lattice = Lattice(
        group.primitive @ Lattice.from_parameters(*conventional_parameters(number, lengths, angles)).matrix
    )
    if not lattice.volume > 1e-3:
        raise ValueError(f"the angles {angles} span no cell")
    return Structure(lattice, symbols, np.array(points))


def primitive_orbit(group: Group, position: WyckoffPosition, steps: Sequence[int]) -> np.ndarray:
    """[n, 3] atoms of the primitive cell (its own fractional coordinates), from free coordinates in grid steps.

    Raises:
        ValueError: With these the orbit has fewer atoms than the position.
    """
    _check_multiplicity(group, position, steps)
    orbit = group.orbit(position.point(np.array(steps) / GRID))
    reduced = orbit @ np.linalg.inv(group.primitive)
    bins = np.floor((reduced + 3.1415e-6) * 1e5).astype(np.int64) % 100_000
    _, first = np.unique(bins, axis=0, return_index=True)
    return reduced[np.sort(first)] % 1.0


def conventional_parameters(number: int, lengths: list[float], angles: list[float]) -> list[float]:
    """a, b, c (Å), alpha, beta, gamma (degrees) of the conventional cell."""
    if number <= 2:
        return [*lengths, *angles]
    if number <= 15:
        return [*lengths, 90, angles[0], 90]
    if number <= 74:
        return [*lengths, 90, 90, 90]
    if number <= 142:
        return [lengths[0], lengths[0], lengths[1], 90, 90, 90]
    if number <= 194:
        return [lengths[0], lengths[0], lengths[1], 90, 90, 120]
    return [lengths[0]] * 3 + [90, 90, 90]


def _formula(counts: dict[str, int]) -> str:
    return " ".join(f"{symbol}{count}" for symbol, count in counts.items())


class _Tokens:
    """The tokens of a line, taken one by one."""

    def __init__(self, line: str) -> None:
        self._tokens = line.split()
        self._position = 0
        for token in self._tokens:
            if token not in _known():
                raise ValueError(f"unknown token {token[:40]!r}")

    def next_is(self, kind: Any) -> bool:
        return self._position < len(self._tokens) and self._tokens[self._position] in kind

    def take(self, what: str, kind: Any) -> str:
        if self._position >= len(self._tokens):
            raise ValueError(f"line ends where {what} should stand")
        token = self._tokens[self._position]
        if token not in kind:
            raise ValueError(f"expected {what}, got {token!r} at token {self._position + 1}")
        self._position += 1
        return token

    def expect(self, word: str) -> None:
        self.take(f"{word!r}", (word,))

    def expect_nothing_more(self) -> None:
        if self._position < len(self._tokens):
            raise ValueError(f"{len(self._tokens) - self._position} tokens after 'end'")
