"""Elastic tensors from stresses of strained crystals, and what is scored of them.

Each crystal is strained along the fewest directions that its symmetry leaves independent, its atoms are relaxed in each
strained cell, and the tensor is fitted to the stresses. All strained cells of all crystals are relaxed together.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pymatgen.core import Lattice, Structure

from matsearch.objectives.base import Cost, Objective, ObjectiveContext
from matsearch.objectives.elasticity import (
    Moduli,
    fit_tensor,
    invariant_basis,
    moduli,
    strain_directions,
    strain_matrix,
    voigt_stress,
)
from matsearch.objectives.rest import KeptAtRest
from matsearch.potential import Potential
from matsearch.records import Direction, Rejection, Relaxed, Stage
from matsearch.relaxation import relax
from matsearch.units import EV_PER_A3_IN_GPA

STRAINS = (-0.01, -0.005, 0.005, 0.01)
"""Of a tensor component; half of Voigt's for shears. Those of the Materials Project and of MatCalc: large enough for
stresses in single precision. CHGNet's stresses are not linear over them, so that the constants of a crystal depend on
the axes it is strained along by some 1 to 5 %, more where it is about to give way; in double precision and at +-0.02 %
they turn with the crystal to 0.06 % or better, and those of soft crystals are up to a fifth larger."""
FORCE_TOL = 0.01
"""eV/Å; softer modes than that are rare, and a crystal whose atoms are not at rest seems too stiff."""
MAX_STEPS = 300
SYMMETRY_TOL = 1e-2
"""Å; what a crystal at rest lacks of a symmetry by less is noise of the relaxation. What it lacks by more is not forced
upon its tensor: it costs more strains."""
MAX_RESIDUAL = 0.1
"""Largest root-mean-square residual of the stresses, relative to the linear ones, after what is quadratic in strain:
beyond it a crystal changes phase under strain, or the symmetry found is not that of the energies."""


@dataclass(frozen=True, slots=True)
class ElasticTensor:
    """The elastic tensor of a crystal.

    Attributes:
        voigt: [6, 6] in GPa, in the Cartesian axes of the crystal as given, ions relaxed.
        moduli: What follows from it, in GPa.
        residual: Root-mean-square residual relative to the linear stresses, after what is quadratic in the strain.
        n_strained: Strained cells that were relaxed for it.
    """

    voigt: np.ndarray
    moduli: Moduli
    residual: float
    n_strained: int


def elastic_tensors(
    crystals: Sequence[Structure],
    potential: Potential,
    *,
    strains: Sequence[float] = STRAINS,
    force_tol: float = FORCE_TOL,
    max_steps: int = MAX_STEPS,
) -> list[ElasticTensor | Rejection]:
    """The elastic tensor of each crystal, in order.

    Args:
        crystals: Relaxed on the same potential: a tensor is that of a crystal at rest.
        potential: Its stresses are fitted.
        strains: Components of the Green-Lagrange strain tensor, as many above as below 0.
        force_tol: eV/Å, to which atoms are relaxed in the strained cells.
        max_steps: Of each of these relaxations.

    Returns:
        Reasons of rejection: `elastic_no_symmetry` (none can be found), `elastic_relaxation_failed`,
        `elastic_unconverged`, `elastic_poor_fit` (residual above 10 % of the stresses), `elastic_singular`.
    """
    plans = [_plan(crystal, strains) for crystal in crystals]
    cells = [cell for plan in plans if isinstance(plan, _Plan) for cell in plan.cells]
    results = iter(relax(cells, potential, force_tol, max_steps, cell="fixed", optimizer="lbfgs"))
    relaxed = [[next(results) for _ in plan.cells] if isinstance(plan, _Plan) else [] for plan in plans]
    at_rest = [one.structure for group in relaxed if _whole(group) for one in group if isinstance(one, Relaxed)]
    stresses = iter(potential.predict(at_rest))
    tensors: list[ElasticTensor | Rejection] = []
    for plan, group in zip(plans, relaxed, strict=True):
        if isinstance(plan, Rejection):
            tensors.append(plan)
        elif (wrong := _wrong(plan, group)) is not None:
            tensors.append(wrong)
        else:
            measured = np.array([voigt_stress(np.asarray(next(stresses).stress)) for _ in group])
            tensors.append(_tensor(plan, measured * EV_PER_A3_IN_GPA))
    return tensors


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is computed for one crystal: strains [n, 6] in Voigt's notation, the strained cells, invariant tensors."""

    strains: np.ndarray
    cells: list[Structure]
    basis: np.ndarray


