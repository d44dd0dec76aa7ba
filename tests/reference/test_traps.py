"""Traps that references of known phases are known for, each held against the reference that ships."""

import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Species, Structure

from matsearch.crystal.cif import from_cif, to_cif
from matsearch.crystal.tokens import TextError
from matsearch.potential.names import load_potential
from matsearch.records import Rejection, Relaxed
from matsearch.reference import load_reference
from matsearch.reference.catalogue import read_catalogue
from matsearch.reference.known import shipped_folder
from matsearch.reference.sources import read_phases

NAME = "chgnet-0.3.0"
MISSING = ("Po", "At", "Rn", "Fr", "Ra")


@pytest.fixture(scope="module")
def reference():
    return load_reference(NAME)


@pytest.fixture(scope="module")
def heights(reference):
    return reference.phases.set_index("id").energy_above_hull


def symmetric(group, lattice, *sites):
    species, coords = zip(*sites, strict=True)
    return Structure.from_spacegroup(group, lattice, species, coords)


ROCK_SALT = symmetric("Fm-3m", Lattice.cubic(4.24), ("Mg", [0, 0, 0]), ("O", [0.5, 0.5, 0.5]))
RUTILE = symmetric("P4_2/mnm", Lattice.tetragonal(4.61, 2.97), ("Ti", [0, 0, 0]), ("O", [0.305, 0.305, 0]))
ANATASE = symmetric("I4_1/amd", Lattice.tetragonal(3.81, 9.6), ("Ti", [0, 0, 0]), ("O", [0, 0, 0.207]))
WURTZITE = symmetric("P6_3mc", Lattice.hexagonal(3.25, 5.21), ("Zn", [1 / 3, 2 / 3, 0]), ("O", [1 / 3, 2 / 3, 0.382]))
QUARTZ = symmetric("P3_121", Lattice.hexagonal(4.95, 5.45), ("Si", [0.47, 0, 1 / 3]), ("O", [0.413, 0.266, 0.214]))
CRYSTALS = {"MgO": ROCK_SALT, "rutile": RUTILE, "anatase": ANATASE, "ZnO": WURTZITE, "quartz": QUARTZ}


# Elements without an entry.


