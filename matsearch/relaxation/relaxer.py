"""Relax structures one by one with ASE's FIRE and Frechet cell filter.

Whatever becomes of one structure, the others are relaxed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from pymatgen.core import Structure
from threadpoolctl import threadpool_limits

from matsearch.potential.ase import PotentialCalculator, to_atoms, to_structure
from matsearch.potential.base import Potential
from matsearch.records import Rejection, Relaxed, Stage
from matsearch.relaxation.settings import RelaxSettings

Cell = Literal["free", "fixed", "fixed_volume"]

MAX_EXPANSION = 5.0
"""A cell that grows by more than this falls apart."""
MIN_VOLUME = 2.0
"""Å^3/atom, below which a cell has fallen into a hole of the energy surface: diamond has 5.7, dense hydrides 4."""
EDGE_LIMITS = (0.7, 200.0)
"""Shortest and longest cell edge in Å that is followed."""
MIN_DISTANCE = 0.5
"""Atoms closer than this (Å) sit in a hole of the energy surface: no two nuclei of a crystal do (H2: 0.74)."""
ISOLATION_DISTANCE = 6.0
"""An atom without a neighbour this near (Å) feels nothing in CHGNet, whose cutoff this is, and little in a crystal."""


def relax(
    structures: Sequence[Structure],
    potential: Potential,
    force_tol: float = RelaxSettings().force_tol,
    max_steps: int = RelaxSettings().max_steps,
    *,
    cell: Cell = "free",
) -> list[Relaxed | Rejection]:
    """Relax each structure to its nearest minimum.

    FIRE moves atoms and cell together (`cell="free"`), the cell's shape but not its volume (`"fixed_volume"`), or the
    atoms alone (`"fixed"`). It is converged when the force on every atom, and every row of the cell's generalised force
    (virial / number of atoms), is below `force_tol`.

    Args:
        structures: Left as they are.
        potential: What to relax on.
        force_tol: eV/Å.
        max_steps: Steps after which it is given up: `Relaxed(converged=False)`.
        cell: What may move.

    Returns:
        In the order of `structures`. A rejection's reason is one of `disordered`, `untrained_element`, `not_finite`
        (coordinates, energy, forces), `collided` (two atoms within 0.5 Å), `exploded` (5 times the volume, or an edge
        above 200 Å), `collapsed` (below 2 Å^3/atom, or an edge below 0.7 Å), `isolated_atom` (no neighbour within 6 Å).

    Raises:
        TypeError: One structure instead of a list of them.
        ValueError: `cell`, `force_tol` or `max_steps` is out of range.
    """
    if isinstance(structures, Structure):  # itself a sequence, of sites
        raise TypeError("relax takes a list of structures; write relax([structure], ...)")
    if cell not in get_args(Cell):
        raise ValueError(f"cell must be one of {', '.join(get_args(Cell))}, got {cell!r}")
    if not force_tol > 0 or max_steps < 0:
        raise ValueError(f"force_tol must be positive and max_steps not negative, got {force_tol} and {max_steps}")
    # ASE's filter solves 3 x 3 systems thousands of times: on BLAS threads that takes longer than the network does.
    with threadpool_limits(limits=1, user_api="blas"):
        return [_relax_one(structure, potential, force_tol, max_steps, cell) for structure in structures]


def protocol(settings: RelaxSettings) -> dict[str, Any]:
    """What a relaxed energy depends on beside structure and potential: part of the key of stored results."""
    return {"optimizer": "ase.FIRE", "filter": "ase.FrechetCellFilter", **settings.model_dump()}


def _relax_one(
    structure: Structure, potential: Potential, force_tol: float, max_steps: int, cell: Cell
) -> Relaxed | Rejection:
    if refusal := _unfit(structure, potential):
        return refusal
    atoms = to_atoms(structure)
    atoms.calc = PotentialCalculator(potential)
    if refusal := _isolated(structure):
        return refusal

    optimizer = FIRE(_moving(atoms, cell), logfile=None)
    start_volume = atoms.get_volume()
    while True:
        forces = optimizer.atoms.get_forces()
        if refusal := _gone_wrong(atoms, forces, start_volume):
            return refusal
        # Rows of the cell count like atoms, as in the stock relaxation of CHGNet.
        converged = bool(np.linalg.norm(forces, axis=1).max(initial=0.0) < force_tol)
        if converged or optimizer.nsteps >= max_steps:
            break
        optimizer.step()
        optimizer.nsteps += 1

    relaxed = Structure(atoms.cell.array.copy(), structure.species, atoms.get_positions(), coords_are_cartesian=True)
    if refusal := _isolated(relaxed):
        return refusal
    return Relaxed(
        structure=relaxed,
        energy=float(atoms.get_potential_energy()),
        converged=converged,
        n_steps=int(optimizer.nsteps),
        max_force=float(np.linalg.norm(atoms.get_forces(), axis=1).max()),
        initial=structure.copy(),
        potential=potential.name,
    )


class _CellFilter(FrechetCellFilter):
    """The filter of ASE with a memory: it is asked for the same matrix logarithms and forces several times a step."""

    _forces_at: tuple[bytes, bytes] | None = None
    _coordinates_at: tuple[bytes, bytes] | None = None

    def get_forces(self, **kwargs: Any) -> np.ndarray:
        if self._forces_at != self._here():
            self._forces = super().get_forces(**kwargs)
            self._forces_at = self._here()
        return self._forces.copy()

    def set_positions(self, new: np.ndarray, **kwargs: Any) -> None:
        super().set_positions(new, **kwargs)
        self._coordinates, self._coordinates_at = np.array(new), self._here()

    def get_positions(self) -> np.ndarray:
        return self._coordinates.copy() if self._coordinates_at == self._here() else super().get_positions()

    def _here(self) -> tuple[bytes, bytes]:
        return self.atoms.positions.tobytes(), self.atoms.cell.array.tobytes()


def _moving(atoms: Atoms, cell: Cell) -> Atoms | _CellFilter:
    if cell == "fixed":
        return atoms
    return _CellFilter(atoms, constant_volume=cell == "fixed_volume")


def _refuse(reason: str, detail: str) -> Rejection:
    return Rejection(Stage.RELAX, reason, detail)


def _unfit(structure: Structure, potential: Potential) -> Rejection | None:
    """Why a structure cannot be relaxed at all."""
    if not structure.is_ordered:
        return _refuse("disordered", "a site is shared by several elements or partly occupied")
    if missing := potential.untrained(structure):
        return _refuse("untrained_element", f"{potential.name} was not trained on {', '.join(missing)}")
    if not (np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()):
        return _refuse("not_finite", "the lattice or a coordinate is NaN or inf")
    if not structure.volume > MIN_VOLUME * len(structure):
        return _refuse("collapsed", f"{structure.volume / len(structure):.3g} Å^3/atom as proposed")
    return None


def _gone_wrong(atoms: Atoms, forces: np.ndarray, start_volume: float) -> Rejection | None:
    """Why a running relaxation has to stop."""
    if not (np.isfinite(forces).all() and np.isfinite(atoms.get_potential_energy())):
        return _refuse("not_finite", "the potential gave an energy or a force that is NaN or inf")
    growth = atoms.get_volume() / start_volume
    edges = atoms.cell.lengths()
    if growth > MAX_EXPANSION or edges.max() > EDGE_LIMITS[1]:
        return _refuse("exploded", f"volume {growth:.2f} times that proposed, longest edge {edges.max():.1f} Å")
    per_atom = atoms.get_volume() / len(atoms)
    if per_atom < MIN_VOLUME or edges.min() < EDGE_LIMITS[0]:
        return _refuse("collapsed", f"{per_atom:.2f} Å^3/atom, shortest edge {edges.min():.2f} Å")
    lengths = to_structure(atoms).get_neighbor_list(MIN_DISTANCE)[3]
    if len(lengths):
        return _refuse("collided", f"two atoms {lengths.min():.2f} Å apart, nearer than {MIN_DISTANCE} Å")
    return None


def _isolated(structure: Structure) -> Rejection | None:
    bonded = np.unique(structure.get_neighbor_list(ISOLATION_DISTANCE)[0])
    alone = sorted(set(range(len(structure))) - set(bonded.tolist()))
    if alone:
        symbols = ", ".join(structure[index].specie.symbol for index in alone[:3])
        return _refuse("isolated_atom", f"{len(alone)} atoms ({symbols}) without a neighbour within 6 Å")
    return None
