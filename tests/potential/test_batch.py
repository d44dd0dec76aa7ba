import numpy as np
import pytest
import torch
from pymatgen.core import Composition, Lattice, Structure

from matsearch.potential.batch import BatchPrediction, CrystalBatch, gather, spread
from matsearch.records import Prediction


@pytest.fixture
def crystals():
    left_handed = Lattice(np.array([[0, 3.0, 0.2], [3.1, 0, 0], [0, 0.3, 3.2]]))
    return [
        Structure(Lattice.cubic(4.0), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        Structure(Lattice.cubic(3.0), ["Fe"], [[1.2, -3.4, 0.5]]),
        Structure(left_handed, ["Li", "O", "Li"], [[0.1, 0, 0], [0.5, 2.5, 0.5], [0, 0.4, 0.7]]),
    ]


def equal(batch, other):
    tensors = ("positions", "cells", "numbers", "system_idx")
    return batch.sizes == other.sizes and all(torch.equal(getattr(batch, t), getattr(other, t)) for t in tensors)


def a_prediction(n_atoms, offset=0.0, magmoms=True):
    return Prediction(
        energy=-1.5 + offset,
        forces=np.arange(3.0 * n_atoms).reshape(n_atoms, 3) + offset,
        stress=np.arange(9.0).reshape(3, 3) + offset,
        magmoms=np.arange(float(n_atoms)) if magmoms else None,
        atom_energies=np.full(n_atoms, offset),
    )


def test_structures_come_back_as_they_went_in(crystals):
    batch = CrystalBatch.from_structures(crystals)
    assert batch.sizes == (2, 1, 3) and (batch.n_systems, batch.n_atoms) == (3, 6)
    assert batch.system_idx.tolist() == [0, 0, 1, 2, 2, 2]
    for before, after in zip(crystals, batch.structures(), strict=True):
        assert after.species == before.species
        np.testing.assert_allclose(after.lattice.matrix, before.lattice.matrix, rtol=1e-15)
        np.testing.assert_allclose(after.frac_coords, before.frac_coords, atol=1e-12)  # not wrapped into the cell


def test_left_handed_cells_have_a_positive_volume(crystals):
    assert np.linalg.det(crystals[2].lattice.matrix) < 0
    np.testing.assert_allclose(CrystalBatch.from_structures(crystals).volumes, [one.volume for one in crystals])


def test_what_is_no_batch_of_ordered_crystals_is_refused(crystals):
    shared = Structure(Lattice.cubic(4.0), [Composition("Mg0.5Ca0.5")], [[0, 0, 0]])
    for structures in ([], [shared], [crystals[0], Structure(Lattice.cubic(3.0), [], [])]):
        with pytest.raises(ValueError, match="at least one structure, each with one element a site"):
            CrystalBatch.from_structures(structures)


def test_selected_crystals_are_those_of_a_batch_of_them(crystals):
    batch = CrystalBatch.from_structures(crystals)
    for systems in ([0, 1, 2], [2, 0], [1], [1, 1]):
        assert equal(batch.select(systems), CrystalBatch.from_structures([crystals[one] for one in systems]))


def test_no_crystal_selected_is_an_empty_batch(crystals):
    empty = CrystalBatch.from_structures(crystals).select([])
    assert empty.sizes == () and empty.positions.shape == (0, 3) and empty.cells.shape == (0, 3, 3)
    assert empty.structures() == [] and empty.volumes.shape == (0,)


def test_joined_batches_are_the_batch_of_all(crystals):
    batch = CrystalBatch.from_structures(crystals)
    assert equal(CrystalBatch.join([batch.select([0, 1]), batch.select([]), batch.select([2])]), batch)


def test_selected_and_moved_crystals_have_their_own_pairs(crystals):
    batch = CrystalBatch.from_structures(crystals)
    batch.pairs(4.0)
    for one in (batch.select([2, 0]), batch.moved(batch.positions, 1.5 * batch.cells)):
        pairs = one.pairs(4.0)
        lonely = CrystalBatch(one.positions, one.cells, one.numbers, one.sizes, one.system_idx).pairs(4.0)
        assert all(torch.equal(value, vars(lonely)[name]) for name, value in vars(pairs).items())


def test_pairs_carry_no_gradient_but_their_vectors_do(crystals):
    batch = CrystalBatch.from_structures(crystals)
    moving = batch.moved(batch.positions.requires_grad_(), batch.cells.requires_grad_())
    pairs = moving.pairs(4.0)
    assert not pairs.lengths.requires_grad
    slopes = torch.autograd.grad(
        pairs.vectors(moving.positions, moving.cells).square().sum(), [moving.positions, moving.cells]
    )
    assert all(torch.isfinite(one).all() for one in slopes) and slopes[1].abs().sum() > 0


def test_values_of_atoms_are_summed_over_each_crystal(crystals):
    batch = CrystalBatch.from_structures(crystals)
    assert batch.per_system(torch.ones(6, 2).double()).tolist() == [[2, 2], [1, 1], [3, 3]]


def test_gathered_predictions_are_spread_as_they_were(crystals):
    batch = CrystalBatch.from_structures(crystals)
    before = [a_prediction(size, offset) for offset, size in enumerate(batch.sizes)]
    together = gather(batch, before)
    assert isinstance(together, BatchPrediction) and together.stresses.shape == (3, 3, 3)
    assert together.charges is None and together.forces.dtype == torch.float64
    for one, other in zip(before, spread(batch, together), strict=True):
        assert one.energy == other.energy and other.charges is None and other.features is None
        for name in ("forces", "stress", "magmoms", "atom_energies"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_what_one_prediction_lacks_the_batch_lacks(crystals):
    batch = CrystalBatch.from_structures(crystals)
    predictions = [a_prediction(size, magmoms=size != 1) for size in batch.sizes]
    assert gather(batch, predictions).magmoms is None
