"""Many crystals as one flat batch of atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from pymatgen.core import Structure
from torch import Tensor

from matsearch.potential.neighbors import PairMemory, Pairs
from matsearch.records import Prediction


@dataclass(frozen=True, eq=False)
class CrystalBatch:
    """Periodic crystals, one after the other; geometry is in double precision whatever the network's.

    Attributes:
        positions: [n_atoms, 3] Cartesian, in Å; atoms need not lie inside the cell.
        cells: [n_systems, 3, 3] lattice vectors as rows, in Å, of either handedness.
        numbers: [n_atoms] atomic numbers.
        sizes: Atoms of each crystal.
        system_idx: [n_atoms] crystal that an atom belongs to, ascending.
    """

    positions: Tensor
    cells: Tensor
    numbers: Tensor
    sizes: tuple[int, ...]
    system_idx: Tensor
    _memory: dict[float, PairMemory] = field(default_factory=dict, repr=False)

    @classmethod
    def from_structures(cls, structures: Sequence[Structure], device: str | torch.device = "cpu") -> CrystalBatch:
        """Ordered structures as a batch.

        Raises:
            ValueError: There is no structure, or one is disordered or empty.
        """
        if not structures or not all(len(one) and one.is_ordered for one in structures):
            raise ValueError("a batch takes at least one structure, each with one element a site")
        numbers = [[site.specie.Z for site in structure] for structure in structures]
        return cls.from_arrays(
            [structure.cart_coords for structure in structures],
            [structure.lattice.matrix for structure in structures],
            numbers,
            device,
        )

    @classmethod
    def from_arrays(
        cls,
        positions: Sequence[np.ndarray],
        cells: Sequence[np.ndarray],
        numbers: Sequence[Sequence[int]],
        device: str | torch.device = "cpu",
    ) -> CrystalBatch:
        """One array of positions (Å), one cell and one list of atomic numbers for each crystal."""
        sizes = tuple(len(one) for one in numbers)
        return cls(
            torch.tensor(np.concatenate(positions), dtype=torch.float64, device=device),
            torch.tensor(np.stack(cells), dtype=torch.float64, device=device),
            torch.tensor(np.concatenate([np.asarray(one) for one in numbers]), dtype=torch.int64, device=device),
            sizes,
            _system_idx(sizes, device),
        )

    @property
    def n_systems(self) -> int:
        """Number of crystals."""
        return len(self.sizes)

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all crystals."""
        return len(self.numbers)

    @property
    def volumes(self) -> Tensor:
        """[n_systems] in Å^3; a left-handed cell has det < 0 and is periodic all the same."""
        return torch.linalg.det(self.cells).abs()

    def moved(self, positions: Tensor, cells: Tensor) -> CrystalBatch:
        """The same atoms elsewhere; what is known of their neighbours goes along."""
        return replace(self, positions=positions, cells=cells)

    def select(self, systems: Sequence[int]) -> CrystalBatch:
        """Some of the crystals, in the order given; none gives an empty batch."""
        device = self.positions.device
        starts = np.concatenate([[0], np.cumsum(self.sizes)])
        atoms = [atom for one in systems for atom in range(starts[one], starts[one + 1])]
        chosen = torch.tensor(atoms, dtype=torch.int64, device=device)
        sizes = tuple(self.sizes[one] for one in systems)
        return CrystalBatch(
            self.positions.index_select(0, chosen),
            self.cells.index_select(0, torch.tensor(systems, dtype=torch.int64, device=device)),
            self.numbers.index_select(0, chosen),
            sizes,
            _system_idx(sizes, device),
        )

    @staticmethod
    def join(batches: Sequence[CrystalBatch]) -> CrystalBatch:
        """Several batches as one."""
        sizes = tuple(size for batch in batches for size in batch.sizes)
        device = batches[0].positions.device
        return CrystalBatch(
            torch.cat([batch.positions for batch in batches]),
            torch.cat([batch.cells for batch in batches]),
            torch.cat([batch.numbers for batch in batches]),
            sizes,
            _system_idx(sizes, device),
        )

    def structures(self) -> list[Structure]:
        """The crystals, one by one."""
        positions, cells, numbers = self.positions.cpu().numpy(), self.cells.cpu().numpy(), self.numbers.cpu().tolist()
        structures, start = [], 0
        for cell, size in zip(cells, self.sizes, strict=True):
            atoms = slice(start, start + size)
            structures.append(Structure(cell, numbers[atoms], positions[atoms], coords_are_cartesian=True))
            start += size
        return structures

    def per_system(self, values: Tensor) -> Tensor:
        """Sum values of atoms, [n_atoms, ...], over each crystal, [n_systems, ...]."""
        sums = values.new_zeros((self.n_systems, *values.shape[1:]))
        return sums.index_add(0, self.system_idx, values)

    def pairs(self, cutoff: float) -> Pairs:
        """All pairs of atoms closer than `cutoff` (Å), each once.

        Raises:
            PotentialError: A crystal's coordinates are not finite, or its cell has collapsed.
        """
        if cutoff not in self._memory:
            self._memory[cutoff] = PairMemory(cutoff)
        return self._memory[cutoff].pairs(self.positions.detach(), self.cells.detach(), self.sizes, self.system_idx)


