"""ASE's tools and those built on ASE run on a potential."""

import inspect
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE, LBFGS
from ase.phonons import Phonons
from ase.units import GPa
from pymatgen.core import Lattice, Structure

from matsearch.errors import PotentialError
from matsearch.potential import load_potential
from matsearch.potential.adapters.ase import AsePotential
from matsearch.potential.ase import PotentialCalculator
from matsearch.testing.potential import example_crystals


def copper(potential=None):
    """A face, over a potential that is quick and whose own answers are at hand."""
    atoms = bulk("Cu", cubic=True)
    atoms.calc = PotentialCalculator(
        potential or AsePotential(EMT(), name="emt", energy_scale="emt", elements=["Cu", "Al", "Au"])
    )
    return atoms


def emt_copper():
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    return atoms


def test_results_are_plain_numbers_and_arrays_in_units_of_ase():
    atoms = copper(load_potential("chgnet-0.3.0", "cpu"))
    atoms.rattle(0.05, seed=0)
    assert isinstance(atoms.get_potential_energy(), float)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    shapes = {"forces": (4, 3), "stress": (6,), "energies": (4,), "magmoms": (4,)}
    for name, shape in shapes.items():
        values = atoms.calc.get_property(name, atoms)
        assert type(values) is np.ndarray and values.shape == shape and values.dtype == float, name
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_charges()


def test_a_face_is_made_of_a_name_too():
    face = PotentialCalculator("chgnet-0.3.0", "cpu")
    assert face.potential.name == "chgnet-0.3.0"
    assert PotentialCalculator(face.potential).potential is face.potential


def test_the_example_of_the_docstring_runs():
    (example,) = inspect.getdoc(PotentialCalculator).split("```python\n")[1:]
    names = {}
    exec(compile(example.split("```")[0], "docstring", "exec"), names)
    assert np.linalg.norm(names["atoms"].get_forces(), axis=1).max() < 0.05


@pytest.mark.parametrize("handed", ["left", "right"])
def test_stress_is_that_of_the_calculator_behind_it(handed):
    ours, theirs = copper(), emt_copper()
    for atoms in (ours, theirs):
        atoms.set_cell(atoms.cell.array * [1.02, 0.99, 1.0], scale_atoms=True)
    if handed == "left":
        ours.set_cell(ours.cell.array[[1, 0, 2]])
    np.testing.assert_allclose(ours.get_stress(), theirs.get_stress(), atol=1e-10)
    assert abs(theirs.get_stress()).max() > 0.1 * GPa


@pytest.mark.parametrize(
    ("atoms", "got"),
    [
        (molecule("H2O"), r"pbc=\[False, False, False\] and a cell of 0 "),
        (Atoms("Cu", cell=[3, 3, 10], pbc=[True, True, False]), r"pbc=\[True, True, False\]"),
        (Atoms("Cu", cell=[3, 3, 0], pbc=True), "cell of 0 Å"),
        (Atoms(cell=[3, 3, 3], pbc=True), "no atoms"),
    ],
)
def test_atoms_that_are_no_crystal_are_refused_with_what_to_do(atoms, got):
    atoms.calc = copper().calc
    with pytest.raises(PotentialError, match=got) as caught:
        atoms.get_potential_energy()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("optimizer", [BFGS, FIRE, LBFGS])
def test_optimisers_find_the_minimum_of_atoms_and_cell(optimizer):
    atoms = copper()
    atoms.rattle(0.05, seed=1)
    atoms.set_cell(atoms.cell.array * 1.03, scale_atoms=True)
    optimizer(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-3, steps=200)
    assert atoms.cell.volume ** (1 / 3) == pytest.approx(3.59, abs=0.01)
    assert abs(atoms.get_stress()).max() < 1e-3


