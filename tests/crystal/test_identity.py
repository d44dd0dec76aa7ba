from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.crystal.fingerprint import fingerprint
from matsearch.crystal.identity import KnownStructures, primitive_cell, same_crystal, structure_hash, structure_matcher
from matsearch.crystal.text import from_json, from_poscar, to_json, to_poscar
from matsearch.crystal.tokens import TextError


def crystal(group: str, lattice: Lattice, species: list[str], coords: list[list[float]]) -> Structure:
    return Structure.from_spacegroup(group, lattice, species, coords)


ROCKSALT = crystal("Fm-3m", Lattice.cubic(4.8), ["Zn", "S"], [[0, 0, 0], [0.5, 0.5, 0.5]])
ZINCBLENDE = crystal("F-43m", Lattice.cubic(5.4), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]])
WURTZITE = crystal("P6_3mc", Lattice.hexagonal(3.82, 6.26), ["Zn", "S"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.375]])
RUTILE = crystal("P4_2/mnm", Lattice.tetragonal(4.6, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]])


def other_settings(structure: Structure) -> dict[str, Structure]:
    rng = np.random.default_rng(5)
    supercell = structure.copy()
    supercell.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    order = rng.permutation(len(structure))
    shuffled = Structure(
        structure.lattice, [structure[i].specie for i in order], structure.frac_coords[order] + [0.1, 0.2, 0.7]
    )
    left = Structure(
        Lattice(structure.lattice.matrix[[1, 0, 2]]), structure.species, structure.frac_coords[:, [1, 0, 2]]
    )
    strained = structure.copy()
    strained.apply_strain([0.02, -0.01, 0.01])
    strained.perturb(0.03, seed=1)
    return {
        "supercell": supercell,
        "primitive": structure.get_primitive_structure(),
        "shuffled and shifted": shuffled,
        "left-handed": left,
        "strained": strained,
    }


@pytest.mark.parametrize("name", ["supercell", "primitive", "shuffled and shifted", "left-handed", "strained"])
@pytest.mark.parametrize("structure", [ROCKSALT, WURTZITE, RUTILE], ids=["rocksalt", "wurtzite", "rutile"])
def test_other_settings_of_a_crystal_match_it(structure, name):
    known = KnownStructures()
    known.add("it", structure)
    assert known.match(other_settings(structure)[name]) == "it"


def test_polymorphs_do_not_match():
    known = KnownStructures()
    known.add(1, ROCKSALT)
    known.add(2, ZINCBLENDE)
    known.add(3, WURTZITE)
    assert [known.match(structure) for structure in (ROCKSALT, ZINCBLENDE, WURTZITE)] == [1, 2, 3]
    assert not same_crystal(ZINCBLENDE, WURTZITE)


def test_the_earliest_of_several_matches_wins():
    known = KnownStructures()
    for id in ("first", "second"):
        known.add(id, RUTILE.copy())
    assert known.match(RUTILE) == "first"
    assert len(known) == 2


def test_other_compositions_are_never_made():
    def fail() -> Structure:
        raise AssertionError("made for nothing")

    made = []

    def make() -> Structure:
        made.append(1)
        return ROCKSALT

    known = KnownStructures()
    known.add("oxide", fail, formula="Ti2O4")
    known.add("sulfide", make, formula="Zn4S4")
    assert not made
    assert known.match(ROCKSALT) == "sulfide"
    assert known.match(ROCKSALT) == "sulfide"
    assert len(made) == 1
    with pytest.raises(ValueError, match="formula"):
        known.add("nameless", make)


def test_noble_gases_and_elements_are_compared_too():
    known = KnownStructures()
    known.add("Xe", crystal("Fm-3m", Lattice.cubic(6.2), ["Xe"], [[0, 0, 0]]))
    known.add("He", crystal("Fm-3m", Lattice.cubic(4.2), ["He"], [[0, 0, 0]]))
    assert known.match(crystal("Fm-3m", Lattice.cubic(4.3), ["He"], [[0, 0, 0]])) == "He"
    assert known.match(crystal("Fm-3m", Lattice.cubic(4.3), ["Ne"], [[0, 0, 0]])) is None


