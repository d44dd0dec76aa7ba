"""Whether two structures are the same crystal: by their numbers, or by StructureMatcher."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from matsearch.crystal.tokens import ordered_symbols
from matsearch.records import content_hash

if TYPE_CHECKING:
    from pymatgen.core import Structure

Id = TypeVar("Id", bound=Hashable)


def structure_hash(structure: Structure) -> str:
    """Hash of lattice (Å), species and fractional coordinates rounded to 1e-6, sites in their order.

    For caches: two settings of one crystal have two hashes.

    Raises:
        TextError: `disordered`.
    """
    return content_hash(
        [
            _rounded(structure.lattice.matrix),
            ordered_symbols(structure),
            _rounded(structure.frac_coords),
        ]
    )


def _rounded(values: np.ndarray) -> list[str]:
    # First to the 8 decimals that POSCAR and CIF are written with: a structure and its text then have one hash even
    # where the 7th decimal is a 5. As text and without -0, so that no platform's float printing changes the hash.
    written = np.round(np.asarray(values, dtype=float), 8)
    return [f"{value:.6f}" for value in (np.round(written, 6) + 0.0).ravel()]


@cache
def structure_matcher() -> Any:
    """StructureMatcher of pymatgen with the tolerances by which this project calls two crystals the same."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(ltol=0.2, stol=0.3, angle_tol=5)


class KnownStructures(Generic[Id]):
    """Crystals to compare with, in buckets of one reduced formula.

    Adding costs next to nothing: a structure given as a function is only made, and any structure only reduced to its
    primitive cell, when the first candidate of its formula comes.
    """

    def __init__(self) -> None:
        self._buckets: dict[str, list[_Known[Id]]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, id: Id, structure: Structure | Callable[[], Structure], formula: str | None = None) -> None:
        """Remember a crystal.

        Args:
            id: What `match` returns for it.
            structure: The crystal, or a function that makes it.
            formula: Its formula; needed where a function is given.

        Raises:
            ValueError: A function without a formula.
        """
        if formula is None:
            if callable(structure):
                raise ValueError(f"structure {id!r} is given as a function: its formula must be given too")
            key = reduced_formula(structure)
        else:
            key = _formula_key(formula)
        self._buckets.setdefault(key, []).append(_Known(id, structure))
        self._size += 1

    def match(self, structure: Structure) -> Id | None:
        """Id of the earliest added crystal that StructureMatcher calls the same; None where there is none."""
        bucket = self._buckets.get(reduced_formula(structure))
        if not bucket:
            return None
        primitive = primitive_cell(structure)
        for known in bucket:
            if _same(known.primitive(), primitive):
                return known.id
        return None


class _Known(Generic[Id]):
    """One remembered crystal, reduced when it is first needed."""

    __slots__ = ("_primitive", "_source", "id")

    def __init__(self, id: Id, source: Structure | Callable[[], Structure]) -> None:
        self.id = id
        self._source: Structure | Callable[[], Structure] | None = source
        self._primitive: Structure | None = None

    def primitive(self) -> Structure:
        if self._primitive is None:
            source = self._source
            self._primitive = primitive_cell(source() if callable(source) else source)
            self._source = None
        return self._primitive


def same_crystal(first: Structure, second: Structure) -> bool:
    """Whether StructureMatcher calls two structures the same."""
    if reduced_formula(first) != reduced_formula(second):
        return False
    return _same(primitive_cell(first), primitive_cell(second))


def _same(first: Structure, second: Structure) -> bool:
    return bool(structure_matcher().fit(first, second, skip_structure_reduction=True))


def primitive_cell(structure: Structure) -> Structure:
    """The Niggli-reduced primitive cell that StructureMatcher compares; charges on species are dropped."""
    from pymatgen.core import Lattice, Structure

    matrix = np.array(structure.lattice.matrix)
    coords = np.array(structure.frac_coords)
    # The Niggli reduction wants a right-handed cell. Exchanging two vectors changes nothing but the handedness.
    if np.linalg.det(matrix) < 0:
        matrix, coords = matrix[[1, 0, 2]], coords[:, [1, 0, 2]]
    cell = Structure(Lattice(matrix), ordered_symbols(structure), coords, to_unit_cell=True)
    while True:
        n_sites = len(cell)
        cell = cell.get_reduced_structure(reduction_algo="niggli").get_primitive_structure()
        # One pass, as in the matcher itself, leaves some supercells unreduced, which then do not match their own cell.
        if len(cell) == n_sites:
            return cell


def reduced_formula(structure: Structure) -> str:
    """Key of a composition up to a factor, elements in alphabetical order."""
    return _key(structure.composition.element_composition)


def _formula_key(formula: str) -> str:
    from pymatgen.core import Composition

    return _key(Composition(formula).element_composition)


def _key(composition: Any) -> str:
    # Not pymatgen's own reduced formula: it orders by electronegativity (and warns for helium), and O2 stays O2.
    counts = {element.symbol: round(amount) for element, amount in composition.items()}
    divisor = int(np.gcd.reduce(list(counts.values()))) if counts else 1
    return " ".join(f"{symbol}{count // max(divisor, 1)}" for symbol, count in sorted(counts.items()))
