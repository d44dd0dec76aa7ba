import subprocess
import sys
import threading

import numpy as np
import pytest
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from pymatgen.core import Lattice, Structure

from matsearch.errors import PotentialError
from matsearch.potential import Potential, load_potential
from matsearch.potential.ase import PotentialCalculator, to_atoms
from matsearch.records import Prediction, Rejection, Relaxed, Stage
from matsearch.relaxation import protocol, relax
from matsearch.relaxation.settings import RelaxSettings
from matsearch.testing.potential import example_crystals


@pytest.fixture
def potential():
    return load_potential("chgnet-0.3.0", "cpu")


class Scripted(Potential):
    """Gives whatever energy, forces and stress a function of the structure says."""

    name = "scripted"
    energy_scale = "none"
    elements = frozenset({"Al", "Na", "Cl"})
    device = "cpu"

    def __init__(self, function):
        self.function = function
        self.calls = 0

    def predict(self, structures):
        self.calls += len(structures)
        return [Prediction(*self.function(structure)) for structure in structures]


def aluminium(edge=4.0):
    return Structure(Lattice(np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * edge / 2), ["Al"], [[0, 0, 0]])


def test_results_come_in_order_and_a_broken_structure_costs_no_other(potential):
    crystals = [
        aluminium(),
        Structure(Lattice.cubic(3.3), ["Po"], [[0, 0, 0]]),
        Structure(Lattice.cubic(20), ["Al"], [[0, 0, 0]]),
        Structure(Lattice.cubic(4), ["Al", "Al"], [[0, 0, 0], [0.02, 0, 0]]),
        Structure(Lattice.cubic(4), ["Al"], [[np.nan, 0, 0]]),
        Structure(Lattice.cubic(4), [{"Al": 0.5, "Mg": 0.5}], [[0, 0, 0]]),
        Structure(Lattice([[4, 0, 0], [0, 4, 0], [4, 4, 0]]), ["Al"], [[0, 0, 0]]),
        Structure(Lattice.cubic(20), ["Na", "Cl", "Al"], [[0, 0, 0], [0.1, 0, 0], [0.5, 0.5, 0.5]]),
        aluminium(4.1),
    ]
    results = relax(crystals, potential)
    assert isinstance(results[0], Relaxed) and isinstance(results[-1], Relaxed)
    assert [one.reason for one in results[1:-1]] == [
        "untrained_element",
        "isolated_atom",
        "collided",
        "not_finite",
        "disordered",
        "collapsed",
        "isolated_atom",
    ]
    assert all(one.stage is Stage.RELAX and one.detail for one in results[1:-1])
    assert results[0].energy == pytest.approx(results[-1].energy, abs=1e-3)


def test_a_coordinate_that_has_lost_its_digits_is_refused(potential):
    crystal = aluminium()
    near, far = (Structure(crystal.lattice, crystal.species, crystal.frac_coords + cells) for cells in (1e3, 1e9))
    relaxed, rejected = relax([near, far], potential, max_steps=1)
    assert isinstance(relaxed, Relaxed)
    assert rejected.reason == "not_finite"


def test_a_slab_is_refused_instead_of_relaxed_as_a_crystal(potential):
    crystal = aluminium()
    slab = Structure(Lattice(crystal.lattice.matrix, pbc=(True, True, False)), crystal.species, crystal.frac_coords)
    relaxed, rejected = relax([crystal, slab], potential, max_steps=1)
    assert isinstance(relaxed, Relaxed)
    assert (rejected.stage, rejected.reason) == (Stage.RELAX, "not_periodic") and "T T F" in rejected.detail
    with pytest.raises(PotentialError, match="structure 1 has pbc = T T F") as caught:
        potential.predict([crystal, slab])
    assert "\n" not in str(caught.value)


def test_steps_and_energy_equal_those_of_plain_ase(potential):
    for structure in example_crystals()[:3]:
        ours = relax([structure], potential, force_tol=0.05, max_steps=30)[0]
        atoms = to_atoms(structure)
        atoms.calc = PotentialCalculator(potential)
        plain = FIRE(FrechetCellFilter(atoms), logfile=None)
        converged = plain.run(fmax=0.05, steps=30)
        assert (ours.n_steps, ours.converged) == (plain.nsteps, bool(converged))
        assert ours.energy == pytest.approx(atoms.get_potential_energy(), abs=2e-5)


def test_relaxed_record_says_what_happened(potential):
    proposed = example_crystals()[0]
    before = proposed.copy()
    relaxed = relax([proposed], potential)[0]
    assert proposed == before
    assert relaxed.initial == before and relaxed.initial is not proposed
    assert relaxed.potential == "chgnet-0.3.0"
    assert relaxed.converged and 0 < relaxed.n_steps <= 500
    assert relaxed.structure.species == proposed.species
    prediction = potential.predict([relaxed.structure])[0]
    assert relaxed.energy == pytest.approx(prediction.energy, abs=1e-5)
    assert relaxed.max_force == pytest.approx(np.linalg.norm(prediction.forces, axis=1).max(), abs=1e-4)
    assert relaxed.max_force < 0.05
    assert relaxed.energy < potential.predict([proposed])[0].energy


