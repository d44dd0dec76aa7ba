"""Elemental referencing: composition energies refitted to the labels of another functional or method.

A network learns what a composition energy per element leaves of the energy. Labels of another functional come with
another zero, tens of eV/atom away and different for each element; until it is taken out, they say nothing about
bonding. What is refitted here is the residual: the label without what the network gives already,

    r = E_ref - E_network,      r / n = sum over elements of x e_element + noise,

with x the fractions of the composition. Only what differs from the old references is fitted, and it is shrunk towards
none: minimise |X e - r/n|² + ridge |e - e_old|². So an element without data keeps its old reference (plain least
squares gives it zero), and elements that only come together share what their sum shows. The ridge is that of the
largest evidence: the squared ratio of the noise to the spread of the shifts under which the data are the most probable
(both Gaussian; MacKay, Neural Comput. 4, 415 (1992)): next to none for shifts of tens of eV and a noise of tens of meV.
A noise far above `USUAL_NOISE` is held to be improbable (a normal prior): few labels that share no element could as
well be all noise.

Which references are `old` is the caller's: what labels do not show stays tens of eV wrong where the zero is another.
The shift of the energies of the elements between the two functionals, where it is known, is a far better start
(`benchmarks/referencing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from matsearch.records import Rejection

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.potential.base import Potential
    from matsearch.potential.corrected import CorrectedPotential

OUTLIER = 8.0
"""Robust standard deviations (1.4826 times the median of the absolute misses) beyond which a label is left out."""
LEAST_SPREAD = 1e-4
"""eV/atom; the least standard deviation that labels are held to, however alike they are."""
LEAST_SPARE = 5
"""Labels beyond those that the references use up; with fewer, no label can be told to be wrong."""
MOST_LEVERAGE = 1 - 1e-9
"""Of a label on the fit: one that it follows exactly."""
USUAL_NOISE = 0.1
"""eV/atom; of labels about composition energies, where a network has the rest."""
RIDGES = np.logspace(-10, 3, 261)
"""Tried; in units of one label per unit of squared fraction."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A label that was not fitted.

    Attributes:
        index: Its place among those given.
        reason: Why, with its number.
    """

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class References:
    """Composition energies by element.

    Attributes:
        symbols: The elements.
        energies: [n_elements] in eV/atom; the old one where `n_labels` is 0.
        uncertainties: [n_elements] standard deviations in eV/atom, given the labels; of an element without labels, the
            spread of the shifts of the others. With fewer than `LEAST_SPARE` labels to spare, which tell no noise, that
            is taken to be `USUAL_NOISE` at least.
        n_labels: [n_elements] fitted labels that hold the element.
        ridge: By the largest evidence.
        noise: Standard deviation in eV/atom of what references cannot explain, by the largest evidence.
        left_out: Labels that were not fitted.
    """

    symbols: tuple[str, ...]
    energies: np.ndarray
    uncertainties: np.ndarray
    n_labels: np.ndarray
    ridge: float
    noise: float
    left_out: tuple[LeftOut, ...] = ()

    def as_dict(self) -> dict[str, float]:
        """Symbol to eV/atom."""
        return dict(zip(self.symbols, self.energies.tolist(), strict=True))


def refit(counts: np.ndarray, residuals: np.ndarray, old: np.ndarray, symbols: Sequence[str]) -> References:
    """Composition energies that explain residuals, shrunk towards old ones, outliers left out.

    Outliers are found from a fit in which a miss counts by its magnitude and not its square (iterated weights), so that
    a few wrong labels move it little. A label is one where the fit misses it by more than `OUTLIER` robust standard
    deviations, leverage allowed for; the others are fitted, and all are held against that fit until nothing changes.
    The one label that holds an element cannot be told from a shift of that element and is no outlier; of several that
    contradict each other, all are. With fewer than `LEAST_SPARE` labels to spare none is; where labels are hardly more
    than elements a wrong one can still pass, or draw right ones out with it.

    Args:
        counts: [n_labels, n_elements] atoms of each element.
        residuals: [n_labels] E_ref - E_network in eV, of the whole crystal.
        old: [n_elements] in eV/atom.
        symbols: The elements.

    Raises:
        ValueError: Shapes do not agree, a number is not finite, or a crystal has no atom.
    """
    counts, residuals, old = (np.asarray(one, dtype=float) for one in (counts, residuals, old))
    if counts.shape != (len(residuals), len(symbols)) or old.shape != (len(symbols),) or not len(residuals):
        raise ValueError(
            f"counts must be [n_labels={len(residuals)}, n_elements={len(symbols)}] and old [n_elements], with at "
            f"least one label; got {counts.shape} and {old.shape}"
        )
    if not all(np.isfinite(one).all() for one in (counts, residuals, old)):
        raise ValueError("counts, residuals and old references must be finite")
    sizes = counts.sum(1)
    if (counts < 0).any() or (sizes <= 0).any():
        raise ValueError("every crystal must hold at least one atom, and no element less than none")
    fractions, shifts = counts / sizes[:, None], residuals / sizes - counts @ old / sizes
    kept = _inliers(fractions, shifts)
    fit = _Fit.of_largest_evidence(fractions[kept], shifts[kept])
    spare = kept.sum() - fit.absorbed(fractions[kept])
    noise = fit.noise if spare >= LEAST_SPARE else max(fit.noise, USUAL_NOISE)
    misses = shifts - fractions @ fit.shifts
    left_out = tuple(
        LeftOut(int(index), f"{misses[index]:+.3f} eV/atom from the fit, whose noise is {fit.noise:.3f} eV/atom")
        for index in np.flatnonzero(~kept)
    )
    return References(
        symbols=tuple(symbols),
        energies=old + fit.shifts,
        uncertainties=noise * np.sqrt(np.diag(fit.spread)),
        n_labels=(counts[kept] > 0).sum(0),
        ridge=fit.ridge,
        noise=fit.noise,
        left_out=left_out,
    )


def refit_potential(
    potential: Potential,
    structures: Sequence[Structure],
    energies: Sequence[float],
    energy_scale: str,
    towards: Mapping[str, float] | None = None,
) -> tuple[CorrectedPotential, References]:
    """A potential with composition energies that suit labels of another functional or method, and those.

    Args:
        potential: Declares composition energies and computes on batches, such as CHGNet.
        structures: Any number, of elements that it knows.
        energies: Label of each in eV.
        energy_scale: What the labels mean.
        towards: References in eV/atom that the new ones are shrunk towards, where something better is known than the
            potential's own; of some elements or all.

    Raises:
        PotentialError: The potential declares no composition energies, or was not trained on an element.
        ValueError: As `refit`, as many labels as structures were not given, the potential gives no structure an energy,
            or does not know an element that references are shrunk towards.
    """
    from matsearch.errors import PotentialError
    from matsearch.potential.corrected import CorrectedPotential, Correction

    if potential.energy_references is None:
        raise PotentialError(f"{potential.name} declares no composition energies (energy_references) to refit")
    if len(structures) != len(energies):
        raise ValueError(f"{len(structures)} structures, but {len(energies)} energies")
    if unknown := sorted((towards or {}).keys() - potential.energy_references.keys()):
        raise ValueError(
            f"references to shrink towards are given for {', '.join(unknown)}, unknown to {potential.name}"
        )
    symbols, own = zip(*potential.energy_references.items(), strict=True)
    old = np.array([(towards or {}).get(symbol, reference) for symbol, reference in zip(symbols, own, strict=True)])
    predicted = potential.energies(structures)
    known = [index for index, one in enumerate(predicted) if not isinstance(one, Rejection)]
    refused = [LeftOut(i, one.detail) for i, one in enumerate(predicted) if isinstance(one, Rejection)]
    if refused and not known:
        raise ValueError(f"{potential.name} gives none of {len(refused)} structures an energy: {refused[0].reason}")
    counts = composition_counts([structures[index] for index in known], symbols)
    network = np.array([predicted[index] for index in known], dtype=float) - counts @ np.array(own)
    found = refit(counts, np.array([energies[index] for index in known]) - network, old, symbols)
    left_out = [LeftOut(known[one.index], one.reason) for one in found.left_out]
    references = replace(found, left_out=tuple(sorted([*left_out, *refused], key=lambda one: one.index)))
    correction = Correction(base=potential.name, energy_references=references.as_dict(), energy_scale=energy_scale)
    return CorrectedPotential(potential, correction), references


def composition_counts(structures: Sequence[Structure], symbols: Sequence[str]) -> np.ndarray:
    """[n_structures, n_elements] atoms of each element.

    Raises:
        ValueError: A structure holds another element.
    """
    column = {symbol: index for index, symbol in enumerate(symbols)}
    counts = np.zeros((len(structures), len(symbols)))
    for row, structure in enumerate(structures):
        for site in structure:
            symbol = site.specie.symbol
            if symbol not in column:
                raise ValueError(f"structure {row} holds {symbol}, for which there is no reference")
            counts[row, column[symbol]] += 1
    return counts


@dataclass(frozen=True, slots=True)
class _Fit:
    """A ridge fit.

    Attributes:
        shifts: [n_elements] of the references in eV/atom.
        spread: [n_elements, n_elements] their covariance over `noise`².
        ridge: See `References`.
        noise: See `References`.
    """

    shifts: np.ndarray
    spread: np.ndarray
    ridge: float
    noise: float

    @classmethod
    def of_largest_evidence(cls, fractions: np.ndarray, shifts: np.ndarray) -> _Fit:
        """The fit under whose noise and spread of shifts the labels are the most probable."""
        left, singular, _ = np.linalg.svd(fractions, full_matrices=False)
        squares, along = singular**2, left.T @ shifts
        # What no reference can explain; at least rounding, so that exact labels have a noise as well.
        beyond = max(float(shifts @ shifts - along @ along), 0.0) + len(shifts) * 1e-12

        def misfit(ridge: float) -> float:
            return float(beyond + (along**2 * ridge / (squares + ridge)).sum())

        def evidence(ridge: float) -> float:
            unusual = misfit(ridge) / len(shifts) / USUAL_NOISE**2
            return float(-len(shifts) * np.log(misfit(ridge)) - np.log1p(squares / ridge).sum() - unusual)

        ridge = float(max(RIDGES, key=evidence))
        spread = np.linalg.inv(fractions.T @ fractions + ridge * np.eye(fractions.shape[1]))
        return cls(spread @ (fractions.T @ shifts), spread, ridge, float(np.sqrt(misfit(ridge) / len(shifts))))

    def misses(self, fractions: np.ndarray, shifts: np.ndarray, fitted: np.ndarray) -> np.ndarray:
        """[n_labels] what the fit leaves of each label in eV/atom, over what it should leave at a noise of 1.

        Less than the noise of a label that was fitted, since it pulled at the fit; more of another, by what the fit
        does not know: without bound where no fitted label holds the element.
        """
        leverages = np.einsum("ne,ef,nf->n", fractions, self.spread, fractions)
        expected = np.where(fitted, 1 - np.minimum(leverages, MOST_LEVERAGE), 1 + leverages)
        left: np.ndarray = (shifts - fractions @ self.shifts) / np.sqrt(expected)
        return left

    def absorbed(self, fractions: np.ndarray) -> int:
        """How many of the fitted labels the references use up."""
        return int(np.ceil(np.einsum("ne,ef,nf->", fractions, self.spread, fractions)))


def _inliers(fractions: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """[n_labels] whether each label is to be fitted."""
    everything = np.ones(len(shifts), dtype=bool)
    absorbed = _Fit.of_largest_evidence(fractions, shifts).absorbed(fractions)
    if len(shifts) - absorbed < LEAST_SPARE:
        return everything
    misses = shifts - fractions @ _least_magnitudes(fractions, shifts)
    kept = np.abs(misses) <= OUTLIER * _deviation(misses, absorbed)
    seen = [kept]
    while True:
        fit = _Fit.of_largest_evidence(fractions[kept], shifts[kept])
        misses = fit.misses(fractions, shifts, kept)
        held = np.abs(misses) <= OUTLIER * _deviation(misses[kept], fit.absorbed(fractions[kept]))
        if (held == kept).all():
            return kept
        if any((held == before).all() for before in seen):
            return kept & held  # labels that contradict each other: none of them
        seen.append(held)
        kept = held


def _least_magnitudes(fractions: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """[n_elements] shifts by iterated weights, which come near the fit of the least sum of magnitudes."""
    weights = np.ones(len(shifts))
    for _ in range(30):
        scaled = fractions * weights[:, None]
        # The least ridge there is: references that the labels do not show must not blow up.
        gram = scaled.T @ fractions + RIDGES[0] * np.eye(fractions.shape[1])
        found: np.ndarray = np.linalg.solve(gram, scaled.T @ shifts)
        misses = np.abs(shifts - fractions @ found)
        weights = 1 / np.maximum(misses, max(float(np.median(misses)), LEAST_SPREAD))
    return found


def _deviation(misses: np.ndarray, absorbed: int) -> float:
    """Robust standard deviation in eV/atom; as many of the least misses as the references use up do not count."""
    counted = np.sort(np.abs(misses))[min(absorbed, len(misses) - 1) :]
    return max(1.4826 * float(np.median(counted)), LEAST_SPREAD)
