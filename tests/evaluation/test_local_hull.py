"""The hull that is made where it is asked for."""

import numpy as np
import pytest
from made_up_phases import BallPotential, DeepBallPotential, write_phases
from pymatgen.core import Composition, Lattice, Structure

from matsearch.evaluation.energies import Energies
from matsearch.evaluation.local_hull import LocalHull, touching_plane
from matsearch.records import Rejection
from matsearch.reference.build import build
from matsearch.reference.catalogue import read_catalogue
from matsearch.reference.hull import Hull
from matsearch.reference.known import load_reference


@pytest.fixture
def known(tmp_path):
    folder = tmp_path / "reference"
    for potential in (BallPotential, DeepBallPotential):
        build(potential("cpu"), folder, lambda _: None, source=str(write_phases(tmp_path / "phases.parquet")))
    return folder


def local_hull(folder, path):
    energies = Energies(DeepBallPotential("cpu"), path)
    return LocalHull(energies, load_reference(BallPotential.name, folder), read_catalogue(folder))


def test_the_touching_plane_is_that_of_the_hull():
    random = np.random.default_rng(0)
    fractions = np.vstack([np.eye(3), random.dirichlet(np.ones(3), 30)])
    energies = fractions @ [-3.0, -8.0, -5.0] + np.concatenate([np.zeros(3), random.uniform(-1, 0.5, 30)])
    hull = Hull(["A", "B", "C"], fractions, energies)
    for target in random.dirichlet(np.ones(3), 10):
        plane, point = touching_plane(fractions, energies, target), hull.at(dict(zip("ABC", target, strict=True)))
        assert plane.energy == pytest.approx(point.energy, abs=1e-9)
        assert set(np.flatnonzero(plane.shares > 1e-6)) == set(point.mixture)
        assert plane.heights.min() > -1e-9
        assert plane.heights[list(point.mixture)] == pytest.approx(0, abs=1e-9)
        assert np.all(plane.heights > hull.above() - 1e-9)


@pytest.mark.parametrize("formula", ["LiO", "Li2O", "MgO", "LiMgO", "Li3MgO2", "Mg"])
def test_it_is_the_whole_hull_where_it_is_asked_for(known, tmp_path, formula):
    (energy,) = local_hull(known, tmp_path / "e.sqlite").at([Composition(formula)])
    whole = load_reference(DeepBallPotential.name, known)
    assert whole.energy_above_hull(formula, energy) == pytest.approx(0, abs=1e-5)


def test_what_cannot_compete_costs_nothing_and_nothing_is_computed_twice(known, tmp_path):
    hull = local_hull(known, tmp_path / "e.sqlite")
    DeepBallPotential.n_calls = BallPotential.n_calls = 0
    first = hull.at([Composition("MgO")])
    # The three phases of Mg, O and MgO that lie low; not the strained MgO, nor anything with Li or Ti.
    assert hull.n_phases == 3
    assert len(hull.gains) == 1 and hull.gains[0] >= 0
    assert BallPotential.n_calls > 0
    BallPotential.n_calls = 0
    assert hull.at([Composition("MgO")]) == local_hull(known, tmp_path / "e.sqlite").at([Composition("MgO")]) == first
    assert BallPotential.n_calls == 0


def test_an_element_without_a_phase_is_a_reason(known, tmp_path):
    fine, missing = local_hull(known, tmp_path / "e.sqlite").at([Composition("MgO"), Composition("MgH2")])
    assert isinstance(fine, float)
    assert isinstance(missing, Rejection) and missing.reason == "no_reference" and "H" in missing.detail


def test_energies_of_other_weights_are_computed_anew(tmp_path):
    weights = tmp_path / "weights.safetensors"
    crystal = Structure(Lattice.cubic(3.0), ["Mg"], [[0, 0, 0]])
    counts = []
    for text in ("first", "first", "second"):
        weights.write_text(text)
        potential = BallPotential("cpu")
        potential.weight_files = (weights,)
        BallPotential.n_calls = 0
        energies = Energies(potential, tmp_path / "e.sqlite")
        energies.as_they_are([crystal])
        energies.close()
        counts.append(BallPotential.n_calls)
    assert counts[0] > 0 and counts[1] == 0 and counts[2] > 0
