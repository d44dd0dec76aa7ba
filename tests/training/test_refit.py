"""CHGNet's weights trained on labels of another functional, beside long-range terms."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from matsearch.errors import ConfigError, InputError, PotentialError
from matsearch.potential import load_potential
from matsearch.potential.longrange.far import FarPQEq
from matsearch.training import epochs
from matsearch.training.data import LabelledData, LabelledStructure, split_by_formula
from matsearch.training.epochs import Training, look
from matsearch.training.refit import fine_tune, make_potential, make_trainee
from matsearch.training.refit_settings import RefitSettings
from matsearch.training.targets import COMPOSITION, make_targets, starting_point
from matsearch.training.trainee import Shown, huber
from matsearch.units import EV_PER_A3_IN_GPA

CPU = torch.device("cpu")
QUICK = RefitSettings(energy_scale="hard", epochs=2, batch_atoms=6, learning_rate=1e-3, averaging=0.5, held_out=0.2)


@pytest.fixture(scope="module")
def data():
    """Small distorted rocksalts; labels are CHGNet's, harder by 1.3 and over another zero."""
    structures = []
    for number, (a, x) in enumerate(product(("Li", "Na", "K", "Rb"), ("F", "Cl", "Br"))):
        half = 1.95 + 0.3 * (number // 3) + 0.35 * (number % 3)
        cell = np.array([[0, half, half], [half, 0, half], [half, half, 0]]) * [1.03, 1.0, 0.98]
        ideal = Structure(Lattice(cell), [a, x], [[0, 0, 0], [0.5, 0.5, 0.5]])
        structures.append(ideal.perturb(0.25, seed=number))
    chgnet = load_potential("chgnet-0.3.0", "cpu")
    rows = []
    for number, (structure, said) in enumerate(zip(structures, chgnet.predict(structures), strict=True)):
        composition = sum(chgnet.energy_references[site.specie.symbol] for site in structure)
        energy = 1.3 * (said.energy - composition) + composition - 10 * len(structure)
        rows.append(LabelledStructure(structure, energy, 1.3 * said.forces, 1.3 * said.stress, source=f"row {number}"))
    return LabelledData(tuple(rows), ())


def prepared(data, settings):
    start = starting_point(settings.start)
    targets = make_targets(*split_by_formula(data.rows, settings.held_out), start, settings.terms)
    return start, targets


@pytest.mark.parametrize("long_range", ["none", "pqeq", "latent"])
def test_errors_of_a_trainee_are_those_of_the_potential_it_becomes(data, long_range):
    settings = QUICK.model_copy(update={"long_range": long_range})
    start, targets = prepared(data, settings)
    trainee = make_trainee(start, settings, targets, CPU)
    with torch.no_grad():
        for weight in trainee.parameters():
            if weight.requires_grad:
                weight.mul_(1.01)
    _, errors = look(trainee, targets.held_out, settings)
    potential = make_potential(trainee.state_dict(), start, settings, targets, "made", CPU)
    _, held_out = split_by_formula(data.rows, settings.held_out)
    found = potential.predict([row.structure for row in held_out])
    pairs = list(zip(held_out, found, strict=True))
    energies = [abs(row.energy - one.energy) / len(row.structure) for row, one in pairs]
    assert errors.energy == pytest.approx(np.mean(energies), abs=2e-6)
    forces = [np.abs(row.forces - one.forces) for row, one in pairs]
    assert errors.force == pytest.approx(np.mean(forces), abs=1e-5)
    stresses = [np.abs(row.stress - one.stress) for row, one in pairs]
    assert errors.stress == pytest.approx(np.mean(stresses) * EV_PER_A3_IN_GPA, abs=1e-3)
    # Its references leave little of every energy, whatever the terms say.
    refs = potential.energy_references
    for row, one in pairs:
        left = one.energy - sum(refs[site.specie.symbol] for site in row.structure)
        assert abs(left) / len(row.structure) < 3


@pytest.mark.parametrize("long_range", ["none", "pqeq", "latent"])
def test_training_learns_and_the_result_loads_by_its_path(data, long_range, tmp_path):
    settings = QUICK.model_copy(update={"long_range": long_range, "epochs": 5})
    found = fine_tune(data, settings, tmp_path, device="cpu")
    assert found.best.loss < 0.8 * found.history[0].loss
    loaded = load_potential(str(tmp_path), "cpu")
    crystals = [row.structure for row in data.rows[:3]]
    for one, other in zip(loaded.predict(crystals), found.potential.predict(crystals), strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-9)
        assert (one.charges is None) == (long_range == "none")
    assert loaded.energy_scale == "hard" and "Br" in loaded.elements and "O" not in loaded.elements
    lines = (tmp_path / "learning_curves.csv").read_text().splitlines()
    assert len(lines) == 7 and lines[0].startswith("epoch,n_steps,learning_rate,training_loss,loss,seconds,energy_mae")


def test_a_training_stopped_anywhere_goes_on_as_if_it_had_not_been(data, tmp_path, monkeypatch):
    whole = fine_tune(data, QUICK, tmp_path / "whole", device="cpu")
    monkeypatch.setattr(epochs, "CHECKPOINT_SECONDS", 0.0)
    step, left = Training._step, 4

    def stopping(self, *arguments):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        step(self, *arguments)

    monkeypatch.setattr(Training, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(data, QUICK, tmp_path / "parts", device="cpu")
    assert left == -1
    left = 1000
    parts = fine_tune(data, QUICK, tmp_path / "parts", device="cpu")
    assert [replace(one, seconds=0) for one in parts.history] == [replace(one, seconds=0) for one in whole.history]
    for name, weight in whole.potential.weights().items():
        torch.testing.assert_close(weight, parts.potential.weights()[name], atol=0, rtol=0)


def test_parts_on_several_threads_have_the_bits_of_one_and_add_up_to_the_whole(data, tmp_path, monkeypatch):
    settings = QUICK.model_copy(update={"batch_atoms": 12, "epochs": 1})
    whole = fine_tune(data, settings, tmp_path / "whole", device="cpu")
    monkeypatch.setattr(epochs, "PART_ATOMS", 4)
    found = []
    before = torch.get_num_threads()
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        found.append(fine_tune(data, settings, tmp_path / f"{n_threads}", device="cpu"))
    torch.set_num_threads(before)
    assert found[0].best.errors == found[1].best.errors
    for name, weight in found[0].potential.weights().items():
        torch.testing.assert_close(weight, found[1].potential.weights()[name], atol=0, rtol=0)
    assert found[0].best.training_loss == pytest.approx(whole.best.training_loss, rel=1e-3)
    assert found[0].best.errors.force == pytest.approx(whole.best.errors.force, rel=1e-2)


def test_batches_made_ready_ahead_are_the_same_in_their_order(data):
    _, targets = prepared(data, QUICK)
    batches = [targets.training[i : i + 1] for i in range(len(targets.training))]
    trainee = make_trainee(starting_point("chgnet-0.3.0"), QUICK, targets, CPU)
    for batch, (told, shown) in zip(batches, epochs.ahead(batches, CPU), strict=True):
        assert told is batch
        for one, other in zip(trainee.misses(shown), trainee.misses(Shown.of(batch, CPU)), strict=True):
            torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_terms_are_asked_once_and_another_training_is_not_gone_on_with(data, tmp_path, monkeypatch):
    settings = QUICK.model_copy(update={"long_range": "pqeq", "epochs": 1})
    fine_tune(data, settings, tmp_path, device="cpu")

    def refuse(*arguments):
        raise AssertionError("asked again")

    monkeypatch.setattr(FarPQEq, "evaluate", refuse)
    fine_tune(data, settings, tmp_path, device="cpu")
    with pytest.raises(InputError, match=r"holds a training with learning_rate 0\.001, not 0\.1"):
        fine_tune(data, settings.model_copy(update={"learning_rate": 0.1}), tmp_path, device="cpu")


def test_energies_alone_train_as_well_and_frozen_weights_stay(data, tmp_path):
    bare = LabelledData(tuple(replace(row, forces=None, stress=None) for row in data.rows), ())
    settings = QUICK.model_copy(update={"frozen": ("atom_embedding", "atom_conv_layers.0"), "epochs": 4})
    found = fine_tune(bare, settings, tmp_path, device="cpu")
    assert found.best.errors.force is None and found.best.errors.energy is not None
    start = starting_point("chgnet-0.3.0").weights
    for name, weight in found.potential.weights().items():
        if name.startswith(("atom_embedding.", "atom_conv_layers.0.")):
            torch.testing.assert_close(weight, start[name], atol=0, rtol=0)
    assert not torch.equal(found.potential.weights()["mlp.layers.0.weight"], start["mlp.layers.0.weight"])
    with pytest.raises(ConfigError, match="atom_embedding"):
        fine_tune(bare, settings.model_copy(update={"frozen": ("atom",)}), tmp_path / "b", device="cpu")


def test_it_goes_on_from_what_it_made(data, tmp_path):
    settings = QUICK.model_copy(update={"long_range": "pqeq", "epochs": 1})
    first = fine_tune(data, settings, tmp_path / "first", device="cpu")
    again = settings.model_copy(update={"start": str(tmp_path / "first")})
    second = fine_tune(data, again, tmp_path / "second", device="cpu")
    assert second.history[0].errors.force == pytest.approx(first.best.errors.force, abs=1e-5)
    with pytest.raises(PotentialError, match="beside pqeq-far, not beside nothing"):
        fine_tune(data, again.model_copy(update={"long_range": "none"}), tmp_path / "third", device="cpu")


@pytest.mark.parametrize("training", [True, False])
def test_atoms_far_from_all_others_are_trained_on_as_well(data, training):
    alone = Structure(Lattice.cubic(9.0), ["Na"], [[0, 0, 0]])
    rows = [LabelledStructure(alone, -1.0, np.zeros((1, 3)), np.zeros((3, 3))), *data.rows[3:5]]
    targets = make_targets(rows, rows, starting_point("chgnet-0.3.0"), ())
    trainee = make_trainee(starting_point("chgnet-0.3.0"), QUICK, targets, CPU)
    misses = trainee.misses(Shown.of(targets.training[:1], CPU), training=training)
    assert misses.energies.isfinite().all() and not misses.forces.any() and not misses.stresses.any()
    if training:
        huber(misses, (1, 1, 1, 1), 0.1, (1, 3, 9, 1)).backward()
        assert all(one.grad is None or one.grad.isfinite().all() for one in trainee.parameters())


def test_a_share_of_the_trained_weights_lies_between_start_and_result_and_needs_no_training_of_its_own(data, tmp_path):
    settings = QUICK.model_copy(update={"long_range": "pqeq"})
    whole = fine_tune(data, settings, tmp_path, device="cpu")
    halfway = settings.model_copy(update={"trained_share": 0.5})
    half = fine_tune(data, halfway, tmp_path, device="cpu")
    assert [one.n_steps for one in half.history] == [one.n_steps for one in whole.history]
    start = starting_point("chgnet-0.3.0").weights
    trained, mixed = whole.potential.weights(), half.potential.weights()
    for name, one in mixed.items():
        expected = trained[name] if name == COMPOSITION else 0.5 * (start[name] + trained[name])
        torch.testing.assert_close(one, expected)
    assert half.best.loss != whole.best.loss and half.best.epoch == whole.best.epoch
    held_out = [row.structure for row in half.held_out]
    pairs = zip(half.held_out, half.potential.predict(held_out), strict=True)
    misses = [abs(row.energy - one.energy) / len(row.structure) for row, one in pairs]
    assert half.best.errors.energy == pytest.approx(np.mean(misses), abs=2e-6)


@pytest.mark.parametrize("options", [{"start": "scratch"}, {"long_range": "latent"}])
def test_a_share_needs_a_start(data, tmp_path, options):
    settings = QUICK.model_copy(update={"trained_share": 0.5, **options})
    with pytest.raises(ConfigError, match=r"a trained share of 0\.5 .* expected 1"):
        fine_tune(data, settings, tmp_path, device="cpu")


def test_rows_that_cannot_be_trained_on_are_named(data):
    structure = data.rows[0].structure.copy()
    structure.replace(0, "Po")
    rows = [*data.rows[:9], replace(data.rows[0], structure=structure, source="row with Po")]
    targets = make_targets(rows, data.rows[8:10], starting_point("chgnet-0.3.0"), ())
    assert [one.source for one in targets.bad] == ["row with Po", "row 9"]
    assert "Po" in targets.bad[0].reason and "Rb" in targets.bad[1].reason


@pytest.mark.parametrize("name", ["sevennet-0", "chgnet-9", "pqeq"])
def test_what_training_cannot_start_from_is_named(name):
    with pytest.raises(PotentialError, match=r"chgnet-0\.3\.0"):
        starting_point(name)
