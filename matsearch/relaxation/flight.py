"""Crystals that relax together: each enters, takes its steps and leaves on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from pymatgen.core import Structure
from torch import Tensor

from matsearch.potential.base import Potential
from matsearch.potential.batch import BatchPrediction, CrystalBatch
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.capacity import Capacity
from matsearch.potential.domain import out_of_domain
from matsearch.potential.neighbors import Pairs
from matsearch.records import Rejection, Relaxed
from matsearch.relaxation import cell as coordinates_of
from matsearch.relaxation import checks
from matsearch.relaxation.cell import CellFilter
from matsearch.relaxation.evaluation import chosen, evaluate
from matsearch.relaxation.optimizer import Optimizer
from matsearch.relaxation.rows import Rows, RowState
from matsearch.relaxation.symmetry import Projector, Symmetry, find_symmetry

Ticket = TypeVar("Ticket")


@dataclass(frozen=True)
class Plan:
    """How crystals relax, and until when.

    Attributes:
        filter: What the cell may do, and the pressure.
        optimizer: Makes the steps.
        force_tol: eV/Å, on every atom and, without `stress_tol`, on every row of the cell's generalised force.
        stress_tol: eV/Å^3, on every component of the stress that is left; None for a cell judged by `force_tol`.
        max_steps: Steps after which a crystal is given up.
        fix_symmetry: Keep the space group of the start.
    """

    filter: CellFilter
    optimizer: Optimizer[Any]
    force_tol: float
    stress_tol: float | None
    max_steps: int
    fix_symmetry: bool


@dataclass(frozen=True, eq=False)
class Motion(RowState):
    """Where the crystals of a flight are.

    Attributes:
        coordinates: [n_rows, 3] of the cell filter.
        start_cells: [n_systems, 3, 3] in Å, to which they refer.
        start_volumes: [n_systems] in Å^3.
        n_steps: [n_systems] taken so far.
    """

    coordinates: Tensor
    start_cells: Tensor
    start_volumes: Tensor
    n_steps: Tensor
    PER_ROW: ClassVar[frozenset[str]] = frozenset({"coordinates"})


@dataclass(frozen=True, eq=False)
class Passenger(Generic[Ticket]):
    """A crystal in a flight: whose it is, and what its tensors do not hold."""

    ticket: Ticket
    structure: Structure
    symmetry: Symmetry | None


class Flight(Generic[Ticket]):
    """A batch of crystals on their way.

    Not for several threads at once.

    Attributes:
        n_atoms: On board.
        n_pairs: Within 6 Å, at the last step.
    """

    def __init__(self, potential: Potential, plan: Plan, capacity: Capacity) -> None:
        """An empty flight."""
        self._potential = potential
        self._plan = plan
        self._capacity = capacity
        # A plug-in that knows structures alone gets them from the CPU.
        self._device = potential.device if isinstance(potential, BatchedPotential) else "cpu"
        self._passengers: list[Passenger[Ticket]] = []
        self._batch: CrystalBatch | None = None
        self._rows = Rows.of([], self._device)
        self._motion: Motion
        self._state: RowState
        self._projector: Projector | None = None
        self.n_atoms = 0
        self.n_pairs = 0

    def __len__(self) -> int:
        return len(self._passengers)

    @property
    def tickets(self) -> list[Ticket]:
        """Of those on board."""
        return [one.ticket for one in self._passengers]

    def enter(self, newcomers: Sequence[tuple[Ticket, Structure]]) -> list[tuple[Ticket, Rejection]]:
        """Take crystals on board.

        Returns:
            Those that cannot be relaxed, with the reason.
        """
        refused = []
        boarding: list[Passenger[Ticket]] = []
        crystals = []
        for ticket, structure in newcomers:
            outcome = self._prepared(structure)
            if isinstance(outcome, Rejection):
                refused.append((ticket, outcome))
            else:
                crystal, symmetry, n_pairs = outcome
                crystals.append(crystal)
                boarding.append(Passenger(ticket, structure, symmetry))
                self.n_pairs += n_pairs
        if crystals:
            self._board(boarding, CrystalBatch.join(crystals))
        return refused

    def step(self) -> list[tuple[Ticket, Relaxed | Rejection]]:
        """Evaluate all crystals once; those that are done leave, the others take a step.

        Returns:
            Those that left, with what became of them.
        """
        assert self._batch is not None, "an empty flight makes no steps"
        pairs = self._batch.pairs(checks.ISOLATION_DISTANCE)
        self.n_pairs = len(pairs.first)
        prediction, failures = evaluate(self._potential, self._batch, pairs, self._capacity)
        left: list[tuple[Ticket, Relaxed | Rejection]] = [
            (self._passengers[system].ticket, failure) for system, failure in failures.items()
        ]
        if failures:
            self._keep([system for system in range(len(self)) if system not in failures])
            if prediction is None:
                return left
            pairs = self._batch.pairs(checks.ISOLATION_DISTANCE)
        assert prediction is not None

        volumes = self._batch.volumes
        stresses = prediction.stresses
        forces = self._plan.filter.forces(
            self._batch,
            self._rows,
            self._motion.coordinates,
            self._motion.start_cells,
            prediction.forces,
            stresses,
            volumes,
        )
        if self._projector is not None:
            forces, stresses = self._projector.forces(forces, self._rows), self._projector.tensors(stresses)
        stress = self._plan.filter.residual_stress(stresses).abs().amax((1, 2))

        outcomes = self._judge(prediction, pairs, forces, stress, volumes)
        if outcomes:
            left += [(self._passengers[system].ticket, outcome) for system, outcome in outcomes.items()]
            staying = [system for system in range(len(self)) if system not in outcomes]
            forces = forces.index_select(0, self._rows.chosen(staying))
            self._keep(staying)
        if len(self):
            self._advance(forces)
        return left

    def _prepared(self, structure: Structure) -> tuple[CrystalBatch, Symmetry | None, int] | Rejection:
        """A crystal as a batch of its own, with its symmetry and the number of its pairs."""
        if refusal := checks.unfit(structure, self._potential):
            return refusal
        positions, cell = np.array(structure.cart_coords), np.array(structure.lattice.matrix)
        numbers = [site.specie.Z for site in structure]
        crystal = CrystalBatch.from_arrays([positions], [cell], [numbers])
        pairs = crystal.pairs(checks.ISOLATION_DISTANCE)
        if refusal := checks.isolated(pairs, crystal).get(0):
            return refusal
        if checks.collided(pairs):
            return checks.collision(pairs, 0)
        symmetry = None
        if self._plan.fix_symmetry:
            symmetry, positions, cell = find_symmetry(positions, cell, numbers)
        return CrystalBatch.from_arrays([positions], [cell], [numbers], self._device), symmetry, len(pairs.first)

    def _board(self, boarding: Sequence[Passenger[Ticket]], crystals: CrystalBatch) -> None:
        rows = Rows.of(crystals.sizes, self._device)
        motion = Motion(
            coordinates_of.start(crystals, rows),
            crystals.cells,
            crystals.volumes,
            torch.zeros(crystals.n_systems, dtype=torch.int64, device=self._device),
        )
        state = self._plan.optimizer.start(rows)
        if self._batch is not None:
            crystals = CrystalBatch.join([self._batch, crystals])
            motion, state = self._motion.join(motion), self._state.join(state)
        self._take_over([*self._passengers, *boarding], crystals, motion, state)

    def _keep(self, staying: Sequence[int]) -> None:
        """Go on with these crystals."""
        if not staying:
            self._passengers, self._batch, self._projector = [], None, None
            self.n_atoms = self.n_pairs = 0
            return
        assert self._batch is not None
        rows, systems = self._rows.chosen(staying), torch.tensor(staying, device=self._device)
        self._take_over(
            [self._passengers[system] for system in staying],
            self._batch.select(staying),
            self._motion.take(rows, systems),
            self._state.take(rows, systems),
        )

    def _take_over(
        self, passengers: list[Passenger[Ticket]], batch: CrystalBatch, motion: Motion, state: RowState
    ) -> None:
        self._passengers, self._batch, self._motion, self._state = passengers, batch, motion, state
        self._rows = Rows.of(batch.sizes, self._device)
        self.n_atoms = batch.n_atoms
        symmetries = [one.symmetry for one in passengers if one.symmetry is not None]
        self._projector = Projector(symmetries, self._device) if symmetries else None

    def _judge(
        self, prediction: BatchPrediction, pairs: Pairs, forces: Tensor, stress: Tensor, volumes: Tensor
    ) -> dict[int, Relaxed | Rejection]:
        """What became of the crystals that are done, by their number in the batch."""
        assert self._batch is not None
        plan, motion = self._plan, self._motion
        if plan.stress_tol is None:
            # Rows of the cell count like atoms, as in the stock relaxation of CHGNet.
            converged = self._rows.largest(forces) < plan.force_tol
        else:
            norms = torch.linalg.vector_norm(prediction.forces, dim=1)
            of_atoms = norms.new_zeros(len(self)).scatter_reduce(0, self._batch.system_idx, norms, "amax")
            converged = (of_atoms < plan.force_tol) & (stress < plan.stress_tol)
        exploded, collapsed = checks.out_of_bounds(self._batch.cells, self._rows.sizes, volumes, motion.start_volumes)
        done = converged | (motion.n_steps >= plan.max_steps)
        flags = torch.stack([exploded, collapsed, done, converged]).tolist()

        outcomes: dict[int, Relaxed | Rejection] = {
            system: checks.collision(pairs, system) for system in sorted(checks.collided(pairs))
        }
        finished = []
        for system in range(len(self)):
            if flags[0][system]:
                growth = float(volumes[system] / motion.start_volumes[system])
                outcomes[system] = checks.explosion(self._batch, system, growth)
            elif flags[1][system]:
                outcomes[system] = checks.collapse(self._batch, system, volumes)
            elif flags[2][system] and system not in outcomes:
                finished.append(system)
        if finished:
            outcomes |= self._finish(finished, flags[3], prediction, pairs, stress)
        return outcomes

    def _finish(
        self,
        finished: Sequence[int],
        converged: Sequence[bool],
        prediction: BatchPrediction,
        pairs: Pairs,
        stress: Tensor,
    ) -> dict[int, Relaxed | Rejection]:
        """The results of crystals that arrived, or took their last step."""
        assert self._batch is not None
        outcomes: dict[int, Relaxed | Rejection] = {}
        alone = checks.isolated(pairs, self._batch)
        batch, prediction = self._batch.select(finished), chosen(prediction, self._batch, finished)
        norms = torch.linalg.vector_norm(prediction.forces, dim=1)
        charges = prediction.charges
        columns = zip(
            finished,
            torch.split(batch.positions.cpu(), list(batch.sizes)),
            batch.cells.cpu().numpy(),
            prediction.energies.tolist(),
            [float(part.max()) for part in torch.split(norms.cpu(), list(batch.sizes))],
            stress[finished].tolist(),
            self._motion.n_steps[finished].tolist(),
            [None] * len(finished) if charges is None else torch.split(charges.cpu().double(), list(batch.sizes)),
            strict=True,
        )
        domain = out_of_domain(batch, prediction.energies, self._potential)
        for (system, positions, cell, energy, max_force, max_stress, n_steps, of_atoms), foreign in zip(
            columns, domain, strict=True
        ):
            proposed = self._passengers[system].structure
            if system in alone:
                outcomes[system] = alone[system]
            elif foreign is not None:
                outcomes[system] = checks.refuse("out_of_domain", foreign)
            else:
                outcomes[system] = Relaxed(
                    structure=Structure(cell, proposed.species, positions.numpy(), coords_are_cartesian=True),
                    energy=energy,
                    converged=converged[system],
                    n_steps=n_steps,
                    max_force=max_force,
                    max_stress=max_stress,
                    initial=proposed.copy(),
                    potential=self._potential.name,
                    charges=None if of_atoms is None else tuple(of_atoms.tolist()),
                )
        return outcomes

    def _advance(self, forces: Tensor) -> None:
        assert self._batch is not None
        motion = self._motion
        self._state, step = self._plan.optimizer.step(self._state, forces, self._rows)
        self._motion = Motion(motion.coordinates + step, motion.start_cells, motion.start_volumes, motion.n_steps + 1)
        self._batch = self._plan.filter.place(self._batch, self._rows, self._motion.coordinates, motion.start_cells)
