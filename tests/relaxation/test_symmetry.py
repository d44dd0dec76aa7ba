import tracemalloc

import moyopy
import numpy as np
import pytest
import torch
from pair_potentials import Morse
from pymatgen.core import Lattice, Structure

from matsearch.relaxation import relax
from matsearch.relaxation.rows import Rows
from matsearch.relaxation.symmetry import Projector, find_symmetry
from matsearch.testing.potential import example_crystals


def space_group(structure, symprec=1e-4):
    cell = moyopy.Cell(
        structure.lattice.matrix.tolist(), structure.frac_coords.tolist(), [site.specie.Z for site in structure]
    )
    return moyopy.MoyoDataset(cell, symprec=symprec).number


def rutile(noise=0.0):
    u = 0.29
    coords = [[0, 0, 0], [0.5, 0.5, 0.5], [u, u, 0], [-u, -u, 0], [0.5 + u, 0.5 - u, 0.5], [0.5 - u, 0.5 + u, 0.5]]
    structure = Structure(Lattice.tetragonal(5.4, 3.6), ["Mg"] * 2 + ["O"] * 4, coords)
    if noise:
        structure.perturb(noise, seed=3)
    return structure


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_the_space_group_of_the_start_is_kept_where_a_free_relaxation_breaks_it(noise):
    kept = relax([rutile(noise)], Morse(), fix_symmetry=True, force_tol=0.005, max_steps=300)[0]
    assert space_group(kept.structure) == 136
    free = relax([rutile(0.003)], Morse(), force_tol=0.005, max_steps=300)[0]
    assert space_group(free.structure) != 136
    assert kept.n_steps > 5


@pytest.mark.parametrize("optimizer", ["fire", "lbfgs"])
def test_symmetric_and_free_relaxation_meet_where_the_minimum_is_symmetric(optimizer):
    salt = example_crystals()[0].copy()
    ideal = Structure(salt.lattice, salt.species, np.round(salt.frac_coords * 2) / 2)
    tight = {"force_tol": 0.002, "optimizer": optimizer}
    free, kept = relax([ideal], Morse(), **tight)[0], relax([ideal], Morse(), fix_symmetry=True, **tight)[0]
    assert space_group(kept.structure) == space_group(ideal) == 225
    assert kept.energy == pytest.approx(free.energy, abs=1e-4)


def test_the_projection_keeps_symmetric_forces_and_repeats_itself():
    crystals = [rutile(), example_crystals()[2], example_crystals()[1]]  # the middle one is left-handed
    found = [find_symmetry(one.cart_coords, one.lattice.matrix, [site.specie.Z for site in one])[0] for one in crystals]
    assert [len(one.rotations) for one in found] == [16, found[1].rotations.shape[0], 1]
    rows = Rows.of([len(one) for one in crystals])
    projector = Projector(found)
    forces = torch.randn((len(rows.system_idx), 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    once = projector.forces(forces, rows)
    torch.testing.assert_close(projector.forces(once, rows), once)
    assert not torch.allclose(once[:9], forces[:9])
    torch.testing.assert_close(once[-7:], forces[-7:])  # no symmetry: nothing is taken out


def test_a_slightly_broken_crystal_is_made_exactly_symmetric():
    crystal = rutile(0.003)
    matrix = crystal.lattice.matrix @ (np.eye(3) + np.diag([1e-4, -1e-4, 0]))
    positions = crystal.frac_coords @ matrix
    symmetry, positions, cell = find_symmetry(positions, matrix, [site.specie.Z for site in crystal])
    assert len(symmetry.rotations) == 16
    assert space_group(Structure(cell, crystal.species, positions, coords_are_cartesian=True), 1e-7) == 136
    np.testing.assert_allclose(np.linalg.norm(cell[0]), np.linalg.norm(cell[1]), rtol=1e-12)
    identity = np.einsum("kij,klj->kil", symmetry.rotations, symmetry.rotations)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-10)


def test_a_supercell_keeps_its_group_without_a_warning(capfd):
    supercell = rutile() * (2, 1, 1)
    kept = relax([supercell], Morse(), fix_symmetry=True, force_tol=0.01)[0]
    assert kept.converged and space_group(kept.structure) == space_group(supercell)
    assert not capfd.readouterr().err


def test_a_supercell_of_many_operations_takes_little_memory_and_projects_as_the_mean_over_its_group():
    supercell = rutile() * (3, 3, 4)
    supercell.perturb(0.001, seed=1)
    positions, matrix = supercell.cart_coords, supercell.lattice.matrix
    tracemalloc.start()
    try:
        symmetry, positions, _ = find_symmetry(positions, matrix, [site.specie.Z for site in supercell])
        projector = Projector([symmetry])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert symmetry.images.shape == (16 * 36, 216)
    assert peak < 50e6  # bytes; a vector for every operation and pair of atoms would be 645 MB
    np.testing.assert_array_equal(np.sort(symmetry.images, axis=1), np.tile(np.arange(216), (16 * 36, 1)))

    forces = np.random.default_rng(0).normal(size=(216, 3))
    expected = np.zeros_like(forces)
    for rotation, image in zip(symmetry.rotations, symmetry.images, strict=True):
        expected[image] += forces @ rotation.T / len(symmetry.images)
    rows = Rows.of([216])
    packed = rows.pack(torch.as_tensor(forces), torch.zeros((1, 3, 3), dtype=torch.float64))
    atoms, _ = rows.unpack(projector.forces(packed, rows))
    np.testing.assert_allclose(atoms.numpy(), expected, atol=1e-13)
    assert np.abs(expected).max() > 0.01  # rutile lets its anions move


@pytest.mark.parametrize("cell", [[[3, 0, 0], [0, 3, 0], [0, 0, 90]], [[3, 0, 0], [14.9, 0.8, 0], [0.1, 7.2, 4]]])
def test_atoms_are_matched_across_the_faces_of_long_and_skewed_cells(cell):
    coords = np.array([[0, 0, 0.999999], [-1e-7, 0.5, 0.5], [0.3, 0.2, 1.1], [-0.3, -0.2, -1.1]])
    symmetry, positions, cell = find_symmetry(coords @ cell, np.array(cell, dtype=float), [8, 8, 12, 12])
    assert len(symmetry.rotations) > 1
    for rotation, image in zip(symmetry.rotations, symmetry.images, strict=True):
        # Equal but for a translation, the same for every atom.
        away = (positions @ rotation.T - positions[image]) @ np.linalg.inv(cell)
        away -= away[0]
        np.testing.assert_allclose(away, np.round(away), atol=1e-9)


def test_a_crystal_without_a_group_is_taken_as_it_is():
    positions = np.array([[0.0, 0.0, 0.0], [0.001, 0.0, 0.0]])  # closer than the tolerance
    symmetry, same, cell = find_symmetry(positions, 3 * np.eye(3), [13, 13])
    assert len(symmetry.rotations) == 1
    np.testing.assert_array_equal(same, positions)
    np.testing.assert_array_equal(cell, 3 * np.eye(3))
