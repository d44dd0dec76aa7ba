"""Elastic tensors: what symmetry leaves, how moduli follow, against pymatgen and worked numbers."""

import moyopy
import numpy as np
import pytest
from pymatgen.analysis.elasticity import ElasticTensor as TheirTensor
from pymatgen.core import Lattice
from scipy.spatial.transform import Rotation

from matsearch.objectives.elasticity import fit_tensor, invariant_basis, moduli, rotated, strain_directions

# Space group, a lattice of its system, independent constants (J. F. Nye, Physical Properties of Crystals, table 9).
SYSTEMS = {
    "triclinic": (2, Lattice.from_parameters(3, 4, 5, 80, 95, 100), 21),
    "monoclinic": (14, Lattice.monoclinic(3, 4, 5, 100), 13),
    "orthorhombic": (62, Lattice.orthorhombic(3, 4, 5), 9),
    "tetragonal 4/m": (88, Lattice.tetragonal(3, 5), 7),
    "tetragonal 4/mmm": (139, Lattice.tetragonal(3, 5), 6),
    "trigonal -3": (148, Lattice.hexagonal(3, 12), 7),
    "trigonal -3m": (166, Lattice.hexagonal(3, 12), 6),
    "hexagonal 6/m": (176, Lattice.hexagonal(3, 5), 5),
    "hexagonal 6/mmm": (194, Lattice.hexagonal(3, 5), 5),
    "cubic": (225, Lattice.cubic(4), 3),
}


def point_group(system):
    number, lattice, _ = SYSTEMS[system]
    operations = moyopy.operations_from_number(number, setting=moyopy.Setting.standard())
    columns = lattice.matrix.T
    return np.array([columns @ np.array(one) @ np.linalg.inv(columns) for one in operations.rotations])


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("turn", [np.eye(3), Rotation.from_euler("xyz", [0.3, -1.1, 2.0]).as_matrix()])
def test_a_tensor_of_the_right_number_of_constants_is_found_from_the_fewest_strains(system, turn):
    group = turn @ point_group(system) @ turn.T
    basis = invariant_basis(group)
    assert len(basis) == SYSTEMS[system][2]
    tensor = np.einsum("n,nij->ij", np.random.default_rng(1).normal(size=len(basis)), basis)
    for rotation in group:
        np.testing.assert_allclose(rotated(tensor, rotation), tensor, atol=1e-9)
    directions = strain_directions(basis)
    assert len(directions) * 6 >= len(basis)
    strains = np.concatenate([0.01 * np.eye(6)[directions], -0.01 * np.eye(6)[directions]])
    np.testing.assert_allclose(fit_tensor(strains, strains @ tensor, basis), tensor, atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.7])
@pytest.mark.parametrize("system", ["cubic", "hexagonal 6/mmm", "trigonal -3m", "tetragonal 4/m", "orthorhombic"])
def test_an_error_of_the_stresses_is_magnified_little_however_the_cell_is_turned(system, angle):
    turn = Rotation.from_euler("xyz", [angle, 0.7 * angle, -0.4 * angle]).as_matrix()
    basis = invariant_basis(turn @ point_group(system) @ turn.T)
    tensor = np.einsum("n,nij->ij", np.random.default_rng(3).normal(size=len(basis)), basis)
    strains = 0.01 * np.eye(6)[strain_directions(basis)]
    noise = np.random.default_rng(4).normal(scale=1e-5, size=strains.shape)
    found = fit_tensor(strains, strains @ tensor + noise, basis)
    assert np.abs(found - tensor).max() < 10 * 1e-5 / 0.01


def test_a_cubic_crystal_in_its_axes_needs_two_strains():
    assert strain_directions(invariant_basis(point_group("cubic"))) == [0, 3]


@pytest.mark.parametrize("system", ["cubic", "hexagonal 6/mmm", "orthorhombic", "triclinic"])
def test_moduli_are_those_of_pymatgen_and_do_not_depend_on_the_axes(system):
    basis = invariant_basis(point_group(system))
    isotropic = np.diag([260.0, 260.0, 260.0, 80.0, 80.0, 80.0])
    isotropic[:3, :3] += 100.0 * (1 - np.eye(3))
    noise = np.einsum("n,nij->ij", np.random.default_rng(2).normal(scale=10.0, size=len(basis)), basis)
    tensor = isotropic + noise
    theirs, ours = TheirTensor.from_voigt(tensor), moduli(tensor)
    expected = [theirs.k_voigt, theirs.k_reuss, theirs.g_voigt, theirs.g_reuss]
    found = [ours.bulk_voigt, ours.bulk_reuss, ours.shear_voigt, ours.shear_reuss]
    assert found == pytest.approx(expected, rel=1e-9)
    assert ours.universal_anisotropy == pytest.approx(theirs.universal_anisotropy, abs=1e-9)
    assert ours.poisson_ratio == pytest.approx(theirs.homogeneous_poisson, rel=1e-9)
    assert ours.young == pytest.approx(theirs.y_mod / 1e9, rel=1e-9)
    elsewhere = moduli(rotated(tensor, Rotation.from_euler("zxz", [1.0, 0.4, -0.7]).as_matrix()))
    assert elsewhere.bulk == pytest.approx(ours.bulk, rel=1e-9)
    assert elsewhere.shear_reuss == pytest.approx(ours.shear_reuss, rel=1e-9)
    assert elsewhere.least_stiffness == pytest.approx(ours.least_stiffness, rel=1e-9)


def test_hardness_of_diamond_by_the_published_moduli():
    # K 442, G 535 GPa: the model of Tian et al. gives about 97 GPa, measured 96.
    tensor = np.diag([1079.0] * 3 + [578.0] * 3)
    tensor[:3, :3] += 124.0 * (1 - np.eye(3))
    found = moduli(tensor)
    assert found.bulk == pytest.approx(442.3, abs=0.5)
    assert found.vickers_hardness() == pytest.approx(97, abs=4)


def test_a_crystal_that_gives_way_is_seen():
    tensor = np.diag([100.0, 100.0, 100.0, 50.0, 50.0, 50.0])
    tensor[:3, :3] += 120.0 * (1 - np.eye(3))  # C11 < C12
    assert moduli(tensor).least_stiffness == pytest.approx(-20.0)


def test_a_singular_tensor_is_refused():
    with pytest.raises(ValueError, match="singular"):
        moduli(np.zeros((6, 6)))
