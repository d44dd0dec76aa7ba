"""Large crystals, by conjugate gradients, against the same ones by matrices."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from matsearch.errors import PotentialError
from matsearch.potential import load_potential
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.pqeq import Conditions, PQEq
from matsearch.potential.response import shell_response
from matsearch.testing.potential import example_crystals


@pytest.fixture(scope="module")
def potential() -> PQEq:
    return load_potential("pqeq", "cpu")


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch):
    """Has every crystal treated as a large one from then on."""
    return lambda: monkeypatch.setattr("matsearch.potential.longrange.equilibration.LARGE", 1)


def batch_of(*structures: Structure) -> CrystalBatch:
    return CrystalBatch.from_structures(structures)


def test_matrices_and_conjugate_gradients_agree(potential: PQEq, large, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(*example_crystals(), example_crystals()[1] * (2, 1, 2))
    conditions = Conditions(
        total_charges=torch.tensor([0.0, 0.5, -0.2, 0.0, 0.1]), field=torch.tensor([0.1, 0.0, -0.2])
    )
    small = potential.evaluate_under(batch, conditions), shell_response(potential, batch, conditions)
    monkeypatch.setattr("matsearch.potential.longrange.pqeq.ELEMENTS_AT_ONCE", 1.0)  # one crystal a block
    large()
    other = potential.evaluate_under(batch, conditions), shell_response(potential, batch, conditions)
    for one, two in zip(small, other, strict=True):
        for name, value in vars(one).items():
            if value is not None:
                np.testing.assert_allclose(getattr(two, name), value, atol=1e-8, err_msg=name)


def test_elements_of_one_width_learn_apart(potential: PQEq, large) -> None:
    # Cl with the width of Na: the waves of both are summed together, their slopes are not.
    radius = potential.parameters.radius.clone()
    radius[17] = radius[11]
    batch = batch_of(example_crystals()[0])
    slopes = []
    for prepare in (lambda: None, large):
        prepare()
        free = replace(potential.parameters, radius=radius.clone().requires_grad_())
        positions = batch.positions.clone().requires_grad_()
        found = PQEq("equal", free).equilibrium(batch.moved(positions, batch.cells))
        (forces,) = torch.autograd.grad(found.energies.sum(), positions, create_graph=True)
        loss = forces[0].sum() + found.charges[3] + found.shells[1].sum()
        (slope,) = torch.autograd.grad(loss, free.radius)
        slopes.append(slope[[11, 17]].numpy())
    np.testing.assert_allclose(slopes[1], slopes[0], atol=1e-7)
    assert abs(slopes[0][0] - slopes[0][1]) > 1e-5


def test_a_catastrophe_that_symmetry_hides_is_found(potential: PQEq, large) -> None:
    # All slopes of shells vanish in the ideal crystal, where they are unstable all the same.
    spring = potential.parameters.spring.clone()
    spring[11] = 1e-3
    loose = PQEq("loose sodium", replace(potential.parameters, spring=spring))
    ideal = Structure(Lattice(2.82 * (1 - np.eye(3))), ["Na", "Cl"], [[0] * 3, [0.5] * 3]) * (2, 2, 2)
    assert list(loose.equilibrium(batch_of(ideal)).failures) == [0]
    large()
    assert "polarization catastrophe" in loose.equilibrium(batch_of(ideal)).failures[0]
    assert not potential.equilibrium(batch_of(ideal)).failures


def test_two_hundred_atoms_are_their_unit_cell(potential: PQEq) -> None:
    once, many = example_crystals()[1], example_crystals()[1] * (4, 4, 3)
    one, two = potential.evaluate(batch_of(once)), potential.evaluate(batch_of(many))
    assert float(two.energies) == pytest.approx(48 * float(one.energies), abs=1e-8)
    np.testing.assert_allclose(two.forces.view(4, 48, 3)[:, 0], one.forces, atol=1e-9)
    np.testing.assert_allclose(two.stresses, one.stresses, atol=1e-10)


def test_a_molecule_in_vacuum_beside_crystals(potential: PQEq, monkeypatch: pytest.MonkeyPatch) -> None:
    def boxed(side: float) -> Structure:
        return Structure(
            Lattice.cubic(side), ["O", "Mg", "O"], [[0, 0, 0], [0, 0, 1.8], [0, 0, 3.7]], coords_are_cartesian=True
        )

    crystal = example_crystals()[2]
    together = potential.evaluate(batch_of(crystal, boxed(28.0), crystal))
    small, vast = potential.evaluate(batch_of(boxed(28.0))), potential.evaluate(batch_of(boxed(36.0)))
    alone = potential.evaluate(batch_of(crystal))
    np.testing.assert_allclose(together.energies, [alone.energies[0], small.energies[0], alone.energies[0]], atol=1e-9)
    assert float(vast.energies) == pytest.approx(float(small.energies), abs=2e-5)  # its dipole's images, 1/V
    monkeypatch.setattr("matsearch.potential.longrange.equilibration.MANY_WAVES", 1)
    other = potential.evaluate(batch_of(boxed(28.0)))
    np.testing.assert_allclose(other.forces, small.forces, atol=1e-9)


def test_a_cell_of_too_many_waves_is_refused(potential: PQEq) -> None:
    with pytest.raises(PotentialError, match="less vacuum"):
        potential.evaluate(batch_of(Structure(Lattice.cubic(400.0), ["H"], [[0, 0, 0]])))
