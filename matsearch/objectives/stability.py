"""Energies held against the known phases: above their hull, of formation, of decomposition."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from matsearch.objectives.base import Objective, ObjectiveContext
from matsearch.records import Direction, Rejection, Relaxed, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.reference.known import Reference

_TERM = re.compile(r"([A-Z][a-z]?)([0-9.]*)")  # of a reduced formula, which has no brackets


class ReferenceObjective(Objective):
    """What asks the known phases, on the same potential as the crystals."""

    needs: tuple[str, ...] = ("hull",)

    def __init__(self, context: ObjectiveContext) -> None:
        self._context = context

    @cached_property
    def reference(self) -> Reference:
        """The campaign's, or the one that the package ships for the potential.

        Raises:
            MissingReferenceError: There is none.
        """
        if self._context.reference is not None:
            return self._context.reference
        from matsearch.reference.known import reference_of

        return reference_of(self._context.potential)


class EnergyAboveHull(ReferenceObjective):
    """Energy above the hull of the reference phases, in eV/atom.

    Candidates are never part of the hull, so a new stable crystal comes out negative. Reference and candidate stand on
    the same potential, the same corrections and the same relaxation.
    """

    name = "energy_above_hull"
    unit = "eV/atom"
    direction: Direction = "min"

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """eV/atom, or a rejection `no_reference` where the reference does not cover the elements.

        Raises:
            MissingReferenceError: No reference exists for this potential.
            MixedHullError: A crystal was relaxed on another potential.
        """
        return [self.reference.height(one) for one in relaxed]


class FormationEnergy(ReferenceObjective):
    """Energy of formation from the elements, each in its lowest known phase on the same potential, in eV/atom."""

    name = "formation_energy"
    unit = "eV/atom"
    direction: Direction = "min"

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """eV/atom; reasons and errors as for `energy_above_hull`."""
        return [self._value(one) for one in relaxed]

    def _value(self, relaxed: Relaxed) -> float | Rejection:
        if isinstance(above := self.reference.height(relaxed), Rejection):
            return above
        elements = 0.0
        for symbol, share in fractions_of(relaxed.structure).items():
            # An atom of energy 0 lies above the hull by as much as the element lies below 0.
            depth = self.reference.energy_above_hull(symbol, 0.0)
            if isinstance(depth, Rejection):
                return depth
            elements -= share * depth
        return relaxed.energy_per_atom - elements


class DecompositionEnergy(ReferenceObjective):
    """Energy against the best mixture of known phases of other compositions, in eV/atom.

    As the energy above hull, but phases of the crystal's own composition do not compete: a stable crystal comes out as
    far below 0 as decomposing would cost, known or not. Source: C. J. Bartel, J. Mater. Sci. 57, 10475 (2022).
    """

    name = "decomposition_energy"
    unit = "eV/atom"
    direction: Direction = "min"

    def __init__(self, context: ObjectiveContext) -> None:
        super().__init__(context)
        self._mixtures: dict[str, float | Rejection] = {}

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """eV/atom; `no_competitors` for a pure element, other reasons and errors as for `energy_above_hull`."""
        return [self._value(one) for one in relaxed]

    def _value(self, relaxed: Relaxed) -> float | Rejection:
        if isinstance(above := self.reference.height(relaxed), Rejection):
            return above
        formula = relaxed.structure.composition.element_composition.reduced_formula
        if formula not in self._mixtures:
            self._mixtures[formula] = self._mixture(relaxed.structure)
        mixture = self._mixtures[formula]
        return mixture if isinstance(mixture, Rejection) else relaxed.energy_per_atom - mixture

    def _mixture(self, structure: Structure) -> float | Rejection:
        """Lowest energy of a mixture of other compositions, eV/atom."""
        from matsearch.reference.hull import Hull

        shares = fractions_of(structure)
        if len(shares) == 1:
            return Rejection(Stage.SCORE, "no_competitors", "a pure element cannot fall apart into other compositions")
        symbols, fractions, energies = self._lowest
        own = np.array([shares.get(symbol, 0.0) for symbol in symbols])
        others = (fractions[:, own == 0].sum(axis=1) == 0) & (np.abs(fractions - own).max(axis=1) > 1e-6)
        return Hull(sorted(shares), fractions[others][:, own > 0], energies[others]).at(shares).energy

    @cached_property
    def _lowest(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Elements, known compositions [n, n_elements], and the energy of the lowest phase of each [n] in eV/atom."""
        symbols, fractions, rows = compositions_of(self.reference)
        energies = np.full(len(fractions), np.inf)
        np.minimum.at(energies, rows, self.reference.phases["energy_per_atom"].to_numpy())
        return symbols, fractions, energies


def fractions_of(structure: Structure) -> dict[str, float]:
    """Atomic fraction of each element, by symbol."""
    composition = structure.composition.element_composition
    return {element.symbol: float(composition.get_atomic_fraction(element)) for element in composition.elements}


def compositions_of(reference: Reference) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The compositions of a reference's phases.

    Returns:
        Elements, sorted; atomic fractions [n_compositions, n_elements], each composition once; [n_phases] the row of
        each phase's composition, in the order of `reference.phases`.
    """
    unique, rows = np.unique(reference.phases["formula"].to_numpy(dtype=str), return_inverse=True)
    amounts = [dict(_TERM.findall(formula)) for formula in unique]
    symbols = sorted({symbol for one in amounts for symbol in one})
    column = {symbol: number for number, symbol in enumerate(symbols)}
    table = np.zeros((len(unique), len(symbols)))
    for row, one in enumerate(amounts):
        for symbol, amount in one.items():
            table[row, column[symbol]] = float(amount or 1)
    return symbols, table / table.sum(axis=1, keepdims=True), rows
