"""POSCAR read to the letter.

pymatgen's and ASE's readers take the first letter of the coordinate mode, stop counting sites at the counts and read
labels only where it suits them; text of a language model would turn into another crystal that way.
Source of the format: the VASP wiki, page "POSCAR".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from matsearch.crystal.tokens import (
    TextError,
    build,
    fractional,
    is_coordinate,
    is_element,
    is_number,
    labelled_element,
    ordered_symbols,
    quoted,
    read_coordinate,
    read_number,
    require_element,
    row_tokens,
    without_charge,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure

_COUNT = re.compile(r"[0-9]{1,9}\Z")


def to_poscar(structure: Structure, decimals: int = 8) -> str:
    """VASP 5 POSCAR: fractional coordinates, sites in their order, each line ending in its symbol.

    Args:
        structure: The crystal, in any cell.
        decimals: Of lattice vectors (Å) and coordinates.

    Raises:
        TextError: `disordered`.
    """

    def row(values: Sequence[float]) -> str:
        # Adding 0.0 turns -0.0 into 0.0.
        return "  ".join(f"{round(float(value), decimals) + 0.0:{decimals + 4}.{decimals}f}" for value in values)

    symbols = ordered_symbols(structure)
    runs: list[tuple[str, int]] = []
    for symbol in symbols:
        if runs and runs[-1][0] == symbol:
            runs[-1] = (symbol, runs[-1][1] + 1)
        else:
            runs.append((symbol, 1))
    lines = [" ".join(f"{symbol}{count}" for symbol, count in runs), "1.0"]
    lines += [row(vector) for vector in structure.lattice.matrix]
    lines += [" ".join(symbol for symbol, _ in runs), " ".join(str(count) for _, count in runs), "direct"]
    lines += [f"{row(coords)} {symbol}" for coords, symbol in zip(structure.frac_coords, symbols, strict=True)]
    return "\n".join(lines) + "\n"


class _Lines:
    """The lines of a POSCAR, taken one by one, with comments cut and the line number for messages."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.number = 0

    def peek(self) -> list[str] | None:
        """Tokens of the next line, or None at the end."""
        if self.number >= len(self.lines):
            return None
        return row_tokens(self.lines[self.number])

    def take(self, what: str) -> list[str]:
        tokens = self.peek()
        if tokens is None:
            raise TextError("truncated", f"the text ends before the {what} (line {self.number + 1})")
        self.number += 1
        return tokens

    def fail(self, message: str) -> NoReturn:
        line = self.lines[self.number - 1].strip()
        raise TextError("bad_poscar", f"line {self.number}: {message}, got {quoted(line)}")

    def vector(self, tokens: Sequence[str]) -> list[float]:
        return [read_number(token, f"line {self.number}", "bad_poscar") for token in tokens]

    def position(self, tokens: Sequence[str]) -> list[float]:
        return [read_coordinate(token, f"line {self.number}", "bad_poscar") for token in tokens]


def from_poscar(text: str) -> Structure:
    """Read a POSCAR.

    Read: VASP 5 and VASP 4 (species then from the comment line or from the labels of all sites), a negative scale
    factor (the cell's volume), three positive ones (of the x, y and z components), selective dynamics (flags dropped),
    Cartesian coordinates (times the scale factor), a label behind each site (it must agree with the counts),
    velocities after a blank line (dropped). Beyond VASP, as language models write it: ions for elements (`Ca2+`),
    numbered species (`Ti1 O2`) where the counts do not contradict them, fractions for coordinates (`1/3`), commas
    between the numbers of a row, blank lines between groups of sites, remarks behind a row.

    Raises:
        TextError: `bad_poscar`, `truncated`, `count_mismatch`, `not_finite`, `unknown_element`, `zero_volume` (volume
            scaling or Cartesian coordinates in a flat cell).
    """
    lines = _Lines(text)
    if not text.strip():
        raise TextError("truncated", "the text is empty")
    comment = lines.take("comment")
    lattice, scale = _read_lattice(lines)
    symbols, counts = _read_species(lines, comment)
    cartesian, selective = _read_mode(lines)
    coords, labels = _read_sites(lines, sum(counts), selective)
    _read_tail(lines, sum(counts))
    species = _name_sites(symbols, counts, labels)
    if not cartesian:
        return build(lattice, species, coords)
    return build(lattice, species, fractional(lattice, np.array(coords) * scale))


