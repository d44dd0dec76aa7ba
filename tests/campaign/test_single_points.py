"""Heights of crystals as they stand, which operators choose by."""

import copy

from pymatgen.core import Lattice, Structure

from matsearch.campaign.parts import Parts
from matsearch.campaign.single_points import SinglePoints
from matsearch.config import load_config
from matsearch.errors import PotentialError
from matsearch.potential import load_potential
from matsearch.propose.operators.backend import OperatorsBackend
from matsearch.reference.known import load_reference


def rock_salt(cation, anion, a):
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_heights_are_those_above_the_campaigns_hull_and_missing_where_nothing_good_is_known():
    potential, reference = load_potential("chgnet-0.3.0", "cpu"), load_reference("chgnet-0.3.0")
    salt, wide, radon = rock_salt("Na", "Cl", 5.64), rock_salt("Na", "Cl", 6.4), rock_salt("Rn", "O", 5.6)
    low, high, unknown = SinglePoints(potential, reference, -0.1)([salt, wide, radon])
    energy = potential.predict([salt])[0].energy / len(salt)
    assert low == round(reference.energy_above_hull("NaCl", energy), 3) < 0.02
    assert high > low + 0.05
    assert unknown is None
    assert SinglePoints(potential, reference, 0.03)([salt]) == [None]  # below the floor: too good to be true
    assert SinglePoints(potential, reference, None)([]) == []


def test_the_floor_is_held_against_all_phases_so_that_a_hidden_one_can_be_found():
    potential, reference = load_potential("chgnet-0.3.0", "cpu"), load_reference("chgnet-0.3.0")
    magnesia = rock_salt("Mg", "O", 4.24)
    (height,) = SinglePoints(potential, reference.hiding(["MgO"]), -0.1)([magnesia])
    assert height < -1


class Picky(type(load_potential("chgnet-0.3.0", "cpu"))):
    """Refuses what holds caesium, and with it all that is asked for in the same call."""

    def energies(self, structures):
        if any("Cs" in one.symbol_set for one in structures):
            raise PotentialError("no caesium")
        return super().energies(structures)


def test_a_crystal_that_the_potential_refuses_does_not_take_the_others_with_it():
    potential, reference = load_potential("chgnet-0.3.0", "cpu"), load_reference("chgnet-0.3.0")
    crystals = [rock_salt("Na", "Cl", 5.64), rock_salt("Cs", "Cl", 7.0), rock_salt("K", "Cl", 6.3)]
    expected = SinglePoints(potential, reference, None)(crystals)
    picky = copy.copy(potential)
    picky.__class__ = Picky
    assert SinglePoints(picky, reference, None)(crystals) == [expected[0], None, expected[2]]


def test_operators_of_the_default_preset_choose_where_there_is_a_hull_that_counts(write_campaign):
    def choices(*overrides):
        parts = Parts.build(load_config(write_campaign(preset="matsearch"), list(overrides)))
        parts.close()
        return [one.identity.get("choices", 1) for one in parts.backends if isinstance(one, OperatorsBackend)]

    operators = 'llm=[{backend="operators"}]'
    assert choices(operators) == [4]
    assert choices(operators, "search.choices=1") == [1]
    assert choices(operators, "relax.pressure_gpa=5", 'objectives=[{name="density"}]') == [1]
