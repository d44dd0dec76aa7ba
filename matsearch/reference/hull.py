"""The convex hull of known phases, one linear programme a question.

The hull energy of a composition is the lowest energy of any mixture of phases with that composition: minimise
sum(x_i e_i) under sum(x_i c_i) = c, x_i >= 0, where c_i are atomic fractions and e_i energies per atom. Unlike facets
of the hull, whose number explodes with the elements, this takes a few ms for any number of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

# Below this share of the atoms a phase of a mixture is the solver's rounding.
NEGLIGIBLE = 1e-6


@dataclass(frozen=True, slots=True)
class HullPoint:
    """The hull at one composition.

    Attributes:
        energy: eV/atom.
        mixture: Index of a phase to its share of the atoms; shares sum to 1.
    """

    energy: float
    mixture: Mapping[int, float]


@dataclass
class Hull:
    """The lower hull over phases.

    Attributes:
        elements: Symbols, the columns of `fractions`.
        fractions: [n_phases, n_elements] atomic fractions.
        energies: [n_phases] in eV/atom.
    """

    elements: Sequence[str]
    fractions: np.ndarray
    energies: np.ndarray
    _within: dict[frozenset[str], np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        n_phases, n_elements = len(self.energies), len(self.elements)
        if self.fractions.shape != (n_phases, n_elements):
            raise ValueError(
                f"fractions must be [n_phases={n_phases}, n_elements={n_elements}], got {self.fractions.shape}"
            )
        # The programme is solved in formation energies: totals of -1 to -10 eV/atom would eat the solver's tolerance.
        pure = [self.energies[self.fractions[:, column] == 1.0] for column in range(n_elements)]
        if missing := [symbol for symbol, found in zip(self.elements, pure, strict=True) if not len(found)]:
            raise ValueError(f"a hull needs a phase of each pure element; none of {', '.join(missing)}")
        self._references = np.array([found.min() for found in pure])
        self._formation = self.energies - self.fractions @ self._references

    def at(self, composition: Mapping[str, float]) -> HullPoint:
        """The hull energy at a composition, and the mixture of phases that has it.

        Args:
            composition: Symbol to amount, atomic fractions or not; all among `elements`.

        Raises:
            KeyError: An element is not in the hull.
        """
        column = {symbol: index for index, symbol in enumerate(self.elements)}
        amounts = {symbol: amount for symbol, amount in composition.items() if amount > 0}
        total = sum(amounts.values())
        columns = sorted(column[symbol] for symbol in amounts)
        target = np.array([amounts[self.elements[index]] / total for index in columns])
        phases = self._phases_within(frozenset(amounts))
        shares = self._solve(self.fractions[phases][:, columns], self._formation[phases], target)
        present = np.flatnonzero(shares > NEGLIGIBLE)
        mixture = {int(phases[index]): float(shares[index] / shares[present].sum()) for index in present}
        energy = float(shares @ self._formation[phases] + target @ self._references[columns])
        return HullPoint(energy, mixture)

    def above(self) -> np.ndarray:
        """Each phase's own energy above the hull, [n_phases] in eV/atom; 0 on it."""
        found: dict[tuple[float, ...], float] = {}
        heights = np.empty(len(self.energies))
        for index, row in enumerate(self.fractions):
            key = tuple(row)
            if key not in found:
                found[key] = self.at(dict(zip(self.elements, row, strict=True))).energy
            heights[index] = self.energies[index] - found[key]
        # The solver stops at 1e-7; a phase on the hull is exactly on it.
        return np.where(np.abs(heights) < 1e-6, 0.0, heights)

    def _phases_within(self, system: frozenset[str]) -> np.ndarray:
        """Indices of the lowest phase of each composition inside a chemical system."""
        if system not in self._within:
            outside = [index for index, symbol in enumerate(self.elements) if symbol not in system]
            inside = np.flatnonzero(~self.fractions[:, outside].any(axis=1))
            order = inside[np.argsort(self._formation[inside], kind="stable")]
            _, first = np.unique(self.fractions[order].round(9), axis=0, return_index=True)
            self._within[system] = order[np.sort(first)]
        return self._within[system]

    @staticmethod
    def _solve(fractions: np.ndarray, energies: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Shares of the phases in the mixture of lowest energy, [n_phases]."""
        from scipy.optimize import linprog

        if len(energies) == 1:
            return np.ones(1)
        result = linprog(energies, A_eq=fractions.T, b_eq=target, bounds=(0, None), method="highs")
        if not result.success:
            raise ArithmeticError(f"the linear programme of the hull failed: {result.message}")
        return np.asarray(result.x)
