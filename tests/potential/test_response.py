"""Electric response of PQEq crystals against finite fields, displacements and the laws it has to follow."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from matsearch.potential import load_potential
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.equilibration import energy, equilibrate
from matsearch.potential.longrange.pqeq import Conditions, PQEq
from matsearch.potential.response import (
    dipole_change,
    forces_in_field,
    infrared_spectrum,
    polarization,
    shell_response,
    with_acoustic_sum_rule,
)
from matsearch.testing.potential import example_crystals


@pytest.fixture(scope="module")
def potential() -> PQEq:
    return load_potential("pqeq", "cpu")


@pytest.fixture(scope="module")
def batch() -> CrystalBatch:
    return CrystalBatch.from_structures(
        [example_crystals()[1], example_crystals()[2], example_crystals()[1] * (1, 2, 1)]
    )


def shells_at_fixed_charges(potential: PQEq, batch: CrystalBatch, charges: torch.Tensor, field=None) -> torch.Tensor:
    """[n_atoms, 3] shells of one crystal by gradient descent with Newton's matrix from finite differences."""
    ((_, terms, _),) = potential.terms(batch, Conditions(field=field))
    shells = torch.zeros((1, batch.n_atoms, 3), dtype=torch.float64)

    def slope(at: torch.Tensor) -> torch.Tensor:
        at = at.detach().requires_grad_()
        with torch.enable_grad():
            (found,) = torch.autograd.grad(energy(terms, charges[None], at).sum(), at)
        return found.flatten()

    for _ in range(6):
        matrix = torch.autograd.functional.hessian(
            lambda s: energy(terms, charges[None], s.view(1, -1, 3)).sum(), shells.flatten()
        )
        shells = shells - torch.linalg.solve(matrix, slope(shells)).view(shells.shape)
    assert slope(shells).abs().max() < 1e-10
    return shells[0]


def test_born_charges_and_polarizability_are_slopes_of_the_shells_dipoles(potential: PQEq) -> None:
    one = CrystalBatch.from_structures([example_crystals()[1]])
    found = shell_response(potential, one)
    charges = potential.equilibrium(one).charges
    h = 1e-3

    def dipole(positions: torch.Tensor, field=None) -> torch.Tensor:
        shells = shells_at_fixed_charges(potential, one.moved(positions, one.cells), charges, field)
        return (charges[:, None] * positions - shells).sum(0)

    for atom in (0, 2):
        for axis in range(3):
            step = torch.zeros_like(one.positions)
            step[atom, axis] = h
            slope = (dipole(one.positions + step) - dipole(one.positions - step)) / (2 * h)
            np.testing.assert_allclose(found.born_charges[atom, :, axis], slope, atol=1e-6)
    for axis in range(3):
        field = torch.zeros(3, dtype=torch.float64)
        field[axis] = h
        slope = (dipole(one.positions, field) - dipole(one.positions, -field)) / (2 * h)
        np.testing.assert_allclose(found.polarizability[0, :, axis], 14.399645 * slope, atol=1e-5)


def test_sum_rule_symmetry_and_company(potential: PQEq, batch: CrystalBatch) -> None:
    found = shell_response(potential, batch)
    np.testing.assert_allclose(batch.per_system(found.born_charges), 0, atol=1e-12)
    np.testing.assert_allclose(found.polarizability, found.polarizability.mT, atol=1e-10)
    assert (torch.linalg.eigvalsh(found.dielectric) > 1).all()
    alone = shell_response(potential, batch.select([1]))
    np.testing.assert_allclose(found.born_charges[4:6], alone.born_charges, atol=1e-9)
    # The supercell is the same crystal.
    np.testing.assert_allclose(found.polarizability[2], 2 * found.polarizability[0], atol=1e-8)
    np.testing.assert_allclose(found.dielectric[2], found.dielectric[0], atol=1e-9)
    np.testing.assert_allclose(found.born_charges[6:].view(4, 2, 3, 3)[:, 0], found.born_charges[:4], atol=1e-9)
    np.testing.assert_allclose(found.polarization[2], polarization(batch, *_moments(potential, batch))[2], atol=1e-12)


def _moments(potential: PQEq, batch: CrystalBatch) -> tuple[torch.Tensor, torch.Tensor]:
    found = potential.equilibrium(batch)
    return found.charges, found.dipoles


def test_the_sum_rule_takes_off_the_mean_excess(potential: PQEq) -> None:
    one = CrystalBatch.from_structures([example_crystals()[0]])
    found = shell_response(potential, one)
    shifted = found.born_charges + 0.25
    np.testing.assert_allclose(with_acoustic_sum_rule(one, shifted), found.born_charges, atol=1e-12)


def test_rotation_turns_the_response_along(potential: PQEq) -> None:
    structure = example_crystals()[1]
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turned = Structure(Lattice(structure.lattice.matrix @ rotation.T), structure.species, structure.frac_coords)
    both = CrystalBatch.from_structures([structure, turned])
    found = shell_response(potential, both)
    np.testing.assert_allclose(found.dielectric[1], rotation @ found.dielectric[0].numpy() @ rotation.T, atol=1e-9)
    np.testing.assert_allclose(
        found.born_charges[4:], rotation @ found.born_charges[:4].numpy() @ rotation.T, atol=1e-9
    )


