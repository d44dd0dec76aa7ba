from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.crystal.fingerprint import fingerprint

ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.8), ["Zn", "S"], [[0, 0, 0], [0.5, 0.5, 0.5]])
ZINCBLENDE = Structure.from_spacegroup("F-43m", Lattice.cubic(5.4), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]])
RUTILE = Structure.from_spacegroup("P4_2/mnm", Lattice.tetragonal(4.6, 2.96), ["Ti", "O"], [[0] * 3, [0.305, 0.305, 0]])
ALL = [ROCKSALT, ZINCBLENDE, RUTILE]


def distance(first: Structure, second: Structure) -> int:
    return int(np.abs(fingerprint(first).astype(int) - fingerprint(second)).sum())


def random_crystal(seed: int, n_atoms: int) -> Structure:
    rng = np.random.default_rng(seed)
    lattice = Lattice(np.diag([5.0, 6.0, 7.0]) + rng.uniform(-1, 1, (3, 3)))
    return Structure(lattice, rng.choice(["Li", "Fe", "O"], n_atoms), rng.random((n_atoms, 3)))


@pytest.mark.parametrize("structure", [*ALL, *(random_crystal(seed, 9) for seed in range(4))])
def test_a_crystal_has_one_fingerprint_in_every_setting(structure):
    rng = np.random.default_rng(1)
    order = rng.permutation(len(structure))
    shuffled = Structure(
        structure.lattice, [structure[i].specie for i in order], structure.frac_coords[order] + rng.random(3)
    )
    left = Structure(
        Lattice(structure.lattice.matrix[[1, 0, 2]]), structure.species, structure.frac_coords[:, [1, 0, 2]]
    )
    supercell = structure.copy()
    supercell.make_supercell([[1, 1, 0], [0, 2, 0], [1, 0, 1]])
    for other in (shuffled, left, supercell, structure.get_primitive_structure()):
        assert (fingerprint(other) == fingerprint(structure)).all()


def test_a_fingerprint_is_twelve_bytes_without_scale_or_names():
    found = fingerprint(ROCKSALT)
    assert found.shape == (12,)
    assert found.dtype == np.uint8
    larger = ROCKSALT.copy()
    larger.scale_lattice(8 * ROCKSALT.volume)
    larger.replace_species({"Zn": "Cl", "S": "Na"})
    assert (fingerprint(larger) == found).all()


def test_a_perturbed_copy_is_nearer_than_another_crystal():
    for structure in ALL:
        copy = structure.copy()
        copy.apply_strain([0.02, -0.01, 0.01])
        copy.perturb(0.05, seed=1)
        nearest = min(distance(structure, other) for other in ALL if other is not structure)
        assert distance(structure, copy) < nearest / 2


def test_one_atom_and_a_needle_have_fingerprints():
    assert fingerprint(Structure(Lattice.cubic(3), ["Xe"], [[0, 0, 0]]))[6:].sum() == 0
    fingerprint(Structure(Lattice.orthorhombic(1, 1, 100), ["Xe"], [[0, 0, 0]]))
    fingerprint(Structure(Lattice.orthorhombic(1, 100, 100), ["Xe"], [[0, 0, 0]]))


@pytest.mark.parametrize("coordinate", [float("nan"), float("inf")])
def test_a_coordinate_that_is_no_number_is_refused(coordinate):
    with pytest.raises(ValueError, match="finite"):
        fingerprint(Structure(Lattice.cubic(3), ["Xe"], [[0, 0, coordinate]]))
