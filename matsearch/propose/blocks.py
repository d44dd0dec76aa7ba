"""Where crystals stand in plain text: POSCARs, CIFs, Wyckoff texts and compact lines between prose, in one pass."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from matsearch.crystal.tokens import is_coordinate, labelled_element, row_tokens
from matsearch.crystal.wyckoff_lines import line_kind, split_lines

Kind = Literal["poscar", "cif", "wyckoff", "compact"]


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of text that looks like one crystal.

    Attributes:
        kind: Its format.
        text: Its lines, indentation and quote marks taken off.
        at_end: Whether the text around it ends with it.
    """

    kind: Kind
    text: str
    at_end: bool = False


_MARKUP = re.compile(r"[ \t]*(?:>[ \t]?)*`?")
_TAG = re.compile(r"</?[A-Za-z][\w-]{0,30}>")
_COMPACT = re.compile(r"crystal[ \t]+[A-Z][a-z]?(?:[ \t]+(?:[0-9:]|[A-Z][a-z]?(?![A-Za-z]))|[ \t]*\Z)")
_INLINE_COMPACT = re.compile(r"\bcrystal[ \t]+[A-Z][a-z]?[ \t]+[0-9]+[ \t]")
_CIF_START = re.compile(
    r"data_\S*[ \t]*\Z|loop_[ \t]*\Z|_(?:cell|symmetry|space_group|chemical|atom|audit|journal|publ|database)_",
    re.IGNORECASE,
)
_CIF_LINE = re.compile(r"[_#;'\"]|loop_|data_", re.IGNORECASE)
_MODE = re.compile(
    r"(?:direct|fractional|cart(?:esian)?|selective(?:[ \t]+dynamics)?|indirect)\b.{0,30}\Z", re.IGNORECASE
)
_NUMBERS = re.compile(r"(?<![\w.])[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.])", re.ASCII)
_GROUP = re.compile(r"space[ _-]?group|\bS\.?G\b", re.IGNORECASE)
_POSITION = re.compile(r"\b[0-9]{1,3}[a-zA]\b")
_DIGIT = re.compile(r"[0-9]")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+\Z")
_MAX_LINE = 200
"""Longer lines are prose (or an attack), never a line of a POSCAR."""


def n_numbers(text: str) -> int:
    """How many numbers stand in the first lines of a text, counted up to 12."""
    count = 0
    for _ in _NUMBERS.finditer(text[:20_000]):
        count += 1
        if count == 12:
            break
    return count


def holds_cif(text: str) -> bool:
    """Whether the text shows a CIF's cell or sites."""
    return "_cell_length_a" in text or "_atom_site_fract_x" in text


def find_blocks(text: str) -> list[Block]:
    """Crystals of a text in order, each once."""
    if "<" in text:
        text = _TAG.sub("", text)
    if ";" in text or "," in text:
        text = "\n".join(
            piece for line in text.splitlines() for piece in (split_lines(line) if _GROUP.search(line) else [line])
        )
    lines = [line[_MARKUP.match(line).end() :].rstrip(" \t\r`") for line in text.splitlines()]  # type: ignore[union-attr]
    return _Finder(lines).find()


