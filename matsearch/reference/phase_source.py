"""What a source of known phases is: ids, each with an ordered crystal of known elements or why there is none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

Phase = tuple[str, "Structure | Rejection"]
"""An id that no other phase of the source has, and the crystal or why there is none."""


class PhaseSource(ABC):
    """Known phases, read anew each time that one iterates.

    Attributes:
        name: As messages call it.
        attribution: Whose data this is, and under which licence.
    """

    name: str
    attribution: str

    @abstractmethod
    def __iter__(self) -> Iterator[Phase]:
        """Each phase once, in an order of the source's own that does not change."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Hash of all that the source holds now."""

    @property
    @abstractmethod
    def n_expected(self) -> int:
        """How many phases are to come; a guess where files may hold several."""


def phase_structure(lattice: Sequence[float], species: Sequence[str], coords: Sequence[float]) -> Structure | Rejection:
    """A crystal from lengths and angles [6] (Å, degrees), symbols [n_sites] and fractional coordinates [3 * n_sites].

    Returns:
        The crystal, with the axes of `Lattice.from_parameters`; a rejection `unreadable` where the numbers make none.
    """
    import numpy as np
    from pymatgen.core import Lattice, Structure

    try:
        parameters = np.asarray(lattice, dtype=float)
        positions = np.asarray(coords, dtype=float).reshape(-1, 3)
        if parameters.shape != (6,) or len(positions) != len(species) or not len(species):
            raise ValueError(f"expected 6 lattice parameters and 3 coordinates a site, {len(species)} sites")
        if not (np.isfinite(parameters).all() and np.isfinite(positions).all()):
            raise ValueError("lattice parameters and coordinates must be finite")
        built = Lattice.from_parameters(*parameters.tolist())
        if not built.volume > 0:  # NaN where the angles close no cell
            raise ValueError(f"no cell has the lattice parameters {parameters.tolist()}")
        return checked(Structure(built, list(species), positions))
    except (ValueError, TypeError, KeyError, AttributeError) as err:  # null cells of a table, unknown symbols
        return _unreadable(err)


def checked(structure: Structure) -> Structure | Rejection:
    """The crystal, if it has one known element a site."""
    if not structure.is_ordered:
        return Rejection(Stage.PARSE, "disordered", "it has partly occupied sites; choose an ordered cell")
    if dummies := sorted({species.symbol for species in structure.species if species.symbol not in _symbols()}):
        return Rejection(Stage.PARSE, "unknown_element", f"no element goes by {', '.join(dummies)}")
    return structure


@cache
def _symbols() -> frozenset[str]:
    from pymatgen.core import Element

    return frozenset(element.value for element in Element)


def _unreadable(err: Exception) -> Rejection:
    said = " ".join(str(err).split())
    return Rejection(Stage.PARSE, "unreadable", f"it is no crystal that could be read ({type(err).__name__}: {said})")
