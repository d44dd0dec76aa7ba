"""Sites of a crystal written as JSON, in the spellings that language models and common tools use.

Elements, positions and occupancies. Coordinates are fractional unless the object, a site or an object around them says
Cartesian, by the key (`cart_coords`), a flag (`"coords_are_cartesian": true`), a word
(`"coordinate_type": "cartesian"`) or a unit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from matsearch.crystal.tokens import TextError, is_coordinate, is_element, labelled_element, quoted, read_coordinate
from matsearch.propose.json_slips import JsonArray, JsonObject

FRACTIONAL = (
    *("fraccoords", "fractionalcoordinates", "fractionalcoords", "fracpositions", "scaledpositions"),
    *("fractionalpositions", "fraccoordinates", "directcoordinates", "frac", "abc", "fractcoords"),
)
CARTESIAN = ("cartcoords", "cartesiancoordinates", "cartesiancoords", "cartesianpositions", "xyz")
NEUTRAL = ("coords", "coordinates", "positions", "position", "atomicpositions", "atomcoordinates", "sites")
SITE_ELEMENT = ("element", "symbol", "species", "specie", "atom", "type", "label", "name")
MODES = (
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
UNIT_KEYS = ("units", "unit", "lengthunit", "lengthunits")
_OCCUPANCIES = (
    *("occupancy", "occupancies", "occ", "occu", "occupation", "occupations", "sof"),
    *("siteoccupancy", "siteoccupancies"),
)
_IN_FRACTIONS = re.compile("frac|direct|reduced|scaled|crystal")
_ANGSTROM = re.compile(r"\s*(?:\u00c5|\u212b|A|[Aa]ng(?:strom|str\u00f6m)?s?)\Z")
_UNIT = re.compile(r"\s*(?:\u00c5|\u212b|A|[Aa]ngstroms?|\u00b0|deg(?:rees?)?)\Z")
MAX_COUNT = 10_000


def plain_key(key: str) -> str:
    """A key in lower case without separators: `Frac_Coords` is `fraccoords`."""
    return re.sub(r"[\s_\-]+", "", key[:80]).lower()


def values_by_key(node: JsonObject) -> dict[str, Any]:
    """Values by plain key; of a repeated key the last one, as JSON readers do."""
    return {plain_key(key): value for key, value in node.pairs}


def first_of(pairs: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The value under the first of some names that is there; None where none is."""
    return next((pairs[name] for name in names if name in pairs), None)


def as_lists(value: Any) -> Any:
    """Lists and dicts instead of nodes."""
    if isinstance(value, JsonArray):
        return [as_lists(entry) for entry in value.entries]
    if isinstance(value, JsonObject):
        return {plain_key(key): as_lists(entry) for key, entry in value.pairs}
    return value


def as_numbers(value: Any) -> Any:
    """Numbers for strings that are one (`"0.5"`, `"1/3"`, `"4.1 Å"`), and [x, y, z] for an object of these."""
    if isinstance(value, list):
        return [as_numbers(entry) for entry in value]
    if isinstance(value, dict):
        named = {key: as_numbers(entry) for key, entry in value.items()}
        return [named[axis] for axis in "xyz"] if sorted(named) == ["x", "y", "z"] else named
    if isinstance(value, str) and is_coordinate(bare := _UNIT.sub("", value.strip())):
        return read_coordinate(bare, "a number in quotes", "bad_json")
    return value


def one_symbol_an_atom(value: Any) -> list[str]:
    """One symbol an atom, from symbols, labels or atomic numbers."""
    from pymatgen.core import Element

    if isinstance(value, JsonObject) and all(type(count) is int and 0 <= count < MAX_COUNT for _, count in value.pairs):
        return [element_of(key) for key, count in value.pairs for _ in range(count)]
    entries = as_lists(value)
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
            symbols.append(element_of(entry))
    return symbols


def repeated(symbols: list[str], counts: Any) -> list[str]:
    """Symbols repeated by the counts that stand beside them, as in a POSCAR; by nothing else."""
    if not isinstance(counts, list):
        return symbols
    if len(counts) != len(symbols) or not all(isinstance(count, int) and 0 <= count < MAX_COUNT for count in counts):
        raise TextError("count_mismatch", f"{len(symbols)} species, counts {quoted(counts)}")
    return [symbol for symbol, count in zip(symbols, counts, strict=True) for _ in range(count)]


