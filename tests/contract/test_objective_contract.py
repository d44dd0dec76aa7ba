"""The contract of objectives, held by the ones that are built in."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.objectives import ObjectiveContext, load_objective
from matsearch.potential import Potential
from matsearch.records import Prediction, Rejection, Relaxed, Stage
from matsearch.testing.objective import ObjectiveContract


class Spring(Potential):
    """Harmonic in the volume per atom, about 16 Å^3."""

    name, energy_scale, device = "spring", "none", "cpu"
    elements = frozenset({"Al", "Mg"})

    def predict(self, structures):
        return [
            Prediction(
                0.02 * len(one) * (one.volume / len(one) - 16.0) ** 2,
                np.zeros((len(one), 3)),
                0.04 * (one.volume / len(one) - 16.0) * np.eye(3),
            )
            for one in structures
        ]


class FlatReference:
    potential = "spring"

    def height(self, relaxed):
        if "Mg" in relaxed.structure.composition:
            return Rejection(Stage.SCORE, "no_reference", "Mg is not covered")
        return relaxed.energy_per_atom


class TestBuiltIns(ObjectiveContract):
    @pytest.fixture(params=["bulk_modulus", "density", "energy_above_hull", "volume_per_atom"])
    def objective(self, request):
        return load_objective(request.param, ObjectiveContext(Spring(), FlatReference()))

    @pytest.fixture
    def relaxed(self):
        cells = [(2.52, "Al"), (2.55, "Mg"), (2.5, "Al")]
        return [
            Relaxed(Structure(Lattice.cubic(edge), [symbol], [[0, 0, 0]]), -edge, True, 3, 0.0)
            for edge, symbol in cells
        ]
