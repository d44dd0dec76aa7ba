"""Training on energies and forces finds charges that were never shown."""

import numpy as np
import pytest
import torch

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.latent import CHGNetSettings, LatentPotential, LatentSettings, LocalSettings
from matsearch.testing.point_charges import ChargedSystems, charge_gas, charged_dimers, labelled
from matsearch.testing.potential import example_crystals
from matsearch.training.latent import Errors, FitSettings, Labelled, errors, fit, freeze, label_sets, loss, polish

SMALL = LocalSettings(cutoff=4.0, n_radial=8, n_channels=1)


def gas_settings(**changes) -> LatentSettings:
    return LatentSettings(**({"elements": ("Cl", "Na"), "energy_scale": "gas", "network": SMALL, "width": 0} | changes))


def sets(systems: ChargedSystems, batch_atoms: int = 1000) -> list[Labelled]:
    return label_sets(systems.structures, systems.energies, systems.forces, batch_atoms=batch_atoms)


@pytest.fixture(scope="module")
def gas() -> tuple[ChargedSystems, ChargedSystems]:
    rng = np.random.default_rng(0)
    return charge_gas(16, 16, 10.0, rng), charge_gas(5, 16, 10.0, rng)


def test_charges_of_a_gas_are_found_in_its_energies_and_forces(gas: tuple[ChargedSystems, ChargedSystems]) -> None:
    training, held_out = (sets(one) for one in gas)
    found: dict[bool, Errors] = {}
    for long_range in (True, False):
        potential = LatentPotential.new(gas_settings(long_range=long_range))
        found[long_range] = polish(potential, training, held_out, 350 if long_range else 60)
        if long_range:
            charges = potential.evaluate(held_out[0].batch).charges
            charges = charges * torch.sign(charges[0])
            np.testing.assert_allclose(charges, gas[1].charges, atol=0.02)
    assert found[True].energy * 50 < found[False].energy
    assert found[True].force * 15 < found[False].force


def test_charged_dimers_attract_beyond_what_was_shown() -> None:
    rng = np.random.default_rng(1)
    shown, at_12 = charged_dimers([5.0, 5.5, 6.0, 7.0, 8.0] * 8, rng), charged_dimers([12.0] * 3, rng)
    settings = gas_settings(elements=("F", "H", "Mg", "Se"), network=SMALL.model_copy(update={"n_radial": 3}))
    potential = LatentPotential.new(settings).isolated()
    polish(potential, sets(shown), sets(at_12), 200)
    apart = [one.copy() for one in at_12.structures]
    for one in apart:
        one.translate_sites([2, 3], [18.0, 0.0, 0.0], frac_coords=False, to_unit_cell=False)
    at_30 = labelled(apart, periodic=False)
    found = [
        near.energy - far.energy
        for near, far in zip(potential.predict(at_12.structures), potential.predict(at_30.structures), strict=True)
    ]
    wanted = np.subtract(at_12.energies, at_30.energies)
    assert np.abs(wanted).min() > 0.6
    np.testing.assert_allclose(found, wanted, rtol=0.01)


def test_what_is_worked_out_beforehand_changes_no_slope(gas: tuple[ChargedSystems, ChargedSystems]) -> None:
    (one, *_) = sets(gas[1])
    potential = LatentPotential.new(gas_settings(width=4))
    potential.model.requires_grad_(True)
    slopes = []
    for still in (None, freeze(potential, [one])[0]):
        potential.model.zero_grad()
        loss(potential, one, 1.0, still).backward()
        slopes.append([weight.grad.clone() for weight in potential.model.parameters() if weight.grad is not None])
    for plain, quick in zip(*slopes, strict=True):
        np.testing.assert_allclose(quick, plain, atol=1e-9 * float(plain.abs().max() + 1))


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    gas: tuple[ChargedSystems, ChargedSystems], tmp_path
) -> None:
    training, held_out = sets(gas[0], 64)[:2], sets(gas[1])

    class StopError(Exception):
        pass

    def stop_at_the_end(line: str) -> None:
        if line.startswith("epoch 4"):
            raise StopError

    settings = FitSettings(epochs=4, check_every=2)
    whole, broken = LatentPotential.new(gas_settings()), LatentPotential.new(gas_settings())
    history = fit(whole, training, held_out, settings)
    with pytest.raises(StopError):
        fit(broken, training, held_out, settings, tmp_path / "checkpoint.pt", tell=stop_at_the_end)
    resumed = LatentPotential.new(gas_settings(), seed=5)
    assert fit(resumed, training, held_out, settings, tmp_path / "checkpoint.pt") == history
    assert errors(resumed, held_out) == errors(whole, held_out) == history[-1]


def test_chgnet_and_a_charge_head_learn_together() -> None:
    crystals = example_crystals()[1:3]
    potential = LatentPotential.new(
        LatentSettings(
            elements=("Al", "Cl", "Fe", "Li", "Mg", "Na", "O"),
            energy_scale="mp2020",
            network=CHGNetSettings(),
            width=0,
        )
    )
    before = potential.predict(crystals)
    # What CHGNet said before there were charges.
    alone = CrystalBatch.from_structures(crystals)
    wanted = alone.per_system(potential.model.backbone(alone)[1].double()).tolist()
    assert abs(before[0].energy - wanted[0]) > 1.0
    data = label_sets(crystals, wanted, [one.forces for one in before])
    start = errors(potential, data)
    (*_, end) = fit(potential, data, data, FitSettings(epochs=12, learning_rate=2e-3, check_every=12))
    assert end.energy < 0.5 * start.energy
    assert potential.predict(crystals)[0].energy != before[0].energy
