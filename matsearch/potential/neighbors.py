"""Pairs of neighbouring atoms in a flat batch of periodic crystals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from vesin import NeighborList

SKIN = 0.5
"""Å by which lists reach beyond the cutoff, so that a list serves several steps."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of atoms within a cutoff, each undirected pair once.

    Attributes:
        first: [n_pairs] index of an atom of the batch.
        second: [n_pairs] the other atom, of the same crystal (perhaps the same atom in another cell).
        shifts: [n_pairs, 3] cell of the second atom, in lattice vectors: its position is
            `positions[second] + shifts @ cell`.
        system_idx: [n_pairs] crystal of the pair.
        lengths: [n_pairs] in Å, for choosing among the pairs; not differentiable.
    """

    first: Tensor
    second: Tensor
    shifts: Tensor
    system_idx: Tensor
    lengths: Tensor

    def vectors(self, positions: Tensor, cells: Tensor) -> Tensor:
        """[n_pairs, 3] from first to second atom in Å, differentiable in positions and cells."""
        shift = torch.bmm(self.shifts[:, None, :], cells.index_select(0, self.system_idx))[:, 0]
        return positions.index_select(0, self.second) - positions.index_select(0, self.first) + shift

    def take(self, chosen: Tensor) -> Pairs:
        """The pairs of these indices."""
        parts = (self.first, self.second, self.shifts, self.system_idx, self.lengths)
        return Pairs(*(part.index_select(0, chosen) for part in parts))


class PairMemory:
    """A list of pairs that reaches beyond the cutoff, kept until an atom may have come from outside it."""

    def __init__(self, cutoff: float) -> None:
        self.cutoff = cutoff
        self._list: Pairs | None = None
        self._positions: Tensor | None = None
        self._cells: Tensor | None = None

    def pairs(self, positions: Tensor, cells: Tensor, sizes: tuple[int, ...], system_idx: Tensor) -> Pairs:
        """The pairs within the cutoff now."""
        if not self._still_holds(positions, cells, system_idx):
            self._list = search_pairs(positions, cells, sizes, self.cutoff + SKIN)
            self._positions, self._cells = positions, cells
        known = self._list
        assert known is not None
        lengths = torch.linalg.vector_norm(known.vectors(positions, cells), dim=1)
        near = Pairs(known.first, known.second, known.shifts, known.system_idx, lengths)
        return near.take(torch.nonzero(lengths < self.cutoff)[:, 0])

    def _still_holds(self, positions: Tensor, cells: Tensor, system_idx: Tensor) -> bool:
        """Whether no pair can have come within the cutoff that the list lacks.

        A pair vector d deforms with the cell to d F and changes by what its two atoms moved beside that, so that its
        length is at least s |d| - 2 u, with s the smallest singular value of F and u the largest such move.
        """
        if self._cells is None or self._positions is None:
            return False
        deformation = torch.linalg.solve(self._cells, cells)
        followed = torch.bmm(self._positions[:, None, :], deformation.index_select(0, system_idx))[:, 0]
        moves = torch.linalg.vector_norm(positions - followed, dim=1)
        farthest = moves.new_zeros(len(cells)).index_reduce(0, system_idx, moves, "amax")
        least = torch.linalg.svdvals(deformation)[:, -1]
        return bool((least * (self.cutoff + SKIN) - 2 * farthest >= self.cutoff).all())


def search_pairs(positions: Tensor, cells: Tensor, sizes: tuple[int, ...], cutoff: float) -> Pairs:
    """All pairs within a cutoff (Å), each undirected pair once.

    Args:
        positions: [n_atoms, 3] in Å.
        cells: [n_systems, 3, 3] lattice vectors as rows, in Å.
        sizes: Atoms of each crystal.
        cutoff: Å.
    """
    finder = NeighborList(cutoff=cutoff, full_list=False)
    parts = []
    start = 0
    points, boxes = positions.cpu().numpy(), cells.cpu().numpy()
    for system, size in enumerate(sizes):
        i, j, shift, length = finder.compute(points[start : start + size], boxes[system], True, "ijSd")
        parts.append((i.astype(np.int64) + start, j.astype(np.int64) + start, shift, length, np.full(len(i), system)))
        start += size
    first, second, shifts, lengths, systems = (np.concatenate(column) for column in zip(*parts, strict=True))

    def tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(array, dtype=dtype, device=positions.device)

    return Pairs(
        tensor(first, torch.int64),
        tensor(second, torch.int64),
        tensor(shifts, torch.float64),
        tensor(systems, torch.int64),
        tensor(lengths, torch.float64),
    )
