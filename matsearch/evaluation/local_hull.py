"""The hull of a potential that has none, made only where it is asked for.

Of each asked composition only those known phases count that could compete: by another potential's energies they lie
within `WINDOW` of the plane that touches its hull there. All of them get a single point as listed; those of which the
composition would be a mixture are relaxed, until the mixture is one of relaxed phases. What comes out is an upper bound
in two ways: a phase further from that plane is not seen, nor one that only relaxation would bring into the mixture. The
latter matters little: with SevenNet-0 a phase as listed gains 4 meV/atom in the median and 14 in one of twenty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from matsearch.evaluation.corrections import correction
from matsearch.evaluation.energies import Energies
from matsearch.records import Rejection, Stage
from matsearch.reference.catalogue import Catalogue, amounts_in
from matsearch.reference.hull import NEGLIGIBLE
from matsearch.reference.known import Reference, fractions_of

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

WINDOW = 0.1
"""eV/atom; two good potentials differ by some 0.02 on phases near the hull."""


@dataclass(frozen=True)
class Plane:
    """The hull at one composition.

    Attributes:
        energy: eV/atom.
        shares: [n_phases] of the atoms in the mixture of lowest energy.
        heights: [n_phases] of each phase above the plane that touches the hull there, eV/atom.
    """

    energy: float
    shares: np.ndarray
    heights: np.ndarray


def touching_plane(fractions: np.ndarray, energies: np.ndarray, target: np.ndarray) -> Plane:
    """The hull of phases at one composition.

    Args:
        fractions: [n_phases, n_elements] atomic fractions, a phase of each pure element among them.
        energies: [n_phases] in eV/atom.
        target: [n_elements] atomic fractions.
    """
    from scipy.optimize import linprog

    # In formation energies: totals of -1 to -10 eV/atom would eat the solver's tolerance.
    pure = np.array([energies[fractions[:, column] == 1.0].min() for column in range(len(target))])
    costs = energies - fractions @ pure
    result = linprog(costs, A_eq=fractions.T, b_eq=target, bounds=(0, None), method="highs")
    if not result.success:
        raise ArithmeticError(f"the linear programme of the hull failed: {result.message}")
    return Plane(float(result.fun + target @ pure), result.x, costs - fractions @ result.eqlin.marginals)


class LocalHull:
    """Hull energies by one potential where they are asked for.

    Attributes:
        n_phases: Known phases that have an energy.
        gains: eV/atom that each relaxed phase gained.
        n_failed: Phases whose relaxation failed; their single points stand.
    """

    def __init__(self, energies: Energies, known: Reference, catalogue: Catalogue) -> None:
        """Nothing is computed yet.

        Args:
            energies: Of the potential.
            known: The known phases by another potential, which says what could compete.
            catalogue: Of the same phases: their cells as listed.
        """
        self._source = energies
        self._catalogue = catalogue
        self._phases = known.phases
        self._energies: dict[int, float] = {}
        self._seen: set[int] = set()
        self._relaxed: set[int] = set()
        self.gains: list[float] = []
        self.n_failed = 0

    @property
    def n_phases(self) -> int:
        """Known phases that have an energy."""
        return len(self._energies)

    def at(self, compositions: Sequence[Composition]) -> list[float | Rejection]:
        """Hull energies in eV/atom, corrected; a rejection where an element has no phase."""
        targets = [one.element_composition.get_el_amt_dict() for one in compositions]
        rivals = [self._rivals(target) for target in targets]
        self._compute_single_points({row for rows in rivals if not isinstance(rows, Rejection) for row in rows})
        while True:
            planes = [
                one if isinstance(one, Rejection) else self._plane(target, one)
                for target, one in zip(targets, rivals, strict=True)
            ]
            mixed = {
                rows[index]
                for rows, plane in (one for one in planes if not isinstance(one, Rejection))
                for index in np.flatnonzero(plane.shares > NEGLIGIBLE)
            }
            if not mixed - self._relaxed:
                return [one if isinstance(one, Rejection) else one[1].energy for one in planes]
            self._relax(sorted(mixed - self._relaxed))

    def _rivals(self, target: Mapping[str, float]) -> list[int] | Rejection:
        """Rows of the phases that could compete, the lowest pure elements among them."""
        near = [row for row, own in self._near if own.keys() <= target.keys()]
        amounts = [self._amounts[row] for row in near]
        if missing := _without_pure(target, amounts):
            return _no_phase(missing)
        symbols, fractions = fractions_of(amounts, sorted(target))
        energies = self._phases["energy_per_atom"].to_numpy()[near]
        heights = touching_plane(fractions, energies, _target(target, symbols)).heights
        lowest = {
            min((index for index, own in enumerate(amounts) if own.keys() == {symbol}), key=lambda one: energies[one])
            for symbol in target
        }
        return [near[index] for index in sorted({*np.flatnonzero(heights <= WINDOW).tolist(), *lowest})]

    def _plane(self, target: Mapping[str, float], rivals: Sequence[int]) -> tuple[list[int], Plane] | Rejection:
        rows = [row for row in rivals if row in self._energies]
        amounts = [self._amounts[row] for row in rows]
        if missing := _without_pure(target, amounts):
            return _no_phase(missing)
        symbols, fractions = fractions_of(amounts, sorted(target))
        energies = np.array([self._energies[row] for row in rows])
        return rows, touching_plane(fractions, energies, _target(target, symbols))

    def _compute_single_points(self, rows: set[int]) -> None:
        sizes = self._phases["n_atoms"].to_numpy()
        new = sorted(rows - self._seen, key=lambda row: (sizes[row], row))
        crystals = [self._structure(row) for row in new]
        scale = self._source.potential.energy_scale
        for row, crystal, energy in zip(new, crystals, self._source.as_they_are(crystals), strict=True):
            shift = correction(crystal, scale)
            if not isinstance(energy, Rejection) and not isinstance(shift, Rejection):
                self._energies[row] = energy + shift
        self._seen.update(new)

    def _relax(self, rows: Sequence[int]) -> None:
        crystals = [self._structure(row) for row in rows]
        before = self._source.as_they_are(crystals)
        for row, start, end in zip(rows, before, self._source.relaxed(crystals), strict=True):
            if isinstance(end, Rejection) or isinstance(start, Rejection):
                self.n_failed += 1
                continue
            self._energies[row] += end - start
            self.gains.append(start - end)
        self._relaxed.update(rows)

    def _structure(self, row: int) -> Structure:
        return self._catalogue.structure(self._catalogue.position[self._phases["id"].iloc[row]])

    @cached_property
    def _amounts(self) -> list[dict[str, int]]:
        return [amounts_in(formula) for formula in self._phases["formula"]]

    @cached_property
    def _near(self) -> list[tuple[int, dict[str, int]]]:
        """What lies too far above the hull lies above every plane that touches it at least as far."""
        heights = self._phases["energy_above_hull"].to_numpy()
        return [(row, self._amounts[row]) for row in np.flatnonzero(heights <= WINDOW).tolist()]


def _target(amounts: Mapping[str, float], symbols: Sequence[str]) -> np.ndarray:
    return np.array([amounts[symbol] for symbol in symbols]) / sum(amounts.values())


def _without_pure(target: Mapping[str, float], amounts: Sequence[Mapping[str, float]]) -> list[str]:
    pure = {next(iter(own)) for own in amounts if len(own) == 1}
    return sorted(target.keys() - pure)


def _no_phase(missing: Sequence[str]) -> Rejection:
    return Rejection(Stage.SCORE, "no_reference", f"no known phase of pure {', '.join(missing)} has an energy")
