"""Gated message passing over the rows of a crystal graph, with derivatives by hand.

A row (a directed bond, an ordered angle) adds up entries of tables, passes them through a gated network

    silu(norm(core)) * sigmoid(norm(gate))

and is weighted. Core and gate are kept as the two halves of one tensor [2, n_rows, width]. Writing the backward pass by
hand saves most of the passes over memory that automatic differentiation makes: it needs no gradient of the weights,
and what it multiplies it can overwrite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from matsearch.potential.graph import Incidence

EPS = 1e-5


@dataclass(frozen=True, eq=False)
class Gate:
    """Weights of the gated network behind its first linear layer.

    Attributes:
        hidden_bias: [2, 1, width] bias of the first layer.
        weight: [2, width, width] second layer, or None where the first is the only one.
        bias: [2, 1, width] of the second layer, or None.
        scale: [2, width] of the layer norms.
        shift: [2, width] of the layer norms.
    """

    weight: Tensor | None
    bias: Tensor | None
    scale: Tensor
    shift: Tensor


def _gated(hidden: Tensor, gate: Gate) -> tuple[Tensor, list[Tensor]]:
    """The gated network on rows; also what its derivative needs.

    Args:
        hidden: [2, n_rows, width] first linear layer.
        gate: Weights.

    Returns:
        [n_rows, width], and tensors for `_gated_backward`.
    """
    if gate.weight is None:
        outer = hidden
    else:
        outer = torch.baddbmm(gate.bias, F.silu(hidden), gate.weight)
    width = (outer.shape[-1],)
    core, core_mean, core_scale = torch.native_layer_norm(outer[0], width, gate.scale[0], gate.shift[0], EPS)
    opening, gate_mean, gate_scale = torch.native_layer_norm(outer[1], width, gate.scale[1], gate.shift[1], EPS)
    opening.sigmoid_()
    message = F.silu(core).mul_(opening)
    return message, [hidden, outer, core, core_mean, core_scale, opening, gate_mean, gate_scale, message]


def _gated_backward(slope: Tensor, saved: tuple[Tensor, ...], gate: Gate) -> Tensor:
    """Slope with `hidden` from the slope with the message; overwrites what was saved.

    Args:
        slope: [n_rows, width].
        saved: From `_gated`.
        gate: Weights.
    """
    hidden, outer, core, core_mean, core_scale, opening, gate_mean, gate_scale, message = saved
    width = [outer.shape[-1]]
    # d sigmoid = opening (1 - opening), so that the slope with the gate's argument is slope * message * (1 - opening).
    gate_slope = torch.addcmul(message, message, opening, value=-1).mul_(slope)
    core_slope = torch.ops.aten.silu_backward(slope * opening, core)
    which = [True, False, False]
    backward = torch.ops.aten.native_layer_norm_backward
    outer_slope = torch.empty_like(outer)
    outer_slope[0] = backward(core_slope, outer[0], width, core_mean, core_scale, gate.scale[0], gate.shift[0], which)[
        0
    ]
    outer_slope[1] = backward(gate_slope, outer[1], width, gate_mean, gate_scale, gate.scale[1], gate.shift[1], which)[
        0
    ]
    if gate.weight is None:
        return outer_slope
    return torch.ops.aten.silu_backward(torch.bmm(outer_slope, gate.weight.mT), hidden)


class Messages(Function):
    """Sum of weighted gated messages at their targets."""

    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        addend: Tensor | None,
        weight: Tensor,
        sources: Incidence,
        targets: Incidence,
        gate: Gate,
    ) -> Tensor:
        """Messages of all rows, added up.

        Args:
            ctx: Of autograd.
            table: [2, n_entries, width] first linear layer of everything a row adds up.
            addend: [2, n_rows, width] or [2, n_rows / 2, width] (for both halves) added to it, or None.
            weight: [n_rows / 2, width] of the messages, for both halves.
            sources: Table entries of each row.
            targets: Where each row's message goes.
            gate: Weights.

        Returns:
            [n_targets, width].
        """
        hidden = _hidden(table, addend, sources)
        message, saved = _gated(hidden, gate)
        ctx.save_for_backward(weight, *saved)
        ctx.sources, ctx.targets, ctx.gate = sources, targets, gate
        ctx.addend_rows = 0 if addend is None else addend.shape[1]
        return targets.scatter((message.view(2, *weight.shape) * weight).view_as(message))

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Slopes with table, addend and weight."""
        weight, *saved = ctx.saved_tensors
        message = saved[-1]
        rows = slope.index_select(0, ctx.targets.entries)
        weight_slope = (rows * message).view(2, *weight.shape).sum(0)
        rows.view(2, *weight.shape).mul_(weight)
        hidden_slope = _gated_backward(rows, tuple(saved), ctx.gate)
        table_slope = torch.stack([ctx.sources.scatter(half) for half in hidden_slope])
        return table_slope, _addend_slope(hidden_slope, ctx.addend_rows), weight_slope, None, None, None


class RowUpdate(Function):
    """Gated messages of the rows themselves."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, addend: Tensor, sources: Incidence, gate: Gate) -> Tensor:
        """[n_rows, width] of the arguments of `Messages`."""
        message, saved = _gated(_hidden(table, addend, sources), gate)
        ctx.save_for_backward(*saved)
        ctx.sources, ctx.gate, ctx.addend_rows = sources, gate, addend.shape[1]
        return message.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Slopes with table and addend."""
        hidden_slope = _gated_backward(slope, ctx.saved_tensors, ctx.gate)
        table_slope = torch.stack([ctx.sources.scatter(half) for half in hidden_slope])
        return table_slope, _addend_slope(hidden_slope, ctx.addend_rows), None, None


def _hidden(table: Tensor, addend: Tensor | None, sources: Incidence) -> Tensor:
    hidden = torch.stack([sources.gather(half) for half in table])
    if addend is not None:
        hidden.view(2, -1, *addend.shape[1:]).add_(addend[:, None])
    return hidden


def _addend_slope(hidden_slope: Tensor, n_rows: int) -> Tensor | None:
    if n_rows == 0:
        return None
    return hidden_slope.view(2, -1, n_rows, hidden_slope.shape[-1]).sum(1)