def _read_lattice(lines: _Lines) -> tuple[np.ndarray, np.ndarray]:
    """Lattice vectors as rows, in Å, and the scale [1] or [3] (of x, y, z) that was applied."""
    tokens = lines.take("scale factor")
    if len(tokens) not in (1, 3):
        lines.fail("expected one scale factor or three")
    scale = np.array(lines.vector(tokens))
    if len(scale) == 1 and scale[0] == 0:
        lines.fail("expected a scale factor other than 0")
    if len(scale) == 3 and scale.min() <= 0:
        lines.fail("expected three positive scale factors")
    rows = []
    for name in ("first", "second", "third"):
        tokens = lines.take(f"{name} lattice vector")
        if len(tokens) != 3:
            lines.fail(f"expected the {name} lattice vector (3 numbers)")
        rows.append(lines.vector(tokens))
    matrix = np.array(rows)
    if scale[0] < 0:
        # VASP: a negative factor is the wanted volume in Å^3.
        volume = abs(np.linalg.det(matrix))
        if volume < 1e-8:
            raise TextError("zero_volume", f"a cell of volume 0 cannot be scaled to {-scale[0]:g} Å^3")
        scale = (-scale / volume) ** (1 / 3)
    matrix = matrix * scale
    if not np.isfinite(matrix).all():
        raise TextError("not_finite", "the scaled lattice vectors are not finite")
    return matrix, scale


def _read_species(lines: _Lines, comment: list[str]) -> tuple[list[str] | None, list[int]]:
    """Symbols (None: the labels must say) and counts."""
    tokens = lines.take("species or counts")
    if not tokens:
        lines.fail("expected element symbols")
    symbols: list[str] | None = None
    names: list[str] = []
    if not _COUNT.match(tokens[0]):
        if any(is_number(token) for token in tokens):
            lines.fail("expected element symbols after three lattice vectors")
        # `Fe_pv` and `Ti/a1b2` name a POTCAR behind the element, `Ca2+` a charge.
        names = [without_charge(re.split(r"[_/]", token)[0]) for token in tokens]
        symbols = [require_element(_unnumbered(name), f"line {lines.number}") for name in names]
        tokens = lines.take("counts")
    # `1 1  (total 2 atoms)`; a remark with numbers is none anywhere else.
    if tokens and tokens[-1].endswith(")"):
        tokens = list(takewhile(lambda token: not token.startswith("("), tokens))
    if not tokens or not all(_COUNT.match(token) for token in tokens):
        lines.fail("expected whole numbers of atoms")
    counts = [int(token) for token in tokens]
    if sum(counts) == 0:
        lines.fail("expected at least one atom")
    if symbols is None:
        symbols = _species_of_comment(comment, counts)
    elif len(symbols) != len(counts):
        raise TextError("count_mismatch", f"{len(symbols)} species ({' '.join(symbols[:12])}), {len(counts)} counts")
    elif names != symbols and not _numbers_agree(names, counts):
        raise TextError("count_mismatch", f"species {quoted(' '.join(names))}, but counts {counts[:12]}")
    return symbols, counts


def _unnumbered(name: str) -> str:
    """`Ag` for `Ag2`; anything else as it is."""
    symbol = name.rstrip("0123456789")
    return symbol if is_element(symbol) else name


def _numbers_agree(names: Sequence[str], counts: Sequence[int]) -> bool:
    """Whether numbers behind the symbols are a formula of the counts (`Ag2 O1` and 4 2), or count the species of each
    element (`O1 O2` and 2 2).
    """
    symbols = [_unnumbered(name) for name in names]
    numbers = [int(name[len(symbol) :] or 1) for name, symbol in zip(names, symbols, strict=True)]
    is_formula = all(number * counts[0] == count * numbers[0] for number, count in zip(numbers, counts, strict=True))
    seen = [symbols[: at + 1].count(symbol) for at, symbol in enumerate(symbols)]
    return is_formula or numbers == seen


def _species_of_comment(comment: list[str], counts: list[int]) -> list[str] | None:
    """VASP 4 files name the species in the comment: `Na Cl`, or `Na4 Cl4` where the numbers are the counts."""
    if len(comment) != len(counts):
        return None
    symbols = []
    for token, count in zip(comment, counts, strict=True):
        symbol = token.rstrip("0123456789")
        if not is_element(symbol) or token not in (symbol, f"{symbol}{count}"):
            return None
        symbols.append(symbol)
    return symbols


