"""Second derivatives are asked of crystals at rest, wherever a search left them."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.objectives import ObjectiveContext
from matsearch.objectives.rest import KeptAtRest
from matsearch.potential import Potential
from matsearch.records import Prediction, Relaxed
from matsearch.units import EV_PER_A3_IN_GPA

EDGE, BULK_MODULUS = 3.0, 50.0


class Compressible(Potential):
    """Energy quadratic in the strain from a cubic cell, alike in all directions."""

    name, energy_scale, device = "compressible", "none", "cpu"
    elements = frozenset({"Al"})

    def predict(self, structures):
        return [self._one(structure) for structure in structures]

    def _one(self, structure):
        strain = structure.lattice.matrix / EDGE - np.eye(3)
        modulus = 3 * BULK_MODULUS / EV_PER_A3_IN_GPA
        energy = modulus * EDGE**3 * (strain**2).sum() / 2
        stress = modulus * EDGE**3 * strain @ structure.lattice.matrix.T / EDGE / structure.volume
        return Prediction(float(energy), np.zeros((len(structure), 3)), (stress + stress.T) / 2)


def volumes(edges, pressure_gpa=0.0, kept=None):
    crystals = [Structure(Lattice.cubic(edge), ["Al"], [[0, 0, 0]]) for edge in edges]
    kept = kept or KeptAtRest(lambda resting, _: [one.volume for one in resting])
    context = ObjectiveContext(POTENTIAL, pressure_gpa=pressure_gpa)
    return kept.of([Relaxed(one, 0.0, True, 0, 0.0) for one in crystals], context)


POTENTIAL = Compressible()


def test_what_was_left_under_stress_comes_to_rest():
    assert volumes([2.97, 3.02]) == pytest.approx([EDGE**3] * 2, rel=1e-3)


def test_rest_is_that_at_the_pressure_of_the_campaign():
    # p = -K dV/V to first order.
    assert volumes([EDGE], pressure_gpa=1.0)[0] == pytest.approx(EDGE**3 * (1 - 1 / BULK_MODULUS), rel=2e-3)


def test_pressures_are_kept_apart():
    kept = KeptAtRest(lambda resting, _: [one.volume for one in resting])
    assert volumes([EDGE], 0.0, kept) > volumes([EDGE], 1.0, kept)


def test_what_finds_no_rest_has_a_reason_and_leaves_the_others_their_values():
    first, lone, third = volumes([2.98, 20.0, 3.02])
    assert lone.reason == "not_at_rest" and "isolated_atom" in lone.detail
    assert [first, third] == pytest.approx([EDGE**3] * 2, rel=1e-3)
