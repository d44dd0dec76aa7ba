import itertools

import numpy as np
import pytest
import torch
from pair_potentials import Morse
from pymatgen.core import Lattice, Structure

from matsearch.errors import PotentialError
from matsearch.records import Rejection, Relaxed, Stage
from matsearch.relaxation import Scheduler, make_plan, relax, relax_iter
from matsearch.testing.potential import example_crystals
from matsearch.units import EV_PER_A3_IN_GPA


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def crystals(count, seed=0):
    """Small distorted crystals, no two alike."""
    found = []
    for number in range(count):
        one = example_crystals()[number % 4].copy()
        one.perturb(0.04, seed=seed + number)
        found.append(one)
    return found


def broken():
    """Five structures that cannot be relaxed, and why."""
    return [
        (Structure(Lattice.cubic(3.3), ["Po"], [[0, 0, 0]]), "untrained_element"),
        (Structure(Lattice.cubic(20), ["Al"], [[0, 0, 0]]), "isolated_atom"),
        (Structure(Lattice.cubic(4), ["Al", "Al"], [[0, 0, 0], [0.02, 0, 0]]), "collided"),
        (Structure(Lattice.cubic(4), ["Al"], [[np.nan, 0, 0]]), "not_finite"),
        (Structure(Lattice.cubic(1.2), ["Al"], [[0, 0, 0]]), "collapsed"),
    ]


def test_of_1000_structures_with_20_broken_ones_980_relax(two_threads):
    structures = crystals(1000)
    reasons = {}
    for place, (structure, reason) in zip(range(13, 1000, 50), itertools.cycle(broken()), strict=False):
        structures[place], reasons[place] = structure, reason
    results = relax(structures, Morse(), force_tol=0.1)
    assert {place: one.reason for place, one in enumerate(results) if isinstance(one, Rejection)} == reasons
    assert len(reasons) == 20
    done = [one for one in results if isinstance(one, Relaxed)]
    assert len(done) == 980 and all(one.converged for one in done)
    for structure, one in zip(structures, results, strict=True):
        assert isinstance(one, Rejection) or one.initial == structure


@pytest.mark.parametrize("optimizer", ["fire", "lbfgs"])
def test_threads_and_company_do_not_change_a_bit(two_threads, optimizer):
    structures = crystals(16)
    together = relax(structures, Morse(), optimizer=optimizer)
    torch.set_num_threads(1)
    for structure, one in zip(structures, together, strict=True):
        alone = relax([structure], Morse(), optimizer=optimizer)[0]
        assert (alone.n_steps, alone.energy, alone.max_force) == (one.n_steps, one.energy, one.max_force)
        np.testing.assert_array_equal(alone.structure.cart_coords, one.structure.cart_coords)


class Moody(Morse):
    """Has a bad moment about crystals with an atom of a certain element."""

    def __init__(self, element, mood):
        super().__init__()
        self.element, self.mood = element, mood
        self.sizes = []

    def evaluate(self, batch):
        self.sizes.append(batch.n_systems)
        return self.mood(batch, super().evaluate(batch), batch.numbers == self.element)


def raises(error):
    def mood(batch, prediction, bad):
        if bad.any():
            raise error
        return prediction

    return mood


def test_nan_energies_stop_one_crystal_alone():
    def mood(batch, prediction, bad):
        systems = torch.unique(batch.system_idx[bad])
        prediction.energies[systems] = torch.nan
        return prediction

    structures = crystals(9)
    results = relax(structures, Moody(26, mood))
    with_iron = ["Fe" in structure.composition for structure in structures]
    assert [isinstance(one, Rejection) for one in results] == with_iron
    assert {one.reason for one in results if isinstance(one, Rejection)} == {"not_finite"}


def test_a_crystal_that_the_potential_refuses_does_not_sink_the_batch():
    structures = crystals(9)
    results = relax(structures, Moody(26, raises(PotentialError("no iron today"))))
    assert [isinstance(one, Rejection) for one in results] == ["Fe" in one.composition for one in structures]
    refused = next(one for one in results if isinstance(one, Rejection))
    assert (refused.stage, refused.reason, refused.detail) == (Stage.RELAX, "potential_error", "no iron today")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 10 bytes"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes"),
    ],
)
def test_a_batch_too_large_for_the_memory_is_halved_until_it_fits(error):
    def mood(batch, prediction, bad):
        if batch.n_atoms > 20:
            raise error
        return prediction

    small, large = crystals(16), example_crystals()[0] * (2, 2, 1)
    potential = Moody(0, mood)
    results = relax([*small, large], potential)
    assert all(isinstance(one, Relaxed) for one in results[:-1])
    assert (results[-1].stage, results[-1].reason) == (Stage.RELAX, "out_of_memory")
    plain = relax(small, Morse())
    assert [one.n_steps for one in results[:-1]] == [one.n_steps for one in plain]
    assert potential.sizes.count(max(potential.sizes)) < 3  # it learnt


def test_another_runtime_error_of_the_potential_is_raised_and_ends_the_rest(two_threads):
    potential = Moody(26, raises(RuntimeError("CUDA error: an illegal memory access")))
    with pytest.raises(RuntimeError, match="illegal memory"):
        relax(crystals(60), potential)


class Stubborn(Morse):
    """Fails where nobody expects it: before a crystal is evaluated."""

    def untrained(self, structure):
        raise OSError("the table of elements is gone")


