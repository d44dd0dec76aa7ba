"""Crystals as text: POSCAR, CIF (see `cif`) and a compact JSON, read to the letter.

A text that contradicts itself is refused with a reason; nothing is dropped, padded or rebuilt to make it fit.
Fractional coordinates are kept as written (7.2 stays 7.2: it is legal and wraps).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Lattice, Structure

# ASCII only: Python's float() would also take "1_000", "infinity" and Arabic digits.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eEdD][+-]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)\Z", re.IGNORECASE)
# An element with what people hang on it: Ag, Ag1, Ag2+, O-2.
_LABEL = re.compile(r"([A-Z][a-z]?)[0-9]*(?:[+-][0-9]?)?\Z")
_COUNT = re.compile(r"[0-9]{1,9}\Z")


class TextError(ValueError):
    """A text is no crystal.

    Attributes:
        reason: A short snake_case word: `bad_poscar`, `bad_cif`, `bad_json`, `count_mismatch`, `not_finite`,
            `unknown_element`, `disordered`, `truncated`, `zero_volume`.
        detail: What was expected and what came.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def quoted(token: Any) -> str:
    """A token of the text for a message, shortened, safe to print and store."""
    text = repr(token)
    return (text if len(text) <= 60 else text[:57] + "...").encode("ascii", "backslashreplace").decode()


def read_number(token: str, where: str, reason: str) -> float:
    """One finite number, written as Fortran and C write it.

    Raises:
        TextError: `not_finite` for NaN, inf and overflow, `reason` for anything else.
    """
    if _NUMBER.match(token):
        value = float(token.replace("d", "e").replace("D", "e"))
        if math.isfinite(value):
            return value
        raise TextError("not_finite", f"{where}: {quoted(token)} is not finite")
    if _NOT_FINITE.match(token):
        raise TextError("not_finite", f"{where}: {quoted(token)} is not finite")
    raise TextError(reason, f"{where}: expected a number, got {quoted(token)}")


def is_number(token: str) -> bool:
    """Whether a token is written as a number, NaN and inf included."""
    return bool(_NUMBER.match(token) or _NOT_FINITE.match(token))


def is_element(symbol: str) -> bool:
    """Whether a symbol is one of the periodic table's."""
    from pymatgen.core import Element

    return Element.is_valid_symbol(symbol)


def labelled_element(label: str) -> str | None:
    """The element of a site label such as `Ag`, `Ag1` or `Ag2+`; None where there is none."""
    found = _LABEL.match(label)
    return found[1] if found and is_element(found[1]) else None


def require_element(symbol: str, where: str) -> str:
    """The symbol itself.

    Raises:
        TextError: `unknown_element`.
    """
    if not is_element(symbol):
        raise TextError("unknown_element", f"{where}: {quoted(symbol)} is no element")
    return symbol


def ordered_symbols(structure: Structure) -> list[str]:
    """Element symbols of the sites, in order.

    Raises:
        TextError: `disordered`: a site is shared or partly empty.
    """
    if not structure.is_ordered:
        raise TextError("disordered", f"{structure.formula} has sites that are shared or partly empty")
    return [_symbol(site.specie) for site in structure]


def _symbol(specie: Any) -> str:
    """Element symbol of an element or of a species that carries a charge."""
    return str(getattr(specie, "symbol", specie))


def _decimals(values: Sequence[float]) -> str:
    # Adding 0.0 turns -0.0 into 0.0.
    return "  ".join(f"{round(float(value), 8) + 0.0:12.8f}" for value in values)


# ---------------------------------------------------------------- POSCAR


def to_poscar(structure: Structure) -> str:
    """VASP 5 POSCAR: fractional coordinates in Å to 8 decimals, sites in their order, each line ending in its symbol.

    Raises:
        TextError: `disordered`.
    """
    symbols = ordered_symbols(structure)
    runs: list[tuple[str, int]] = []
    for symbol in symbols:
        if runs and runs[-1][0] == symbol:
            runs[-1] = (symbol, runs[-1][1] + 1)
        else:
            runs.append((symbol, 1))
    lines = [" ".join(f"{symbol}{count}" for symbol, count in runs), "1.0"]
    lines += [_decimals(vector) for vector in structure.lattice.matrix]
    lines += [" ".join(symbol for symbol, _ in runs), " ".join(str(count) for _, count in runs), "direct"]
    lines += [f"{_decimals(coords)} {symbol}" for coords, symbol in zip(structure.frac_coords, symbols, strict=True)]
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
        return re.split(r"[!#]", self.lines[self.number], maxsplit=1)[0].split()

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