class _Finder:
    """Goes once through the lines; `shape` says what each could be in a POSCAR."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.shapes = [_shape(line) for line in lines]
        self.blocks: list[Block] = []
        self.barren_until = 0  # no headless POSCAR begins before this line
        self.no_cif_until = 0  # nor does a CIF before this one

    def find(self) -> list[Block]:
        # A text that begins with the scale factor has its comment line before the first line.
        at = self._add("poscar", -1, self._poscar_end(-1)) if self._is_header(-1) else 0
        while at < len(self.lines):
            line = self.lines[at]
            if "crystal" in line and (pieces := _compact_pieces(line)):
                self.blocks += [Block("compact", piece) for piece in pieces]
                at += 1
            elif (
                line[:1] in "dDlL_"
                and at >= self.no_cif_until
                and _CIF_START.match(line)
                and (end := self._cif_end(at))
            ):
                at = self._add("cif", at, end)
            elif _GROUP.search(line) and (end := self._wyckoff_end(at)):
                at = self._add("wyckoff", at, end)
            elif self._is_header(at):
                at = self._add("poscar", at, self._poscar_end(at))
            elif self.shapes[at] in ("site", "vector") and (span := self._loose_span(at)):
                at = self._add("poscar", *span)
            else:
                at += 1
        return self.blocks

    def _add(self, kind: Kind, start: int, end: int) -> int:
        while end > start + 1 and not self.lines[end - 1]:
            end -= 1
        lines = self.lines[start:end] if start >= 0 else ["", *self.lines[:end]]
        rest = [line for line in self.lines[end : end + 3] if line]
        # A last line that was cut in the middle ("Ag155 0.3333") belongs to the block.
        is_tail = len(rest) == 1 and len(tokens := rest[0].split()) < 4 and all(map(_is_atomic, tokens))
        at_end = end + 3 >= len(self.lines) and (not rest or is_tail)
        self.blocks.append(Block(kind, "\n".join(lines) + "\n", at_end))
        return end

    def _shape(self, at: int) -> str:
        return self.shapes[at] if 0 <= at < len(self.shapes) else "none"

    # ---- POSCAR

    def _is_header(self, at: int) -> bool:
        """A comment line, a scale factor (or three, then the species show that they are), three vectors."""
        scale = self._shape(at + 1)
        if scale != "scalar" and not (scale == "vector" and self._shape(at + 5) == "species"):
            return False
        return all(self._shape(at + 2 + row) == "vector" for row in range(3))

    def _poscar_end(self, at: int) -> int:
        """First line after the POSCAR whose comment line is `at`."""
        seen_mode = False
        n_sites = 0
        end = at + 5
        while end < len(self.lines):
            shape = self.shapes[end]
            if seen_mode and n_sites and shape not in ("vector", "site") and self._is_header(end):
                break
            if shape == "mode":
                seen_mode = True
            elif shape in ("vector", "site"):
                n_sites += seen_mode or shape == "site"
            elif shape == "blank":
                # Velocities, or sites in groups, may follow an empty line; prose ends the block.
                following = self._shape(end + 1)
                if following in ("blank", "other") or self._is_header(end + 1):
                    break
                if seen_mode and n_sites and following not in ("vector", "site"):
                    break
            elif shape == "other":
                if seen_mode or n_sites or not self._is_garbled(end):
                    break
                seen_mode = self._shape(end + 1) in ("vector", "site")
            end += 1
        return end

    def _is_garbled(self, at: int) -> bool:
        """A short line that stands in the place of the species or of `direct`, between two lines of a POSCAR."""
        return (
            len(self.lines[at]) <= 80
            and self._shape(at - 1) in ("vector", "species", "counts", "scalar", "other")
            and self._shape(at + 1) in ("vector", "site", "counts", "scalar", "mode")
        )

    def _loose_span(self, at: int) -> tuple[int, int] | None:
        """Span of a headless POSCAR whose first row of three numbers is `at`; None where it is no crystal.

        There must be at least three rows, and a coordinate mode above or elements beside them.
        """
        if at < self.barren_until:
            return None
        end = at
        n_rows = n_sites = 0
        while (shape := self._shape(end)) not in ("other", "none"):
            if (shape == "blank" and self._shape(end + 1) == "blank") or (end > at and self._is_header(end)):
                break
            n_rows += shape in ("vector", "site")
            n_sites += shape == "site"
            end += 1
        start = at
        while at - start < 6 and self._shape(start - 1) in ("counts", "species", "mode", "scalar"):
            start -= 1
        if n_rows >= 3 and (n_sites >= 3 or "mode" in self.shapes[start:end]):
            return start, end
        # What is no crystal as a whole is none from any later line on: keeps long tables of numbers linear.
        self.barren_until = end
        return None

    # ---- CIF

    def _cif_end(self, at: int) -> int | None:
        """First line after the CIF that starts at `at`; None where it is none (a word that starts with data_)."""
        end = at + 1
        in_sites = False
        n_columns = n_cells = 0
        last_site = at
        is_named = self.lines[at].lower().startswith("data_")
        looks_real = not is_named
        n_cells += self.lines[at].lower().startswith("_cell_length_a")
        while end < len(self.lines):
            line = self.lines[end]
            if line.lower().startswith("data_"):
                break
            n_cells += line.lower().startswith("_cell_length_a")
            if n_cells > 1 and last_site > at:
                # Another CIF without a `data_` line; what it says before its cell is its own.
                end = last_site + 1
                break
            if line.startswith("_"):
                looks_real = True
                in_sites = in_sites or line.lower().startswith("_atom_site_fract")
                n_columns += line.lower().startswith("_atom_site")
            elif line and not _CIF_LINE.match(line):
                n_found = n_numbers(line)
                # Among the sites a row has as many values as columns, or hangs on the row above; a sentence does not.
                whole = len(line.split()) == n_columns and n_found >= 2
                hangs = bool(self.lines[end - 1]) and (n_found >= 3 or all(map(_is_atomic, line.split())))
                is_row = whole or hangs if in_sites else n_found >= 2
                if not is_row and not looks_real:
                    return None
                if not is_row and (in_sites or not self.lines[end - 1]):
                    break
                if in_sites:
                    last_site = end
            end += 1
        if looks_real and (is_named or any(map(holds_cif, self.lines[at:end]))):
            return end
        self.no_cif_until = end
        return None

    # ---- Wyckoff text

    def _wyckoff_end(self, at: int) -> int | None:
        """First line after the Wyckoff text whose space group stands on line `at`; None where no orbit follows."""
        if line_kind(self.lines[at]) != "group":
            return None
        last = at + 1
        n_strange = n_orbits = 0
        is_parted = False
        for end in range(at + 1, len(self.lines)):
            line, kind = self.lines[end], line_kind(self.lines[end])
            if kind == "group":
                break
            if kind == "orbit" or _is_garbled_orbit(line, after_blank=not self.lines[end - 1]):
                # With what stands before it, even where that is strange: a crystal must not lose an orbit unseen.
                last, n_strange, is_parted = end + 1, 0, False
                n_orbits += kind == "orbit"
            elif kind == "cell" and not n_strange:
                last = end + 1
            elif kind != "note":
                n_strange += 1
                is_parted = is_parted or not self.lines[end - 1]
                if n_strange > 2 and is_parted:
                    break
        return last if n_orbits else None


def _is_garbled_orbit(line: str, *, after_blank: bool) -> bool:
    """Whether a line is about an element on a Wyckoff position; beside another orbit any number is enough."""
    words = line.lstrip(" \t-+*|").split(maxsplit=1)
    if not words or len(line) > _MAX_LINE or labelled_element(words[0].rstrip(":,*")) is None:
        return False
    if len(words) == 1:
        return not after_blank
    return bool((_POSITION if after_blank else _DIGIT).search(words[1]))


def _compact_pieces(line: str) -> list[str]:
    """The compact crystals of one line, each up to its `end`."""
    starts = [found.start() for found in _INLINE_COMPACT.finditer(line)]
    if _COMPACT.match(line) and 0 not in starts:
        starts.insert(0, 0)
    pieces = []
    for start, stop in pairwise([*starts, len(line)]):
        piece = line[start:stop]
        end = re.search(r"\bend\b", piece)
        pieces.append(piece[: end.end()] if end else piece.rstrip())
    return pieces


def _is_atomic(token: str) -> bool:
    """Whether a token is a number or an element: what the lines of a POSCAR are made of."""
    return is_coordinate(token) or labelled_element(token) is not None


def _shape(line: str) -> str:  # noqa: PLR0911 - one line a shape reads best
    """What a line could be in a POSCAR.

    `blank`, `mode`, `scalar`, `vector` (3 numbers), `site` (3 numbers and an element), `counts`, `species` or `other`.
    """
    if not line:
        return "blank"
    if len(line) > _MAX_LINE:
        return "other"
    if _MODE.match(line):
        return "mode"
    tokens = row_tokens(line)
    if not tokens:
        return "other"
    leading = 0
    # Decimal commas are refused by the reader, but by it.
    while leading < len(tokens) and (is_coordinate(tokens[leading]) or _DECIMAL_COMMA.match(tokens[leading])):
        leading += 1
    if leading == len(tokens) == 1:
        return "scalar"
    if leading == len(tokens):
        # Three counts look like a vector, and vectors of too many numbers are still meant as such.
        return "vector" if leading == 3 or (leading > 3 and any("." in token for token in tokens)) else "counts"
    if leading >= 3 and len(tokens) - leading <= 4:
        rest = tokens[leading:]
        if labelled_element(rest[-1]) or all(flag in ("T", "F", ".TRUE.", ".FALSE.") for flag in rest[:3]):
            return "site"
        return "other"
    if leading == 0 and len(tokens) == 4 and labelled_element(tokens[0]) and all(map(is_coordinate, tokens[1:])):
        return "site"
    if all(labelled_element(token) for token in tokens):
        return "species"
    return "other"
