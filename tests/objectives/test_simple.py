"""Symmetry of relaxed crystals."""

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.groups import SpaceGroup

from matsearch.objectives import ObjectiveContext, load_objective
from matsearch.objectives.simple import POINT_GROUP_ORDERS
from matsearch.records import Relaxed

CONTEXT = ObjectiveContext(potential=None)


def value(name, structure):
    return load_objective(name, CONTEXT)([Relaxed(structure, -1.0, True, 0, 0.0)])[0]


def test_rock_salt_is_cubic_and_a_shaken_one_is_not():
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert value("space_group", salt) == 225 and value("point_group_order", salt) == 48
    shaken = salt.copy()
    shaken.translate_sites([0, 3], [0.07, 0.03, 0.05])
    assert value("point_group_order", shaken) <= 4


def test_atoms_on_top_of_each_other_have_no_symmetry():
    merged = Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0, 0, 1e-4]])
    assert value("space_group", merged).reason == "no_symmetry"


@pytest.mark.parametrize(
    "number", [1, 2, 3, 9, 10, 15, 16, 46, 47, 74, 75, 82, 83, 88, 89, 122, 123, 142, 143, 146, 147]
)
def test_orders_are_those_of_the_point_groups(number):
    check(number)


@pytest.mark.parametrize(
    "number", [148, 149, 161, 162, 167, 168, 174, 175, 176, 177, 190, 191, 194, 195, 199, 200, 206, 207, 220, 221, 230]
)
def test_orders_are_those_of_the_point_groups_further_on(number):
    check(number)


def check(number):
    rotations = {one.rotation_matrix.tobytes() for one in SpaceGroup.from_int_number(number).symmetry_ops}
    assert next(order for last, order in POINT_GROUP_ORDERS if number <= last) == len(rotations)