def from_poscar(text: str) -> Structure:
    """Read a POSCAR.

    Read: VASP 5 and VASP 4 (species then from the comment line or from the labels of all sites), a negative scale
    factor (the cell's volume), selective dynamics (flags dropped), Cartesian coordinates (times the scale factor),
    a label behind each site (it must agree with the counts), velocities after a blank line (dropped).

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


def _read_lattice(lines: _Lines) -> tuple[np.ndarray, float]:
    """Lattice vectors as rows, in Å, and the length scale that was applied."""
    tokens = lines.take("scale factor")
    if len(tokens) != 1:
        lines.fail("expected one scale factor")
    scale = lines.vector(tokens)[0]
    if scale == 0:
        lines.fail("expected a scale factor other than 0")
    rows = []
    for name in ("first", "second", "third"):
        tokens = lines.take(f"{name} lattice vector")
        if len(tokens) != 3:
            lines.fail(f"expected the {name} lattice vector (3 numbers)")
        rows.append(lines.vector(tokens))
    matrix = np.array(rows)
    if scale < 0:
        # VASP: a negative factor is the wanted volume in Å^3.
        volume = abs(np.linalg.det(matrix))
        if volume < 1e-8:
            raise TextError("zero_volume", f"a cell of volume 0 cannot be scaled to {-scale:g} Å^3")
        scale = (-scale / volume) ** (1 / 3)
    matrix = matrix * scale
    if not np.isfinite(matrix).all():
        raise TextError("not_finite", "the scaled lattice vectors are not finite")
    return matrix, float(scale)


def _read_species(lines: _Lines, comment: list[str]) -> tuple[list[str] | None, list[int]]:
    """Symbols (None: the labels must say) and counts."""
    tokens = lines.take("species or counts")
    if not tokens:
        lines.fail("expected element symbols")
    symbols: list[str] | None = None
    if not _COUNT.match(tokens[0]):
        if any(is_number(token) for token in tokens):
            lines.fail("expected element symbols after three lattice vectors")
        # `Fe_pv` and `Ti/a1b2` name a POTCAR behind the element.
        symbols = [require_element(re.split(r"[_/]", token)[0], f"line {lines.number}") for token in tokens]
        tokens = lines.take("counts")
    if not tokens or not all(_COUNT.match(token) for token in tokens):
        lines.fail("expected whole numbers of atoms")
    counts = [int(token) for token in tokens]
    if sum(counts) == 0:
        lines.fail("expected at least one atom")
    if symbols is None:
        symbols = _species_of_comment(comment, counts)
    elif len(symbols) != len(counts):
        raise TextError("count_mismatch", f"{len(symbols)} species ({' '.join(symbols[:12])}), {len(counts)} counts")
    return symbols, counts


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
    word = tokens[0].lower() if tokens else ""
    selective = word != "" and "selective".startswith(word)
    if selective:
        tokens = lines.take("coordinate mode")
        word = tokens[0].lower() if tokens else ""
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
    while tokens := lines.peek():
        if len(coords) == n_atoms and not is_number(tokens[0]):
            break
        lines.number += 1
        if len(tokens) < 3:
            lines.fail("expected 3 coordinates")
        position, rest = lines.vector(tokens[:3]), tokens[3:]
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


# ---------------------------------------------------------------- CIF


def to_cif(structure: Structure) -> str:
    """CIF in P1: every site listed, in order, fractional coordinates to 8 decimals.

    Raises:
        TextError: `disordered`.
    """
    from matsearch.crystal.cif import write_cif

    return write_cif(structure, ordered_symbols(structure))


def from_cif(text: str) -> Structure:
    """Read one crystal from a CIF; see `matsearch.crystal.cif.read_cif`.

    Raises:
        TextError: `bad_cif`, `truncated`, `count_mismatch`, `not_finite`, `unknown_element`, `disordered`.
    """
    from matsearch.crystal.cif import read_cif

    return read_cif(text)


# ---------------------------------------------------------------- JSON


def to_json(structure: Structure) -> str:
    """One line of JSON: `lattice` (3 x 3, Å, vectors as rows), `species`, `frac_coords`, to 8 decimals.

    Raises:
        TextError: `disordered`.
    """
    content = {
        "lattice": (np.round(structure.lattice.matrix, 8) + 0.0).tolist(),
        "species": ordered_symbols(structure),
        "frac_coords": (np.round(structure.frac_coords, 8) + 0.0).tolist(),
    }
    return json.dumps(content, separators=(",", ":"))


def from_json(text: str) -> Structure:
    """Read what `to_json` writes; the lattice may also be a, b, c (Å), alpha, beta, gamma (degrees).

    Raises:
        TextError: `bad_json`, `count_mismatch`, `not_finite`, `unknown_element`.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise TextError("bad_json", str(err)) from err
    if not isinstance(content, dict):
        raise TextError("bad_json", f"expected an object, got {quoted(content)}")
    return from_mapping(content)


