"""Electrostatic energy of point charges and of Gaussian charges in periodic crystals, by Ewald summation.

A Gaussian charge has the density q (a/π)^(3/2) exp(-a r²), with its own exponent a (Å^-2) for each atom; a point charge
is the limit of an infinite one. Two of them interact by J(r) = C erf(g r)/r with g = (1/a_i + 1/a_j)^(-1/2).

Conventions:

- The energy is that of all pairs of atom and image, an atom's with its own images among them, without the energy of an
  atom's charge with itself.
- The average potential is zero: the term of k = 0 is left out. A neutral crystal is thereby surrounded by a conductor
  ("tin foil": no term of the surface); a charged one gets a uniform neutralising background, with which its Gaussians
  interact as what they are, so that the energy depends on their widths (by C π Q sum(q/a)/V against point charges).
- Cells of either handedness; the volume is |det|.

One formula serves both sums (after P. P. Ewald, Ann. Phys. 369, 253 (1921), with one width for each atom): in
reciprocal space, where no Gaussian is narrower than that of exponent 2 α², narrower ones being widened to that; what
the widening changed is summed over pairs in real space. If nothing was widened, nothing is left to be summed there.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from matsearch.errors import PotentialError
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.padding import blocks, rejoin_systems

COULOMB = 14.399645
"""e²/(4 π eps0) in eV Å (the value that the published PQEq parameters go with; CODATA 2018: 14.39964548)."""
DIGITS = 25.0
"""Both sums end where their Gaussian factors have fallen to exp(-DIGITS), 1e-11."""
ELEMENTS_AT_ONCE = 4e6
"""Entries [crystals x waves x atoms] that are held together: 32 MB each array."""

MAX_BOX = 1e8
"""Waves of a box around the sphere, beyond which a cell is refused: 2.4 GB."""


def ewald_energy(
    batch: CrystalBatch, charges: Tensor, exponents: Tensor | None = None, *, splitting: float | None = None
) -> Tensor:
    """Electrostatic energy of each crystal.

    Args:
        batch: Positions [n_atoms, 3] in Å; cells [n_systems, 3, 3], lattice vectors as rows.
        charges: [n_atoms] in e.
        exponents: [n_atoms] in Å^-2, of Gaussian charges; infinite for a point charge. None: all are points.
        splitting: α in 1/Å. None: what costs least, for each crystal; for a small one of Gaussian charges that is
            reciprocal space alone.

    Returns:
        [n_systems] in eV, twice differentiable in positions, cells, charges and exponents; the same for any splitting.

    Raises:
        ValueError: Charges or exponents do not fit the batch, or an exponent or the splitting is not positive.
    """
    positions, cells = batch.positions, batch.cells
    if charges.shape != (batch.n_atoms,):
        raise ValueError(f"charges must be [n_atoms={batch.n_atoms}], got {tuple(charges.shape)}")
    if exponents is None:
        exponents = torch.full_like(charges, math.inf)
    if exponents.shape != charges.shape or not bool((exponents > 0).all()):
        raise ValueError(f"exponents must be positive and [n_atoms={batch.n_atoms}], got {tuple(exponents.shape)}")
    if splitting is not None and not 0 < splitting < math.inf:
        raise ValueError(f"splitting must be a positive number (1/Å), got {splitting}")
    volumes = batch.volumes
    alpha = _cheapest(batch, exponents) if splitting is None else torch.full_like(volumes, splitting)
    widened = torch.minimum(exponents, (2 * alpha.square()).index_select(0, batch.system_idx))
    energies = _reciprocal(batch, charges, widened)
    itself = charges.square() * COULOMB * (widened / (2 * math.pi)).sqrt()
    # Averages to zero what the sum over pairs adds to the potential.
    total = batch.per_system(charges)
    background = math.pi * COULOMB / volumes * total * batch.per_system(charges * (1 / widened - 1 / exponents))
    energies = energies - batch.per_system(itself) - background
    if bool((widened == exponents).all()):
        return energies
    reach = float(_reach(batch, widened.detach(), alpha, exponents.detach()).max())
    pairs = batch.pairs(reach)
    changed = torch.nonzero((widened < exponents)[pairs.first] | (widened < exponents)[pairs.second])[:, 0]
    pairs = pairs.take(changed)
    lengths = torch.linalg.vector_norm(pairs.vectors(positions, cells), dim=1)
    products = charges.index_select(0, pairs.first) * charges.index_select(0, pairs.second)
    true, wide = (
        (1 / values).index_select(0, pairs.first) + (1 / values).index_select(0, pairs.second)
        for values in (exponents, widened)
    )
    terms = COULOMB * products * (_beyond(wide, lengths) - _beyond(true, lengths)) / lengths
    return energies.index_add(0, pairs.system_idx, terms)


def isolated_energy(
    positions: Tensor, charges: Tensor, system_idx: Tensor, n_systems: int, exponents: Tensor | None = None
) -> Tensor:
    """Electrostatic energy of molecules in empty space, of any total charge: the sum over all pairs.

    Args:
        positions: [n_atoms, 3] in Å.
        charges: [n_atoms] in e.
        system_idx: [n_atoms] molecule of each atom.
        n_systems: Number of molecules.
        exponents: [n_atoms] in Å^-2, infinite for a point charge. None: all are points.

    Returns:
        [n_systems] in eV, twice differentiable.
    """
    if exponents is None:
        exponents = torch.full_like(charges, math.inf)
    same = torch.triu(system_idx[:, None] == system_idx[None, :], diagonal=1)
    first, second = torch.nonzero(same, as_tuple=True)
    lengths = torch.linalg.vector_norm(positions[second] - positions[first], dim=1)
    spreads = 1 / exponents[first] + 1 / exponents[second]
    terms = COULOMB * charges[first] * charges[second] * (1 - _beyond(spreads, lengths)) / lengths
    return terms.new_zeros(n_systems).index_add(0, system_idx[first], terms)


def waves(cells: Tensor, cutoffs: Tensor) -> tuple[Tensor, Tensor]:
    """Reciprocal lattice vectors within a cutoff, one of k and -k each, without zero, the longest last.

    Args:
        cells: [n_block, 3, 3] in Å.
        cutoffs: [n_block] in 1/Å, the 2π included.

    Returns:
        [n_block, n_waves, 3] their integer coordinates (k = 2π cell^-1 n), and [n_block, n_waves] which of them are
        waves rather than pads; a pad is (0, 0, 1).

    Raises:
        PotentialError: A cell is so large, or so skewed, that its waves would not fit in memory.
    """
    cells, cutoffs = cells.detach(), cutoffs.detach()
    pad = cells.new_tensor([0.0, 0.0, 1.0])
    # k . a_j = 2 π n_j, so that |n_j| <= |k| |a_j| / 2 π.
    bounds = (cutoffs[:, None] * torch.linalg.vector_norm(cells, dim=2) / (2 * math.pi)).amax(0).floor().long().tolist()
    n_box = math.prod(2 * bound + 1 for bound in bounds)
    if n_box > MAX_BOX:
        raise PotentialError(
            f"a cell of {float(torch.linalg.det(cells).abs().max()):.3g} Å^3 takes too many waves "
            f"(a box of {n_box:.2g}); give it less vacuum, or lattice vectors less long and skewed"
        )
    if len(cells) > 1 and len(cells) * n_box > MAX_BOX / 10:  # cells that are long in different directions
        parts = [waves(cells[one : one + 1], cutoffs[one : one + 1]) for one in range(len(cells))]
        most = max(mask.shape[1] for _, mask in parts)
        padded = [
            (F.pad(integers - pad, (0, 0, 0, most - mask.shape[1])) + pad, F.pad(mask, (0, most - mask.shape[1])))
            for integers, mask in parts
        ]
        return torch.cat([integers for integers, _ in padded]), torch.cat([mask for _, mask in padded])
    axes = [torch.arange(-bound, bound + 1, device=cells.device) for bound in bounds]
    integers = torch.cartesian_prod(*axes)
    first, second, third = integers.unbind(1)
    half = (first > 0) | ((first == 0) & ((second > 0) | ((second == 0) & (third > 0))))
    integers = integers[half].to(cells.dtype)
    if not len(integers):  # a small cell of wide Gaussians
        return pad.expand(len(cells), 1, 3), torch.zeros((len(cells), 1), dtype=torch.bool, device=cells.device)
    reciprocal = 2 * math.pi * torch.linalg.inv(cells).mT
    metric = (reciprocal @ reciprocal.mT).flatten(1)
    squares = metric @ (integers[:, :, None] * integers[:, None]).flatten(1).mT
    systems, found = torch.nonzero(squares <= cutoffs[:, None].square(), as_tuple=True)
    counts = torch.bincount(systems, minlength=len(cells))
    n_waves = max(1, int(counts.max())) if len(counts) else 1
    places = torch.arange(len(systems), device=cells.device) - (counts.cumsum(0) - counts).index_select(0, systems)
    chosen = found.new_zeros((len(cells), n_waves)).index_put_((systems, places), found)
    lengths = squares.new_full(chosen.shape, math.inf).index_put_((systems, places), squares[systems, found])
    mask = torch.arange(n_waves, device=cells.device) < counts[:, None]
    chosen = chosen.gather(1, lengths.argsort(1))
    return torch.where(mask[:, :, None], integers[chosen], pad), mask


def wave_vectors(cells: Tensor, integers: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The waves of `waves` and what each weighs in the energy.

    Returns:
        k, [n_block, n_waves, 3] in 1/Å, and the weights 4 π C/(V k²), [n_block, n_waves] in eV: the energy is the sum
        of weight times |structure factor|², k and -k together. Both differentiable in the cells; pads weigh nothing.
    """
    k = 2 * math.pi * integers @ torch.linalg.inv(cells).mT
    weights = 4 * math.pi * COULOMB / torch.linalg.det(cells).abs()[:, None] / k.square().sum(2)
    return k, weights * mask


