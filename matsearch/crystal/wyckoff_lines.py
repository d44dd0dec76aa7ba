"""The lines of a Wyckoff text, one by one: a space group, parameters of the cell, an orbit, or words around them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from matsearch.crystal.group_symbols import space_group_number
from matsearch.crystal.tokens import (
    TextError,
    is_coordinate,
    is_number,
    quoted,
    read_coordinate,
    read_number,
    require_element,
)

PARAMETERS = ("a", "b", "c", "alpha", "beta", "gamma")
_GREEK = {"α": "alpha", "β": "beta", "γ": "gamma"}

_MAX_LINE = 160
_MARKUP = re.compile(r"[*`]+|(?:(?<=\s)|\A)(?:#(?![ ]?[0-9])|!|//).*\Z")
_BULLET = re.compile(r"\A\s*(?:[-+\u2022]|[0-9]{1,3}[.)])\s+")
# Behind an orbit: `(corner)`, `- octahedral`.
_REMARK = re.compile(r"\s(?:\([^()0-9]*\)|[-\u2014]+\s+[A-Za-z][^=0-9]*)\Z")
# `space group 225; a = 5.64; Na 4a; Cl 4b`, but not `x=0.1; y=0.2`.
_BREAK = re.compile(r";[ \t]*(?=[A-Z]|(?:[abc]|alpha|beta|gamma)[ \t]*=)")
_HEAD = re.compile(r"[\s*#>+-]{0,10}space[ _-]?group", re.I)
_CELL_BEHIND = re.compile(r",[ \t]*(?=(?:[abc]|alpha|beta|gamma)[ \t]*=)")
_OTHER_SETTING = re.compile(
    r"origin(?:[ ]choice)?[ ]?1|unique[ ]axis[ ][ac]|rhombohedral[ ](?:axes|setting)|non-?standard", re.I
)
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
_UNIT = r"(?:\u00c5|\u212b|A|[Aa]ngstroms?|\u00b0|deg(?:rees?)?)"
_PARAMETER = re.compile(rf"((?:{_NAME}\s*[=:]\s*)+)([-+.\w()]+?)\s*{_UNIT}?(?:[\s,;]+(?:and\s+)?|\Z)")
_ORBIT = re.compile(
    r"\s*([A-Z][a-z]?)[0-9]{0,3}(?:[1-9]?[+-]|[+-][1-9])?(?:\s*[:,(=-]\s*|\s+)(?:(?:at|on|in)\s+)?(?:Wyckoff\s+)?"
    r"(?:(?:position|site)\s+)?\(?([0-9]{1,3})[ ]?([a-zA-Z])(?![a-zA-Z0-9])\)?[\s:,;]*(.*)\Z"
)
_COORDINATE = re.compile(r"\(?([xyz])(?:\s*[=:]\s*|\s+)([^\s,;()=]+(?:\([0-9]+\))?)[\s,;)]*")
# A heading, or the rule and the head of a table.
_NOTE = re.compile(
    r"\s*(?:[A-Za-z][^:=]{0,60}:|[-:\s|+]*|(?:orbits?|sites?|atoms?|lattice|cell)|"
    r"(?:element|atom|species|site|label)\b[^0-9]{0,80}|(?:V|Z|volume|density|energy|E_?hull)\s*[=:].*)\s*\Z",
    re.I,
)
_FORMULA = re.compile(r"(?i:(?:chemical[ ])?(?:formula|composition))\s*[:=]?\s*((?:[A-Z][a-z]?[0-9]{0,4}\s?){1,20})\Z")
# The position before its element: `4a Na`.
_SWAPPED = re.compile(r"([0-9]{1,3}[a-zA])\s*[:,(=-]?\s+\(?([A-Z][a-z]?[0-9]{0,3})(?![a-z])\)?")
_UNCERTAINTY = re.compile(r"\([0-9]+\)\Z")

LineKind = Literal["group", "cell", "orbit", "note", "other"]


@dataclass(frozen=True)
class Orbit:
    """One orbit as written.

    Attributes:
        element: Its symbol.
        multiplicity: As stated.
        letter: Of the Wyckoff position.
        named: Coordinates by x, y, z.
        row: Coordinates without names; one of the two is empty.
    """

    element: str
    multiplicity: int
    letter: str
    named: Mapping[str, float]
    row: tuple[float, ...]

    @property
    def label(self) -> str:
        """`O 4f`, for messages."""
        return f"{self.element} {self.multiplicity}{self.letter}"


def line_kind(line: str) -> LineKind:
    """What a line could be in such a text; blank lines and headings are notes."""
    if len(line) > _MAX_LINE:
        return "other"
    line = plain_line(line)
    if _stated_group(line) is not None:
        return "group"
    if _ORBIT.match(line):
        return "orbit"
    if _assignments(line):
        return "cell"
    return "note" if _NOTE.match(line) or stated_formula(line) else "other"


def split_lines(text: str) -> list[str]:
    """The lines of a text; a semicolon may stand for a line end."""
    pieces = [piece for line in text.splitlines() for piece in _BREAK.split(line)]
    # `Space group Fm-3m (225), a = 5.64 Å`
    return [part for piece in pieces for part in (_CELL_BEHIND.split(piece, 1) if _HEAD.match(piece) else [piece])]


def plain_line(line: str) -> str:
    """A line without markup, bullet and comment; a row of a table becomes one of blanks."""
    line = _MARKUP.sub("", line).replace("|", " ").rstrip()
    # What stands in parentheses behind a space group is no remark but its symbol, or the setting.
    # The `No` of `Fm-3m (No. 225)` is no nobelium on 3m.
    if _GROUP.search(line):
        return _BULLET.sub("", line, count=1).strip()
    line = _REMARK.sub("", line)
    return _SWAPPED.sub(r"\2 \1", _BULLET.sub("", line, count=1).strip(), count=1)


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
    # Words beside them (`225 Fm-3m, cubic`) say nothing that could be checked.
    spellings = [symbol, re.split("[,;(]", symbol)[0].strip(), symbol.split(" ")[0]]
    likely = [each for each in spellings if _SYMBOL.match(each)]
    return number, next((each for each in likely if space_group_number(each)), likely[-1] if likely else None)


def read_group(line: str) -> int:
    """ITA number of the space group that a plain line of kind `group` states.

    Raises:
        TextError: `bad_wyckoff`: number and symbol disagree, or there is no such group in the standard setting.
    """
    stated = _stated_group(line)
    assert stated is not None
    number, symbol = stated
    if _OTHER_SETTING.search(line):
        raise TextError("bad_wyckoff", f"expected the standard setting, got {quoted(line)}")
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
    row = re.sub("[],[]", " ", line[at:]).split()
    if at and len(row) == 6 and all(map(is_number, row)):
        return [([name], value) for name, value in zip(PARAMETERS, row, strict=True)]
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


def read_cell(line: str, at: int) -> dict[str, float]:
    """Values (Å, degrees) by name of the parameters in a plain line of kind `cell`; `at` is its number for messages.

    Raises:
        TextError: `not_finite`.
    """
    return {
        name: read_number(value, f"line {at}", "bad_wyckoff") for names, value in _assignments(line) for name in names
    }


def stated_formula(line: str) -> str:
    """What a plain line says is the formula; empty for any other line."""
    found = _FORMULA.match(line)
    return found[1].strip() if found else ""


def read_orbit(line: str, at: int) -> Orbit:
    """The orbit of a plain line of kind `orbit`; `at` is its number for messages.

    Raises:
        TextError: `bad_wyckoff`, `unknown_element`, `not_finite`.
    """
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
    return Orbit(element, int(multiplicity), letter, named, numbers)
