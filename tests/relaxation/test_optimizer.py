import numpy as np
import pytest
import torch
from pair_potentials import Morse

from matsearch.relaxation import relax
from matsearch.relaxation.optimizer import Fire, Lbfgs
from matsearch.relaxation.rows import Rows
from matsearch.testing.potential import example_crystals

TIGHT = {"force_tol": 0.005, "stress_tol": 2e-4, "max_steps": 1000}


def rattled(count, seed=0):
    """Distorted cells of several sizes."""
    generator = np.random.default_rng(seed)
    crystals = []
    for number in range(count):
        one = example_crystals()[number % 4] * ((1, 1, 1), (2, 1, 1))[number % 2]
        one.perturb(0.05, seed=int(generator.integers(2**31)))
        crystals.append(one.apply_strain(generator.uniform(-0.03, 0.03, 3), inplace=False))
    return crystals


def test_lbfgs_reaches_the_minima_of_fire_in_fewer_steps():
    crystals = rattled(8)
    slow = relax(crystals, Morse(), optimizer="fire", **TIGHT)
    fast = relax(crystals, Morse(), optimizer="lbfgs", **TIGHT)
    for one, two in zip(slow, fast, strict=True):
        assert one.converged and two.converged
        assert two.energy_per_atom == pytest.approx(one.energy_per_atom, abs=2e-4)
        assert two.structure.volume == pytest.approx(one.structure.volume, rel=2e-3)
        assert max(one.max_force, two.max_force) < 0.005 and max(one.max_stress, two.max_stress) < 2e-4
    assert sum(one.n_steps for one in fast) < 0.7 * sum(one.n_steps for one in slow)


@pytest.mark.parametrize("optimizer", [Fire(), Lbfgs()])
def test_a_crystal_steps_alike_alone_and_among_others_that_come_and_go(optimizer):
    def pull(coordinates, stiffness):
        return -stiffness * coordinates

    generator = torch.Generator().manual_seed(0)
    sizes = [3, 1, 5]
    starts = [torch.randn((size + 3, 3), generator=generator, dtype=torch.float64) for size in sizes]

    def stepped(rows, state, coordinates, n_steps):
        for _ in range(n_steps):
            state, step = optimizer.step(state, pull(coordinates, 3.0), rows)
            coordinates = coordinates + step
        return state, coordinates

    alone = Rows.of(sizes[2:])
    _, expected = stepped(alone, optimizer.start(alone), starts[2], 12)

    rows = Rows.of(sizes[:2])
    state, coordinates = stepped(rows, optimizer.start(rows), torch.cat(starts[:2]), 4)
    state = state.join(optimizer.start(alone))  # the third comes
    rows, coordinates = Rows.of(sizes), torch.cat([coordinates, starts[2]])
    state, coordinates = stepped(rows, state, coordinates, 7)
    kept = rows.chosen([1, 2])  # the first leaves
    state, coordinates = state.take(kept, torch.tensor([1, 2])), coordinates[kept]
    _, coordinates = stepped(Rows.of(sizes[1:]), state, coordinates, 5)
    assert torch.equal(coordinates[4:], expected)


def test_lbfgs_finds_the_minimum_of_a_stiff_and_skew_valley():
    generator = torch.Generator().manual_seed(0)
    rows = Rows.of([4, 4])
    basis, _ = torch.linalg.qr(torch.randn((21, 21), generator=generator, dtype=torch.float64))
    curvatures = basis @ torch.diag(torch.logspace(-1, 2.5, 21, dtype=torch.float64)) @ basis.T
    optimizer = Lbfgs()
    state = optimizer.start(rows)
    coordinates = 0.3 * torch.randn((14, 3), generator=generator, dtype=torch.float64)
    for _ in range(150):
        forces = -(coordinates.reshape(2, 21) @ curvatures).reshape(14, 3)
        state, step = optimizer.step(state, forces, rows)
        assert float(rows.largest(step).max()) <= optimizer.max_step + 1e-12
        coordinates = coordinates + step
    assert float(forces.abs().max()) < 1e-2


def test_lbfgs_does_not_run_uphill_from_a_maximum():
    rows = Rows.of([1])
    optimizer = Lbfgs()
    state = optimizer.start(rows)
    place = torch.full((4, 3), 0.01, dtype=torch.float64)
    for _ in range(120):  # a double well: negative curvature at the start
        state, step = optimizer.step(state, -place * (place**2 - 1) * 5, rows)
        place = place + step
    torch.testing.assert_close(place, torch.ones_like(place), atol=1e-3, rtol=0)


def test_both_optimisers_start_along_the_same_forces_so_that_they_end_in_the_same_minimum():
    rows = Rows.of([6, 1])
    forces = torch.randn((13, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (_, one), (_, two) = (optimizer.step(optimizer.start(rows), forces, rows) for optimizer in (Fire(), Lbfgs()))
    cosines = rows.dot(one, two) / torch.sqrt(rows.dot(one, one) * rows.dot(two, two))
    torch.testing.assert_close(cosines, torch.ones_like(cosines))
