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

What no objective can be asked for itself holds for all of them, as `evaluate_objective` and `load_objective` see to it:
one that raises on a crystal gives that crystal's row the reason `objective_error`, one that takes longer than its
`timeout` gives it `timeout`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast, get_args

import pytest

from matsearch.objectives import Cost, Objective, ObjectiveContext, evaluate_objective, load_objective
from matsearch.objectives.base import CallableObjective
from matsearch.records import Direction, Rejection, Relaxed, Score, Stage

CONTEXT = ObjectiveContext(potential=cast(Any, None))
"""Objectives that are made already need nothing of it."""


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

    def test_states_its_cost_and_its_needs(self, objective: Objective) -> None:
        made = load_objective(objective, CONTEXT)
        assert made.cost in get_args(Cost)
        assert all(isinstance(need, str) for need in made.needs)
        assert made.timeout is None or made.timeout > 0

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

    def test_no_crystal_breaks_another(self, objective: Objective, relaxed: Sequence[Relaxed]) -> None:
        unconverged = replace(relaxed[0], converged=False)
        outcomes = evaluate_objective(objective, [unconverged, *relaxed])
        assert isinstance(outcomes[0], Rejection) and outcomes[0].reason == "unconverged"
        self._all_same(outcomes[1:], evaluate_objective(objective, relaxed))

    def test_a_time_limit_changes_no_value(self, objective: Objective, relaxed: Sequence[Relaxed]) -> None:
        limited = load_objective(objective, CONTEXT, timeout=600)
        self._all_same(evaluate_objective(limited, relaxed), evaluate_objective(objective, relaxed))

    def test_what_exceeds_its_time_is_a_row(self, objective: Objective, relaxed: Sequence[Relaxed]) -> None:
        released = threading.Event()

        class Hanging(CallableObjective):
            def __call__(self, relaxed: Sequence[Relaxed]) -> list[float | Rejection]:
                released.wait(60)
                return super().__call__(relaxed)

        limited = load_objective(Hanging(objective), CONTEXT, timeout=0.01)
        outcomes = evaluate_objective(limited, relaxed)
        released.set()
        assert [one.reason for one in outcomes if isinstance(one, Rejection)] == ["timeout"] * len(relaxed)

    def _all_same(self, some: Sequence[Score | Rejection], others: Sequence[Score | Rejection]) -> None:
        for one, other in zip(some, others, strict=True):
            values = [each.value if isinstance(each, Score) else each for each in (one, other)]
            assert self._same(*values)

    def _same(self, one: float | Rejection, other: float | Rejection) -> bool:
        if isinstance(one, Rejection) or isinstance(other, Rejection):
            return one == other
        return bool(one == pytest.approx(other, rel=self.tolerance))
