"""Crystals by their symmetry, for chat models: space group, free cell parameters, one line an orbit.

    space group 136 P4_2/mnm
    a = 4.5937
    c = 2.9587
    Ti 2a
    O 4f x=0.3053

The setting is the standard one (unique axis b, hexagonal axes, origin choice 2); lengths are in Å, angles in degrees.
An orbit is its element, its Wyckoff position with the multiplicity in the conventional cell, and the coordinates that
the position leaves free. What is stated twice must agree: number and symbol of the group, multiplicity and letter,
cell parameters or coordinates that the symmetry fixes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from matsearch.crystal.group_symbols import space_group_number, standard_symbol
from matsearch.crystal.prototype import NEEDLE
from matsearch.crystal.space_groups import space_group
from matsearch.crystal.tokens import (
    TextError,
    build,
    is_coordinate,
    is_number,
    ordered_symbols,
    parameter_matrix,
    quoted,
    read_coordinate,
    read_number,
    require_element,
)
from matsearch.crystal.wyckoff import conventional_parameters, free_parameters
from matsearch.crystal.wyckoff_positions import WyckoffPosition, wyckoff_letter, wyckoff_positions

if TYPE_CHECKING:
    from pymatgen.core import Structure

SYMMETRY_TOL = 0.02
"""Å. Symmetry within this is made exact when a crystal is written."""
MAX_ATOMS = 10_000
"""More atoms of the conventional cell than any crystal in a reply has."""

_AGREE = 2e-3  # fractional; coordinates stated beyond the free ones are often rounded to three decimals
_PARAMETERS = ("a", "b", "c", "alpha", "beta", "gamma")
_GREEK = {"α": "alpha", "β": "beta", "γ": "gamma"}

_MAX_LINE = 160
_MARKUP = re.compile(r"[*`]+|(?:(?<=\s)|\A)(?:#(?![ ]?[0-9])|!|//).*\Z")
_BULLET = re.compile(r"\A\s*(?:[-+\u2022]|[0-9]{1,3}[.)])\s+")
_GROUP = re.compile(
    r"\b(?:space[ _-]?group(?:[ ](?:number|symbol|type))?|S\.?G\.?)[ ]?[\"']?\s*[:=]?\s*[\"']?([^\s\"'].{0,60})\Z", re.I
)
_NO = r"(?:no\.?|nr\.?|number|#)\s*"
_NUMBER_FIRST = re.compile(rf"(?:{_NO})?([0-9]{{1,3}})(?![0-9/_.])\s*[-,:;(]*\s*(.*)\Z", re.I)
_NUMBER_LAST = re.compile(rf"(.*?)\s*(?:[(\[,;]\s*(?:{_NO})?|{_NO})([0-9]{{1,3}})\s*[)\]]*\Z", re.I)
_SYMBOL = re.compile(r"\$?[PABCIFR][\s_]?[-0-9a-en/m_\s{}\\$:hHRSZ\u0304\u0305\u2080-\u2089overlinbar]{1,30}\Z")
_CELL_HEADING = re.compile(
    r"\s*(?:(?:unit[ ]?cell|cell|lattice)(?:[ ](?:parameters?|constants?))?|lengths?|angles?)\s*"
    r"(?:\([^)]{0,30}\))?\s*[:=]?\s*",
    re.I,
)
_NAME = r"(?:\\?(?:alpha|beta|gamma)|[abc\u03b1\u03b2\u03b3])"
_PARAMETER = re.compile(
    rf"((?:{_NAME}\s*[=:]\s*)+)([-+.\w()]+?)\s*(?:\u00c5|\u212b|A|[Aa]ngstroms?|\u00b0|deg(?:rees?)?)?(?:[\s,;]+(?:and\s+)?|\Z)"
)
_ORBIT = re.compile(
    r"\s*([A-Z][a-z]?)[0-9]{0,3}(?:[1-9]?[+-]|[+-][1-9])?(?:\s*[:,(=-]\s*|\s+)(?:(?:at|on|in)\s+)?(?:Wyckoff\s+)?"
    r"(?:(?:position|site)\s+)?\(?([0-9]{1,3})[ ]?([a-zA-Z])(?![a-zA-Z0-9])\)?[\s:,;]*(.*)\Z"
)
_COORDINATE = re.compile(r"\(?([xyz])\s*[=:]\s*([^\s,;()=]+(?:\([0-9]+\))?)[\s,;)]*")
# A heading, or the rule and the head of a table.
_NOTE = re.compile(
    r"\s*(?:[A-Za-z][^:=]{0,60}:|[-:\s|+]*|(?:orbits?|sites?|atoms?|lattice|cell)|(?:element|atom|species|site|label)\b[^0-9]{0,80})\s*\Z",
    re.I,
)
_UNCERTAINTY = re.compile(r"\([0-9]+\)\Z")

LineKind = Literal["group", "cell", "orbit", "note", "other"]


def to_wyckoff_text(structure: Structure) -> str:
    """Write a crystal, given in any cell; coordinates, lengths and angles to four decimals.

    Symmetry within `SYMMETRY_TOL` is made exact, so that atoms move by up to that.

    Raises:
        TextError: `disordered`; `bad_wyckoff`: a cell that is a needle, no space group found, or atoms nearer to a
            symmetry element than four decimals resolve.
    """
    import moyopy

    symbols = ordered_symbols(structure)
    edges = structure.lattice.abc
    if max(edges) > NEEDLE * min(edges):
        raise TextError("bad_wyckoff", f"a cell with edges from {min(edges):.1f} to {max(edges):.1f} Å is a needle")
    # moyo warns of every supercell that it leaves out operations of the primitive cell; none of them is used here.
    logging.getLogger("moyo").setLevel(logging.ERROR)
    kinds = {symbol: kind for kind, symbol in enumerate(dict.fromkeys(symbols), start=1)}
    cell = moyopy.Cell(
        structure.lattice.matrix.tolist(), structure.frac_coords.tolist(), [kinds[symbol] for symbol in symbols]
    )
    try:
        dataset = moyopy.MoyoDataset(cell, symprec=SYMMETRY_TOL, setting=moyopy.Setting.standard())
    except Exception as err:  # moyo has no exception class of its own
        raise TextError("bad_wyckoff", f"no space group found: {err}") from err
    names = list(kinds)
    positions = np.array(dataset.std_cell.positions)
    try:
        orbits = _orbits(dataset.number, positions, np.array(dataset.std_cell.numbers))
    except ValueError as err:
        raise TextError("bad_wyckoff", str(err)) from err
    lengths, angles = free_parameters(np.array(dataset.std_cell.basis), dataset.number)
    values = dict(zip(_free(dataset.number), [*lengths, *angles], strict=True))
    lines = [f"space group {dataset.number} {standard_symbol(dataset.number)}"]
    lines += [f"{name} = {value:.4f}" for name, value in values.items()]
    for kind, position, free in orbits:
        shown = "".join(f" {'xyz'[axis]}={value:.4f}" for axis, value in zip(position.free, free, strict=True))
        lines.append(f"{names[kind - 1]} {position.multiplicity}{position.letter}{shown}")
    return "\n".join(lines) + "\n"


def _orbits(number: int, points: np.ndarray, kinds: np.ndarray) -> list[tuple[int, WyckoffPosition, np.ndarray]]:
    """Kind, position and free coordinates (to four decimals) of each orbit, by kind and letter.

    Raises:
        ValueError: The atoms form no whole orbits, or no longer do after rounding.
    """
    group = space_group(number)
    known = wyckoff_positions(number)
    found = []
    for one in group.representatives(points, kinds):
        letter, values = wyckoff_letter(number, points[one])
        values = np.round(values, 4) % 1.0
        position = known[letter]
        if len(group.orbit(position.point(values))) != position.multiplicity:
            raise ValueError("atoms lie nearer to a symmetry element than four decimals resolve")
        found.append((int(kinds[one]), position, values))
    order = {letter: rank for rank, letter in enumerate(known)}
    return sorted(found, key=lambda orbit: (orbit[0], order[orbit[1].letter], tuple(orbit[2])))


def _free(number: int) -> tuple[str, ...]:
    """Names of the cell parameters that the crystal system leaves free."""
    if number <= 2:
        return _PARAMETERS
    if number <= 15:
        return ("a", "b", "c", "beta")
    if number <= 74:
        return ("a", "b", "c")
    return ("a", "c") if number <= 194 else ("a",)


# ---- Reading


@dataclass(frozen=True)
class _Orbit:
    """One orbit as written: the position with its multiplicity, and named coordinates or a row of them."""

    element: str
    multiplicity: int
    letter: str
    named: Mapping[str, float]
    row: tuple[float, ...]

    @property
    def label(self) -> str:
        return f"{self.element} {self.multiplicity}{self.letter}"


def line_kind(line: str) -> LineKind:
    """What a line could be in such a text; blank lines and headings are notes."""
    if len(line) > _MAX_LINE:
        return "other"
    line = _plain(line)
    if _stated_group(line) is not None:
        return "group"
    if _ORBIT.match(line):
        return "orbit"
    if _assignments(line):
        return "cell"
    return "note" if _NOTE.match(line) else "other"


def from_wyckoff_text(text: str) -> Structure:
    """Read a crystal; its primitive cell.

    Beyond what `to_wyckoff_text` writes: bullets, tables, headings and comments, the group by number or symbol alone,
    all six cell parameters, and coordinates in full (`O 4f 0.3053 0.3053 0`), of any atom of the orbit.

    Raises:
        TextError: `bad_wyckoff`: a line that is none of these, a group in another setting, a parameter that is missing
            or that the symmetry contradicts, a position that the group has not, a coordinate that is missing, that is
            not on the position or on one of higher symmetry; `count_mismatch`: a multiplicity that is not the
            position's; `truncated`: no orbit; `unknown_element`; `not_finite`.
    """
    number: int | None = None
    cell: dict[str, float] = {}
    orbits: list[_Orbit] = []
    for at, raw in enumerate(text.splitlines(), start=1):
        line, kind = _plain(raw), line_kind(raw)
        if kind == "group":
            stated = _read_group(line)
            if number not in (None, stated):
                raise TextError("bad_wyckoff", f"line {at}: space group {number} before, {stated} here")
            number = stated
        elif kind == "cell":
            for name, value in _read_cell(line, at).items():
                if abs(cell.setdefault(name, value) - value) > 1e-6:
                    raise TextError("bad_wyckoff", f"line {at}: {name} = {cell[name]:g} before, {value:g} here")
        elif kind == "orbit":
            orbits.append(_read_orbit(line, at))
        elif kind == "other":
            raise TextError("bad_wyckoff", f"line {at}: expected a parameter or an orbit, got {quoted(raw.strip())}")
    if number is None:
        raise TextError("bad_wyckoff", "no space group")
    lattice = _lattice(number, cell)
    if not orbits:
        raise TextError("truncated", "no orbit")
    return _expanded(number, lattice, orbits)


def _plain(line: str) -> str:
    """A line without markup, bullet and comment; a row of a table becomes one of blanks."""
    line = _MARKUP.sub("", line).replace("|", " ")
    return _BULLET.sub("", line, count=1).strip()


def _stated_group(line: str) -> tuple[int | None, str | None] | None:
    """Number and symbol of a line that states a space group; None for any other."""
    found = _GROUP.search(line)
    if not found:
        return None
    rest = found[1].strip(" .,;:\"'")
    if first := _NUMBER_FIRST.match(rest):
        number, symbol = int(first[1]), first[2]
    elif last := _NUMBER_LAST.match(rest):
        number, symbol = int(last[2]), last[1]
    else:
        symbol = rest.strip(" ()[]")
        return (None, symbol) if _SYMBOL.match(symbol) else None
    symbol = symbol.strip(" ()[],;:\"'")
    # Words beside the number (`225, cubic`) say nothing that could be checked.
    return number, symbol if _SYMBOL.match(symbol) else None


def _read_group(line: str) -> int:
    stated = _stated_group(line)
    assert stated is not None
    number, symbol = stated
    named = None if symbol is None else space_group_number(symbol)
    if symbol is not None and named is None:
        raise TextError("bad_wyckoff", f"{quoted(symbol)} is no space group in its standard setting")
    if number is not None and named not in (None, number):
        raise TextError("bad_wyckoff", f"space group {number} is not {quoted(symbol)}, which is {named}")
    found = named if number is None else number
    if found is None or not 1 <= found <= 230:
        raise TextError("bad_wyckoff", f"expected a space group from 1 to 230, got {found}")
    return found


def _assignments(line: str) -> list[tuple[list[str], str]]:
    """Names and number of each `a = b = 4.59`; nothing where the line holds anything else."""
    heading = _CELL_HEADING.match(line)
    at = heading.end() if heading and heading[0].strip() else 0
    found = []
    while at < len(line):
        piece = _PARAMETER.match(line, at)
        value = _UNCERTAINTY.sub("", piece[2]) if piece else ""
        if piece is None or not is_number(value):
            return []
        names = [name.strip(" \\\t") for name in re.split("[=:]", piece[1])[:-1]]
        found.append(([_GREEK.get(name, name) for name in names], value))
        at = piece.end()
    return found


def _read_cell(line: str, at: int) -> dict[str, float]:
    return {
        name: read_number(value, f"line {at}", "bad_wyckoff") for names, value in _assignments(line) for name in names
    }


def _read_orbit(line: str, at: int) -> _Orbit:
    found = _ORBIT.match(line)
    assert found is not None
    symbol, multiplicity, letter, rest = found.groups()
    element = require_element(symbol, f"line {at}")
    rest = re.sub(r"(?:(?<=\s)|\A)[-\u2014](?=\s|\Z)", " ", rest).strip()  # empty cells of a table
    named: dict[str, float] = {}
    end = 0
    while piece := _COORDINATE.match(rest, end):
        if piece[1] in named:
            raise TextError("bad_wyckoff", f"line {at}: {piece[1]} is stated twice")
        named[piece[1]] = read_coordinate(_UNCERTAINTY.sub("", piece[2]), f"line {at}", "bad_wyckoff")
        end = piece.end()
    row = () if end else tuple(re.sub(r"[(),;\[\]]", " ", rest).split())
    if rest[end:] and not (row and len(row) <= 3 and all(map(is_coordinate, row))):
        raise TextError("bad_wyckoff", f"line {at}: expected coordinates such as x=0.25, got {quoted(rest[end:])}")
    numbers = tuple(read_coordinate(value, f"line {at}", "bad_wyckoff") for value in row)
    return _Orbit(element, int(multiplicity), letter, named, numbers)


def _lattice(number: int, cell: Mapping[str, float]) -> np.ndarray:
    """Lattice vectors [3, 3] of the conventional cell."""
    missing = [name for name in _free(number) if name not in cell]
    if missing:
        raise TextError("bad_wyckoff", f"space group {number} needs {', '.join(_free(number))}; no {missing[0]}")
    free = [cell[name] for name in _free(number)]
    n_lengths = sum(len(name) == 1 for name in _free(number))
    parameters = conventional_parameters(number, free[:n_lengths], free[n_lengths:])
    for name, value in zip(_PARAMETERS, parameters, strict=True):
        if abs(cell.get(name, value) - value) > 1e-3 * abs(value):
            raise TextError("bad_wyckoff", f"space group {number} makes {name} = {value:g}, but it is {cell[name]:g}")
    return parameter_matrix(parameters, "bad_wyckoff")


def _expanded(number: int, lattice: np.ndarray, orbits: list[_Orbit]) -> Structure:
    """The primitive cell with all atoms of the orbits."""
    group = space_group(number)
    known = wyckoff_positions(number)
    to_primitive = np.linalg.inv(group.primitive)
    species: list[str] = []
    points: list[np.ndarray] = []
    taken: dict[str, str] = {}
    n_atoms = 0
    for orbit in orbits:
        letter = orbit.letter if orbit.letter in known else orbit.letter.lower()
        if letter not in known:
            listed = ", ".join(f"{each.multiplicity}{each.letter}" for each in known.values())
            raise TextError("bad_wyckoff", f"{orbit.label}: space group {number} has the positions {listed}")
        position = known[letter]
        if position.multiplicity != orbit.multiplicity:
            raise TextError(
                "count_mismatch",
                f"{orbit.label}: position {letter} of space group {number} holds {position.multiplicity} atoms",
            )
        if position.is_single and letter in taken:
            raise TextError("bad_wyckoff", f"{orbit.label}: the place is already taken by {taken[letter]}")
        taken[letter] = orbit.element
        n_atoms += position.multiplicity
        if n_atoms > MAX_ATOMS:
            raise TextError("bad_wyckoff", f"more than {MAX_ATOMS} atoms in the conventional cell")
        images = group.orbit(position.point(_free_values(number, position, orbit)))
        if len(images) != position.multiplicity:
            raise TextError(
                "bad_wyckoff",
                f"{orbit.label}: these coordinates are a position of higher symmetry, {len(images)} atoms",
            )
        reduced = images @ to_primitive
        bins = np.floor((reduced + 3.1415e-6) * 1e5).astype(np.int64) % 100_000
        _, first = np.unique(bins, axis=0, return_index=True)
        species += [orbit.element] * len(first)
        points.extend(reduced[np.sort(first)] % 1.0)
    return build(group.primitive @ lattice, species, np.array(points))


def _free_values(number: int, position: WyckoffPosition, orbit: _Orbit) -> np.ndarray:
    """Free coordinates of an orbit, whichever way they are written."""
    names = ["xyz"[axis] for axis in position.free]
    named = dict(orbit.named)
    if len(orbit.row) == 3:
        named = dict(zip("xyz", orbit.row, strict=True))
    elif orbit.row and len(orbit.row) == len(names):
        named = dict(zip(names, orbit.row, strict=True))
    elif orbit.row:
        raise TextError(
            "bad_wyckoff", f"{orbit.label}: expected {len(names) or 'no'} coordinates, got {len(orbit.row)}"
        )
    if len(named) == 3 and len(names) < 3:
        # Any atom of the orbit may stand for it.
        values, away = position.values(space_group(number).orbit(np.array([named[axis] for axis in "xyz"])))
        if away.min() > _AGREE:
            raise TextError("bad_wyckoff", f"{orbit.label}: the coordinates are not of the form {position.coordinates}")
        return np.asarray(values[int(np.argmin(away))])
    missing = [name for name in names if name not in named]
    if missing:
        raise TextError("bad_wyckoff", f"{orbit.label} ({position.coordinates}) needs {missing[0]}")
    values = np.array([named[name] for name in names])
    point = position.point(values)
    for axis, value in named.items():
        away = point["xyz".index(axis)] - value
        if abs(away - round(away)) > _AGREE:
            raise TextError(
                "bad_wyckoff", f"{orbit.label}: {axis} = {value:g} is not of the form {position.coordinates}"
            )
    return values
