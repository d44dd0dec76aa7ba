"""Chemical families: what kind of compound a crystal is, by its anion."""

from __future__ import annotations

from collections.abc import Iterable

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