def _read_mode(lines: _Lines) -> tuple[bool, bool]:
    """Whether coordinates are Cartesian, and whether flags for selective dynamics follow."""
    tokens = lines.take("coordinate mode")
    word = tokens[0].lower().rstrip(":") if tokens else ""
    selective = word != "" and "selective".startswith(word)
    if selective:
        tokens = lines.take("coordinate mode")
        word = tokens[0].lower().rstrip(":") if tokens else ""
    # VASP looks at the first letter and takes everything else as direct; "cubic" and "primitive" mean neither.
    if word and ("direct".startswith(word) or word in ("frac", "fractional")):
        return False, selective
    if word and ("cartesian".startswith(word) or word == "k"):
        return True, selective
    return lines.fail("expected `direct` or `Cartesian`")


def _read_sites(lines: _Lines, n_atoms: int, selective: bool) -> tuple[list[list[float]], list[str | None]]:
    """Coordinates [n_atoms, 3] as written, and the label of each line or None."""
    coords: list[list[float]] = []
    labels: list[str | None] = []
    while (tokens := lines.peek()) is not None:
        if len(coords) == n_atoms and not (tokens and is_coordinate(tokens[0])):
            break
        lines.number += 1
        if not tokens and coords:
            continue  # between groups of sites; those of all atoms are yet to come
        if len(tokens) < 3:
            lines.fail("expected 3 coordinates")
        position, rest = lines.position(tokens[:3]), tokens[3:]
        if selective:
            if len(rest) < 3 or any(flag.upper().strip(".")[:1] not in ("T", "F") for flag in rest[:3]):
                lines.fail("expected 3 flags T or F after the coordinates")
            rest = rest[3:]
        if len(rest) > 1 or (rest and labelled_element(rest[0]) is None):
            lines.fail("expected nothing but an element behind the coordinates")
        coords.append(position)
        labels.append(rest[0] if rest else None)
    if len(coords) != n_atoms:
        raise TextError("count_mismatch", f"the counts add up to {n_atoms} atoms, but {len(coords)} sites are listed")
    return coords, labels


def _read_tail(lines: _Lines, n_atoms: int) -> None:
    """After the sites: nothing, blank lines, or velocities of all atoms (and then what VASP's dynamics adds)."""
    n_blank = 0
    while (tokens := lines.peek()) == []:
        lines.number += 1
        n_blank += 1
    if tokens is None:
        return
    if not is_number(tokens[0]):
        lines.number += 1
        if n_blank or not tokens or not ("direct".startswith(tokens[0].lower()) or tokens[0][0] in "cCkK"):
            lines.fail("expected the end of the text or velocities")
    for _ in range(n_atoms):
        tokens = lines.take("velocities")
        if len(tokens) != 3:
            raise TextError("count_mismatch", f"line {lines.number}: more sites than the counts' {n_atoms}")
        lines.vector(tokens)
    # A predictor-corrector block may follow, after a blank line; it says nothing about the structure.
    if lines.peek():
        raise TextError("count_mismatch", f"line {lines.number + 1}: more lines than {n_atoms} sites and velocities")


def _name_sites(symbols: list[str] | None, counts: list[int], labels: list[str | None]) -> list[str]:
    """Symbol of each site; the labels must say the same as the species line."""
    named = [None if label is None else labelled_element(label) for label in labels]
    if symbols is None:
        if None in named:
            raise TextError("unknown_element", "neither a species line, nor the comment, nor labels name the elements")
        species = [name for name in named if name is not None]
        starts = np.cumsum([0, *counts])
        groups = [species[start:end] for start, end in pairwise(starts)]
        if any(len(set(group)) > 1 for group in groups):
            raise TextError("count_mismatch", f"the labels do not change where the counts {counts[:12]} say")
        return species
    species = [symbol for symbol, count in zip(symbols, counts, strict=True) for _ in range(count)]
    for number, (symbol, name) in enumerate(zip(species, named, strict=True), start=1):
        if name is not None and name != symbol:
            raise TextError("count_mismatch", f"site {number} is {symbol} by the counts, but labelled {name}")
    return species
