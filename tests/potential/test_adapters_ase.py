"""Any ASE calculator is a potential."""

import inspect
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest
from ase.calculators.calculator import CalculationFailed, Calculator
from ase.calculators.emt import EMT
from pymatgen.core import Lattice, Structure
from springs import Springs, springs

from matsearch.errors import PotentialError
from matsearch.potential import load_potential
from matsearch.potential.adapters.ase import AsePotential
from matsearch.potential.ase import to_atoms
from matsearch.records import Relaxed
from matsearch.relaxation import relax
from matsearch.testing.potential import PotentialContract, example_crystals


class TestSprings(PotentialContract):
    @pytest.fixture
    def potential(self):
        return springs()


class TestEMT(PotentialContract):
    @pytest.fixture
    def potential(self):
        return AsePotential(EMT(), name="emt", energy_scale="emt", elements=["Al", "Cu", "Ni", "O"])

    @pytest.fixture
    def crystals(self):
        names = {"Na": "Cu", "Cl": "Ni", "Li": "Al", "Fe": "Ni", "Mg": "Cu", "Al": "Al", "O": "O"}
        return [
            Structure(one.lattice, [names[site.specie.symbol] for site in one], one.frac_coords)
            for one in example_crystals()
        ]


def test_a_calculator_that_divides_by_a_signed_volume_is_put_right():
    left = example_crystals()[2]
    assert np.linalg.det(left.lattice.matrix) < 0
    wrong = Springs().get_property("stress", to_atoms(left))
    np.testing.assert_allclose(np.diag(springs().predict([left])[0].stress), -wrong[:3])


def test_moments_are_magnitudes_and_charges_keep_their_sign():
    (prediction,) = springs().predict(example_crystals()[:1])
    assert np.all(prediction.magmoms > 0)
    assert np.any(prediction.charges < 0)


def test_what_a_calculator_does_not_give_is_none():
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
    (prediction,) = AsePotential(EMT(), name="emt", energy_scale="emt", elements=["Cu"]).predict([copper])
    assert prediction.magmoms is None and prediction.charges is None and prediction.features is None
    assert prediction.atom_energies.sum() == pytest.approx(prediction.energy)


def test_the_example_of_the_docstring_runs_and_relaxes(tmp_path, monkeypatch):
    (example,) = inspect.getdoc(AsePotential).split("```python\n")[1:]
    (tmp_path / "emt_potential.py").write_text(textwrap.dedent(example.split("```")[0]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "emt_potential", raising=False)
    potential = load_potential("emt_potential:emt", "cpu")
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.7), ["Cu"], [[0, 0, 0]])
    (relaxed,) = relax([copper], potential, force_tol=0.01)
    assert isinstance(relaxed, Relaxed) and relaxed.converged and relaxed.potential == "emt_potential:emt"
    assert relaxed.structure.lattice.a == pytest.approx(3.59, abs=0.01)


def test_calculators_without_stress_and_wrong_elements_are_refused():
    class OnlyEnergy(Calculator):
        implemented_properties: ClassVar[list[str]] = ["energy"]

    with pytest.raises(PotentialError, match="OnlyEnergy gives no forces and no stress"):
        AsePotential(OnlyEnergy(), name="one", energy_scale="one", elements=["Al"])
    with pytest.raises(ValueError, match="'Xx'"):
        AsePotential(EMT(), name="emt", energy_scale="emt", elements=["Al", "Xx"])
    with pytest.raises(ValueError, match="empty"):
        AsePotential(EMT(), name="emt", energy_scale="emt", elements=[])


def test_a_calculation_that_fails_names_the_structure():
    class Fails(EMT):
        def calculate(self, *arguments, **options):
            raise CalculationFailed("no convergence")

    potential = AsePotential(Fails(), name="dft", energy_scale="pbe-raw", elements=["Al"])
    with pytest.raises(PotentialError, match=r"dft failed on structure 0 \(Al\): CalculationFailed: no convergence"):
        potential.predict([example_crystals()[3]])


def test_threads_take_turns_with_one_calculator():
    crystals = [
        Structure(Lattice([[0, a, a], [a, 0, a], [a, a, 0]]), [symbol], [[0, 0, 0]])
        for symbol, a in (("Cu", 1.8), ("Al", 2.0))
    ]
    potential = AsePotential(EMT(), name="emt", energy_scale="emt", elements=["Al", "Cu"])
    alone = [one.energy for one in potential.predict(crystals)]
    with ThreadPoolExecutor(2) as threads:
        jobs = [threads.submit(potential.predict, [crystals[number % 2]]) for number in range(80)]
    assert [job.result()[0].energy for job in jobs] == [alone[number % 2] for number in range(80)]
