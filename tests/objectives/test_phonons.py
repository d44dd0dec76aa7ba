"""Phonons of a crystal of springs, which are known on paper."""

import math

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.errors import ConfigError
from matsearch.objectives import ObjectiveContext, evaluate_objective, load_objective
from matsearch.objectives.phonons import SPACING, heat_capacity, multiples
from matsearch.potential import Potential
from matsearch.records import Prediction, Relaxed

EDGE, STIFFNESS, MASS = 3.0, 1.0, 26.9815
THZ = 15.633302
"""(eV/Å^2/u)^(1/2) / 2 pi."""


class Springs(Potential):
    """Each atom pulled to the mean of its six neighbours in a simple cubic lattice, in all directions alike."""

    name, energy_scale, device = "lattice-springs", "none", "cpu"
    elements = frozenset({"Al"})

    def __init__(self, stiffness):
        self.stiffness = stiffness
        self.asked = []

    def predict(self, structures):
        self.asked.append(len(structures))
        return [self._one(structure) for structure in structures]

    def _one(self, structure):
        centres, points, images, _ = structure.get_neighbor_list(1.2 * EDGE)
        ends = (structure.frac_coords[points] + images) @ structure.lattice.matrix
        forces = np.zeros((len(structure), 3))
        np.add.at(forces, centres, self.stiffness * (ends - structure.cart_coords[centres]))
        return Prediction(0.0, forces, np.zeros((3, 3)))


def cubic():
    return Relaxed(Structure(Lattice.cubic(EDGE), ["Al"], [[0, 0, 0]]), 0.0, True, 0, 0.0)


def outcome(name, potential, *relaxed):
    return evaluate_objective(load_objective(name, ObjectiveContext(potential)), relaxed)


def test_the_lowest_frequency_is_that_of_the_shortest_wave_vector():
    pytest.importorskip("phonopy")
    # omega^2 = 2 K / M sum_i (1 - cos q_i a), and a supercell of 3 holds q a = 2 pi / 3.
    (found,) = outcome("lowest_frequency", Springs(STIFFNESS), cubic())
    assert found.value == pytest.approx(THZ * math.sqrt(3 * STIFFNESS / MASS), rel=1e-3) and found.unit == "THz"


def test_the_heat_capacity_is_the_mean_over_the_zone():
    pytest.importorskip("phonopy")
    (found,) = outcome("heat_capacity", Springs(STIFFNESS), cubic())
    q = (np.arange(24) + 0.5) / 24 * 2 * np.pi
    omega2 = 2 * STIFFNESS / MASS * np.add.outer(np.add.outer(1 - np.cos(q), 1 - np.cos(q)), 1 - np.cos(q))
    expected = heat_capacity(THZ * np.sqrt(omega2).reshape(-1, 1), np.ones(24**3))
    assert found.value == pytest.approx(expected, rel=3e-3)
    assert 0 < found.value < 3 * 8.314462618


def test_a_crystal_on_a_saddle_is_below_zero_and_has_no_heat_capacity():
    pytest.importorskip("phonopy")
    potential = Springs(-STIFFNESS)
    assert outcome("lowest_frequency", potential, cubic())[0].value < -1
    asked = len(potential.asked)
    assert outcome("heat_capacity", potential, cubic())[0].reason == "dynamically_unstable"
    assert len(potential.asked) == asked, "both ask for the same phonons"


def test_all_displacements_of_all_crystals_are_asked_for_at_once():
    pytest.importorskip("phonopy")
    potential = Springs(STIFFNESS)
    other = cubic()
    other.structure.scale_lattice(26.0)
    huge = cubic()
    huge.structure.make_supercell([9, 8, 8])
    found = outcome("lowest_frequency", potential, cubic(), other, huge)
    assert potential.asked[-1] == 4, "for each of the two an undisplaced cell and one displacement"
    assert found[2].reason == "supercell_too_large"


def test_supercells_have_the_size_stated():
    fcc = Lattice([[0, 2, 2], [2, 0, 2], [2, 2, 0]])  # faces 2.31 Å apart
    assert multiples(fcc) == [4, 4, 4]
    assert multiples(Lattice.orthorhombic(3, SPACING, 20)) == [3, 1, 1]


def test_a_soft_oscillator_has_the_capacity_of_dulong_and_petit_a_stiff_one_of_einstein():
    one = np.ones(1)
    assert heat_capacity(np.full((1, 3), 1e-4), one) == pytest.approx(24.943, abs=1e-3)
    # h nu = k T: Einstein's function is e / (e - 1)^2 = 0.9207.
    assert heat_capacity(np.full((1, 3), 6.2509), one) == pytest.approx(24.943 * 0.92067, abs=2e-3)


def test_without_phonopy_the_message_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "phonopy", None)
    with pytest.raises(ConfigError, match=r"'heat_capacity' needs phonopy: pip install 'matsearch\[phonons\]'"):
        load_objective("heat_capacity", ObjectiveContext(Springs(1.0)))
