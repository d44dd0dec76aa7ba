from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.crystal.identity import KnownStructures, same_crystal, structure_hash
from matsearch.crystal.text import from_json, from_poscar, to_json, to_poscar


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
