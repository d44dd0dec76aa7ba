from dataclasses import replace

import pytest
from pymatgen.core import Lattice, Structure

from matsearch.errors import MissingReferenceError, MixedHullError
from matsearch.objectives import ObjectiveContext, load_objective
from matsearch.records import Rejection, Relaxed, Stage
from matsearch.reference import load_reference


class FakeReference:
    """A hull at -3.5 eV/atom for whatever holds no Cl."""

    potential = "nobody-has-built-this"

    def height(self, relaxed):
        if "Cl" in relaxed.structure.composition:
            return Rejection(Stage.SCORE, "no_reference", "Cl is not covered")
        return relaxed.energy_per_atom + 3.5


class NamedPotential:
    name = "nobody-has-built-this"


def relaxed(symbol, energy):
    return Relaxed(Structure(Lattice.cubic(4), [symbol] * 2, [[0, 0, 0], [0.5, 0.5, 0.5]]), energy, True, 1, 0.0)


def test_energy_per_atom_is_measured_from_the_reference_hull():
    context = ObjectiveContext(potential=NamedPotential(), reference=FakeReference())
    objective = load_objective("energy_above_hull", context)
    assert (objective.unit, objective.direction) == ("eV/atom", "min")
    values = objective([relaxed("Al", -6.8), relaxed("Cl", -4.0), relaxed("Mg", -7.2)])
    assert values[0] == pytest.approx(0.1)
    assert values[1].reason == "no_reference"
    assert values[2] == pytest.approx(-0.1), "below the hull: new and stable"


def test_no_reference_for_a_potential_is_an_error_not_a_row():
    objective = load_objective("energy_above_hull", ObjectiveContext(potential=NamedPotential()))
    with pytest.raises(MissingReferenceError, match="nobody-has-built-this"):
        objective([relaxed("Al", -7.0)])


class Named:
    name = "chgnet-0.3.0"


def test_a_crystal_of_another_potential_is_never_held_against_the_hull():
    objective = load_objective("energy_above_hull", ObjectiveContext(Named(), load_reference("chgnet-0.3.0")))
    own = replace(relaxed("Li", -3.8), potential="chgnet-0.3.0")
    assert isinstance(objective([own])[0], float)
    with pytest.raises(MixedHullError, match=r"chgnet-r2scan.*chgnet-0\.3\.0|chgnet-0\.3\.0.*chgnet-r2scan"):
        objective([own, replace(own, potential="chgnet-r2scan")])


def test_a_context_of_two_potentials_is_an_error_that_names_both():
    with pytest.raises(MixedHullError, match=r"energies of chgnet-0\.3\.0, .* relaxed on nobody-has-built-this"):
        ObjectiveContext(NamedPotential(), load_reference("chgnet-0.3.0"))


def test_a_missing_hull_says_how_to_make_one():
    objective = load_objective("energy_above_hull", ObjectiveContext(potential=NamedPotential()))
    with pytest.raises(MissingReferenceError, match="matsearch reference build --potential nobody-has-built-this"):
        objective([relaxed("Al", -7.0)])
