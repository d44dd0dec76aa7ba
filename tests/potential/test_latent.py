"""Latent charges: energies against sums of pairs, Born charges against displacements, and the files of a model."""

import json

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from matsearch.errors import ConfigError, PotentialError
from matsearch.potential import Potential, load_potential
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.chgnet_plain import CHGNetBackbone
from matsearch.potential.local import LocalNetwork
from matsearch.potential.longrange.conditions import Conditions
from matsearch.potential.longrange.ewald import COULOMB, ewald_energy, isolated_energy
from matsearch.potential.longrange.interaction import interaction
from matsearch.potential.longrange.latent import (
    CHGNetSettings,
    LatentPotential,
    LatentSettings,
    LocalSettings,
    starting_charges,
)
from matsearch.testing.potential import PotentialContract, example_crystals

ELEMENTS = ("Al", "Cl", "Fe", "Li", "Mg", "Na", "O")


def stirred(settings: LatentSettings, size: float = 0.01) -> LatentPotential:
    """A model whose heads depend on the surroundings."""
    potential = LatentPotential.new(settings)
    generator = torch.Generator().manual_seed(1)
    heads = [potential.model.energy_head] + ([potential.model.charge_head] if settings.long_range else [])
    for head in heads:
        weights = [head.linear, *(network[-1].weight for network in head.networks)]
        for weight in weights:
            weight.data = size * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    potential.model.requires_grad_(False)
    return potential


@pytest.fixture(scope="module")
def small() -> LatentPotential:
    network = LocalSettings(cutoff=3.5, n_radial=4, n_channels=2)
    return stirred(
        LatentSettings(elements=ELEMENTS, energy_scale="own", network=network, width=8, optical_dielectric=2.0)
    )


@pytest.fixture(scope="module")
def on_chgnet() -> LatentPotential:
    return stirred(LatentSettings(elements=ELEMENTS, energy_scale="mp2020", network=CHGNetSettings(), width=8)).double()


class TestLatent(PotentialContract):
    force_tol = 1e-6
    stress_tol = 1e-7

    @pytest.fixture
    def potential(self, small: LatentPotential) -> Potential:
        return small


def test_a_head_on_chgnets_features_has_forces_and_stress(on_chgnet: LatentPotential) -> None:
    contract = PotentialContract()
    crystals = example_crystals()[1:3]
    contract.test_forces_are_minus_the_slope_of_the_energy(on_chgnet, crystals)
    contract.test_stress_is_the_slope_of_the_energy_with_strain(on_chgnet, crystals)
    assert np.abs(on_chgnet.predict(crystals)[0].charges).max() > 0.1


def test_plain_layers_of_chgnet_are_the_fast_ones() -> None:
    batch = CrystalBatch.from_structures(example_crystals())
    network = CHGNetBackbone("0.3.0").double()
    slopes = []
    for trained in (False, True):
        network.requires_grad_(trained)
        positions = batch.positions.clone().requires_grad_()
        features, energies = network(batch.moved(positions, batch.cells))
        slopes.append((features, energies, *torch.autograd.grad(energies.sum(), positions, create_graph=trained)))
    for fast, plain in zip(*slopes, strict=True):
        np.testing.assert_allclose(fast.detach(), plain.detach(), atol=1e-11)
    slopes[1][2].square().sum().backward()
    assert float(network.weights["atom_embedding:embedding:weight"].grad.abs().max()) > 0


