"""Questions to a reference: of the one that ships, and of a made-up one that is small enough to check by hand."""

import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from made_up_phases import ROWS, BallPotential, DeepBallPotential, row, write_phases
from pymatgen.core import Composition, Lattice, Structure

from matsearch.errors import MissingReferenceError, MixedHullError
from matsearch.records import Rejection, Relaxed, Stage
from matsearch.reference import load_reference
from matsearch.reference.build import build
from matsearch.reference.catalogue import amounts_in, read_catalogue
from matsearch.reference.energies import energies_path, read_energies
from matsearch.reference.hull import Hull
from matsearch.reference.known import Reference, fractions_of, shipped_folder

NAME = "chgnet-0.3.0"
OXIDES = {"Li", "Mg", "Ti", "O"}


@pytest.fixture(scope="module")
def reference():
    return load_reference(NAME)


@pytest.fixture(scope="module")
def oxides(reference):
    """Rows of the Li-Mg-Ti-O phases."""
    return reference.phases[[amounts_in(formula).keys() <= OXIDES for formula in reference.phases.formula]]


@pytest.fixture(scope="module")
def sample(reference):
    """Some rows, of every height."""
    return reference.phases.iloc[:: max(1, len(reference.phases) // 150)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made_up") / "reference"
    rows = [
        *ROWS,
        row("a-10", 2.9, ["Li", "Mg"]),
        row("a-11", 2.9, ["Ti", "O"]),
        row("a-12", 20.0, ["Mg", "Mg", "Mg", "O"]),  # its relaxation is rejected
        row("a-13", 3.0, ["Xe"]),  # the potential does not know it
    ]
    source = write_phases(tmp_path_factory.mktemp("source") / "phases.parquet", rows)
    build(BallPotential("cpu"), folder, lambda text: None, source=str(source))
    return folder


@pytest.fixture
def small(folder):
    catalogue = read_catalogue(folder)
    name = BallPotential.name
    return Reference(catalogue, *read_energies(energies_path(folder, name), name, catalogue))


def crystal(*species, edge=3.0):
    n = len(species)
    return Structure(Lattice.cubic(edge), species, [[site / n] * 3 for site in range(n)])


def relaxed(structure, energy_per_atom, potential=BallPotential.name, converged=True):
    return Relaxed(structure, energy_per_atom * len(structure), converged, 5, 0.01, potential=potential)


def test_the_oxides_of_the_examples_are_covered(reference):
    assert reference.elements >= OXIDES
    assert (reference.potential, reference.energy_scale) == (NAME, "mp2020")
    assert "CC-BY 4.0" in reference.attribution


def test_every_covered_element_has_a_phase_on_the_hull(reference):
    stable = reference.phases[reference.phases.energy_above_hull == 0.0]
    amounts = [amounts_in(formula) for formula in stable.formula]
    assert {symbol for one in amounts if len(one) == 1 for symbol in one} == reference.elements


def test_what_is_near_the_hull_and_not_relaxed_is_counted(reference):
    """Unless it was tried in vain; a phase within rounding of the limit may fall on either side."""
    catalogue = read_catalogue(shipped_folder())
    table = read_energies(energies_path(shipped_folder(), NAME), NAME, catalogue)[0]
    table = table.select(["energy_above_hull", "relaxed", "unconverged"]).to_pandas()
    within = json.loads(reference.protocol)["within"]
    near = (table.energy_above_hull <= (math.inf if within is None else within)) & ~table.relaxed & ~table.unconverged
    assert near.sum() == pytest.approx(reference.n_pending, abs=5)


def test_every_phase_without_an_energy_says_why(reference):
    catalogue = read_catalogue(shipped_folder())
    table = read_energies(energies_path(shipped_folder(), NAME), NAME, catalogue)[0].to_pandas()
    assert (table.energy_per_atom.isna() == table.failure.notna()).all()
    assert (table.energy_above_hull.isna() == table.failure.notna()).all()
    covered = sum(amounts.keys() <= reference.elements for amounts in catalogue.amounts)
    assert len(table) >= covered
    assert table.failure.notna().mean() < 0.01


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


def test_no_phase_lies_below_the_hull_and_stable_ones_lie_on_it(reference, sample):
    for phase in sample.itertuples():
        height = reference.energy_above_hull(phase.formula, phase.energy_per_atom)
        assert height == pytest.approx(phase.energy_above_hull, abs=5e-6)
        assert phase.energy_above_hull >= 0.0


def test_new_chemical_systems_of_up_to_six_elements_have_a_hull(reference):
    rng = np.random.default_rng(0)
    symbols = sorted(reference.elements)
    for _ in range(30):
        system = rng.choice(symbols, rng.integers(2, 7), replace=False)
        asked = Composition({str(symbol): int(rng.integers(1, 6)) for symbol in system})
        shares = reference.decomposition(asked)
        assert sum(shares.values()) == pytest.approx(1.0)
        parts = [Composition(formula).fractional_composition * share for formula, share in shares.items()]
        mixed = sum(parts, Composition())
        assert mixed.almost_equals(asked.fractional_composition, rtol=0, atol=1e-5)
        assert reference.energy_above_hull(asked, 0.0) > -1.0


@pytest.mark.parametrize("formula", ["MgO", "Li2O", "TiO2", "Mg2TiO4"])
def test_compounds_that_exist_are_within_30_mev_of_the_hull(reference, formula):
    lowest = reference.phases.set_index("id").loc[reference.known(formula)[0]]
    assert lowest.energy_above_hull < 0.03


def test_a_new_low_energy_lies_below_the_hull(reference):
    stable = reference.phases.set_index("id").loc[reference.known("MgO")[0]]
    assert reference.energy_above_hull(Composition("Mg4O4"), stable.energy_per_atom - 0.1) == pytest.approx(
        stable.energy_above_hull - 0.1, abs=5e-6
    )


def test_an_uncovered_element_is_a_rejection_that_names_it(small):
    for answer in (small.energy_above_hull("LiPuO2", -5.0), small.decomposition("LiPuO2")):
        assert isinstance(answer, Rejection)
        assert (answer.stage, answer.reason) == (Stage.SCORE, "no_reference")
        assert "with Pu for" in answer.detail
        assert "Li, " in answer.detail.split("covered:")[1]
    assert small.uncovered(["Pu", "Li"]) == ["Pu"]


def test_oxidation_states_do_not_change_the_answer(reference):
    charged = Composition({"Mg2+": 1, "O2-": 1})
    assert reference.energy_above_hull(charged, -5.0) == reference.energy_above_hull("MgO", -5.0)


def test_structures_hold_the_atoms_they_state(reference, sample):
    for phase in sample.itertuples():
        structure, formula = reference.structure(phase.id), Composition(phase.formula)
        assert len(structure) == phase.n_atoms
        assert structure.composition == formula * (phase.n_atoms / formula.num_atoms)


def test_stored_energies_are_those_of_the_stored_structures(reference, oxides):
    from matsearch.potential import load_potential

    few = oxides[oxides.n_atoms <= 12]
    rows = [few[few.relaxed].iloc[:: max(1, len(few) // 12)], few[~few.relaxed].head(3)]
    potential = load_potential(NAME, device="cpu")
    for part in rows:
        energies = potential.energies([reference.structure(phase_id) for phase_id in part["id"]])
        np.testing.assert_allclose(np.array(energies) / part.n_atoms, part.energy_per_atom, atol=1e-3)


def test_phases_come_lowest_first_then_by_id(reference):
    keys = list(zip(reference.phases.energy_above_hull, reference.phases["id"], strict=True))
    assert keys == sorted(keys)


@pytest.mark.parametrize("written", ["O2Ti", "Ti4O8", "TiO2", "Ti2 O4", "(TiO2)3", "Ti(O)2"])
def test_known_formulas_are_found_however_written(reference, written):
    assert reference.known(written) == reference.known("TiO2") != []


def test_a_formula_with_brackets_is_the_one_without(reference):
    assert "mp-30998" in reference.known("Ti(NO3)4")
    assert reference.known("Ti(NO3)4") == reference.known("TiN4O12") == reference.known("N8O24Ti2")
    assert reference.match(reference.structure("mp-30998")) == "mp-30998"


def test_known_phases_come_lowest_first_and_those_without_an_energy_last(small):
    assert small.known("Mg2O2") == ["a-6", "a-7"]
    assert small.known("Mg3O") == ["a-12"]
    assert small.known("Xe") == ["a-13"]
    assert small.known("Li7O") == []


def test_a_phase_is_matched_as_listed_and_as_relaxed(small):
    listed = Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0] * 3, [0.5] * 3])
    assert small.match(listed) == small.match(small.structure("a-6")) == "a-6"
    assert small.match(crystal("Xe")) == "a-13"
    assert small.match(Structure(Lattice.tetragonal(3.0, 9.0), ["Mg", "O"], [[0, 0, 0], [0, 0, 0.2]])) is None
    assert small.match(crystal("Ac", "O")) is None


def test_an_energy_of_another_potential_is_refused_and_both_are_named(small):
    with pytest.raises(MixedHullError, match=rf"relaxed by chgnet-r2scan .* hull of {BallPotential.name}"):
        small.height(relaxed(crystal("Mg"), -2.0, "chgnet-r2scan"))
    with pytest.raises(MixedHullError, match="a potential without a name"):
        small.height(relaxed(crystal("Mg"), -2.0, ""))
    assert small.height(relaxed(crystal("Mg"), -1.9)) == pytest.approx(0.1, abs=0.01)
    assert isinstance(small.height(relaxed(crystal("Xe"), -1.9)), Rejection)


def test_a_mixture_falls_apart_into_its_neighbours_by_shares_of_atoms(small):
    shares = small.decomposition("Mg2O3")
    assert list(shares) == ["MgO", "O2"]
    assert shares == pytest.approx({"MgO": 0.8, "O2": 0.2})


def brute_force(reference):
    """Heights of all phases over a hull of all phases."""
    rows = reference.phases
    hull = Hull(
        *fractions_of([amounts_in(one) for one in rows.formula], sorted(reference.elements)),
        rows.energy_per_atom.to_numpy(),
    )
    return hull.above()


def test_a_lower_phase_of_ones_own_raises_what_lies_above_it(small):
    before = small.phases.set_index("id").energy_above_hull
    wider = small.extended([("mine/1", relaxed(crystal("Li", "Mg", "Mg"), -4.0))])
    after = wider.phases.set_index("id").energy_above_hull
    assert after["mine/1"] == 0.0
    assert after["a-10"] > before["a-10"] + 0.1  # LiMg
    assert after["a-8"] >= before["a-8"]
    assert after[["a-3", "a-5", "a-6"]].equals(before[["a-3", "a-5", "a-6"]])  # Mg, LiO, MgO know nothing of it
    np.testing.assert_allclose(wider.phases.energy_above_hull, brute_force(wider), atol=2e-6)
    assert wider.energy_above_hull("LiMg2", -4.0) == pytest.approx(0.0, abs=1e-6)
    assert wider.decomposition("Li2Mg4") == {"LiMg2": 1.0} or wider.decomposition("Li2Mg4") == {"Mg2Li": 1.0}
    assert small.phases.set_index("id").energy_above_hull.equals(before)
    assert small.decomposition("LiMg2").keys() != wider.decomposition("LiMg2").keys()


def test_a_lower_element_of_ones_own_raises_all_its_compounds(small):
    wider = small.extended([("mine/1", relaxed(crystal("O", edge=2.3), -5.0))])
    np.testing.assert_allclose(wider.phases.energy_above_hull, brute_force(wider), atol=2e-6)
    assert wider.phases.set_index("id").energy_above_hull["a-4"] == pytest.approx(1.0, abs=0.02)


def test_a_high_phase_of_ones_own_is_known_and_changes_nothing_else(small):
    mine = Structure(Lattice.tetragonal(3.0, 9.0), ["Mg", "O"], [[0, 0, 0], [0, 0, 0.2]])
    wider = small.extended([("mine/1", relaxed(mine, -1.0))])
    rest = wider.phases[wider.phases["id"] != "mine/1"].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, small.phases)
    np.testing.assert_allclose(wider.phases.energy_above_hull, brute_force(wider), atol=2e-6)
    assert wider.match(mine) == "mine/1" and small.match(mine) is None
    assert wider.known("MgO") == ["a-6", "mine/1", "a-7"] or wider.known("MgO") == ["a-6", "a-7", "mine/1"]
    assert wider.structure("mine/1") == mine


def test_phases_of_ones_own_can_be_added_one_after_the_other(small):
    first = ("mine/1", relaxed(crystal("Li", "Mg", "Mg"), -4.0))
    second = ("mine/2", relaxed(crystal("Ti", "Mg"), -9.0))
    at_once, in_turn = small.extended([first, second]), small.extended([first]).extended([second])
    assert at_once.phases.equals(in_turn.phases)
    assert in_turn.match(crystal("Ti", "Mg")) == "mine/2"


def test_phases_that_cannot_join_are_refused(small):
    good = relaxed(crystal("Li", "Mg", "Mg"), -4.0)
    with pytest.raises(ValueError, match="called 'a-6' already"):
        small.extended([("a-6", good)])
    with pytest.raises(ValueError, match="called 'mine' already"):
        small.extended([("mine", good), ("mine", good)])
    with pytest.raises(ValueError, match="called 'mine' already"):
        small.extended([("mine", good)]).extended([("mine", good)])
    with pytest.raises(ValueError, match="not relaxed to convergence"):
        small.extended([("mine", relaxed(good.structure, -4.0, converged=False))])
    with pytest.raises(ValueError, match="holds Xe, and no hull"):
        small.extended([("mine", relaxed(crystal("Xe"), -4.0))])
    with pytest.raises(MixedHullError, match=r"chgnet-r2scan.*BallPotential"):
        small.extended([("mine", relaxed(good.structure, -4.0, "chgnet-r2scan"))])


def test_a_potential_without_a_reference_is_told_which_have_one(folder, tmp_path):
    with pytest.raises(MissingReferenceError, match=r"potentials that have one: .*chgnet-0\.3\.0"):
        load_reference("no-such-potential")
    with pytest.raises(MissingReferenceError, match=rf"in {folder}; .* one: {BallPotential.name}\. Make it with"):
        load_reference(DeepBallPotential.name, folder)
    with pytest.raises(MissingReferenceError, match="potentials that have one: none"):
        load_reference(NAME, tmp_path)


def test_a_reference_is_read_once_unless_it_was_built_anew(folder):
    name = BallPotential.name
    first = load_reference(name, folder)
    assert load_reference(name, str(folder)) is first
    path = energies_path(folder, name)
    path.write_bytes(path.read_bytes())
    assert load_reference(name, folder) is not first


def test_importing_the_room_imports_none_of_the_heavy_libraries():
    code = (
        "import sys, matsearch.reference\n"
        "print([name for name in ('torch', 'pandas', 'pymatgen', 'pyarrow', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_hull_query_needs_no_structures(reference, monkeypatch):
    monkeypatch.setattr("matsearch.reference.packing.unpack", None)
    for first, second in itertools.pairwise(sorted(reference.elements)[:6]):
        assert isinstance(reference.energy_above_hull(f"{first}{second}2", -5.0), float)


def test_what_did_not_converge_has_no_height(reference):
    salt = reference.structure(reference.known("NaCl")[0])
    unfinished = Relaxed(salt, -3.0 * len(salt), False, 500, 1.0, potential=reference.potential)
    answer = reference.height(unfinished)
    assert isinstance(answer, Rejection)
    assert answer.reason == "unconverged"
