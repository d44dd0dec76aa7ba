"""Optimisers as pure steps on the rows of many crystals, each crystal with a state of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor

from matsearch.relaxation.rows import Rows, RowState

OptimizerName = Literal["fire", "lbfgs"]
State = TypeVar("State", bound=RowState)


class Optimizer(ABC, Generic[State]):
    """Takes crystals downhill by their forces alone: with a moving cell the energy is not always at hand."""

    @abstractmethod
    def start(self, rows: Rows) -> State:
        """The state of crystals before their first step."""

    @abstractmethod
    def step(self, state: State, forces: Tensor, rows: Rows) -> tuple[State, Tensor]:
        """The state after a step, and the step, [n_rows, 3].

        Args:
            state: Before it.
            forces: [n_rows, 3] in eV/Å, finite.
            rows: Whose they are.
        """


@dataclass(frozen=True, eq=False)
class FireState(RowState):
    """State of FIRE.

    Attributes:
        velocity: [n_rows, 3].
        time_step: [n_systems].
        mixing: [n_systems] share of the velocity that is turned to the force.
        n_downhill: [n_systems] steps downhill in a row; -1 before the first step.
    """

    velocity: Tensor
    time_step: Tensor
    mixing: Tensor
    n_downhill: Tensor
    PER_ROW: ClassVar[frozenset[str]] = frozenset({"velocity"})


class Fire(Optimizer[FireState]):
    """The fast inertial relaxation engine with the rules and numbers of `ase.optimize.FIRE`.

    Source:
        Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006).
    """

    max_step = 0.2
    """Å, norm of a crystal's whole step."""

    def start(self, rows: Rows) -> FireState:
        """Velocities of zero."""
        velocity = torch.zeros((len(rows.system_idx), 3), dtype=torch.float64, device=rows.system_idx.device)
        ones = velocity.new_ones(rows.n_systems)
        return FireState(velocity, 0.1 * ones, 0.1 * ones, -ones)

    def step(self, state: FireState, forces: Tensor, rows: Rows) -> tuple[FireState, Tensor]:
        """Turn the velocity to the force while it leads downhill, else stop; then accelerate."""
        fresh = state.n_downhill < 0
        downhill = rows.dot(forces, state.velocity) > 0
        lasting = downhill & (state.n_downhill > 5)
        speed = torch.sqrt(rows.dot(state.velocity, state.velocity))
        force = torch.sqrt(rows.dot(forces, forces))

        # A velocity of zero, before the first step, needs no stopping: then the time step stays.
        keep = torch.where(downhill, 1 - state.mixing, 0)
        turn = torch.where(downhill, state.mixing * speed / force, 0)
        time_step = torch.where(lasting, (1.1 * state.time_step).clamp(max=1.0), state.time_step)
        time_step = torch.where(downhill | fresh, time_step, 0.5 * state.time_step)
        mixing = torch.where(lasting, 0.99 * state.mixing, state.mixing)
        mixing = torch.where(downhill, mixing, 0.1)
        n_downhill = torch.where(downhill, state.n_downhill + 1, 0)

        velocity = rows.spread(keep) * state.velocity + rows.spread(turn + time_step) * forces
        step = rows.spread(time_step) * velocity
        shorten = (self.max_step / torch.sqrt(rows.dot(step, step))).clamp(max=1.0)
        return FireState(velocity, time_step, mixing, n_downhill), rows.spread(shorten) * step


@dataclass(frozen=True, eq=False)
class LbfgsState(RowState):
    """State of L-BFGS.

    Attributes:
        steps: [n_rows, memory, 3] the last steps, the newest last.
        yields: [n_rows, memory, 3] by how much the forces fell along each.
        weights: [n_systems, memory] 1 / (step . yield); 0 where there is none.
        forces: [n_rows, 3] before the last step.
        last: [n_rows, 3] the last step; 0 before the first.
        reach: [n_systems] in Å, how long a step may be.
    """

    steps: Tensor
    yields: Tensor
    weights: Tensor
    forces: Tensor
    last: Tensor
    reach: Tensor
    PER_ROW: ClassVar[frozenset[str]] = frozenset({"steps", "yields", "forces", "last"})


