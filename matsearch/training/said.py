"""What terms and a network say of crystals, asked once and kept in files, so that a long asking can be stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.chgnet import CHGNet
from matsearch.training.data import LabelledStructure

OF_ATOMS = ("forces", "magmoms")
BATCH_ATOMS = 160
"""Atoms that are asked about together."""
IN_A_FILE = 2000
"""Crystals."""


@dataclass(frozen=True, eq=False)
class Said:
    """What terms and the start say of crystals.

    Attributes:
        sizes: [n] atoms.
        energies: [n] of the terms together in eV.
        forces: [n_atoms, 3] of these.
        stresses: [n, 3, 3] of these.
        network: [n] the start's energy in eV without composition energies.
        magmoms: [n_atoms] of the start in μB.
    """

    sizes: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    stresses: np.ndarray
    network: np.ndarray
    magmoms: np.ndarray

    def take(self, chosen: np.ndarray) -> Said:
        """Of some of the crystals, [n] bool."""
        atoms = np.repeat(chosen, self.sizes)
        return Said(**{name: value[atoms] if name in OF_ATOMS else value[chosen] for name, value in vars(self).items()})

    def slices(self) -> list[slice]:
        """Which atoms are those of each crystal."""
        ends = np.cumsum(self.sizes).tolist()
        return [slice(end - size, end) for end, size in zip(ends, self.sizes.tolist(), strict=True)]

    @staticmethod
    def join(parts: Sequence[Said]) -> Said:
        """One after the other."""
        return Said(**{name: np.concatenate([vars(one)[name] for one in parts]) for name in vars(parts[0])})


def ask(
    rows: Sequence[LabelledStructure],
    weights: Mapping[str, Tensor],
    terms: Sequence[BatchedPotential],
    device: str,
    cache: Path | None = None,
) -> Said:
    """Ask, or take from a folder what was asked before of the same crystals, weights and terms.

    Args:
        rows: The crystals.
        weights: Of CHGNet, by the names of the `chgnet` package; composition energies are none.
        terms: What is added to it.
        device: Where to ask.
        cache: The folder; None for none.
    """
    own = hashlib.sha256("+".join(term.name for term in terms).encode())
    for weight in weights.values():
        own.update(weight.numpy().tobytes())
    found = []
    for number, first in enumerate(range(0, max(1, len(rows)), IN_A_FILE)):
        some = rows[first : first + IN_A_FILE]
        asked = own.copy()
        for row in some:
            structure = row.structure
            for array in (structure.lattice.matrix, structure.frac_coords, np.array(structure.atomic_numbers)):
                asked.update(np.ascontiguousarray(array).tobytes())
        path = None if cache is None else cache / f"{number:04d}.npz"
        found.append(_kept(path, asked.hexdigest()) or _ask(some, weights, terms, device))
        if path is not None:
            _keep(found[-1], path, asked.hexdigest())
    return Said.join(found)


def _kept(path: Path | None, digest: str) -> Said | None:
    if path is None or not path.is_file():
        return None
    with np.load(path) as file:
        if str(file["digest"]) != digest:
            return None
        return Said(**{name: file[name] for name in Said.__dataclass_fields__})


def _keep(said: Said, path: Path, digest: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, digest=digest, **vars(said))
    partial.replace(path)


def _ask(
    rows: Sequence[LabelledStructure], weights: Mapping[str, Tensor], parts: Sequence[BatchedPotential], device: str
) -> Said:
    network = CHGNet("start", "", dict(weights), torch.device(device))
    sizes = [len(row.structure) for row in rows]
    names = ("energies", "forces", "stresses", "network", "magmoms")
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for chosen in packs(range(len(rows)), sizes, BATCH_ATOMS):
        batch = CrystalBatch.from_structures([rows[index].structure for index in chosen], device)
        with torch.no_grad():
            output = network.forward(batch)
        assert output.magmoms is not None
        found["network"].append(output.energies)
        found["magmoms"].append(output.magmoms)
        zero = torch.zeros_like(batch.positions), torch.zeros_like(batch.cells), torch.zeros_like(output.energies)
        total = [*zero]
        for part in parts:
            added = part.evaluate(batch)
            total = [a + b for a, b in zip(total, (added.forces, added.stresses, added.energies), strict=True)]
        for name, value in zip(("forces", "stresses", "energies"), total, strict=True):
            found[name].append(value)
    arrays = {
        name: torch.cat(values).double().cpu().numpy() if values else np.zeros(0) for name, values in found.items()
    }
    return Said(sizes=np.array(sizes, dtype=int), **arrays)


def packs(order: Iterable[int], sizes: Sequence[int], n_atoms: int) -> Iterator[list[int]]:
    """Numbers of crystals in the order given, as many together as have so many atoms; one that has more is alone."""
    pack: list[int] = []
    total = 0
    for index in order:
        if pack and total + sizes[index] > n_atoms:
            yield pack
            pack, total = [], 0
        pack.append(index)
        total += sizes[index]
    if pack:
        yield pack
