"""PQEq with the interaction cut off by a taper: the published variant, for comparison with the literature only.

Gao et al., Nat. Commun. 16, 10484 (2025), multiply every pair of charges by a polynomial that falls from one to zero at
12.5 Å, and stop after two iterations, so that their forces are no slopes of their energy (`pqeq-published`). With
charges and shells converged they are (`pqeq-taper`), but the taper itself is far from the Ewald sum (NaCl: charges of
0.615 against 0.911 e) and lets shells of many crystals run away (KCl in its cell of 8 atoms). Written for clarity:
second derivatives come from autograd, crystal by crystal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from matsearch.potential.batch import CrystalBatch, Output
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.device import torch_device
from matsearch.potential.longrange.ewald import COULOMB
from matsearch.potential.longrange.pqeq import PQEq, PQEqParameters
from matsearch.potential.longrange.terms import LONGEST, TOLERANCE
from matsearch.potential.neighbors import Pairs

CUTOFF = 12.5
"""Å, between cores."""
MAX_NEWTON = 30


class TaperedPQEq(BatchedPotential):
    """Neutral crystals with tapered interactions.

    Attributes:
        parameters: By atomic number.
        iterations: Times that the charges are solved for at the shells as they are, and then each shell moved by the
            force on it over its spring; None: until both are converged.
    """

    not_finite = "its charges and shells have no minimum under the taper (polarization catastrophe)"
    is_term = True
    needs_refit = PQEq.needs_refit

    def __init__(
        self,
        name: str,
        parameters: PQEqParameters,
        device: torch.device | str = "cpu",
        iterations: int | None = None,
    ) -> None:
        self.name = name
        self.energy_scale = name
        self.device = str(device)
        self.parameters = parameters
        self.elements = frozenset(parameters.symbols)
        self.iterations = iterations

    def forward(self, batch: CrystalBatch) -> Output:
        """Energies and charges."""
        energies, charges = [], []
        for system in range(batch.n_systems):
            energy, found, _ = self.equilibrium(batch, system)
            energies.append(energy)
            charges.append(found)
        return Output(energies=torch.stack(energies), charges=torch.cat(charges))

    def equilibrium(self, batch: CrystalBatch, system: int) -> tuple[Tensor, Tensor, Tensor]:
        """Energy of a crystal of the batch (NaN where it has no minimum), its charges [n] and shells [n, 3]."""
        start = sum(batch.sizes[:system])
        n = batch.sizes[system]
        pairs = batch.pairs(CUTOFF)
        own = pairs.take(torch.nonzero(pairs.system_idx == system)[:, 0])
        own = Pairs(own.first - start, own.second - start, own.shifts, own.system_idx, own.lengths)
        vectors = own.vectors(batch.positions[start : start + n], batch.cells)
        numbers = batch.numbers[start : start + n]
        values = [value.index_select(0, numbers) for value in self._values()]

        def energy(packed: Tensor, between: Tensor) -> Tensor:
            return _energy(packed[:n], packed[n:].view(n, 3), between, own, *values)

        shells_free = (values[2] > 0).to(values[2]).repeat_interleave(3)
        free = torch.cat([torch.ones_like(values[2]), shells_free])
        with torch.enable_grad():
            if self.iterations is None:
                packed, stable = _converged(partial(energy, between=vectors.detach()), n, free)
            else:
                springs = values[2].repeat_interleave(3)
                packed = _iterated(partial(energy, between=vectors.detach()), n, free, springs, self.iterations)
                stable = True
        total = energy(packed, vectors)
        if not stable:
            return total * math.nan, packed[:n] * math.nan, packed[n:].view(n, 3) * math.nan
        return total, packed[:n], packed[n:].view(n, 3)

    def _values(self) -> tuple[Tensor, ...]:
        own = self.parameters
        return own.chi.detach(), own.eta.detach(), own.spring.detach(), own.shell.detach(), own.exponents.detach()


def pqeq_taper(device: str = "auto") -> TaperedPQEq:
    """With the parameters of Gao et al., as `pqeq`."""
    where = torch_device(device)
    return TaperedPQEq("pqeq-taper", PQEqParameters.published("pqeq", where), where)


def pqeq_published(device: str = "auto") -> TaperedPQEq:
    """As Gao et al. have it: tapered, two iterations."""
    where = torch_device(device)
    return TaperedPQEq("pqeq-published", PQEqParameters.published("pqeq", where), where, iterations=2)


def taper(lengths: Tensor) -> Tensor:
    """One at 0 Å and zero at the cutoff, with three derivatives of zero at both ends."""
    x = (lengths / CUTOFF).clamp(max=1.0)
    return 1 + x**4 * (-35 + x * (84 + x * (-70 + x * 20)))


def _energy(
    charges: Tensor,
    shells: Tensor,
    vectors: Tensor,
    pairs: Pairs,
    chi: Tensor,
    eta: Tensor,
    spring: Tensor,
    shell: Tensor,
    exponents: Tensor,
) -> Tensor:
    """In eV, of one crystal."""
    first, second = pairs.first, pairs.second
    width = (1 / exponents[first] + 1 / exponents[second]).rsqrt()
    core = charges + shell

    def between(one: Tensor, other: Tensor, vector: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(vector, dim=1)
        return (one[first] * other[second] * taper(lengths) * torch.erf(width * lengths) / lengths).sum()

    pairs_of_charges = (
        between(core, core, vectors)
        - between(core, shell, vectors + shells[second])
        - between(shell, core, vectors - shells[first])
        + between(shell, shell, vectors + shells[second] - shells[first])
    )
    of_atoms = chi * charges + 0.5 * eta * charges.square() + 0.5 * spring * shells.square().sum(1)
    return COULOMB * pairs_of_charges + of_atoms.sum()


def _neutral(values: Tensor, n: int) -> Tensor:
    """Slopes in the first n rows less their mean."""
    return torch.cat([values[:n] - values[:n].mean(0), values[n:]])


def _converged(energy: Callable[[Tensor], Tensor], n: int, free: Tensor) -> tuple[Tensor, bool]:
    """Charges and shells [4n] where the energy is stationary on neutral variations, and whether it is a minimum."""
    packed = torch.zeros_like(free)
    for _ in range(MAX_NEWTON):
        slope = _neutral(_slope(energy, packed), n) * free
        matrix = torch.autograd.functional.hessian(energy, packed, vectorize=True)
        # Neutral variations, and rows of the identity for the total charge and for missing shells.
        matrix = _neutral(_neutral(matrix, n).mT, n) * free[:, None] * free
        matrix[:n, :n] += 1 / n
        matrix.diagonal().add_(1 - free)
        factor, info = torch.linalg.cholesky_ex(matrix)
        if int(info):
            return packed, False
        if bool(slope.abs().max() < TOLERANCE):
            return packed, True
        step = torch.cholesky_solve(slope[:, None], factor)[:, 0]
        packed = packed - step * min(1.0, LONGEST / float(step[n:].abs().max().clamp(min=1e-30)))
    return packed, False


def _iterated(energy: Callable[[Tensor], Tensor], n: int, free: Tensor, springs: Tensor, iterations: int) -> Tensor:
    """Charges and shells [4n] after so many times charges, then shells."""
    packed = torch.zeros_like(free)
    for _ in range(iterations):
        slope = _neutral(_slope(energy, packed), n)[:n]
        matrix = torch.autograd.functional.hessian(
            lambda charges, shells=packed[n:]: energy(torch.cat([charges, shells])), packed[:n], vectorize=True
        )
        matrix = _neutral(_neutral(matrix, n).mT, n) + 1 / n
        packed = torch.cat([packed[:n] - torch.linalg.solve(matrix, slope), packed[n:]])
        pushed = _slope(energy, packed)[n:] / torch.where(springs > 0, springs, 1.0) * free[n:]
        packed = torch.cat([packed[:n], packed[n:] - pushed])
    return packed


def _slope(energy: Callable[[Tensor], Tensor], packed: Tensor) -> Tensor:
    at = packed.detach().requires_grad_()
    (slope,) = torch.autograd.grad(energy(at), at)
    return slope
