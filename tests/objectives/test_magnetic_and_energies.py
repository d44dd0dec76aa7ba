"""Moments, and energies of deformation: against the potential itself."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.objectives import ObjectiveContext, evaluate_objective, load_objective
from matsearch.potential import Potential, load_potential
from matsearch.records import Prediction, Rejection, Relaxed
from matsearch.relaxation import relax

IRON = Structure(Lattice.cubic(2.85), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
SALT = Structure(Lattice([[0, 2.9, 2.9], [2.9, 0, 2.9], [2.9, 2.9, 0]]), ["Na", "Cl"], [[0] * 3, [0.5] * 3])


@pytest.fixture(scope="module")
def potential():
    return load_potential("chgnet-0.3.0", "cpu")


@pytest.fixture(scope="module")
def relaxed(potential):
    return relax([IRON, SALT], potential, force_tol=0.02)


def scores(name, relaxed, potential):
    return evaluate_objective(load_objective(name, ObjectiveContext(potential=potential)), relaxed)


def test_iron_has_a_moment_and_salt_has_none(relaxed, potential):
    iron, salt = scores("magnetic_moment", relaxed, potential)
    assert 1.8 < iron.value < 2.8 and salt.value < 0.05
    iron_density, _ = scores("magnetization", relaxed, potential)
    assert iron_density.value == pytest.approx(2 * iron.value / relaxed[0].structure.volume)


def test_a_potential_without_moments_is_a_reason():
    class Mute(Potential):
        name, energy_scale, device, elements = "mute", "none", "cpu", frozenset({"Fe"})

        def predict(self, structures):
            return [Prediction(0.0, np.zeros((len(one), 3)), np.zeros((3, 3))) for one in structures]

    (refused,) = scores("magnetic_moment", [Relaxed(IRON, 0.0, True, 0, 0.0)], Mute())
    assert isinstance(refused, Rejection) and refused.reason == "no_moments"


def test_relaxation_energy_is_what_the_proposal_gave_up(relaxed, potential):
    iron, salt = scores("relaxation_energy", relaxed, potential)
    (start,) = potential.energies([SALT])
    assert salt.value == pytest.approx((relaxed[1].energy - start) / 2, abs=1e-9)
    assert salt.value < -0.005 and iron.value <= 0
    unknown = Relaxed(SALT, -1.0, True, 0, 0.0)
    assert scores("relaxation_energy", [unknown], potential)[0].reason == "no_initial"


def test_strain_energy_follows_the_stiffness(relaxed, potential):
    iron, salt = scores("strain_energy", relaxed, potential)
    # 9/2 K V e^2, with K of 25 GPa and 22 Å^3/atom for salt: 0.006 eV/atom.
    assert iron.value > 1.5 * salt.value
    assert salt.value == pytest.approx(0.006, rel=0.3)
