"""A reference without some of its phases: they span no hull, stand in no list and match nothing."""

import numpy as np
import pytest
from made_up_phases import ROWS, BallPotential, row, write_phases
from pymatgen.core import Composition, Lattice, Structure

from matsearch.records import Relaxed
from matsearch.reference.build import build
from matsearch.reference.catalogue import read_catalogue
from matsearch.reference.energies import energies_path, read_energies
from matsearch.reference.hull import Hull
from matsearch.reference.known import Reference, fractions_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made_up") / "reference"
    rows = [*ROWS, row("a-10", 2.9, ["Li", "Mg"]), row("a-11", 3.6, ["Mg", "Mg", "O"])]
    source = write_phases(tmp_path_factory.mktemp("source") / "phases.parquet", rows)
    build(BallPotential("cpu"), folder, lambda text: None, source=str(source))
    name = BallPotential.name
    catalogue = read_catalogue(folder)
    return Reference(catalogue, *read_energies(energies_path(folder, name), name, catalogue))


def crystal(*species, edge=3.0):
    n = len(species)
    return Structure(Lattice.cubic(edge), species, [[site / n] * 3 for site in range(n)])


@pytest.mark.parametrize("names", [["MgO"], ["Mg2O2"], ["a-6", "a-7"], ["a-6", "Li2O2", "a-8"]])
def test_what_is_left_has_the_hull_of_what_is_left(whole, names):
    view = whole.hiding(names)
    assert view.hidden and not view.hidden & set(view.phases["id"])
    left = whole.phases[~whole.phases["id"].isin(view.hidden)].sort_values("id")
    amounts = [Composition(formula).get_el_amt_dict() for formula in left.formula]
    hull = Hull(*fractions_of(amounts, sorted(whole.elements)), left.energy_per_atom.to_numpy())
    assert sorted(view.phases["id"]) == list(left["id"])
    found = [view.energy_above_hull(row.formula, row.energy_per_atom) for row in left.itertuples()]
    np.testing.assert_allclose(found, hull.above(), atol=2e-6)
    assert view.energy_above_hull("MgO", 0.0) == pytest.approx(-hull.at({"Mg": 1, "O": 1}).energy, abs=2e-6)


def test_a_hidden_phase_matches_nothing_and_is_named_nowhere(whole):
    view, oxide = whole.hiding(["MgO"]), whole.structure("a-6")
    assert whole.match(oxide) == "a-6" and view.match(oxide) is None and view.whole.match(oxide) == "a-6"
    assert view.known("MgO") == [] and whole.known("MgO") == ["a-6", "a-7"]
    assert "MgO" in whole.decomposition("MgO") and "MgO" not in view.decomposition("MgO")
    assert view.energy_above_hull("MgO", -3.5) < whole.energy_above_hull("MgO", -3.5)
    assert whole.hiding(["MgO"]) is view and whole.hiding([]) is whole


def test_an_element_keeps_the_phase_that_energies_are_measured_from(whole):
    view = whole.hiding(["Li"])
    assert view.known("Li") == [] and view.match(whole.structure("a-1")) is None
    assert not {"a-1", "a-2"} & set(view.phases["id"])
    assert view.energy_above_hull("Li2O", -2.5) == whole.energy_above_hull("Li2O", -2.5)


def test_added_phases_leave_what_is_hidden_hidden(whole):
    structure = crystal("Ti", "Li")
    added = ("mine", Relaxed(structure, -20.0, True, 5, 0.01, potential=BallPotential.name))
    view = whole.hiding(["MgO", "LiTi"]).extended([added])
    assert view.match(structure) is None and view.whole.match(structure) == "mine"
    assert view.hidden == {"a-6", "a-7", "mine"} and "mine" not in set(view.phases["id"])
    assert set(view.decomposition("LiTi")) == {"Li", "Ti"}
    other = whole.hiding(["MgO"]).extended([added])
    assert set(other.decomposition("LiTi")) == {"LiTi"} and other.known("MgO") == []


def test_a_name_that_is_neither_id_nor_formula_is_refused(whole):
    with pytest.raises(ValueError, match="mp-none"):
        whole.hiding(["mp-none"])
