"""Labels around crystals at rest, where a reference gives energy and geometry and a teacher the rest.

Data bases hold relaxed crystals: an energy, and that forces and stress are zero there. A potential that is to relax
needs slopes around that. A teacher (another potential) has them, but its minimum lies elsewhere, at another height. So
what it says to first order about the reference's crystal is taken off,

    E(u, ε) = E_ref + c [E_t(u, ε) - E_t(0, 0) + F_t(0, 0).u - V σ_t(0, 0):ε],

with displacements u and strain ε, r -> (r + u)(1 + ε); forces and stress are the slopes of just that. The crystal of
the reference is then a minimum to the teacher's accuracy of curvatures, and c mends these where one knows how soft the
teacher is (`matsearch.training.softening`, or moduli).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pymatgen.core import Lattice, Structure

from matsearch.potential import Potential
from matsearch.records import Prediction
from matsearch.training.data import LabelledStructure

MOVES = (0.02, 0.3)
"""Å; standard deviations of displacements lie between these, evenly by their logarithm."""
STRAIN, VOLUME = 0.03, 0.1
"""Standard deviation of each component of the strain, and of the logarithm of the volume."""


def at_rest(structure: Structure, energy: float, source: str = "") -> LabelledStructure:
    """A relaxed crystal: forces and stress are zero."""
    return LabelledStructure(structure, energy, np.zeros((len(structure), 3)), np.zeros((3, 3)), source=source)


def around(
    rows: Sequence[LabelledStructure],
    teacher: Potential,
    rng: np.random.Generator,
    *,
    n_each: int = 1,
    scale: float = 1.0,
) -> list[LabelledStructure]:
    """Labels of crystals strained and rattled at random, those left out that lie outside what the teacher can know.

    Args:
        rows: Crystals at rest with energies of the reference.
        teacher: Knows their elements.
        rng: Draws the distortions.
        n_each: Distorted crystals of each.
        scale: c.
    """
    chosen = [row for row in rows for _ in range(n_each)]
    drawn = [distortion(len(row.structure), rng) for row in chosen]
    made = [distorted(row.structure, *one) for row, one in zip(chosen, drawn, strict=True)]
    still = [one for one in teacher.predict([row.structure for row in rows]) for _ in range(n_each)]
    found = []
    for row, one, structure, before, after in zip(chosen, drawn, made, still, teacher.predict(made), strict=True):
        if before.out_of_domain is None and after.out_of_domain is None:
            labels = anchored(row, structure, *one, before, after, scale)
            found.append(replace(labels, source=f"{row.source}, distorted"))
    return found


def distortion(n_atoms: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """[n_atoms, 3] displacements in Å, and [3, 3] a symmetric strain."""
    low, high = np.log(MOVES)
    moves = rng.normal(scale=np.exp(rng.uniform(low, high)), size=(n_atoms, 3))
    strain = rng.normal(scale=STRAIN, size=(3, 3))
    strain = 0.5 * (strain + strain.T)
    strain += (rng.normal(scale=VOLUME) - np.trace(strain)) / 3 * np.eye(3)
    return moves, strain


def distorted(structure: Structure, moves: np.ndarray, strain: np.ndarray) -> Structure:
    """The crystal with its atoms moved, then strained."""
    deformation = np.eye(3) + strain
    cell = structure.lattice.matrix @ deformation
    positions = (structure.cart_coords + moves) @ deformation
    return Structure(Lattice(cell), structure.species, positions, coords_are_cartesian=True)


def anchored(
    row: LabelledStructure,
    structure: Structure,
    moves: np.ndarray,
    strain: np.ndarray,
    before: Prediction,
    after: Prediction,
    scale: float = 1.0,
) -> LabelledStructure:
    """The label of one distorted crystal.

    Args:
        row: The crystal at rest.
        structure: The distorted one (`distorted`).
        moves: [n_atoms, 3] in Å.
        strain: [3, 3].
        before: What the teacher says of the crystal at rest.
        after: What it says of the distorted one.
        scale: c.
    """
    deformation = np.eye(3) + strain
    volume = abs(row.structure.volume)
    first_order = -float((before.forces * moves).sum()) + volume * float((before.stress * strain).sum())
    forces = before.forces @ np.linalg.inv(deformation).T
    stress = deformation.T @ before.stress / abs(float(np.linalg.det(deformation)))
    stress = 0.5 * (stress + stress.T)
    return LabelledStructure(
        structure,
        row.energy + scale * (after.energy - before.energy - first_order),
        scale * (after.forces - forces),
        scale * (after.stress - stress),
        source=row.source,
    )


def raised(
    row: LabelledStructure, structure: Structure, rest: Prediction, found: Prediction, scale: float = 1.0
) -> LabelledStructure:
    """The label of a crystal made of whole formula units of one at rest *by the teacher*, far from that or cut.

    The teacher's energy above its own rest, on top of the reference's: n_atoms e_ref + c (E_t - n_atoms e_t).

    Args:
        row: The crystal at rest, with the reference's energy.
        structure: Strained, pressed, a slab.
        rest: What the teacher says of the former.
        found: What it says of the latter.
        scale: c.
    """
    units = len(structure) / len(row.structure)
    energy = units * row.energy + scale * (found.energy - units * rest.energy)
    return LabelledStructure(structure, energy, scale * found.forces, scale * found.stress, source=row.source)


def stiffened(
    labels: Sequence[LabelledStructure], rows: Sequence[LabelledStructure], teacher: Potential, scale: float
) -> list[LabelledStructure]:
    """Labels with more energy of strain, where moduli say how much too soft a teacher is and its forces are right.

    To each is added (c - 1) times what the teacher makes of the strain alone, of the crystal at rest with its atoms
    carried along; that depends on the cell only, so that forces stay.

    Args:
        labels: Of strained crystals, their atoms moved or not.
        rows: The crystal at rest of each.
        teacher: Knows their elements.
        scale: c, of moduli.
    """
    strained = [
        Structure(label.structure.lattice, row.structure.species, row.structure.frac_coords)
        for label, row in zip(labels, rows, strict=True)
    ]
    before = teacher.predict([row.structure for row in rows])
    found = []
    for label, row, structure, still, after in zip(
        labels, rows, strained, before, teacher.predict(strained), strict=True
    ):
        deformation = np.linalg.solve(row.structure.lattice.matrix, structure.lattice.matrix)
        none = np.zeros((len(structure), 3))
        added = anchored(row, structure, none, deformation - np.eye(3), still, after, scale - 1)
        stress = added.stress if label.stress is None or added.stress is None else label.stress + added.stress
        found.append(replace(label, energy=label.energy + added.energy - row.energy, stress=stress))
    return found