def from_mapping(content: Mapping[str, Any]) -> Structure:
    """A structure from `lattice`, `species` and `frac_coords` (or `cart_coords`, Å).

    Raises:
        TextError: `bad_json`, `count_mismatch`, `not_finite`, `unknown_element`, `zero_volume`.
    """
    for key in ("lattice", "species"):
        if key not in content:
            raise TextError("bad_json", f"no {key!r}")
    species = content["species"]
    if not isinstance(species, list) or not species or not all(isinstance(symbol, str) for symbol in species):
        raise TextError("bad_json", f"species: expected a list of symbols, got {quoted(species)}")
    symbols = [require_element(symbol, f"species {number}") for number, symbol in enumerate(species)]
    lattice = lattice_matrix(content["lattice"])
    key = "cart_coords" if "cart_coords" in content and "frac_coords" not in content else "frac_coords"
    if key not in content:
        raise TextError("bad_json", "no 'frac_coords'")
    coords = content[key]
    if not isinstance(coords, list):
        raise TextError("bad_json", f"{key}: expected a list of positions, got {quoted(coords)}")
    if len(coords) != len(symbols):
        raise TextError("count_mismatch", f"{len(symbols)} species, but {len(coords)} positions")
    positions = [_numbers(row, 3, f"{key} {number}") for number, row in enumerate(coords)]
    if key == "cart_coords":
        return build(lattice, symbols, fractional(lattice, np.array(positions)))
    return build(lattice, symbols, positions)


def lattice_matrix(lattice: Any) -> np.ndarray:
    """Lattice vectors as rows [3, 3] in Å, from 3 x 3 numbers or a, b, c, alpha, beta, gamma (list or object).

    Raises:
        TextError: `bad_json` or `not_finite`.
    """
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    if isinstance(lattice, Mapping):
        missing = [name for name in names if name not in lattice]
        if missing:
            raise TextError("bad_json", f"lattice: no {', '.join(missing)}")
        return parameter_matrix(_numbers([lattice[name] for name in names], 6, "lattice"), "bad_json")
    if isinstance(lattice, list) and len(lattice) == 6:
        return parameter_matrix(_numbers(lattice, 6, "lattice"), "bad_json")
    if isinstance(lattice, list) and len(lattice) == 3:
        return np.array([_numbers(row, 3, f"lattice vector {number}") for number, row in enumerate(lattice)])
    raise TextError("bad_json", f"lattice: expected 3 vectors or a, b, c, alpha, beta, gamma, got {quoted(lattice)}")


def parameter_matrix(parameters: Sequence[float], reason: str) -> np.ndarray:
    """Lattice vectors as rows [3, 3] in Å from lengths in Å and angles in degrees.

    Raises:
        TextError: `reason`: no cell has these lengths and angles.
    """
    from pymatgen.core import Lattice

    a, b, c, alpha, beta, gamma = parameters
    shown = ", ".join(f"{value:g}" for value in parameters)
    if min(a, b, c) <= 0 or not all(0 < angle < 180 for angle in (alpha, beta, gamma)):
        raise TextError(reason, f"no cell has a, b, c, alpha, beta, gamma = {shown}")
    cos = np.cos(np.radians([alpha, beta, gamma]))
    # Gram determinant of unit vectors at these angles: the squared volume of a cell with edges of 1.
    if 1 - (cos**2).sum() + 2 * cos.prod() <= 1e-12:
        raise TextError(reason, f"no cell has the angles of a, b, c, alpha, beta, gamma = {shown}")
    lattice: Lattice = Lattice.from_parameters(a, b, c, alpha, beta, gamma)
    return np.array(lattice.matrix)


def _numbers(row: Any, length: int, where: str) -> list[float]:
    """A list of finite numbers of one length out of JSON."""
    if not isinstance(row, list) or len(row) != length:
        raise TextError("bad_json", f"{where}: expected {length} numbers, got {quoted(row)}")
    values = []
    for entry in row:
        if isinstance(entry, bool) or not isinstance(entry, int | float):
            raise TextError("bad_json", f"{where}: expected a number, got {quoted(entry)}")
        try:
            value = float(entry)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise TextError("not_finite", f"{where}: a number is not finite")
        values.append(value)
    return values


# ---------------------------------------------------------------- shared


def fractional(lattice: np.ndarray, cartesian: np.ndarray) -> np.ndarray:
    """Cartesian coordinates [n_atoms, 3] in Å as fractional ones.

    Raises:
        TextError: `zero_volume`: the cell is flat.
    """
    try:
        return np.asarray(np.linalg.solve(lattice.T, cartesian.T).T)
    except np.linalg.LinAlgError as err:
        raise TextError("zero_volume", "Cartesian coordinates in a cell of volume 0") from err


def build(lattice: np.ndarray, species: Sequence[str], coords: Any) -> Structure:
    """A pymatgen structure; coordinates fractional, kept outside 0-1 where they are.

    Raises:
        TextError: `not_finite`.
    """
    from pymatgen.core import Lattice, Structure

    if not np.isfinite(coords).all():
        raise TextError("not_finite", "coordinates are not finite")
    return Structure(Lattice(lattice), list(species), coords)