@pytest.mark.parametrize("symbol", ["Tc", "Pm", "Pu", "Xe", "At", "Lr"])
def test_rare_elements_are_compared_like_all_others(symbol):
    known = KnownStructures()
    known.add("fcc", crystal("Fm-3m", Lattice.cubic(4.6), [symbol], [[0, 0, 0]]))
    known.add("bcc", crystal("Im-3m", Lattice.cubic(3.7), [symbol], [[0, 0, 0]]), formula=f"{symbol}2")
    supercell = crystal("Im-3m", Lattice.cubic(3.9), [symbol], [[0, 0, 0]])
    supercell.make_supercell([2, 1, 1])
    assert known.match(supercell) == "bcc"
    assert known.match(crystal("Pm-3m", Lattice.cubic(2.9), [symbol], [[0, 0, 0]])) is None


def test_shared_sites_are_refused_when_added_and_when_asked_for():
    alloy = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    known = KnownStructures()
    with pytest.raises(TextError, match="disordered"):
        known.add("alloy", alloy)
    for question in (known.match, known.match_any, primitive_cell):
        with pytest.raises(TextError, match="disordered"):
            question(alloy)
    with pytest.raises(TextError, match="disordered"):
        same_crystal(alloy, alloy)


def test_deuterium_is_hydrogen_as_it_is_to_structure_matcher():
    hydride, deuteride = (
        Structure(Lattice.cubic(4.0), ["Li", symbol], [[0, 0, 0], [0.5, 0.5, 0.5]]) for symbol in ("H", "D")
    )
    assert structure_matcher().fit(hydride, deuteride)
    assert same_crystal(hydride, deuteride)


def test_charges_on_species_do_not_matter():
    charged = ROCKSALT.copy()
    charged.add_oxidation_state_by_element({"Zn": 2, "S": -2})
    known = KnownStructures()
    known.add("neutral", ROCKSALT)
    assert known.match(charged) == "neutral"
    assert all(type(site.specie).__name__ == "Element" for site in primitive_cell(charged))


NICKELINE = crystal("P6_3/mmc", Lattice.hexagonal(3.6, 5.0), ["Zn", "S"], [[0, 0, 0], [1 / 3, 2 / 3, 0.25]])


@pytest.mark.parametrize("structure", [ROCKSALT, ZINCBLENDE, WURTZITE, NICKELINE])
def test_exchanged_species_match_exactly_where_structure_matcher_says_so(structure):
    swapped = structure.copy()
    swapped.replace_species({"Zn": "S", "S": "Zn"})
    expected = structure_matcher().fit(structure, swapped)
    assert same_crystal(structure, swapped) == expected
    assert expected == (structure is not NICKELINE)


def test_one_atom_and_a_hundred_and_twenty_atoms():
    simple = Structure(Lattice.cubic(3.35), ["Po"], [[0.3, 0.1, 0.7]])
    assert same_crystal(simple, Structure(Lattice.rhombohedral(3.4, 88), ["Po"], [[0, 0, 0]]))
    assert not same_crystal(simple, Structure(Lattice.rhombohedral(3.4, 60), ["Po"], [[0, 0, 0]]))
    rng = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(6), np.arange(4), indexing="ij"), axis=-1).reshape(-1, 3)
    coords = (grid + rng.uniform(-0.2, 0.2, grid.shape)) / [5, 6, 4]
    species = rng.permutation(["Mg"] * 25 + ["Si"] * 35 + ["O"] * 60)
    large = Structure(Lattice.from_parameters(12, 14.5, 9.6, 85, 95, 100), species, coords)
    order = rng.permutation(120)
    other = Structure(large.lattice, species[order], coords[order] + [0.3, 0.4, 0.1])
    other.perturb(0.1, seed=1)
    assert len(primitive_cell(large)) == 120
    assert same_crystal(large, other)
    assert not same_crystal(large, Structure(large.lattice, species[order], coords))


