"""What every text of a crystal is read with: numbers, symbols, cells, and the error that says why not."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure

# ASCII only: Python's float() would also take "1_000", "infinity" and Arabic digits.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eEdD][+-]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)\Z", re.IGNORECASE)
# An element with what people hang on it: Ag, Ag1, Ag2+, O-2.
# A charge behind an element: +, 2+, -2.
_CHARGE = re.compile(r"(?:[1-9]?[+-]|[+-][1-9])\Z")
# Coordinates as people write them: 1/3, and rows with commas.
_FRACTION = re.compile(r"([+-]?[0-9]{1,3})/([0-9]{1,3})\Z")
_VALUE = r"[ \t]*[+-]?[0-9.][0-9.eEdD/+-]*[ \t]*"
_COMMA_ROW = re.compile(rf"{_VALUE},{_VALUE},{_VALUE}(?:(?<=[ \t])[^,\d][^,]*|,[^,]*)?\Z")
# What people write behind a row: `! a`, `# a`, `// a`, `<- a`, `(a)`.
_REMARK = re.compile(r"[!#].*|\s(?://|--|<-|\u2190).*|\s\([^()0-9]*\)\s*\Z")
# `[0.5, 0.5, 0.5], Cl`: a row in brackets.
_BRACKETS = re.compile(r"\s*\[([^\[\]]*)\],?(?:\s+([^\[\]]*))?\Z")
_LABEL = re.compile(r"([A-Z][a-z]?)[0-9]*(?:[+-][0-9]?)?\Z")


class TextError(ValueError):
    """A text is no crystal.

    Attributes:
        reason: A short snake_case word: `bad_poscar`, `bad_cif`, `bad_json`, `bad_wyckoff`, `count_mismatch`,
            `not_finite`, `unknown_element`, `disordered`, `truncated`, `zero_volume`.
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


def row_tokens(line: str) -> list[str]:
    """Tokens of a line up to a remark. Commas part words (`Na, Cl`) and three numbers (`0.5,0.5,0.5`): 0,5 is none."""
    line = _REMARK.sub("", line).rstrip()
    if bracketed := _BRACKETS.match(line):
        line = f"{bracketed[1]} {bracketed[2] or ''}"
    tokens = (line.replace(",", " ") if _COMMA_ROW.match(line) else line).split()
    return [token for token in (each.rstrip(",") for each in tokens) if token]


def read_coordinate(token: str, where: str, reason: str) -> float:
    """One finite number, or a fraction of whole numbers such as `1/3` or `-2/3`.

    Raises:
        TextError: As `read_number`.
    """
    fraction = _FRACTION.match(token)
    if fraction and int(fraction[2]):
        return int(fraction[1]) / int(fraction[2])
    return read_number(token, where, reason)


def is_coordinate(token: str) -> bool:
    """Whether a token is written as a number or as a fraction."""
    return is_number(token) or bool(_FRACTION.match(token))


def without_charge(symbol: str) -> str:
    """`Ca` for `Ca2+`."""
    return _CHARGE.sub("", symbol)


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
        raise TextError("disordered", "sites are shared or partly empty")
    return [_symbol(site.specie) for site in structure]


def count_formula(symbols: Iterable[str]) -> str:
    """`Na4 Cl4` of the symbols of all sites, in the order they first appear.

    Not pymatgen's formula, which orders by electronegativity and warns where an element has none.
    """
    return " ".join(f"{symbol}{count}" for symbol, count in Counter(symbols).items())


def _symbol(specie: Any) -> str:
    """Element symbol of an element or of a species that carries a charge."""
    return str(getattr(specie, "symbol", specie))


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
