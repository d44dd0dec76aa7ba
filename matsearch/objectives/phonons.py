"""Phonons of relaxed crystals: the lowest frequency, and the heat capacity of the harmonic crystal.

Atoms are displaced in supercells, the displacements that symmetry leaves independent; the potential is asked for the
forces in the supercells of all crystals at once; phonopy (BSD-3) makes force constants and frequencies of them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure

from matsearch.errors import ConfigError
from matsearch.objectives.base import Cost, Objective, ObjectiveContext
from matsearch.objectives.rest import KeptAtRest
from matsearch.potential import Potential
from matsearch.records import Direction, Prediction, Rejection, Relaxed, Stage

SPACING = 8.0
"""Å; opposite faces of a supercell are at least this far apart."""
LARGEST = 500
"""Atoms in a supercell, at most."""
DISPLACEMENT = 0.02
"""Å; twice phonopy's own, since single precision leaves some 1e-5 eV/Å on a force."""
SYMPREC = 1e-2
"""Å; what a relaxed crystal lacks of a symmetry by less is noise of the relaxation."""
MESH = 40.0
"""Å; divisions of the mesh along a reciprocal vector b, for the heat capacity: this times |b| / 2 pi."""
TEMPERATURE = 300.0
INSTABILITY = -0.1
"""THz; a frequency below this (an imaginary one) is no rounding: the crystal is no minimum."""
EV_PER_THZ = 4.135667696e-3
BOLTZMANN = 8.617333262e-5
"""eV/K (CODATA 2018)."""
GAS_CONSTANT = 8.314462618
"""J/(mol K)."""


@dataclass(frozen=True, slots=True)
class Phonons:
    """Phonons of one crystal.

    Attributes:
        lowest: Lowest frequency in THz among the wave vectors that fit the supercell, without the three acoustic modes
            at Γ; imaginary ones are negative.
        heat_capacity: Per mole of atoms at 300 K and constant volume, in J/(mol K).
        n_atoms: Of the supercell.
    """

    lowest: float
    heat_capacity: float
    n_atoms: int


def phonons(crystals: Sequence[Structure], potential: Potential) -> list[Phonons | Rejection]:
    """Phonons of crystals relaxed on a potential, in order.

    Returns:
        Reasons of rejection: `supercell_too_large`, `phonon_symmetry` (phonopy finds no symmetry), `out_of_domain`.
    """
    plans = [_plan(crystal) for crystal in crystals]
    cells = [cell for plan in plans if isinstance(plan, _Plan) for cell in plan.cells]
    predictions = iter(potential.predict(cells) if cells else [])
    return [plan if isinstance(plan, Rejection) else _phonons(plan, predictions) for plan in plans]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Phonopy's view of a crystal, and the supercells to be computed: undisplaced first."""

    phonopy: Any
    cells: list[Structure]


def multiples(lattice: Lattice) -> list[int]:
    """How often a cell is repeated along its edges, for faces that are `SPACING` apart."""
    spacings = lattice.volume / np.linalg.norm(np.cross(lattice.matrix[[1, 2, 0]], lattice.matrix[[2, 0, 1]]), axis=1)
    return [int(number) for number in np.ceil(SPACING / spacings - 1e-6)]


def _plan(crystal: Structure) -> _Plan | Rejection:
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    repeats = multiples(crystal.lattice)
    if (n_atoms := len(crystal) * int(np.prod(repeats))) > LARGEST:
        size = " x ".join(map(str, repeats))
        return _refuse("supercell_too_large", f"{size} cells are {n_atoms} atoms, of at most {LARGEST}")
    cell = PhonopyAtoms(
        symbols=[one.symbol for one in crystal.species],
        cell=crystal.lattice.matrix,
        scaled_positions=crystal.frac_coords,
    )
    try:
        phonopy = Phonopy(cell, supercell_matrix=repeats, primitive_matrix="P", symprec=SYMPREC)
        phonopy.generate_displacements(distance=DISPLACEMENT)
    except (RuntimeError, TypeError) as err:  # what spglib's failures come as
        return _refuse("phonon_symmetry", f"{type(err).__name__}: {err}")
    return _Plan(phonopy, [_structure(one) for one in (phonopy.supercell, *phonopy.supercells_with_displacements)])


