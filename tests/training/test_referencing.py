"""Composition energies refitted to labels of another zero."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.errors import PotentialError
from matsearch.potential import load_potential
from matsearch.training.referencing import composition_counts, refit, refit_potential

SYMBOLS = ("Li", "Na", "K", "Mg", "O", "S", "F", "Cl", "U")
OLD = np.array([-1.9, -1.3, -1.1, -1.5, -4.9, -4.1, -1.9, -1.8, -11.0])
SHIFTS = np.array([-3.0, -12.0, -20.0, -11.0, -7.0, -21.0, -9.0, -22.0, -68.8])


def labels(n, noise=0.03, seed=0, elements=range(8)):
    """Counts of random compounds, and residuals whose references are shifted by `SHIFTS`."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((n, len(SYMBOLS)))
    for row in counts:
        chosen = rng.choice(elements, rng.integers(2, 4), replace=False)
        row[chosen] = rng.integers(1, 5, len(chosen))
    sizes = counts.sum(1)
    return counts, counts @ (OLD + SHIFTS) + sizes * rng.normal(scale=noise, size=n)


def test_exact_labels_give_exact_references():
    counts, residuals = labels(60, noise=0.0)
    found = refit(counts, residuals, OLD, SYMBOLS)
    np.testing.assert_allclose(found.energies[:8], (OLD + SHIFTS)[:8], atol=1e-5)
    assert not found.left_out and found.noise < 1e-4


@pytest.mark.parametrize("shift", [-20.0, -5.0, -0.3])
@pytest.mark.parametrize(
    "counts",
    [
        np.eye(9),
        np.kron(np.eye(4, 5), [1, 1])[:, :9],
        np.eye(1, 9),
        np.vstack([np.eye(8, 9) + np.eye(9)[8], np.eye(9)[8]]),
    ],
    ids=["elements", "pairs", "one", "oxides and oxygen"],
)
def test_few_labels_that_share_little_are_no_noise(counts, shift):
    sizes = counts.sum(1)
    residuals = counts @ OLD + sizes * (shift + np.random.default_rng(0).normal(scale=0.02, size=len(sizes)))
    left = (residuals - counts @ refit(counts, residuals, OLD, SYMBOLS).energies) / sizes
    assert np.abs(left).max() < 0.1


def test_an_element_without_labels_keeps_its_old_reference_and_says_how_little_is_known():
    counts, residuals = labels(60)
    found = refit(counts, residuals, OLD, SYMBOLS)
    assert found.energies[8] == pytest.approx(OLD[8], abs=1e-9)
    assert found.n_labels[8] == 0
    assert 5 < found.uncertainties[8] < 40  # the spread of the others
    assert found.uncertainties[:8].max() < 0.1


def test_uncertainties_cover_the_errors():
    pulls = []
    for seed in range(12):
        found = refit(*labels(40, seed=seed), OLD, SYMBOLS)
        pulls.append((found.energies - OLD - SHIFTS)[:8] / found.uncertainties[:8])
    assert 0.7 < np.std(pulls) < 1.4


def test_elements_that_only_come_together_share_their_shift():
    counts = np.zeros((20, len(SYMBOLS)))
    counts[:, [0, 4]] = 1
    residuals = counts @ OLD - 2 * 10.0 + np.random.default_rng(0).normal(scale=0.01, size=20)
    found = refit(counts, residuals, OLD, SYMBOLS)
    np.testing.assert_allclose((found.energies - OLD)[[0, 4]], -10.0, atol=0.05)


def test_where_there_is_no_shift_the_references_hardly_move():
    rng = np.random.default_rng(1)
    counts, _ = labels(12)
    residuals = counts @ OLD + counts.sum(1) * rng.normal(scale=0.1, size=12)
    shrunk = refit(counts, residuals, OLD, SYMBOLS).energies - OLD
    plain = np.linalg.lstsq(counts, residuals, rcond=None)[0][:8] - OLD[:8]
    assert np.abs(shrunk[:8]).mean() < 0.5 * np.abs(plain).mean()


@pytest.mark.parametrize("wrong", [50.0, -1.5])
def test_wrong_labels_are_named_and_left_out(wrong):
    counts, residuals = labels(80)
    bad = [3, 17, 41]
    residuals[bad] += wrong * counts[bad].sum(1)
    found = refit(counts, residuals, OLD, SYMBOLS)
    assert [one.index for one in found.left_out] == bad
    assert float(found.left_out[0].reason.split()[0]) == pytest.approx(wrong, abs=0.3)
    np.testing.assert_allclose(found.energies[:8], (OLD + SHIFTS)[:8], atol=0.1)


def test_right_labels_are_left_out_of_no_fit():
    for seed in range(5):
        for n in (5, 12, 30, 100):
            assert not refit(*labels(n, seed=seed), OLD, SYMBOLS).left_out


