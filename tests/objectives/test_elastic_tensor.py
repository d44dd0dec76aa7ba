"""Elastic tensors of crystals: known stiffness is found, symmetry only saves work, failures are reasons."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from matsearch.objectives import ObjectiveContext, evaluate_objective, load_objective
from matsearch.objectives.elastic_tensor import elastic_tensors, strained
from matsearch.objectives.elasticity import rotated, strain_matrix, voigt_stress
from matsearch.potential import Potential, load_potential
from matsearch.records import Prediction, Rejection, Relaxed
from matsearch.relaxation import relax
from matsearch.units import EV_PER_A3_IN_GPA

HEXAGONAL = np.zeros((6, 6))
HEXAGONAL[:3, :3] = [[60.0, 26.0, 21.0], [26.0, 60.0, 21.0], [21.0, 21.0, 62.0]]
HEXAGONAL[3:, 3:] = np.diag([16.0, 16.0, 17.0])
MG = Structure.from_spacegroup("P6_3/mmc", Lattice.hexagonal(3.2, 5.2), ["Mg"], [[1 / 3, 2 / 3, 0.25]])


class Elastic(Potential):
    """Stress is linear in the strain from one cell; the atoms feel nothing."""

    name, energy_scale, device = "elastic", "none", "cpu"
    elements = frozenset({"Mg"})

    def __init__(self, cell, tensor):
        self.cell, self.tensor = cell, tensor / EV_PER_A3_IN_GPA
        self.n_asked = 0

    def predict(self, structures):
        self.n_asked += len(structures)
        predictions = []
        for one in structures:
            gradient = np.linalg.solve(self.cell, one.lattice.matrix)
            strain = (gradient @ gradient.T - np.eye(3)) / 2
            voigt = np.array([strain[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))])
            voigt[3:] *= 2
            stress = strain_matrix((self.tensor @ voigt) * [1, 1, 1, 2, 2, 2])
            energy = one.volume * voigt @ self.tensor @ voigt / 2
            predictions.append(Prediction(float(energy), np.zeros((len(one), 3)), stress))
        return predictions


def scores(name, crystals, potential):
    objective = load_objective(name, ObjectiveContext(potential=potential))
    return evaluate_objective(objective, [Relaxed(one, -1.0, True, 0, 0.0) for one in crystals])


def test_a_known_tensor_is_found_from_half_of_the_strains():
    potential = Elastic(MG.lattice.matrix, HEXAGONAL)
    (found,) = elastic_tensors([MG], potential)
    np.testing.assert_allclose(found.voigt, HEXAGONAL, atol=1e-3)
    assert found.n_strained == 12 and found.residual < 1e-3


def test_a_turned_crystal_has_the_turned_tensor():
    turn = Rotation.from_euler("xyz", [0.4, 1.0, -0.3]).as_matrix()
    crystal = Structure(Lattice(MG.lattice.matrix @ turn.T), MG.species, MG.frac_coords)
    (found,) = elastic_tensors([crystal], Elastic(crystal.lattice.matrix, rotated(HEXAGONAL, turn)))
    np.testing.assert_allclose(found.voigt, rotated(HEXAGONAL, turn), atol=0.05)


def test_a_strained_crystal_has_the_green_lagrange_strain_that_was_asked_for():
    voigt = np.array([0.01, -0.02, 0.0, 0.03, 0.0, -0.01])
    gradient = np.linalg.solve(MG.lattice.matrix, strained(MG, strain_matrix(voigt)).lattice.matrix)
    np.testing.assert_allclose((gradient @ gradient.T - np.eye(3)) / 2, strain_matrix(voigt), atol=1e-12)
    np.testing.assert_allclose(voigt_stress(strain_matrix(voigt)) * [1, 1, 1, 2, 2, 2], voigt)


def test_several_objectives_of_one_crystal_cost_one_tensor():
    potential = Elastic(MG.lattice.matrix, HEXAGONAL)
    (bulk,) = scores("bulk_modulus_vrh", [MG], potential)
    asked = potential.n_asked
    names = ["shear_modulus", "youngs_modulus", "poisson_ratio", "pugh_ratio", "elastic_anisotropy", "vickers_hardness"]
    values = {name: scores(name, [MG], potential)[0].value for name in [*names, "elastic_stability"]}
    assert potential.n_asked == asked
    assert bulk.value == pytest.approx(35.3, abs=0.1) and bulk.unit == "GPa"
    assert values["pugh_ratio"] == pytest.approx(bulk.value / values["shear_modulus"])
    assert values["elastic_stability"] == pytest.approx(32.0, abs=0.1)  # twice C44, in Mandel's notation


def test_a_crystal_that_gives_way_has_a_reason_and_no_moduli():
    soft = HEXAGONAL.copy()
    soft[3, 3] = soft[4, 4] = -5.0
    potential = Elastic(MG.lattice.matrix, soft)
    (refused,) = scores("shear_modulus", [MG], potential)
    assert isinstance(refused, Rejection) and refused.reason == "mechanically_unstable"
    assert scores("elastic_stability", [MG], potential)[0].value == pytest.approx(-10.0, abs=0.1)


def test_what_fails_in_one_crystal_leaves_the_others_theirs():
    lone = Structure(Lattice.cubic(20), ["Mg"], [[0, 0, 0]])
    potential = Elastic(MG.lattice.matrix, HEXAGONAL)
    first, second, third = elastic_tensors([MG, lone, MG], potential)
    assert second.reason == "elastic_relaxation_failed" and "isolated_atom" in second.detail
    np.testing.assert_array_equal(first.voigt, third.voigt)


def test_atoms_relax_in_the_strained_cell_and_symmetry_changes_nothing():
    potential = load_potential("chgnet-0.3.0", "cpu").double()
    rutile = Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.6, 2.96), ["Mg", "F"], [[0, 0, 0], [0.303, 0.303, 0]]
    )
    (relaxed,) = relax([rutile], potential, force_tol=0.003, max_steps=300, optimizer="lbfgs")
    (whole,) = elastic_tensors([relaxed.structure], potential, strains=(-0.005, 0.005), force_tol=5e-4)
    (clamped,) = elastic_tensors([relaxed.structure], potential, strains=(-0.005, 0.005), force_tol=10.0)
    assert whole.n_strained == 8
    assert clamped.moduli.shear_voigt > 1.02 * whole.moduli.shear_voigt
    # One atom off its place: no symmetry is found, and the atoms find their places again in each strained cell.
    broken = relaxed.structure.copy()
    broken.translate_sites([2], [0.01, 0.005, 0.004])
    (found,) = elastic_tensors([broken], potential, strains=(-0.005, 0.005), force_tol=5e-4)
    assert found.n_strained == 12
    np.testing.assert_allclose(found.voigt, whole.voigt, atol=0.005 * whole.voigt.max())


def test_on_the_network_a_turned_crystal_has_the_turned_tensor_where_strains_are_small():
    potential = load_potential("chgnet-0.3.0", "cpu").double()
    cell = Structure.from_spacegroup("F-43m", Lattice.cubic(5.4), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    (found,) = relax([cell.get_primitive_structure()], potential, 1e-4, 300, optimizer="lbfgs")
    crystal, turn = found.structure, Rotation.from_euler("xyz", [0.7, -0.4, 1.9]).as_matrix()
    turned = Structure(Lattice(crystal.lattice.matrix @ turn.T), crystal.species, crystal.frac_coords)
    one, other = elastic_tensors([crystal, turned], potential, strains=(-2e-4, 2e-4), force_tol=1e-5)
    np.testing.assert_allclose(other.voigt, rotated(one.voigt, turn), atol=1e-3 * one.voigt.max())
