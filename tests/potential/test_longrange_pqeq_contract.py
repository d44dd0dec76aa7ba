"""The contract of potentials, held by PQEq."""

import pytest

from matsearch.potential import Potential, load_potential
from matsearch.testing.potential import PotentialContract


@pytest.mark.filterwarnings("ignore:No Pauling electronegativity")  # pymatgen, of elements beyond Lr
class TestPQEq(PotentialContract):
    @pytest.fixture
    def potential(self) -> Potential:
        return load_potential("pqeq", "cpu")