@pytest.mark.parametrize("symbol", MISSING)
def test_an_element_without_an_entry_is_named_and_nothing_crashes(reference, symbol):
    oxide = Structure(Lattice.cubic(5.0), [symbol, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert reference.uncovered([symbol, "O"]) == [symbol]
    for answer in (
        reference.energy_above_hull(oxide.composition, -5.0),
        reference.energy_above_hull(symbol, -1.0),
        reference.decomposition(f"{symbol}O2"),
        reference.height(Relaxed(oxide, -10.0, True, 1, 0.0, potential=NAME)),
    ):
        assert isinstance(answer, Rejection)
        assert answer.reason == "no_reference"
        assert f"no hull of known phases with {symbol} for {NAME}" in answer.detail
    assert reference.known(f"{symbol}O2") == []
    assert reference.match(oxide) is None


def test_every_element_is_covered_or_missing_for_a_reason(reference):
    listed, trained = read_catalogue(shipped_folder()).elements, load_potential(NAME, "cpu").elements
    assert reference.elements == listed & trained
    assert not set(MISSING) & listed


# Noble gases: formulas of elements without an electronegativity; a warning would fail these tests.


@pytest.mark.parametrize("symbol", ["He", "Ne", "Ar", "Kr", "Xe"])
def test_a_noble_gas_has_a_hull_and_known_crystals(reference, heights, symbol):
    lowest = reference.known(symbol)[0]
    assert heights[lowest] == 0.0
    assert reference.decomposition(f"{symbol}3") == {symbol: 1.0}
    assert reference.match(reference.structure(lowest)) in reference.known(symbol)
    assert isinstance(reference.energy_above_hull(f"{symbol}O2", -3.0), float)


def test_compounds_of_xenon_are_known_and_low(reference, heights):
    lowest = reference.known("F2Xe")[0]
    assert heights[lowest] < 0.05
    assert reference.match(reference.structure(lowest)) == lowest
    assert reference.known("XeF2") == reference.known("Xe2F4")


# Rare elements.


@pytest.mark.parametrize("symbol", ["Tc", "Pm", "Pu", "Ac", "Pa", "Np", "Th", "U", "Eu", "Yb"])
def test_a_rare_element_is_covered(reference, heights, symbol):
    assert reference.uncovered([symbol]) == []
    assert heights[reference.known(symbol)[0]] == 0.0


@pytest.mark.parametrize("formula", ["TcO2", "Pm2O3", "PuO2", "UO2", "ThO2", "YbO", "EuO"])
def test_oxides_of_rare_elements_are_near_the_hull(reference, heights, formula):
    assert heights[reference.known(formula)[0]] < 0.1
    assert set(reference.decomposition(formula)) != {"O2"}


# A formula in several polymorphs.


@pytest.mark.parametrize("formula", ["TiO2", "SiO2", "MgO", "Al2O3"])
def test_all_polymorphs_are_known_and_the_hull_is_that_of_the_lowest(reference, heights, formula):
    ids = reference.known(formula)
    assert len(ids) > 5
    own = [heights[one] for one in ids if one in heights.index]
    assert own == sorted(own)
    lowest = reference.phases.set_index("id").energy_per_atom[ids[0]]
    assert reference.energy_above_hull(formula, lowest) == pytest.approx(own[0], abs=5e-6)


def test_polymorphs_are_told_apart(reference):
    rutile, anatase = reference.match(RUTILE), reference.match(ANATASE)
    assert rutile in reference.known("TiO2") and anatase in reference.known("TiO2")
    assert rutile != anatase
    table = reference.phases.set_index("id")
    assert (table.spacegroup[rutile], table.spacegroup[anatase]) == (136, 141)


@pytest.mark.parametrize("formula", ["TiO2", "SiO2"])
def test_every_polymorph_is_known_to_itself(reference, formula):
    for phase_id in reference.known(formula)[:25]:
        found = reference.match(reference.structure(phase_id))
        assert found in reference.known(formula)


# Supercells, other settings, other hands, other orders of one crystal.


def other_handed(structure):
    lattice = Lattice(structure.lattice.matrix[[1, 0, 2]])
    return Structure(lattice, structure.species, structure.frac_coords[:, [1, 0, 2]])


def moved(structure):
    copy = structure.copy()
    copy.translate_sites(range(len(copy)), [0.311, 0.123, 0.777])
    return copy


def shuffled(structure):
    return Structure.from_sites(list(np.random.default_rng(0).permutation(structure.sites)))


def rattled(structure):
    copy = structure.copy()
    copy.perturb(0.02, seed=0)
    return copy


WRITTEN = {
    "primitive": lambda one: one.get_primitive_structure(),
    "conventional": lambda one: one,
    "Niggli": lambda one: one.get_reduced_structure(),
    "supercell": lambda one: one.make_supercell([2, 1, 2], in_place=False),
    "skew supercell": lambda one: one.make_supercell([[1, 1, 0], [-1, 1, 0], [0, 1, 2]], in_place=False),
    "other vectors": lambda one: one.make_supercell([[1, 1, 0], [0, 1, 0], [2, 0, 1]], in_place=False),
    "left-handed": other_handed,
    "left-handed supercell": lambda one: other_handed(one.make_supercell([1, 2, 1], in_place=False)),
    "mirrored": lambda one: Structure(Lattice(one.lattice.matrix * [-1, 1, 1]), one.species, one.frac_coords),
    "other origin": moved,
    "species mixed": shuffled,
    "species last first": lambda one: Structure.from_sites(one.sites[::-1]),
    "coordinates outside the cell": lambda one: Structure(one.lattice, one.species, one.frac_coords - [3, 0, -2]),
    "larger": lambda one: Structure(Lattice(one.lattice.matrix * 1.04), one.species, one.frac_coords),
    "rattled": rattled,
    "charged species": lambda one: Structure(
        one.lattice, [Species(site.symbol, -2 if site.symbol == "O" else 2) for site in one.species], one.frac_coords
    ),
    "read from a CIF": lambda one: from_cif(to_cif(one)),
}  # fmt: skip


@pytest.mark.parametrize("written", WRITTEN)
def test_a_known_crystal_is_not_novel_however_it_is_written(reference, written):
    for name, crystal in CRYSTALS.items():
        expected = reference.match(crystal)
        assert expected is not None, name
        assert reference.match(WRITTEN[written](crystal)) is not None, name
        if written not in ("larger", "rattled"):  # among look-alikes these may lie nearer to another
            assert reference.match(WRITTEN[written](crystal)) == expected, name


def test_the_same_places_with_exchanged_species_are_another_crystal(reference):
    other = {"Ti": "O", "O": "Ti"}
    antirutile = Structure(RUTILE.lattice, [other[one.symbol] for one in RUTILE.species], RUTILE.frac_coords)
    assert reference.match(antirutile) not in reference.known("TiO2")
    exchanged = Structure(ROCK_SALT.lattice, ROCK_SALT.species[::-1], ROCK_SALT.frac_coords)
    assert reference.match(exchanged) == reference.match(ROCK_SALT)  # its two places are alike


def test_another_structure_of_a_known_formula_is_novel(reference):
    chain = Structure(Lattice.tetragonal(4.0, 12.0), ["Mg", "O"], [[0, 0, 0], [0, 0, 0.16]])
    assert reference.match(chain) is None


# Disordered crystals, and hydrogen.


def test_a_disordered_crystal_is_a_typed_error_and_a_disordered_phase_a_rejection(reference, tmp_path):
    mixed = Structure(Lattice.cubic(4.24), [{"Mg": 0.5, "Ca": 0.5}, "O"], [[0, 0, 0], [0.5] * 3])
    with pytest.raises(TextError, match="disordered"):
        reference.match(mixed)
    mixed.to(str(tmp_path / "mixed.cif"))
    ((_, phase),) = read_phases(tmp_path / "mixed.cif")
    assert isinstance(phase, Rejection) and phase.reason == "disordered"


def test_heavy_hydrogen_is_hydrogen(reference):
    lithium_hydride = symmetric("Fm-3m", Lattice.cubic(4.02), ("Li", [0, 0, 0]), ("H", [0.5, 0.5, 0.5]))
    heavy = Structure(lithium_hydride.lattice, [s.symbol.replace("H", "D") for s in lithium_hydride.species],
                      lithium_hydride.frac_coords)  # fmt: skip
    assert reference.match(heavy) == reference.match(lithium_hydride) is not None
    assert reference.known("D2O") == reference.known("H2O") != []
    assert reference.energy_above_hull("D2O", -5.0) == reference.energy_above_hull("H2O", -5.0)


# Formulas that are hard to read.


@pytest.mark.parametrize("formula", ["Ti(NO3)4", "TiN4O12", "Ti1 N4 O12", "[Ti(NO3)4]2"])
def test_brackets_and_spaces_do_not_matter(reference, formula):
    assert "mp-30998" in reference.known(formula)
    assert reference.energy_above_hull(formula, -6.0) == reference.energy_above_hull(Composition("TiN4O12"), -6.0)
