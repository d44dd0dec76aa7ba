"""Charges and shells of minimal energy: Newton's method on crystals side by side.

First and second derivatives of the energy (`matsearch.potential.longrange.terms`) in charges and shells are written out
here, so that a step costs a matrix product and a Cholesky factorisation. The total charge is held by a reflection that
turns (1, 1, ..., 1) of the charges into one coordinate, which is then left alone: the rest are the neutral variations.
Crystals too large for that go to `matsearch.potential.longrange.large`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from matsearch.potential.longrange import large
from matsearch.potential.longrange.ewald import COULOMB
from matsearch.potential.longrange.terms import LONGEST, TOLERANCE, AtAtoms, Equilibrated, Terms, boys_functions

MAX_FACTORS = 12
"""Second derivatives are computed this often at most; two suffice for what is far from a catastrophe."""
STEPS_A_FACTOR = 8
WORTH_IT = 3e-3
"""Slopes (eV/e, eV/Å) from which on the second derivatives of the start are too far off."""
NEAR = 1e-3
"""e and Å: second derivatives this near to the solution stand for those at it where they are tested."""
LARGE = 160
"""Atoms from which on matrices are not written out: as fast there and faster beyond, but it proves no minimum."""
MANY_WAVES = 30_000
"""Waves from which on they are not written out for each atom: a molecule in much vacuum."""


def energy(terms: Terms, charges: Tensor, shells: Tensor, at_atoms: AtAtoms | None = None) -> Tensor:
    """[n_block] in eV at charges [n_block, n] (e) and shell displacements [n_block, n, 3] (Å), differentiable.

    Args:
        terms: What the energy is made of.
        charges: In e.
        shells: In Å.
        at_atoms: `Equilibrated.at_atoms`, where these are its charges and shells: saves their waves. The energy is then
            differentiable once, in positions and cells.
    """
    if is_large(terms):
        return large.energy(terms, charges, shells)
    shell = terms.shell * terms.mask
    core = charges * terms.mask + shell
    k, weights = terms.wave_vectors()
    if at_atoms is None:
        waves = _waves_energy(k, weights, terms, core, shell, shells)
    else:
        others = terms.integers, core, shell, shells, terms.exponent, *at_atoms
        waves = _WavesEnergy.apply(k, weights, terms.fractional, *others)
    return waves + terms.sites(charges, shells)


def is_large(terms: Terms) -> bool:
    """Whether it is one crystal, too large for matrices and waves that are written out."""
    return len(terms.mask) == 1 and (terms.mask.shape[1] >= LARGE or terms.waves.shape[1] >= MANY_WAVES)


def _waves_energy(k: Tensor, weights: Tensor, terms: Terms, core: Tensor, shell: Tensor, shells: Tensor) -> Tensor:
    """[n_block] the sum of w |S(k)|², differentiable in all."""
    damping = torch.exp(-0.25 * k.square().sum(2)[:, None] / terms.exponent[:, :, None])
    phases = 2 * torch.pi * terms.fractional @ terms.integers.mT
    moved = phases + shells @ k.mT
    core, shell = core[:, :, None], shell[:, :, None]
    real = (damping * (core * phases.cos() - shell * moved.cos())).sum(1)
    imaginary = (damping * (core * phases.sin() - shell * moved.sin())).sum(1)
    return (weights * (real.square() + imaginary.square())).sum(1)


class _WavesEnergy(torch.autograd.Function):
    """`_waves_energy` from waves at the atoms that are known, differentiable once in k, weights and positions."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, k, weights, _positions, integers, core, shell, shells, exponent, core_waves, shell_waves
    ):
        factor = _structure_factor(core, core_waves, shell, shell_waves)
        ctx.save_for_backward(k, weights, integers, core, shell, shells, exponent, core_waves, shell_waves, factor)
        return (weights * factor.square().sum(1)).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):  # type: ignore[no-untyped-def]
        k, weights, integers, core, shell, shells, exponent, core_waves, shell_waves, factor = ctx.saved_tensors
        core_waves, shell_waves = core_waves.flatten(2), shell_waves.flatten(2)
        weighted = 2 * slope[:, None, None] * weights[:, None] * factor
        # Of the phases: d exp(i phase) = i exp(i phase).
        turned = _turned(weighted)
        by_axis = turned.flatten(1)[:, :, None] * integers.repeat(1, 2, 1)
        of_positions = core[:, :, None] * torch.bmm(core_waves, by_axis)
        of_positions = of_positions - shell[:, :, None] * torch.bmm(shell_waves, by_axis)
        # Of the waves themselves: by the damping, and by k.s in the phase of a shell.
        damped = (weighted * _structure_factor(core / exponent, core_waves, shell / exponent, shell_waves)).sum(1)
        along = torch.bmm((shell[:, :, None] * shells).mT, shell_waves)
        moved = (turned[:, None] * along.unflatten(2, (2, -1))).sum(2)
        of_k = -0.5 * k * damped[:, :, None] - moved.mT
        of_weights = slope[:, None] * factor.square().sum(1)
        return of_k, of_weights, 2 * torch.pi * of_positions, *[None] * 7