def _system_idx(sizes: tuple[int, ...], device: str | torch.device) -> Tensor:
    """[n_atoms] crystal of each atom."""
    return torch.repeat_interleave(torch.tensor(sizes, dtype=torch.int64, device=device))


@dataclass(frozen=True, eq=False)
class Output:
    """What a network says of a batch.

    Attributes:
        energies: [n_systems] in eV, double precision, differentiable in the batch's positions and cells.
        magmoms: [n_atoms] magnitudes in μB, or None.
        charges: [n_atoms] in e, or None.
        atom_energies: [n_atoms] in eV, or None.
        features: [n_atoms, n_features], or None.
    """

    energies: Tensor
    magmoms: Tensor | None = None
    charges: Tensor | None = None
    atom_energies: Tensor | None = None
    features: Tensor | None = None


@dataclass(frozen=True, eq=False)
class BatchPrediction:
    """What a potential says of the crystals of a batch; double precision, on the batch's device, without gradients.

    Attributes:
        energies: [n_systems] in eV.
        forces: [n_atoms, 3] in eV/Å.
        stresses: [n_systems, 3, 3] in eV/Å^3, dE/dstrain / V: positive under tension (ASE's sign).
        magmoms: [n_atoms] magnitudes in μB, or None.
        charges: [n_atoms] in e, or None.
        atom_energies: [n_atoms] in eV, which sum to `energies`, or None.
        features: [n_atoms, n_features] of the network's last layer but one, or None.
    """

    energies: Tensor
    forces: Tensor
    stresses: Tensor
    magmoms: Tensor | None = None
    charges: Tensor | None = None
    atom_energies: Tensor | None = None
    features: Tensor | None = None


def gather(batch: CrystalBatch, predictions: Sequence[Prediction]) -> BatchPrediction:
    """The predictions for the crystals of a batch as one."""

    def tensor(arrays: list[np.ndarray]) -> Tensor:
        return torch.as_tensor(np.concatenate(arrays), dtype=torch.float64, device=batch.positions.device)

    def of_atoms(name: str) -> Tensor | None:
        values = [getattr(one, name) for one in predictions]
        return None if any(one is None for one in values) else tensor(values)

    return BatchPrediction(
        energies=tensor([np.array([one.energy]) for one in predictions]),
        forces=tensor([one.forces for one in predictions]),
        stresses=tensor([one.stress[None] for one in predictions]),
        magmoms=of_atoms("magmoms"),
        charges=of_atoms("charges"),
        atom_energies=of_atoms("atom_energies"),
        features=of_atoms("features"),
    )


def spread(batch: CrystalBatch, prediction: BatchPrediction) -> list[Prediction]:
    """A prediction for each crystal of a batch."""

    def of_atoms(values: Tensor | None) -> list[np.ndarray] | list[None]:
        if values is None:
            return [None] * batch.n_systems
        return [part.cpu().double().numpy() for part in torch.split(values, list(batch.sizes))]

    columns = (
        prediction.energies.tolist(),
        of_atoms(prediction.forces),
        list(prediction.stresses.cpu().numpy()),
        of_atoms(prediction.magmoms),
        of_atoms(prediction.charges),
        of_atoms(prediction.atom_energies),
        of_atoms(prediction.features),
    )
    return [Prediction(*values) for values in zip(*columns, strict=True)]