def test_the_one_label_of_an_element_is_believed():
    counts, residuals = labels(60)
    counts[0] = 0
    counts[0, [4, 8]] = 2, 1
    residuals[0] = counts[0] @ (OLD + SHIFTS)
    found = refit(counts, residuals, OLD, SYMBOLS)
    assert not found.left_out
    assert found.energies[8] == pytest.approx((OLD + SHIFTS)[8], abs=0.5)


def test_labels_that_contradict_each_other_are_left_out_together():
    counts, residuals = labels(60)
    counts[:2] = 0
    counts[:2, [4, 8]] = 2, 1
    residuals[:2] = counts[0] @ (OLD + SHIFTS) + np.array([0.0, 15.0])
    assert [one.index for one in refit(counts, residuals, OLD, SYMBOLS).left_out] == [0, 1]


def test_the_order_of_labels_and_the_size_of_cells_do_not_matter():
    counts, residuals = labels(40)
    found = refit(counts, residuals, OLD, SYMBOLS)
    order, times = np.random.default_rng(0).permutation(40), np.arange(1, 41)
    other = refit(counts[order] * times[:, None], residuals[order] * times, OLD, SYMBOLS)
    np.testing.assert_allclose(other.energies, found.energies, atol=1e-6)


def test_what_cannot_be_fitted_is_named():
    counts, residuals = labels(5)
    with pytest.raises(ValueError, match="n_labels=5"):
        refit(counts[:4], residuals, OLD, SYMBOLS)
    with pytest.raises(ValueError, match="finite"):
        refit(counts, residuals * np.nan, OLD, SYMBOLS)
    with pytest.raises(ValueError, match="at least one atom"):
        refit(counts * 0, residuals, OLD, SYMBOLS)


def rocksalts():
    """Small cells of every pair, at several lengths."""
    return [
        Structure(Lattice([[0, a, a], [a, 0, a], [a, a, 0]]), [metal, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])
        for metal, length in (("Li", 0.76), ("Na", 1.02), ("K", 1.38))
        for anion, other in (("F", 1.33), ("Cl", 1.81))
        for a in (length + other, 1.04 * (length + other))
    ]


def test_chgnet_takes_on_the_zero_of_labels(tmp_path):
    chgnet = load_potential("chgnet-0.3.0", "cpu")
    structures = rocksalts()
    energies = np.array(chgnet.energies(structures))
    symbols = tuple(chgnet.energy_references)
    shift = dict(zip(SYMBOLS, SHIFTS, strict=True))
    labels = energies + composition_counts(structures, symbols) @ np.array([shift.get(one, 0.0) for one in symbols])
    labels[5] += 40.0
    crushed = structures[0].copy()
    crushed.scale_lattice(2.0)
    potential, references = refit_potential(chgnet, [*structures, crushed], [*labels, 0.0], "shifted")
    assert 12 in [one.index for one in references.left_out]
    kept = [index for index in range(12) if index != 5]
    np.testing.assert_allclose(np.array(potential.energies(structures))[kept], labels[kept], atol=0.02)
    assert (potential.energy_scale, potential.elements) == ("shifted", chgnet.elements)
    assert potential.energy_references["Fe"] == pytest.approx(chgnet.energy_references["Fe"])
    potential.save(tmp_path / "shifted")
    again = load_potential(str(tmp_path / "shifted"), "cpu")
    assert again.energies(structures) == potential.energies(structures)
    assert again.energy_scale == "shifted" and again.name == str(tmp_path / "shifted")


def test_references_that_are_better_known_take_the_place_of_the_old_ones():
    chgnet = load_potential("chgnet-0.3.0", "cpu")
    potential, _ = refit_potential(chgnet, rocksalts()[:2], chgnet.energies(rocksalts()[:2]), "same", {"U": -79.8})
    assert potential.energy_references["U"] == pytest.approx(-79.8)
    assert potential.energy_references["Fe"] == pytest.approx(chgnet.energy_references["Fe"])


def test_what_cannot_be_refitted_is_told():
    chgnet, salt = load_potential("chgnet-0.3.0", "cpu"), rocksalts()[0]
    with pytest.raises(ValueError, match=r"Zz, unknown to chgnet-0\.3\.0"):
        refit_potential(chgnet, [salt], [-27.0], "mine", towards={"Zz": 1.0})
    crowded = salt.copy()
    crowded.scale_lattice(salt.volume / 20)
    with pytest.raises(ValueError, match="gives none of 1 structures an energy"):
        refit_potential(chgnet, [crowded], [-27.0], "mine")


def test_a_potential_without_composition_energies_is_refused_by_name():
    with pytest.raises(PotentialError, match="pqeq declares no composition energies"):
        refit_potential(load_potential("pqeq", "cpu"), rocksalts(), [0.0] * 12, "shifted")
