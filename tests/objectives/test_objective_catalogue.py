"""What can be scored says what it is."""

from typing import get_args

import pytest

from matsearch.errors import ConfigError
from matsearch.objectives import Cost, Objective, ObjectiveContext, known_objectives, load_objective, objective
from matsearch.objectives.catalogue import _REGISTERED, OBJECTIVES
from matsearch.records import Direction


@pytest.fixture(autouse=True)
def _registry():
    before = dict(_REGISTERED)
    yield
    _REGISTERED.clear()
    _REGISTERED.update(before)


def test_every_built_in_is_described_under_its_own_name():
    described = {one.name: one for one in known_objectives()}
    assert described.keys() >= OBJECTIVES.keys()
    for name in OBJECTIVES:
        one = described[name]
        assert one.unit and one.direction in get_args(Direction) and one.cost in get_args(Cost)
        assert one.summary, f"{name} has no docstring"
    assert described["bulk_modulus"].cost == "many" and described["bulk_modulus"].needs == ("potential",)
    assert described["space_group"].needs == ()


def test_what_the_decorator_registers_is_listed_with_its_cost():
    @objective(name="gap", unit="eV", direction="max", cost="relaxation")
    def gap(structure):
        """Band gap by a model."""
        return 1.0

    (one,) = [one for one in known_objectives() if one.name == "gap"]
    assert (one.unit, one.cost, one.summary) == ("eV", "relaxation", "Band gap by a model.")


def test_a_cost_is_one_of_three():
    with pytest.raises(ConfigError, match="cost of objective 'gap' must be one of free, relaxation, many, got 'dear'"):
        objective(name="gap", unit="eV", direction="max", cost="dear")


class Powers(Objective):
    name, unit, direction = "powers", "1", "max"

    def __init__(self, context, power=1):
        self.context, self.power = context, power

    def __call__(self, relaxed):
        return [len(one.structure) ** self.power for one in relaxed]


def test_options_reach_the_class_by_name():
    context = ObjectiveContext(potential=None)
    path = f"{__name__}:Powers"
    made = load_objective(path, context, {"power": 3})
    assert made.context is context and made.power == 3
    assert load_objective(path, context).power == 1
    with pytest.raises(ConfigError, match="unexpected keyword argument 'level'"):
        load_objective(path, context, {"level": 3})
    with pytest.raises(ConfigError, match="objective 'density' takes no options, got level"):
        load_objective("density", context, {"level": 3})
