"""Labels around a reference's crystal: at rest there, and of one energy."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.potential import load_potential
from matsearch.training.anchored import anchored, around, at_rest, distorted, distortion, raised, stiffened

STEP = 1e-4


@pytest.fixture(scope="module")
def row():
    cell = Lattice.from_parameters(3.1, 3.3, 3.0, 63, 58, 61)
    return at_rest(Structure(cell, ["Na", "F"], [[0, 0, 0], [0.53, 0.49, 0.52]]), -7.0, "NaF")


@pytest.fixture(scope="module")
def teacher():
    return load_potential("chgnet-0.3.0", "cpu").double()


def label(row, teacher, moves, strain, stiff=1.0):
    structure = distorted(row.structure, moves, strain)
    before, after = teacher.predict([row.structure, structure])
    found = anchored(row, structure, moves, strain, before, after, 1.3)
    return found if stiff == 1 else stiffened([found], [row], teacher, stiff)[0]


def test_the_crystal_of_the_reference_is_at_rest_at_its_energy(row, teacher):
    still = label(row, teacher, np.zeros((2, 3)), np.zeros((3, 3)))
    assert still.energy == pytest.approx(-7.0, abs=1e-9)
    assert np.abs(still.forces).max() < 1e-9 and np.abs(still.stress).max() < 1e-9
    assert np.abs(teacher.predict([row.structure])[0].forces).max() > 0.1


def test_forces_and_stress_are_slopes_of_the_energy(row, teacher):
    moves, strain = distortion(2, np.random.default_rng(3))
    deformation = np.eye(3) + strain
    found = label(row, teacher, moves, strain)
    for axis in range(3):
        # A step of the distorted crystal's first atom, as a displacement of the one at rest.
        step = np.zeros((2, 3))
        step[0, axis] = STEP
        step = step @ np.linalg.inv(deformation)
        above, below = (label(row, teacher, moves + sign * step, strain).energy for sign in (1, -1))
        assert found.forces[0, axis] == pytest.approx(-(above - below) / (2 * STEP), abs=1e-5)
    for a, b in ((0, 0), (1, 2), (0, 1)):
        more = np.zeros((3, 3))
        more[a, b] = STEP
        above, below = (
            label(row, teacher, moves, deformation @ (np.eye(3) + sign * more) - np.eye(3)) for sign in (1, -1)
        )
        slope = (above.energy - below.energy) / (2 * STEP) / found.structure.volume
        more[a, b], more[b, a] = 0, STEP
        above, below = (
            label(row, teacher, moves, deformation @ (np.eye(3) + sign * more) - np.eye(3)) for sign in (1, -1)
        )
        other = (above.energy - below.energy) / (2 * STEP) / found.structure.volume
        assert found.stress[a, b] == pytest.approx((slope + other) / 2, abs=1e-6)


def test_more_energy_of_strain_leaves_forces_and_has_its_slope_in_the_stress(row, teacher):
    moves, strain = distortion(2, np.random.default_rng(3))
    deformation = np.eye(3) + strain
    plain, found = (label(row, teacher, moves, strain, stiff) for stiff in (1.0, 1.4))
    assert np.array_equal(found.forces, plain.forces) and found.energy > plain.energy
    still = label(row, teacher, moves, np.zeros((3, 3)), 1.4)
    assert still.energy == pytest.approx(label(row, teacher, moves, np.zeros((3, 3))).energy, abs=1e-9)
    more = np.eye(3) * STEP
    above, below = (
        label(row, teacher, moves, deformation @ (np.eye(3) + sign * more) - np.eye(3), 1.4).energy for sign in (1, -1)
    )
    slope = (above - below) / (2 * STEP) / found.structure.volume
    assert np.trace(found.stress) == pytest.approx(slope, abs=1e-6)


def test_of_each_crystal_as_many_as_asked_for_and_none_outside_the_teachers_domain(row, teacher):
    crushed = at_rest(Structure(Lattice.cubic(1.2), ["Na"], [[0, 0, 0]]), 0.0, "crushed")
    found = around([row, crushed], teacher, np.random.default_rng(0), n_each=3)
    assert [one.source for one in found] == ["NaF, distorted"] * 3
    assert len({one.structure.volume for one in found}) == 3


def test_what_stands_above_the_teachers_rest_stands_above_the_references(row, teacher):
    double = row.structure * (1, 1, 2)
    crystal = distorted(double, *distortion(4, np.random.default_rng(1)))
    rest, same, bent = teacher.predict([row.structure, double, crystal])
    assert raised(row, double, rest, same, 1.3).energy == pytest.approx(-14.0, abs=1e-5)
    found = raised(row, crystal, rest, bent, 1.3)
    assert found.energy - 2 * row.energy == pytest.approx(1.3 * (bent.energy - 2 * rest.energy))
    assert np.allclose(found.forces, 1.3 * bent.forces) and np.allclose(found.stress, 1.3 * bent.stress)
