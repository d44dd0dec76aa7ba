"""Supply, price and poison: worked numbers, and a reason where a table has a gap."""

import pytest
from pymatgen.core import Lattice, Structure

from matsearch.objectives import ObjectiveContext, evaluate_objective, load_objective
from matsearch.records import Rejection, Relaxed


def value(name, first, second):
    crystal = Structure(Lattice.cubic(4), [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]])
    objective = load_objective(name, ObjectiveContext(potential=None))
    (result,) = evaluate_objective(objective, [Relaxed(crystal, -1.0, True, 0, 0.0)])
    return result if isinstance(result, Rejection) else result.value


def test_indices_of_concentration_are_means_over_the_mass():
    # Gaultois et al. list 1600 for Al, 500 for O (production).
    shares = {"Al": 26.982 / 42.981, "O": 15.999 / 42.981}
    expected = sum(share * {"Al": 1600.0, "O": 500.0}[symbol] for symbol, share in shares.items())
    assert value("hhi_production", "Al", "O") == pytest.approx(expected, rel=1e-3)
    assert value("hhi_production", "Nd", "Fe") > 3 * value("hhi_production", "Al", "Fe")


def test_the_price_of_gold_shows():
    assert value("element_cost", "Au", "Cu") > 100 * value("element_cost", "Fe", "Al")


def test_a_gap_in_a_table_is_a_reason():
    result = value("hhi_reserve", "Pu", "O")
    assert isinstance(result, Rejection) and result.reason == "no_data" and "Pu" in result.detail


def test_toxic_mass_is_the_share_of_listed_elements():
    assert value("toxic_mass_fraction", "Na", "Cl") == 0.0
    assert value("toxic_mass_fraction", "Pb", "O") == pytest.approx(207.2 / 223.2, rel=1e-3)