def _structure(atoms: Any) -> Structure:
    return Structure(Lattice(atoms.cell), atoms.symbols, atoms.scaled_positions)


def _phonons(plan: _Plan, predictions: Iterator[Prediction]) -> Phonons | Rejection:
    from phonopy.harmonic.dynmat_to_fc import get_commensurate_points

    told = [next(predictions) for _ in plan.cells]
    if outside := [one.out_of_domain for one in told if one.out_of_domain is not None]:
        return _refuse("out_of_domain", outside[0])
    phonopy = plan.phonopy
    # What force the relaxation left is there without the displacement, too.
    phonopy.forces = np.array([np.asarray(one.forces) - np.asarray(told[0].forces) for one in told[1:]], dtype=float)
    phonopy.produce_force_constants(show_drift=False)
    phonopy.symmetrize_force_constants(show_drift=False)
    phonopy.run_qpoints(get_commensurate_points(phonopy.supercell_matrix))
    frequencies = np.array(phonopy.qpoints.frequencies)
    phonopy.run_mesh(MESH, is_gamma_center=True)
    return Phonons(
        _lowest(frequencies),
        heat_capacity(np.array(phonopy.mesh.frequencies), np.array(phonopy.mesh.weights)),
        len(plan.cells[0]),
    )


def _lowest(frequencies: np.ndarray) -> float:
    """Of [n_q, n_modes] with Γ first, whose three acoustic modes are those nearest to 0."""
    optical = frequencies[0][np.argsort(np.abs(frequencies[0]))[3:]]
    return float(min([*optical, *frequencies[1:].ravel()], default=0.0))


def heat_capacity(frequencies: np.ndarray, weights: np.ndarray, temperature: float = TEMPERATURE) -> float:
    """Of harmonic oscillators, in J/(mol K) for a mole of atoms; 3 R is the limit of high temperatures.

    Args:
        frequencies: [n_q, n_modes] in THz. Those at or below 0 count as the limit of low frequencies.
        weights: [n_q].
        temperature: K.
    """
    x = np.maximum(frequencies, 1e-3) * EV_PER_THZ / (BOLTZMANN * temperature)
    modes = (x / 2 / np.sinh(x / 2)) ** 2
    return float(3 * GAS_CONSTANT * np.average(modes.mean(axis=1), weights=weights))


def _refuse(reason: str, detail: str) -> Rejection:
    return Rejection(Stage.SCORE, reason, detail)


_KEPT: KeptAtRest[Phonons] = KeptAtRest(phonons)


class PhononObjective(Objective):
    """What follows from phonons in a supercell whose faces are 8 Å apart, of at most 500 atoms."""

    cost: Cost = "many"
    needs = ("potential", "phonopy")

    def __init__(self, context: ObjectiveContext) -> None:
        try:
            import phonopy  # noqa: F401
        except ModuleNotFoundError as err:
            raise ConfigError(f"objective {self.name!r} needs phonopy: pip install 'matsearch[phonons]'") from err
        self._context = context

    def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
        """The value of each crystal, brought to rest; `not_at_rest`, or a reason of `phonons`, where there is none."""
        found = _KEPT.of(relaxed, self._context)
        return [one if isinstance(one, Rejection) else self._value(one) for one in found]

    @abstractmethod
    def _value(self, found: Phonons) -> float | Rejection:
        """Of a crystal whose phonons are known."""


class LowestFrequency(PhononObjective):
    """Lowest phonon frequency in THz; below 0 (imaginary) the crystal is dynamically unstable.

    Among the wave vectors that fit the supercell, whose frequencies are not interpolated, without the acoustic modes at
    Γ. `constraint = ">= -0.1"` keeps what is stable to rounding.
    """

    name = "lowest_frequency"
    unit = "THz"
    direction: Direction = "max"

    def _value(self, found: Phonons) -> float | Rejection:
        return found.lowest


class HeatCapacity(PhononObjective):
    """Heat capacity at 300 K and constant volume, in J/(mol K) per mole of atoms; at most 3 R = 24.9."""

    name = "heat_capacity"
    unit = "J/(mol K)"
    direction: Direction = "max"

    def _value(self, found: Phonons) -> float | Rejection:
        if found.lowest < INSTABILITY:
            return _refuse("dynamically_unstable", f"lowest frequency {found.lowest:.2f} THz")
        return found.heat_capacity
