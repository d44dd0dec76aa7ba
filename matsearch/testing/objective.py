"""What every objective has to hold: subclass `ObjectiveContract` in a test file, give it two fixtures.

```python
class TestMine(ObjectiveContract):
    @pytest.fixture
    def objective(self):
        return my_objective

    @pytest.fixture
    def relaxed(self):
        return [...]          # at least two different `Relaxed`, of which the objective can score one or more
```
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import pytest

from matsearch.objectives import Objective, evaluate_objective
from matsearch.records import Direction, Rejection, Relaxed, Score, Stage


class ObjectiveContract:
    """Checks of an objective.

    Attributes:
        tolerance: Relative, between the value of a crystal in a list and alone.
    """

    tolerance = 1e-6

    def test_states_name_unit_and_direction(self, objective: Objective) -> None:
        assert objective.name
        assert objective.unit
        assert objective.direction in get_args(Direction)

    def test_gives_one_finite_value_or_rejection_each(self, objective: Objective, relaxed: Sequence[Relaxed]) -> None:
        values = objective(relaxed)
        assert len(values) == len(relaxed)
        assert any(not isinstance(value, Rejection) for value in values)
        for value in values:
            if isinstance(value, Rejection):
                assert value.stage is Stage.SCORE
                assert value.reason.isidentifier() and value.reason == value.reason.lower()
            else:
                assert math.isfinite(value)

    def test_keeps_the_order(self, objective: Objective, relaxed: Sequence[Relaxed]) -> None:
        together, backwards = objective(relaxed), list(reversed(objective(list(reversed(relaxed)))))
        for one, other, alone in zip(together, backwards, (objective([one])[0] for one in relaxed), strict=True):
            assert self._same(one, other)
            assert self._same(one, alone)

    def test_leaves_the_structures_as_they_were(self, objective: Objective, relaxed: Sequence[Relaxed]) -> None:
        before = [one.structure.copy() for one in relaxed]
        objective(relaxed)
        assert [one.structure for one in relaxed] == before

    def test_an_empty_list_gives_an_empty_list(self, objective: Objective) -> None:
        assert list(objective([])) == []

    def test_scores_carry_name_and_unit(self, objective: Objective, relaxed: Sequence[Relaxed]) -> None:
        for outcome in evaluate_objective(objective, relaxed):
            if isinstance(outcome, Score):
                assert (outcome.objective, outcome.unit) == (objective.name, objective.unit)

    def _same(self, one: float | Rejection, other: float | Rejection) -> bool:
        if isinstance(one, Rejection) or isinstance(other, Rejection):
            return one == other
        return bool(one == pytest.approx(other, rel=self.tolerance))
