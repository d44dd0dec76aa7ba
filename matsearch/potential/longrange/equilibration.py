"""Charges and shells of minimal energy: Newton's method on crystals side by side.

First and second derivatives of the energy (`matsearch.potential.longrange.terms`) in charges and shells are written out
here, so that a step costs a matrix product and a Cholesky factorisation. The total charge is held by a reflection that
turns (1, 1, ..., 1) of the charges into one coordinate, which is then left alone: the rest are the neutral variations.
Crystals too large for that go to `matsearch.potential.longrange.large`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from matsearch.potential.longrange import large
from matsearch.potential.longrange.ewald import COULOMB, wave_vectors
from matsearch.potential.longrange.terms import LONGEST, TOLERANCE, Equilibrated, Terms, boys

MAX_FACTORS = 12
"""Second derivatives are computed this often at most; two suffice for what is far from a catastrophe."""
STEPS_A_FACTOR = 8
WORTH_IT = 3e-3
"""Slopes (eV/e, eV/Å) from which on the second derivatives of the start are too far off."""
NEAR = 1e-3
"""e and Å: second derivatives this near to the solution stand for those at it where they are tested."""
LARGE = 80
"""Atoms from which on matrices are not written out, which is faster from 50 on but proves no minimum."""
MANY_WAVES = 30_000
"""Waves from which on they are not written out for each atom: a molecule in much vacuum."""


def energy(terms: Terms, charges: Tensor, shells: Tensor) -> Tensor:
    """[n_block] in eV at charges [n_block, n] (e) and shell displacements [n_block, n, 3] (Å), differentiable."""
    if _is_large(terms):
        return large.energy(terms, charges, shells)
    shell = terms.shell * terms.mask
    core = charges * terms.mask + shell
    k, weights = wave_vectors(terms.cells, terms.integers, terms.waves)
    at_atoms = (core, shell, shells, terms.exponent)
    if any(one.requires_grad for one in at_atoms):
        waves = _waves_energy(k, weights, terms.integers, terms.fractional, *at_atoms)
    else:
        waves = _WavesEnergy.apply(k, weights, terms.integers, terms.fractional, *at_atoms)
    return waves + terms.sites(charges, shells)


def _is_large(terms: Terms) -> bool:
    return len(terms.mask) == 1 and (terms.mask.shape[1] >= LARGE or terms.waves.shape[1] >= MANY_WAVES)


def _waves_energy(
    k: Tensor,
    weights: Tensor,
    integers: Tensor,
    fractional: Tensor,
    core: Tensor,
    shell: Tensor,
    shells: Tensor,
    exponent: Tensor,
) -> Tensor:
    """[n_block] the sum of w |S(k)|², from the waves and what is at the atoms; differentiable in all but `integers`."""
    damping = torch.exp(-0.25 * k.square().sum(2)[:, :, None] / exponent[:, None, :])
    phases = 2 * torch.pi * integers @ fractional.mT
    moved = phases + k @ shells.mT
    real = (damping * (core[:, None] * phases.cos() - shell[:, None] * moved.cos())).sum(2)
    imaginary = (damping * (core[:, None] * phases.sin() - shell[:, None] * moved.sin())).sum(2)
    return (weights * (real.square() + imaginary.square())).sum(1)


class _WavesEnergy(torch.autograd.Function):
    """`_waves_energy`, differentiable once in waves, weights and positions: a third of the work, and of the memory."""

    @staticmethod
    def forward(ctx, k, weights, integers, fractional, core, shell, shells, exponent):  # type: ignore[no-untyped-def]
        damping = torch.exp(-0.25 * k.square().sum(2)[:, :, None] / exponent[:, None, :])
        phases = 2 * torch.pi * integers @ fractional.mT
        moved = phases + k @ shells.mT
        core_waves = torch.cat([damping * phases.cos(), damping * phases.sin()], 1)
        shell_waves = torch.cat([damping * moved.cos(), damping * moved.sin()], 1)
        waves = torch.bmm(core_waves, core[:, :, None]) - torch.bmm(shell_waves, shell[:, :, None])
        ctx.save_for_backward(k, weights, integers, core, shell, shells, exponent, core_waves, shell_waves, waves)
        squares = waves[:, :, 0].square().unflatten(1, (2, -1)).sum(1)
        return (weights * squares).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):  # type: ignore[no-untyped-def]
        k, weights, integers, core, shell, shells, exponent, core_waves, shell_waves, waves = ctx.saved_tensors
        squares = waves[:, :, 0].square().unflatten(1, (2, -1)).sum(1)
        real, imaginary = (
            2 * slope[:, None, None] * weights[:, :, None] * waves.unflatten(1, (2, -1))[..., 0].mT
        ).unbind(2)
        # Of the phases: d exp(i phase) = i exp(i phase).
        turned = torch.cat([imaginary, -real], 1)[:, :, None]
        by_axis = turned * integers.repeat(1, 2, 1)
        of_core = core[:, :, None] * torch.bmm(core_waves.mT, by_axis)
        of_shell = shell[:, :, None] * torch.bmm(shell_waves.mT, by_axis)
        # Of the waves themselves: by the damping, and by k.s in the phase of a shell.
        spread = torch.bmm(core_waves, (core / exponent)[:, :, None]) - torch.bmm(
            shell_waves, (shell / exponent)[:, :, None]
        )
        damped = (torch.cat([real, imaginary], 1)[:, :, None] * spread).unflatten(1, (2, -1)).sum(1)
        moved = (turned * torch.bmm(shell_waves, shell[:, :, None] * shells)).unflatten(1, (2, -1)).sum(1)
        of_k = -0.5 * k * damped - moved
        return of_k, slope[:, None] * squares, None, 2 * torch.pi * (of_core - of_shell), None, None, None, None


@torch.no_grad()
def equilibrate(terms: Terms, total_charges: Tensor, *, exact: bool = False) -> Equilibrated:
    """Charges and shells at which the energy is stationary.

    A crystal whose second derivatives are not positive on neutral variations is told (`unstable`); its charges are of
    no use.

    Args:
        terms: The energy.
        total_charges: [n_block] in e.
        exact: Whether `inverse` is to hold at the solution itself rather than within `NEAR` of it.
    """
    if _is_large(terms):
        return large.equilibrate(terms, total_charges, exact=exact)
    system = _System(terms.detached(), exact=exact)
    counts = terms.mask.sum(1)
    charges = terms.mask * (total_charges / counts)[:, None]
    shells = torch.zeros_like(terms.fractional)
    # The charges alone first: without them no shell feels anything.
    slopes, _ = system.slopes(charges, shells)
    factor, failed = system.factor_of_charges()
    charges = charges - system.solve(factor, slopes)
    unstable, unfinished = failed, torch.ones_like(failed)
    for first in (True, *[False] * (MAX_FACTORS - 1)):
        factor, unstable = system.factor(charges, shells)
        at = charges, shells
        before = torch.full_like(total_charges, torch.inf)
        for _ in range(STEPS_A_FACTOR):
            of_charges, of_shells = system.slopes(charges, shells)
            left = system.largest(of_charges, of_shells)
            unfinished = ~(left < TOLERANCE)
            todo = unfinished & ~unstable
            slow = bool((left > 0.3 * before)[todo].any()) or (first and bool((left < WORTH_IT)[todo].all()))
            if slow or not bool(todo.any()):
                break
            before = left
            moved, step = system.unpack(system.solve(factor, system.pack(of_charges, of_shells)))
            length = torch.linalg.vector_norm(step, dim=2).amax(1)
            shorter = (LONGEST / length.clamp(min=1e-30)).clamp(max=1.0)
            shorter = torch.where(todo, shorter, 0.0)
            charges, shells = charges - shorter[:, None] * moved, shells - shorter[:, None, None] * step
        # Without second derivatives at the solution itself none is known to be a minimum.
        far = ((charges - at[0]).abs().amax(1) > NEAR) | ((shells - at[1]).abs().amax((1, 2)) > NEAR)
        if not bool(((unfinished | far) & ~unstable).any()):
            break
    if exact:
        factor, unstable = system.factor(charges, shells)

    def inverse(of_charges: Tensor, of_shells: Tensor) -> tuple[Tensor, Tensor]:
        return system.unpack(system.solve(factor, system.pack(of_charges, of_shells)))

    return Equilibrated(charges, shells, unstable, unfinished, inverse)


@torch.no_grad()
def shell_displacements(terms: Terms, charges: Tensor, shells: Tensor, forces: Tensor) -> Tensor:
    """How shells at rest move at fixed charges under small forces.

    Args:
        terms: The energy.
        charges: [n_block, n] and
        shells: [n_block, n, 3], where it is stationary in the shells.
        forces: [n_block, n, 3, n_forces] in eV/Å.

    Returns:
        [n_block, n, 3, n_forces] in Å; NaN where the shells are unstable.
    """
    if _is_large(terms):
        return large.shell_displacements(terms, charges, shells, forces)
    system = _System(terms.detached(), exact=True)
    factor, failed = system.factor_of_shells(charges, shells)
    free = system.free[:, system.n :, None]
    packed = torch.where(free, forces.transpose(1, 2).flatten(1, 2), 0)
    moved = torch.where(free, torch.cholesky_solve(packed, factor), 0)
    moved = moved.unflatten(1, (3, system.n)).transpose(1, 2)
    return torch.where(failed[:, None, None, None], torch.nan, moved)


@dataclass(frozen=True, eq=False)
class _Waves:
    """Waves at the atoms, real and imaginary parts one below the other.

    Attributes:
        k: [n_block, n_waves, 3] in 1/Å.
        twice: [n_block, 2 n_waves] twice their weights, in eV.
        phases: [n_block, n_waves, n] k.r.
        damping: [n_block, n_waves, n] f(k), zero for pads.
        core: [n_block, 2 n_waves, n] exp(ik.r), damped.
    """

    k: Tensor
    twice: Tensor
    phases: Tensor
    damping: Tensor
    core: Tensor

    @classmethod
    def of(cls, k: Tensor, weights: Tensor, phases: Tensor, damping: Tensor) -> _Waves:
        """With what follows from these."""
        core = torch.cat([damping * phases.cos(), damping * phases.sin()], 1)
        return cls(k, 2 * weights.repeat(1, 2), phases, damping, core)

    def of_shells(self, shells: Tensor) -> Tensor:
        """[n_block, 2 n_waves, n] exp(ik.(r + s)), damped."""
        moved = self.phases + self.k @ shells.mT
        return torch.cat([self.damping * moved.cos(), self.damping * moved.sin()], 1)

    def weighted(self, core: Tensor, shell: Tensor, shell_waves: Tensor) -> Tensor:
        """[n_block, 2 n_waves] the structure factor times twice its weights."""
        factor = torch.bmm(self.core, core[:, :, None]) - torch.bmm(shell_waves, shell[:, :, None])
        return self.twice * factor[:, :, 0]


class _System:
    """First and second derivatives of the energy in q and s, packed as [q, s_x, s_y, s_z] of n atoms each."""

    def __init__(self, terms: Terms, *, exact: bool = False) -> None:
        self.terms = terms
        self.n = terms.mask.shape[1]
        k, weights = wave_vectors(terms.cells, terms.integers, terms.waves)
        squares = k.square().sum(2)
        phases = 2 * torch.pi * terms.integers @ terms.fractional.mT
        damping = torch.exp(-0.25 * squares[:, :, None] / terms.exponent[:, None, :]) * terms.mask[:, None]
        self.waves = _Waves.of(k, weights, phases, damping)
        self.curved = self.waves
        if not exact:
            # The waves come by rising length.
            squares = squares * terms.waves
            n_long = int((squares <= large.SHARE * squares.amax(1, keepdim=True)).sum(1).max())
            self.curved = _Waves.of(k[:, :n_long], weights[:, :n_long], phases[:, :n_long], damping[:, :n_long])
        core_waves = self.curved.core
        self.gram = torch.bmm(core_waves.mT, self.curved.twice[:, :, None] * core_waves)
        self.shell = terms.shell * terms.mask
        self.half = 0.5 * terms.exponent
        self.itself = 2 * COULOMB * (self.half / torch.pi).sqrt()
        # The reflection 1 - u u^T that turns (1, ..., 1)/sqrt(n) into (1, 0, ..., 0).
        u = terms.mask.to(damping.dtype)
        u = u / u.sum(1, keepdim=True).sqrt()
        u[:, 0] -= 1
        norm = torch.linalg.vector_norm(u, dim=1, keepdim=True)
        self.u = torch.where(norm > 1e-8, 2**0.5 * u / norm.clamp(min=1e-8), 0.0)
        has_shell = (terms.spring > 0) & (terms.shell > 0) & terms.mask
        free = terms.mask.clone()
        free[:, 0] = False  # the total charge
        self.free = torch.cat([free, has_shell, has_shell, has_shell], 1)

    def pack(self, of_charges: Tensor, of_shells: Tensor) -> Tensor:
        """[n_block, 4n] from [n_block, n] and [n_block, n, 3]."""
        return torch.cat([of_charges, of_shells.mT.flatten(1)], 1)

    def unpack(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `pack`."""
        return packed[:, : self.n], packed[:, self.n :].unflatten(1, (3, self.n)).mT

    def largest(self, of_charges: Tensor, of_shells: Tensor) -> Tensor:
        """[n_block] the largest slope along a neutral variation of a charge or a component of a shell."""
        packed = self._reflected(self.pack(of_charges, of_shells))
        return torch.where(self.free, packed, 0).abs().amax(1)

    def slopes(self, charges: Tensor, shells: Tensor) -> tuple[Tensor, Tensor]:
        """dE/dq, [n_block, n] in eV/e, and dE/ds, [n_block, n, 3] in eV/Å."""
        terms, shell = self.terms, self.shell
        core = charges * terms.mask + shell
        waves = self.waves
        shell_waves = waves.of_shells(shells)
        weighted = waves.weighted(core, shell, shell_waves)
        potential = torch.bmm(weighted[:, None], waves.core)[:, 0]
        real, imaginary = weighted.chunk(2, 1)
        turned = torch.cat([-imaginary, real], 1)[:, :, None] * waves.k.repeat(1, 2, 1)
        push = torch.bmm(shell_waves.mT, turned) * shell[:, :, None]
        x = self.half * shells.square().sum(2)
        f0, f1 = boys(x, 0), boys(x, 1)
        # φ(s) = J F_0(a s²/2), so that grad φ = -J F_1 a s.
        gradient = -(self.itself * f1 * terms.exponent)[:, :, None] * shells
        of_charges = terms.chi + terms.eta * charges + potential - core * self.itself + shell * self.itself * f0
        of_shells = terms.spring[:, :, None] * shells + push + (shell * core)[:, :, None] * gradient
        of_shells = of_shells + terms.shell[:, :, None] * terms.field[:, None]
        return of_charges * terms.mask, of_shells * terms.mask[:, :, None]

    def factor_of_charges(self) -> tuple[Tensor, Tensor]:
        """Cholesky factor of d²E/dq² on neutral variations where the shells are at rest, and which have none."""
        terms = self.terms
        matrix = self.gram.clone()
        matrix.diagonal(dim1=1, dim2=2).add_(terms.eta - self.itself)
        return self._factor(matrix)

    def factor(self, charges: Tensor, shells: Tensor) -> tuple[Tensor, Tensor]:
        """Cholesky factor of the second derivatives on neutral variations, and which crystals have none."""
        return self._factor(self.second_derivatives(charges, shells))

    def factor_of_shells(self, charges: Tensor, shells: Tensor) -> tuple[Tensor, Tensor]:
        """Cholesky factor of d²E/ds² at fixed charges, and which crystals have none."""
        n = self.n
        return _cholesky(self.second_derivatives(charges, shells)[:, n:, n:], self.free[:, n:])

    def second_derivatives(self, charges: Tensor, shells: Tensor) -> Tensor:
        """[n_block, 4n, 4n], packed."""
        terms, n, shell, waves = self.terms, self.n, self.shell, self.curved
        core = charges * terms.mask + shell
        shell_waves = waves.of_shells(shells)
        real, imaginary = (shell[:, None] * shell_waves).chunk(2, 1)
        # dS/ds = -Z f ik exp(ik.(r + s)), real and imaginary part one below the other; along the axis it takes k_a.
        turned = torch.cat([imaginary, -real], 1)
        along = waves.k.repeat(1, 2, 1)[:, :, :, None]
        slopes = (along * turned[:, :, None]).flatten(2)
        weighted_slopes = waves.twice[:, :, None] * slopes
        matrix = slopes.new_empty((len(shells), 4 * n, 4 * n))
        matrix[:, :n, :n] = self.gram
        mixed = torch.bmm(waves.core.mT, weighted_slopes)
        matrix[:, :n, n:], matrix[:, n:, :n] = mixed, mixed.mT
        for a in range(3):
            rows, later = slice((a + 1) * n, (a + 2) * n), slice((a + 1) * n, 4 * n)
            shells_of_axis = torch.bmm(slopes[:, :, a * n : (a + 1) * n].mT, weighted_slopes[:, :, a * n :])
            matrix[:, rows, later], matrix[:, later, rows] = shells_of_axis, shells_of_axis.mT
        weighted = waves.weighted(core, shell, shell_waves)
        moments = (weighted[:, :, None] * shell_waves * shell[:, None]).unflatten(1, (2, -1)).sum(1)
        x = self.half * shells.square().sum(2)
        f1, f2 = boys(x, 1), boys(x, 2)
        scale = self.itself * terms.exponent
        matrix[:, :n, :n].diagonal(dim1=1, dim2=2).add_(terms.eta - self.itself)
        for a in range(3):
            rows = slice((a + 1) * n, (a + 2) * n)
            itself = -shell * scale * f1 * shells[:, :, a]
            matrix[:, :n, rows].diagonal(dim1=1, dim2=2).add_(itself)
            matrix[:, rows, :n].diagonal(dim1=1, dim2=2).add_(itself)
            for b in range(3):
                # grad grad φ = J a (a F_2 s s - F_1)
                curved = shell * core * scale * terms.exponent * f2 * shells[:, :, a] * shells[:, :, b]
                if a == b:
                    curved = curved + terms.spring - shell * core * scale * f1
                kk = waves.k[:, :, a] * waves.k[:, :, b]
                curved = curved + torch.bmm(kk[:, None], moments)[:, 0]
                matrix[:, rows, (b + 1) * n : (b + 2) * n].diagonal(dim1=1, dim2=2).add_(curved)
        return matrix

    def solve(self, factor: Tensor, slopes: Tensor) -> Tensor:
        """What a Newton step takes off, from slopes; differentiable in the slopes."""
        free = self.free[:, : factor.shape[1]]
        kept = torch.where(free, self._reflected(slopes), 0)
        step = torch.cholesky_solve(kept[:, :, None], factor)[:, :, 0]
        return self._reflected(torch.where(free, step, 0))

    def _factor(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Cholesky factor on neutral variations."""
        n, u = self.n, self.u
        matrix[:, :n] -= u[:, :, None] * torch.bmm(u[:, None], matrix[:, :n])
        matrix[:, :, :n] -= torch.bmm(matrix[:, :, :n], u[:, :, None]) * u[:, None]
        return _cholesky(matrix, self.free[:, : matrix.shape[1]])

    def _reflected(self, packed: Tensor) -> Tensor:
        """(1 - u u^T) on the charges."""
        charges = packed[:, : self.n]
        charges = charges - self.u * (self.u * charges).sum(1, keepdim=True)
        return torch.cat([charges, packed[:, self.n :]], 1)


def _cholesky(matrix: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factor with rows of the identity for what is not free; of the identity alone where there is none."""
    identity = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    matrix = torch.where(free[:, :, None] & free[:, None, :], matrix, identity)
    factor, info = torch.linalg.cholesky_ex(matrix)
    failed = (info != 0) | ~torch.isfinite(factor).all((1, 2))
    return torch.where(failed[:, None, None], identity, factor), failed