def _structure_factor(core: Tensor, core_waves: Tensor, shell: Tensor, shell_waves: Tensor) -> Tensor:
    """[n_block, 2, n_waves] real and imaginary part, from waves [n_block, n, 2, n_waves]."""
    factor = torch.bmm(core[:, None], core_waves.flatten(2))
    return factor.baddbmm(shell[:, None], shell_waves.flatten(2), alpha=-1).view(len(core), 2, -1)


def _turned(parts: Tensor) -> Tensor:
    """[n_block, 2, n_waves] what takes the place of real and imaginary parts in slopes with a phase."""
    return torch.stack([parts[:, 1], -parts[:, 0]], 1)


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
    if is_large(terms):
        return large.equilibrate(terms, total_charges, exact=exact)
    system = _System(terms.detached(), exact=exact)
    n = system.n
    charges = terms.mask * (total_charges / terms.mask.sum(1))[:, None]
    # The charges alone first: without them no shell feels anything.
    at = system.at(charges)
    factor, failed = system.factor_of_charges()
    at = system.at(charges - system.solve(factor, at.slopes[:, :n]))
    unstable, unfinished = failed, torch.ones_like(failed)
    for first in (True, *[False] * (MAX_FACTORS - 1)):
        factor, unstable = system.factor(at)
        factored = at
        before = torch.full_like(total_charges, torch.inf)
        for _ in range(STEPS_A_FACTOR):
            left = at.slopes.abs().amax(1)
            unfinished = ~(left < TOLERANCE)
            todo = unfinished & ~unstable
            slow = bool((left > 0.3 * before)[todo].any()) or (first and bool((left < WORTH_IT)[todo].all()))
            if slow or not bool(todo.any()):
                break
            before = left
            moved, step = system.unpack(system.solve(factor, at.slopes))
            length = torch.linalg.vector_norm(step, dim=2).amax(1)
            shorter = (LONGEST / length.clamp(min=1e-30)).clamp(max=1.0)
            shorter = torch.where(todo, shorter, 0.0)
            at = system.at(at.charges - shorter[:, None] * moved, at.shells - shorter[:, None, None] * step)
        # Without second derivatives at the solution itself none is known to be a minimum.
        charges_off, shells_off = (at.charges - factored.charges).abs(), (at.shells - factored.shells).abs()
        far = (charges_off.amax(1) > NEAR) | (shells_off.amax((1, 2)) > NEAR)
        if not bool(((unfinished | far) & ~unstable).any()):
            break
    if exact:
        factor, unstable = system.factor(at)

    def inverse(of_charges: Tensor, of_shells: Tensor) -> tuple[Tensor, Tensor]:
        return system.unpack(system.solve(factor, system.kept(system.pack(of_charges, of_shells))))

    waves = system.core_waves, at.shell_waves
    return Equilibrated(at.charges, at.shells, unstable, unfinished, inverse, waves)


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
    if is_large(terms):
        return large.shell_displacements(terms, charges, shells, forces)
    system = _System(terms.detached(), exact=True)
    free = system.free[:, system.n :]
    matrix = system.second_derivatives(system.at(charges, shells))[:, system.n :, system.n :]
    factor, failed = _cholesky(matrix, free)
    packed = torch.where(free[:, :, None], forces.transpose(1, 2).flatten(1, 2), 0)
    moved = torch.where(free[:, :, None], torch.cholesky_solve(packed, factor), 0)
    moved = moved.unflatten(1, (3, system.n)).transpose(1, 2)
    return torch.where(failed[:, None, None, None], torch.nan, moved)


