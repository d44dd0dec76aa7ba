"""Structures written as JSON objects, in the spellings that language models and common tools use.

Only names, nesting and the spelling of numbers are translated; their values are never touched. Coordinates are
fractional unless the object, a site or an object around them says Cartesian, by the key (`cart_coords`), a flag
(`"coords_are_cartesian": true`), a word (`"coordinate_type": "cartesian"`) or a unit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matsearch.crystal.tokens import (
    TextError,
    is_coordinate,
    is_element,
    labelled_element,
    quoted,
    read_coordinate,
)
from matsearch.crystal.wyckoff_positions import wyckoff_positions
from matsearch.propose.json_slips import CutString, JsonArray, JsonObject
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
_FRACTIONAL = (
    *("fraccoords", "fractionalcoordinates", "fractionalcoords", "fracpositions", "scaledpositions"),
    *("fractionalpositions", "fraccoordinates", "directcoordinates", "frac", "abc", "fractcoords"),
)
_CARTESIAN = ("cartcoords", "cartesiancoordinates", "cartesiancoords", "cartesianpositions", "xyz")
_NEUTRAL = ("coords", "coordinates", "positions", "position", "atomicpositions", "atomcoordinates", "sites")
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
_SITE_ELEMENT = ("element", "symbol", "species", "specie", "atom", "type", "label", "name")
_COUNTS = ("counts", "atomcounts", "numatoms", "natoms", "numberofatoms", "speciescounts", "elementcounts")
_SCALES = ("scale", "scalefactor", "scalingfactor", "latticescale")
_FLAGS = ("coordsarecartesian", "cartesian", "iscartesian")
_MODES = (
    "coordinateformat",
    "coordsformat",
    "coordinatetype",
    "coordinatesystem",
    "coordsystem",
    "coordtype",
    "coordinatemode",
    "mode",
    "coordstype",
)
_GROUPS = (
    *("spacegroup", "spacegroupnumber", "spacegroupsymbol", "sgnumber", "sg", "spacegroupname", "spgnum"),
    *("spacegroupinternational", "internationalnumber", "internationalsymbol", "spg"),
)
_FORMULAS = ("formula", "chemicalformula", "reducedformula", "formulapretty", "composition")
_UNITS_IN_CELL = ("z", "formulaunits", "formulaunitspercell", "numformulaunits", "nformulaunits")
_NUMBERS = ("numatoms", "natoms", "numberofatoms", "nsites", "numsites", "numberofsites", "atomcount", "totalatoms")
_LETTERS = ("wyckoff", "wyckoffposition", "wyckoffletter", "wyckoffsymbol", "wyckoffsite", "wyckofflabel", "site")
_UNIT_KEYS = ("units", "unit", "lengthunit", "lengthunits")
_OCCUPANCIES = (
    *("occupancy", "occupancies", "occ", "occu", "occupation", "occupations", "sof"),
    *("siteoccupancy", "siteoccupancies"),
)
_CONSTANTS = ("latticeconstant", "latticeparameter", "constant", "alat", "a0")
_IN_FRACTIONS = re.compile("frac|direct|reduced|scaled|crystal")
_ANGSTROM = re.compile(r"\s*(?:\u00c5|\u212b|A|[Aa]ng(?:strom|str\u00f6m)?s?)\Z")
_LENGTHS = ("lengths", "abc", "axes")
_UNIT = re.compile(r"\s*(?:\u00c5|\u212b|A|[Aa]ngstroms?|\u00b0|deg(?:rees?)?)\Z")
_LETTER = re.compile(r"([1-9][0-9]{0,2})([a-zA])\Z")
_PARAMETERS = ("a", "b", "c", "alpha", "beta", "gamma")
_VECTOR_NAMES = (("a", "b", "c"), ("a1", "a2", "a3"), ("v1", "v2", "v3"), ("vectora", "vectorb", "vectorc"))

MAX_COUNT = 10_000


def plain_key(key: str) -> str:
    """A key in lower case without separators: `Frac_Coords` is `fraccoords`."""
    return re.sub(r"[\s_\-]+", "", key[:80]).lower()


def looks_like_structure(node: JsonObject) -> bool:
    """Whether an object describes a crystal: a lattice, and atoms or positions."""
    pairs = _pairs(node)
    has_lattice = any(name in pairs for name in _LATTICE) or all(name in pairs for name in _PARAMETERS)
    # Of a cubic crystal by its symmetry `a` is all there is.
    has_lattice = has_lattice or ("a" in pairs and any(name in pairs for name in _GROUPS))
    holders = (*_SPECIES, *_FRACTIONAL, *_CARTESIAN, *_NEUTRAL, *_SITES)
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
    pairs = _pairs(node)
    scale = _first(pairs, _SCALES)
    if scale is not None and scale != 1:
        raise TextError("bad_json", f"expected no scale factor or 1, got {quoted(scale)}")
    _check_occupancy(pairs)
    content: dict[str, Any] = {"lattice": _numeric(_lattice(pairs))}
    sites = _first(pairs, _SITES)
    if isinstance(sites, JsonArray) and sites.entries and all(isinstance(site, JsonObject) for site in sites.entries):
        if _stand_for_orbits(sites):
            raise TextError(
                "bad_json", "sites are given by Wyckoff letters, but there is no space group to expand them"
            )
        rows = [row for site in sites.entries for row in _site(_pairs(site))]
        kinds = {kind for _, kind, _ in rows}
        content["species"] = [element for element, _, _ in rows]
        positions = [position for _, _, position in rows]
    else:
        by_element = _first(pairs, _SITES)
        # Positions of each element, or counts of them beside positions.
        is_by_element = isinstance(by_element, JsonObject) and all(
            isinstance(value, JsonArray) for _, value in by_element.pairs
        )
        key, value = ("coords", by_element) if is_by_element else _positions(pairs)
        if isinstance(value, JsonObject):
            content["species"], positions = _by_element(value)
        else:
            content["species"] = _repeated(_species(_first(pairs, _SPECIES)), _plain(_first(pairs, _COUNTS)))
            positions = _plain(value)
        kinds = {key}
    positions = _numeric(positions)
    kinds = {_kind(kind, pairs, positions) for kind in kinds}
    if len(kinds) > 1:
        raise TextError("bad_json", "some positions are called Cartesian and others fractional")
    content[kinds.pop()] = positions
    return content


def inherited(
    node: JsonObject, child: JsonObject | JsonArray, around: tuple[tuple[str, Any], ...]
) -> tuple[tuple[str, Any], ...]:
    """What an object says of a value in it: the kind of coordinates; of the only crystal in it also the rest."""
    names: tuple[str, ...] = (*_FLAGS, *_MODES, *_UNIT_KEYS)
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
    pairs = _pairs(node)
    formula = _first(pairs, _FORMULAS)
    if not is_listed:
        check_formula(structure, formula)
        return
    lattice = _plain(_first(pairs, _LATTICE))
    for holder in (pairs, lattice if isinstance(lattice, dict) else {}):
        stated_cell = {name: _numeric(holder.get(name)) for name in _PARAMETERS}
        check_cell(structure, stated_cell, _numeric(_first(holder, _CONSTANTS)))
    check_number(structure, {name: pairs[name] for name in _NUMBERS if name in pairs})
    check_formula(structure, formula, _first(pairs, _UNITS_IN_CELL))
    for name in _GROUPS:
        check_group(structure, _plain(pairs.get(name)))


def to_wyckoff_lines(node: JsonObject) -> str | None:
    """An object of a space group and one site an orbit, as `matsearch.crystal.wyckoff_text` reads it; None for others.

    Raises:
        TextError: `bad_json`: the lattice or a site is not one; `unknown_element`; `disordered`.
    """
    pairs = _pairs(node)
    group, sites = _plain(_first(pairs, _GROUPS)), _first(pairs, _SITES)
    if isinstance(group, dict):
        group = " ".join(str(value) for value in group.values())
    if not isinstance(group, str | int) or not isinstance(sites, JsonArray) or not _stand_for_orbits(sites):
        return None
    lattice = _numeric(_lattice(pairs))
    if isinstance(lattice, list) and len(lattice) == 6:
        lattice = dict(zip(_PARAMETERS, lattice, strict=True))
    if not isinstance(lattice, dict):
        raise TextError("bad_json", f"expected cell parameters beside Wyckoff letters, got {quoted(lattice)}")
    lines = [f"space group {group}", *(f"{name} = {lattice[name]}" for name in _PARAMETERS if name in lattice)]
    for entry in sites.entries:
        site = _pairs(entry)
        _check_occupancy(site)
        position = _numeric(_plain(_first(site, (*_FRACTIONAL, *_NEUTRAL))))
        named = " ".join(f"{axis}={site[axis]}" for axis in "xyz" if axis in site)
        row = " ".join(map(str, position)) if isinstance(position, list) else named
        label = _with_multiplicity(str(_first(site, _LETTERS)), site, group)
        lines.append(f"{_element(_plain(_first(site, _SITE_ELEMENT)))} {label} {row}")
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
    labels = [(_first(pairs, _SITE_ELEMENT), _first(pairs, _LETTERS)) for pairs in map(_pairs, sites.entries)]
    if all(letter is None for _, letter in labels):
        return False
    counts = Counter((str(element), str(letter)) for element, letter in labels)
    found = {label: _LETTER.match(label[1]) for label in counts}
    return not all(match and int(match[1]) == counts[label] for label, match in found.items())


def _pairs(node: JsonObject) -> dict[str, Any]:
    """Values by plain key; of a repeated key the last one, as JSON readers do."""
    return {plain_key(key): value for key, value in node.pairs}


def _first(pairs: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((pairs[name] for name in names if name in pairs), None)


def _plain(value: Any) -> Any:
    """Lists and dicts instead of nodes."""
    if isinstance(value, JsonArray):
        return [_plain(entry) for entry in value.entries]
    if isinstance(value, JsonObject):
        return {plain_key(key): _plain(entry) for key, entry in value.pairs}
    return value


def _numeric(value: Any) -> Any:
    """Numbers for strings that are one (`"0.5"`, `"1/3"`, `"4.1 Å"`), and [x, y, z] for an object of these."""
    if isinstance(value, list):
        return [_numeric(entry) for entry in value]
    if isinstance(value, dict):
        named = {key: _numeric(entry) for key, entry in value.items()}
        return [named[axis] for axis in "xyz"] if sorted(named) == ["x", "y", "z"] else named
    if isinstance(value, str) and is_coordinate(bare := _UNIT.sub("", value.strip())):
        return read_coordinate(bare, "a number in quotes", "bad_json")
    return value


def _lattice(pairs: dict[str, Any]) -> Any:
    lattice = _plain(_first(pairs, _LATTICE))
    if lattice is None:
        return {name: pairs[name] for name in _PARAMETERS if name in pairs}
    holder = lattice if isinstance(lattice, dict) else {"lengths": lattice, "angles": _plain(pairs.get("angles"))}
    lengths, angles = _first(holder, _LENGTHS), holder.get("angles")
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


def _species(value: Any) -> list[str]:
    """One symbol an atom, from symbols, labels or atomic numbers."""
    from pymatgen.core import Element

    if isinstance(value, JsonObject) and all(type(count) is int and 0 <= count < MAX_COUNT for _, count in value.pairs):
        return [_element(key) for key, count in value.pairs for _ in range(count)]
    entries = _plain(value)
    if not isinstance(entries, list):
        raise TextError("bad_json", f"expected a list of species, one an atom, got {quoted(entries)}")
    symbols = []
    for entry in entries:
        if isinstance(entry, int) and not isinstance(entry, bool):
            try:
                symbols.append(Element.from_Z(entry).symbol)
            except ValueError as err:
                raise TextError("unknown_element", f"no element has the number {entry}") from err
        else:
            symbols.append(_element(entry))
    return symbols


def _repeated(symbols: list[str], counts: Any) -> list[str]:
    """Symbols repeated by the counts that stand beside them, as in a POSCAR; by nothing else."""
    if not isinstance(counts, list):
        return symbols
    if len(counts) != len(symbols) or not all(isinstance(count, int) and 0 <= count < MAX_COUNT for count in counts):
        raise TextError("count_mismatch", f"{len(symbols)} species, counts {quoted(counts)}")
    return [symbol for symbol, count in zip(symbols, counts, strict=True) for _ in range(count)]


def _by_element(node: JsonObject) -> tuple[list[str], list[Any]]:
    """Species and positions of `{"Na": [[0, 0, 0]], "Cl": [[0.5, 0.5, 0.5]]}`."""
    species: list[str] = []
    positions: list[Any] = []
    for key, value in node.pairs:
        rows = _plain(value)
        if not isinstance(rows, list) or not rows:
            raise TextError("bad_json", f"expected positions of {quoted(key)}, got {quoted(rows)}")
        rows = rows if isinstance(rows[0], list) else [rows]
        species += [_element(key)] * len(rows)
        positions += rows
    return species, positions


def _element(entry: Any) -> str:
    """A symbol from `Ag`, `Ag1`, `Ag2+`, or pymatgen's `[{"element": "Ag", "occu": 1}]`."""
    if isinstance(entry, list):
        if len(entry) != 1:
            raise TextError("disordered", f"expected one element on a site, got {quoted(entry)}")
        entry = entry[0]
    if isinstance(entry, dict):
        _check_occupancy(entry)
        entry = _first(entry, _SITE_ELEMENT)
    if not isinstance(entry, str):
        raise TextError("bad_json", f"expected an element symbol, got {quoted(entry)}")
    if is_element(entry):
        return entry
    symbol = labelled_element(entry)
    if symbol is None:
        raise TextError("unknown_element", f"{quoted(entry)} is no element")
    return symbol


