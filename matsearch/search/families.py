"""Kinds of crystals: the chemical family, by the anion, the crystal system and the number of elements."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from matsearch.records import Kind

# Elements that can be the anion, by falling electronegativity (Pauling's scale as revised by A. L. Allred,
# J. Inorg. Nucl. Chem. 17, 215 (1961)), with the family they name. Ge, Sb and the metals come last: intermetallic.
ANIONS = {
    "F": "halide", "O": "oxide", "Cl": "halide", "N": "nitride", "Br": "halide", "I": "halide", "S": "chalcogenide",
    "Se": "chalcogenide", "C": "carbide", "H": "hydride", "P": "pnictide", "As": "pnictide", "Te": "chalcogenide",
    "B": "boride", "Si": "silicide",
}  # fmt: skip
INTERMETALLIC = "intermetallic"


def chemical_family(symbols: Iterable[str]) -> str:
    """The family of a compound: its most electronegative element names it.

    A sulphate is an oxide and an oxyfluoride a halide; what holds none of the anions is intermetallic.

    Args:
        symbols: The elements in the crystal.
    """
    present = set(symbols)
    return next((family for symbol, family in ANIONS.items() if symbol in present), INTERMETALLIC)


SYSTEMS = ((2, "triclinic"), (15, "monoclinic"), (74, "orthorhombic"), (142, "tetragonal"), (194, "hexagonal"))
"""Last space group of each crystal system below the cubic one; trigonal is counted as hexagonal."""


def kind_of(symbols: Collection[str], space_group: int | None) -> Kind:
    """The kind of a crystal.

    Args:
        symbols: Its elements, each once.
        space_group: Number; None where none was found.
    """
    if space_group is None:
        return chemical_family(symbols), "none", len(symbols)
    system = next((name for last, name in SYSTEMS if space_group <= last), "cubic")
    return chemical_family(symbols), system, len(symbols)
