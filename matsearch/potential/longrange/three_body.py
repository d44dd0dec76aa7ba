"""The three-body term of D3 (Axilrod, Teller and Muto) over all triples of atoms within a cutoff."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from matsearch.potential.longrange.d3_parameters import HARTREE
from matsearch.potential.longrange.switch import switch
from matsearch.potential.neighbors import Pairs

EVEN = 5.890899
"""What the triangles larger than 1 Å add where points of C9 = 1 lie evenly, one in an Å^3, to the energy of each Å^3.

1/6 of the integral of (1 + 3 cos a cos b cos c)/r^3 over all triangles whose root mean square side is above 1 Å; it
falls with the third power of that size.
"""
CHUNK = {"cpu": 1 << 15, "cuda": 1 << 22}
"""Triples that are computed together: what the caches of a CPU hold, what keeps a GPU busy."""


@dataclass(frozen=True, eq=False)
class AtomPairs:
    """The pairs of atoms that have images within reach of each other; what depends on them alone is computed once.

    Attributes:
        first: [n_atom_pairs] index of an atom.
        second: [n_atom_pairs] the other, not before the first.
        keys: [n_atom_pairs] ascending, for `find`.
        of_pairs: [n_pairs] the pair of atoms of each pair of images.
        n_atoms: Atoms of the batch.
    """

    first: Tensor
    second: Tensor
    keys: Tensor
    of_pairs: Tensor
    n_atoms: int

    @classmethod
    def of(cls, pairs: Pairs, n_atoms: int) -> AtomPairs:
        """Those of a list in the order of `search_pairs`."""
        keys, of_pairs = torch.unique_consecutive(pairs.first * n_atoms + pairs.second, return_inverse=True)
        return cls(keys // n_atoms, keys % n_atoms, keys, of_pairs, n_atoms)

    def find(self, first: Tensor, second: Tensor) -> Tensor:
        """Where the pairs of these atoms, which have to be among them, stand."""
        return torch.searchsorted(self.keys, first * self.n_atoms + second)


def three_body(
    pairs: Pairs,
    vectors: Tensor,
    atom_pairs: AtomPairs,
    c6: Tensor,
    radii: Tensor,
    n_systems: int,
    cutoff: float,
    width: float,
) -> tuple[Tensor, Tensor]:
    """Energy of each crystal, and of each atom a third of that of its triples.

    E = C9 f (1 + 3 cos a cos b cos c) / r^3, f = 1/(1 + 6 (R/r)^(16/3)): r is the product of the three distances, R of
    the three radii; C9 = sqrt(C6_ab C6_ac C6_bc), which holds in atomic units.

    Args:
        pairs: In the order of `search_pairs`, to sqrt(2) of the cutoff at least.
        vectors: [n_pairs, 3] of the pairs in Å.
        atom_pairs: Those of `pairs`.
        c6: [n_atom_pairs] in eV Å^6.
        radii: [n_atom_pairs] in Å.
        n_systems: Number of crystals.
        cutoff: Å, of the root mean square of the three distances. Not of the longest: seen from two atoms, those are on
            a sphere that are equally far by this measure, over which the term averages to zero.
        width: Å below the cutoff over which the term is switched off; 0 cuts sharply where the longest of the three
            distances passes it, as other programs do.

    Returns:
        [n_systems] in eV, once differentiable in `vectors` and `c6`; [n_atoms] in eV, not differentiable.
    """
    # Of three sides whose root mean square is 1, none is above sqrt(2).
    near = torch.nonzero(pairs.lengths < (2**0.5 * cutoff if width else cutoff))[:, 0]
    energies, atom_energies = _ThreeBody.apply(
        vectors.index_select(0, near),
        c6,
        pairs.take(near),
        atom_pairs,
        atom_pairs.of_pairs.index_select(0, near),
        radii,
        n_systems,
        cutoff,
        width,
    )
    return energies, atom_energies


class _ThreeBody(torch.autograd.Function):
    """Triples are too many to be kept for a backward pass: their slopes are taken in the forward one."""

    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        c6: Tensor,
        pairs: Pairs,
        atom_pairs: AtomPairs,
        kinds: Tensor,
        radii: Tensor,
        n_systems: int,
        cutoff: float,
        width: float,
    ) -> tuple[Tensor, Tensor]:
        energies = vectors.new_zeros(n_systems)
        # Corners and sides are added up apart, so that sums have the same bits however the chunks are cut.
        corners = vectors.new_zeros((3, atom_pairs.n_atoms))
        pulls_of_sides = vectors.new_zeros((2, *vectors.shape))
        c6_slopes = c6.new_zeros((3, len(c6)))
        roots = c6.sqrt()
        for left, right, across in _triangles(pairs.first, vectors, cutoff, width > 0):
            ends = pairs.second.index_select(0, left), pairs.second.index_select(0, right)
            atoms = (pairs.first.index_select(0, left), *ends)
            lengths = torch.linalg.vector_norm(across, dim=1)
            sides = torch.stack([pairs.lengths.index_select(0, left), pairs.lengths.index_select(0, right), lengths])
            kind = torch.stack([kinds.index_select(0, left), kinds.index_select(0, right), atom_pairs.find(*ends)])
            c9 = roots[kind].prod(0) / HARTREE**0.5
            shape, slopes = _shape(sides, radii[kind].prod(0), cutoff, width)
            energy = c9 * shape
            energies.index_add_(0, pairs.system_idx.index_select(0, left), energy)
            for corner, atom in zip(corners, atoms, strict=True):
                corner.index_add_(0, atom, energy)
            if not any(ctx.needs_input_grad):
                continue
            pulls = (c9 * slopes / sides)[:, :, None]
            pulls_of_sides[0].index_add_(0, left, vectors.index_select(0, left) * pulls[0] - across * pulls[2])
            pulls_of_sides[1].index_add_(0, right, vectors.index_select(0, right) * pulls[1] + across * pulls[2])
            for slope, one in zip(c6_slopes, kind, strict=True):
                slope.index_add_(0, one, energy)
        atom_energies = corners.sum(0) / 3
        ctx.save_for_backward(
            pulls_of_sides.sum(0),
            0.5 * c6_slopes.sum(0) / c6,
            pairs.system_idx,
            pairs.system_idx.new_zeros(len(c6)).index_copy(0, kinds, pairs.system_idx),
        )
        ctx.mark_non_differentiable(atom_energies)
        return energies, atom_energies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        vector_slopes, c6_slopes, systems, systems_of_c6 = ctx.saved_tensors
        of_vectors = vector_slopes * grad.index_select(0, systems)[:, None]
        of_c6 = c6_slopes * grad.index_select(0, systems_of_c6)
        return of_vectors, of_c6, None, None, None, None, None, None, None


def _triangles(first: Tensor, vectors: Tensor, cutoff: float, by_mean: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """All triangles within a cutoff, in chunks.

    Atoms come in an order, images of one atom too, and a pair goes from the earlier to the later; so every triangle is
    met once, at its first atom.

    Yields:
        Index of the pair to the second atom, of that to the third, and the vector between these two in Å.
    """
    _, counts = torch.unique_consecutive(first, return_counts=True)
    ends = counts.cumsum(0).repeat_interleave(counts)
    partners = ends - torch.arange(1, len(first) + 1, device=first.device)
    # Chunks end where the count of triangles passes a multiple of their size.
    chunk = torch.div(partners.cumsum(0) - partners, CHUNK[first.device.type], rounding_mode="floor")
    squares = vectors.square().sum(1)
    start = 0
    for n_pairs in torch.unique_consecutive(chunk, return_counts=True)[1].tolist():
        count = partners[start : start + n_pairs]
        left = torch.repeat_interleave(torch.arange(start, start + n_pairs, device=first.device), count)
        right = left + 1 + torch.arange(len(left), device=first.device)
        right = right - (count.cumsum(0) - count).repeat_interleave(count)
        start += n_pairs
        across = vectors.index_select(0, right) - vectors.index_select(0, left)
        size = across.square().sum(1)
        if by_mean:
            size = (size + squares.index_select(0, left) + squares.index_select(0, right)) / 3
        kept = torch.nonzero(size < cutoff**2)[:, 0]
        yield left.index_select(0, kept), right.index_select(0, kept), across.index_select(0, kept)


def _shape(sides: Tensor, radius: Tensor, cutoff: float, width: float) -> tuple[Tensor, Tensor]:
    """Energy of triangles for C9 = 1, and its slopes with their sides.

    Args:
        sides: [3, n_triples] in Å.
        radius: [n_triples] product of three radii in Å^3.
        cutoff: Å.
        width: Å.
    """
    squares = sides.square()
    product = squares.prod(0)
    inverse = 1 / product
    scale = inverse * inverse.sqrt()  # 1/r^3
    # Of a triangle with squared sides x, y, z: the law of cosines, three times; and its slope with each square.
    edges = squares.sum(0) - 2 * squares
    cosines = edges.prod(0)
    others = edges.roll(1, 0) * edges.roll(2, 0)
    angular = 1 + 0.375 * cosines * inverse
    angular_slopes = 0.375 * inverse * (others.sum(0) - 2 * others - cosines / squares)
    ratio = torch.exp(8 / 3 * torch.log(radius.square() * inverse))  # a power would depend on the place in the tensor
    damp = 1 / (1 + 6 * ratio)
    energy = angular * scale * damp
    slopes = scale * damp * (angular_slopes + angular / squares * (16 * ratio * damp - 1.5))
    slopes = 2 * sides * slopes
    if width:
        size = (squares.sum(0) / 3).sqrt()
        factor, factor_slope = switch(size, cutoff, width)
        slopes = slopes * factor + energy * factor_slope / (3 * size) * sides
        energy = energy * factor
    return energy, slopes