def test_an_error_before_the_first_step_is_raised_and_nobody_waits_for_ever(two_threads):
    with pytest.raises(OSError, match="table of elements"):
        relax(crystals(12), Stubborn())


@pytest.mark.parametrize("wrong", ["chgnet-0.3.0", None])
def test_a_potential_that_is_none_is_refused(wrong):
    with pytest.raises(TypeError, match="load_potential"):
        relax(crystals(1), wrong)


def test_what_is_no_structure_is_named_by_its_place():
    with pytest.raises(TypeError, match="number 1 of the list is a str"):
        relax([*crystals(1), "POSCAR"], Morse())


def test_a_capped_crystal_leaves_and_the_others_go_on():
    structures = crystals(8)
    free = relax(structures, Morse(), force_tol=0.02)
    cap = sorted(one.n_steps for one in free)[4]
    capped = relax(structures, Morse(), force_tol=0.02, max_steps=cap)
    for one, two in zip(free, capped, strict=True):
        assert (two.converged, two.n_steps) == ((True, one.n_steps) if one.n_steps <= cap else (False, cap))


def test_structures_are_drawn_when_there_is_room_and_results_come_as_they_finish():
    drawn = []

    def source():
        for number in itertools.count():
            drawn.append(number)
            yield crystals(1, seed=number)[0]

    arriving = relax_iter(source(), Morse(), make_plan(force_tol=0.1))
    found = [next(arriving) for _ in range(40)]
    assert 40 < len(drawn) < 300
    arriving.close()
    assert len({index for index, _ in found}) == 40
    assert all(isinstance(result, Relaxed) for _, result in found)


def test_structures_enter_while_others_relax():
    first, second = crystals(2)
    with Scheduler(Morse(), make_plan()) as scheduler:
        (one,) = scheduler.submit([first])
        one.result()
        (two,) = scheduler.submit([second])
    assert two.done() and two.result().converged
    with pytest.raises(RuntimeError, match="closed"):
        scheduler.submit([first])


def test_an_interrupted_wait_cancels_what_is_left():
    with pytest.raises(KeyboardInterrupt), Scheduler(Morse(), make_plan(force_tol=1e-9)) as scheduler:
        futures = scheduler.submit(crystals(50))
        raise KeyboardInterrupt
    assert all(future.done() for future in futures)
    assert any(future.cancelled() for future in futures)


def test_a_cancelled_structure_leaves_the_queue_and_the_others_relax():
    with Scheduler(Morse(), make_plan()) as scheduler:
        futures = scheduler.submit(crystals(200))
        assert futures[-1].cancel()
    assert all(isinstance(one.result(), Relaxed) for one in futures[:-1])


@pytest.mark.parametrize("pressure_gpa", [-2.0, 5.0])
def test_under_pressure_the_stress_is_minus_the_pressure(pressure_gpa):
    salt = example_crystals()[0]
    squeezed, free = (
        relax([salt], Morse(), force_tol=0.005, stress_tol=1e-4, pressure_gpa=pressure)[0]
        for pressure in (pressure_gpa, 0)
    )
    stress = Morse().predict([squeezed.structure])[0].stress * EV_PER_A3_IN_GPA
    np.testing.assert_allclose(stress, -pressure_gpa * np.eye(3), atol=0.02)
    assert (squeezed.structure.volume < free.structure.volume) == (pressure_gpa > 0)
    # The energy is that of the potential, without p V.
    assert squeezed.energy == pytest.approx(Morse().predict([squeezed.structure])[0].energy, abs=1e-9)


def test_a_stress_tolerance_judges_the_cell_instead_of_the_force_tolerance():
    salt = example_crystals()[0]
    strict = relax([salt], Morse(), force_tol=0.05, stress_tol=1e-5)[0]
    loose = relax([salt], Morse(), force_tol=0.05, stress_tol=10.0)[0]
    assert strict.converged and strict.max_stress < 1e-5
    assert loose.converged and loose.n_steps < strict.n_steps


@pytest.mark.parametrize("wrong", [{"optimizer": "bfgs"}, {"stress_tol": 0.0}, {"pressure_gpa": float("nan")}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_plan(**wrong)


def test_a_crystal_in_a_hole_of_the_energy_surface_is_rejected_at_the_end():
    class Sunken(Morse):
        energy_references = dict.fromkeys(Morse.elements, 0.0)

        def evaluate(self, batch):
            prediction = super().evaluate(batch)
            iron = torch.unique(batch.system_idx[batch.numbers == 26])
            prediction.energies[iron] -= 100.0
            return prediction

    structures = crystals(4)
    results = relax(structures, Sunken())
    assert ["Fe" in one.composition for one in structures] == [isinstance(one, Rejection) for one in results]
    (sunken,) = [one for one in results if isinstance(one, Rejection)]
    assert sunken.reason == "out_of_domain" and "eV/atom" in sunken.detail


def test_a_cell_that_cannot_be_searched_for_neighbours_is_refused_before_it_enters():
    flat = Structure(Lattice([[150, 0, 0], [0, 150, 0], [149.9, 0, 0.01]]), ["Al"] * 2, [[0, 0, 0], [0.5, 0.5, 0]])
    (result,) = relax([flat], Morse())
    assert (result.reason, result.stage) == ("collapsed", Stage.RELAX)
    assert "faces" in result.detail