def _site(pairs: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Element, kind of coordinates and position of one site, or of all sites of an element in a list."""
    _check_occupancy(pairs)
    if _kinds_named(pairs.get("type")):
        # Not of the atom, as elsewhere, but of its coordinates.
        pairs = {"coordinatetype" if key == "type" else key: value for key, value in pairs.items()}
    element = _element(_plain(_first(pairs, _SITE_ELEMENT)))
    if all(axis in pairs for axis in "xyz"):
        return [(element, _kind("coords", pairs), [pairs[axis] for axis in "xyz"])]
    # pymatgen writes both; the fractional ones are those it reads.
    key, value = _positions(pairs)
    kind, positions = _kind(key, pairs), _plain(value)
    is_list = isinstance(positions, list) and bool(positions) and isinstance(positions[0], list)
    return [(element, kind, position) for position in (positions if is_list else [positions])]


def _positions(pairs: dict[str, Any]) -> tuple[str, Any]:
    for kind, names in (("frac_coords", _FRACTIONAL), ("cart_coords", _CARTESIAN), ("coords", _NEUTRAL)):
        value = _first(pairs, names)
        if value is not None:
            return kind, value
    raise TextError("bad_json", "no coordinates")


def _check_occupancy(pairs: Mapping[str, Any]) -> None:
    for name in _OCCUPANCIES:
        value = _numeric(_plain(pairs.get(name)))
        entries = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if any(entry not in (1, None) for entry in entries):
            raise TextError("disordered", f"a site has occupancy {quoted(value)}")


def _kinds_named(value: Any) -> set[str]:
    """The kinds of coordinates that a word names: none, one, or both."""
    if not isinstance(value, str):
        return set()
    word = value.lower()
    kinds = {"cart_coords"} if "cart" in word else set()
    return kinds | {"frac_coords"} if _IN_FRACTIONS.search(word) else kinds


def _kinds_said(pairs: Mapping[str, Any]) -> set[str]:
    """The kinds of coordinates that an object says it has, by flags, words and units of the coordinates."""
    kinds: set[str] = set()
    for key, value in pairs.items():
        is_about = key in _MODES or (
            ("coord" in key or "position" in key) and not key.startswith(("coordination", "composition"))
        )
        if isinstance(value, bool) and "cartesian" in key:
            kinds.add("cart_coords" if value else "frac_coords")
        elif isinstance(value, bool) and "fractional" in key:
            kinds.add("frac_coords" if value else "cart_coords")
        elif is_about and isinstance(value, str) and _ANGSTROM.match(value):
            kinds.add("cart_coords")
        elif is_about or key in _UNIT_KEYS:
            kinds |= _kinds_said(_pairs(value)) if isinstance(value, JsonObject) else _kinds_named(value)
    return kinds


def _kind(key: str, pairs: Mapping[str, Any], positions: Any = None) -> str:
    """`frac_coords` or `cart_coords`, of positions under a key of `_positions`.

    Without `positions` the object is one site, and `coords` is returned where it does not say.

    Raises:
        TextError: `bad_json`: what the object says is no single kind, or another one than that of the key.
    """
    said = _kinds_said(pairs)
    # An object with both keys says one thing for each.
    has_both = _first(pairs, _FRACTIONAL) is not None and _first(pairs, _CARTESIAN) is not None
    kinds = said | ({key} - {"coords"}) if not has_both else {key}
    if len(kinds) > 1:
        raise TextError("bad_json", "the positions are called Cartesian and fractional")
    if kinds:
        return kinds.pop()
    if positions is None:
        return "coords"
    unit = _first(pairs, _UNIT_KEYS)
    if isinstance(unit, str) and _ANGSTROM.match(unit):
        values = [abs(value) for row in positions if isinstance(row, list) for value in row if _is_real(value)]
        if max(values, default=0) > 1:
            return "cart_coords"
        if any(values):
            raise TextError("bad_json", f"positions between -1 and 1 in {quoted(unit)}: fractional or Cartesian?")
    return "frac_coords"


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
