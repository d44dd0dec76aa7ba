"""SevenNet-0, on the weights of its wheel. Skipped where `sevenn` is absent."""

import socket
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

if find_spec("sevenn") is None:
    pytest.skip("needs sevenn: pip install 'matsearch[sevennet]'", allow_module_level=True)

from matsearch.potential import load_potential
from matsearch.potential.adapters import sevennet
from matsearch.potential.ase import to_atoms
from matsearch.records import Relaxed
from matsearch.relaxation import relax
from matsearch.testing.potential import PotentialContract, example_crystals


@pytest.fixture(scope="module")
def double():
    return load_potential("sevennet-0", "cpu").double()


class TestSevenNet0InDoublePrecision(PotentialContract):
    @pytest.fixture
    def potential(self, double):
        return double


class TestSevenNet0AsShipped(PotentialContract):
    step = 0.01
    force_tol = 0.01
    stress_tol = 5e-4
    energy_tol = 1e-5
    atom_tol = 1e-4

    @pytest.fixture
    def potential(self):
        return load_potential("sevennet-0", "cpu")


def test_scale_and_elements():
    potential = load_potential("sevennet-0", "cpu")
    assert (potential.name, potential.energy_scale) == ("sevennet-0", "pbe-raw")
    assert len(potential.elements) == 89
    assert not potential.elements & {"Po", "At", "Rn", "Fr", "Ra"}


def test_weights_come_from_the_wheel(monkeypatch):
    def no_network(*arguments, **options):
        raise AssertionError("reached for the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    sevennet._load.cache_clear()
    assert load_potential("sevennet-0", "cpu").predict(example_crystals()[:1])


def test_predictions_equal_those_of_the_calculator_of_the_package():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sevenn.calculator import SevenNetCalculator

        calculator = SevenNetCalculator(sevennet.CHECKPOINT, device="cpu")
    for structure, ours in zip(
        example_crystals(), load_potential("sevennet-0", "cpu").predict(example_crystals()), strict=True
    ):
        atoms = to_atoms(structure)
        atoms.calc = calculator
        assert ours.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
        np.testing.assert_allclose(ours.forces, atoms.get_forces(), atol=1e-5)
        np.testing.assert_allclose(ours.stress, atoms.get_stress(voigt=False), atol=1e-6)


def test_crystals_relax_on_it():
    crystals = example_crystals()[2:]
    relaxed = relax(crystals, load_potential("sevennet-0", "cpu"), force_tol=0.05)
    assert all(isinstance(one, Relaxed) and one.converged for one in relaxed)
    assert [one.potential for one in relaxed] == ["sevennet-0"] * 2
    assert relaxed[0].structure.volume / 2 == pytest.approx(9.6, abs=0.3)  # MgO: 19.2 Å^3 a formula unit by PBE


def test_atoms_without_neighbours_do_not_spoil_a_list():
    potential = load_potential("sevennet-0", "cpu")
    atom = Structure(Lattice.cubic(20), ["Al"], [[0, 0, 0]])
    crystal = example_crystals()[0]
    lone, together, last = potential.predict([atom, crystal, atom])
    assert np.all(lone.forces == 0) and np.all(lone.stress == 0)
    assert lone.energy == pytest.approx(last.energy)
    assert together.energy == pytest.approx(potential.predict([crystal])[0].energy, abs=1e-5)
    assert np.isfinite(potential.predict([atom])[0].energy)


@pytest.mark.parametrize(
    ("species", "edge", "correction"),
    # Å; eV per formula unit by which MaterialsProject2020Compatibility lowers it (Wang et al., Sci. Rep. 11, 15496
    # (2021)).
    [
        (["Al"], 4.04, 0.0),
        (["Mg", "O"], 4.25, -0.687),
        (["Na", "Cl"], 5.69, -0.614),
        (["Li", "F"], 4.07, -0.462),
        (["Mg", "S"], 5.23, -0.503),
    ],
)
def test_energies_are_those_of_pbe_without_the_corrections_that_chgnet_holds(species, edge, correction):
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]][: len(species)]
    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(edge), species, sites)
    raw, corrected = (
        load_potential(name, "cpu").predict([crystal])[0].energy / 4 for name in ("sevennet-0", "chgnet-0.3.0")
    )
    assert corrected - raw == pytest.approx(correction, abs=0.1)
