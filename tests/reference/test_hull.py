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
