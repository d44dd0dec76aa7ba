"""Softening scales, and what one label mends of them."""

import numpy as np
import pytest

from matsearch.potential import load_potential
from matsearch.testing.potential import example_crystals
from matsearch.training.softening import corrected_by, one_datum_scale, softening


def forces(seed, n_atoms=8):
    return np.random.default_rng(seed).normal(size=(n_atoms, 3))


def test_forces_that_are_too_small_by_a_factor_have_it_as_their_slope():
    reference = [forces(0), forces(1, 3)]
    found = softening(reference, [0.8 * one for one in reference])
    assert found.slope == pytest.approx(0.8)
    assert found.mae == pytest.approx(0.2 * np.abs(np.concatenate(reference)).mean())
    assert found.mae_at_slope_one == pytest.approx(0.0, abs=1e-12)
    assert found.n_components == 33
    assert one_datum_scale(reference, [0.8 * one for one in reference]) == pytest.approx(1 / 0.8)


def test_the_slope_is_that_of_predicted_against_reference_and_not_the_other_way_round():
    reference, predicted = [np.array([[1.0, 0, 0], [2.0, 0, 0]])], [np.array([[1.0, 0, 0], [1.0, 0, 0]])]
    assert softening(reference, predicted).slope == pytest.approx(3 / 5)
    assert one_datum_scale(reference, predicted) == pytest.approx(3 / 2)


def test_on_its_own_datum_the_mended_slope_is_the_squared_correlation():
    reference = [forces(0)]
    predicted = [0.8 * forces(0) + 0.3 * forces(1)]
    scale = one_datum_scale(reference, predicted)
    cosine = np.vdot(reference, predicted) / np.linalg.norm(reference) / np.linalg.norm(predicted)
    assert softening(reference, [scale * predicted[0]]).slope == pytest.approx(cosine**2)


def test_what_shows_no_softening_is_named():
    reference = [forces(0)]
    with pytest.raises(ValueError, match="rattle"):
        one_datum_scale([np.zeros((2, 3))], [np.zeros((2, 3))])
    with pytest.raises(ValueError, match="units and signs"):
        softening(reference, [-reference[0]])
    with pytest.raises(ValueError, match=r"explain 0.\d\d .* farther from rest"):
        one_datum_scale(reference, [reference[0] + 2 * forces(1)])
    with pytest.raises(ValueError, match="n_atoms, 3"):
        softening(reference, [reference[0][:2]])
    with pytest.raises(ValueError, match="finite"):
        softening(reference, [reference[0] * np.nan])
    with pytest.raises(ValueError, match="no structure"):
        softening([], [])


def test_one_label_mends_other_crystals_of_its_system_and_no_others(tmp_path):
    chgnet = load_potential("chgnet-0.3.0", "cpu")
    salt, lithia, magnesia, _ = example_crystals()
    others = [salt.copy().perturb(0.1, seed=seed) for seed in (1, 2)]
    # The truth of this test is 1.25 times stiffer than CHGNet.
    truth = [1.25 * one.forces for one in chgnet.predict(others)]
    label = 1.25 * chgnet.predict([salt])[0].forces
    mended = corrected_by(chgnet, [salt], [label])
    assert mended.correction.scales == pytest.approx({"Cl-Na": 1.25})
    assert softening(truth, [one.forces for one in chgnet.predict(others)]).slope == pytest.approx(0.8)
    assert softening(truth, [one.forces for one in mended.predict(others)]).slope == pytest.approx(1.0, abs=1e-4)
    assert mended.energies([lithia, magnesia]) == pytest.approx(chgnet.energies([lithia, magnesia]), abs=1e-6)
    mended.save(tmp_path / "stiffer")
    again = load_potential(str(tmp_path / "stiffer"), "cpu")
    np.testing.assert_array_equal(again.predict([salt])[0].forces, mended.predict([salt])[0].forces)


def test_structures_of_one_system_share_a_factor_and_bad_labels_name_theirs():
    chgnet = load_potential("chgnet-0.3.0", "cpu")
    salt, _, magnesia, _ = example_crystals()
    structures = [salt, salt.copy().perturb(0.1, seed=1), magnesia]
    told = [one.forces for one in chgnet.predict(structures)]
    mended = corrected_by(chgnet, structures, [1.1 * told[0], 1.3 * told[1], 1.2 * told[2]])
    assert 1.1 < mended.correction.scales["Cl-Na"] < 1.3
    assert mended.correction.scales["Mg-O"] == pytest.approx(1.2)
    with pytest.raises(ValueError, match="Mg-O: all forces are zero"):
        corrected_by(chgnet, structures, [told[0], told[1], 0 * told[2]])