def _plan(crystal: Structure, strains: Sequence[float]) -> _Plan | Rejection:
    rotations = cartesian_rotations(crystal)
    if rotations is None:
        return _refuse("elastic_no_symmetry", "moyo finds no space group")
    basis = invariant_basis(rotations)
    rows = []
    for direction in strain_directions(basis):
        for size in strains:
            row = np.zeros(6)
            row[direction] = size if direction < 3 else 2 * size
            rows.append(row)
    return _Plan(np.array(rows), [strained(crystal, strain_matrix(row)) for row in rows], basis)


def strained(crystal: Structure, strain: np.ndarray) -> Structure:
    """A crystal under a Green-Lagrange strain [3, 3], stretched without a rotation: F = (1 + 2 E)^(1/2)."""
    values, vectors = np.linalg.eigh(np.eye(3) + 2 * strain)
    stretch = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    return Structure(Lattice(crystal.lattice.matrix @ stretch), crystal.species, crystal.frac_coords)


def cartesian_rotations(crystal: Structure) -> np.ndarray | None:
    """Point group [n_ops, 3, 3] of a crystal in its own Cartesian axes; None where moyo finds no symmetry."""
    import moyopy

    lattice = crystal.lattice.matrix
    cell = moyopy.Cell(lattice.tolist(), (crystal.frac_coords % 1.0).tolist(), [one.Z for one in crystal.species])
    try:
        operations = moyopy.MoyoDataset(cell, symprec=SYMMETRY_TOL).operations
    except ValueError:
        return None
    inverse = np.linalg.inv(lattice.T)
    turned = lattice.T @ np.unique(np.array(operations.rotations, dtype=float), axis=0) @ inverse
    # A lattice that has the symmetry only nearly gives nearly a rotation: the nearest true one.
    left, _, right = np.linalg.svd(turned)
    exact: np.ndarray = left @ right
    return exact


def _whole(group: Sequence[Relaxed | Rejection]) -> bool:
    return bool(group) and all(isinstance(one, Relaxed) and one.converged for one in group)


def _wrong(plan: _Plan, group: Sequence[Relaxed | Rejection]) -> Rejection | None:
    """Why the cells of a crystal do not serve, or None."""
    for strain, result in zip(plan.strains, group, strict=True):
        where = f"at strain {' '.join(f'{100 * value:+g} %' if value else '0' for value in strain)}"
        if isinstance(result, Rejection):
            return _refuse("elastic_relaxation_failed", f"{where}: {result.reason}, {result.detail}")
        if not result.converged:
            return _refuse("elastic_unconverged", f"{where}, {result.n_steps} steps")
    return None


def _tensor(plan: _Plan, stresses: np.ndarray) -> ElasticTensor | Rejection:
    # What is left of the stress at rest is the same at every strain, and what is quadratic in a strain is the same at
    # its opposite: neither touches the tensor, since strains come in pairs about 0.
    even = _even_part(plan.strains, stresses)
    tensor = fit_tensor(plan.strains, stresses - even, plan.basis)
    linear = plan.strains @ tensor
    residual = float(np.sqrt(((stresses - even - linear) ** 2).mean() / (linear**2).mean()))
    if not residual <= MAX_RESIDUAL:
        return _refuse("elastic_poor_fit", f"residual {100 * residual:.0f} % of the stresses")
    try:
        found = moduli(tensor)
    except ValueError as err:
        return _refuse("elastic_singular", str(err))
    return ElasticTensor(tensor, found, residual, len(plan.cells))


