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
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from matsearch.crystal.group_symbols import standard_symbol
from matsearch.crystal.prototype import NEEDLE
from matsearch.crystal.space_groups import space_group
from matsearch.crystal.tokens import (
    TextError,
    build,
    count_formula,
    ordered_symbols,
    parameter_matrix,
    quoted,
)
from matsearch.crystal.wyckoff import conventional_parameters, free_parameters
from matsearch.crystal.wyckoff_lines import (
    PARAMETERS,
    Orbit,
    line_kind,
    plain_line,
    read_cell,
    read_group,
    read_orbit,
    split_lines,
    stated_formula,
)
from matsearch.crystal.wyckoff_positions import WyckoffPosition, wyckoff_letter, wyckoff_positions

if TYPE_CHECKING:
    from pymatgen.core import Structure

SYMMETRY_TOL = 0.02
"""Å. Symmetry within this is made exact when a crystal is written."""
MAX_ATOMS = 10_000
"""More atoms of the conventional cell than any crystal in a reply has."""

_AGREE = 2e-3  # fractional; coordinates stated beyond the free ones are often rounded to three decimals


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
        return PARAMETERS
    if number <= 15:
        return ("a", "b", "c", "beta")
    if number <= 74:
        return ("a", "b", "c")
    return ("a", "c") if number <= 194 else ("a",)


# ---- Reading


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
    orbits: list[Orbit] = []
    formula = ""
    for at, raw in enumerate(split_lines(text), start=1):
        line, kind = plain_line(raw), line_kind(raw)
        if kind == "group":
            stated = read_group(line)
            if number not in (None, stated):
                raise TextError("bad_wyckoff", f"line {at}: space group {number} before, {stated} here")
            number = stated
        elif kind == "cell":
            for name, value in read_cell(line, at).items():
                if abs(cell.setdefault(name, value) - value) > 1e-6:
                    raise TextError("bad_wyckoff", f"line {at}: {name} = {cell[name]:g} before, {value:g} here")
        elif kind == "orbit":
            orbits.append(read_orbit(line, at))
        elif kind == "note":
            formula = stated_formula(line) or formula
        else:
            raise TextError("bad_wyckoff", f"line {at}: expected a parameter or an orbit, got {quoted(raw.strip())}")
    if number is None:
        raise TextError("bad_wyckoff", "no space group")
    lattice = _lattice(number, cell)
    if not orbits:
        raise TextError("truncated", "no orbit")
    structure = _expanded(number, lattice, orbits)
    _check_formula(formula, [site.specie.symbol for site in structure])
    return structure


def _check_formula(formula: str, species: list[str]) -> None:
    """A formula, where one is stated, must be that of the orbits up to a factor."""
    stated: dict[str, int] = {}
    for symbol, count in re.findall("([A-Z][a-z]?)([0-9]*)", formula):
        stated[symbol] = stated.get(symbol, 0) + int(count or 1)
    found = Counter(species)
    total = sum(stated.values())
    if stated and any(stated.get(each, 0) * len(species) != found[each] * total for each in {*stated, *found}):
        raise TextError("count_mismatch", f"formula {quoted(formula)}, but the orbits give {count_formula(species)}")


def _lattice(number: int, cell: Mapping[str, float]) -> np.ndarray:
    """Lattice vectors [3, 3] of the conventional cell."""
    missing = [name for name in _free(number) if name not in cell]
    if missing:
        raise TextError("bad_wyckoff", f"space group {number} needs {', '.join(_free(number))}; no {missing[0]}")
    free = [cell[name] for name in _free(number)]
    n_lengths = sum(len(name) == 1 for name in _free(number))
    parameters = conventional_parameters(number, free[:n_lengths], free[n_lengths:])
    for name, value in zip(PARAMETERS, parameters, strict=True):
        if abs(cell.get(name, value) - value) > 1e-3 * abs(value):
            raise TextError("bad_wyckoff", f"space group {number} makes {name} = {value:g}, but it is {cell[name]:g}")
    return parameter_matrix(parameters, "bad_wyckoff")


def _expanded(number: int, lattice: np.ndarray, orbits: list[Orbit]) -> Structure:
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


def _free_values(number: int, position: WyckoffPosition, orbit: Orbit) -> np.ndarray:
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
