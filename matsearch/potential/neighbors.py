"""Pairs of neighbouring atoms in a flat batch of periodic crystals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import pi
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vesin import NeighborList

from matsearch.errors import PotentialError

SKIN = 0.5
"""Å by which lists reach beyond the cutoff, so that a list serves several steps.

Along the relaxations of 16 rattled crystals of 10 to 14 atoms, in batches of eight, pairs took 2.1 ms a step without a
skin, 0.60 with 0.3 Å, 0.50 with 0.5 Å (one search in ten steps), 0.42 with 1 Å; the longer the list, the more it costs
wherever crystals join or leave a batch and it is lost.
"""
MAX_IMAGES = 1e6
"""Images of a cell that are searched at most; a cell that needs more has collapsed, and vesin would not return."""


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
        self._last: tuple[Tensor, Tensor, Pairs] | None = None
        self._positions = self._cells = self._inverse = torch.empty(0)

    def pairs(self, positions: Tensor, cells: Tensor, sizes: tuple[int, ...], system_idx: Tensor) -> Pairs:
        """The pairs closer than the cutoff now.

        Raises:
            PotentialError: A crystal's coordinates are not finite, or its cell has collapsed.
        """
        # A step asks twice: its checks, and the network.
        if self._last is not None and torch.equal(self._last[0], positions) and torch.equal(self._last[1], cells):
            return self._last[2]
        if self._list is None or not self._still_holds(positions, cells, system_idx):
            self._list = search_pairs(positions, cells, sizes, self.cutoff + SKIN)
            # Copies: an optimiser may move the atoms in place.
            self._positions, self._cells = positions.clone(), cells.clone()
            self._inverse = torch.linalg.inv(self._cells)
        known = self._list
        lengths = torch.linalg.vector_norm(known.vectors(positions, cells), dim=1)
        near = Pairs(known.first, known.second, known.shifts, known.system_idx, lengths)
        near = near.take(torch.nonzero(lengths < self.cutoff)[:, 0])
        self._last = positions.clone(), cells.clone(), near
        return near

    def _still_holds(self, positions: Tensor, cells: Tensor, system_idx: Tensor) -> bool:
        """Whether no pair can have come within the cutoff that the list lacks.

        A pair vector d deforms with the cell to d F and changes by what its two atoms moved beside that, so that its
        length is at least s |d| - 2 u, with s the smallest singular value of F and u the largest such move.
        s^2 is the smallest eigenvalue of F F^T, which lies at most sqrt(2) standard deviations below the mean of the
        three (Samuelson's inequality); that bound costs far less than a decomposition, above all on a GPU.
        """
        deformation = torch.bmm(self._inverse, cells)
        followed = torch.bmm(self._positions[:, None, :], deformation.index_select(0, system_idx))[:, 0]
        moves = (positions - followed).square().sum(1)
        farthest = moves.new_zeros(len(cells)).scatter_reduce(0, system_idx, moves, "amax").sqrt()
        metric = torch.bmm(deformation, deformation.mT)
        mean = metric.diagonal(dim1=1, dim2=2).mean(1)
        variance = (metric.square().sum((1, 2)) / 3 - mean.square()).clamp(min=0)
        least = (mean - (2 * variance).sqrt()).clamp(min=0).sqrt()
        # A NaN compares false: the search that follows names it.
        return bool((least * (self.cutoff + SKIN) - 2 * farthest >= self.cutoff).all())


def search_pairs(positions: Tensor, cells: Tensor, sizes: tuple[int, ...], cutoff: float) -> Pairs:
    """All pairs closer than a cutoff (Å), each undirected pair once.

    Their order depends on the pairs alone, not on where the atoms lie or on what else is in the batch: sums over them
    come out the same to the last bit whichever list they were taken from.

    Args:
        positions: [n_atoms, 3] in Å.
        cells: [n_systems, 3, 3] lattice vectors as rows, in Å.
        sizes: Atoms of each crystal.
        cutoff: Å.

    Raises:
        PotentialError: A crystal's coordinates are not finite, or its cell has collapsed.
    """
    _require_searchable(positions, cells, sizes, cutoff)
    if positions.is_cuda and _batch_search() is not None:
        return _in_order(search_together(positions, cells, sizes, cutoff))
    return _in_order(search_one_by_one(positions, cells, sizes, cutoff))


def search_one_by_one(positions: Tensor, cells: Tensor, sizes: tuple[int, ...], cutoff: float) -> Pairs:
    """`search_pairs` on the CPU, crystal after crystal, by vesin."""
    finder = NeighborList(cutoff=cutoff, full_list=False)
    points, boxes = positions.cpu().numpy(), cells.cpu().numpy()
    empty = np.zeros(0, dtype=np.int64)
    parts = [(empty, empty, np.zeros((0, 3)), empty, np.zeros(0))]
    start = 0
    for system, size in enumerate(sizes):
        i, j, shift, length = finder.compute(points[start : start + size], boxes[system], True, "ijSd")
        parts.append((i.astype(np.int64) + start, j.astype(np.int64) + start, shift, np.full(len(i), system), length))
        start += size
    first, second, shifts, system_idx, lengths = (
        torch.as_tensor(np.concatenate(column), device=positions.device) for column in zip(*parts, strict=True)
    )
    return Pairs(first, second, shifts.to(positions.dtype), system_idx, lengths)


def search_together(positions: Tensor, cells: Tensor, sizes: tuple[int, ...], cutoff: float) -> Pairs:
    """`search_pairs` for all crystals at once, on the device that holds them, by nvalchemi-toolkit-ops."""
    from nvalchemiops.neighbors import NeighborOverflowError

    search = _batch_search()
    assert search is not None
    device = positions.device
    counts = torch.tensor(sizes, device=device)
    system_idx = torch.repeat_interleave(torch.arange(len(sizes), device=device), counts)
    starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    # Half of the neighbours that the densest crystal would have were it homogeneous, and as many again for those of
    # uneven density; what a row lacks even so, the refused search tells.
    density = counts / torch.linalg.det(cells).abs()
    width = int(4 / 3 * pi * cutoff**3 * float(density.max())) + 16
    while True:
        try:
            found, _, shifts = search(
                positions.contiguous(),
                cutoff,
                batch_idx=system_idx.int(),
                batch_ptr=starts.int(),
                pbc=torch.ones((len(sizes), 3), dtype=torch.bool, device=device),
                cell=cells.contiguous(),
                max_neighbors=width,
                half_fill=True,
                return_neighbor_list=True,
                strategy="scalar",  # the kernel that also runs, and is tested, on a CPU
            )
            break
        except NeighborOverflowError as overflow:
            width = overflow.num_neighbors
    first, second = found.long()
    pairs = Pairs(first, second, shifts.to(positions.dtype), system_idx.index_select(0, first), positions.new_empty(0))
    lengths = torch.linalg.vector_norm(pairs.vectors(positions, cells), dim=1)
    return Pairs(first, second, pairs.shifts, pairs.system_idx, lengths)


def _in_order(pairs: Pairs) -> Pairs:
    """The pairs by first atom, second atom (not before the first) and shift (of an atom and its image the later)."""
    columns = torch.stack([pairs.second - pairs.first, *pairs.shifts.long().T])
    leading = torch.zeros_like(pairs.first)
    for column in columns:
        leading = torch.where(leading == 0, column.sign(), leading)
    turn = leading < 0
    first, second = torch.where(turn, pairs.second, pairs.first), torch.where(turn, pairs.first, pairs.second)
    shifts = torch.where(turn[:, None], -pairs.shifts, pairs.shifts)
    order = torch.arange(len(first), device=first.device)
    for column in (*shifts.T.flip(0), second, first):
        order = order[column.index_select(0, order).argsort(stable=True)]
    return Pairs(first, second, shifts, pairs.system_idx, pairs.lengths).take(order)


@cache
def _batch_search() -> Callable[..., Any] | None:
    """The batch search of nvalchemi-toolkit-ops, which is an extra; None where it is not installed.

    Its search over all images, not its cell list: crystals are small, their cells smaller than the cutoff.
    """
    try:
        from nvalchemiops.torch.neighbors import batch_naive_neighbor_list
    except ImportError:
        return None
    return batch_naive_neighbor_list


def _require_searchable(positions: Tensor, cells: Tensor, sizes: tuple[int, ...], cutoff: float) -> None:
    """Refuse what a search could not survive: vesin ends the process at a cell of NaN."""
    faces = torch.linalg.vector_norm(torch.linalg.cross(cells.roll(-1, 1), cells.roll(-2, 1), dim=2), dim=2)
    volumes = torch.linalg.det(cells).abs()
    images = (2 * torch.ceil(cutoff * faces / volumes[:, None]) + 1).prod(1)
    if bool((images <= MAX_IMAGES).all()) and bool(torch.isfinite(positions).all()):
        return
    start = 0
    for system, size in enumerate(sizes):
        if not torch.isfinite(positions[start : start + size]).all() or not torch.isfinite(cells[system]).all():
            raise PotentialError(f"crystal {system} of the batch has coordinates that are NaN or inf; take it out")
        if not images[system] <= MAX_IMAGES:
            raise PotentialError(
                f"the cell of crystal {system} of the batch has collapsed ({float(volumes[system]):.3g} Å^3 for {size} "
                "atoms); take it out"
            )
        start += size
