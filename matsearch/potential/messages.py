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

silu_backward_out = torch.ops.aten.silu_backward.grad_input

EPS = 1e-5
"""Of the layer norms."""


@dataclass(frozen=True, eq=False)
class GatedLayer:
    """Weights of a gated layer; the first linear layer gives core and gate side by side.

    The last linear layer gives rows with a mean of zero (`centred`), so that the layer norm has only to scale them.

    Attributes:
        entries: For each kind of table entry, [n_in, 2 width] of the first linear layer.
        bias: [2 width] of the first linear layer.
        rows: [n_in, 2 width] for features of the rows themselves, or None where they have none.
        hidden: [2, width, width] second linear layers of core and gate, or None where the first is the only one.
        hidden_bias: [2, width], or None.
        scale: [2, 1, width] of the layer norms.
        shift: [2, 1, width] of the layer norms.
    """

    entries: tuple[Tensor, ...]
    bias: Tensor
    rows: Tensor | None
    hidden: Tensor | None
    hidden_bias: Tensor | None
    scale: Tensor
    shift: Tensor


def centred(weight: Tensor) -> Tensor:
    """A linear layer's weight or bias whose results have a mean of zero over the last dimension."""
    return weight - weight.mean(-1, keepdim=True)


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
        width = layer.scale.shape[2]
        table = _table(layer, entries)
        hidden = _first_linear(layer, sources, table, rows)  # [n_rows, 2 width]
        shape = (2, len(hidden), width)
        if layer.hidden is None or layer.hidden_bias is None:
            outer = hidden.view(-1, 2, width).transpose(0, 1).contiguous()
        else:
            # Angles take long to add up again, bonds less than to be written down and read.
            inner = torch.nn.functional.silu(hidden, inplace=rows is None)
            outer = hidden.new_empty(shape)
            for half in (0, 1):
                part = inner[:, half * width : (half + 1) * width]
                torch.addmm(layer.hidden_bias[half], part, layer.hidden[half], out=outer[half])
            del inner
        ctx.kept = table, None if rows is None or layer.hidden is None else hidden, outer, weight
        del hidden
        scale = torch.linalg.vector_norm(outer, dim=2, keepdim=True).square_().div_(width).add_(EPS).rsqrt_()
        ctx.scale, ctx.layer, ctx.sources, ctx.targets = scale, layer, sources, targets
        ctx.n_rows_in = 0 if rows is None else len(rows)
        ctx.sizes = [len(one) for one in entries]
        core, gate = _normed(layer, outer, scale)
        message = torch.nn.functional.silu(core, inplace=True).mul_(gate.sigmoid_())
        if targets is None or weight is None:
            return message.clone()
        message.view(2, *weight.shape).mul_(weight)
        return targets.scatter(message)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        layer, sources, targets, scale = ctx.layer, ctx.sources, ctx.targets, ctx.scale
        table, hidden, outer, weight = ctx.kept
        del ctx.kept
        width = outer.shape[2]
        normed = _normed(layer, outer, scale)
        core, gate = normed[0], normed[1].sigmoid_()
        message = torch.nn.functional.silu(core).mul_(gate)
        weight_slope = None
        if targets is not None:
            slope = slope.index_select(0, targets.entries)
            weight_slope = torch.linalg.vecdot(*(one.view(2, *weight.shape) for one in (slope, message)), dim=0)
            slope.view(2, *weight.shape).mul_(weight)
        # The slopes take the place of what they are computed from. That of a sigmoid s is s (1 - s), so that the gate's
        # argument has slope * message * (1 - gate).
        core_slope = slope * gate
        torch.addcmul(message, message, gate, value=-1, out=gate).mul_(slope)
        silu_backward_out(core_slope, core, grad_input=core)
        del core_slope, message, slope
        # Together with the zero mean, which is in the weights, this is the derivative of the layer norm.
        slopes = normed.mul_(layer.scale)
        share = torch.linalg.vecdot(slopes, outer)[..., None].mul_(scale).mul_(scale).div_(-width)
        slopes.addcmul_(outer, share).mul_(scale)
        del outer
        if layer.hidden is None:
            first_slope = slopes.transpose(0, 1).reshape(-1, 2 * width)
        else:
            first_slope = slopes.new_empty(slopes.shape[1], 2 * width)
            for half in (0, 1):
                part = first_slope[:, half * width : (half + 1) * width]
                torch.mm(slopes[half], layer.hidden[half].T, out=part)
            if hidden is None:
                hidden = _first_linear(layer, sources, table, None)
            silu_backward_out(first_slope, hidden, grad_input=first_slope)
        del slopes, normed, core, gate, hidden

        rows_slope = None
        table_slopes = sources.scatter(first_slope).split(ctx.sizes)
        if ctx.n_rows_in:
            if ctx.n_rows_in < len(first_slope):
                first_slope = first_slope[: ctx.n_rows_in].add_(first_slope[ctx.n_rows_in :])
            rows_slope = first_slope @ layer.rows.T
        entry_slopes = [
            table_slope @ entry_weight.T if needed else None
            for table_slope, entry_weight, needed in zip(
                table_slopes, layer.entries, ctx.needs_input_grad[5:], strict=True
            )
        ]
        return None, None, None, weight_slope, rows_slope, *entry_slopes


def _normed(layer: GatedLayer, outer: Tensor, scale: Tensor) -> Tensor:
    """[2, n_rows, width] after the layer norm."""
    normed = outer * scale
    return torch.addcmul(layer.shift, normed, layer.scale, out=normed)


def _table(layer: GatedLayer, entries: tuple[Tensor, ...]) -> Tensor:
    """[n_entries, 2 width] what each entry brings to the first linear layer."""
    table = entries[0].new_empty(sum(len(one) for one in entries), len(layer.bias))
    torch.addmm(layer.bias, entries[0], layer.entries[0], out=table[: len(entries[0])])
    start = len(entries[0])
    for entry, weight in zip(entries[1:], layer.entries[1:], strict=True):
        torch.mm(entry, weight, out=table[start : start + len(entry)])
        start += len(entry)
    return table


def _first_linear(layer: GatedLayer, sources: Incidence, table: Tensor, rows: Tensor | None) -> Tensor:
    """[n_rows, 2 width] of the first linear layer."""
    first = sources.gather(table)
    if rows is None or layer.rows is None:
        return first
    if len(rows) == len(first):
        return first.addmm_(rows, layer.rows)
    first.view(2, len(rows), -1).add_(rows @ layer.rows)
    return first
