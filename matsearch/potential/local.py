"""A small network of an atom's surroundings, for systems of a few elements: trains in minutes on a CPU.

Within the cutoff, each element around an atom is a density, expanded in Bessel functions of the distance and tensors of
the direction up to the second order. Their invariants, up to four-body ones, are the features. As every density enters
linearly, too, a sum over pairs is among what is learned at once. All in double precision, and twice differentiable.

Sources: atomic densities and invariants as in Bartók et al., Phys. Rev. B 87, 184115 (2013) and Drautz, Phys. Rev. B
99, 014104 (2019); Bessel functions and envelope as in Gasteiger et al., ICLR (2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.wave import carried

EXPONENT = 6
"""Of the envelope, which vanishes at the cutoff with its first two slopes."""


def element_rows(elements: Sequence[str]) -> Tensor:
    """[120] place of each atomic number in a list of elements, -1 where it is not in it."""
    rows = torch.full((120,), -1)
    for row, symbol in enumerate(elements):
        rows[atomic_numbers[symbol]] = row
    return rows


class LocalNetwork(nn.Module):
    """Features of atoms from their neighbours.

    Attributes:
        elements: Symbols, in the order of the densities.
        cutoff: In Å.
        n_features: Of each atom.
    """

    def __init__(self, elements: Sequence[str], cutoff: float = 5.0, n_radial: int = 8, n_channels: int = 8) -> None:
        """Make a network of random mixtures.

        Args:
            elements: Symbols that it will know.
            cutoff: In Å.
            n_radial: Bessel functions of the distance.
            n_channels: Mixtures of densities of each order that go into products.
        """
        super().__init__()
        self.elements, self.cutoff = tuple(elements), cutoff
        self.n_radial, self.n_channels = n_radial, n_channels
        kinds = len(self.elements)
        self.register_buffer("_rows", element_rows(self.elements), persistent=False)
        self.register_buffer("_frequencies", torch.arange(1, n_radial + 1, dtype=torch.float64) * math.pi / cutoff)
        n_density = kinds * n_radial
        self.mixtures = nn.Parameter(
            torch.randn(2, kinds, n_density, n_channels, dtype=torch.float64) / math.sqrt(n_density)
        )
        n_pairs = n_channels * (n_channels + 1) // 2
        self.n_features = n_density + 2 * n_pairs + 2 * n_channels**2
        self.register_buffer("_upper", torch.triu_indices(n_channels, n_channels), persistent=False)
        self.register_buffer("_tensors", _traceless(), persistent=False)
        self._upper: Tensor
        self._tensors: Tensor
        self._frequencies: Tensor
        self._rows: Tensor

    def kinds(self, numbers: Tensor) -> Tensor:
        """[n_atoms] which of the elements each atom is."""
        return self._rows.index_select(0, numbers)

    def forward(self, batch: CrystalBatch, wave: Tensor | None = None) -> tuple[Tensor, None]:
        """[n_atoms, n_features]; and no energies of its own."""
        kinds = self.kinds(batch.numbers)
        return self.invariants(self._densities(batch, kinds, wave), kinds), None

    def invariants(self, densities: Tensor, kinds: Tensor) -> Tensor:
        """[n_atoms, n_features] from densities, [n_atoms, n_density, 9]."""
        first, second = (part.index_select(0, kinds) for part in self.mixtures)
        one = torch.einsum("aki,akc->aci", densities[..., 1:4], first)
        flat = torch.einsum("aki,akc->aci", densities[..., 4:], second)
        two = torch.einsum("aci,ijk->acjk", flat, self._tensors)
        products = [(part @ part.mT)[:, self._upper[0], self._upper[1]] for part in (one, flat)]
        turned = torch.einsum("acij,acj->aci", two, one)
        products.append((turned @ one.mT).flatten(1))
        products.append(((two @ two).flatten(2) @ two.flatten(2).mT).flatten(1))
        return torch.cat([densities[..., 0], *products], dim=1)

    def linearised(self, batch: CrystalBatch) -> LinearisedDensities:
        """The densities with their slopes, where the atoms are now."""
        kinds = self.kinds(batch.numbers)
        edges = _edges(batch, self.cutoff, None)
        vectors = edges.vectors.detach().requires_grad_()
        with torch.enable_grad():
            radial, angular = self._functions(vectors)
            # Each edge's functions depend on its own vector alone.
            slopes = [
                torch.stack(
                    [
                        torch.autograd.grad(part[:, i].sum(), vectors, retain_graph=True)[0]
                        for i in range(part.shape[1])
                    ],
                    1,
                )
                for part in (radial, angular[:, 1:])
            ]
        slopes[1] = torch.cat([torch.zeros_like(slopes[1][:, :1]), slopes[1]], 1)
        return LinearisedDensities(
            edges=edges,
            places=self._places(edges, kinds),
            shape=(batch.n_atoms, len(self.elements) * self.n_radial, 9),
            values=self._densities(batch, kinds, None).detach(),
            radial=radial.detach(),
            angular=angular.detach(),
            radial_slopes=slopes[0],
            angular_slopes=slopes[1],
        )

    def _densities(self, batch: CrystalBatch, kinds: Tensor, wave: Tensor | None) -> Tensor:
        """[n_atoms, n_density, 9], the last one by function of the direction."""
        edges = _edges(batch, self.cutoff, wave)
        radial, angular = self._functions(edges.vectors)
        terms = (radial[:, :, None] * angular[:, None, :]).flatten(1)
        n_kinds = len(self.elements)
        sums = terms.new_zeros(batch.n_atoms * n_kinds, terms.shape[1]).index_add(0, self._places(edges, kinds), terms)
        return sums.view(batch.n_atoms, n_kinds * self.n_radial, 9)

    def _places(self, edges: Edges, kinds: Tensor) -> Tensor:
        """[n_edges] atom and element that an edge adds to."""
        return edges.centers * len(self.elements) + kinds.index_select(0, edges.neighbors)

    def _functions(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """[n_edges, n_radial] Bessel functions under the envelope, and [n_edges, 9] functions of the direction."""
        p = EXPONENT
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        x = lengths / self.cutoff
        envelope = 1 - 0.5 * (p + 1) * (p + 2) * x**p + p * (p + 2) * x ** (p + 1) - 0.5 * p * (p + 1) * x ** (p + 2)
        factor = envelope * math.sqrt(2 / self.cutoff) / lengths
        radial = torch.sin(torch.outer(lengths, self._frequencies)) * factor[:, None]
        directions = vectors / lengths[:, None]
        products = directions[:, :, None] * directions[:, None, :]
        quadratic = torch.einsum("aij,kij->ak", products, self._tensors)
        return radial, torch.cat([torch.ones_like(lengths)[:, None], directions, quadratic], dim=1)


@dataclass(frozen=True, eq=False)
class Edges:
    """Directed pairs within a cutoff.

    Attributes:
        centers: [n_edges] atom whose density it adds to.
        neighbors: [n_edges].
        vectors: [n_edges, 3] from centre to neighbour in Å.
    """

    centers: Tensor
    neighbors: Tensor
    vectors: Tensor


@dataclass(frozen=True, eq=False)
class LinearisedDensities:
    """Densities of atoms that stay: to first order in how they move, which is all that training needs.

    Energies and forces of it are those of the network, and so are their slopes with its weights; at a fraction of the
    time, since what belongs to the edges is known beforehand.
    """

    edges: Edges
    places: Tensor
    shape: tuple[int, int, int]
    values: Tensor
    radial: Tensor
    angular: Tensor
    radial_slopes: Tensor
    angular_slopes: Tensor

    def at(self, moves: Tensor) -> Tensor:
        """[n_atoms, n_density, 9] after small moves, [n_atoms, 3] in Å."""
        change = moves.index_select(0, self.edges.neighbors) - moves.index_select(0, self.edges.centers)
        radial = torch.bmm(self.radial_slopes, change[:, :, None])
        angular = torch.bmm(self.angular_slopes, change[:, :, None])
        terms = radial * self.angular[:, None, :] + self.radial[:, :, None] * angular[:, None, :, 0]
        n_atoms, n_density, _ = self.shape
        rows = n_atoms * n_density // self.radial.shape[1]
        sums = terms.new_zeros(rows, terms[0].numel()).index_add(0, self.places, terms.flatten(1))
        return self.values + sums.view(self.shape)


def _edges(batch: CrystalBatch, cutoff: float, wave: Tensor | None) -> Edges:
    pairs = batch.pairs(cutoff)
    centers, neighbors = torch.cat([pairs.first, pairs.second]), torch.cat([pairs.second, pairs.first])
    vectors = pairs.vectors(batch.positions, batch.cells)
    vectors = torch.cat([vectors, -vectors])
    if wave is not None:
        there = batch.positions.index_select(0, neighbors)
        vectors = vectors + carried(there, vectors, wave) - there
    return Edges(centers, neighbors, vectors)


def _traceless() -> Tensor:
    """[5, 3, 3] orthonormal symmetric matrices without trace."""
    matrices = torch.zeros(5, 3, 3, dtype=torch.float64)
    for number, (i, j) in enumerate(((0, 1), (1, 2), (0, 2))):
        matrices[number, i, j] = matrices[number, j, i] = 0.5**0.5
    matrices[3] = torch.diag(torch.tensor([1.0, -1.0, 0.0])) / 2**0.5
    matrices[4] = torch.diag(torch.tensor([-1.0, -1.0, 2.0])) / 6**0.5
    return matrices