def test_cubic_crystals_answer_alike_along_all_axes(potential: PQEq) -> None:
    rocksalt = Structure(Lattice(2.106 * (1 - np.eye(3))), ["Mg", "O"], [[0] * 3, [0.5] * 3])
    found = shell_response(potential, CrystalBatch.from_structures([rocksalt]))
    np.testing.assert_allclose(found.dielectric[0], float(found.dielectric[0, 0, 0]) * np.eye(3), atol=1e-10)
    np.testing.assert_allclose(found.born_charges[0], -found.born_charges[1], atol=1e-12)


def test_forces_in_a_small_field_follow_the_shells(potential: PQEq) -> None:
    # A field on shells alone, charges fixed: what changes of the forces is Z* less the charge itself.
    one = CrystalBatch.from_structures([example_crystals()[1]])
    born = shell_response(potential, one).born_charges
    charges = potential.equilibrium(one).charges
    field = torch.tensor([0.0, 1e-3, 0.0], dtype=torch.float64)
    forces = []
    for sign in (1, -1):
        shells = shells_at_fixed_charges(potential, one, charges, sign * field)
        positions = one.positions.clone().requires_grad_()
        with torch.enable_grad():
            ((_, terms, _),) = potential.terms(one.moved(positions, one.cells), Conditions(field=sign * field))
            total = energy(terms, charges[None], shells[None]).sum()
        forces.append(-torch.autograd.grad(total, positions)[0])
    expected = forces_in_field(one, born, field) - charges[:, None] * field
    np.testing.assert_allclose((forces[0] - forces[1]) / 2, expected, atol=1e-9)


def test_a_charged_crystal_keeps_its_charge_in_the_sum_rule(potential: PQEq) -> None:
    one = CrystalBatch.from_structures([example_crystals()[2]])
    conditions = Conditions(total_charges=torch.tensor([0.3]))
    born = shell_response(potential, one, conditions).born_charges
    np.testing.assert_allclose(born.sum(0), 0.3 * np.eye(3), atol=1e-7)


def test_a_crystal_without_charges_has_no_response_and_spares_its_company(potential: PQEq, batch: CrystalBatch) -> None:
    spring = potential.parameters.spring.clone()
    spring[26] = 1e-3  # Fe
    loose = PQEq("loose iron", replace(potential.parameters, spring=spring))
    found = shell_response(loose, batch)
    assert torch.isnan(found.dielectric[[0, 2]]).all() and torch.isnan(found.born_charges[:4]).all()
    alone = shell_response(loose, batch.select([1]))
    np.testing.assert_allclose(found.born_charges[4:6], alone.born_charges, atol=1e-9)
    np.testing.assert_allclose(found.dielectric[1], alone.dielectric[0], atol=1e-9)


def test_equilibrium_is_where_the_response_is_taken(potential: PQEq) -> None:
    one = CrystalBatch.from_structures([example_crystals()[1]])
    ((_, terms, totals),) = potential.terms(one)
    found = equilibrate(terms, totals)
    np.testing.assert_allclose(shells_at_fixed_charges(potential, one, found.charges[0]), found.shells[0], atol=1e-10)


def test_an_oscillating_charge_absorbs_at_its_frequency() -> None:
    times = np.arange(4000.0)  # fs
    period = 33.3564095  # fs: 1000 / cm
    velocities = np.zeros((len(times), 2, 3))
    velocities[:, 0, 2] = np.cos(2 * np.pi * times / period)
    velocities[:, 1, 0] = np.cos(2 * np.pi * times / (period / 2))  # a neutral atom, which does not absorb
    born = np.zeros((2, 3, 3))
    born[0] = np.eye(3)
    wavenumbers, intensities = infrared_spectrum(born, velocities, 1.0)
    assert wavenumbers[intensities.argmax()] == pytest.approx(1000, abs=10)
    assert intensities[np.abs(wavenumbers - 1000) < 30].sum() == pytest.approx(1, abs=1e-4)
    same = infrared_spectrum(np.broadcast_to(born, (len(times), 2, 3, 3)), velocities, 1.0)[1]
    np.testing.assert_allclose(same, intensities, atol=1e-12)
    with pytest.raises(ValueError, match="nothing moves"):
        infrared_spectrum(born, 0 * velocities, 1.0)
    with pytest.raises(ValueError, match=r"must be \[4000, 2, 3, 3\]"):
        infrared_spectrum(born[:1], velocities, 1.0)


def test_the_dipole_along_a_path_is_that_of_the_charges() -> None:
    rng = np.random.default_rng(0)
    steps = torch.tensor(rng.normal(size=(5, 4, 3)))
    charges = torch.tensor([1.0, -2.0, 0.5, 0.5])
    born = (charges[:, None, None] * torch.eye(3)).expand(6, 4, 3, 3).double()
    np.testing.assert_allclose(dipole_change(born, steps), torch.einsum("i,tia->ta", charges.double(), steps))


def test_a_potential_with_charges_gives_its_response(potential: PQEq, batch: CrystalBatch) -> None:
    conditions = Conditions(total_charges=torch.tensor([0.0, 0.3, 0.0]))
    found, expected = potential.response(batch, conditions), shell_response(potential, batch, conditions)
    np.testing.assert_array_equal(found.born_charges, expected.born_charges)
    structures = batch.structures()
    predictions = potential.predict_under(structures, conditions)
    np.testing.assert_allclose([one.charges.sum() for one in predictions], [0.0, 0.3, 0.0], atol=1e-9)
    field = Conditions(field=torch.tensor([0.0, 0.0, 0.1]))
    assert potential.predict_under(structures, field)[0].energy < predictions[0].energy
