import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.errors import ConfigError, MissingReferenceError
from matsearch.objectives import Objective, ObjectiveContext, evaluate_objective, load_objective, objective
from matsearch.objectives.catalogue import _REGISTERED
from matsearch.records import Rejection, Relaxed, Score, Stage


@pytest.fixture(autouse=True)
def _registry():
    """Decorators of one test are unknown to the next."""
    before = dict(_REGISTERED)
    yield
    _REGISTERED.clear()
    _REGISTERED.update(before)


@pytest.fixture
def context():
    return ObjectiveContext(potential=None)


def relaxed(edge=4.0, converged=True):
    return Relaxed(Structure(Lattice.cubic(edge), ["Al"], [[0, 0, 0]]), -3.7, converged, 5, 0.01)


class Constant(Objective):
    name, unit, direction = "constant", "1", "min"

    def __init__(self, values):
        self.values = values

    def __call__(self, relaxed):
        return self.values


def test_decorated_function_is_an_objective_known_by_name(context):
    @objective(name="edge", unit="Å", direction="max")
    def edge(structure):
        """Length of a."""
        return structure.lattice.a

    assert (edge.name, edge.unit, edge.direction, edge.__doc__) == ("edge", "Å", "max", "Length of a.")
    assert edge([relaxed(4.0), relaxed(5.0)]) == [4.0, 5.0]
    assert load_objective("edge", context) is edge


def test_an_exception_on_one_crystal_is_its_rejection():
    @objective(name="picky", unit="1", direction="max")
    def picky(structure):
        if structure.lattice.a > 4.5:
            raise ZeroDivisionError("no band gap")
        return 1.0

    values = picky([relaxed(4.0), relaxed(5.0)])
    assert values == [1.0, Rejection(Stage.SCORE, "objective_error", "ZeroDivisionError: no band gap")]


@pytest.mark.parametrize("timeout", [None, 10.0])
def test_an_objective_that_ends_the_process_ends_its_crystal(timeout):
    @objective(name="quitter", unit="1", direction="max", timeout=timeout)
    def quitter(structure):
        if structure.lattice.a > 4.5:
            sys.exit("no licence")
        return 1.0

    context = ObjectiveContext(potential=None)
    one, other = evaluate_objective(load_objective("quitter", context), [relaxed(4.0), relaxed(5.0)])
    assert one.value == 1.0
    assert other == Rejection(Stage.SCORE, "objective_error", "SystemExit: no licence")


def test_broken_machinery_is_raised_not_recorded():
    @objective(name="lost", unit="1", direction="max")
    def lost(structure):
        raise MissingReferenceError("no reference")

    with pytest.raises(MissingReferenceError):
        evaluate_objective(lost, [relaxed()])


def test_a_decorated_function_takes_a_name_over(context):
    for value in (1.0, 2.0):  # the second time as when a notebook's cell runs again

        @objective(name="density", unit="g/cm3", direction="min")
        def density(structure, value=value):
            return value

        assert load_objective("density", context) is density
    assert evaluate_objective(density, [relaxed()]) == [Score("density", 2.0, "g/cm3")]


@pytest.mark.parametrize("name", ["id", "formula", "energy", "", None])
def test_the_name_of_another_column_is_refused(context, monkeypatch, name):
    with pytest.raises(ConfigError, match=r"cannot be named .* add_status, detail, duplicate_of"):
        objective(name=name, unit="1", direction="min")
    thing = Constant([1.0])
    thing.name = name
    with pytest.raises(ConfigError, match="name"):
        load_objective(thing, context)


def test_a_unit_is_text():
    with pytest.raises(ConfigError, match="unit of objective 'edge' must be text, got None"):
        objective(name="edge", unit=None, direction="min")


def test_an_objective_that_changes_its_structure_changes_it_for_itself_alone():
    @objective(name="squeezed", unit="Å^3", direction="min")
    def squeezed(structure):
        structure.scale_lattice(1.0)
        return structure.volume

    class Fragile(Constant):
        def __call__(self, relaxed):
            values = [one.structure.volume for one in relaxed]
            for one in relaxed:
                one.structure.scale_lattice(1.0)
                one.initial.scale_lattice(1.0)
            if len(relaxed) > 1:
                raise RuntimeError("one at a time")
            return values

    ones = [replace(relaxed(edge), initial=relaxed(edge).structure) for edge in (4.0, 5.0)]
    for made, expected in [(squeezed, [1.0, 1.0]), (Fragile([]), [64.0, 125.0])]:
        assert [score.value for score in evaluate_objective(made, ones)] == pytest.approx(expected)
        assert [one.structure.volume for one in ones] == pytest.approx([64.0, 125.0])
        assert [one.initial.volume for one in ones] == pytest.approx([64.0, 125.0])


def test_a_class_that_is_no_objective_is_refused(context):
    with pytest.raises(ConfigError, match=r"no objective|cannot be made"):
        load_objective("collections:OrderedDict", context)
    with pytest.raises(ConfigError, match=r"Fraction cannot be made: TypeError"):
        load_objective("fractions:Fraction", context)