def wave_cutoff(exponents: Tensor) -> Tensor:
    """Cutoff in 1/Å for charges of which the narrowest has this exponent (Å^-2)."""
    return (2 * DIGITS * exponents).sqrt()


def reciprocal_energy(
    fractional: Tensor, charges: Tensor, exponents: Tensor, cells: Tensor, integers: Tensor, mask: Tensor
) -> Tensor:
    """Energy in reciprocal space of crystals side by side, each charge's own energy included.

    Args:
        fractional: [n_block, n_max, 3] in lattice vectors.
        charges: [n_block, n_max] in e, zero for pads.
        exponents: [n_block, n_max] in Å^-2.
        cells: [n_block, 3, 3] in Å.
        integers: [n_block, n_waves, 3] and
        mask: [n_block, n_waves], from `waves`.

    Returns:
        [n_block] in eV.
    """
    k, weights = wave_vectors(cells, integers, mask)
    phases = 2 * math.pi * integers @ fractional.mT
    damped = charges[:, None, :] * torch.exp(-0.25 * k.square().sum(2)[:, :, None] / exponents[:, None, :])
    real, imaginary = (damped * phases.cos()).sum(2), (damped * phases.sin()).sum(2)
    return (weights * (real.square() + imaginary.square())).sum(1)


def _reciprocal(batch: CrystalBatch, charges: Tensor, exponents: Tensor) -> Tensor:
    """[n_systems] energies in reciprocal space."""
    cells = batch.cells
    fractional = fractional_positions(batch)
    narrowest = _extreme(batch, exponents.detach(), "amax")
    cutoffs = wave_cutoff(narrowest)
    n_waves = batch.volumes.detach() * cutoffs**3 / (12 * math.pi**2) + 1
    costs = (n_waves * torch.tensor(batch.sizes, device=cells.device)).tolist()
    made = blocks(batch.sizes, costs, ELEMENTS_AT_ONCE, cells.device)
    parts = []
    for block in made:
        own = cells.index_select(0, block.systems)
        integers, mask = waves(own, cutoffs.index_select(0, block.systems))
        arguments = (block.take(fractional), block.take(charges) * block.mask, block.take(exponents), own)
        step = max(1, int(ELEMENTS_AT_ONCE / block.mask.numel()))
        if mask.shape[1] <= step:
            parts.append(reciprocal_energy(*arguments, integers, mask))
            continue
        total = own.new_zeros(len(own))
        for start in range(0, mask.shape[1], step):
            part = (integers[:, start : start + step], mask[:, start : start + step])
            # Computed again for the backward pass: a large crystal's waves would not fit in memory.
            total = total + checkpoint(reciprocal_energy, *arguments, *part, use_reentrant=False)
        parts.append(total)
    return rejoin_systems(made, parts)


