"""Relax structures in batches that are kept full.

Whatever becomes of one structure, the others are relaxed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, get_args

from pymatgen.core import IStructure, Structure

from matsearch.potential.base import Potential
from matsearch.records import Rejection, Relaxed
from matsearch.relaxation.cell import CellFilter, CellMode
from matsearch.relaxation.flight import Plan
from matsearch.relaxation.optimizer import Fire, Lbfgs, Optimizer, OptimizerName
from matsearch.relaxation.scheduler import Scheduler, expected_size
from matsearch.relaxation.settings import RelaxSettings

OPTIMIZERS: dict[OptimizerName, type[Optimizer[Any]]] = {"fire": Fire, "lbfgs": Lbfgs}
DEFAULTS = RelaxSettings()


def relax(
    structures: Sequence[Structure],
    potential: Potential,
    force_tol: float = DEFAULTS.force_tol,
    max_steps: int = DEFAULTS.max_steps,
    *,
    stress_tol: float | None = None,
    cell: CellMode = "free",
    optimizer: OptimizerName = "fire",
    fix_symmetry: bool = False,
    pressure_gpa: float = 0.0,
) -> list[Relaxed | Rejection]:
    """Relax each structure to its nearest minimum.

    Atoms and cell move together (`cell="free"`), the cell's shape but not its volume (`"fixed_volume"`), or the atoms
    alone (`"fixed"`). A structure is converged when the force on every atom, and every row of the cell's generalised
    force (virial / number of atoms), is below `force_tol`.

    Args:
        structures: Left as they are.
        potential: What to relax on.
        force_tol: eV/Å.
        max_steps: Steps after which it is given up: `Relaxed(converged=False)`.
        stress_tol: eV/Å^3; where given, the cell is judged by it instead of `force_tol`: by the largest component of
            stress + pressure.
        cell: What may move.
        optimizer: `fire`, as the stock relaxation of CHGNet has it, or `lbfgs`.
        fix_symmetry: Keep the space group, found within 0.01 Å and made exact at the start.
        pressure_gpa: External pressure. The energy stays that of the potential, without p V.

    Returns:
        In the order of `structures`; species stay as they are, other site properties are left behind. A rejection's
        reason is one of `empty`, `disordered`, `untrained_element`, `not_periodic` (in all three directions),
        `not_finite` (coordinates, energy, forces), `collided` (two atoms within 0.5 Å), `exploded` (5 times the volume,
        or an edge above 200 Å), `collapsed` (below 2 Å^3/atom, an edge below 0.7 Å, or faces of the cell within 0.3 Å),
        `isolated_atom` (no neighbour within 6 Å), `out_of_domain` (the potential knows nothing of the like),
        `potential_error` (the potential refuses it), `out_of_memory` (too large even alone).

    Raises:
        TypeError: One structure instead of a list of them, something that is no structure, or a name for a potential.
        ValueError: A setting is out of range.
    """
    if isinstance(structures, IStructure):  # itself a sequence, of sites
        raise TypeError("relax takes a list of structures; write relax([structure], ...)")
    structures = list(structures)
    for index, one in enumerate(structures):
        if not isinstance(one, IStructure):
            raise TypeError(f"relax takes pymatgen structures; number {index} of the list is a {type(one).__name__}")
    if not isinstance(potential, Potential):
        raise TypeError(f"relax takes a potential, got a {type(potential).__name__}; see load_potential")
    plan = make_plan(
        force_tol,
        max_steps,
        stress_tol=stress_tol,
        cell=cell,
        optimizer=optimizer,
        fix_symmetry=fix_symmetry,
        pressure_gpa=pressure_gpa,
    )
    with Scheduler(potential, plan) as scheduler:
        return [future.result() for future in scheduler.submit(structures)]


def relax_iter(
    structures: Iterable[Structure], potential: Potential, plan: Plan
) -> Iterator[tuple[int, Relaxed | Rejection]]:
    """Relax structures as they come: each with its number, as soon as it is done.

    Structures are drawn while there is room for them. Where drawing one may take long, submit what there is to a
    `Scheduler` instead.

    Args:
        structures: Any number.
        potential: What to relax on.
        plan: See `make_plan`.
    """
    source = enumerate(structures)
    finished: SimpleQueue[tuple[int, Future[Relaxed | Rejection]]] = SimpleQueue()
    n_running = 0
    with Scheduler(potential, plan) as scheduler:
        while True:
            room, drawn = scheduler.room, []
            while room > 0 and (one := next(source, None)) is not None:
                drawn.append(one)
                room -= expected_size(one[1])
            futures = scheduler.submit([structure for _, structure in drawn])
            for (index, _), future in zip(drawn, futures, strict=True):
                future.add_done_callback(partial(_report, finished, index))
            n_running += len(drawn)
            if not n_running:
                return
            index, future = finished.get()
            n_running -= 1
            yield index, future.result()


def _report(
    finished: SimpleQueue[tuple[int, Future[Relaxed | Rejection]]], index: int, future: Future[Relaxed | Rejection]
) -> None:
    finished.put((index, future))


def make_plan(
    force_tol: float = DEFAULTS.force_tol,
    max_steps: int = DEFAULTS.max_steps,
    *,
    stress_tol: float | None = None,
    cell: CellMode = "free",
    optimizer: OptimizerName = "fire",
    fix_symmetry: bool = False,
    pressure_gpa: float = 0.0,
) -> Plan:
    """The arguments of `relax`, checked.

    Raises:
        ValueError: One is out of range.
    """
    if cell not in get_args(CellMode):
        raise ValueError(f"cell must be one of {', '.join(get_args(CellMode))}, got {cell!r}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {optimizer!r}")
    if not 0 < force_tol < math.inf:
        raise ValueError(f"force_tol must be a positive number, got {force_tol}")
    if max_steps != int(max_steps) or max_steps < 0:
        raise ValueError(f"max_steps must be a whole number and not negative, got {max_steps}")
    if stress_tol is not None and not 0 < stress_tol < math.inf:
        raise ValueError(f"stress_tol must be positive, got {stress_tol}")
    if not abs(pressure_gpa) < float("inf"):
        raise ValueError(f"pressure_gpa must be a number, got {pressure_gpa}")
    filter = CellFilter.under(cell, pressure_gpa)
    return Plan(filter, OPTIMIZERS[optimizer](), force_tol, stress_tol, int(max_steps), fix_symmetry)


def protocol(settings: RelaxSettings) -> dict[str, Any]:
    """What a relaxed energy depends on beside structure and potential: part of the key of stored results."""
    return {"engine": "batched-1", "filter": "frechet", **settings.model_dump()}
