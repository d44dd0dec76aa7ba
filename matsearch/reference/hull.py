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
TOGETHER = 100  # linear programmes in one call of the solver


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
    _within: dict[bytes, np.ndarray] = field(default_factory=dict, repr=False)

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
        self._column = {symbol: index for index, symbol in enumerate(self.elements)}
        self._systems = _systems(self.fractions)

    def at(self, composition: Mapping[str, float]) -> HullPoint:
        """The hull energy at a composition, and the mixture of phases that has it.

        Args:
            composition: Symbol to amount, atomic fractions or not; all among `elements`.

        Raises:
            KeyError: An element is not in the hull.
        """
        amounts = {symbol: amount for symbol, amount in composition.items() if amount > 0}
        target = np.zeros(len(self.elements))
        for symbol, amount in amounts.items():
            target[self._column[symbol]] = amount / sum(amounts.values())
        return self._point(target, self._phases_within(_systems(target[None])[0]))

    def energies_at(self, fractions: np.ndarray) -> np.ndarray:
        """The hull energies at many compositions, atomic fractions [n, n_elements]; [n] in eV/atom."""
        systems = _systems(fractions)
        return self._solve_many(
            [(target, self._phases_within(system)) for target, system in zip(fractions, systems, strict=True)]
        )

    def above(self) -> np.ndarray:
        """Each phase's own energy above the hull, [n_phases] in eV/atom; 0 on it."""
        heights = np.empty(len(self.energies))
        stable = np.zeros(0, dtype=int)
        systems, members = np.unique(self._systems, axis=0, return_inverse=True)
        order = np.argsort(members.ravel(), kind="stable")
        inside = np.split(order, np.cumsum(np.bincount(members.ravel()))[:-1])
        sizes = _n_elements(systems)
        # Smaller systems first: of those inside a system only what is on their own hulls can be on its hull.
        for size in np.unique(sizes):
            questions: list[tuple[np.ndarray, np.ndarray]] = []
            lowest_of: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
            for index in np.flatnonzero(sizes == size):
                lowest, of_own = self._lowest(inside[index])
                smaller = stable[_is_within(self._systems[stable], systems[index])]
                phases = np.concatenate([smaller, lowest])
                questions += [(self.fractions[one], phases) for one in lowest]
                lowest_of.append((inside[index], lowest, of_own))
            hull = self._solve_many(questions)
            start, found = 0, [stable]
            for own, lowest, of_own in lowest_of:
                above = self.energies[own] - hull[start : start + len(lowest)][of_own]
                # The solver stops at 1e-7; a phase on the hull is exactly on it.
                heights[own] = np.where(np.abs(above) < 1e-6, 0.0, above)
                found.append(lowest[heights[lowest] == 0.0])
                start += len(lowest)
            stable = np.concatenate(found)
        return heights

    def _solve_many(self, questions: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Hull energies at atomic fractions [n_elements], each over its own phases; eV/atom."""
        from scipy.optimize import linprog
        from scipy.sparse import block_diag

        energies = np.empty(len(questions))
        # Programmes that share nothing are solved as one: calling the solver takes ten times as long as its work.
        for start in range(0, len(questions), TOGETHER):
            part = questions[start : start + TOGETHER]
            columns = [np.flatnonzero(target) for target, _ in part]
            blocks = [self.fractions[np.ix_(rows, used)].T for (_, rows), used in zip(part, columns, strict=True)]
            wanted = np.concatenate([target[used] for (target, _), used in zip(part, columns, strict=True)])
            costs = np.concatenate([self._formation[rows] for _, rows in part])
            matrix = block_diag(blocks, format="csc")
            result = linprog(costs, A_eq=matrix, b_eq=wanted, bounds=(0, None), method="highs")
            if not result.success:
                raise ArithmeticError(f"the linear programme of the hull failed: {result.message}")
            paid = np.add.reduceat(result.x * costs, np.cumsum([0, *(len(rows) for _, rows in part[:-1])]))
            energies[start : start + len(part)] = [
                own + float(target @ self._references) for own, (target, _) in zip(paid, part, strict=True)
            ]
        return energies

    def _point(self, target: np.ndarray, phases: np.ndarray) -> HullPoint:
        """The hull over some phases, at atomic fractions [n_elements]."""
        columns = np.flatnonzero(target)
        shares = self._solve(self.fractions[np.ix_(phases, columns)], self._formation[phases], target[columns])
        present = np.flatnonzero(shares > NEGLIGIBLE)
        mixture = {int(phases[index]): float(shares[index] / shares[present].sum()) for index in present}
        energy = float(shares @ self._formation[phases] + target[columns] @ self._references[columns])
        return HullPoint(energy, mixture)

    def _phases_within(self, system: np.ndarray) -> np.ndarray:
        """Indices of the lowest phase of each composition inside a chemical system."""
        key = system.tobytes()
        if key not in self._within:
            self._within[key], _ = self._lowest(np.flatnonzero(_is_within(self._systems, system)))
        return self._within[key]

    def _lowest(self, phases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of some phases the lowest of each composition, and which of these each of them stands behind."""
        order = phases[np.argsort(self._formation[phases], kind="stable")]
        used = self.fractions[order].any(axis=0)
        _, first, groups = np.unique(
            self.fractions[np.ix_(order, used)].round(9), axis=0, return_index=True, return_inverse=True
        )
        back = np.empty(len(phases), dtype=int)
        back[np.argsort(self._formation[phases], kind="stable")] = groups.ravel()
        return order[first], back

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


def _systems(fractions: np.ndarray) -> np.ndarray:
    """[n, ...] the elements of each composition as bits."""
    packed = np.packbits(fractions > 0, axis=1)
    words = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), dtype=np.uint8)
    words[:, : packed.shape[1]] = packed
    return words.view(np.uint64)


def _is_within(systems: np.ndarray, system: np.ndarray) -> np.ndarray:
    """[n] whether each chemical system holds no element that is not in the one given."""
    within = np.ones(len(systems), dtype=bool)
    for word, allowed in zip(systems.T, system, strict=True):
        within &= (word & ~allowed) == 0
    return within


def _n_elements(systems: np.ndarray) -> np.ndarray:
    counts: np.ndarray = np.unpackbits(systems.view(np.uint8), axis=1).sum(axis=1)
    return counts
