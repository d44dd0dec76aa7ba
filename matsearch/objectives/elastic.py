"""Bulk modulus from an equation of state.

Each crystal is brought to rest and strained to several volumes, its atoms and the shape of its cell are relaxed at
each, and the third-order Birch-Murnaghan equation is fitted to the energies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pymatgen.core import Lattice, Structure

from matsearch.objectives.base import Cost, Objective, ObjectiveContext
from matsearch.objectives.rest import KeptAtRest
from matsearch.potential import Potential
from matsearch.records import Direction, Rejection, Relaxed, Stage
from matsearch.relaxation import relax
from matsearch.units import EV_PER_A3_IN_GPA

LINEAR_STRAINS = (-0.025, -0.0167, -0.0083, 0.0, 0.0083, 0.0167, 0.025)
"""Isotropic strains of the lattice vectors: -7.3 to +7.7 % of volume."""
FORCE_TOL = 0.03
"""eV/Å; what it leaves is quadratic in the force: about 0.05 meV/atom, against a span of 2 meV/atom at 5 GPa."""
MAX_STEPS = 200
MAX_RESIDUAL = 0.03
"""Largest root-mean-square residual of the fit, relative to the span of the energies. With seven volumes the standard
error of the modulus is about 1.5 times that, so 5 %. Crystals on CHGNet mostly leave 0.001-0.01; one that changes phase
between two volumes leaves more than this."""


@dataclass(frozen=True, slots=True)
class EquationOfState:
    """A third-order Birch-Murnaghan fit.

    Attributes:
        volume: At the minimum, in Å^3.
        energy: At the minimum, in eV.
        bulk_modulus: In GPa.
        residual: Root-mean-square residual relative to the span of the energies.
    """

    volume: float
    energy: float
    bulk_modulus: float
    residual: float


class BulkModulus(Objective):
    """Bulk modulus at zero temperature and pressure, in GPa: atoms and shape of the cell relaxed (Reuss-like)."""

    name = "bulk_modulus"
    unit = "GPa"
    direction: Direction = "max"
    cost: Cost = "many"
    needs = ("potential",)

    def __init__(self, context: ObjectiveContext) -> None:
        self._context = replace(context, pressure_gpa=0.0)

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """Bulk modulus of each crystal.

        Reasons of rejection: `not_at_rest`, `eos_relaxation_failed`, `eos_unconverged` (at one of the volumes), and
        those of `fit_equation_of_state`.
        """
        return _KEPT.of(relaxed, self._context)


def bulk_moduli(crystals: Sequence[Structure], potential: Potential) -> list[float | Rejection]:
    """Bulk modulus of each crystal in GPa, in order; for reasons of rejection see `BulkModulus`."""
    strained = [scaled(one, 1.0 + strain) for one in crystals for strain in LINEAR_STRAINS]
    # All volumes of all crystals in one list, so that a batched relaxation can take them together.
    results = relax(strained, potential, FORCE_TOL, MAX_STEPS, cell="fixed_volume", optimizer="lbfgs")
    n = len(LINEAR_STRAINS)
    return [_bulk_modulus(results[start : start + n]) for start in range(0, len(results), n)]


_KEPT: KeptAtRest[float] = KeptAtRest(bulk_moduli)


def fit_equation_of_state(volumes: Sequence[float], energies: Sequence[float]) -> EquationOfState | Rejection:
    """Fit the third-order Birch-Murnaghan equation.

    It is a cubic polynomial in V^(-2/3), hence a linear least-squares problem with one solution.

    Args:
        volumes: Å^3, at least five.
        energies: eV.

    Returns:
        The fit, or a rejection: `eos_minimum_outside` (no minimum within the volumes sampled), `eos_poor_fit` (residual
        above 3 % of the span of the energies).

    Source:
        Birch, Phys. Rev. 71, 809 (1947).
    """
    volume, energy = np.asarray(volumes, dtype=float), np.asarray(energies, dtype=float)
    scale, zero = float(np.median(volume)), float(energy.min())
    x = (volume / scale) ** (-2 / 3)
    # Powers of x - 1, not of x: the same cubic, well conditioned.
    polynomial = np.polynomial.Polynomial.fit(x - 1, energy - zero, deg=3, domain=[-1, 1], window=[-1, 1])
    span = float(np.ptp(energy))
    rms = float(np.sqrt(np.mean((polynomial(x - 1) - (energy - zero)) ** 2)))
    x0 = _minimum(polynomial)
    if x0 is None or not x.min() <= x0 <= x.max():
        return _refuse("eos_minimum_outside", f"no minimum between {volume.min():.2f} and {volume.max():.2f} Å^3")
    if rms > MAX_RESIDUAL * span:
        return _refuse("eos_poor_fit", f"residual {100 * rms / span:.1f} % of the span of the energies")
    v0 = scale * x0**-1.5
    # dE/dV vanishes at the minimum, so V d2E/dV2 = E''(x) (dx/dV)^2 V with dx/dV = -2x/3V.
    modulus = float(polynomial.deriv(2)(x0 - 1)) * 4 / 9 * x0**2 / v0
    return EquationOfState(v0, zero + float(polynomial(x0 - 1)), modulus * EV_PER_A3_IN_GPA, rms / span)


def _minimum(cubic: np.polynomial.Polynomial) -> float | None:
    """Where a cubic in x - 1 is least, in x; None where it falls all the way."""
    c, b, a = (float(value) for value in np.asarray(cubic.deriv(1).coef, dtype=float))
    discriminant = b * b - 4 * a * c
    if discriminant < 0:
        return None
    # The root with positive curvature, in the form that holds when the cubic term vanishes (K' = 4).
    denominator = b + math.sqrt(discriminant)
    return None if denominator == 0 else 1 - 2 * c / denominator


def _bulk_modulus(results: Sequence[Relaxed | Rejection]) -> float | Rejection:
    """From the relaxations of one crystal at all its volumes."""
    volumes, energies = [], []
    for strain, result in zip(LINEAR_STRAINS, results, strict=True):
        if isinstance(result, Rejection):
            return _refuse("eos_relaxation_failed", f"at {strain:+.1%} linear strain: {result.reason}, {result.detail}")
        if not result.converged:
            return _refuse("eos_unconverged", f"at {strain:+.1%} linear strain, {result.n_steps} steps")
        volumes.append(result.structure.volume)
        energies.append(result.energy)
    fit = fit_equation_of_state(volumes, energies)
    return fit if isinstance(fit, Rejection) else fit.bulk_modulus


def scaled(structure: Structure, factor: float) -> Structure:
    """A crystal with its lattice vectors multiplied by a factor, fractional coordinates as they are."""
    return Structure(Lattice(structure.lattice.matrix * factor), structure.species, structure.frac_coords)


def _refuse(reason: str, detail: str) -> Rejection:
    return Rejection(Stage.SCORE, reason, detail)
