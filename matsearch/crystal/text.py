"""Crystals as text: POSCAR, CIF and a compact JSON, read to the letter.

A text that contradicts itself is refused with a reason; nothing is dropped, padded or rebuilt to make it fit.
Fractional coordinates are kept as written (7.2 stays 7.2: it is legal and wraps).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.crystal.cif import from_cif, to_cif
from matsearch.crystal.poscar import from_poscar, to_poscar
from matsearch.crystal.tokens import (
    TextError,
    build,
    fractional,
    ordered_symbols,
    parameter_matrix,
    quoted,
    require_element,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure

__all__ = [
    "TextError",
    "from_cif",
    "from_json",
    "from_mapping",
    "from_poscar",
    "lattice_matrix",
    "to_cif",
    "to_json",
    "to_poscar",
    "to_short_json",
]


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


def to_short_json(structure: Structure) -> str:
    """One line of JSON for a prompt: `lattice` (a, b, c in Å, alpha, beta, gamma in degrees), `sites` by element.

    Four decimals: within a thousandth of an Å in any cell that fits a prompt. Sites are grouped by element, so that no
    list of symbols has to keep step with a list of positions.

    Raises:
        TextError: `disordered`.
    """
    positions: dict[str, list[list[float]]] = {}
    for symbol, coords in zip(ordered_symbols(structure), structure.frac_coords, strict=True):
        positions.setdefault(symbol, []).append(_rounded(coords))
    content = {
        "lattice": _rounded(structure.lattice.parameters),
        "sites": [{"element": symbol, "frac_coords": rows} for symbol, rows in positions.items()],
    }
    return json.dumps(content, separators=(",", ":"))


def _rounded(values: Iterable[float]) -> list[float | int]:
    """Numbers to four decimals; whole ones as integers, which are shorter."""
    shown = [round(float(value), 4) + 0.0 for value in values]
    return [int(value) if value.is_integer() else value for value in shown]


def from_json(text: str) -> Structure:
    """Read what `to_json` and `to_short_json` write; the lattice may also be a, b, c (Å), alpha, beta, gamma (degrees).

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

    Instead of the last two, `sites` may list objects of an `element` and the `frac_coords` of all its atoms.

    Raises:
        TextError: `bad_json`, `count_mismatch`, `not_finite`, `unknown_element`, `zero_volume`.
    """
    if "species" not in content and "sites" in content:
        content = {"lattice": content.get("lattice"), **_listed(content["sites"])}
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


def _listed(sites: Any) -> dict[str, list[Any]]:
    """`species` and `frac_coords`, one entry an atom, of sites grouped by element."""
    if not isinstance(sites, list) or not all(isinstance(site, dict) for site in sites):
        raise TextError("bad_json", f"sites: expected a list of objects, got {quoted(sites)}")
    species: list[Any] = []
    positions: list[Any] = []
    for number, site in enumerate(sites):
        rows = site.get("frac_coords")
        if not isinstance(rows, list) or not rows:
            raise TextError("bad_json", f"sites {number}: expected frac_coords, got {quoted(rows)}")
        rows = rows if isinstance(rows[0], list) else [rows]
        species += [site.get("element")] * len(rows)
        positions += rows
    return {"species": species, "frac_coords": positions}


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
