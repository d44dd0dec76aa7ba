"""Packed crystals come back as they went in, whatever cell they were written in."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.crystal.identity import same_crystal
from matsearch.reference.packing import GRID, pack, unpack


def symmetric(group, lattice, *sites):
    species, coords = zip(*sites, strict=True)
    return Structure.from_spacegroup(group, lattice, species, coords)


ZIRCONIA = symmetric(
    "P2_1/c",
    Lattice.monoclinic(5.15, 5.21, 5.32, 99.2),
    ("Zr", [0.275, 0.04, 0.208]),
    ("O", [0.07, 0.332, 0.345]),
    ("O", [0.449, 0.757, 0.479]),
)


def sheared(structure):
    """Its centres of inversion are all that is left of its symmetry."""
    strain = np.array([[0.01, 0.02, 0.0], [0.0, -0.01, 0.015], [0.01, 0.0, 0.0]])
    return Structure(structure.lattice.matrix @ (np.eye(3) + strain), structure.species, structure.frac_coords)


def rattled(structure):
    moves = np.random.default_rng(1).normal(0, 0.03, (len(structure), 3))
    coords = structure.cart_coords + moves
    return Structure(structure.lattice, structure.species, coords, coords_are_cartesian=True)


CRYSTALS = {
    "P1": (1, rattled(sheared(ZIRCONIA))),
    "P-1": (2, sheared(ZIRCONIA)),
    "C2/m": (
        12,
        symmetric(
            "C2/m",
            Lattice.monoclinic(5.92, 10.22, 6.16, 108.0),
            ("Al", [0, 0.167, 0]),
            ("Cl", [0.226, 0, 0.219]),
            ("Cl", [0.247, 0.175, 0.781]),
        ),
    ),
    "P2_1/c": (14, ZIRCONIA),
    "Pnma": (
        62,
        symmetric(
            "Pnma",
            Lattice.orthorhombic(5.44, 7.64, 5.38),
            ("Ca", [0.036, 0.25, 0.993]),
            ("Ti", [0, 0, 0.5]),
            ("O", [0.484, 0.25, 0.071]),
            ("O", [0.289, 0.037, 0.711]),
        ),
    ),
    "P4_2/mnm": (
        136,
        symmetric("P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ("Ti", [0, 0, 0]), ("O", [0.305, 0.305, 0])),
    ),
    "I4_1/amd": (
        141,
        symmetric("I4_1/amd", Lattice.tetragonal(3.79, 9.51), ("Ti", [0, 0, 0]), ("O", [0, 0, 0.208])),
    ),
    "P3_121": (
        152,
        symmetric("P3_121", Lattice.hexagonal(4.91, 5.4), ("Si", [0.47, 0, 1 / 3]), ("O", [0.413, 0.266, 0.214])),
    ),
    "R-3m": (
        166,
        symmetric(
            "R-3m", Lattice.hexagonal(2.82, 14.05), ("Li", [0, 0, 0]), ("Co", [0, 0, 0.5]), ("O", [0, 0, 0.2395])
        ),
    ),
    "P6_3mc": (
        186,
        symmetric("P6_3mc", Lattice.hexagonal(3.25, 5.2), ("Zn", [1 / 3, 2 / 3, 0]), ("O", [1 / 3, 2 / 3, 0.382])),
    ),
    "P2_13": (
        198,
        symmetric("P2_13", Lattice.cubic(4.49), ("Fe", [0.136, 0.136, 0.136]), ("Si", [0.844, 0.844, 0.844])),
    ),
    "Fm-3m": (225, symmetric("Fm-3m", Lattice.cubic(4.21), ("Mg", [0, 0, 0]), ("O", [0.5, 0.5, 0.5]))),
    "Fd-3m": (227, symmetric("Fd-3m", Lattice.cubic(8.08), ("Mg", [1 / 8] * 3), ("Al", [0.5] * 3), ("O", [0.262] * 3))),
}


def shells(structure, n=8):
    """[n_atoms, n] the distances of each atom's nearest neighbours in Å, atoms in the order of atomic numbers."""
    centres, _, _, distances = structure.get_neighbor_list(6.0)
    rows = [(site.specie.Z, *sorted(distances[centres == index])[:n]) for index, site in enumerate(structure)]
    return np.array(sorted(rows))


def unimodular(seed):
    rng = np.random.default_rng(seed)
    matrix = np.eye(3, dtype=int)
    for _ in range(3):
        row, other = rng.permutation(3)[:2]
        matrix[row] += rng.choice([-1, 1]) * matrix[other]
    return matrix


def other_handed(structure):
    """The same crystal in a cell of the other hand."""
    lattice = Lattice(structure.lattice.matrix[[1, 0, 2]])
    return Structure(lattice, structure.species, structure.frac_coords[:, [1, 0, 2]])


