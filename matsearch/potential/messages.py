"""Gated message passing over the rows of a crystal graph, with derivatives by hand.

A row (a directed bond, an ordered angle) adds up what its atoms, bonds and angle bring to the first linear layer and
passes the sum through a gated network,

    silu(norm(core)) * sigmoid(norm(gate)).

The backward pass by hand needs half the passes over memory of automatic differentiation: it asks for no gradient of the
weights, keeps what it will need and nothing else, and overwrites what it has used. It can be differentiated once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from matsearch.potential.graph import Incidence

EPS = 1e-5
"""Of the layer norms."""


@dataclass(frozen=True, eq=False)
class GatedLayer:
    """Weights of a gated layer; core and gate are the two entries of each first dimension.

    Attributes:
        entries: For each kind of table entry, [2, n_in, width] of the first linear layer.
        bias: [2, width] of the first linear layer.
        rows: [2, n_in, width] for features of the rows themselves, or None where they have none.
        hidden: [2, width, width] second linear layer, or None where the first is the only one.
        hidden_bias: [2, width], or None.
        scale: [2, width] of the layer norms.
        shift: [2, width] of the layer norms.
    """

    entries: tuple[Tensor, ...]
    bias: Tensor
    rows: Tensor | None
    hidden: Tensor | None
    hidden_bias: Tensor | None
    scale: Tensor
    shift: Tensor


def messages(
    layer: GatedLayer,
    sources: Incidence,
    targets: Incidence,
    weight: Tensor,
    entries: tuple[Tensor, ...],
    rows: Tensor | None = None,
) -> Tensor:
    """Weighted gated messages, added up at their targets.

    Args:
        layer: Weights.
        sources: Table entries of each row.
        targets: Where the message of each row goes.
        weight: [n_rows / 2, width] of the messages of both halves.
        entries: For each kind of table entry, [n_entries, n_in].
        rows: [n_rows, n_in], or [n_rows / 2, n_in] for both halves, or None.

    Returns:
        [n_targets, width].
    """
    total: Tensor = _Gated.apply(layer, sources, targets, weight, rows, *entries)
    return total


def row_update(layer: GatedLayer, sources: Incidence, entries: tuple[Tensor, ...], rows: Tensor) -> Tensor:
    """Gated messages of the rows themselves, [n_rows, width]; arguments as in `messages`."""
    update: Tensor = _Gated.apply(layer, sources, None, None, rows, *entries)
    return update


class _Gated(Function):
    @staticmethod
    def forward(
        ctx: Any,
        layer: GatedLayer,
        sources: Incidence,
        targets: Incidence | None,
        weight: Tensor | None,
        rows: Tensor | None,
        *entries: Tensor,
    ) -> Tensor:
        core, core_saved = _branch(layer, 0, sources, rows, entries)
        gate, gate_saved = _branch(layer, 1, sources, rows, entries)
        message = torch.nn.functional.silu(core).mul_(gate.sigmoid_())
        ctx.layer, ctx.sources, ctx.targets = layer, sources, targets
        ctx.n_rows_in = 0 if rows is None else len(rows)
        ctx.sizes = [len(one) for one in entries]
        ctx.n_saved = len(core_saved)
        ctx.save_for_backward(weight, core, gate, message, *core_saved, *gate_saved)
        if targets is None or weight is None:
            return message.clone()
        return targets.scatter((message.view(2, *weight.shape) * weight).view_as(message))

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        layer, sources, targets = ctx.layer, ctx.sources, ctx.targets
        weight, core, gate, message, *saved = ctx.saved_tensors
        weight_slope = None
        if targets is not None:
            slope = slope.index_select(0, targets.entries)
            weight_slope = (slope * message).view(2, *weight.shape).sum(0)
            slope.view(2, *weight.shape).mul_(weight)
        # The slope of a sigmoid s is s (1 - s), so that of the gate's argument is slope * message * (1 - gate).
        gate_slope = torch.addcmul(message, message, gate, value=-1).mul_(slope)
        core_slope = torch.ops.aten.silu_backward(slope * gate, core)

        table_slopes, rows_slope = [], None
        for half, outer_slope, kept in ((0, core_slope, saved[: ctx.n_saved]), (1, gate_slope, saved[ctx.n_saved :])):
            hidden_slope = _branch_backward(layer, half, outer_slope, kept)
            table_slopes.append(sources.scatter(hidden_slope).split(ctx.sizes))
            if ctx.n_rows_in:
                part = hidden_slope.view(-1, ctx.n_rows_in, hidden_slope.shape[1])
                part = part[0] if len(part) == 1 else part[0] + part[1]
                rows_slope = _times(rows_slope, part, layer.rows[half])
        entry_slopes: list[Tensor | None] = []
        for index, (first, second) in enumerate(zip(*table_slopes, strict=True)):
            if not ctx.needs_input_grad[5 + index]:
                entry_slopes.append(None)
                continue
            entry_slopes.append(_times(_times(None, first, layer.entries[index][0]), second, layer.entries[index][1]))
        return None, None, None, weight_slope, rows_slope, *entry_slopes


def _branch(
    layer: GatedLayer, half: int, sources: Incidence, rows: Tensor | None, entries: tuple[Tensor, ...]
) -> tuple[Tensor, list[Tensor]]:
    """One of the two branches up to its layer norm; also what its derivative needs."""
    width = layer.bias.shape[1]
    table = entries[0].new_empty(sum(len(one) for one in entries), width)
    start = 0
    for index, (entry, weight) in enumerate(zip(entries, layer.entries, strict=True)):
        part = table[start : start + len(entry)]
        start += len(entry)
        if index == 0:
            torch.addmm(layer.bias[half], entry, weight[half], out=part)
        else:
            torch.mm(entry, weight[half], out=part)
    outer = sources.gather(table)
    if rows is not None and layer.rows is not None:
        if len(rows) == len(outer):
            outer.addmm_(rows, layer.rows[half])
        else:
            outer.view(2, len(rows), width).add_(rows @ layer.rows[half])
    saved = []
    if layer.hidden is not None and layer.hidden_bias is not None:
        saved.append(outer)
        outer = torch.addmm(layer.hidden_bias[half], torch.nn.functional.silu(outer), layer.hidden[half])
    normed, mean, deviation = torch.native_layer_norm(outer, (width,), layer.scale[half], layer.shift[half], EPS)
    return normed, [*saved, outer, mean, deviation]


def _branch_backward(layer: GatedLayer, half: int, slope: Tensor, saved: list[Tensor]) -> Tensor:
    """Slope with the first linear layer's result, from that with the layer norm's."""
    *hidden, outer, mean, deviation = saved
    slope = torch.ops.aten.native_layer_norm_backward(
        slope, outer, [outer.shape[1]], mean, deviation, layer.scale[half], layer.shift[half], [True, False, False]
    )[0]
    if layer.hidden is None:
        return slope
    return torch.ops.aten.silu_backward(slope @ layer.hidden[half].T, hidden[0])


def _times(total: Tensor | None, slope: Tensor, weight: Tensor) -> Tensor:
    """`total` + slope @ weight.T."""
    return slope @ weight.T if total is None else total.addmm_(slope, weight.T)
