"""Space groups that are kept while crystals relax."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import moyopy
import numpy as np
import torch
from torch import Tensor

from matsearch.relaxation.rows import Rows

SYMPREC = 0.01
"""Å by which atoms may lie off their symmetric places at the start; they are moved there."""

# Of a supercell it warns that rotations which turn its lattice are left out, which is what is wanted.
logging.getLogger("moyo").setLevel(logging.ERROR)


@dataclass(frozen=True, eq=False)
class Symmetry:
    """The operations of a crystal's space group, on its cell as it is at the start.

    Attributes:
        rotations: [n_operations, 3, 3] Cartesian, columns to columns.
        images: [n_operations, n_atoms] the atom on whose place each atom comes.
    """

    rotations: np.ndarray
    images: np.ndarray

    def blocks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The mean over the group as a sparse matrix: to atom, from atom, [n_blocks, 3, 3]."""
        n_operations, n_atoms = self.images.shape
        source = np.tile(np.arange(n_atoms), n_operations)
        keys, inverse = np.unique(self.images.ravel() * n_atoms + source, return_inverse=True)
        blocks = np.zeros((len(keys), 3, 3))
        np.add.at(blocks, inverse, np.repeat(self.rotations, n_atoms, axis=0) / n_operations)
        return keys // n_atoms, keys % n_atoms, blocks


def find_symmetry(
    positions: np.ndarray, cell: np.ndarray, numbers: Sequence[int]
) -> tuple[Symmetry, np.ndarray, np.ndarray]:
    """The space group of a crystal, with its positions and cell made exactly symmetric.

    The cell becomes the one with the mean of the metric over the group that is nearest to the one given; each atom
    comes to the mean of its images. Where no group is found, as in a cell in which atoms nearly coincide, there is
    none to keep.

    Args:
        positions: [n_atoms, 3] in Å.
        cell: [3, 3] lattice vectors as rows.
        numbers: Atomic numbers.

    Returns:
        The symmetry, positions and cell.
    """
    coords = positions @ np.linalg.inv(cell)
    try:
        dataset = moyopy.MoyoDataset(moyopy.Cell(cell.tolist(), coords.tolist(), list(numbers)), symprec=SYMPREC)
    except ValueError:
        return Symmetry(np.eye(3)[None], np.arange(len(coords))[None]), positions, cell
    rotations = np.array(dataset.operations.rotations, dtype=float)
    translations = np.array(dataset.operations.translations, dtype=float)

    moved = coords @ rotations.transpose(0, 2, 1) + translations[:, None, :]
    away = moved[:, :, None, :] - coords[None, None, :, :]
    away -= np.round(away)
    distances = np.linalg.norm(away @ cell, axis=3)
    distances[:, np.not_equal.outer(np.asarray(numbers), np.asarray(numbers))] = np.inf
    images = distances.argmin(axis=2)

    # Every image lies near the atom on whose place it comes: the mean of those small ways is how far it is off.
    ways = np.take_along_axis(away, images[:, :, None, None], axis=2)[:, :, 0]
    off = np.zeros_like(coords)
    np.add.at(off, images.ravel(), ways.reshape(-1, 3))
    coords = coords + off / len(rotations)

    # A rotation W of fractional columns leaves the metric as it is: W^T (C C^T) W = C C^T.
    metric = np.einsum("kji,jl,klm->im", rotations, cell @ cell.T, rotations) / len(rotations)
    inverse = np.linalg.inv(cell)
    values, vectors = np.linalg.eigh(inverse @ metric @ inverse.T)
    cell = cell @ (vectors * np.sqrt(values)) @ vectors.T
    cartesian = np.einsum("ji,kjl,lm->kim", cell, rotations, np.linalg.inv(cell).T)
    return Symmetry(cartesian, images), coords @ cell, cell


class Projector:
    """Takes out of generalised forces what would break the symmetry of their crystals.

    The rotations refer to the cells at the start, as the coordinates do, so that this is the same linear map at every
    step.
    """

    def __init__(self, symmetries: Sequence[Symmetry], device: str | torch.device = "cpu") -> None:
        """Set it up for the crystals of a batch."""
        to_atoms, from_atoms, blocks, cells = [], [], [], []
        start = 0
        for one in symmetries:
            to, source, block = one.blocks()
            to_atoms.append(to + start)
            from_atoms.append(source + start)
            blocks.append(block)
            # R G R^T, averaged, as a matrix on the nine components of G.
            kron = np.einsum("kij,klm->iljm", one.rotations, one.rotations).reshape(9, 9)
            cells.append(kron / len(one.rotations))
            start += one.images.shape[1]
        self._to = torch.as_tensor(np.concatenate(to_atoms), device=device)
        self._from = torch.as_tensor(np.concatenate(from_atoms), device=device)
        self._blocks = torch.as_tensor(np.concatenate(blocks), device=device)
        self._cells = torch.as_tensor(np.stack(cells), device=device)

    def forces(self, forces: Tensor, rows: Rows) -> Tensor:
        """[n_rows, 3] the symmetric part of generalised forces."""
        atoms, cells = rows.unpack(forces)
        turned = torch.bmm(self._blocks, atoms.index_select(0, self._from)[:, :, None])[:, :, 0]
        return rows.pack(torch.zeros_like(atoms).index_add(0, self._to, turned), self.tensors(cells))

    def tensors(self, tensors: Tensor) -> Tensor:
        """[n_systems, 3, 3] the symmetric part of tensors that belong to the crystals."""
        return torch.bmm(self._cells, tensors.reshape(-1, 9, 1)).reshape(-1, 3, 3)
