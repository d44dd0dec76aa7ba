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
from matsearch.potential.workspace import Workspace

silu_out = torch.ops.aten.silu.out
silu_backward_out = torch.ops.aten.silu_backward.grad_input

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

    The last linear layer gives rows with a mean of zero (`centred`), so that the layer norm has only to scale them.
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
    workspace: Workspace,
    sources: Incidence,
    targets: Incidence,
    weight: Tensor,
    entries: tuple[Tensor, ...],
    rows: Tensor | None = None,
) -> Tensor:
    """Weighted gated messages, added up at their targets.

    Args:
        layer: Weights.
        workspace: Holds what the backward pass needs.
        sources: Table entries of each row.
        targets: Where the message of each row goes.
        weight: [n_rows / 2, width] of the messages of both halves.
        entries: For each kind of table entry, [n_entries, n_in].
        rows: [n_rows, n_in], or [n_rows / 2, n_in] for both halves, or None.

    Returns:
        [n_targets, width].
    """
    total: Tensor = _Gated.apply(layer, workspace, sources, targets, weight, rows, *entries)
    return total


def row_update(
    layer: GatedLayer, workspace: Workspace, sources: Incidence, entries: tuple[Tensor, ...], rows: Tensor
) -> Tensor:
    """Gated messages of the rows themselves, [n_rows, width]; arguments as in `messages`."""
    update: Tensor = _Gated.apply(layer, workspace, sources, None, None, rows, *entries)
    return update


class _Gated(Function):
    @staticmethod
    def forward(
        ctx: Any,
        layer: GatedLayer,
        workspace: Workspace,
        sources: Incidence,
        targets: Incidence | None,
        weight: Tensor | None,
        rows: Tensor | None,
        *entries: Tensor,
    ) -> Tensor:
        core = _branch(layer, 0, workspace, sources, rows, entries)
        gate = _branch(layer, 1, workspace, sources, rows, entries)
        gate.result.sigmoid_()
        message = workspace.take(*core.result.shape)
        silu_out(core.result, out=message).mul_(gate.result)
        ctx.layer, ctx.workspace, ctx.sources, ctx.targets = layer, workspace, sources, targets
        ctx.n_rows_in = 0 if rows is None else len(rows)
        ctx.sizes = [len(one) for one in entries]
        # Memory of the workspace, not of autograd: nobody else can write to it as long as this holds the workspace.
        ctx.core, ctx.gate, ctx.message, ctx.weight = core, gate, message, weight
        if targets is None or weight is None:
            return message.clone()
        height = workspace.height
        weighted = workspace.take(*message.shape)
        torch.mul(message.view(2, *weight.shape), weight, out=weighted.view(2, *weight.shape))
        total = targets.scatter(weighted)
        workspace.cut(height)
        return total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        layer, workspace, sources, targets = ctx.layer, ctx.workspace, ctx.sources, ctx.targets
        weight, core, gate, message = ctx.weight, ctx.core, ctx.gate, ctx.message
        height = workspace.height
        shape = message.shape
        scratch, gate_slope = workspace.take(*shape), workspace.take(*shape)
        weight_slope = None
        if targets is not None:
            spread = workspace.take(*shape)
            torch.index_select(slope, 0, targets.entries, out=spread)
            torch.mul(spread, message, out=scratch)
            weight_slope = scratch.view(2, *weight.shape).sum(0)
            spread.view(2, *weight.shape).mul_(weight)
            slope = spread
        # The slope of a sigmoid s is s (1 - s), so that of the gate's argument is slope * message * (1 - gate).
        torch.addcmul(message, message, gate.result, value=-1, out=gate_slope).mul_(slope)
        torch.mul(slope, gate.result, out=scratch)
        core_slope = silu_backward_out(scratch, core.result, grad_input=scratch)

        table_slopes, rows_slope = [], None
        for half, branch, outer_slope in ((0, core, core_slope), (1, gate, gate_slope)):
            hidden_slope = _branch_backward(layer, half, workspace, outer_slope, branch)
            table_slopes.append(sources.scatter(hidden_slope).split(ctx.sizes))
            if ctx.n_rows_in:
                part = hidden_slope.view(-1, ctx.n_rows_in, shape[1])
                part = part[0] if len(part) == 1 else part[0].add_(part[1])
                rows_slope = _times(rows_slope, part, layer.rows[half])
        workspace.cut(height)
        entry_slopes: list[Tensor | None] = []
        for index, (first, second) in enumerate(zip(*table_slopes, strict=True)):
            if not ctx.needs_input_grad[6 + index]:
                entry_slopes.append(None)
                continue
            entry_slopes.append(_times(_times(None, first, layer.entries[index][0]), second, layer.entries[index][1]))
        return None, None, None, None, weight_slope, rows_slope, *entry_slopes