def test_an_objective_itself_will_do_for_its_name(context):
    made = Constant([1.0])
    assert load_objective(made, context) is made
    with pytest.raises(ConfigError, match="no objective"):
        load_objective(len, context)


def test_direction_is_min_or_max():
    with pytest.raises(ConfigError, match="'upwards'"):
        objective(name="edge", unit="Å", direction="upwards")


def test_unknown_name_lists_the_known_ones(context):
    objective(name="mine", unit="1", direction="min")(lambda structure: 1.0)
    # Other tests of this process may have registered objectives, too.
    with pytest.raises(
        ConfigError, match=r"'hardness'.*bulk_modulus, .*density, .*energy_above_hull.* mine.* volume_per_atom"
    ):
        load_objective("hardness", context)


def test_path_leads_to_an_instance_a_class_or_a_class_that_takes_the_context(context, monkeypatch):
    class Plain(Constant):
        def __init__(self):
            super().__init__([])

    class Needy(Constant):
        def __init__(self, context):
            super().__init__([])
            self.context = context

    module = types.ModuleType("my_objectives")
    module.instance, module.Plain, module.Needy = Constant([1.0]), Plain, Needy
    module.number, module.sideways = 3, Constant([1.0])
    module.sideways.direction = "left"
    monkeypatch.setitem(sys.modules, "my_objectives", module)

    assert load_objective("my_objectives:instance", context) is module.instance
    assert isinstance(load_objective("my_objectives:Plain", context), Plain)
    assert load_objective("my_objectives:Needy", context).context is context
    with pytest.raises(ConfigError, match="name, unit, direction"):
        load_objective("my_objectives:number", context)
    with pytest.raises(ConfigError, match="'left'"):
        load_objective("my_objectives:sideways", context)
    with pytest.raises(ConfigError, match="absent"):
        load_objective("my_objectives:absent", context)
    with pytest.raises(ConfigError, match="no_such_module"):
        load_objective("no_such_module:Thing", context)


def test_unconverged_structures_are_never_scored():
    outcomes = evaluate_objective(Constant([7.0]), [relaxed(converged=False), relaxed()])
    assert isinstance(outcomes[0], Rejection) and outcomes[0].reason == "unconverged"
    assert "atoms or cell above the force tolerance after 5 steps" in outcomes[0].detail
    assert outcomes[1] == Score("constant", 7.0, "1")
    assert evaluate_objective(Constant("never asked"), [relaxed(converged=False)])[0].reason == "unconverged"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "not_finite"),
        (float("inf"), "not_finite"),
        (10**400, "not_finite"),
        (None, "not_a_number"),
        ("high", "not_a_number"),
        ("3.5", "not_a_number"),
        (1j, "not_a_number"),
        ([1.0], "not_a_number"),
    ],
)
def test_what_is_no_finite_number_is_a_rejection(value, reason):
    outcome = evaluate_objective(Constant([value]), [relaxed()])[0]
    assert outcome.stage is Stage.SCORE and outcome.reason == reason


def test_an_objective_that_raises_on_the_list_is_tried_one_by_one():
    class Fragile(Constant):
        def __call__(self, relaxed):
            if any(one.structure.lattice.a > 4.5 for one in relaxed):
                raise RuntimeError("too long")
            return [one.structure.lattice.a for one in relaxed]

    outcomes = evaluate_objective(Fragile([]), [relaxed(4.0), relaxed(5.0), relaxed(4.2)])
    assert [outcome.value for outcome in outcomes[::2]] == [4.0, 4.2]
    assert outcomes[1] == Rejection(Stage.SCORE, "objective_error", "RuntimeError: too long")


def test_a_list_of_the_wrong_length_is_an_error_that_says_so():
    with pytest.raises(ConfigError, match="gave 1 values for 2 structures"):
        evaluate_objective(Constant([1.0]), [relaxed(), relaxed()])


@pytest.mark.parametrize(
    ("values", "words"), [(1.0, "a float"), (None, "a NoneType"), ("12", "a str"), ({0: 1.0, 1: 2.0}, "a dict")]
)
def test_what_is_no_list_is_an_error_that_says_so(values, words):
    with pytest.raises(ConfigError, match=f"gave {words} for 2 structures; it must give a list"):
        evaluate_objective(Constant(values), [relaxed(), relaxed()])


def test_an_array_is_a_list():
    assert [score.value for score in evaluate_objective(Constant(np.array([1.0, 2.0])), [relaxed(), relaxed()])] == [
        1,
        2,
    ]


def test_density_and_volume_of_aluminium(context):
    # 4 atoms in a cube of 4.05 Å: 2.70 g/cm3 (CRC Handbook).
    fcc = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.05), ["Al"], [[0, 0, 0]])
    one = Relaxed(fcc, -15.0, True, 0, 0.0)
    assert evaluate_objective(load_objective("density", context), [one])[0].value == pytest.approx(2.70, abs=0.01)
    volume = evaluate_objective(load_objective("volume_per_atom", context), [one])[0]
    assert volume.value == pytest.approx(4.05**3 / 4) and volume.unit == "Å^3"
