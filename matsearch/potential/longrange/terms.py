"""The energy of polarizable charge equilibration in charges and shells.

At charges q and shell displacements s it is

    E = sum(chi q + eta q²/2 + K |s|²/2 + Z F.s) + sum over k of w |S(k)|² - own,
    S(k) = sum f(k) [(q + Z) exp(ik.r) - Z exp(ik.(r + s))],   f = exp(-k²/4a),
    own  = sum[((q + Z)² + Z²) J/2 - Z (q + Z) φ(|s|)],   φ(s) = C erf(sqrt(a/2) s)/s,   J = φ(0),

with a core of charge q + Z at r and a shell of charge -Z at r + s, both Gaussians of exponent a, and a field F. Where
interactions are screened at a length L, w is multiplied by 1 - exp(-k² L²/4), which takes erfc(r/L)/r for 1/r.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from matsearch.potential.longrange.ewald import COULOMB, wave_vectors

TOLERANCE = 1e-10
"""Largest slope left: eV per e against the common potential, and eV/Å of a shell."""
LONGEST = 0.3
"""Å; no shell moves further in one step. Shells of real crystals end within 0.1 Å."""


N_SERIES = 13
"""Powers of x <= 0.5 in the series of Boys' functions: 0.5^14/14! is 1e-15."""
AtAtoms = tuple[Tensor, Tensor]
"""Waves at the cores and at the shells, [n_block, n, 2, n_waves] each, real and imaginary parts."""


@dataclass(frozen=True, eq=False)
class Terms:
    """What the energy of crystals side by side is made of.

    Attributes:
        fractional: [n_block, n, 3] positions in lattice vectors.
        cells: [n_block, 3, 3] in Å.
        integers: [n_block, n_waves, 3] the waves in reciprocal lattice vectors.
        waves: [n_block, n_waves] which of them are no pads.
        mask: [n_block, n] which atoms are no pads.
        chi: [n_block, n] electronegativity in eV/e, with the potential of a field where charge can follow it.
        eta: [n_block, n] hardness in eV/e².
        spring: [n_block, n] K in eV/Å².
        shell: [n_block, n] Z in e, charge of the core that balances the shell; zero for an atom without shell.
        exponent: [n_block, n] a in Å^-2.
        field: [n_block, 3] on the shells, in V/Å.
        screening: [n_block] L in Å; infinite for the whole interaction.
    """

    fractional: Tensor
    cells: Tensor
    integers: Tensor
    waves: Tensor
    mask: Tensor
    chi: Tensor
    eta: Tensor
    spring: Tensor
    shell: Tensor
    exponent: Tensor
    field: Tensor
    screening: Tensor

    def detached(self) -> Terms:
        """The same numbers without their history."""
        return Terms(**{name: one.detach() for name, one in vars(self).items()})

    def beside(self, others: Terms) -> Terms:
        """These crystals and as many others of the same numbers of atoms and waves."""
        return Terms(**{name: torch.cat([one, vars(others)[name]]) for name, one in vars(self).items()})

    def wave_vectors(self) -> tuple[Tensor, Tensor]:
        """The waves in 1/Å, [n_block, n_waves, 3], and what each weighs, [n_block, n_waves] in eV/e²."""
        k, weights = wave_vectors(self.cells, self.integers, self.waves)
        return k, self.screened(weights, k.square().sum(2))

    def screened(self, weights: Tensor, squares: Tensor) -> Tensor:
        """What waves of these k² (1/Å²), [n_block, n_waves], weigh, from what they weigh without screening."""
        whole = self.screening.isinf()[:, None]
        lengths = torch.where(whole, 1.0, self.screening[:, None])
        return torch.where(whole, weights, weights * -torch.expm1(-0.25 * lengths.square() * squares))

    def sites(self, charges: Tensor, shells: Tensor) -> Tensor:
        """[n_block] the energy without the waves, differentiable in all."""
        shell = self.shell * self.mask
        core = charges * self.mask + shell
        squares = shells.square().sum(2)
        half = 0.5 * self.exponent
        itself = 2 * COULOMB * (half / torch.pi).sqrt()
        own = 0.5 * (core.square() + shell.square()) * itself - shell * core * itself * boys(half * squares, 0)
        of_atoms = charges * self.chi + 0.5 * self.eta * charges.square() + 0.5 * self.spring * squares - own
        of_atoms = of_atoms + self.shell * (shells * self.field[:, None]).sum(2)
        return (of_atoms * self.mask).sum(1)


@dataclass(frozen=True, eq=False)
class Equilibrated:
    """The minimum for crystals side by side; without history.

    Attributes:
        charges: [n_block, n] in e.
        shells: [n_block, n, 3] in Å.
        unstable: [n_block] whether second derivatives were not positive.
        unfinished: [n_block] whether slopes above `TOLERANCE` were left.
        inverse: Applies the inverse of the second derivatives on neutral variations to slopes in charges and shells,
            [n_block, n] and [n_block, n, 3]. Differentiable (it is linear).
        at_atoms: exp(ik.r) and exp(ik.(r + s)) of the waves there, damped; None where they were not written out.
    """

    charges: Tensor
    shells: Tensor
    unstable: Tensor
    unfinished: Tensor
    inverse: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    at_atoms: AtAtoms | None = None


def boys(x: Tensor, order: int) -> Tensor:
    """Boys' function F_m(x), the integral of t^2m exp(-x t²) from 0 to 1, for x >= 0; dF_m/dx = -F_(m+1).

    erf(sqrt(x))/sqrt(x) is 2/sqrt(π) F_0(x), without the trouble at x = 0.
    """
    values: Tensor = _Boys.apply(x, order)
    return values


class _Boys(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, order: int) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.order = order
        return boys_functions(x, order)[order]

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return -slope * boys(x, ctx.order + 1), None


def boys_functions(x: Tensor, highest: int) -> tuple[Tensor, ...]:
    """F_0 to F_highest at x, not differentiable."""
    powers = x.clamp(max=0.5)[..., None].expand(*x.shape, N_SERIES).cumprod(-1)
    sums = torch.matmul(powers, torch.from_numpy(_series(highest)).to(x)).unbind(-1)
    series = tuple(one + 1 / (2 * m + 1) for m, one in enumerate(sums))
    if not bool((x > 0.5).any()):
        return series
    large = x.clamp(min=0.5)
    upward = [0.5 * (torch.pi / large).sqrt() * torch.erf(large.sqrt())]
    for m in range(highest):
        upward.append(((2 * m + 1) * upward[m] - torch.exp(-large)) / (2 * large))
    return tuple(torch.where(x > 0.5, one, other) for one, other in zip(upward, series, strict=True))


@cache
def _series(highest: int) -> np.ndarray:
    """[N_SERIES, highest + 1]: of F_m at x the factor of x^n, (-1)^n/n!/(2 (m + n) + 1), from n = 1 on."""
    n, m = np.arange(1, N_SERIES + 1)[:, None], np.arange(highest + 1)
    factorials = np.cumprod(n, axis=0, dtype=np.float64)
    return (-1.0) ** n / (factorials * (2 * (m + n) + 1))
