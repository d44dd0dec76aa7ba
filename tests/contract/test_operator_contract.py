"""The contract of operators, held by the ones that are built in."""

import numpy as np
import pytest

from matsearch.propose.operators import OPERATORS, load_operator, shipped_pool
from matsearch.propose.space import Space
from matsearch.testing.operator import OperatorContract


@pytest.fixture(scope="module")
def phases():
    return shipped_pool().draw_parents(Space(max_atoms=14), np.random.default_rng(3), 12)


class TestBuiltIns(OperatorContract):
    n_proposals = 8

    @pytest.fixture(params=sorted(OPERATORS))
    def operator(self, request):
        return load_operator(request.param)

    @pytest.fixture
    def parents(self, phases):
        return phases
