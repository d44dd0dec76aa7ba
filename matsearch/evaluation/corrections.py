"""Corrections that make raw DFT energies comparable across chemistries.

PBE and PBE+U energies as VASP gives them have no common hull: an oxide of a metal with a Hubbard U lies electronvolts
an atom off against the metal itself, and anions off against their elements. The Materials Project 2020 corrections
mend both. They depend on the composition and on the kind of oxide, so that phases and candidates get the same.

Of 240 known phases within 0.1 eV/atom of the hull, SevenNet-0 so corrected agrees with CHGNet 0.3.0 (whose energies
hold them) to 0.018 eV/atom in the mean, without them to 0.301.

Source: A. Wang et al., Sci. Rep. 11, 15496 (2021); here as pymatgen computes them.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

RAW = "pbe-raw"
"""The energy scale that needs corrections."""


def correction(structure: Structure, energy_scale: str) -> float | Rejection:
    """What is to be added to an energy before it meets a hull, in eV/atom; 0 on scales that need nothing."""
    if energy_scale != RAW:
        return 0.0
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    with warnings.catch_warnings():
        # That an element has no electronegativity, or that oxidation states were guessed.
        warnings.simplefilter("ignore", UserWarning)
        # As the Materials Project computes: a U for some metals where O or F is the most electronegative element.
        anion = max(structure.composition.elements, key=lambda one: one.X if one.X > 0 else 0.0).symbol
        of_metals = _corrections().u_settings.get(anion, {})
        hubbards = {one.symbol: of_metals.get(one.symbol, 0.0) for one in structure.composition.elements}
        has_u = any(hubbards.values())
        entry = ComputedStructureEntry(
            structure,
            0.0,
            parameters={"run_type": "GGA+U" if has_u else "GGA", "is_hubbard": has_u, "hubbards": hubbards},
        )
        corrected = _corrections().process_entry(entry, inplace=False)
    if corrected is None:
        formula = structure.composition.reduced_formula
        return Rejection(Stage.SCORE, "no_correction", f"the Materials Project 2020 corrections refuse {formula}")
    return float(corrected.correction) / len(structure)


@cache
def _corrections() -> Any:
    from pymatgen.analysis.compatibility import MaterialsProject2020Compatibility

    return MaterialsProject2020Compatibility(check_potcar=False)
