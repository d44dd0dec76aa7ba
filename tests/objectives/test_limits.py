"""A hanging objective is a row, and nobody waits for it."""

import contextlib
import threading
import time

import pytest
from pymatgen.core import Lattice, Structure

from matsearch.errors import ConfigError, MissingReferenceError
from matsearch.objectives import Objective, ObjectiveContext, evaluate_objective, load_objective, objective
from matsearch.objectives.catalogue import _REGISTERED
from matsearch.records import Relaxed, Score


@pytest.fixture(autouse=True)
def _registry():
    before = dict(_REGISTERED)
    yield
    _REGISTERED.clear()
    _REGISTERED.update(before)


def relaxed(edge):
    return Relaxed(Structure(Lattice.cubic(edge), ["Al"], [[0, 0, 0]]), -3.7, True, 5, 0.01)


CONTEXT = ObjectiveContext(potential=None)


def outcomes(made, *edges, timeout=None):
    loaded = load_objective(made, CONTEXT, timeout=timeout)
    return [
        one.value if isinstance(one, Score) else one.reason
        for one in evaluate_objective(loaded, [relaxed(edge) for edge in edges])
    ]


class Edge(Objective):
    """Hangs at 5 Å, raises at 6 Å, changes what it is given."""

    name, unit, direction = "edge", "Å", "max"

    def __init__(self):
        self.lists = []

    def __call__(self, relaxed):
        self.lists.append(len(relaxed))
        edges = [one.structure.lattice.a for one in relaxed]
        for one in relaxed:
            one.structure.scale_lattice(1.0)
        if 5.0 in edges:
            threading.Event().wait(30)
        if 6.0 in edges:
            raise ZeroDivisionError("no band gap")
        return edges


def test_what_hangs_is_a_row_and_the_others_have_their_values():
    start = time.monotonic()
    assert outcomes(Edge(), 4.0, 5.0, 4.5, timeout=0.2) == [4.0, "timeout", 4.5]
    assert time.monotonic() - start < 5


def test_what_is_in_time_is_asked_as_one_list():
    made = Edge()
    assert outcomes(made, 4.0, 4.5, timeout=10) == [4.0, 4.5]
    assert made.lists == [2]


def test_hanging_and_raising_ones_keep_their_own_reasons():
    assert outcomes(Edge(), 6.0, 4.0, 5.0, timeout=0.2) == ["objective_error", 4.0, "timeout"]
    assert outcomes(Edge(), 6.0, 4.0, timeout=10) == ["objective_error", 4.0]


def test_a_function_is_timed_for_each_structure_and_stopped():
    begun = []

    @objective(name="loop", unit="1", direction="max", timeout=0.2)
    def loop(structure):
        if structure.lattice.a > 4.5:
            begun.append(threading.current_thread())
            while True:
                with contextlib.suppress(Exception):  # as a stubborn user's would
                    time.sleep(0.01)
        time.sleep(0.12)  # three of them are longer than the limit
        return 1.0

    assert outcomes("loop", 4.0, 4.1, 5.0, 4.2) == [1.0, 1.0, "timeout", 1.0]
    begun[0].join(5)
    assert not begun[0].is_alive()


def test_a_campaigns_timeout_goes_before_the_objectives_own():
    @objective(name="slow", unit="1", direction="max", timeout=0.01)
    def slow(structure):
        time.sleep(0.1)
        return 1.0

    assert outcomes("slow", 4.0) == ["timeout"]
    assert outcomes("slow", 4.0, timeout=10) == [1.0]


def test_broken_machinery_is_raised_through_the_limit():
    @objective(name="lost", unit="1", direction="max", timeout=10)
    def lost(structure):
        raise MissingReferenceError("no reference")

    with pytest.raises(MissingReferenceError):
        outcomes("lost", 4.0)


def test_a_limited_objective_says_what_it_is():
    made = load_objective("bulk_modulus", CONTEXT, timeout=60)
    assert (made.name, made.unit, made.direction, made.cost) == ("bulk_modulus", "GPa", "max", "many")
    assert load_objective("density", CONTEXT) is load_objective("density", CONTEXT), "no limit, no wrapper"


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), "60"])
def test_a_limit_is_a_number_of_seconds(seconds):
    with pytest.raises(ConfigError, match="timeout of objective 'density' must be a number of seconds above 0"):
        load_objective("density", CONTEXT, timeout=seconds)
