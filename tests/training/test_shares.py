"""PQEq's energy is half of what is linear in charges, atom by atom."""

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from matsearch.potential import load_potential
from matsearch.potential.batch import CrystalBatch
from matsearch.training.shares import mean_shares, shares


@pytest.fixture(scope="module")
def crystals():
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    rutile = Lattice.tetragonal(4.594, 2.959)
    sites = [[0, 0, 0], [0.305, 0.305, 0]]
    return [salt.perturb(0.2, seed=1), Structure.from_spacegroup("P4_2/mnm", rutile, ["Ti", "O"], sites)]


def test_shares_are_half_of_what_is_linear_in_charges_and_sum_to_the_energy(crystals):
    pqeq = load_potential("pqeq", "cpu")
    batch = CrystalBatch.from_structures(crystals)
    said = pqeq.evaluate(batch)
    found = shares(pqeq, batch, said)
    assert torch.allclose(batch.per_system(found), said.energies, atol=1e-9)
    half = 0.5 * pqeq.parameters.chi[batch.numbers] * said.charges
    assert torch.allclose(batch.per_system(half), said.energies, atol=2e-3)
    # Only sums are defined: in a neutral crystal every atom may move by its charge times a constant.
    moved = (found - half) / said.charges
    assert float(moved.max() - moved.min()) < 2e-3


def test_what_is_no_atoms_own_is_shared_alike(crystals):
    d3 = load_potential("d3(pbe,bj)", "cpu")
    batch = CrystalBatch.from_structures(crystals)
    said = d3.evaluate(batch)
    found = shares(d3, batch, said)
    assert torch.allclose(found[:8], said.energies[0] / 8) and torch.allclose(found[8:], said.energies[1] / 6)


def test_means_are_over_the_atoms_of_an_element(crystals):
    of_atoms = np.concatenate([np.full(4, 1.0), np.full(4, -1.0), [2.0, 4.0], np.full(4, -1.5), np.full(7, 99.0)])
    assert mean_shares(crystals, of_atoms, ["Cl", "Na", "O", "Ti"]).tolist() == [-1.0, 1.0, -1.5, 3.0]