def fractional_positions(batch: CrystalBatch) -> Tensor:
    """[n_atoms, 3] in lattice vectors, differentiable."""
    inverse = torch.linalg.inv(batch.cells).index_select(0, batch.system_idx)
    return torch.bmm(batch.positions[:, None, :], inverse)[:, 0]


def _beyond(spreads: Tensor, lengths: Tensor) -> Tensor:
    """erfc(r/sqrt(1/a_i + 1/a_j)): what two charges of these spreads (Å²) lack of two points; zero for two points."""
    points = spreads == 0
    return torch.where(points, 0, torch.erfc(lengths * torch.where(points, 1, spreads).rsqrt()))


def _extreme(batch: CrystalBatch, values: Tensor, which: str) -> Tensor:
    """[n_systems] the largest (`amax`) or least (`amin`) of each crystal's values."""
    empty = values.new_zeros(batch.n_systems)
    return empty.scatter_reduce(0, batch.system_idx, values, which, include_self=False)


def _reach(batch: CrystalBatch, widened: Tensor, alpha: Tensor, exponents: Tensor) -> Tensor:
    """[n_systems] distance in Å beyond which no pair was changed by the widening."""
    changed = _extreme(batch, (widened < exponents).to(widened.dtype), "amax")
    widest = _extreme(batch, widened, "amin")
    return changed * (DIGITS * (1 / widest + 1 / (2 * alpha.square()))).sqrt()