def test_a_reduced_crystal_is_not_reduced_again(monkeypatch):
    calls = []
    reduce = primitive_cell

    def count(structure: Structure) -> Structure:
        calls.append(structure)
        return reduce(structure)

    reference = {name: reduce(structure) for name, structure in {"zb": ZINCBLENDE, "wz": WURTZITE}.items()}
    monkeypatch.setattr("matsearch.crystal.identity.primitive_cell", count)
    known = KnownStructures()
    for name, structure in reference.items():
        known.add(name, structure.copy, formula="ZnS", reduced=True, fingerprint=fingerprint(structure))
    assert known.match(WURTZITE) == "wz"
    assert known.match_any(WURTZITE) == "wz"
    assert calls == [WURTZITE, WURTZITE]


def test_what_is_asked_for_and_then_added_is_reduced_once(monkeypatch):
    calls = []
    reduce = primitive_cell

    def count(structure: Structure) -> Structure:
        calls.append(structure)
        return reduce(structure)

    monkeypatch.setattr("matsearch.crystal.identity.primitive_cell", count)
    known = KnownStructures()
    for number, structure in enumerate((ZINCBLENDE, WURTZITE, ROCKSALT)):
        assert known.match(structure) is None
        known.add(number, structure)
    # The first was alone in its formula, so that it was not reduced before the second one came.
    assert calls == [WURTZITE, ZINCBLENDE, ROCKSALT]
    assert [known.match(structure) for structure in (ZINCBLENDE, WURTZITE, ROCKSALT)] == [0, 1, 2]


def test_any_match_is_the_one_with_the_nearest_fingerprint():
    known = KnownStructures()
    strained = RUTILE.copy()
    strained.apply_strain([0.05, -0.04, 0.03])
    strained.perturb(0.1, seed=2)
    known.add("strained", strained)
    known.add("it", RUTILE)
    known.add("again", RUTILE)
    assert known.match(RUTILE) == "strained"
    assert known.match_any(RUTILE) == "it"
    assert known.match_any(ROCKSALT) is None


def test_hash_depends_on_order_and_ignores_noise_below_a_millionth():
    base = structure_hash(RUTILE)
    noisy = Structure(RUTILE.lattice, RUTILE.species, RUTILE.frac_coords + 1e-9)
    minus_zero = Structure(RUTILE.lattice, RUTILE.species, np.where(RUTILE.frac_coords == 0, -0.0, RUTILE.frac_coords))
    moved = Structure(RUTILE.lattice, RUTILE.species, RUTILE.frac_coords + 1e-4)
    backwards = Structure(RUTILE.lattice, RUTILE.species[::-1], RUTILE.frac_coords[::-1])
    assert structure_hash(noisy) == structure_hash(minus_zero) == base
    assert len({base, structure_hash(moved), structure_hash(backwards)}) == 3
    charged = RUTILE.copy()
    charged.add_oxidation_state_by_element({"Ti": 4, "O": -2})
    assert structure_hash(charged) == base


def test_hash_is_the_same_on_every_machine():
    assert structure_hash(Structure(Lattice.cubic(4), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])) == (
        "463b00cfe74248584399e0a4e1ac0fae"
    )


def test_a_structure_read_back_from_its_text_has_the_same_hash():
    rng = np.random.default_rng(2)
    for _ in range(20):
        # Many numbers that lie within 5e-9 of the boundary between two roundings.
        coords = rng.integers(0, 10**6, (8, 3)) / 1e6 + 5e-7 + rng.uniform(-4e-9, 4e-9, (8, 3))
        lattice = Lattice(np.diag([5.0, 6.0, 7.0]) + rng.uniform(-1, 1, (3, 3)))
        structure = Structure(lattice, ["Fe", "O"] * 4, coords)
        for text in (from_json(to_json(structure)), from_poscar(to_poscar(structure))):
            assert structure_hash(text) == structure_hash(structure)
