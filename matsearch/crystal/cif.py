"""CIF read to the letter: no snapped coordinates, no merged atoms, no guessed occupancies.

pymatgen's parser mends files silently (it merges atoms of different rows, rescales occupancies, skips broken
blocks). For text written by a language model that would turn a bad crystal into another one, so this reader does
only what the file says. Source of the format: Hall, Allen, Brown, Acta
Cryst. A 47, 655 (1991), and the CIF core dictionary.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.crystal.group_symbols import space_group_number
from matsearch.crystal.tokens import (
    TextError,
    build,
    count_formula,
    is_element,
    labelled_element,
    ordered_symbols,
    parameter_matrix,
    quoted,
    read_number,
    require_element,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure

_TOKEN = re.compile(r"""'((?:[^'\n]|'(?=\S))*)'|"((?:[^"\n]|"(?=\S))*)"|(#[^\n]*)|([^\s]+)""")
_CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
_OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_SYMBOLS = ("_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m_full")
_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")
_TERM = re.compile(r"([+-]?)(?:([0-9]+(?:\.[0-9]+)?)(?:/([0-9]+))?|([xyz]))")
_SAME_SITE = 0.1
"""Å. Images of one site closer than this are the site itself: it lies on a symmetry element."""

_MAX_IMAGES = 50_000


def to_cif(structure: Structure, decimals: int = 8) -> str:
    """CIF in P1: every site listed, in order.

    Args:
        structure: The crystal, in any cell.
        decimals: Of lengths (Å), angles (degrees) and fractional coordinates.

    Raises:
        TextError: `disordered`.
    """
    symbols = ordered_symbols(structure)
    lattice = structure.lattice
    formula = count_formula(symbols)
    lines = [f"data_{formula.replace(' ', '')}", "_symmetry_space_group_name_H-M   'P 1'"]
    lines += [f"_cell_{name}   {value:.{decimals}f}" for name, value in zip(_CELL, lattice.parameters, strict=True)]
    lines += ["_symmetry_Int_Tables_number   1", f"_chemical_formula_sum   '{formula}'"]
    lines += ["loop_", " _symmetry_equiv_pos_as_xyz", "  'x, y, z'"]
    columns = ("type_symbol", "label", "fract_x", "fract_y", "fract_z", "occupancy")
    lines += ["loop_", *(f" _atom_site_{name}" for name in columns)]
    for number, (symbol, coords) in enumerate(zip(symbols, structure.frac_coords, strict=True)):
        position = "  ".join(f"{round(float(value), decimals) + 0.0:.{decimals}f}" for value in coords)
        lines.append(f"  {symbol}  {symbol}{number}  {position}  1")
    return "\n".join(lines) + "\n"


def from_cif(text: str) -> Structure:
    """The first crystal of a CIF, with the atoms of the asymmetric unit multiplied by the file's own operations.

    Without listed operations those of the named space group are used (standard setting, origin choice 2),
    without either P1.

    Raises:
        TextError: `bad_cif`; `truncated`: the cell or the sites are missing or a row is cut; `count_mismatch`: a row's
            multiplicity, or the formula, disagrees with the sites; `not_finite`; `unknown_element`; `disordered`.
    """
    items, loops = _read_block(text)
    lattice = _read_cell(items)
    operations = _read_operations(items, loops)
    _check_lattice(lattice, operations)
    sites = _read_sites(loops)
    if len(sites) * len(operations) > _MAX_IMAGES:
        raise TextError("bad_cif", f"{len(sites)} sites times {len(operations)} operations: more than {_MAX_IMAGES}")
    species: list[str] = []
    coords: list[np.ndarray] = []
    for symbol, position, multiplicity in sites:
        orbit = _orbit(position, operations, lattice)
        if multiplicity is not None and multiplicity != len(orbit):
            raise TextError(
                "count_mismatch", f"{symbol} at {position} has multiplicity {multiplicity}, but {len(orbit)} images"
            )
        species += [symbol] * len(orbit)
        coords += orbit
    _check_formula(items, species)
    return build(lattice, species, np.array(coords))


def _tokens(text: str) -> list[tuple[str, bool]]:
    """Values and names with a flag for quoted ones; comments dropped, text fields (`;`) joined."""
    found: list[tuple[str, bool]] = []
    field: list[str] | None = None
    for line in text.splitlines():
        if line.startswith(";"):
            if field is None:
                field = [line[1:]]
            else:
                found.append(("\n".join(field), True))
                field = None
        elif field is not None:
            field.append(line)
        else:
            for match in _TOKEN.finditer(line):
                single, double, comment, bare = match.groups()
                if comment is None:
                    found.append((bare, False) if bare is not None else (single or double or "", True))
    if field is not None:
        raise TextError("truncated", "a text field (;) is not closed")
    return found


def _read_block(text: str) -> tuple[dict[str, str], list[dict[str, list[str]]]]:
    """Items and loops of the first data block, names in lower case."""
    tokens = _tokens(text)
    items: dict[str, str] = {}
    loops: list[dict[str, list[str]]] = []
    at = 0
    n_blocks = 0

    def is_value(index: int) -> bool:
        if index >= len(tokens):
            return False
        token, was_quoted = tokens[index]
        return was_quoted or not (token.startswith("_") or token.lower() == "loop_" or _is_header(token))

    while at < len(tokens):
        token, was_quoted = tokens[at]
        at += 1
        if _is_header(token) and not was_quoted:
            n_blocks += 1
            if n_blocks > 1 and (items or loops):
                break
        elif token.lower() == "loop_" and not was_quoted:
            names: list[str] = []
            while at < len(tokens) and tokens[at][0].startswith("_") and not tokens[at][1]:
                names.append(tokens[at][0].lower())
                at += 1
            values: list[str] = []
            while is_value(at):
                values.append(tokens[at][0])
                at += 1
            if not names:
                raise TextError("bad_cif", "a loop_ without names")
            if len(values) % len(names):
                raise TextError("truncated", f"the loop of {names[0]} has {len(values)} values in {len(names)} columns")
            loops.append({name: values[column :: len(names)] for column, name in enumerate(names)})
        elif token.startswith("_") and not was_quoted:
            if not is_value(at):
                raise TextError("truncated", f"{quoted(token)} has no value")
            value = tokens[at][0]
            if items.setdefault(token.lower(), value) != value and token.lower().startswith("_cell_"):
                raise TextError("bad_cif", f"{token} is stated twice: {quoted(items[token.lower()])}, {quoted(value)}")
            at += 1
        else:
            raise TextError("bad_cif", f"expected a name or a loop, got {quoted(token)}")
    return items, loops


def _is_header(token: str) -> bool:
    return token.lower().startswith("data_")


def _number(token: str, where: str) -> float:
    """A CIF number; the standard uncertainty in parentheses is dropped."""
    return read_number(re.sub(r"\([0-9]+\)\Z", "", token), where, "bad_cif")


def _read_cell(items: dict[str, str]) -> np.ndarray:
    missing = [name for name in _CELL if f"_cell_{name}" not in items]
    if missing:
        raise TextError("truncated", f"no _cell_{missing[0]}")
    return parameter_matrix([_number(items[f"_cell_{name}"], f"_cell_{name}") for name in _CELL], "bad_cif")


def _read_operations(items: dict[str, str], loops: list[dict[str, list[str]]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rotations [3, 3] and translations [3] in fractional coordinates."""
    listed: list[str] = []
    for name in _OPERATIONS:
        listed = next((loop[name] for loop in loops if name in loop), [items[name]] if name in items else [])
        if listed:
            break
    if listed:
        if len(listed) > 192:
            raise TextError("bad_cif", f"{len(listed)} symmetry operations; no space group has more than 192")
        return [_operation(operation) for operation in listed]
    symbol = next((items[name] for name in _SYMBOLS if name in items and items[name] not in "?."), None)
    number = next((items[name] for name in _NUMBERS if name in items and items[name] not in "?."), None)
    return _group_operations(symbol, number)


def _group_operations(symbol: str | None, number: str | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Operations in the standard setting: unique axis b, hexagonal axes, origin choice 2."""
    import moyopy

    stated = int(number) if number is not None and re.fullmatch("[0-9]{1,3}", number) else None
    found = space_group_number(symbol) if symbol is not None else 1 if number is None else stated
    if found is not None and stated not in (None, found):
        raise TextError("bad_cif", f"space group {stated} is not {quoted(symbol)}, which is {found}")
    if found is None or not 1 <= found <= 230:
        raise TextError(
            "bad_cif", f"no standard space group {quoted(symbol or number)}, and the file lists no operations"
        )
    operations = moyopy.operations_from_number(found, setting=moyopy.Setting.standard())
    pairs = zip(operations.rotations, operations.translations, strict=True)
    return [(np.array(rotation, dtype=float), np.array(translation) % 1.0) for rotation, translation in pairs]


def _check_lattice(lattice: np.ndarray, operations: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Every operation must leave the lengths and angles of the cell as they are."""
    metric = lattice @ lattice.T
    for rotation, _ in operations:
        if np.abs(rotation.T @ metric @ rotation - metric).max() > 0.02 * np.abs(metric).max():
            raise TextError("bad_cif", "the cell does not have the symmetry of the operations")


def _operation(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and translation of `-x, y+1/2, z`."""
    parts = text.lower().replace(" ", "").split(",")
    if len(parts) != 3:
        raise TextError("bad_cif", f"expected an operation such as x,y,z, got {quoted(text)}")
    rotation, translation = np.zeros((3, 3)), np.zeros(3)
    for row, part in enumerate(parts):
        terms = list(_TERM.finditer(part))
        if not part or "".join(term[0] for term in terms) != part:
            raise TextError("bad_cif", f"expected an operation such as x,y,z, got {quoted(text)}")
        for term in terms:
            sign = -1.0 if term[1] == "-" else 1.0
            if term[4]:
                rotation[row, "xyz".index(term[4])] += sign
            elif term[3] is None or int(term[3]) != 0:
                translation[row] += sign * float(term[2]) / int(term[3] or 1)
            else:
                raise TextError("bad_cif", f"division by 0 in {quoted(text)}")
    if abs(abs(np.linalg.det(rotation)) - 1) > 1e-6:
        raise TextError("bad_cif", f"{quoted(text)} is no symmetry operation")
    return rotation, translation


def _read_sites(loops: list[dict[str, list[str]]]) -> list[tuple[str, np.ndarray, int | None]]:
    """Symbol, fractional position and stated multiplicity of each row."""
    found = [loop for loop in loops if "_atom_site_fract_x" in loop]
    if not found or not found[0]["_atom_site_fract_x"]:
        raise TextError("truncated", "no atom sites with fractional coordinates")
    if len(found) > 1:
        raise TextError("bad_cif", f"{len(found)} loops of atom sites; expected one")
    loop = found[0]
    axes = [f"_atom_site_fract_{axis}" for axis in "xyz"]
    for axis in axes:
        if axis not in loop:
            raise TextError("bad_cif", f"no {axis}")
    sites = []
    for row in range(len(loop[axes[0]])):
        where = f"atom site {row + 1}"
        symbol = _site_element(loop, row, where)
        position = np.array([_number(loop[axis][row], where) for axis in axes])
        occupancy = loop.get("_atom_site_occupancy", [])
        if occupancy and occupancy[row] not in ("?", ".") and abs(_number(occupancy[row], where) - 1) > 1e-6:
            raise TextError("disordered", f"{where} ({symbol}) has occupancy {quoted(occupancy[row])}")
        sites.append((symbol, position, _multiplicity(loop, row)))
    return sites


def _site_element(loop: dict[str, list[str]], row: int, where: str) -> str:
    for name in ("_atom_site_type_symbol", "_atom_site_label"):
        if name in loop:
            label = loop[name][row]
            element = labelled_element(label)
            if element is None:
                # Labels of minerals and refinements: `NA1`, `Fe1A`, `O_1`.
                letters = re.match(r"[A-Za-z]{1,2}(?![a-z])", label)
                element = letters[0].capitalize() if letters and is_element(letters[0].capitalize()) else None
            return require_element(label, where) if element is None else element
    raise TextError("bad_cif", "atom sites name no element")


def _multiplicity(loop: dict[str, list[str]], row: int) -> int | None:
    for name in ("_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity"):
        if name in loop and loop[name][row].isdecimal():
            return int(loop[name][row])
    return None


def _orbit(
    position: np.ndarray, operations: list[tuple[np.ndarray, np.ndarray]], lattice: np.ndarray
) -> list[np.ndarray]:
    """Images of one site in one cell, itself first and as written."""
    orbit = [position]
    for rotation, translation in operations:
        image = rotation @ position + translation
        apart = np.array(orbit) - image
        apart -= np.round(apart)
        if (np.linalg.norm(apart @ lattice, axis=1) > _SAME_SITE).all():
            orbit.append(image - np.floor(image))
    return orbit


def _check_formula(items: dict[str, str], species: list[str]) -> None:
    """The stated formula must be that of the sites, up to a factor."""
    from pymatgen.core import Composition

    stated: Any = items.get("_chemical_formula_sum")
    if stated is None or stated in "?.":
        return
    counts = re.findall(r"([A-Z][a-z]?)([0-9]*)", stated)
    if not counts or not all(is_element(symbol) for symbol, _ in counts):
        return
    expected = Composition({})
    for symbol, count in counts:
        expected += Composition({symbol: int(count or 1)})
    found = Composition({symbol: species.count(symbol) for symbol in set(species)})
    if expected.num_atoms == 0 or expected.fractional_composition.almost_equals(found.fractional_composition):
        return
    raise TextError("count_mismatch", f"formula {quoted(stated)}, but the sites give {count_formula(species)}")
