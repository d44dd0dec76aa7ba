"""Quick checks of a potential against its own energies and the symmetries of nature, as numbers.

What `matsearch potential check` prints. The whole contract is a test suite, `matsearch.testing.potential`, for those
who write a potential; this is for those who want to know whether one works here, with these weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from pymatgen.core import Lattice, Structure

from matsearch.errors import PotentialError

if TYPE_CHECKING:
    from matsearch.potential.base import Potential


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: What is to hold.
        deviation: The largest there is; NaN where a prediction is not finite.
        tolerance: What is allowed.
        unit: Of both.
        where: Formula of the crystal with the largest deviation.
    """

    name: str
    deviation: float
    tolerance: float
    unit: str
    where: str

    @property
    def passed(self) -> bool:
        """Whether the deviation is within the tolerance."""
        return bool(self.deviation <= self.tolerance)


class Tolerances(NamedTuple):
    """What is allowed, in eV/atom, eV/Å and eV/Å^3; `step` in Å is that of central differences."""

    step: float
    energy: float
    force: float
    stress: float
    slope_force: float
    slope_stress: float


DOUBLE = Tolerances(1e-4, 1e-9, 1e-6, 1e-7, 1e-5, 1e-6)
SINGLE = Tolerances(0.01, 1e-5, 2e-3, 5e-5, 0.02, 5e-4)
"""An energy in single precision is good to 1e-6 of itself, which a short step would divide by too little."""


def check_potential(potential: Potential, crystals: Sequence[Structure] | None = None) -> list[Check]:
    """Check a potential on a few crystals.

    Args:
        potential: A copy of it in double precision is checked where it offers one (`double()`).
        crystals: Small ones, off their symmetry; None for cells of all kinds with elements that the potential knows.

    Raises:
        PotentialError: It does not know an element of the crystals.
    """
    double = getattr(potential, "double", None)
    allowed = SINGLE if double is None else DOUBLE
    checked: Potential = potential if double is None else double()
    crystals = check_crystals(potential.elements) if crystals is None else list(crystals)
    if not crystals:
        raise PotentialError(f"there is no crystal to check {potential.name} on")
    alone = [checked.predict([one])[0] for one in crystals]
    seen: dict[str, list[tuple[float, str]]] = {}

    def note(name: str, deviation: np.ndarray | float, crystal: Structure) -> None:
        largest = float(np.abs(deviation).max())
        seen.setdefault(name, []).append((largest, crystal.composition.reduced_formula))

    for crystal, one, other in zip(crystals, alone, checked.predict(crystals), strict=True):
        note("energy: batch = singles", (other.energy - one.energy) / len(crystal), crystal)
        note("forces: batch = singles", other.forces - one.forces, crystal)
    for label, transform in TRANSFORMATIONS.items():
        changed = [transform(crystal) for crystal in crystals]
        predictions = checked.predict([one.structure for one in changed])
        for crystal, change, one, other in zip(crystals, changed, alone, predictions, strict=True):
            times = len(change.structure) // len(crystal)
            note(f"energy: {label}", (other.energy / times - one.energy) / len(crystal), crystal)
            expected = np.tile(one.forces @ change.rotation.T, (1, times)).reshape(-1, 3)
            note(f"forces: {label}", other.forces - expected, crystal)
            note(f"stress: {label}", other.stress - change.rotation @ one.stress @ change.rotation.T, crystal)
    for crystal, one in zip(crystals, alone, strict=True):
        slopes = _slopes(checked, crystal, allowed.step)
        note("forces = -dE/dr", one.forces[0] + slopes[:3], crystal)
        stress = one.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        note("stress = dE/dstrain / V", stress - slopes[3:] / crystal.volume, crystal)
    limits = {"energy:": (allowed.energy, "eV/atom"), "forces:": (allowed.force, "eV/Å")}
    limits |= {"stress:": (allowed.stress, "eV/Å³"), "forces": (allowed.slope_force, "eV/Å")}
    limits |= {"stress": (allowed.slope_stress, "eV/Å³")}
    checks = []
    for name, found in seen.items():
        # A NaN is worse than any number.
        deviation, where = max(found, key=lambda pair: np.inf if np.isnan(pair[0]) else pair[0])
        checks.append(Check(name, deviation, *limits[name.split()[0]], where))
    return checks


