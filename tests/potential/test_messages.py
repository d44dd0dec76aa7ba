"""The backward pass by hand against automatic differentiation of the equations as they are written in a paper."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from matsearch.potential.graph import Incidence
from matsearch.potential.messages import EPS, GatedLayer, centred, messages, row_update

WIDTH, N_IN, N_TARGETS = 4, 3, 5
SIZES = [5, 4, 6]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(*, with_rows, with_hidden):
    """A layer as it was trained: the rows of its last linear layer have any mean."""
    return GatedLayer(
        entries=tuple(randn(N_IN, 2 * WIDTH, seed=10 + kind) for kind in range(len(SIZES))),
        bias=randn(2 * WIDTH, seed=20),
        rows=randn(N_IN, 2 * WIDTH, seed=21) if with_rows else None,
        hidden=randn(2, WIDTH, WIDTH, seed=22) if with_hidden else None,
        hidden_bias=randn(2, WIDTH, seed=23) if with_hidden else None,
        scale=1 + 0.3 * randn(2, WIDTH, seed=24),
        shift=randn(2, WIDTH, seed=25),
    )


def reference(layer, columns, targets, weight, entries, rows):
    """The same, row by row from its own inputs; `columns` and `targets` are indices."""
    joined = [entry[column] @ one for entry, column, one in zip(entries, columns, layer.entries, strict=True)]
    first = sum(joined) + layer.bias
    if rows is not None:
        first = first + rows.repeat(len(first) // len(rows), 1) @ layer.rows
    parts = first.chunk(2, dim=1)
    if layer.hidden is not None:
        parts = [F.silu(part) @ layer.hidden[half] + layer.hidden_bias[half] for half, part in enumerate(parts)]
    core, gate = (
        F.layer_norm(part, [WIDTH], layer.scale[half], layer.shift[half], EPS) for half, part in enumerate(parts)
    )
    message = F.silu(core) * torch.sigmoid(gate)
    if targets is None:
        return message
    return torch.zeros(N_TARGETS, WIDTH).double().index_add(0, targets, message * weight.repeat(2, 1))


def example(n_rows, rows_given, seed=0):
    """Indices and inputs: `rows_given` is how many times the rows' own features fit into the rows (0: none)."""
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(size, (n_rows,), generator=generator) for size in SIZES]
    targets = torch.randint(N_TARGETS, (n_rows,), generator=generator)
    entries = [randn(size, N_IN, seed=30 + kind).requires_grad_() for kind, size in enumerate(SIZES)]
    rows = randn(n_rows // rows_given, N_IN, seed=40).requires_grad_() if rows_given else None
    weight = randn(n_rows // 2, WIDTH, seed=41).requires_grad_()
    return columns, targets, weight, entries, rows


def incidences(columns, targets):
    return Incidence.of(columns, SIZES), Incidence.of([targets], [N_TARGETS])


# Updates are of rows that have features.
CASES = [case for case in product([0, 1, 2], [True, False], [True, False]) if case[0] or case[2]]
NAMES = [
    f"{('no rows', 'rows', 'rows for both halves')[given]}-{'hidden' if hidden else 'one layer'}-"
    f"{'messages' if summed else 'updates'}"
    for given, hidden, summed in CASES
]


@pytest.mark.parametrize(("rows_given", "with_hidden", "summed"), CASES, ids=NAMES)
def test_values_and_slopes_are_those_of_automatic_differentiation(rows_given, with_hidden, summed):
    one = layer(with_rows=bool(rows_given), with_hidden=with_hidden)
    columns, targets, weight, entries, rows = example(14, rows_given)
    sources, to_target = incidences(columns, targets)
    if summed:
        ours = messages(one, sources, to_target, weight, tuple(entries), rows)
        theirs = reference(one, columns, targets, weight, entries, rows)
    else:
        ours = row_update(one, sources, tuple(entries), rows)
        theirs = reference(one, columns, None, None, entries, rows)
    torch.testing.assert_close(ours, theirs)
    inputs = [*entries, *([weight] if summed else []), *([rows] if rows_given else [])]
    slope = randn(*ours.shape, seed=50)
    kept = slope.clone()
    for mine, automatic in zip(
        torch.autograd.grad(ours, inputs, slope), torch.autograd.grad(theirs, inputs, slope), strict=True
    ):
        torch.testing.assert_close(mine, automatic)
        assert mine.abs().max() > 1e-3
    assert torch.equal(slope, kept), "the slope belongs to others"


@pytest.mark.parametrize("rows_given", [0, 1, 2])
def test_slopes_are_those_of_finite_differences(rows_given):
    # Not by gradcheck, which goes back through one forward pass many times: here it frees what it has used.
    one = layer(with_rows=bool(rows_given), with_hidden=True)
    columns, targets, weight, entries, rows = example(6, rows_given)
    sources, to_target = incidences(columns, targets)
    slope = randn(N_TARGETS, WIDTH, seed=50)

    def energy():
        return (messages(one, sources, to_target, weight, tuple(entries), rows) * slope).sum()

    inputs = [weight, *entries, *([rows] if rows_given else [])]
    step = 1e-5
    for value, ours in zip(inputs, torch.autograd.grad(energy(), inputs), strict=True):
        flat, numeric = value.detach().view(-1), torch.zeros(value.numel()).double()
        with torch.no_grad():
            for index in range(len(flat)):
                before = flat[index].item()
                above, below = (energy_at(flat, index, before + sign * step, energy) for sign in (1, -1))
                flat[index] = before
                numeric[index] = (above - below) / (2 * step)
        torch.testing.assert_close(ours.reshape(-1), numeric, atol=1e-7, rtol=1e-6)


def energy_at(flat, index, value, energy):
    flat[index] = value
    return energy().item()


def test_entries_that_need_no_slope_get_none_and_the_others_theirs():
    # Those of a first layer: embeddings of elements depend on nothing.
    one = layer(with_rows=True, with_hidden=True)
    columns, targets, weight, entries, rows = example(14, 1)
    sources, to_target = incidences(columns, targets)
    fixed = [entries[0].detach(), entries[1], entries[2].detach()]
    theirs = torch.autograd.grad(
        reference(one, columns, targets, weight, fixed, rows).sum(), [entries[1], weight, rows]
    )
    ours = torch.autograd.grad(
        messages(one, sources, to_target, weight, tuple(fixed), rows).sum(), [entries[1], weight, rows]
    )
    for mine, automatic in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, automatic)


def test_inputs_are_left_as_they_were():
    one = layer(with_rows=True, with_hidden=True)
    columns, targets, weight, entries, rows = example(14, 1)
    sources, to_target = incidences(columns, targets)
    inputs = [
        weight,
        rows,
        *entries,
        *one.entries,
        one.bias,
        one.rows,
        one.hidden,
        one.hidden_bias,
        one.scale,
        one.shift,
    ]
    before = [value.detach().clone() for value in inputs]
    messages(one, sources, to_target, weight, tuple(entries), rows).sum().backward()
    row_update(one, sources, tuple(entries), rows).sum().backward()
    assert all(torch.equal(value.detach(), copy) for value, copy in zip(inputs, before, strict=True))


def test_no_rows_at_all_give_zeros_with_zero_slopes():
    one = layer(with_rows=False, with_hidden=True)
    columns, targets, weight, entries, _ = example(0, 0)
    sources, to_target = incidences(columns, targets)
    total = messages(one, sources, to_target, weight, tuple(entries))
    assert torch.equal(total, torch.zeros(N_TARGETS, WIDTH).double())
    for slope in torch.autograd.grad(total.sum(), entries):
        assert not slope.any()


def test_it_works_where_nothing_is_differentiated():
    one = layer(with_rows=True, with_hidden=True)
    columns, targets, weight, entries, rows = example(14, 2)
    sources, to_target = incidences(columns, targets)
    with torch.no_grad():
        plain = messages(one, sources, to_target, weight, tuple(entries), rows)
    assert not plain.requires_grad
    assert torch.equal(plain, messages(one, sources, to_target, weight, tuple(entries), rows))


def test_a_second_derivative_is_refused():
    one = layer(with_rows=False, with_hidden=True)
    columns, targets, weight, entries, _ = example(14, 0)
    sources, to_target = incidences(columns, targets)
    total = messages(one, sources, to_target, weight, tuple(entries))
    (slope,) = torch.autograd.grad(total.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_a_centred_layer_is_the_same_under_a_layer_norm():
    weight, inputs = randn(N_IN, WIDTH, seed=1), randn(7, N_IN, seed=2)
    assert (inputs @ centred(weight)).mean(1).abs().max() < 1e-12
    torch.testing.assert_close(F.layer_norm(inputs @ centred(weight), [WIDTH]), F.layer_norm(inputs @ weight, [WIDTH]))