@dataclass(frozen=True, eq=False)
class _Point:
    """Charges and shells, and what follows from them.

    Attributes:
        system: Whose they are.
        charges: [n_block, n] in e.
        shells: [n_block, n, 3] in Å.
        core: [n_block, n] charges of the cores in e.
        shell_waves: [n_block, n, 2, n_waves] exp(ik.(r + s)), damped.
        weighted: [n_block, 2, n_waves] the structure factor times twice its weights, in eV/e.
        boys: F_0, F_1, F_2 of a s²/2, [n_block, n] each.
    """

    system: _System
    charges: Tensor
    shells: Tensor
    core: Tensor
    shell_waves: Tensor
    weighted: Tensor
    boys: tuple[Tensor, ...]

    @cached_property
    def slopes(self) -> Tensor:
        """[n_block, 4n] dE/dq in eV/e and dE/ds in eV/Å, packed, on neutral variations."""
        system, terms, core, shell, shells = self.system, self.system.terms, self.core, self.system.shell, self.shells
        potential = torch.bmm(system.core_waves.flatten(2), self.weighted.flatten(1)[:, :, None])[:, :, 0]
        along = (_turned(self.weighted)[:, None] * system.along[:, :, None]).flatten(2)
        push = torch.bmm(self.shell_waves.flatten(2), along.mT)
        f0, f1, _ = self.boys
        # φ(s) = J F_0(a s²/2), so that grad φ = -J F_1 a s.
        of_charges = terms.chi + terms.eta * self.charges + potential + system.itself * (shell * f0 - core)
        own = terms.spring - shell * core * system.itself * terms.exponent * f1
        of_shells = own[:, :, None] * shells + shell[:, :, None] * (terms.field[:, None] - push)
        return system.kept(system.pack(of_charges, of_shells))


