import time
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace

import pytest
from pymatgen.core import Lattice, Structure
from scripted_campaign import poscar

import matsearch as ms
from matsearch.campaign.relaxations import Relaxations
from matsearch.campaign.rows import relaxation_row, relaxed_of
from matsearch.potential import load_potential
from matsearch.potential.longrange.latent import LatentPotential, LatentSettings
from matsearch.records import Rejection, Relaxed
from matsearch.relaxation.settings import RelaxSettings


def salt(a):
    return Structure.from_str(poscar("NaCl", a, ("Mg", "O")), fmt="poscar")


@pytest.fixture
def make():
    made = []

    def relaxations(**settings):
        made.append(Relaxations(load_potential("chgnet-0.3.0", "cpu"), RelaxSettings(**settings)))
        return made[-1]

    yield relaxations
    for one in made:
        one.close(finish=False)


def finish(relaxations):
    """Take everything as it comes: results and seconds by key."""
    results, seconds = {}, {}
    relaxations.send()
    while relaxations.pending:
        for future in wait(relaxations.pending, return_when=FIRST_COMPLETED).done:
            key, result, spent = relaxations.take(future)
            results[key], seconds[key] = result, spent
        relaxations.send()
    return results, seconds


def test_seconds_are_shares_of_the_time_in_which_anything_relaxed(make):
    relaxations = make(force_tol=0.01)
    for number in range(6):
        relaxations.enter(str(number), salt(4.0 + 0.1 * number))
    relaxations.enter("large", salt(4.4) * (2, 2, 2))
    start = time.monotonic()
    _, seconds = finish(relaxations)
    assert sum(seconds.values()) == pytest.approx(time.monotonic() - start, rel=0.1, abs=0.02)
    assert all(spent > 0 for spent in seconds.values())
    assert max(seconds, key=seconds.get) == "large"
    time.sleep(0.3)  # idle time is charged to nobody
    relaxations.enter("later", salt(4.3))
    start = time.monotonic()
    _, seconds = finish(relaxations)
    assert seconds["later"] == pytest.approx(time.monotonic() - start, rel=0.1, abs=0.02)


def test_no_more_is_sent_than_batches_hold_and_the_rest_follows(make):
    relaxations = make(max_steps=1)
    for number in range(400):
        relaxations.enter(str(number), salt(4.0 + 0.001 * number))
    relaxations.send()
    assert 20 < len(relaxations.pending) < 300
    results, _ = finish(relaxations)
    assert len(results) == 400
    assert all(isinstance(one, Relaxed) for one in results.values())


def test_all_settings_reach_the_relaxation(make):
    volumes = {}
    for name, settings in {
        "free": {"optimizer": "lbfgs", "stress_tol": 1e-3, "fix_symmetry": True},
        "squeezed": {"pressure_gpa": 20.0},
        "capped": {"max_steps": 1},
    }.items():
        relaxations = make(**settings)
        relaxations.enter("one", salt(4.35))
        result = finish(relaxations)[0]["one"]
        assert result.converged == (name != "capped")
        volumes[name] = result.structure.volume
        if name == "free":
            assert result.max_stress < 1e-3
    assert volumes["squeezed"] < volumes["free"]


def test_what_cannot_be_relaxed_is_a_rejection_and_what_breaks_is_raised(make):
    relaxations = make()
    relaxations.enter("bad", salt(1.0))
    results, _ = finish(relaxations)
    assert isinstance(results["bad"], Rejection)

    def fail(_batch):
        raise RuntimeError("the device is gone")

    relaxations._scheduler._potential.evaluate = fail
    relaxations.enter("good", salt(4.2))
    with pytest.raises(RuntimeError, match="the device is gone"):
        finish(relaxations)


def test_charges_of_relaxed_atoms_are_stored_beside_them() -> None:
    settings = LatentSettings(elements=("Cl", "Na"), energy_scale="own", width=0)
    salt = Structure(Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    (relaxed,) = ms.relax([salt], LatentPotential.new(settings), max_steps=1)
    assert relaxed.charges[0] == -relaxed.charges[1] != 0
    row = relaxation_row("key", relaxed, 1.0)
    assert relaxed_of(row, salt, relaxed.potential) == relaxed
    plain = relaxation_row("key", replace(relaxed, charges=None), 1.0)
    assert "charges" not in plain["structure"]
    assert relaxed_of(plain, salt, relaxed.potential).charges is None
