"""Crystals of a flat batch side by side, where matrices are wanted that hold each crystal's atoms against all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FEW = 4e5
"""Costs (numbers that are held at once) up to which another block takes longer than the pads of crystals unlike."""


@dataclass(frozen=True, eq=False)
class Block:
    """Some crystals of a batch, padded to the size of the largest.

    Attributes:
        systems: [n_block] their numbers in the batch.
        atoms: [n_block, n_max] their atoms' numbers in the batch; a pad repeats the crystal's first atom.
        mask: [n_block, n_max] which are atoms rather than pads.
    """

    systems: Tensor
    atoms: Tensor
    mask: Tensor

    def take(self, values: Tensor) -> Tensor:
        """[n_block, n_max, ...] from values of atoms, [n_atoms, ...]."""
        return values.index_select(0, self.atoms.flatten()).unflatten(0, self.atoms.shape)


def blocks(sizes: Sequence[int], costs: Sequence[float], most: float, device: torch.device) -> list[Block]:
    """All crystals of a batch in blocks of similar ones, the cheap ones first.

    Args:
        sizes: Atoms of each crystal.
        costs: Of each crystal, in proportion to the memory it takes.
        most: What the crystals of a block may cost together; a crystal above that has a block of its own.
        device: Where the batch is.
    """
    order = sorted(range(len(sizes)), key=lambda system: (costs[system], sizes[system]))
    groups: list[list[int]] = []
    for system in order:
        # The crystals come by rising cost: this one is the dearest yet, and the pads make all as dear as that.
        group = groups[-1] if groups else []
        together = (len(group) + 1) * costs[system]
        if group and together <= most and (costs[system] <= 1.6 * costs[group[0]] or together <= FEW):
            group.append(system)
        else:
            groups.append([system])
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    made = []
    for group in groups:
        n_max = max(sizes[system] for system in group)
        counts = torch.tensor([sizes[system] for system in group], device=device)
        first = torch.tensor([starts[system] for system in group], device=device)
        columns = torch.arange(n_max, device=device)
        mask = columns < counts[:, None]
        atoms = first[:, None] + torch.where(mask, columns, 0)
        made.append(Block(torch.tensor(group, device=device), atoms, mask))
    return made


def rejoin_systems(made: Sequence[Block], parts: Sequence[Tensor]) -> Tensor:
    """[n_systems, ...] in the order of the batch, from [n_block, ...] of each block."""
    order = torch.cat([block.systems for block in made])
    return torch.cat(list(parts)).index_select(0, torch.argsort(order))


def rejoin_atoms(made: Sequence[Block], parts: Sequence[Tensor]) -> Tensor:
    """[n_atoms, ...] in the order of the batch, from [n_block, n_max, ...] of each block, pads left out."""
    order = torch.cat([block.atoms[block.mask] for block in made])
    values = torch.cat([part[block.mask] for block, part in zip(made, parts, strict=True)])
    return values.index_select(0, torch.argsort(order))
