"""The crystal graphs of a batch: directed bonds, and angles between short ones, as index arrays.

Bonds and angles come in two halves that mirror each other: row r of the first half and row r of the second hold the
same pair of atoms (the same pair of bonds) the other way round. What does not depend on the direction is computed once
for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.neighbors import Pairs


@dataclass(frozen=True, eq=False)
class Incidence:
    """Which entries of a table each row adds up, and the way back.

    `gather` is a sparse matrix of ones times the table, `scatter` its transpose times the rows: either is the other's
    derivative. Both are sums of table entries in a fixed order, so that they repeat to the bit.

    Attributes:
        entries: [n_rows * k] table entries of each row, k a row.
        bags: [n_rows] where a row's entries start.
        rows: [n_rows * k] rows of each table entry.
        row_bags: [n_entries] where an entry's rows start.
    """

    entries: Tensor
    bags: Tensor
    rows: Tensor
    row_bags: Tensor

    @classmethod
    def of(cls, columns: list[Tensor], sizes: list[int]) -> Incidence:
        """Rows that take one entry from each of several tables, put one below the other.

        Args:
            columns: For each table, [n_rows] entry that a row takes.
            sizes: Entries of each table.
        """
        offset = 0
        shifted, order = [], []
        for column, size in zip(columns, sizes, strict=True):
            shifted.append(column + offset)
            order.append(torch.argsort(column, stable=True))
            offset += size
        entries = torch.stack(shifted, dim=1).reshape(-1)
        counts = torch.bincount(entries, minlength=offset)
        n_rows = len(columns[0])
        return cls(
            entries,
            torch.arange(n_rows, device=entries.device) * len(columns),
            torch.cat(order),
            torch.cumsum(counts, 0) - counts,
        )

    def gather(self, table: Tensor) -> Tensor:
        """[n_entries, width] to [n_rows, width]."""
        return torch.embedding_bag(table, self.entries, self.bags)[0]

    def scatter(self, rows: Tensor) -> Tensor:
        """[n_rows, width] to [n_entries, width]."""
        return torch.embedding_bag(rows, self.rows, self.row_bags)[0]


@dataclass(frozen=True, eq=False)
class CrystalGraph:
    """Bonds and angles of a batch.

    Attributes:
        pairs: Pairs of atoms within the bond cutoff, the short ones first.
        n_short: How many are short enough to form angles.
        bonds: Directed bonds (all pairs, then all pairs the other way): centre atom, neighbour atom, pair.
        to_center: Centre atom of each directed bond.
        angles: Ordered pairs of short bonds at one atom (then all the other way round): that atom, the first bond's
            pair, the second bond's pair.
        to_first: First bond's pair of each angle.
        angle_pairs: [n_angles / 2, 2] the pairs of each unordered angle.
        angle_signs: [n_angles / 2] product of their directions: -1 where one of the pair vectors points away from the
            common atom and the other towards it.
        angle_reversed: [n_angles / 2, 2] whether the common atom is the second of the pair.
    """

    pairs: Pairs
    n_short: int
    bonds: Incidence
    to_center: Incidence
    angles: Incidence
    to_first: Incidence
    angle_pairs: Tensor
    angle_signs: Tensor
    angle_reversed: Tensor


def crystal_graph(batch: CrystalBatch, cutoff: float, short_cutoff: float) -> CrystalGraph:
    """The graphs of a batch.

    Args:
        batch: The crystals.
        cutoff: Longest bond, in Å.
        short_cutoff: Longest bond that forms angles, in Å.
    """
    pairs = batch.pairs(cutoff)
    short = pairs.lengths < short_cutoff
    n_short = int(short.sum())
    pairs = pairs.take(torch.argsort(~short, stable=True))
    n_pairs, n_atoms = len(pairs.first), batch.n_atoms
    device = pairs.first.device

    centers = torch.cat([pairs.first, pairs.second])
    neighbors = torch.cat([pairs.second, pairs.first])
    both = torch.arange(n_pairs, device=device).repeat(2)

    short_centers = torch.cat([pairs.first[:n_short], pairs.second[:n_short]])
    one, other = _pairs_in_groups(short_centers, n_atoms)
    # A directed short bond d is pair d, or pair d - n_short the other way.
    one_pair, other_pair = one % max(n_short, 1), other % max(n_short, 1)
    same_way = (one < n_short) == (other < n_short)
    vertex = short_centers.index_select(0, one)
    firsts = torch.cat([one_pair, other_pair])
    seconds = torch.cat([other_pair, one_pair])
    return CrystalGraph(
        pairs=pairs,
        n_short=n_short,
        bonds=Incidence.of([centers, neighbors, both], [n_atoms, n_atoms, n_pairs]),
        to_center=Incidence.of([centers], [n_atoms]),
        angles=Incidence.of([vertex.repeat(2), firsts, seconds], [n_atoms, n_short, n_short]),
        to_first=Incidence.of([firsts], [n_short]),
        angle_pairs=torch.stack([one_pair, other_pair], dim=1),
        angle_signs=same_way.to(torch.float64) * 2 - 1,
        angle_reversed=torch.stack([one >= n_short, other >= n_short], dim=1),
    )


def _pairs_in_groups(groups: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    """All unordered pairs of entries in the same group.

    Args:
        groups: [n] group of each entry.
        n_groups: Number of groups.
    """
    order = torch.argsort(groups, stable=True)
    sizes = torch.bincount(groups, minlength=n_groups)
    ends = torch.cumsum(sizes, 0).index_select(0, groups.index_select(0, order))
    place = torch.arange(len(groups), device=groups.device)
    # Each entry pairs with those behind it in its group.
    behind = ends - place - 1
    one = torch.repeat_interleave(place, behind)
    within = torch.arange(len(one), device=groups.device) - torch.repeat_interleave(
        torch.cumsum(behind, 0) - behind, behind
    )
    other = one + 1 + within
    return order.index_select(0, one), order.index_select(0, other)
