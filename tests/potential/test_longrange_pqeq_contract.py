"""The contract of potentials, held by PQEq."""

import pytest

from matsearch.potential import Potential, load_potential
from matsearch.testing.potential import PotentialContract


@pytest.mark.filterwarnings("ignore:No Pauling electronegativity")  # pymatgen, of elements beyond Lr
class TestPQEq(PotentialContract):
    force_tol = 1e-6
    stress_tol = 1e-7

    @pytest.fixture
    def potential(self) -> Potential:
        return load_potential("pqeq", "cpu")
