import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from generated_crystals import generated_crystals
from pymatgen.core import Lattice, Structure

from matsearch.errors import PotentialError
from matsearch.potential import chgnet, load_potential
from matsearch.potential.batch import Output
from matsearch.potential.batched import BatchedPotential, _batches
from matsearch.potential.threads import n_threads, one_thread
from matsearch.records import Rejection, Relaxed
from matsearch.relaxation import relax

CPU = torch.device("cpu")
CRYSTALS = [one for one in generated_crystals().values() if len(one) < 20]


class Springs(BatchedPotential):
    """Springs between neighbours; notes the batches it is given."""

    name, energy_scale, elements, device = "springs", "none", frozenset({"Na", "Cl"}), "cpu"

    def __init__(self):
        self.seen = []

    def forward(self, batch):
        self.seen.append(batch.sizes)
        pairs = batch.pairs(4.0)
        lengths = pairs.vectors(batch.positions, batch.cells).norm(dim=1)
        energies = torch.zeros(batch.n_systems).double()
        return Output(energies.index_add(0, pairs.system_idx, (lengths - 4) ** 2))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def salt(n_atoms):
    rng = np.random.default_rng(n_atoms)
    return Structure(Lattice.cubic(3.5 * n_atoms ** (1 / 3)), ["Na"] * n_atoms, rng.random((n_atoms, 3)))


def flushes():
    return float(torch.tensor(1e-40) * 1) == 0


def same_bits(one, other):
    for field in dataclasses.fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray):
            assert np.array_equal(left, right), field.name
        else:
            assert left == right, field.name
    return True


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("raises", [True, False])
def test_threads_and_denormals_are_given_back_as_they_were(flush, raises, two_threads):
    torch.set_flush_denormal(flush)
    try:
        with pytest.raises(KeyError) if raises else torch.no_grad(), one_thread(CPU):
            assert torch.get_num_threads() == 1
            assert flushes()
            if raises:
                raise KeyError
        assert torch.get_num_threads() == 2
        assert flushes() == flush
    finally:
        torch.set_flush_denormal(False)


def test_other_devices_leave_threads_and_denormals_alone(two_threads):
    with one_thread(torch.device("cuda")):
        assert torch.get_num_threads() == 2
        assert not flushes()


def test_a_prediction_leaves_threads_and_denormals_as_they_were(two_threads):
    potential = load_potential("chgnet-0.3.0", "cpu")
    potential.predict(CRYSTALS)
    assert torch.get_num_threads() == 2
    assert not flushes()
    with pytest.raises(PotentialError):
        potential.predict([Structure(Lattice.cubic(3), ["Fr"], [[0, 0, 0]])])
    assert torch.get_num_threads() == 2


def test_threads_started_after_a_prediction_get_what_they_got_before(two_threads):
    potential = Springs()
    structures = [salt(n) for n in (100, 101, 102, 103, 104)]
    for _ in range(20):  # it was a matter of luck
        potential.predict(structures)
        seen = []
        later = threading.Thread(target=lambda seen: seen.append(torch.get_num_threads()), args=(seen,))
        later.start()
        later.join()
        assert seen == [2]
    assert len(potential.seen) == 20 * len(structures)


def test_a_thread_that_began_while_torch_was_held_does_not_take_that_for_what_was_given(two_threads):
    begun, go, seen = threading.Event(), threading.Event(), []

    def late():
        seen.append(torch.get_num_threads())  # its first work
        begun.set()
        go.wait(10)
        with one_thread(CPU):
            seen.append(n_threads())

    thread = threading.Thread(target=late)
    with one_thread(CPU):
        thread.start()
        assert begun.wait(10)
    go.set()
    thread.join()
    assert seen == [1, 2]
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 2


def test_batches_are_neighbours_in_the_list_up_to_a_number_of_atoms():
    structures = [salt(n) for n in (3, 4, 5, 20, 1, 1, 9, 10)]
    sizes = [[len(one) for one in batch] for batch in _batches(structures, 10)]
    assert sizes == [[3, 4], [5], [20], [1, 1], [9], [10]]
    assert list(_batches([], 10)) == []


@pytest.mark.parametrize("count", [1, 2])
def test_predictions_come_in_the_order_of_the_list_whatever_the_batches(count):
    structures = [salt(n) for n in (3, 90, 4, 100, 2, 110, 8, 1, 140)]
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        potential = Springs()
        predictions = potential.predict(structures)
    finally:
        torch.set_num_threads(before)
    assert len(potential.seen) > 3
    for structure, prediction in zip(structures, predictions, strict=True):
        assert prediction.forces.shape == (len(structure), 3)
        assert prediction.energy == pytest.approx(potential.predict([structure])[0].energy, abs=1e-9)


def test_threads_change_no_bit():
    potential = load_potential("chgnet-0.3.0", "cpu")
    potential.batch_atoms = 30
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = potential.predict(CRYSTALS)
        again = potential.predict(CRYSTALS)
        torch.set_num_threads(2)
        two = potential.predict(CRYSTALS)
    finally:
        torch.set_num_threads(before)
    assert all(same_bits(*pair) for pair in zip(one, two, strict=True))
    assert all(same_bits(*pair) for pair in zip(one, again, strict=True))


