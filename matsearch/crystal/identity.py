"""Whether two structures are the same crystal: by their numbers, or by StructureMatcher."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from matsearch.crystal.fingerprint import fingerprint as fingerprint_of
from matsearch.crystal.mapping import ANGLE_TOL, LENGTH_TOL, SITE_TOL, ReducedCell, proven
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

    return StructureMatcher(ltol=LENGTH_TOL, stol=SITE_TOL, angle_tol=ANGLE_TOL)


class KnownStructures(Generic[Id]):
    """Crystals to compare with, in buckets of one reduced formula.

    Adding costs next to nothing: a structure given as a function is only made, and any structure only reduced to its
    primitive cell, when the first candidate of its formula comes.

    Answers are those of `StructureMatcher.fit(known, candidate)`, with two exceptions, both to the good: a supercell
    that one pass of pymatgen's reduction leaves unreduced still matches its own cell, and charges on species do not
    matter. D is H, as it is to StructureMatcher.
    """

    def __init__(self) -> None:
        self._buckets: dict[str, list[_Known[Id]]] = {}
        self._size = 0
        self._last: tuple[Structure, ReducedCell] | None = None

    def __len__(self) -> int:
        return self._size

    def add(
        self,
        id: Id,
        structure: Structure | Callable[[], Structure],
        formula: str | None = None,
        *,
        reduced: bool = False,
        fingerprint: np.ndarray | None = None,
    ) -> None:
        """Remember a crystal.

        Args:
            id: What `match` returns for it.
            structure: The crystal, which must not be changed afterwards, or a function that makes it.
            formula: Its formula; needed where a function is given.
            reduced: The structure is what `primitive_cell` makes of it, so that nothing is left to be reduced.
            fingerprint: [12] of `crystal.fingerprint`, where it is at hand; `match_any` computes it otherwise.

        Raises:
            ValueError: A function without a formula.
            TextError: `disordered`.
        """
        if formula is None:
            if callable(structure):
                raise ValueError(f"structure {id!r} is given as a function: its formula must be given too")
            key = reduced_formula(structure)
        else:
            key = _formula_key(formula)
        known = _Known(id, structure, reduced, fingerprint)
        # What was just asked for and is new is often added next: it is not reduced twice.
        if self._last is not None and structure is self._last[0]:
            known.keep(self._last[1])
        self._buckets.setdefault(key, []).append(known)
        self._size += 1

    def match(self, structure: Structure) -> Id | None:
        """Id of the earliest added crystal that StructureMatcher calls the same; None where there is none.

        Raises:
            TextError: `disordered`.
        """
        bucket = self._buckets.get(reduced_formula(structure))
        if not bucket:
            return None
        cell = self._reduce(structure)
        return next((known.id for known in bucket if _same(known.cell(), cell)), None)

    def match_any(self, structure: Structure) -> Id | None:
        """Id of some crystal that StructureMatcher calls the same, the one with the nearest fingerprint first.

        Faster than `match` where many crystals of one formula are known and it does not matter which one is met.

        Raises:
            TextError: `disordered`.
        """
        bucket = self._buckets.get(reduced_formula(structure))
        if not bucket:
            return None
        cell = self._reduce(structure)
        if len(bucket) > 1:
            own = fingerprint_of(cell.structure).astype(int)
            bucket = sorted(bucket, key=lambda known: int(np.abs(known.fingerprint() - own).sum()))
        return next((known.id for known in bucket if _same(known.cell(), cell)), None)

    def _reduce(self, structure: Structure) -> ReducedCell:
        cell = ReducedCell(primitive_cell(structure))
        self._last = structure, cell
        return cell


class _Known(Generic[Id]):
    """One remembered crystal, made and reduced when it is first needed."""

    __slots__ = ("_cell", "_fingerprint", "_reduced", "_source", "id")

    def __init__(
        self, id: Id, source: Structure | Callable[[], Structure], reduced: bool, fingerprint: np.ndarray | None
    ) -> None:
        self.id = id
        self._source: Structure | Callable[[], Structure] | None = source
        self._reduced = reduced
        self._fingerprint = fingerprint
        self._cell: ReducedCell | None = None

    def cell(self) -> ReducedCell:
        if self._cell is not None:
            return self._cell
        source = self._source
        structure = source() if callable(source) else source
        return self.keep(ReducedCell(structure if self._reduced else primitive_cell(structure)))

    def keep(self, cell: ReducedCell) -> ReducedCell:
        self._cell = cell
        self._source = None
        return cell

    def fingerprint(self) -> np.ndarray:
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(self.cell().structure)
        return self._fingerprint


def same_crystal(first: Structure, second: Structure) -> bool:
    """Whether StructureMatcher calls two structures the same.

    Raises:
        TextError: `disordered`.
    """
    if reduced_formula(first) != reduced_formula(second):
        return False
    return _same(ReducedCell(primitive_cell(first)), ReducedCell(primitive_cell(second)))


def _same(first: ReducedCell, second: ReducedCell) -> bool:
    verdict = proven(first, second)
    if verdict is None:
        verdict = bool(structure_matcher().fit(first.structure, second.structure, skip_structure_reduction=True))
    return verdict


def primitive_cell(structure: Structure) -> Structure:
    """The Niggli-reduced primitive cell that StructureMatcher compares; charges on species are dropped.

    Raises:
        TextError: `disordered`.
    """
    from pymatgen.core import Lattice, Structure

    symbols = ordered_symbols(structure)
    matrix = np.array(structure.lattice.matrix)
    coords = np.array(structure.frac_coords)
    # The Niggli reduction wants a right-handed cell. Exchanging two vectors changes nothing but the handedness.
    if np.linalg.det(matrix) < 0:
        matrix, coords = matrix[[1, 0, 2]], coords[:, [1, 0, 2]]
    while True:
        lattice = Lattice(matrix).get_niggli_reduced_lattice()
        coords = np.mod(coords @ matrix @ lattice.inv_matrix, 1.0)
        cell = Structure(lattice, symbols, coords)
        if not _may_be_smaller(cell, symbols):
            return cell
        smaller = cell.get_primitive_structure()
        if len(smaller) == len(cell):
            return cell
        # One pass, as in the matcher itself, leaves some supercells unreduced, which then do not match their own cell.
        symbols = ordered_symbols(smaller)
        matrix, coords = np.array(smaller.lattice.matrix), np.array(smaller.frac_coords)


def _may_be_smaller(cell: Structure, symbols: list[str]) -> bool:
    """Whether `get_primitive_structure` can find a smaller cell; False spares most crystals its search."""
    from pymatgen.util.coord_cython import is_coord_subset_pbc

    counts = Counter(symbols)
    # As many atoms of every kind fall on each other as the smaller cell is smaller.
    most = int(np.gcd.reduce(list(counts.values())))
    if most == 1:
        return False
    tolerance = 0.25 / np.array(cell.lattice.abc)  # pymatgen's own, in Å
    if tolerance.max() >= 1 / most:
        return True
    kinds = np.array(symbols)
    unlike = (kinds[:, None] != kinds).astype(np.int64)
    coords = np.ascontiguousarray(cell.frac_coords)
    rarest = coords[kinds == min(counts, key=lambda symbol: counts[symbol])]
    # A translation takes a rarest atom to another one, and every atom to one of its kind.
    return any(
        is_coord_subset_pbc(coords + shift, coords, 2 * tolerance * (1 + 1e-6), unlike)
        for shift in rarest[1:] - rarest[0]
    )


def reduced_formula(structure: Structure) -> str:
    """Key of a composition up to a factor, elements in alphabetical order.

    Raises:
        TextError: `disordered`.
    """
    return _key(Counter(ordered_symbols(structure)))


def _formula_key(formula: str) -> str:
    from pymatgen.core import Composition

    return _key({element.symbol: round(amount) for element, amount in Composition(formula).element_composition.items()})


def _key(counts: Mapping[str, int]) -> str:
    # Not pymatgen's own reduced formula: it orders by electronegativity (and warns for helium), and O2 stays O2.
    divisor = int(np.gcd.reduce(list(counts.values()))) if counts else 1
    return " ".join(f"{symbol}{count // max(divisor, 1)}" for symbol, count in sorted(counts.items()))
