"""What a JSON object says of its crystal beside lattice and sites: it must agree with them.

Many replies list the asymmetric unit beside a space group, others the whole cell. Only in the second case are the sites
the crystal, so they are taken as listed only where the group makes no atoms of them that are not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.crystal.tokens import TextError, count_formula, is_element, ordered_symbols, quoted
from matsearch.crystal.wyckoff_lines import line_kind, plain_line, read_group

if TYPE_CHECKING:
    from pymatgen.core import Structure

_SAME_PLACE = 0.02  # fractional; coordinates are often given to two decimals
_SYMPRECS = (0.01, 0.1)  # Å
_LAST_HALL_NUMBER = 530
_MAX_SEARCHED = 300  # sites; a search of symmetry takes the square of them, and a primitive cell is smaller
_FORMULA = re.compile(r"(?:[A-Z][a-z]?|[()\[\]]|[0-9]+(?:\.[0-9]+)?){1,60}\Z")


def check_group(structure: Structure, stated: Any) -> None:
    """The sites must be all that a stated space group makes of them.

    Args:
        structure: The crystal as listed.
        stated: Number, symbol, both, or something else, which says nothing.

    Raises:
        TextError: `count_mismatch`: the group makes other atoms too; `bad_json`: there is no such group.
    """
    number = stated_group(stated)
    if number is None or number == 1 or _is_whole(structure, number):
        return
    raise TextError("count_mismatch", f"the {len(structure)} sites are not all that space group {number} makes of them")


def stated_group(stated: Any) -> int | None:
    """ITA number of a stated space group in any setting; None where the value names none.

    Raises:
        TextError: `bad_json`: it looks like a space group but is none, or number and symbol disagree.
    """
    if isinstance(stated, dict):
        stated = " ".join(str(value) for value in stated.values())
    if isinstance(stated, bool) or not isinstance(stated, str | int):
        return None
    text = str(stated)[:100].strip()
    wrong = None
    start, remark = re.match(r"([^(,;]*)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    for spelling in dict.fromkeys((text, text if re.search("[0-9]", remark) else start.strip())):
        if named := _settings().get(_bare(spelling)):
            return named
        line = plain_line(f"space group {spelling}")
        if line_kind(line) == "group":
            try:
                return read_group(line)
            except TextError as err:
                wrong = wrong or err.detail
    if wrong:
        raise TextError("bad_json", wrong)
    return None


@cache
def _settings() -> dict[str, int]:
    """ITA numbers by symbol without blanks, of all settings."""
    import moyopy

    known: dict[str, int] = {}
    for hall_number in range(1, _LAST_HALL_NUMBER + 1):
        entry = moyopy.HallSymbolEntry(hall_number)
        # `P 1 2_1/n 1` of the monoclinic groups is commonly written `P2_1/n`.
        cut = " ".join(word for word in entry.hm_full.split() if word != "1") if 3 <= entry.number <= 15 else ""
        for symbol in (entry.hm_short, entry.hm_full, *([cut] if cut else [])):
            known.setdefault(_bare(symbol), entry.number)
    return known


def _bare(symbol: str) -> str:
    return re.sub(r"[\s_]", "", symbol)


def _is_whole(structure: Structure, number: int) -> bool:
    """Whether the sites are closed under a group, in a standard setting or in whatever cell they are given."""
    import moyopy

    symbols = ordered_symbols(structure)
    points = structure.frac_coords
    for hall_number in range(1, _LAST_HALL_NUMBER + 1):
        if moyopy.HallSymbolEntry(hall_number).number == number:
            operations = moyopy.operations_from_number(number, setting=moyopy.Setting.hall_number(hall_number))
            if _is_closed(points, symbols, operations):
                return True
    if len(symbols) > _MAX_SEARCHED:
        return False
    kinds = {symbol: kind for kind, symbol in enumerate(dict.fromkeys(symbols))}
    cell = moyopy.Cell(structure.lattice.matrix.tolist(), points.tolist(), [kinds[symbol] for symbol in symbols])
    return any(_found_group(cell, symprec) == number for symprec in _SYMPRECS)


def _is_closed(points: np.ndarray, symbols: list[str], operations: Any) -> bool:
    """Whether each image of each point [n, 3] lies on a point of its element."""
    from scipy.spatial import cKDTree

    for symbol in dict.fromkeys(symbols):
        own = points[[each == symbol for each in symbols]]
        tree = cKDTree(_wrapped(own), boxsize=1.0)
        for rotation, translation in zip(operations.rotations, operations.translations, strict=True):
            images = _wrapped(own @ np.array(rotation, dtype=float).T + np.array(translation))
            away, _ = tree.query(images, p=np.inf)
            if away.max() > _SAME_PLACE:
                return False
    return True


def _wrapped(points: np.ndarray) -> np.ndarray:
    """Points within [0, 1); the remainder of a tiny negative number is 1."""
    wrapped = points % 1.0
    return np.where(wrapped >= 1.0, 0.0, wrapped)


def _found_group(cell: Any, symprec: float) -> int | None:
    import moyopy

    try:
        return int(moyopy.MoyoDataset(cell, symprec=symprec).number)
    except Exception:  # noqa: BLE001 - moyo has no exception class of its own
        return None


def check_cell(structure: Structure, parameters: Mapping[str, Any], constant: Any = None) -> None:
    """Cell parameters stated beside lattice vectors must be theirs, and the vectors in no unit of a lattice constant.

    Args:
        structure: The crystal as listed.
        parameters: Stated a, b, c (Å), alpha, beta, gamma (degrees); what is no number says nothing.
        constant: A stated lattice constant, Å.

    Raises:
        TextError: `bad_json`.
    """
    found = dict(zip(("a", "b", "c", "alpha", "beta", "gamma"), structure.lattice.parameters, strict=True))
    for name, value in parameters.items():
        if _is_real(value) and abs(value - found[name]) > max(0.01 * abs(found[name]), 0.02):
            raise TextError("bad_json", f"{name} is {value:g}, but the lattice vectors make it {found[name]:.4g}")
    # In any cell of a crystal the longest edge is no shorter than 0.7 of the lattice constant, and longer than 2 Å.
    longest = max(structure.lattice.abc)
    if _is_real(constant) and constant != 1 and longest < max(2.0, 0.65 * constant):
        raise TextError("bad_json", f"lattice constant {constant:g} beside lattice vectors up to {longest:.4g} long")


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_formula(structure: Structure, formula: Any, n_units: Any = None) -> None:
    """A formula must be that of the sites up to a factor, which is the number of formula units where one is stated.

    Raises:
        TextError: `count_mismatch`.
    """
    from pymatgen.core import Composition

    if not isinstance(formula, str) or not _FORMULA.match(bare := re.sub(r"[\s_${}]", "", formula)):
        return
    if not all(is_element(symbol) for symbol in re.findall("[A-Z][a-z]?", bare)):
        return
    try:
        stated = Composition(bare)
    except ValueError:
        return
    symbols = ordered_symbols(structure)
    listed = Composition({symbol: symbols.count(symbol) for symbol in symbols})
    if not stated.num_atoms:
        return
    if not stated.fractional_composition.almost_equals(listed.fractional_composition, rtol=0.01, atol=0.005):
        raise TextError("count_mismatch", f"formula {quoted(formula)}, but the sites are {count_formula(symbols)}")
    if isinstance(n_units, int) and not isinstance(n_units, bool):
        units = [len(symbols) / each.num_atoms for each in (stated, stated.reduced_composition)]
        if all(abs(each - n_units) > 0.01 for each in units):
            raise TextError("count_mismatch", f"Z = {n_units} of {quoted(formula)}, but {count_formula(symbols)}")


def check_number(structure: Structure, stated: Mapping[str, Any]) -> None:
    """Numbers of atoms, by the key that states them.

    Raises:
        TextError: `count_mismatch`.
    """
    for key, number in stated.items():
        if isinstance(number, int) and not isinstance(number, bool) and number != len(structure):
            raise TextError("count_mismatch", f"{key} is {number}, but {len(structure)} sites are listed")