class Lbfgs(Optimizer[LbfgsState]):
    """Limited-memory BFGS without a line search: one evaluation a step, guarded by what the forces say.

    A pair without positive curvature is left out, so that every step leads downhill; where the force along a step
    changed sign and grew, the energy rose by the trapezoidal rule, and the next steps are held shorter.

    Rows of a cell get the first guess of those of atoms, as in FIRE. A softer one takes fewer steps, but which of
    several minima lies downhill depends on how fast the cell moves beside the atoms, and some crystals end in another.

    Source:
        Nocedal and Wright, Numerical Optimization (2006), algorithm 7.4.
    """

    memory = 20
    """Steps that are remembered."""
    max_step = 0.2
    """Å, longest row of a step."""
    stiffness = 30.0
    """First guess of the curvature, eV/Å^2, of every row; then the last pair scales it."""

    def start(self, rows: Rows) -> LbfgsState:
        """No memory."""
        zeros = torch.zeros((len(rows.system_idx), 3), dtype=torch.float64, device=rows.system_idx.device)
        past = zeros[:, None, :].expand(-1, self.memory, -1)
        weights = zeros.new_zeros((rows.n_systems, self.memory))
        return LbfgsState(past, past, weights, zeros, zeros, zeros.new_full((rows.n_systems,), self.max_step))

    def step(self, state: LbfgsState, forces: Tensor, rows: Rows) -> tuple[LbfgsState, Tensor]:
        """Remember what the last step taught, and take the next."""
        fall = state.forces - forces
        curvature = rows.dot(fall, state.last)
        usable = curvature > 1e-8 * rows.dot(state.last, state.last)
        weight = torch.where(usable, 1 / torch.where(usable, curvature, 1), 0)
        steps = torch.cat([state.steps[:, 1:], state.last[:, None]], dim=1)
        yields = torch.cat([state.yields[:, 1:], fall[:, None]], dim=1)
        weights = torch.cat([state.weights[:, 1:], weight[:, None]], dim=1)

        rose = rows.dot(forces + state.forces, state.last) < 0
        reach = torch.where(rose, 0.5 * state.reach, (1.2 * state.reach).clamp(max=self.max_step))

        direction = _two_loops(steps, yields, weights, forces, self._softness(yields[:, -1], weight, rows), rows)
        longest = rows.largest(direction)
        shorten = torch.where(longest > reach, reach / longest, 1)
        step = rows.spread(shorten) * direction
        return LbfgsState(steps, yields, weights, forces, step, reach), step

    def _softness(self, fall: Tensor, weight: Tensor, rows: Rows) -> Tensor:
        """[n_rows, 1] first guess of the inverse curvature, scaled so that it holds along the last step."""
        inverse = weight * rows.dot(fall, fall) / self.stiffness
        scale = torch.where(inverse > 0, 1 / inverse, 1).clamp(0.1, 10)
        return rows.spread(scale / self.stiffness)


def _two_loops(steps: Tensor, yields: Tensor, weights: Tensor, forces: Tensor, softness: Tensor, rows: Rows) -> Tensor:
    """[n_rows, 3] inverse curvature times force."""
    weighted = rows.spread(weights)[:, 0, :, None]
    pairs = list(
        zip(steps.unbind(1), yields.unbind(1), (weighted * steps).unbind(1), (weighted * yields).unbind(1), strict=True)
    )
    direction = forces
    shares = []
    for _, fall, weighted_step, _ in reversed(pairs):
        shares.append(rows.spread(rows.dot(weighted_step, direction)))
        direction = torch.addcmul(direction, shares[-1], fall, value=-1)
    direction = softness * direction
    for (step, _, _, weighted_fall), share in zip(pairs, reversed(shares), strict=True):
        excess = share - rows.spread(rows.dot(weighted_fall, direction))
        direction = torch.addcmul(direction, excess, step)
    return direction