def _even_part(strains: np.ndarray, stresses: np.ndarray) -> np.ndarray:
    """Of stresses [n, 6], what is constant or quadratic in the strain, for each direction of strain by itself."""
    even = np.zeros_like(stresses)
    directions = np.abs(strains).argmax(axis=1)
    for direction in np.unique(directions):
        rows = directions == direction
        powers = strains[rows, direction][:, None] ** np.arange(3)
        coefficients, *_ = np.linalg.lstsq(powers, stresses[rows], rcond=None)
        even[rows] = powers[:, ::2] @ coefficients[::2]
    return even


def _refuse(reason: str, detail: str) -> Rejection:
    return Rejection(Stage.SCORE, reason, detail)


_KEPT: KeptAtRest[ElasticTensor] = KeptAtRest(elastic_tensors)


class ElasticObjective(Objective):
    """A number that follows from the elastic tensor."""

    unit = "GPa"
    direction: Direction = "max"
    cost: Cost = "many"
    needs = ("potential",)
    needs_stability: ClassVar[bool] = True
    """Averages of a crystal that gives way under some strain mean nothing."""

    def __init__(self, context: ObjectiveContext) -> None:
        self._context = context

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """The value of each crystal, brought to rest.

        Where there is none: `not_at_rest`, `mechanically_unstable`, or a reason of `elastic_tensors`.
        """
        return [self._value(one) for one in _KEPT.of(relaxed, self._context)]

    def _value(self, tensor: ElasticTensor | Rejection) -> float | Rejection:
        if isinstance(tensor, Rejection):
            return tensor
        least = tensor.moduli.least_stiffness
        if self.needs_stability and least <= 0:
            return _refuse("mechanically_unstable", f"smallest eigenvalue of the elastic tensor {least:.1f} GPa")
        value = self.value(tensor.moduli)
        return value if math.isfinite(value) else _refuse("elastic_singular", f"{self.name} of these moduli is {value}")

    @abstractmethod
    def value(self, found: Moduli) -> float:
        """The number."""


class BulkModulusVRH(ElasticObjective):
    """Bulk modulus in GPa: Hill's mean of Voigt's and Reuss's."""

    name = "bulk_modulus_vrh"

    def value(self, found: Moduli) -> float:
        """GPa."""
        return found.bulk


class ShearModulus(ElasticObjective):
    """Shear modulus in GPa: Hill's mean."""

    name = "shear_modulus"

    def value(self, found: Moduli) -> float:
        """GPa."""
        return found.shear


class YoungsModulus(ElasticObjective):
    """Young's modulus of the polycrystal in GPa."""

    name = "youngs_modulus"

    def value(self, found: Moduli) -> float:
        """GPa."""
        return found.young


class PoissonRatio(ElasticObjective):
    """Poisson's ratio of the polycrystal."""

    name, unit, direction = "poisson_ratio", "1", "min"

    def value(self, found: Moduli) -> float:
        """Between -1 and 0.5."""
        return found.poisson_ratio


class PughRatio(ElasticObjective):
    """K / G: high is ductile."""

    name, unit = "pugh_ratio", "1"

    def value(self, found: Moduli) -> float:
        """A ratio."""
        return found.pugh_ratio


class ElasticAnisotropy(ElasticObjective):
    """Universal anisotropy: 0 for an isotropic crystal."""

    name, unit, direction = "elastic_anisotropy", "1", "min"

    def value(self, found: Moduli) -> float:
        """0 or more."""
        return found.universal_anisotropy


class VickersHardness(ElasticObjective):
    """Vickers hardness in GPa by Tian's model of K and G: an estimate for hard materials."""

    name = "vickers_hardness"

    def value(self, found: Moduli) -> float:
        """GPa."""
        return found.vickers_hardness()


class ElasticStability(ElasticObjective):
    """Smallest eigenvalue of the elastic tensor in GPa: below 0 the crystal gives way under some strain (Born)."""

    name = "elastic_stability"
    needs_stability: ClassVar[bool] = False

    def value(self, found: Moduli) -> float:
        """GPa."""
        return found.least_stiffness