def test_company_and_order_change_nothing_but_rounding():
    potential = load_potential("chgnet-0.3.0", "cpu")
    together, reverse = potential.predict(CRYSTALS), potential.predict(CRYSTALS[::-1])[::-1]
    for structure, one, other in zip(CRYSTALS, together, reverse, strict=True):
        alone = potential.predict([structure])[0]
        for company in (one, other):
            assert company.energy == pytest.approx(alone.energy, abs=2e-6 * len(structure))
            np.testing.assert_allclose(company.forces, alone.forces, atol=2e-5 * (1 + abs(alone.forces).max()))
            np.testing.assert_allclose(company.magmoms, alone.magmoms, atol=1e-5)


def test_an_empty_list_and_one_structure_instead_of_a_list():
    potential = Springs()
    assert potential.predict([]) == []
    with pytest.raises(TypeError, match="list"):
        potential.predict(salt(2))
    assert potential.seen == []


def test_an_error_in_a_thread_reaches_the_caller(two_threads):
    class Broken(Springs):
        def forward(self, batch):
            if 70 in batch.sizes:
                raise RuntimeError("out of luck")
            return super().forward(batch)

    with pytest.raises(RuntimeError, match="out of luck"):
        Broken().predict([salt(n) for n in (100, 100, 70, 100)])


def test_each_structure_carries_its_own_flag():
    potential = Springs()
    far = Structure(Lattice.cubic(6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    near = Structure(Lattice.cubic(6), ["Na", "Cl"], [[0, 0, 0], [0.1, 0, 0]])
    flags = [one.out_of_domain for one in potential.predict([far, near, far])]
    assert flags[0] is flags[2] is None
    assert flags[1].startswith("Cl and Na are 0.60 Å apart")


def test_an_energy_outside_the_domain_is_a_rejection():
    far = Structure(Lattice.cubic(6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    near = Structure(Lattice.cubic(6), ["Na", "Cl"], [[0, 0, 0], [0.1, 0, 0]])
    potential = Springs()
    first, second, third = potential.energies([far, near, far])
    assert first == third == pytest.approx(potential.predict([far])[0].energy)
    assert isinstance(second, Rejection) and second.reason == "out_of_domain"
    assert "Cl and Na are 0.60 Å apart" in second.detail


def disturbed(structure):
    moves = np.random.default_rng(len(structure)).normal(scale=0.03, size=(len(structure), 3))
    positions = structure.cart_coords + moves
    return Structure(structure.lattice, structure.species, positions, coords_are_cartesian=True)


@pytest.fixture(scope="module")
def indifferent_blas():
    """A machine whose matrix products do not depend on how many rows there are, from four on."""
    rows, weight = torch.randn(300, 64), torch.randn(64, 64)
    with one_thread(CPU):
        whole = rows @ weight
        indifferent = all(torch.equal(rows[:n] @ weight, whole[:n]) for n in (*range(4, 40), 64, 100, 257))
    if not indifferent:
        pytest.skip("matrix products of this machine's BLAS depend on the number of rows")


def test_company_and_order_change_no_bit_of_a_prediction(indifferent_blas):
    potential = load_potential("chgnet-0.3.0", "cpu")
    together, reverse = potential.predict(CRYSTALS), potential.predict(CRYSTALS[::-1])[::-1]
    for structure, one, other in zip(CRYSTALS, together, reverse, strict=True):
        (alone,) = potential.predict([structure])
        assert same_bits(alone, one) and same_bits(alone, other)


def test_company_and_threads_change_no_bit_of_a_relaxation(indifferent_blas, two_threads):
    potential = load_potential("chgnet-0.3.0", "cpu")
    crystals = [disturbed(one) for one in CRYSTALS if 1 < len(one) <= 8]
    together = relax(crystals, potential, 0.1, 12)
    torch.set_num_threads(1)
    for structure, one in zip(crystals, together, strict=True):
        (alone,) = relax([structure], potential, 0.1, 12)
        assert type(alone) is type(one)
        if isinstance(one, Relaxed):
            assert alone.energy == one.energy and alone.n_steps == one.n_steps
            assert np.array_equal(alone.structure.frac_coords, one.structure.frac_coords)


def test_callers_in_inference_mode_are_served_and_leave_no_trace():
    (structure,) = CRYSTALS[:1]
    chgnet.checkpoint.cache_clear()
    with torch.inference_mode():
        potential = load_potential("chgnet-0.3.0", "cpu")
        (one,) = potential.predict([structure])
    (other,) = load_potential("chgnet-0.3.0", "cpu").predict([structure])
    assert np.array_equal(one.forces, other.forces)


def test_threads_that_predict_at_the_same_time_leave_torch_as_it_was(two_threads):
    potential = Springs()
    structures = [salt(n) for n in (30, 20)]
    callers = [threading.Thread(target=potential.predict, args=(structures,)) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    seen = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [2] and torch.get_num_threads() == 2


def test_the_number_of_threads_is_known_while_torch_is_held_to_one(two_threads):
    seen = []
    with one_thread(CPU):
        asker = threading.Thread(target=lambda: seen.append(n_threads()))
        asker.start()
        asker.join()
    assert seen == [2]
