"""Generalised coordinates of many crystals as rows of one tensor, and states that go along with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

CELL_ROWS = 3
"""Rows of a crystal's cell, after those of its atoms."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Which row belongs to what: for each crystal one row an atom, then three of its cell.

    Attributes:
        n_systems: Number of crystals.
        system_idx: [n_rows] crystal of a row, ascending.
        of_atoms: [n_atoms] rows of the atoms.
        of_cells: [3 n_systems] rows of the cells.
        sizes: [n_systems] atoms of each crystal, as real numbers.
        entry_idx: [3 n_rows] crystal of each number in the rows.
    """

    n_systems: int
    system_idx: Tensor
    of_atoms: Tensor
    of_cells: Tensor
    sizes: Tensor
    entry_idx: Tensor

    @classmethod
    def of(cls, sizes: Sequence[int], device: str | torch.device = "cpu") -> Rows:
        """The rows of crystals with so many atoms."""
        lengths = np.array(sizes, dtype=np.int64) + CELL_ROWS
        systems = np.repeat(np.arange(len(lengths)), lengths)
        from_end = np.cumsum(lengths)[systems] - np.arange(len(systems))
        of_cell = from_end <= CELL_ROWS
        columns = (
            systems,
            np.flatnonzero(~of_cell),
            np.flatnonzero(of_cell),
            np.array(sizes, dtype=np.float64),
            np.repeat(systems, 3),
        )
        return cls(len(lengths), *(torch.as_tensor(column, device=device) for column in columns))

    def pack(self, atoms: Tensor, cells: Tensor) -> Tensor:
        """[n_rows, 3] from [n_atoms, 3] and [n_systems, 3, 3]."""
        packed = atoms.new_empty((len(self.system_idx), 3))
        packed[self.of_atoms] = atoms
        packed[self.of_cells] = cells.reshape(-1, 3)
        return packed

    def unpack(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """[n_atoms, 3] and [n_systems, 3, 3] from [n_rows, 3]."""
        return packed.index_select(0, self.of_atoms), packed.index_select(0, self.of_cells).reshape(-1, 3, 3)

    def dot(self, one: Tensor, other: Tensor) -> Tensor:
        """[n_systems] scalar products of two [n_rows, 3].

        Summed one number after the other, so that a crystal's sum has the same bits in any batch.
        """
        products = (one * other).reshape(-1)
        return one.new_zeros(self.n_systems).index_add(0, self.entry_idx, products)

    def largest(self, packed: Tensor) -> Tensor:
        """[n_systems] norm of each crystal's longest row."""
        norms = torch.linalg.vector_norm(packed, dim=1)
        return norms.new_zeros(self.n_systems).scatter_reduce(0, self.system_idx, norms, "amax")

    def spread(self, values: Tensor) -> Tensor:
        """[n_rows, 1] from one value a crystal."""
        return values.index_select(0, self.system_idx)[:, None]

    def chosen(self, systems: Sequence[int]) -> Tensor:
        """The rows of these crystals (in ascending order)."""
        wanted = torch.zeros(self.n_systems, dtype=torch.bool)
        wanted[list(systems)] = True
        return torch.nonzero(wanted.to(self.system_idx.device).index_select(0, self.system_idx))[:, 0]


@dataclass(frozen=True, eq=False)
class RowState:
    """Tensors of a batch: those named in `PER_ROW` have one entry a row, the others one a crystal."""

    PER_ROW: ClassVar[frozenset[str]] = frozenset()

    def take(self, rows: Tensor, systems: Tensor) -> Self:
        """The state of some crystals, given by their rows and their numbers."""
        parts = {
            field.name: getattr(self, field.name).index_select(0, rows if field.name in self.PER_ROW else systems)
            for field in fields(self)
        }
        return replace(self, **parts)

    def join(self, later: Self) -> Self:
        """The state of these crystals and then of others."""
        names = [field.name for field in fields(self)]
        return replace(self, **{name: torch.cat([getattr(self, name), getattr(later, name)]) for name in names})
