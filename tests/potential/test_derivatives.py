import numpy as np
import pytest
import torch

from matsearch.potential.batch import CrystalBatch, Output
from matsearch.potential.derivatives import differentiate


def batch_of(n_systems=3):
    """Triclinic cells, the second left-handed, of 2, 3, ... atoms."""
    rng = np.random.default_rng(0)
    cells = [np.diag([3.0, 4.0, 5.0]) + rng.uniform(-0.5, 0.5, (3, 3)) for _ in range(n_systems)]
    cells[1] = cells[1][[1, 0, 2]]
    numbers = [[11 + atom for atom in range(2 + system)] for system in range(n_systems)]
    positions = [rng.uniform(-1, 4, (len(one), 3)) for one in numbers]
    return CrystalBatch.from_arrays(positions, cells, numbers)


def springs(batch):
    """Energies of springs between all pairs within 4 Å."""
    pairs = batch.pairs(4.0)
    lengths = pairs.vectors(batch.positions, batch.cells).norm(dim=1)
    energies = torch.zeros(batch.n_systems).double()
    return Output(energies.index_add(0, pairs.system_idx, (lengths - 4.0) ** 2 * (1 + 0.1 * lengths)))


def waves(batch):
    """Energies of a sum over reciprocal lattice vectors, |S(k)|^2 exp(-k^2 / 4) / k^2 / V: cells and positions enter
    directly, not through pairs.
    """
    reciprocal = 2 * torch.pi * torch.linalg.inv(batch.cells).mT
    steps = torch.cartesian_prod(*[torch.arange(-2, 3).double()] * 3)
    steps = steps[steps.abs().sum(1) > 0]
    vectors = steps @ reciprocal
    phases = (vectors.index_select(0, batch.system_idx) * batch.positions[:, None, :]).sum(2)
    charges = (batch.numbers.double() - 12.3)[:, None]
    factors = batch.per_system(charges * torch.cos(phases)) ** 2 + batch.per_system(charges * torch.sin(phases)) ** 2
    squares = vectors.square().sum(2)
    return Output((factors * torch.exp(-squares / 4) / squares).sum(1) / batch.volumes)


def volume_only(batch):
    return Output(batch.volumes.log())


def free_atoms(batch):
    """Energies that depend on nothing."""
    return Output(batch.per_system(batch.numbers.double()))


@pytest.mark.parametrize("forward", [springs, waves, volume_only])
def test_forces_are_minus_the_slope_with_positions(forward):
    batch, step = batch_of(), 1e-5
    forces = differentiate(forward, batch).forces
    for atom in range(batch.n_atoms):
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                positions = batch.positions.clone()
                positions[atom, axis] += sign * step
                energies.append(forward(batch.moved(positions, batch.cells)).energies.sum().item())
            assert forces[atom, axis].item() == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=1e-6)


@pytest.mark.parametrize("forward", [springs, waves, volume_only])
def test_stress_is_the_slope_with_strain_over_the_positive_volume(forward):
    batch, step = batch_of(), 1e-5
    stresses = differentiate(forward, batch).stresses
    assert torch.equal(stresses, stresses.mT)
    for first, second in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (0, 2)):
        energies = []
        for sign in (1, -1):
            strain = torch.eye(3).double()
            strain[first, second] += sign * step / 2
            strain[second, first] += sign * step / 2
            energies.append(forward(batch.moved(batch.positions @ strain, batch.cells @ strain)).energies)
        slopes = (energies[0] - energies[1]) / (2 * step) / batch.volumes
        np.testing.assert_allclose(stresses[:, first, second], slopes, atol=1e-7, err_msg=f"{first}{second}")


def test_stress_of_a_wall_of_volume_is_isotropic_and_positive_under_tension():
    batch = batch_of()
    stresses = differentiate(volume_only, batch).stresses
    expected = torch.eye(3).double() / batch.volumes[:, None, None]  # E = ln V: dE/dstrain = 1
    torch.testing.assert_close(stresses, expected)


def test_energies_that_depend_on_nothing_have_no_forces():
    batch = batch_of()
    with torch.no_grad():
        batch_energies = free_atoms(batch).energies

    def forward(moved):
        return Output(batch_energies + 0 * moved.positions.sum())

    prediction = differentiate(forward, batch)
    assert not prediction.forces.any() and not prediction.stresses.any()


def test_one_crystal_does_not_pull_at_another():
    batch = batch_of()
    whole = differentiate(waves, batch)
    for system in range(batch.n_systems):
        alone = differentiate(waves, batch.select([system]))
        torch.testing.assert_close(whole.energies[system], alone.energies[0])
        torch.testing.assert_close(whole.stresses[system], alone.stresses[0])
        torch.testing.assert_close(whole.forces[batch.system_idx == system], alone.forces)


def test_results_carry_no_gradient_and_the_batch_none_either():
    batch = batch_of()
    with torch.no_grad():  # as a caller may
        prediction = differentiate(springs, batch)
    for values in (prediction.energies, prediction.forces, prediction.stresses):
        assert not values.requires_grad
    assert not batch.positions.requires_grad and batch.positions.grad is None


def test_what_the_network_says_of_atoms_goes_along():
    batch = batch_of()

    def forward(moved):
        return Output(springs(moved).energies, magmoms=torch.ones(moved.n_atoms), features=torch.ones(moved.n_atoms, 2))

    prediction = differentiate(forward, batch)
    assert prediction.magmoms is not None and prediction.features is not None
    assert prediction.charges is None and prediction.atom_energies is None
