"""Structures written as JSON objects, in the spellings that language models and common tools use.

Only names, nesting and the spelling of numbers are translated; their values are never touched.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matsearch.crystal.tokens import TextError, quoted
from matsearch.crystal.wyckoff_positions import wyckoff_positions
from matsearch.propose.json_slips import CutString, JsonArray, JsonObject
from matsearch.propose.spelled_sites import (
    CARTESIAN,
    FRACTIONAL,
    MODES,
    NEUTRAL,
    SITE_ELEMENT,
    UNIT_KEYS,
    as_lists,
    as_numbers,
    check_occupancy,
    element_of,
    first_of,
    kind_of_coordinates,
    one_symbol_an_atom,
    plain_key,
    positions_of,
    repeated,
    sites_by_element,
    sites_of,
    values_by_key,
)
from matsearch.propose.stated import check_cell, check_formula, check_group, check_number, stated_group

if TYPE_CHECKING:
    from pymatgen.core import Structure

_LATTICE = (
    *("lattice", "cell", "unitcell", "latticevectors", "latticematrix", "cellvectors", "latticeparameters"),
    *("cellparameters", "latticeconstants", "unitcellparameters"),
)
_SPECIES = (
    *("species", "elements", "symbols", "atomtypes", "atomictypes", "atomsymbols", "chemicalsymbols"),
    *("atomicnumbers", "numbers", "atoms", "types"),
)
_SITES = (
    "sites",
    "atoms",
    "atomicpositions",
    "atomsites",
    "basis",
    "positions",
    "atomicsites",
    "orbits",
    "wyckoffsites",
)
_COUNTS = ("counts", "atomcounts", "numatoms", "natoms", "numberofatoms", "speciescounts", "elementcounts")
_SCALES = ("scale", "scalefactor", "scalingfactor", "latticescale")
_FLAGS = ("coordsarecartesian", "cartesian", "iscartesian")
_GROUPS = (
    *("spacegroup", "spacegroupnumber", "spacegroupsymbol", "sgnumber", "sg", "spacegroupname", "spgnum"),
    *("spacegroupinternational", "internationalnumber", "internationalsymbol", "spg"),
)
_FORMULAS = ("formula", "chemicalformula", "reducedformula", "formulapretty", "composition")
_UNITS_IN_CELL = ("z", "formulaunits", "formulaunitspercell", "numformulaunits", "nformulaunits")
_NUMBERS = ("numatoms", "natoms", "numberofatoms", "nsites", "numsites", "numberofsites", "atomcount", "totalatoms")
_LETTERS = ("wyckoff", "wyckoffposition", "wyckoffletter", "wyckoffsymbol", "wyckoffsite", "wyckofflabel", "site")
_CONSTANTS = ("latticeconstant", "latticeparameter", "constant", "alat", "a0")
_LENGTHS = ("lengths", "abc", "axes")
_LETTER = re.compile(r"([1-9][0-9]{0,2})([a-zA])\Z")
_PARAMETERS = ("a", "b", "c", "alpha", "beta", "gamma")
_VECTOR_NAMES = (("a", "b", "c"), ("a1", "a2", "a3"), ("v1", "v2", "v3"), ("vectora", "vectorb", "vectorc"))


def looks_like_structure(node: JsonObject) -> bool:
    """Whether an object describes a crystal: a lattice, and atoms or positions."""
    pairs = values_by_key(node)
    has_lattice = any(name in pairs for name in _LATTICE) or all(name in pairs for name in _PARAMETERS)
    # Of a cubic crystal by its symmetry `a` is all there is.
    has_lattice = has_lattice or ("a" in pairs and any(name in pairs for name in _GROUPS))
    holders = (*_SPECIES, *FRACTIONAL, *CARTESIAN, *NEUTRAL, *_SITES)
    return has_lattice and any(isinstance(pairs.get(name), JsonArray | JsonObject) for name in holders)


def is_open(node: Any) -> bool:
    """Whether the text stopped somewhere inside this value."""
    if isinstance(node, CutString):
        return True
    if isinstance(node, JsonObject | JsonArray):
        inner = [value for _, value in node.pairs] if isinstance(node, JsonObject) else node.entries
        return not node.closed or (bool(inner) and is_open(inner[-1]))
    return False


def to_mapping(node: JsonObject) -> dict[str, Any]:
    """The object with the keys of `matsearch.crystal.text.from_mapping`.

    Raises:
        TextError: `bad_json`: something is missing or stands where it cannot be read; `unknown_element`;
            `disordered`; `count_mismatch`.
    """
    pairs = values_by_key(node)
    scale = first_of(pairs, _SCALES)
    if scale is not None and scale != 1:
        raise TextError("bad_json", f"expected no scale factor or 1, got {quoted(scale)}")
    check_occupancy(pairs)
    content: dict[str, Any] = {"lattice": as_numbers(_lattice(pairs))}
    sites = first_of(pairs, _SITES)
    if isinstance(sites, JsonArray) and sites.entries and all(isinstance(site, JsonObject) for site in sites.entries):
        if _stand_for_orbits(sites):
            raise TextError(
                "bad_json", "sites are given by Wyckoff letters, but there is no space group to expand them"
            )
        rows = [row for site in sites.entries for row in sites_of(values_by_key(site))]
        kinds = {kind for _, kind, _ in rows}
        content["species"] = [element for element, _, _ in rows]
        positions = [position for _, _, position in rows]
    else:
        by_element = first_of(pairs, _SITES)
        # Positions of each element, or counts of them beside positions.
        is_by_element = isinstance(by_element, JsonObject) and all(
            isinstance(value, JsonArray) for _, value in by_element.pairs
        )
        key, value = ("coords", by_element) if is_by_element else positions_of(pairs)
        if isinstance(value, JsonObject):
            content["species"], positions = sites_by_element(value)
        else:
            content["species"] = repeated(
                one_symbol_an_atom(first_of(pairs, _SPECIES)), as_lists(first_of(pairs, _COUNTS))
            )
            positions = as_lists(value)
        kinds = {key}
    positions = as_numbers(positions)
    kinds = {kind_of_coordinates(kind, pairs, positions) for kind in kinds}
    if len(kinds) > 1:
        raise TextError("bad_json", "some positions are called Cartesian and others fractional")
    content[kinds.pop()] = positions
    return content


def inherited(
    node: JsonObject, child: JsonObject | JsonArray, around: tuple[tuple[str, Any], ...]
) -> tuple[tuple[str, Any], ...]:
    """What an object says of a value in it: the kind of coordinates; of the only crystal in it also the rest."""
    names: tuple[str, ...] = (*_FLAGS, *MODES, *UNIT_KEYS)
    n_objects = sum(isinstance(value, JsonObject | JsonArray) and value is not child for _, value in node.pairs)
    if isinstance(child, JsonObject) and looks_like_structure(child) and not n_objects:
        names += (*_GROUPS, *_FORMULAS, *_UNITS_IN_CELL, *_NUMBERS)
    said = [(key, value) for key, value in node.pairs if plain_key(key) in names and value is not child]
    return (*around, *said)


def check_stated(node: JsonObject, structure: Structure, *, is_listed: bool) -> None:
    """What the object says of its crystal beside lattice and sites must agree with them.

    Args:
        node: The object.
        structure: What was read from it.
        is_listed: All sites are listed, none is made by a space group.

    Raises:
        TextError: `count_mismatch`, `bad_json`.
    """
    pairs = values_by_key(node)
    formula = first_of(pairs, _FORMULAS)
    if not is_listed:
        check_formula(structure, formula)
        return
    lattice = as_lists(first_of(pairs, _LATTICE))
    for holder in (pairs, lattice if isinstance(lattice, dict) else {}):
        stated_cell = {name: as_numbers(holder.get(name)) for name in _PARAMETERS}
        check_cell(structure, stated_cell, as_numbers(first_of(holder, _CONSTANTS)))
    check_number(structure, {name: pairs[name] for name in _NUMBERS if name in pairs})
    check_formula(structure, formula, first_of(pairs, _UNITS_IN_CELL))
    for name in _GROUPS:
        check_group(structure, as_lists(pairs.get(name)))


def to_wyckoff_lines(node: JsonObject) -> str | None:
    """An object of a space group and one site an orbit, as `matsearch.crystal.wyckoff_text` reads it; None for others.

    Raises:
        TextError: `bad_json`: the lattice or a site is not one; `unknown_element`; `disordered`.
    """
    pairs = values_by_key(node)
    group, sites = as_lists(first_of(pairs, _GROUPS)), first_of(pairs, _SITES)
    if isinstance(group, dict):
        group = " ".join(str(value) for value in group.values())
    if not isinstance(group, str | int) or not isinstance(sites, JsonArray) or not _stand_for_orbits(sites):
        return None
    lattice = as_numbers(_lattice(pairs))
    if isinstance(lattice, list) and len(lattice) == 6:
        lattice = dict(zip(_PARAMETERS, lattice, strict=True))
    if not isinstance(lattice, dict):
        raise TextError("bad_json", f"expected cell parameters beside Wyckoff letters, got {quoted(lattice)}")
    lines = [f"space group {group}", *(f"{name} = {lattice[name]}" for name in _PARAMETERS if name in lattice)]
    for entry in sites.entries:
        site = values_by_key(entry)
        check_occupancy(site)
        position = as_numbers(as_lists(first_of(site, (*FRACTIONAL, *NEUTRAL))))
        named = " ".join(f"{axis}={site[axis]}" for axis in "xyz" if axis in site)
        row = " ".join(map(str, position)) if isinstance(position, list) else named
        label = _with_multiplicity(str(first_of(site, _LETTERS)), site, group)
        lines.append(f"{element_of(as_lists(first_of(site, SITE_ELEMENT)))} {label} {row}")
    return "\n".join(lines)


def _with_multiplicity(letter: str, site: Mapping[str, Any], group: Any) -> str:
    """`4a` for a bare `a`, with the multiplicity that the site or the space group gives."""
    if len(letter) != 1:
        return letter
    multiplicity = site.get("multiplicity", site.get("mult"))
    if not isinstance(multiplicity, int):
        number = stated_group(group)
        known = {} if number is None else wyckoff_positions(number)
        if letter not in known:
            raise TextError("bad_wyckoff", f"space group {quoted(group)} has no position {quoted(letter)}")
        multiplicity = known[letter].multiplicity
    return f"{multiplicity}{letter}"


def _stand_for_orbits(sites: JsonArray) -> bool:
    """Whether sites have Wyckoff letters and are fewer than the multiplicities say: one stands for its orbit."""
    if not sites.entries or not all(isinstance(site, JsonObject) for site in sites.entries):
        return False
    labels = [(first_of(pairs, SITE_ELEMENT), first_of(pairs, _LETTERS)) for pairs in map(values_by_key, sites.entries)]
    if all(letter is None for _, letter in labels):
        return False
    counts = Counter((str(element), str(letter)) for element, letter in labels)
    found = {label: _LETTER.match(label[1]) for label in counts}
    return not all(match and int(match[1]) == counts[label] for label, match in found.items())


def _lattice(pairs: dict[str, Any]) -> Any:
    lattice = as_lists(first_of(pairs, _LATTICE))
    if lattice is None:
        return {name: pairs[name] for name in _PARAMETERS if name in pairs}
    holder = lattice if isinstance(lattice, dict) else {"lengths": lattice, "angles": as_lists(pairs.get("angles"))}
    lengths, angles = first_of(holder, _LENGTHS), holder.get("angles")
    if isinstance(lengths, list) and isinstance(angles, list):
        return [*lengths, *angles]
    if not isinstance(lattice, dict):
        return lattice
    for name in ("matrix", "vectors", "latticevectors", "cell"):
        if name in lattice:
            return lattice[name]
    for names in _VECTOR_NAMES:
        if all(isinstance(lattice.get(name), list) for name in names):
            return [lattice[name] for name in names]
    return lattice