@pytest.mark.parametrize("periodic", [True, False])
def test_the_matrix_of_fixed_atoms_is_the_ewald_sum(periodic: bool) -> None:
    batch = CrystalBatch.from_structures(example_crystals())
    charges = torch.randn(batch.n_atoms, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exponents = torch.full_like(charges, 1.3**-2)
    positions = batch.positions.clone().requires_grad_()
    if periodic:
        energies = ewald_energy(batch.moved(positions, batch.cells), charges, exponents)
    else:
        energies = isolated_energy(positions, charges, batch.system_idx, batch.n_systems, exponents)
    (slope,) = torch.autograd.grad(energies.sum(), positions)
    moves = torch.zeros_like(positions).requires_grad_()
    found = interaction(batch, 1.3, periodic=periodic).energies(charges, moves)
    np.testing.assert_allclose(found.detach(), energies.detach(), atol=1e-9)
    np.testing.assert_allclose(torch.autograd.grad(found.sum(), moves)[0], slope, atol=1e-9)


def test_densities_are_right_to_first_order() -> None:
    batch = CrystalBatch.from_structures(example_crystals())
    network = LocalNetwork(ELEMENTS, 4.0, 3, 2)
    kinds = network.kinds(batch.numbers)
    still = network.linearised(batch)
    moves = 1e-5 * torch.randn(batch.positions.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    there = network._densities(batch.moved(batch.positions + moves, batch.cells), kinds, None)
    change = still.at(moves) - still.values
    assert float(change.detach().abs().max()) > 1e-6
    np.testing.assert_allclose(change.detach(), (there - still.values).detach(), atol=2e-9)


def test_born_charges_are_slopes_of_the_dipole(small: LatentPotential) -> None:
    """In a supercell so large that what a displaced atom does to the others ends before its images begin."""
    crystal = example_crystals()[1] * (3, 3, 3)
    one = CrystalBatch.from_structures([crystal])
    assert min(crystal.lattice.abc) > 7.5
    found = small.response(one).born_charges
    atom, h = 0, 1e-4
    cell = one.cells[0]

    def dipole(axis: int, sign: int) -> torch.Tensor:
        positions = one.positions.clone()
        positions[atom, axis] += sign * h
        _, charges = small.model(one.moved(positions, one.cells))
        # Seen from the displaced atom, everything where its nearest image is.
        away = (one.positions - one.positions[atom]) @ torch.linalg.inv(cell)
        away = (away - away.round()) @ cell
        return charges @ away + charges[atom] * (positions[atom] - one.positions[atom])

    slopes = torch.stack([(dipole(axis, 1) - dipole(axis, -1)) / (2 * h) for axis in range(3)], 1)
    raw = small.model(one)[1]
    slopes = slopes - raw.mean() * torch.eye(3, dtype=torch.float64)
    # The sum rule takes the same off every atom.
    off = found / 2.0**0.5 - small._charges_and_moments(one)[1]
    off = off - (raw - raw.mean())[:, None, None] * torch.eye(3, dtype=torch.float64)
    np.testing.assert_allclose(off, off[:1].expand_as(off), atol=1e-10)
    np.testing.assert_allclose(found[atom] / 2.0**0.5, slopes + off[0], atol=1e-7)


@pytest.mark.parametrize("which", ["small", "on_chgnet"])
def test_a_cell_and_its_supercell_answer_alike(which: str, request: pytest.FixtureRequest) -> None:
    potential = request.getfixturevalue(which)
    crystal = example_crystals()[1]
    batch = CrystalBatch.from_structures([crystal, crystal * (2, 1, 2)])
    found = potential.response(batch)
    n_atoms = len(crystal)
    repeated = found.born_charges[n_atoms:].view(n_atoms, 4, 3, 3)
    np.testing.assert_allclose(repeated, found.born_charges[:n_atoms, None].expand_as(repeated), atol=1e-8)
    np.testing.assert_allclose(batch.per_system(found.born_charges), 0, atol=1e-10)


def test_a_field_pushes_by_born_charges(small: LatentPotential) -> None:
    crystals = example_crystals()[:2]
    field = torch.tensor([0.0, 0.1, 0.02])
    plain, pushed = small.predict(crystals), small.predict_under(crystals, Conditions(field=field))
    born = small.response(CrystalBatch.from_structures(crystals)).born_charges.split([len(one) for one in crystals])
    for one, other, charges in zip(plain, pushed, born, strict=True):
        expected = one.forces + np.einsum("a,iab->ib", field.double().numpy(), charges.numpy())
        np.testing.assert_allclose(other.forces, expected, atol=1e-9)
        assert other.energy == one.energy
        np.testing.assert_allclose(other.forces.sum(0), 0, atol=1e-9)


def test_charges_sum_to_the_total_charge(small: LatentPotential) -> None:
    crystals = example_crystals()[:2]
    conditions = Conditions(total_charges=torch.tensor([0.0, 0.7]))
    sums = [one.charges.sum() for one in small.predict_under(crystals, conditions)]
    np.testing.assert_allclose(sums, [0.0, 0.7], atol=1e-12)


def test_far_molecules_attract_as_their_charges_do(small: LatentPotential) -> None:
    alone = small.isolated()
    crystals = [
        Structure(Lattice.cubic(60), ["Na", "Cl"], [[0, 0, 0], [r, 0, 0]], coords_are_cartesian=True)
        for r in (8.0, 16.0)
    ]
    near, far = alone.predict(crystals)
    product = near.charges[0] * near.charges[1]
    assert product < 0
    assert near.energy - far.energy == pytest.approx(COULOMB * product * (1 / 8 - 1 / 16), abs=1e-9)
    assert near.forces[0, 0] == pytest.approx(-COULOMB * product / 64, abs=1e-9)


def test_a_saved_model_loads_by_its_path(small: LatentPotential, tmp_path) -> None:
    folder = tmp_path / "my+model"
    small.save(folder)
    loaded = load_potential(str(folder), "cpu")
    assert loaded.name == str(folder)
    assert loaded.elements == small.elements
    crystals = example_crystals()
    for one, other in zip(loaded.predict(crystals), small.predict(crystals), strict=True):
        assert one.energy == other.energy
        np.testing.assert_array_equal(one.charges, other.charges)
    both = load_potential(f"{folder}+d3(pbe,bj)", "cpu")
    assert both.name == f"{folder}+d3(pbe,bj)"
    with pytest.raises(PotentialError, match=r"hold the energy of charges each"):
        load_potential(f"{folder}+pqeq", "cpu")


def test_broken_models_say_what_is_wrong(small: LatentPotential, tmp_path) -> None:
    small.save(tmp_path)
    settings = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(settings | {"width": 9}))
    with pytest.raises(PotentialError, match=r"do not make a model.*size mismatch"):
        load_potential(str(tmp_path), "cpu")
    (tmp_path / "model.json").write_text(json.dumps(settings | {"colour": "red"}))
    with pytest.raises(PotentialError, match="colour"):
        load_potential(str(tmp_path), "cpu")
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(PotentialError, match="holds no model"):
        load_potential(str(tmp_path), "cpu")
    with pytest.raises(ConfigError, match="path of a folder"):
        load_potential(str(tmp_path / "nothing"), "cpu")


def test_a_twin_without_charges_answers_to_no_field() -> None:
    twin = stirred(
        LatentSettings(elements=ELEMENTS, energy_scale="own", network=LocalSettings(cutoff=3.0), long_range=False)
    )
    crystals = example_crystals()[:1]
    assert twin.predict(crystals)[0].charges is None
    with pytest.raises(PotentialError, match="without charges"):
        twin.predict_under(crystals, Conditions(field=torch.tensor([0.0, 0.0, 0.1])))


def test_charges_start_with_the_sign_of_electronegativity() -> None:
    lithium, neon, fluorine = starting_charges(("Li", "Ne", "F"))
    assert lithium == -fluorine > 0.5
    assert neon == 0