WRITTEN = {
    "as listed": lambda one: one,
    "left-handed": other_handed,
    "supercell": lambda one: one.make_supercell([[2, 0, 0], [1, 1, 0], [0, 0, 1]], in_place=False),
    "other vectors": lambda one: one.make_supercell(unimodular(2), in_place=False),
    "other origin": lambda one: one.copy().translate_sites(range(len(one)), [0.237, 0.411, -0.871], to_unit_cell=False),
    "other order": lambda one: Structure.from_sites(list(np.random.default_rng(3).permutation(one.sites))),
    "oxidation states": lambda one: one.copy().add_oxidation_state_by_element(
        {element.symbol: 1 for element in one.composition}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize("written", WRITTEN)
def test_a_crystal_comes_back_in_its_primitive_cell(name, written):
    group, crystal = CRYSTALS[name]
    primitive = crystal.get_primitive_structure()
    packed = pack(WRITTEN[written](crystal))
    back = unpack(*packed)
    assert packed.group == group
    assert back.composition == primitive.composition
    assert back.volume == pytest.approx(primitive.volume, rel=1e-4)
    np.testing.assert_allclose(shells(back), shells(primitive), atol=3e-3)
    assert same_crystal(back, crystal)


def test_the_hand_of_a_chiral_crystal_stays():
    _, quartz = CRYSTALS["P3_121"]
    assert np.linalg.det(quartz.lattice.matrix) > 0 > np.linalg.det(other_handed(quartz).lattice.matrix)
    mirrored = Structure(Lattice(quartz.lattice.matrix * [1, 1, -1]), quartz.species, quartz.frac_coords)
    assert pack(other_handed(quartz)).group == pack(quartz).group == 152  # P3_121
    assert pack(mirrored).group == pack(other_handed(mirrored)).group == 154  # P3_221


def test_packing_what_was_unpacked_changes_nothing():
    for _, crystal in CRYSTALS.values():
        once = pack(crystal)
        twice = pack(unpack(*once))
        assert once.group == twice.group
        np.testing.assert_allclose(twice.lattice, once.lattice, atol=2)
        np.testing.assert_allclose(shells(unpack(*twice)), shells(unpack(*once)), atol=1e-3)


def test_special_positions_stay_exact():
    thirds = [[0, 0, 0], [1 / 3, 2 / 3, 0.25], [0.2, 0.125, 5 / 6], [1 / 7, 8 / 9, 0.9375]]
    species = ["Li", "O", "Mg", "Ti"]
    lattice = Lattice.from_parameters(5.1, 6.3, 7.7, 81.0, 97.0, 113.0)
    back = unpack(*pack(Structure(lattice, species, thirds)))
    offsets = np.array([back[[site.specie.symbol for site in back].index(one)].frac_coords for one in species])
    written = Structure(back.lattice, species, offsets)
    expected = Structure(lattice, species, thirds).distance_matrix
    np.testing.assert_allclose(written.distance_matrix, expected, atol=2e-4)  # the lattice is rounded, too


def test_general_positions_move_less_than_a_thousandth_of_an_angstrom():
    rng = np.random.default_rng(0)
    lattice = Lattice.from_parameters(9.1, 10.3, 12.7, 81.0, 97.0, 113.0)
    structure = Structure(lattice, ["O"] * 50, rng.uniform(-2, 2, (50, 3)))
    back = unpack(*pack(structure))
    assert len(back) == 50
    distances = [np.sort(one.get_neighbor_list(4.0)[3])[:600] for one in (back, structure)]
    np.testing.assert_allclose(*distances, atol=2e-3)
    assert back.volume == pytest.approx(structure.volume, rel=1e-5)


def test_a_coordinate_just_below_one_wraps_to_zero():
    structure = Structure(Lattice.from_parameters(4, 5, 6, 80, 95, 100), ["Li"], [[0.9999999, 0.0, 0.0]])
    packed = pack(structure)
    assert max(packed.coords) < GRID
    assert unpack(*packed).frac_coords == pytest.approx(np.zeros((1, 3)))


def test_atoms_nearer_than_the_grid_resolves_are_all_kept():
    close = Structure(Lattice.cubic(30.0), ["O", "O", "H"], [[0, 0, 0], [1e-5, 0, 0], [0.5, 0.5, 0.4]])
    back = unpack(*pack(close))
    assert back.composition == close.composition


def test_energies_move_less_than_a_fifth_of_a_millielectronvolt():
    from matsearch.potential import load_potential

    crystals = [one.get_primitive_structure() for _, one in CRYSTALS.values()]
    rng = np.random.default_rng(4)
    strained = [one.copy().apply_strain(rng.uniform(-0.02, 0.02, 3)) for one in crystals]
    potential = load_potential("chgnet-0.3.0", "cpu")
    # Some of these crystals are made up with atoms too close for any potential, which says so of both.
    all_given = potential.energies(crystals + strained)
    whole = [number for number, energy in enumerate(all_given) if isinstance(energy, float)]
    given = np.array([all_given[number] for number in whole])
    back = np.array(potential.energies([unpack(*pack((crystals + strained)[number])) for number in whole]))
    sizes = [len((crystals + strained)[number]) for number in whole]
    assert len(whole) > len(all_given) / 2
    np.testing.assert_array_less(np.abs(back - given) / sizes, 2e-4)
