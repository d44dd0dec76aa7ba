"""Objectives that ask the known phases: formation, decomposition, novelty, distance, agreement."""

from functools import cache

import pytest
from pymatgen.core import Composition, Lattice, Structure

from matsearch.errors import ConfigError
from matsearch.objectives import ObjectiveContext, evaluate_objective, load_objective
from matsearch.potential import load_potential
from matsearch.records import Relaxed, Score
from matsearch.reference import load_reference

NAME = "chgnet-0.3.0"


class Named:
    name, device = NAME, "cpu"


@cache
def known(name):
    return load_objective(name, ObjectiveContext(Named(), load_reference(NAME)))


def value(name, relaxed):
    (found,) = evaluate_objective(known(name), [relaxed])
    return found.value if isinstance(found, Score) else found.reason


def phase(formula):
    """The lowest known phase of a formula, as if it were a candidate."""
    reference = load_reference(NAME)
    (row,) = reference.phases[reference.phases["id"] == reference.known(formula)[0]].itertuples()
    structure = reference.structure(row.id)
    return Relaxed(structure, row.energy_per_atom * len(structure), True, 0, 0.0, potential=NAME)


def made_up(*symbols, energy=-4.0):
    edge = 4.0
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0]][: len(symbols)]
    return Relaxed(Structure(Lattice.cubic(edge), symbols, sites), energy * len(symbols), True, 0, 0.0, potential=NAME)


def test_elements_form_at_no_energy_and_salt_at_much():
    assert value("formation_energy", phase("Mg")) == pytest.approx(0.0, abs=1e-5)
    # Measured: -2.1 eV/atom (NIST-JANAF, -411 kJ/mol); the potential was trained on PBE with MP's corrections.
    assert value("formation_energy", phase("NaCl")) == pytest.approx(-2.1, abs=0.3)


def test_formation_and_hull_differ_by_the_hulls_own_energy_of_formation():
    # In Na-Cl only NaCl is on the hull at this composition.
    salt, other = phase("NaCl"), made_up("Na", "Cl", energy=-2.0)
    difference = value("formation_energy", other) - value("formation_energy", salt)
    assert difference == pytest.approx(value("energy_above_hull", other), abs=1e-5)


def test_a_stable_phase_does_not_compete_with_itself():
    salt = phase("NaCl")
    assert value("energy_above_hull", salt) == pytest.approx(0.0, abs=1e-5)
    # What it would fall apart into are mixtures with sodium and chlorine: nothing else is near in Na-Cl.
    assert value("formation_energy", salt) - 1e-5 <= value("decomposition_energy", salt) < -0.5


def test_where_no_phase_of_the_composition_is_on_the_hull_both_energies_agree():
    other = made_up("Na", "Na", "Na", "Cl", energy=-2.0)
    assert value("decomposition_energy", other) == pytest.approx(value("energy_above_hull", other), abs=1e-6)


def test_an_element_and_an_unknown_element_have_reasons():
    assert value("decomposition_energy", phase("Mg")) == "no_competitors"
    for name in ("formation_energy", "decomposition_energy", "novelty"):
        assert value(name, made_up("Rf", "O")) == "no_reference"


def test_salt_is_known_and_its_caesium_structure_of_other_atoms_is_not():
    assert value("novelty", phase("NaCl")) == 0.0
    assert value("novelty", made_up("Li", "Cs")) == 1.0


def test_distance_is_the_share_of_atoms_to_exchange():
    reference = load_reference(NAME)
    assert value("distance_to_known", phase("NaCl")) == 0.0
    formula = "LiCs"
    assert not reference.known(formula), "a composition that nobody listed"
    shares = Composition(formula).fractional_composition
    expected = min(
        sum(abs(shares[element] - other[element]) for element in set(shares) | set(other)) / 2
        for other in (Composition(one).fractional_composition for one in ("Li", "Cs", "Li3Cs", "LiCs3"))
        if reference.known(other.formula)
    )
    assert 0 < value("distance_to_known", made_up("Li", "Cs")) <= expected


def test_an_unconverged_or_foreign_crystal_is_not_held_against_the_hull():
    foreign = Relaxed(phase("NaCl").structure, -8.0, True, 0, 0.0, potential="another")
    with pytest.raises(Exception, match="another"):
        evaluate_objective(known("formation_energy"), [foreign])


def test_potentials_agree_on_salt_and_say_how_far():
    potential = load_potential(NAME, "cpu")
    objective = load_objective("hull_disagreement", ObjectiveContext(potential))
    assert objective.cost == "relaxation"
    (found,) = evaluate_objective(objective, [phase("NaCl")])
    assert 0 <= found.value < 0.03


@pytest.mark.parametrize("potentials", [[], "chgnet-r2scan", [NAME]])
def test_agreement_needs_other_potentials(potentials):
    context = ObjectiveContext(load_potential(NAME, "cpu"))
    with pytest.raises(ConfigError, match=r"must be a list of names other than chgnet-0\.3\.0"):
        load_objective("hull_disagreement", context, {"potentials": potentials})