class _System:
    """First and second derivatives of the energy in q and s, packed as [q, s_x, s_y, s_z] of n atoms each.

    Waves at the atoms, exp(ik.r), are kept as [n_block, n, 2, n_waves], real and imaginary parts.
    """

    def __init__(self, terms: Terms, *, exact: bool = False) -> None:
        self.terms = terms
        self.n = terms.mask.shape[1]
        k, weights = terms.wave_vectors()
        squares = k.square().sum(2)
        self.along, self.twice = k.mT.contiguous(), 2 * weights
        self.phases = 2 * torch.pi * terms.fractional @ terms.integers.mT
        self.damping = torch.exp((-0.25 / terms.exponent)[:, :, None] * squares[:, None]) * terms.mask[:, :, None]
        self.core_waves = self._waves(self.phases)
        self.n_long = squares.shape[1]
        if not exact:
            # The waves come by rising length.
            squares = squares * terms.waves
            self.n_long = int((squares <= large.SHARE * squares.amax(1, keepdim=True)).sum(1).max())
        # Second derivatives steer and do not decide, but for whether they are positive.
        self.steering = squares.dtype if exact else torch.float32
        self.root = self.twice[:, : self.n_long].sqrt().to(self.steering)
        core_waves = self.core_waves[..., : self.n_long].to(self.steering)
        self.core_slopes = (core_waves * self.root[:, None, None]).flatten(2)
        self.shell = terms.shell * terms.mask
        self.half = 0.5 * terms.exponent
        self.itself = 2 * COULOMB * (self.half / torch.pi).sqrt()
        # The reflection 1 - u u^T that turns (1, ..., 1)/sqrt(n) into (1, 0, ..., 0).
        u = terms.mask.to(squares.dtype)
        u = u / u.sum(1, keepdim=True).sqrt()
        u[:, 0] -= 1
        norm = torch.linalg.vector_norm(u, dim=1, keepdim=True)
        self.u = torch.where(norm > 1e-8, 2**0.5 * u / norm.clamp(min=1e-8), 0.0)
        has_shell = (terms.spring > 0) & (terms.shell > 0) & terms.mask
        free = terms.mask.clone()
        free[:, 0] = False  # the total charge
        self.free = torch.cat([free, has_shell, has_shell, has_shell], 1)

    def _waves(self, phases: Tensor) -> Tensor:
        """[n_block, n, 2, n_waves] exp(i phase), damped."""
        waves = torch.stack([phases.cos(), phases.sin()], 2)
        return waves.mul_(self.damping[:, :, None])

    def pack(self, of_charges: Tensor, of_shells: Tensor) -> Tensor:
        """[n_block, 4n] from [n_block, n] and [n_block, n, 3]."""
        return torch.cat([of_charges, of_shells.mT.flatten(1)], 1)

    def unpack(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `pack`."""
        return packed[:, : self.n], packed[:, self.n :].unflatten(1, (3, self.n)).mT

    def kept(self, slopes: Tensor) -> Tensor:
        """Slopes along what is free, the charges reflected."""
        return torch.where(self.free[:, : slopes.shape[1]], self._reflected(slopes), 0)

    def _reflected(self, packed: Tensor) -> Tensor:
        """(1 - u u^T) on the charges."""
        charges = packed[:, : self.n]
        charges = charges - self.u * (self.u * charges).sum(1, keepdim=True)
        return torch.cat([charges, packed[:, self.n :]], 1)

    def at(self, charges: Tensor, shells: Tensor | None = None) -> _Point:
        """Charges [n_block, n] and shells [n_block, n, 3]; None: at rest on their cores."""
        core = charges * self.terms.mask + self.shell
        if shells is None:
            shells, shell_waves = torch.zeros_like(self.terms.fractional), self.core_waves
        else:
            shell_waves = self._waves(torch.baddbmm(self.phases, shells, self.along))
        weighted = self.twice[:, None] * _structure_factor(core, self.core_waves, self.shell, shell_waves)
        boys = boys_functions(self.half * shells.square().sum(2), 2)
        return _Point(self, charges, shells, core, shell_waves, weighted, boys)

    def factor_of_charges(self) -> tuple[Tensor, Tensor]:
        """Cholesky factor of d²E/dq² on neutral variations where the shells are at rest, and which have none."""
        matrix = torch.bmm(self.core_slopes, self.core_slopes.mT)
        matrix.diagonal(dim1=1, dim2=2).add_((self.terms.eta - self.itself).to(self.steering))
        return self._factor(matrix)

    def factor(self, at: _Point) -> tuple[Tensor, Tensor]:
        """Cholesky factor of the second derivatives on neutral variations, and which crystals have none."""
        return self._factor(self.second_derivatives(at))

    def second_derivatives(self, at: _Point) -> Tensor:
        """[n_block, 4n, 4n], packed."""
        terms, n, n_long, shell, shells = self.terms, self.n, self.n_long, self.shell, at.shells
        along = self.along[:, :, :n_long].to(self.steering)
        shell_waves = at.shell_waves[..., :n_long].to(self.steering) * shell.to(self.steering)[:, :, None, None]
        # dS/ds = -Z f ik exp(ik.(r + s)), scaled as the structure factor's slopes with charges are; along the axis it
        # takes k_a.
        turned = torch.stack([shell_waves[:, :, 1], -shell_waves[:, :, 0]], 2)
        slopes = turned[:, None] * (along * self.root[:, None])[:, :, None, None]
        slopes = torch.cat([self.core_slopes, slopes.flatten(3).flatten(1, 2)], 1)
        matrix = torch.bmm(slopes, slopes.mT)
        # The rest is of one atom each: d²S/ds² = -Z f k k exp(ik.(r + s)), and what the atom is by itself.
        both = (at.weighted[:, None, :, :n_long].to(self.steering) * shell_waves).sum(2)
        products = (along[:, :, None] * along[:, None]).flatten(1, 2)
        _, f1, f2 = at.boys
        scale = shell * self.itself * terms.exponent
        own = shell.new_zeros((*shell.shape, 4, 4))
        own[:, :, 0, 0] = terms.eta - self.itself
        # grad φ = -J a F_1 s, grad grad φ = J a (a F_2 s s - F_1)
        own[:, :, 0, 1:] = own[:, :, 1:, 0] = -(scale * f1)[:, :, None] * shells
        curved = (at.core * scale * terms.exponent * f2)[:, :, None, None] * shells[:, :, :, None] * shells[:, :, None]
        own[:, :, 1:, 1:] = curved + torch.bmm(both, products.mT).unflatten(2, (3, 3))
        own.diagonal(dim1=2, dim2=3)[:, :, 1:] += (terms.spring - at.core * scale * f1)[:, :, None]
        matrix.unflatten(2, (4, n)).unflatten(1, (4, n)).diagonal(dim1=2, dim2=4).add_(
            own.permute(0, 2, 3, 1).to(self.steering)
        )
        return matrix

    def solve(self, factor: Tensor, slopes: Tensor) -> Tensor:
        """What a Newton step takes off, from slopes that are `kept`; differentiable in them."""
        step = torch.cholesky_solve(slopes[:, :, None].to(factor.dtype), factor)[:, :, 0]
        return self._reflected(step.to(slopes.dtype))

    def _factor(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Cholesky factor on neutral variations."""
        n, u = self.n, self.u.to(matrix.dtype)
        matrix[:, :n] -= u[:, :, None] * torch.bmm(u[:, None], matrix[:, :n])
        matrix[:, :, :n] -= torch.bmm(matrix[:, :, :n], u[:, :, None]) * u[:, None]
        return _cholesky(matrix, self.free[:, : matrix.shape[1]])


def _cholesky(matrix: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factor with rows of the identity for what is not free; of the identity alone where there is none."""
    identity = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    matrix = torch.where(free[:, :, None] & free[:, None, :], matrix, identity)
    factor, info = torch.linalg.cholesky_ex(matrix)
    failed = (info != 0) | ~torch.isfinite(factor).all((1, 2))
    if bool(failed.any()):
        factor = torch.where(failed[:, None, None], identity, factor)
    return factor, failed