class Change(NamedTuple):
    """A crystal described otherwise, and the rotation that its vectors turned by."""

    structure: Structure
    rotation: np.ndarray


def _doubled(crystal: Structure) -> Change:
    return Change(crystal * (2, 1, 1), np.eye(3))


def _turned(crystal: Structure) -> Change:
    rotation, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    turned = Lattice(crystal.lattice.matrix @ rotation.T)
    return Change(Structure(turned, crystal.species, crystal.frac_coords), rotation)


def _other_hand(crystal: Structure) -> Change:
    swap = [0, 2, 1]
    other = Lattice(crystal.lattice.matrix[swap])
    return Change(Structure(other, crystal.species, crystal.frac_coords[:, swap]), np.eye(3))


TRANSFORMATIONS: dict[str, Callable[[Structure], Change]] = {
    "twice the cell": _doubled,
    "rotated": _turned,
    "other handedness": _other_hand,
}


def _slopes(potential: Potential, crystal: Structure, step: float) -> np.ndarray:
    """[9] dE/dr of the first atom in eV/Å, and dE/dstrain (xx, yy, zz, yz, xz, xy) in eV, by central differences."""
    changed = []
    for axis in range(3):
        for sign in (1, -1):
            positions = crystal.cart_coords.copy()
            positions[0, axis] += sign * step
            changed.append(Structure(crystal.lattice, crystal.species, positions, coords_are_cartesian=True))
    for first, second in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        for sign in (1, -1):
            strain = np.eye(3)
            strain[first, second] += sign * step / 20
            strain[second, first] += sign * step / 20
            changed.append(Structure(Lattice(crystal.lattice.matrix @ strain), crystal.species, crystal.frac_coords))
    energies = np.array([one.energy for one in potential.predict(changed)]).reshape(-1, 2)
    return (energies[:, 0] - energies[:, 1]) / (2 * step * np.array([1.0] * 3 + [0.1] * 6))


def check_crystals(elements: frozenset[str]) -> list[Structure]:
    """Four small distorted cells: rocksalt, triclinic, left-handed, and of one atom.

    Their elements are common ones where the potential knows them, else others that it knows; lengths follow the
    covalent radii.
    """
    if not elements:
        raise PotentialError("the potential names no element that it knows")
    metal, oxide, third = (_first(elements, one) for one in (("Na", "Mg", "Li"), ("O", "Cl", "H"), ("Fe", "Ti", "Al")))
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    sites = np.concatenate([fcc, fcc + 0.5]) + np.random.default_rng(7).normal(scale=0.012, size=(8, 3))
    rocksalt = Structure(Lattice.cubic(2 * _bond(metal, oxide)), [metal] * 4 + [oxide] * 4, sites)
    long = 2 * _bond(third, oxide)
    triclinic = Structure(
        Lattice.from_parameters(long, 1.2 * long, 1.3 * long, 75, 82, 99),
        [metal, third, oxide, oxide],
        [[0.02, 0.05, 0.0], [0.5, 0.48, 0.51], [0.52, 0.03, 0.47], [0.03, 0.51, 0.49]],
    )
    half = _bond(third, oxide)
    left_handed = Structure(
        Lattice([[0.05 * half, 1.05 * half, half], [half, half, 0.0], [half, -0.05 * half, 1.05 * half]]),
        [third, oxide],
        [[0, 0, 0], [0.52, 0.49, 0.5]],
    )
    near = 0.75 * _bond(third, third)
    one_atom = Structure(
        Lattice([[0, near, 1.05 * near], [1.05 * near, 0.05 * near, near], [near, near, 0]]), [third], [[0, 0, 0]]
    )
    return [rocksalt, triclinic, left_handed, one_atom]


def _first(elements: frozenset[str], wished: Sequence[str]) -> str:
    return next((symbol for symbol in wished if symbol in elements), min(elements))


def _bond(first: str, second: str) -> float:
    """Å between two atoms that touch, by the sum of their covalent radii."""
    return 1.12 * float(covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]])
