"""The hull on a handful of made-up phases, against pymatgen's."""

import numpy as np
import pytest

from matsearch.reference.hull import Hull

ELEMENTS = ["Li", "Mg", "O"]


def random_hull(n_phases: int, seed: int) -> Hull:
    rng = np.random.default_rng(seed)
    counts = np.vstack([np.eye(3, dtype=int), rng.integers(0, 5, (n_phases, 3)) + np.eye(3, dtype=int)[0]])
    energies = rng.uniform(-6.0, -1.0, len(counts))
    return Hull(ELEMENTS, counts / counts.sum(axis=1, keepdims=True), energies)


def test_a_mixture_of_two_elements_has_their_mean_energy():
    hull = Hull(["Li", "O"], np.eye(2), np.array([-1.0, -5.0]))
    point = hull.at({"Li": 1, "O": 3})
    assert point.energy == pytest.approx(-4.0)
    assert point.mixture == pytest.approx({0: 0.25, 1: 0.75})


@pytest.mark.parametrize("seed", range(4))
def test_hull_energies_equal_those_of_pymatgen(seed):
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    hull = random_hull(25, seed)
    entries = [
        PDEntry(Composition(dict(zip(ELEMENTS, row, strict=True))), energy)
        for row, energy in zip(hull.fractions, hull.energies, strict=True)
    ]
    diagram = PhaseDiagram(entries)
    expected = [diagram.get_e_above_hull(entry) for entry in entries]
    np.testing.assert_allclose(hull.above(), expected, atol=1e-6)


def test_phases_outside_the_chemical_system_do_not_count():
    low_ternary = Hull(ELEMENTS, np.vstack([np.eye(3), [1 / 3] * 3]), np.array([-1.0, -1.0, -1.0, -9.0]))
    assert low_ternary.at({"Li": 1, "Mg": 1}).energy == pytest.approx(-1.0)


def test_a_hull_without_a_pure_element_says_which():
    with pytest.raises(ValueError, match="none of O"):
        Hull(["Li", "O"], np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([-1.0, -2.0]))


def test_fractions_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="n_phases=3, n_elements=2"):
        Hull(["Li", "O"], np.eye(2), np.zeros(3))


@pytest.mark.parametrize("seed", range(3))
def test_heights_are_those_of_asking_for_each_phase(seed):
    hull = random_hull(40, seed)
    heights = hull.above()
    for row, energy, height in zip(hull.fractions, hull.energies, heights, strict=True):
        assert energy - hull.at(dict(zip(ELEMENTS, row, strict=True))).energy == pytest.approx(height, abs=2e-6)


def test_shares_of_a_mixture_make_up_its_composition_and_its_energy():
    hull = random_hull(40, 7)
    point = hull.at({"Li": 2, "Mg": 3, "O": 5})
    shares = np.array(list(point.mixture.values()))
    phases = list(point.mixture)
    np.testing.assert_allclose(shares @ hull.fractions[phases], [0.2, 0.3, 0.5], atol=1e-6)
    assert shares @ hull.energies[phases] == pytest.approx(point.energy, abs=1e-6)
    assert shares.sum() == pytest.approx(1.0)


def test_of_two_phases_of_one_composition_the_higher_is_that_much_higher():
    hull = Hull(["Li", "O"], np.array([[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5]]), np.array([-1.0, -1.0, -3.0, -2.75]))
    np.testing.assert_allclose(hull.above(), [0.0, 0.0, 0.0, 0.25], atol=1e-9)


def test_a_hull_of_ninety_elements_keeps_systems_apart():
    """More elements than bits in a word: phases of one system must not be taken for another's."""
    symbols = [f"E{number}" for number in range(90)]
    pairs = [(0, 64), (1, 65), (63, 64), (0, 89)]
    compounds = np.zeros((len(pairs), 90))
    for compound, pair in zip(compounds, pairs, strict=True):
        compound[list(pair)] = 0.5
    energies = np.concatenate([np.full(90, -1.0), [-2.0, -3.0, -4.0, -5.0]])
    hull = Hull(symbols, np.vstack([np.eye(90), compounds]), energies)
    np.testing.assert_array_equal(hull.above(), 0.0)
    for pair, energy in zip(pairs, energies[90:], strict=True):
        assert hull.at({symbols[one]: 1 for one in pair}).energy == pytest.approx(energy)
    assert hull.at({"E2": 1, "E66": 1}).energy == pytest.approx(-1.0)
    # E0 + E64 + 2 E89: half of it is E0E89 at -5, the rest E64 and E89.
    assert hull.at({"E0": 1, "E64": 1, "E89": 2}).energy == pytest.approx(-3.0)


def test_an_element_that_is_not_in_the_hull_is_a_key_error():
    with pytest.raises(KeyError, match="Xe"):
        random_hull(5, 0).at({"Li": 1, "Xe": 1})


def test_many_compositions_at_once_have_the_energies_that_each_has_alone():
    hull = random_hull(40, 3)
    fractions = np.random.default_rng(0).dirichlet(np.ones(3), 250)
    fractions[::5, 0] = 0.0
    fractions /= fractions.sum(axis=1, keepdims=True)
    alone = [hull.at(dict(zip(ELEMENTS, row, strict=True))).energy for row in fractions]
    np.testing.assert_allclose(hull.energies_at(fractions), alone, atol=1e-9)
