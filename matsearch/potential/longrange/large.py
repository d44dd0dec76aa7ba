"""Charges and shells of one large crystal: conjugate gradients with structure factors from matrix products.

exp(ik.r) of k = n1 b1 + n2 b2 + n3 b3 is a product of three factors, so that the sum over the atoms of one width, for
all waves of a box, is a product of a matrix [waves of axes 1 and 2, atoms] and a matrix [atoms, waves of axis 3]: n
waves times n atoms, at the speed of matrix products and without ever being written out. The box holds the sphere of
waves that smaller crystals are summed over.

Newton's equations are solved by conjugate gradients on neutral variations (charges scaled by their hardness, shells by
their springs). At the solution they are asked once more, from a random start: a direction without positive curvature is
met on the way unless its curvature is next to zero. That is no proof of a minimum, as a Cholesky factorisation is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from matsearch.potential.longrange.ewald import COULOMB
from matsearch.potential.longrange.terms import LONGEST, TOLERANCE, Equilibrated, Terms, boys

MAX_NEWTON = 20
MAX_GRADIENTS = 500
SHARE = 0.4
"""Share of the longest k² up to which waves count in second derivatives: what lies beyond adds 1e-5 of them, and only
to their positive part. Slopes, and with them the solution, know all waves."""

Factors = list[tuple[Tensor, Tensor]]
"""exp(ik.r) of the atoms of each width, over the first two axes of a box and over the third."""
Packed = tuple[Tensor, Tensor]
"""Numbers of charges [n] and of shells [n, 3]."""


@dataclass(frozen=True, eq=False)
class Box:
    """Waves n1 b1 + n2 b2 + n3 b3 with n3 >= 0 (the axis of most waves), each with the widths of the crystal's atoms.

    Attributes:
        order: The axes as they are numbered here.
        ranges: Integers of the three axes.
        groups: Numbers of the atoms of each width.
        k: [m, n_3, 3] waves in 1/Å, m those of the first two axes together.
        weights: [m, n_3] in eV, half of that of a whole wave where n3 is zero and -k is in the box, too.
        damping: [n_groups, m, n_3].
    """

    order: list[int]
    ranges: list[Tensor]
    groups: list[Tensor]
    k: Tensor
    weights: Tensor
    damping: Tensor

    @classmethod
    def of(cls, terms: Terms, share: float = 1.0) -> Box:
        """The box around the waves of a crystal up to a share of the longest k², differentiable in cell and widths."""
        bounds = (share**0.5 * terms.integers[0].abs().amax(0)).long().tolist()
        order = sorted(range(3), key=bounds.__getitem__)
        like = terms.cells
        ranges = [
            torch.arange(0 if place == 2 else -bounds[axis], bounds[axis] + 1, device=like.device).to(like.dtype)
            for place, axis in enumerate(order)
        ]
        integers = torch.cartesian_prod(*ranges)
        reciprocal = 2 * math.pi * torch.linalg.inv(terms.cells[0]).mT
        k = (integers @ reciprocal[order]).unflatten(0, (-1, len(ranges[2])))
        squares = k.square().sum(2)
        zero = (integers == 0).all(1).view(squares.shape)
        counted = torch.where(integers[:, 2].view(squares.shape) == 0, 0.5, 1.0).to(like.dtype) * ~zero
        volume = torch.linalg.det(terms.cells[0]).abs()
        weights = 4 * math.pi * COULOMB / volume * counted / torch.where(zero, 1.0, squares)
        weights = terms.screened(weights.view(1, -1), squares.view(1, -1)).view(squares.shape)
        # Elements of one width have one set of parameters each: what learns them is told apart.
        kinds = torch.stack([terms.exponent[0], terms.eta[0], terms.spring[0]], 1).detach()
        _, inverse = torch.unique(kinds, dim=0, return_inverse=True)
        groups = [torch.nonzero(inverse == group)[:, 0] for group in range(int(inverse.max()) + 1)]
        widths = torch.stack([terms.exponent[0].index_select(0, group).mean() for group in groups])
        damping = torch.exp(-0.25 * squares / widths[:, None, None])
        return cls(order, ranges, groups, k, weights, damping)

    def single(self) -> Box:
        """In single precision, for what steers and does not decide."""
        return replace(self, k=self.k.float(), weights=self.weights.float(), damping=self.damping.float())

    def factors(self, fractional: Tensor) -> Factors:
        """For the atoms of each width exp(ik.r), [m, n_group] of the first two axes and [n_3, n_group] of the third."""
        result = []
        for group in self.groups:
            at = fractional.index_select(0, group)
            phases = [
                2 * math.pi * integers[:, None] * at[:, axis]
                for axis, integers in zip(self.order, self.ranges, strict=True)
            ]
            first, second, third = (
                torch.complex(phase.cos(), phase.sin()).to(torch.promote_types(self.weights.dtype, torch.complex64))
                for phase in phases
            )
            result.append(((first[:, None] * second[None]).flatten(0, 1), third))
        return result

    def sums(self, factors: Factors, values: Tensor) -> Tensor:
        """[m, n_3, c] sums of f(k) values exp(ik.r) over the atoms, from values [n, c]."""
        total: Tensor | None = None
        for group, damping, (plane, line) in zip(self.groups, self.damping, factors, strict=True):
            chosen = values.to(self.weights.dtype).index_select(0, group)
            columns = (line.mT[:, :, None] * chosen[:, None]).flatten(1)
            part = (plane @ columns).unflatten(1, (len(line), -1)) * damping[:, :, None]
            total = part if total is None else total + part
        assert total is not None
        return total

    def at_atoms(self, factors: Factors, waves: Tensor) -> Tensor:
        """[n, c] sums of f(k) waves exp(-ik.r) over the waves, from waves [m, n_3, c]: the adjoint of `sums`."""
        count = sum(len(group) for group in self.groups)
        result = waves.new_zeros((count, waves.shape[2]))
        for group, damping, (plane, line) in zip(self.groups, self.damping, factors, strict=True):
            along = plane.mH @ (waves * damping[:, :, None]).flatten(1)
            result[group] = (along.unflatten(1, (len(line), -1)) * line.mH[:, :, None]).sum(1)
        return result


def energy(terms: Terms, charges: Tensor, shells: Tensor) -> Tensor:
    """[1] in eV, as `matsearch.potential.longrange.equilibration.energy`."""
    box = Box.of(terms)
    shell = terms.shell[0]
    moved = terms.fractional[0] + shells[0] @ torch.linalg.inv(terms.cells[0])
    core_waves = box.sums(box.factors(terms.fractional[0]), (charges[0] + shell)[:, None])[:, :, 0]
    shell_waves = box.sums(box.factors(moved), shell[:, None])[:, :, 0]
    factor = core_waves - shell_waves
    waves = (box.weights * (factor.real.square() + factor.imag.square())).sum()
    return waves[None] + terms.sites(charges, shells)


@torch.no_grad()
def equilibrate(terms: Terms, total_charges: Tensor, *, exact: bool = False) -> Equilibrated:
    """Charges and shells at which the energy is stationary, as for small crystals."""
    terms = terms.detached()
    like = terms.chi[0]
    charges = torch.full_like(like, float(total_charges[0]) / len(like))
    shells = torch.zeros_like(terms.fractional[0])
    unstable, unfinished = False, True
    system = _System(terms, exact=exact)
    for step in range(MAX_NEWTON):
        system.move(charges, shells)
        slopes = system.slopes()
        left = system.largest(slopes)
        unfinished = not left < TOLERANCE
        if not unfinished and step > 0:
            break
        # As exact as the next slopes can show: a Newton step leaves what is of second order in its length, and what the
        # waves do that its second derivatives lack.
        (dq, ds), unstable = system.solve(slopes, max(0.3 * TOLERANCE, min(1e-3 * left, 0.03 * left**2 + 1e-5 * left)))
        if unstable:
            break
        shorter = min(1.0, LONGEST / max(float(torch.linalg.vector_norm(ds, dim=1).max()), 1e-30))
        charges, shells = charges - shorter * dq, shells - shorter * ds
    if not unstable:
        system.move(charges, shells)
        _, unstable = system.solve(system.probe(), 1e-2)

    def inverse(of_charges: Tensor, of_shells: Tensor) -> tuple[Tensor, Tensor]:
        packed = _Inverse.apply(torch.cat([of_charges[0, :, None], of_shells[0]], 1), system)
        return packed[None, :, 0], packed[None, :, 1:]

    broken, slow = (torch.tensor([flag], device=like.device) for flag in (unstable, unfinished))
    return Equilibrated(charges[None], shells[None], broken, slow, inverse)


@torch.no_grad()
def shell_displacements(terms: Terms, charges: Tensor, shells: Tensor, forces: Tensor) -> Tensor:
    """How shells move at fixed charges under small forces [1, n, 3, n_forces], as for small crystals."""
    system = _System(terms.detached(), exact=True, fixed_charges=True)
    system.move(charges[0], shells[0])
    columns = []
    for force in forces[0].unbind(2):
        (_, moved), unstable = system.solve((torch.zeros_like(charges[0]), force), TOLERANCE)
        columns.append(moved if not unstable else torch.full_like(moved, math.nan))
    return torch.stack(columns, 2)[None]


class _Inverse(torch.autograd.Function):
    """The inverse of the second derivatives: linear and symmetric, so that it is its own derivative."""

    @staticmethod
    def forward(ctx, slopes: Tensor, system: _System) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.system = system
        scale = slopes.abs().max().clamp(min=1e-30)
        (dq, ds), _ = system.solve((slopes[:, 0] / scale, slopes[:, 1:] / scale), TOLERANCE)
        return torch.cat([dq[:, None], ds], 1) * scale

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        return _Inverse.apply(slope, ctx.system), None


class _System:
    """First derivatives of the energy of one crystal, and its second ones times a direction."""

    def __init__(self, terms: Terms, *, exact: bool, fixed_charges: bool = False) -> None:
        self.box = Box.of(terms)
        self.long = self.box if exact else Box.of(terms, SHARE).single()
        self.terms = terms
        self.shell, self.eta, self.spring = terms.shell[0], terms.eta[0], terms.spring[0]
        self.exponent = terms.exponent[0]
        self.itself = 2 * COULOMB * (0.5 * self.exponent / math.pi).sqrt()
        self.has_shell = ((self.spring > 0) & (self.shell > 0)).to(self.shell)
        self.fixed_charges = fixed_charges
        self.core_factors = self.box.factors(terms.fractional[0])
        self.long_core_factors = self.core_factors if exact else self.long.factors(terms.fractional[0])
        self.to_fractional = torch.linalg.inv(terms.cells[0])

    def move(self, charges: Tensor, shells: Tensor) -> None:
        """Take derivatives at these charges and shells from now on."""
        self.charges, self.shells = charges, shells
        moved = self.terms.fractional[0] + shells @ self.to_fractional
        self.shell_factors = self.box.factors(moved)
        self.long_shell_factors = self.shell_factors if self.long is self.box else self.long.factors(moved)
        self.core = charges + self.shell
        x = 0.5 * self.exponent * shells.square().sum(1)
        f0, f1, f2 = (boys(x, order) for order in range(3))
        self.phi, self.phi1 = self.itself * f0, -self.itself * self.exponent * f1
        pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
        kk = torch.stack([self.long.k[:, :, a] * self.long.k[:, :, b] for a, b in pairs], 2)
        waves = self._weighted(self.long, self.long_core_factors, self.long_shell_factors)
        moments = self.long.at_atoms(self.long_shell_factors, waves * kk).real * self.shell[:, None]
        curved = shells.new_zeros((len(shells), 3, 3))
        for column, (a, b) in enumerate(pairs):
            own = self.shell * self.core * self.itself * self.exponent.square() * f2 * shells[:, a] * shells[:, b]
            curved[:, a, b] = curved[:, b, a] = moments[:, column] + own
        diagonal = self.spring + self.shell * self.core * self.phi1
        self.curved = curved + diagonal[:, None, None] * torch.eye(3, dtype=curved.dtype, device=curved.device)

    def slopes(self) -> Packed:
        """dE/dq and dE/ds."""
        terms, box = self.terms, self.box
        waves = self._weighted(box, self.core_factors, self.shell_factors)
        potential = box.at_atoms(self.core_factors, waves).real[:, 0]
        push = -self.shell[:, None] * box.at_atoms(self.shell_factors, waves * box.k).imag
        own = (self.shell * self.core * self.phi1)[:, None] * self.shells
        of_charges = terms.chi[0] + self.eta * self.charges + potential - self.core * self.itself
        of_charges = of_charges + self.shell * self.phi
        of_shells = self.spring[:, None] * self.shells + push + own + self.shell[:, None] * terms.field
        return self._neutral(of_charges), of_shells * self.has_shell[:, None]

    def curvature(self, direction: Packed) -> Packed:
        """The second derivatives times a direction."""
        dq, ds = direction
        box, core_factors, shell_factors = self.long, self.long_core_factors, self.long_shell_factors
        along = box.sums(shell_factors, self.shell[:, None] * ds)
        waves = box.sums(core_factors, dq[:, None])[:, :, 0] - 1j * (along * box.k).sum(2)
        waves = (2 * box.weights * waves)[:, :, None]
        of_charges = box.at_atoms(core_factors, waves).real[:, 0] + (self.eta - self.itself) * dq
        of_shells = -self.shell[:, None] * box.at_atoms(shell_factors, waves * box.k).imag
        mixed = (self.shell * self.phi1)[:, None] * self.shells
        of_charges = of_charges + (mixed * ds).sum(1)
        of_shells = of_shells + mixed * dq[:, None] + (self.curved @ ds[:, :, None])[:, :, 0]
        return self._neutral(of_charges), of_shells * self.has_shell[:, None]

    def solve(self, slopes: Packed, tolerance: float) -> tuple[Packed, bool]:
        """What a Newton step takes off, and whether a direction without positive curvature was met.

        Args:
            slopes: Of charges and shells.
            tolerance: Largest slope left.
        """
        left = self._neutral(slopes[0]), slopes[1] * self.has_shell[:, None]
        solution = torch.zeros_like(left[0]), torch.zeros_like(left[1])
        scaled = self._scaled(left)
        direction, product = scaled, _dot(left, scaled)
        for _ in range(MAX_GRADIENTS):
            if self.largest(left) < tolerance:
                break
            curved = self.curvature(direction)
            height = _dot(direction, curved)
            if not height > 0:
                return solution, True
            length = product / height
            solution = solution[0] + length * direction[0], solution[1] + length * direction[1]
            left = left[0] - length * curved[0], left[1] - length * curved[1]
            scaled = self._scaled(left)
            following = _dot(left, scaled)
            direction = (
                scaled[0] + following / product * direction[0],
                scaled[1] + following / product * direction[1],
            )
            product = following
        return solution, False

    def probe(self) -> Packed:
        """Slopes of no symmetry, the same for every call: a symmetric crystal's own never meet what would break it."""
        generator = torch.Generator().manual_seed(0)
        numbers = torch.rand((len(self.charges), 4), generator=generator, dtype=self.charges.dtype) - 0.5
        numbers = numbers.to(self.charges)
        return numbers[:, 0] * self.eta, numbers[:, 1:] * self.spring[:, None]

    def _weighted(self, box: Box, core_factors: Factors, shell_factors: Factors) -> Tensor:
        """[m, n_3, 1] the structure factor times twice its weights."""
        waves = box.sums(core_factors, self.core[:, None]) - box.sums(shell_factors, self.shell[:, None])
        return 2 * box.weights[:, :, None] * waves

    def largest(self, slopes: Packed) -> float:
        """The largest slope."""
        return max(float(slopes[0].abs().max()), float(slopes[1].abs().max()))

    def _neutral(self, of_charges: Tensor) -> Tensor:
        """Slopes of charges on neutral variations."""
        if self.fixed_charges:
            return torch.zeros_like(of_charges)
        return of_charges - of_charges.mean()

    def _scaled(self, slopes: Packed) -> Packed:
        """The preconditioner, on neutral variations."""
        inverse = 1 / self.eta
        dq = slopes[0] * inverse
        dq = dq - inverse * dq.sum() / inverse.sum()
        spring = torch.where(self.has_shell > 0, self.spring, 1.0)
        return dq, slopes[1] / spring[:, None]


def _dot(first: Packed, second: Packed) -> float:
    return float((first[0] * second[0]).sum() + (first[1] * second[1]).sum())
