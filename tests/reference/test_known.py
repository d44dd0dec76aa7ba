"""The reference that ships: complete, consistent with itself, and honest about what it does not cover."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from pymatgen.core import Composition

from matsearch.errors import MissingReferenceError
from matsearch.records import Rejection, Stage
from matsearch.reference import load_reference

NAME = "chgnet-0.3.0"
OXIDES = {"Li", "Mg", "Ti", "O"}


@pytest.fixture(scope="module")
def reference():
    return load_reference(NAME)


@pytest.fixture(scope="module")
def oxides(reference):
    """Rows of the Li-Mg-Ti-O phases."""
    within = [{e.symbol for e in Composition(f).elements} <= OXIDES for f in reference.phases.formula]
    return reference.phases[within]


def test_the_oxides_of_the_examples_are_covered(reference):
    assert reference.elements >= OXIDES
    assert (reference.potential, reference.energy_scale) == (NAME, "mp2020")
    assert "CC-BY 4.0" in reference.attribution


def test_every_covered_element_has_a_phase_on_the_hull(reference):
    stable = reference.phases[reference.phases.energy_above_hull == 0.0]
    pure = {Composition(f).elements[0].symbol for f in stable.formula if len(Composition(f)) == 1}
    assert pure == reference.elements


def test_phases_on_the_hull_are_relaxed_save_a_few_that_did_not_converge(reference):
    stable = reference.phases[reference.phases.energy_above_hull == 0.0]
    assert (~stable.relaxed).mean() < 0.01


def test_hull_energies_equal_those_of_pymatgen(reference, oxides):
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

    entries = [
        PDEntry(Composition(row.formula), row.energy_per_atom * Composition(row.formula).num_atoms)
        for row in oxides.itertuples()
    ]
    diagram = PhaseDiagram(entries)
    expected = np.array([diagram.get_e_above_hull(entry) for entry in entries])
    asked = np.array([reference.energy_above_hull(row.formula, row.energy_per_atom) for row in oxides.itertuples()])
    np.testing.assert_allclose(asked, expected, atol=5e-6)
    np.testing.assert_allclose(oxides.energy_above_hull, expected, atol=5e-6)


def test_no_phase_lies_below_the_hull_and_stable_ones_lie_on_it(reference):
    sample = itertools.islice(reference.phases.itertuples(), 0, None, 10)
    for row in sample:
        height = reference.energy_above_hull(row.formula, row.energy_per_atom)
        assert height == pytest.approx(row.energy_above_hull, abs=5e-6)
        assert row.energy_above_hull >= 0.0


@pytest.mark.parametrize("formula", ["MgO", "Li2O", "TiO2", "Mg2TiO4"])
def test_compounds_that_exist_are_within_30_mev_of_the_hull(reference, formula):
    lowest = reference.phases.set_index("id").loc[reference.known(formula)[0]]
    assert lowest.energy_above_hull < 0.03


def test_a_new_low_energy_lies_below_the_hull(reference):
    stable = reference.phases.set_index("id").loc[reference.known("MgO")[0]]
    assert reference.energy_above_hull(Composition("Mg4O4"), stable.energy_per_atom - 0.1) == pytest.approx(
        stable.energy_above_hull - 0.1, abs=5e-6
    )


def test_an_uncovered_element_is_a_rejection_that_names_it(reference):
    for answer in (reference.energy_above_hull("LiPuO2", -5.0), reference.decomposition("LiPuO2")):
        assert isinstance(answer, Rejection)
        assert (answer.stage, answer.reason) == (Stage.SCORE, "no_reference")
        assert "with Pu for" in answer.detail
        assert "Li, " in answer.detail.split("covered:")[1]
    assert reference.uncovered(["Pu", "Li"]) == ["Pu"]


def test_a_metastable_composition_decomposes_into_stable_phases_of_the_same_composition(reference):
    products = reference.decomposition("Li3MgTi5O2")
    assert sum(products.values()) == pytest.approx(1.0)
    assert len(products) > 1
    total = sum((Composition(f).fractional_composition * share for f, share in products.items()), Composition())
    assert total.almost_equals(Composition("Li3MgTi5O2").fractional_composition, rtol=0, atol=1e-5)
    for formula in products:
        assert reference.phases.set_index("id").loc[reference.known(formula)[0]].energy_above_hull == 0.0


def test_oxidation_states_do_not_change_the_answer(reference):
    charged = Composition({"Mg2+": 1, "O2-": 1})
    assert reference.energy_above_hull(charged, -5.0) == reference.energy_above_hull("MgO", -5.0)


def test_structures_hold_the_atoms_they_state(reference):
    for row in reference.phases.iloc[::50].itertuples():
        structure = reference.structure(row.id)
        assert len(structure) == row.n_atoms
        assert structure.composition.reduced_formula == row.formula


def test_stored_energies_are_those_of_the_stored_structures(reference, oxides):
    from matsearch.potential import load_potential

    relaxed = oxides[oxides.relaxed & (oxides.n_atoms <= 12)].iloc[:: max(1, len(oxides) // 40)].head(6)
    listed = oxides[~oxides.relaxed & (oxides.n_atoms <= 12)].head(3)
    potential = load_potential(NAME, device="cpu")
    for rows, tolerance in ((relaxed, 0.001), (listed, 0.001)):
        predictions = potential.predict([reference.structure(phase_id) for phase_id in rows["id"]])
        energies = [p.energy / n for p, n in zip(predictions, rows.n_atoms, strict=True)]
        np.testing.assert_allclose(energies, rows.energy_per_atom, atol=tolerance)


def test_seeds_come_lowest_first_within_the_elements_and_size(reference):
    seeds = reference.select(OXIDES, max_atoms=12)
    heights = [(seed.energy_above_hull, seed.id) for seed in seeds]
    assert heights == sorted(heights)
    assert len(seeds) > 100
    for seed in seeds:
        assert len(seed.structure) <= 12
        assert {e.symbol for e in seed.structure.composition.elements} <= OXIDES
    assert {seed.formula for seed in reference.select(["Mg", "O"])} >= {"Mg", "O2", "MgO"}


def test_known_formulas_are_found_however_written(reference):
    assert reference.known("O2Ti") == reference.known("Ti4O8") != []
    assert reference.known("Pu") == []


def test_a_potential_without_a_reference_is_told_which_have_one():
    with pytest.raises(MissingReferenceError, match=r"chgnet-0\.3\.0"):
        load_reference("no-such-potential")


def test_importing_the_room_imports_none_of_the_heavy_libraries():
    code = (
        "import sys, matsearch.reference\n"
        "print([name for name in ('torch', 'pandas', 'pymatgen', 'pyarrow', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
