"""Crystals as text: POSCAR (see `poscar`), CIF (see `cif`) and a compact JSON, read to the letter.

A text that contradicts itself is refused with a reason; nothing is dropped, padded or rebuilt to make it fit.
Fractional coordinates are kept as written (7.2 stays 7.2: it is legal and wraps).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Lattice, Structure

# ASCII only: Python's float() would also take "1_000", "infinity" and Arabic digits.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eEdD][+-]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)\Z", re.IGNORECASE)
# An element with what people hang on it: Ag, Ag1, Ag2+, O-2.
_LABEL = re.compile(r"([A-Z][a-z]?)[0-9]*(?:[+-][0-9]?)?\Z")


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


# ---------------------------------------------------------------- POSCAR and CIF


def to_poscar(structure: Structure) -> str:
    """VASP 5 POSCAR: fractional coordinates to 8 decimals, sites in their order, each line ending in its symbol.

    Raises:
        TextError: `disordered`.
    """
    from matsearch.crystal.poscar import write_poscar

    return write_poscar(structure, ordered_symbols(structure))


def from_poscar(text: str) -> Structure:
    """Read a POSCAR to the letter; see `matsearch.crystal.poscar.read_poscar`.

    Raises:
        TextError: `bad_poscar`, `truncated`, `count_mismatch`, `not_finite`, `unknown_element`, `zero_volume`.
    """
    from matsearch.crystal.poscar import read_poscar

    return read_poscar(text)


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
    """One line of JSON: `lattice` (3 x 3, Å, vectors as rows), `species`, `frac_coords`.

    Every digit is written: what is read back is the same to the last bit, so that a resumed run goes on from exactly
    the structures it had.

    Raises:
        TextError: `disordered`.
    """
    content = {
        "lattice": (structure.lattice.matrix + 0.0).tolist(),
        "species": ordered_symbols(structure),
        "frac_coords": (structure.frac_coords + 0.0).tolist(),
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