@dataclass(frozen=True, eq=False)
class _Branch:
    """Core or gate on its way: what the derivative needs of it.

    Attributes:
        hidden: [n_rows, width] first linear layer, where there is a second.
        outer: [n_rows, width] last linear layer, with a mean of zero in each row.
        scale: [n_rows, 1] one over the standard deviation of its rows.
        result: [n_rows, width] after the layer norm.
    """

    hidden: Tensor | None
    outer: Tensor
    scale: Tensor
    result: Tensor


def _branch(
    layer: GatedLayer,
    half: int,
    workspace: Workspace,
    sources: Incidence,
    rows: Tensor | None,
    entries: tuple[Tensor, ...],
) -> _Branch:
    n_rows, width = len(sources.bags), layer.bias.shape[1]
    hidden = None
    outer = workspace.take(n_rows, width)
    scale = workspace.take(n_rows, 1)
    if layer.hidden is not None and layer.hidden_bias is not None:
        hidden, height = workspace.take(n_rows, width), workspace.height
        _first_linear(layer, half, workspace, sources, rows, entries, out=hidden)
        workspace.cut(height)
        result = workspace.take(n_rows, width)
        torch.addmm(layer.hidden_bias[half], silu_out(hidden, out=result), layer.hidden[half], out=outer)
    else:
        height = workspace.height
        _first_linear(layer, half, workspace, sources, rows, entries, out=outer)
        workspace.cut(height)
        result = workspace.take(n_rows, width)
    torch.linalg.vecdot(outer, outer, out=scale[:, 0])
    scale.div_(width).add_(EPS).rsqrt_()
    torch.addcmul(layer.shift[half], torch.mul(outer, scale, out=result), layer.scale[half], out=result)
    return _Branch(hidden, outer, scale, result)


def _first_linear(
    layer: GatedLayer,
    half: int,
    workspace: Workspace,
    sources: Incidence,
    rows: Tensor | None,
    entries: tuple[Tensor, ...],
    out: Tensor,
) -> None:
    table = workspace.take(sum(len(one) for one in entries), out.shape[1])
    start = 0
    for index, (entry, weight) in enumerate(zip(entries, layer.entries, strict=True)):
        part = table[start : start + len(entry)]
        start += len(entry)
        if index == 0:
            torch.addmm(layer.bias[half], entry, weight[half], out=part)
        else:
            torch.mm(entry, weight[half], out=part)
    gathered = sources.gather(table)
    if rows is None or layer.rows is None:
        out.copy_(gathered)
    elif len(rows) == len(out):
        torch.addmm(gathered, rows, layer.rows[half], out=out)
    else:
        both = (2, len(rows), out.shape[1])
        torch.add(gathered.view(both), rows @ layer.rows[half], out=out.view(both))


def _branch_backward(layer: GatedLayer, half: int, workspace: Workspace, slope: Tensor, branch: _Branch) -> Tensor:
    """Slope with the first linear layer's result, from that with the layer norm's, which is overwritten."""
    width = slope.shape[1]
    slope.mul_(layer.scale[half])
    share = torch.linalg.vecdot(slope, branch.outer)[:, None].mul_(branch.scale).mul_(branch.scale).div_(-width)
    # Together with the zero mean, which is in the weights, this is the derivative of the layer norm.
    slope.addcmul_(branch.outer, share).mul_(branch.scale)
    if layer.hidden is None:
        return slope
    inner = workspace.take(*slope.shape)
    torch.mm(slope, layer.hidden[half].T, out=inner)
    return silu_backward_out(inner, branch.hidden, grad_input=inner)


def _times(total: Tensor | None, slope: Tensor, weight: Tensor) -> Tensor:
    """`total` + slope @ weight.T."""
    return slope @ weight.T if total is None else total.addmm_(slope, weight.T)