def _cheapest(batch: CrystalBatch, exponents: Tensor) -> Tensor:
    """[n_systems] α in 1/Å of the least work.

    A wave at an atom is the unit of work; a pair takes about four. Where all charges are Gaussian, not to widen any is
    among what is compared.
    """
    exponents = exponents.detach()
    counts = torch.tensor(batch.sizes, dtype=exponents.dtype, device=exponents.device)
    volumes = batch.volumes.detach()
    narrowest, widest = _extreme(batch, exponents, "amax"), _extreme(batch, exponents, "amin")
    best = torch.full_like(volumes, 1.0)
    least = torch.full_like(volumes, math.inf)
    for step in range(15):
        alpha = torch.full_like(volumes, 0.15 * 1.22**step)
        if step == 14:
            alpha = torch.where(narrowest.isinf(), alpha, (0.5 * narrowest).sqrt() * 1.0001)
        limit = 2 * alpha.square()
        n_waves = volumes * wave_cutoff(torch.minimum(narrowest, limit)) ** 3 / (12 * math.pi**2)
        reach = (DIGITS * (1 / torch.minimum(widest, limit) + 1 / limit)).sqrt() * (narrowest > limit)
        work = counts * n_waves + 4 * counts.square() / volumes * (2 / 3 * math.pi) * reach**3
        best, least = torch.where(work < least, alpha, best), torch.minimum(work, least)
    return best
