"""The contract of operators, held by the ones that are built in."""

import numpy as np
import pytest

from matsearch.propose.operators import OPERATORS, Pool, load_operator, shipped_pool
from matsearch.propose.space import Space
from matsearch.reference.known import load_reference
from matsearch.testing.operator import OperatorContract


@pytest.fixture(scope="module")
def phases():
    return shipped_pool().draw_parents(Space(max_atoms=14), np.random.default_rng(3), 12)


class TestBuiltIns(OperatorContract):
    n_proposals = 8

    @pytest.fixture(params=sorted(OPERATORS))
    def operator(self, request, phases):
        # What is known is not made again, and a repair of a sound phase would make just that.
        known = load_reference("chgnet-0.3.0").hiding([one.id for one in phases])
        return load_operator(request.param, Pool(known))

    @pytest.fixture
    def parents(self, phases):
        return phases
