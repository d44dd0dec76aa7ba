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
from torch.autograd.function import once_differentiable

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


def centred(weight: Tensor) -> Tensor:
    """A linear layer's weight or bias whose results have a mean of zero over the last dimension."""
    return weight - weight.mean(-1, keepdim=True)


FEWEST = 4
"""Rows of a matrix product that BLAS computes like many."""


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Product of rows and weight (plus bias), to the same bits whatever rows lie beside.

    BLAS takes another kernel for fewer than four rows; and for one column, which no weight here has.
    """
    n_rows = len(rows)
    if n_rows < FEWEST:
        rows = torch.nn.functional.pad(rows, (0, 0, 0, FEWEST - n_rows))
        result = (rows @ weight if bias is None else torch.addmm(bias, rows, weight))[:n_rows]
        return result if out is None else out.copy_(result)
    if out is not None:
        return torch.mm(rows, weight, out=out) if bias is None else torch.addmm(bias, rows, weight, out=out)
    return rows @ weight if bias is None else torch.addmm(bias, rows, weight)


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
        table = _table(layer, entries)
        hidden = _first_linear(layer, sources, table, rows)
        outer = _last_linear(layer, hidden, overwrite=rows is None)
        core, gate, moments = _normed(layer, outer)
        message = torch.nn.functional.silu(core).mul_(gate.sigmoid_())
        # Angles take long to add up again, bonds less than to be written down and read.
        kept_hidden = None if rows is None or layer.hidden is None else hidden
        ctx.kept = table, kept_hidden, outer, core, gate, moments, weight
        ctx.layer, ctx.sources, ctx.targets = layer, sources, targets
        ctx.n_rows_in = 0 if rows is None else len(rows)
        ctx.sizes = [len(one) for one in entries]
        if targets is None or weight is None:
            return message
        message.view(2, *weight.shape).mul_(weight)
        return targets.scatter(message)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:
        layer, sources, targets = ctx.layer, ctx.sources, ctx.targets
        table, hidden, outer, core, gate, moments, weight = ctx.kept
        del ctx.kept
        message = torch.nn.functional.silu(core).mul_(gate)
        weight_slope = None
        if targets is not None:
            slope = slope.index_select(0, targets.entries)
            weight_slope = torch.mul(slope[: len(weight)], message[: len(weight)])
            weight_slope.addcmul_(slope[len(weight) :], message[len(weight) :])
            slope.view(2, *weight.shape).mul_(weight)
        # The slopes take the place of what they are computed from. That of a sigmoid s is s (1 - s), so that the gate's
        # argument has slope * message * (1 - gate).
        core_slope = slope * gate
        torch.addcmul(message, message, gate, value=-1, out=gate).mul_(slope)
        silu_backward_out(core_slope, core, grad_input=core)
        del core_slope, message, slope
        slopes = [_norm_backward(layer, half, one, outer, moments) for half, one in ((0, core), (1, gate))]
        del core, gate, outer, moments
        if layer.hidden is None:
            first_slope = torch.cat(slopes, dim=1)
        else:
            width = layer.scale.shape[1]
            first_slope = table.new_empty(len(slopes[0]), 2 * width)
            for half in (0, 1):
                part = first_slope[:, half * width : (half + 1) * width]
                product(slopes[half], layer.hidden[half].T, out=part)
            if hidden is None:
                hidden = _first_linear(layer, sources, table, None)
            silu_backward_out(first_slope, hidden, grad_input=first_slope)
        del slopes, hidden

        table_slopes = sources.scatter(first_slope).split(ctx.sizes)
        rows_slope = None
        if ctx.n_rows_in:
            if ctx.n_rows_in < len(first_slope):
                first_slope = first_slope[: ctx.n_rows_in].add_(first_slope[ctx.n_rows_in :])
            rows_slope = product(first_slope, layer.rows.T)
        entry_slopes = [
            product(table_slope, entry_weight.T) if needed else None
            for table_slope, entry_weight, needed in zip(
                table_slopes, layer.entries, ctx.needs_input_grad[5:], strict=True
            )
        ]
        return None, None, None, weight_slope, rows_slope, *entry_slopes


def _table(layer: GatedLayer, entries: tuple[Tensor, ...]) -> Tensor:
    """[n_entries, 2 width] what each entry brings to the first linear layer."""
    table = entries[0].new_empty(sum(len(one) for one in entries), len(layer.bias))
    product(entries[0], layer.entries[0], layer.bias, out=table[: len(entries[0])])
    start = len(entries[0])
    for entry, weight in zip(entries[1:], layer.entries[1:], strict=True):
        product(entry, weight, out=table[start : start + len(entry)])
        start += len(entry)
    return table


def _first_linear(layer: GatedLayer, sources: Incidence, table: Tensor, rows: Tensor | None) -> Tensor:
    """[n_rows, 2 width] of the first linear layer."""
    first = sources.gather(table)
    if rows is None or layer.rows is None:
        return first
    if len(rows) == len(first):
        return first.addmm_(rows, layer.rows) if len(rows) >= FEWEST else first.add_(product(rows, layer.rows))
    first.view(2, len(rows), -1).add_(product(rows, layer.rows))
    return first


def _last_linear(layer: GatedLayer, hidden: Tensor, *, overwrite: bool) -> Tensor:
    """[2, n_rows, width] of the last linear layer, from [n_rows, 2 width] of the first."""
    width = layer.scale.shape[1]
    if layer.hidden is None or layer.hidden_bias is None:
        return hidden.view(-1, 2, width).transpose(0, 1).contiguous()
    inner = torch.nn.functional.silu(hidden, inplace=overwrite)
    outer = hidden.new_empty(2, len(hidden), width)
    for half in (0, 1):
        part = inner[:, half * width : (half + 1) * width]
        product(part, layer.hidden[half], layer.hidden_bias[half], out=outer[half])
    return outer


def _normed(layer: GatedLayer, outer: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Core and gate, [n_rows, width], after the layer norm; mean and deviation of both."""
    width = (outer.shape[2],)
    core, *core_moments = torch.native_layer_norm(outer[0], width, layer.scale[0], layer.shift[0], EPS)
    gate, *gate_moments = torch.native_layer_norm(outer[1], width, layer.scale[1], layer.shift[1], EPS)
    return core, gate, [*core_moments, *gate_moments]


def _norm_backward(layer: GatedLayer, half: int, slope: Tensor, outer: Tensor, moments: list[Tensor]) -> Tensor:
    mean, deviation = moments[2 * half : 2 * half + 2]
    return torch.ops.aten.native_layer_norm_backward(
        slope,
        outer[half],
        [outer.shape[2]],
        mean,
        deviation,
        layer.scale[half],
        layer.shift[half],
        [True, False, False],
    )[0]