def sites_by_element(node: JsonObject) -> tuple[list[str], list[Any]]:
    """Species and positions of `{"Na": [[0, 0, 0]], "Cl": [[0.5, 0.5, 0.5]]}`."""
    species: list[str] = []
    positions: list[Any] = []
    for key, value in node.pairs:
        rows = as_lists(value)
        if not isinstance(rows, list) or not rows:
            raise TextError("bad_json", f"expected positions of {quoted(key)}, got {quoted(rows)}")
        rows = rows if isinstance(rows[0], list) else [rows]
        species += [element_of(key)] * len(rows)
        positions += rows
    return species, positions


def element_of(entry: Any) -> str:
    """A symbol from `Ag`, `Ag1`, `Ag2+`, or pymatgen's `[{"element": "Ag", "occu": 1}]`."""
    if isinstance(entry, list):
        if len(entry) != 1:
            raise TextError("disordered", f"expected one element on a site, got {quoted(entry)}")
        entry = entry[0]
    if isinstance(entry, dict):
        check_occupancy(entry)
        entry = first_of(entry, SITE_ELEMENT)
    if not isinstance(entry, str):
        raise TextError("bad_json", f"expected an element symbol, got {quoted(entry)}")
    if is_element(entry):
        return entry
    symbol = labelled_element(entry)
    if symbol is None:
        raise TextError("unknown_element", f"{quoted(entry)} is no element")
    return symbol


def sites_of(pairs: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Element, kind of coordinates and position of one site, or of all sites of an element in a list."""
    check_occupancy(pairs)
    if _kinds_named(pairs.get("type")):
        # Not of the atom, as elsewhere, but of its coordinates.
        pairs = {"coordinatetype" if key == "type" else key: value for key, value in pairs.items()}
    element = element_of(as_lists(first_of(pairs, SITE_ELEMENT)))
    if all(axis in pairs for axis in "xyz"):
        return [(element, kind_of_coordinates("coords", pairs), [pairs[axis] for axis in "xyz"])]
    # pymatgen writes both; the fractional ones are those it reads.
    key, value = positions_of(pairs)
    kind, positions = kind_of_coordinates(key, pairs), as_lists(value)
    is_list = isinstance(positions, list) and bool(positions) and isinstance(positions[0], list)
    return [(element, kind, position) for position in (positions if is_list else [positions])]


def positions_of(pairs: dict[str, Any]) -> tuple[str, Any]:
    """The kind of coordinates that the key names (`coords`: none), and the positions."""
    for kind, names in (("frac_coords", FRACTIONAL), ("cart_coords", CARTESIAN), ("coords", NEUTRAL)):
        value = first_of(pairs, names)
        if value is not None:
            return kind, value
    raise TextError("bad_json", "no coordinates")


def check_occupancy(pairs: Mapping[str, Any]) -> None:
    """Refuse a site that is not fully occupied by one element.

    Raises:
        TextError: `disordered`.
    """
    for name in _OCCUPANCIES:
        value = as_numbers(as_lists(pairs.get(name)))
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
        is_about = key in MODES or (
            ("coord" in key or "position" in key) and not key.startswith(("coordination", "composition"))
        )
        if isinstance(value, bool) and "cartesian" in key:
            kinds.add("cart_coords" if value else "frac_coords")
        elif isinstance(value, bool) and "fractional" in key:
            kinds.add("frac_coords" if value else "cart_coords")
        elif is_about and isinstance(value, str) and _ANGSTROM.match(value):
            kinds.add("cart_coords")
        elif is_about or key in UNIT_KEYS:
            kinds |= _kinds_said(values_by_key(value)) if isinstance(value, JsonObject) else _kinds_named(value)
    return kinds


def kind_of_coordinates(key: str, pairs: Mapping[str, Any], positions: Any = None) -> str:
    """`frac_coords` or `cart_coords`, of positions under a key of `positions_of`.

    Without `positions` the object is one site, and `coords` is returned where it does not say.

    Raises:
        TextError: `bad_json`: what the object says is no single kind, or another one than that of the key.
    """
    said = _kinds_said(pairs)
    # An object with both keys says one thing for each.
    has_both = first_of(pairs, FRACTIONAL) is not None and first_of(pairs, CARTESIAN) is not None
    kinds = said | ({key} - {"coords"}) if not has_both else {key}
    if len(kinds) > 1:
        raise TextError("bad_json", "the positions are called Cartesian and fractional")
    if kinds:
        return kinds.pop()
    if positions is None:
        return "coords"
    unit = first_of(pairs, UNIT_KEYS)
    if isinstance(unit, str) and _ANGSTROM.match(unit):
        values = [abs(value) for row in positions if isinstance(row, list) for value in row if _is_real(value)]
        if max(values, default=0) > 1:
            return "cart_coords"
        if any(values):
            raise TextError("bad_json", f"positions between -1 and 1 in {quoted(unit)}: fractional or Cartesian?")
    return "frac_coords"


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
