"""The texts in which a chat model is shown crystals and answers with them.

Each representation writes and reads one crystal, and says in a paragraph with an example how to answer in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from matsearch.crystal.text import from_cif, from_json, from_poscar, to_cif, to_poscar, to_short_json
from matsearch.crystal.wyckoff_text import from_wyckoff_text, to_wyckoff_text

if TYPE_CHECKING:
    from pymatgen.core import Structure

DECIMALS = 5
"""In POSCAR and CIF for a prompt: a ten-thousandth of an Å in any cell that fits one; every digit more costs tokens."""


@dataclass(frozen=True)
class Representation:
    """One way to write a crystal.

    Attributes:
        name: The name by which templates choose it.
        write: A crystal as text; raises `TextError` or another `ValueError` for what it cannot hold.
        read: The crystal in such a text; raises `TextError`.
        rules: How a reply in it is written, without the example.
        opening: What precedes the example in a reply.
        closing: What follows it.
        schema: JSON schema of a whole reply, a list of crystals; None for what is no JSON.
    """

    name: str
    write: Callable[[Structure], str]
    read: Callable[[str], Structure]
    rules: str
    opening: str = "```\n"
    closing: str = "\n```"
    schema: Mapping[str, Any] | None = field(default=None, compare=False)

    @property
    def instructions(self) -> str:
        """How a reply is to be written: the rules and one crystal, written by `write`."""
        example = f"{self.opening}{self.write(_rutile()).strip()}{self.closing}"
        return f"{self.rules} For example, rutile TiO2:\n{example}"


@cache
def _rutile() -> Structure:
    """Rutile: small, with a coordinate that symmetry leaves free. R. W. G. Wyckoff, Crystal Structures 1 (1963)."""
    from pymatgen.core import Lattice, Structure

    oxygen = [[0.3053, 0.3053, 0], [0.6947, 0.6947, 0], [0.1947, 0.8053, 0.5], [0.8053, 0.1947, 0.5]]
    return Structure(Lattice.tetragonal(4.5937, 2.9587), ["Ti"] * 2 + ["O"] * 4, [[0] * 3, [0.5] * 3, *oxygen])


def _numbers(length: int) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "number"}, "minItems": length, "maxItems": length}


def _object(**properties: Any) -> dict[str, Any]:
    # Servers with strict schemas want every key required and no others.
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_SITES = _object(element={"type": "string"}, frac_coords={"type": "array", "items": _numbers(3)})
_CRYSTAL = _object(lattice=_numbers(6), sites={"type": "array", "items": _SITES})
_SCHEMA = _object(crystals={"type": "array", "items": _CRYSTAL})

_POSCAR = Representation(
    "poscar",
    partial(to_poscar, decimals=DECIMALS),
    from_poscar,
    "Write each crystal as a VASP POSCAR (version 5) in a code block of its own: a comment line, the scale factor 1.0, "
    "the three lattice vectors in Å, the element symbols, how many atoms there are of each, the word direct, and one "
    "line of fractional coordinates for every atom, as many as the counts say.",
)
_CIF = Representation(
    "cif",
    partial(to_cif, decimals=DECIMALS),
    from_cif,
    "Write each crystal as a CIF in a code block of its own, in space group P 1 with every atom of the cell listed: "
    "cell lengths in Å and angles in degrees, the sum formula, and one row for every atom.",
)
_JSON = Representation(
    "json",
    to_short_json,
    from_json,
    'Answer with one JSON object {"crystals": [...]} and nothing else. Each crystal is an object with "lattice": '
    '[a, b, c, alpha, beta, gamma] in Å and degrees, and "sites": for each element one object with "element" and '
    '"frac_coords", the fractional coordinates [x, y, z] of every atom of that element in the cell, as decimals.',
    opening='{"crystals": [',
    closing="]}",
    schema=MappingProxyType(_SCHEMA),
)

_WYCKOFF = Representation(
    "wyckoff",
    to_wyckoff_text,
    from_wyckoff_text,
    "Write each crystal by its symmetry in a code block of its own: a line with the words space group, the number and "
    "the symbol (standard setting: unique axis b, hexagonal axes, origin choice 2); one line for each parameter of the "
    "conventional cell that the crystal system leaves free (a, b, c in Å, alpha, beta, gamma in degrees); and one line "
    "for each orbit: the element, the Wyckoff position with its multiplicity, and the coordinates x, y, z that the "
    "position leaves free.",
)

REPRESENTATIONS: Mapping[str, Representation] = MappingProxyType(
    {each.name: each for each in (_POSCAR, _CIF, _JSON, _WYCKOFF)}
)
"""Every representation by its name."""
