"""The tapered variant of PQEq against independent numbers, its own slopes, and the catastrophe that it is known for."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Element, Lattice, Structure

from matsearch.potential import load_potential
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.taper import CUTOFF, TaperedPQEq, taper


@pytest.fixture(scope="module")
def potential() -> TaperedPQEq:
    return load_potential("pqeq-taper", "cpu")


def rocksalt(side: float, cation: str, anion: str) -> Structure:
    return Structure(Lattice(side / 2 * (1 - np.eye(3))), [cation, anion], [[0.01, 0, 0.02], [0.5, 0.49, 0.5]])


def test_cells_of_an_independent_code_are_reproduced(potential: TaperedPQEq) -> None:
    folder = os.environ.get("MATSEARCH_SHARED")
    if not folder or not (path := Path(folder) / "data" / "pqeq_fixtures.json").is_file():
        pytest.skip("MATSEARCH_SHARED names no folder with data/pqeq_fixtures.json")
    cells = [
        one
        for one in json.loads(path.read_text()).values()
        if "taper12.5_converged" in one and len(one["symbols"]) < 10
    ]
    assert cells
    for one in cells:
        numbers = [Element(symbol).Z for symbol in one["symbols"]]
        batch = CrystalBatch.from_arrays([np.array(one["positions"])], [np.array(one["cell"])], [numbers])
        energy, charges, shells = potential.equilibrium(batch, 0)
        theirs = one["taper12.5_converged"]
        assert float(energy) == pytest.approx(theirs["E_eV"], abs=1e-9)
        np.testing.assert_allclose(charges, theirs["q"], atol=1e-6)
        np.testing.assert_allclose(shells, theirs["rs"], atol=1e-8)


def test_two_iterations_give_the_numbers_of_the_published_code() -> None:
    # reaxnet (jax-nb), examples of Li2PO2N: q(Li), q of the last O, and the energy of 90 such cells.
    folder = os.environ.get("MATSEARCH_SHARED")
    if not folder or not (path := Path(folder) / "data" / "pqeq_fixtures.json").is_file():
        pytest.skip("MATSEARCH_SHARED names no folder with data/pqeq_fixtures.json")
    one = json.loads(path.read_text())["Li2PO2N"]
    numbers = [Element(symbol).Z for symbol in one["symbols"]]
    batch = CrystalBatch.from_arrays([np.array(one["positions"])], [np.array(one["cell"])], [numbers])
    energy, charges, _ = load_potential("pqeq-published", "cpu").equilibrium(batch, 0)
    assert float(energy) * 90 == pytest.approx(-592.351104, abs=2e-6)
    assert float(charges[0]) == pytest.approx(0.37500883, abs=2e-7)
    last = max(index for index, number in enumerate(numbers) if number == 8)
    assert float(charges[last]) == pytest.approx(-0.2685427, abs=2e-7)


def test_two_iterations_are_nearly_converged_in_a_stiff_crystal(potential: TaperedPQEq) -> None:
    batch = CrystalBatch.from_structures([rocksalt(4.21, "Mg", "O")])
    quick = load_potential("pqeq-published", "cpu").equilibrium(batch, 0)
    energy, charges, shells = potential.equilibrium(batch, 0)
    assert 0 < float(quick[0] - energy) < 1e-4
    np.testing.assert_allclose(quick[1], charges, atol=1e-3)
    np.testing.assert_allclose(quick[2], shells, atol=1e-3)


def test_charges_are_the_published_ones_not_those_of_ewald(potential: TaperedPQEq) -> None:
    # NaCl, 5.64 Å: 0.615 e under the taper against 0.911 e.
    batch = CrystalBatch.from_structures([rocksalt(5.64, "Na", "Cl")])
    assert float(potential.equilibrium(batch, 0)[1][0]) == pytest.approx(0.615, abs=1e-3)
    assert float(load_potential("pqeq", "cpu").equilibrium(batch).charges[0]) == pytest.approx(0.911, abs=1e-3)


def test_forces_are_slopes(potential: TaperedPQEq) -> None:
    batch = CrystalBatch.from_structures([rocksalt(4.21, "Mg", "O")])
    forces = potential.evaluate(batch).forces
    step = torch.zeros_like(batch.positions)
    step[0, 1] = 1e-4
    ends = [
        float(potential.equilibrium(batch.moved(batch.positions + sign * step, batch.cells), 0)[0]) for sign in (1, -1)
    ]
    assert float(forces[0, 1]) == pytest.approx(-(ends[0] - ends[1]) / 2e-4, abs=1e-7)


def test_shells_of_potassium_chloride_run_away(potential: TaperedPQEq) -> None:
    # In a cell of 8 atoms, whose shells can move against each other.
    cubic = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    first, second = potential.predict([rocksalt(6.29, "K", "Cl") * cubic, rocksalt(4.21, "Mg", "O")])
    assert first.out_of_domain is not None and "polarization catastrophe" in first.out_of_domain
    assert second.out_of_domain is None


def test_the_taper_ends_smoothly() -> None:
    r = torch.tensor([0.0, CUTOFF / 2, CUTOFF, 13.0], dtype=torch.float64)
    np.testing.assert_allclose(taper(r), [1, 0.5, 0, 0], atol=1e-12)