def test_equation_of_state_gives_the_bulk_modulus():
    def modulus(atoms):
        cell = atoms.cell.array.copy()
        volumes, energies = [], []
        for scale in np.linspace(0.97, 1.03, 7):
            atoms.set_cell(cell * scale, scale_atoms=True)
            volumes.append(atoms.cell.volume)
            energies.append(atoms.get_potential_energy())
        return EquationOfState(volumes, energies, eos="birchmurnaghan").fit()[2] / GPa

    assert modulus(copper()) == pytest.approx(modulus(emt_copper()), rel=1e-6)
    assert modulus(copper()) == pytest.approx(134, abs=10)


def test_phonons_of_ase(tmp_path):
    def frequencies(atoms, name):
        phonons = Phonons(atoms, atoms.calc, supercell=(2, 2, 2), delta=0.01, name=str(tmp_path / name))
        phonons.run()
        phonons.read(acoustic=True)
        return phonons.band_structure([[0.5, 0, 0]])

    ours = frequencies(copper(), "ours")
    np.testing.assert_allclose(ours, frequencies(emt_copper(), "theirs"), atol=1e-6)
    assert ours.max() > 0.01


@pytest.mark.skipif(find_spec("phonopy") is None, reason="needs phonopy: pip install phonopy")
def test_phonopy_takes_forces_from_a_potential():
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    structure = example_crystals()[2]
    unit = PhonopyAtoms(
        symbols=[site.specie.symbol for site in structure],
        cell=structure.lattice.matrix,
        scaled_positions=structure.frac_coords,
    )
    phonon = Phonopy(unit, supercell_matrix=np.diag([2, 2, 2]), primitive_matrix="P")
    phonon.generate_displacements(distance=0.01)
    face = PotentialCalculator("chgnet-0.3.0", "cpu")
    forces = []
    for cell in phonon.supercells_with_displacements:
        atoms = Atoms(symbols=cell.symbols, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)
        forces.append(face.get_forces(atoms))
    phonon.forces = forces
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants()
    frequencies = phonon.run_qpoints([[0, 0, 0]]).frequencies[0]
    assert np.abs(np.sort(np.abs(frequencies))[:3]).max() < 0.1  # THz: three acoustic modes
    assert 8 < frequencies[-1] < 25


@pytest.mark.skipif(find_spec("matcalc") is None, reason="needs matcalc: pip install matcalc")
def test_matcalc_says_of_a_face_what_it_says_of_the_calculator_behind_it():
    def properties(calculator):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from matcalc import ElasticityCalc, EOSCalc, PhononCalc, RelaxCalc

            copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.7), ["Cu"], [[0, 0, 0]])
            relaxed = RelaxCalc(calculator, fmax=1e-3).calc(copper)["final_structure"]
            state = EOSCalc(calculator, relax_structure=False, fmax=0.01).calc(relaxed)
            elastic = ElasticityCalc(calculator, relax_structure=False, fmax=0.01).calc(relaxed)
            phonons = PhononCalc(
                calculator, relax_structure=False, supercell_matrix=np.diag([2, 2, 2]), write_phonon=False
            ).calc(relaxed)
        heat = phonons["thermal_properties"]["heat_capacity"]
        return [float(state["bulk_modulus_bm"]), float(elastic["bulk_modulus_vrh"]), *heat]

    np.testing.assert_allclose(properties(copper().calc), properties(EMT()), rtol=1e-5)


@pytest.mark.skipif(find_spec("matcalc") is None, reason="needs matcalc: pip install matcalc")
def test_matcalc_runs_on_chgnet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from matcalc import EOSCalc, RelaxCalc

        face = PotentialCalculator("chgnet-0.3.0", "cpu")
        relaxed = RelaxCalc(face, fmax=0.05).calc(example_crystals()[2])
        state = EOSCalc(face, relax_structure=False, fmax=0.1).calc(relaxed["final_structure"])
    assert float(state["bulk_modulus_bm"]) == pytest.approx(160, abs=15)  # GPa; MgO by PBE 152