def test_a_step_cap_is_unconverged_and_zero_steps_is_a_single_point(potential):
    proposed = example_crystals()[0]
    capped = relax([proposed], potential, max_steps=2)[0]
    assert (capped.converged, capped.n_steps) == (False, 2)
    single = relax([proposed], potential, max_steps=0)[0]
    assert (single.converged, single.n_steps) == (False, 0)
    np.testing.assert_allclose(single.structure.frac_coords, proposed.frac_coords)


def test_fixed_cell_and_fixed_volume_hold_what_they_say(potential):
    salt = example_crystals()[0]
    stretched = Structure(Lattice(salt.lattice.matrix @ np.diag([1.03, 1.0, 0.98])), salt.species, salt.frac_coords)
    fixed = relax([stretched], potential, cell="fixed")[0]
    np.testing.assert_array_equal(fixed.structure.lattice.matrix, stretched.lattice.matrix)
    shaped = relax([stretched], potential, cell="fixed_volume")[0]
    assert shaped.structure.volume == pytest.approx(stretched.volume, rel=1e-6)
    assert np.ptp(shaped.structure.lattice.abc) < np.ptp(stretched.lattice.abc) / 2
    free = relax([stretched], potential)[0]
    assert free.converged and free.energy <= shaped.energy <= fixed.energy


def test_left_handed_cell_relaxes_like_its_right_handed_description(potential):
    left = example_crystals()[2]
    assert np.linalg.det(left.lattice.matrix) < 0
    swap = [0, 2, 1]
    right = Structure(Lattice(left.lattice.matrix[swap]), left.species, left.frac_coords[:, swap])
    one, two = relax([left, right], potential)
    assert one.n_steps == two.n_steps
    assert one.energy == pytest.approx(two.energy, abs=2e-5)
    assert np.linalg.det(one.structure.lattice.matrix) < 0


def test_relaxation_repeats_to_the_bit_also_in_a_worker_thread(potential):
    crystals = example_crystals()
    here = relax(crystals, potential, max_steps=10)
    elsewhere = []
    worker = threading.Thread(target=lambda: elsewhere.extend(relax(crystals, potential, max_steps=10)))
    worker.start()
    worker.join()
    for one, two in zip(here, elsewhere, strict=True):
        assert (one.energy, one.n_steps, one.max_force) == (two.energy, two.n_steps, two.max_force)
        assert np.array_equal(one.structure.cart_coords, two.structure.cart_coords)


def test_nan_forces_are_a_rejection():
    nan = Scripted(lambda structure: (-1.0, np.full((1, 3), np.nan), np.zeros((3, 3))))
    assert relax([aluminium()], nan)[0].reason == "not_finite"


@pytest.mark.parametrize(("pull", "reason"), [(-1.0, "exploded"), (1.0, "collapsed")])
def test_a_cell_that_runs_away_is_stopped(pull, reason):
    # A constant stress has no minimum: the cell grows or shrinks for ever.
    runaway = Scripted(lambda structure: (0.0, np.zeros((len(structure), 3)), pull * np.eye(3)))
    # Many atoms to a small cell, so that neither isolation nor collision comes first.
    result = relax([aluminium(4.0) * (2, 2, 2)], runaway, max_steps=100_000)[0]
    assert isinstance(result, Rejection) and result.reason == reason


def test_a_bug_in_the_potential_is_raised():
    def broken(structure):
        raise RuntimeError("CUDA error")

    with pytest.raises(RuntimeError, match="CUDA error"):
        relax([aluminium()], Scripted(broken))


def test_the_potential_is_asked_once_a_step():
    harmonic = Scripted(
        lambda structure: (
            0.5 * (structure.volume - 16.0) ** 2,
            np.zeros((1, 3)),
            (structure.volume - 16.0) * np.eye(3),
        )
    )
    relaxed = relax([aluminium(4.1)], harmonic)[0]
    assert relaxed.converged and relaxed.n_steps > 0
    assert harmonic.calls == relaxed.n_steps + 1


@pytest.mark.parametrize(
    "wrong", [{"cell": "open"}, {"force_tol": 0.0}, {"force_tol": float("nan")}, {"max_steps": -1}]
)
def test_wrong_settings_are_refused(potential, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        relax([], potential, **wrong)


def test_one_structure_instead_of_a_list_is_said(potential):
    with pytest.raises(TypeError, match=r"relax\(\[structure\]"):
        relax(aluminium(), potential)


def test_protocol_names_all_that_a_relaxed_energy_depends_on():
    assert protocol(RelaxSettings(force_tol=0.02)) == {
        "engine": "batched-1",
        "filter": "frechet",
        "optimizer": "fire",
        "force_tol": 0.02,
        "stress_tol": None,
        "max_steps": 500,
        "fix_symmetry": False,
        "pressure_gpa": 0.0,
    }


def test_settings_are_read_without_torch():
    code = "import sys, matsearch.relaxation.settings; assert not {'torch', 'ase', 'pymatgen'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
