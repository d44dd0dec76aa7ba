"""Space groups that are kept while crystals relax."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import moyopy
import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from matsearch.relaxation.rows import Rows

SYMPREC = 0.01
"""Å by which atoms may lie off their symmetric places at the start; they are moved there."""

MARGIN = 0.5
"""Å beyond the cell in which atoms' periodic images are looked for; far more than `SYMPREC`."""

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

    def orbits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The mean over the group in two steps, through one atom of each orbit.

        What is symmetric is known everywhere once it is known on one atom of each orbit, so that a matrix per atom does
        for what is otherwise one per pair of equivalent atoms, of which a supercell has many.

        Returns:
            [n_atoms] the first atom of the orbit of each atom; [n_atoms, 3, 3] the share that a vector on each atom has
            in the mean on that first atom; [n_atoms, 3, 3] the rotation that takes this mean to each atom.
        """
        n_operations, n_atoms = self.images.shape
        first = np.full(n_atoms, -1)
        shares, rotations = np.zeros((n_atoms, 3, 3)), np.zeros((n_atoms, 3, 3))
        for atom in range(n_atoms):
            if first[atom] >= 0:
                continue
            members, operation = np.unique(self.images[:, atom], return_index=True)
            first[members] = atom
            rotations[members] = self.rotations[operation]
            # An operation that takes the first atom to a member has its inverse, R^T, take the member's vector back.
            np.add.at(shares, self.images[:, atom], self.rotations.transpose(0, 2, 1) / n_operations)
        return first, shares, rotations


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
    images = _nearest(moved, coords, cell, np.asarray(numbers))

    # Every image lies near the atom on whose place it comes: the mean of those small ways is how far it is off.
    ways = moved - coords[images]
    ways -= np.round(ways)
    off = np.stack([np.bincount(images.ravel(), ways[..., axis].ravel(), len(coords)) for axis in range(3)], axis=1)
    coords = coords + off / len(rotations)

    # A rotation W of fractional columns leaves the metric as it is: W^T (C C^T) W = C C^T.
    metric = np.einsum("kji,jl,klm->im", rotations, cell @ cell.T, rotations) / len(rotations)
    inverse = np.linalg.inv(cell)
    values, vectors = np.linalg.eigh(inverse @ metric @ inverse.T)
    cell = cell @ (vectors * np.sqrt(values)) @ vectors.T
    cartesian = np.einsum("ji,kjl,lm->kim", cell, rotations, np.linalg.inv(cell).T)
    return Symmetry(cartesian, images), coords @ cell, cell


def _nearest(moved: np.ndarray, coords: np.ndarray, cell: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """[n_operations, n_atoms] the atom of its own element that is nearest to each moved one, across the cell's faces.

    Args:
        moved: [n_operations, n_atoms, 3] fractional.
        coords: [n_atoms, 3] fractional.
        cell: [3, 3] lattice vectors as rows.
        numbers: [n_atoms] atomic numbers.
    """
    # A height of the cell is one over the length of its reciprocal vector.
    margin = MARGIN * np.linalg.norm(np.linalg.inv(cell), axis=0)
    reach = np.ceil(margin).astype(int)
    shifts = np.indices(2 * reach + 1).reshape(3, -1).T - reach
    images = np.empty(moved.shape[:2], dtype=np.int64)
    for number in np.unique(numbers):
        atoms = np.flatnonzero(numbers == number)
        copies = (coords[atoms] % 1.0)[None] + shifts[:, None]
        near = np.all((copies >= -margin) & (copies < 1.0 + margin), axis=2)
        _, found = cKDTree(copies[near] @ cell).query(moved[:, atoms] % 1.0 @ cell)
        images[:, atoms] = atoms[np.nonzero(near)[1][found]]
    return images


class Projector:
    """Takes out of generalised forces what would break the symmetry of their crystals.

    The rotations refer to the cells at the start, as the coordinates do, so that this is the same linear map at every
    step.
    """

    def __init__(self, symmetries: Sequence[Symmetry], device: str | torch.device = "cpu") -> None:
        """Set it up for the crystals of a batch."""
        firsts, shares, rotations, cells = [], [], [], []
        start = 0
        for one in symmetries:
            first, share, rotation = one.orbits()
            firsts.append(first + start)
            shares.append(share)
            rotations.append(rotation)
            # R G R^T, averaged, as a matrix on the nine components of G.
            kron = np.einsum("kij,klm->iljm", one.rotations, one.rotations).reshape(9, 9)
            cells.append(kron / len(one.rotations))
            start += one.images.shape[1]
        self._first = torch.as_tensor(np.concatenate(firsts), device=device)
        self._shares = torch.as_tensor(np.concatenate(shares), device=device)
        self._rotations = torch.as_tensor(np.concatenate(rotations), device=device)
        self._cells = torch.as_tensor(np.stack(cells), device=device)

    def forces(self, forces: Tensor, rows: Rows) -> Tensor:
        """[n_rows, 3] the symmetric part of generalised forces."""
        atoms, cells = rows.unpack(forces)
        shares = torch.bmm(self._shares, atoms[:, :, None])[:, :, 0]
        means = torch.zeros_like(atoms).index_add(0, self._first, shares).index_select(0, self._first)
        symmetric = torch.bmm(self._rotations, means[:, :, None])[:, :, 0]
        return rows.pack(symmetric, self.tensors(cells))

    def tensors(self, tensors: Tensor) -> Tensor:
        """[n_systems, 3, 3] the symmetric part of tensors that belong to the crystals."""
        return torch.bmm(self._cells, tensors.reshape(-1, 9, 1)).reshape(-1, 3, 3)
