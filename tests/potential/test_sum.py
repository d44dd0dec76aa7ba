"""Sums of potentials: their names, what adds and what does not, and that everything runs on them."""

import numpy as np
import pytest
import torch
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from pymatgen.core import Lattice, Structure

import matsearch as ms
from matsearch.errors import ConfigError, MixedHullError, PotentialError
from matsearch.potential import Potential, load_potential
from matsearch.potential.ase import PotentialCalculator, to_atoms
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.names import FROM_FILE, summands
from matsearch.potential.sum import PotentialSum
from matsearch.records import Relaxed
from matsearch.reference import load_reference
from matsearch.testing.potential import PotentialContract, example_crystals

NAME = "chgnet-0.3.0+d3(pbe,bj)"


@pytest.fixture(scope="module")
def chgnet():
    return load_potential("chgnet-0.3.0", "cpu")


@pytest.fixture(scope="module")
def both():
    return load_potential(NAME, "cpu")


class Plain(BatchedPotential):
    """A potential of one number, to be added to others."""

    device = "cpu"
    energy_scale = "plain"

    def __init__(self, name, elements=("Na", "Cl"), **attributes):
        self.name = name
        self.elements = frozenset(elements)
        for key, value in attributes.items():
            setattr(self, key, value)

    def forward(self, batch):
        raise NotImplementedError


def graphite(spacing):
    return Structure(
        Lattice.hexagonal(2.464, 2 * spacing),
        ["C"] * 4,
        [[0, 0, 0.25], [0, 0, 0.75], [1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]],
    )


class TestSum(PotentialContract):
    @pytest.fixture
    def potential(self) -> Potential:
        return load_potential("chgnet-0.3.0+d3(pbe,bj)", "cpu").double()


def test_a_sum_is_the_sum_of_its_parts(both, chgnet):
    chosen = example_crystals()
    parts = [chgnet.predict(chosen), load_potential("d3(pbe,bj)", "cpu").predict(chosen)]
    for prediction, short, dispersion in zip(both.predict(chosen), *parts, strict=True):
        assert prediction.energy == pytest.approx(short.energy + dispersion.energy, abs=1e-9)
        np.testing.assert_allclose(prediction.forces, short.forces + dispersion.forces, atol=1e-5)
        np.testing.assert_allclose(prediction.stress, short.stress + dispersion.stress, atol=1e-6)
        np.testing.assert_array_equal(prediction.magmoms, short.magmoms)
        np.testing.assert_allclose(prediction.atom_energies.sum(), prediction.energy, atol=1e-5)
        np.testing.assert_array_equal(prediction.features, short.features)


def test_what_it_declares_comes_from_its_parts(both, chgnet):
    assert both.name == NAME
    assert both.energy_scale == "mp2020+d3(pbe,bj)"
    assert both.elements == chgnet.elements & load_potential("d3(pbe,bj)", "cpu").elements
    assert both.batch_atoms == chgnet.batch_atoms
    assert not both.is_term


@pytest.mark.parametrize(
    "name", ["d3(pbe,bj)+chgnet-0.3.0", " chgnet-0.3.0 + d3( PBE , bj ) ", "chgnet-0.3.0+d3(pbe,bj)"]
)
def test_one_sum_has_one_name(name):
    assert load_potential(name, "cpu").name == NAME


def test_charges_of_a_term_pass_through():
    with pytest.warns(UserWarning, match="hardness"):
        potential = load_potential("pqeq-generic+d3(pbe,bj)", "cpu")
    salt = example_crystals()[0]
    prediction = potential.predict([salt])[0]
    assert prediction.charges.shape == (8,)
    assert np.all(prediction.charges[:4] > 0.3)
    assert potential.is_term


def test_energies_that_were_not_fitted_together_do_not_add():
    with pytest.raises(PotentialError, match=r"chgnet-0\.3\.0 was not refitted beside pqeq.*count twice"):
        load_potential("chgnet-0.3.0+pqeq", "cpu")


def test_a_potential_that_was_fitted_beside_a_term_takes_it():
    term = Plain("charges", is_term=True, needs_refit="it is in the labels")
    fitted = Plain("short", fitted_beside=frozenset({"charges"}))
    assert PotentialSum([term, fitted]).name == "short+charges"
    with pytest.raises(PotentialError, match=r"short was not refitted beside charges.*it is in the labels"):
        PotentialSum([term, Plain("short", fitted_beside=frozenset({"others"}))])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chgnet-0.3.0+chgnet-r2scan", "chgnet-0.3.0 and chgnet-r2scan give whole energies each"),
        ("d3(pbe,bj)+d3(pbe,zero)+chgnet-0.3.0", "adds d3 twice"),
        ("pqeq-taper+pqeq-far", "pqeq-far and pqeq-taper hold the energy of charges each"),
    ],
)
def test_parts_that_make_no_energy_are_refused(name, message):
    with pytest.raises(PotentialError, match=message):
        load_potential(name, "cpu")


def test_terms_within_parts_count(both):
    with pytest.raises(PotentialError, match="adds d3 twice"):
        PotentialSum([both, load_potential("d3(pbe,bj)", "cpu")])


def test_an_unknown_part_is_named():
    with pytest.raises(ConfigError, match=r"unknown potential 'nothing'; known: chgnet-0\.3\.0"):
        load_potential("chgnet-0.3.0+nothing", "cpu")


def test_parts_without_a_common_element_are_refused():
    with pytest.raises(PotentialError, match="no element"):
        PotentialSum([Plain("short", elements=["Na"]), Plain("term", elements=["Cl"], is_term=True)])


def test_a_part_that_asks_a_calculator_is_refused():
    class Other(Potential):
        name, energy_scale, elements, device = "other", "own", frozenset({"Na"}), "cpu"

        def predict(self, structures):
            return []

    with pytest.raises(PotentialError, match="other gives no energies of a batch"):
        PotentialSum([Other(), load_potential("d3(pbe,bj)", "cpu")])


def test_one_energy_by_two_sets_of_parameters_is_not_added():
    with pytest.raises(PotentialError, match="pqeq and pqeq-refitted hold the energy of charges each"):
        load_potential("pqeq+pqeq-refitted", "cpu")


def test_a_plug_in_in_a_folder_with_a_plus_is_one_name(tmp_path):
    (tmp_path / "a+b").mkdir()
    path = tmp_path / "a+b" / "mine.py"
    path.write_text("def make(device): ...\n")
    assert summands(f"{path}:make") == [f"{path}:make"]


def test_a_term_adds_to_a_plug_in_of_a_file(tmp_path):
    path = tmp_path / "a+mine.py"
    path.write_text("from matsearch.potential.chgnet import chgnet_030 as make\n")
    assert summands(f"{path}:make+d3(pbe,bj)") == [f"{path}:make", "d3(pbe,bj)"]
    assert load_potential(f"{path}:make+d3(pbe,bj)", "cpu").name == NAME


def test_the_path_of_a_file_may_hold_a_plus(tmp_path):
    path = tmp_path / "a+b+c.model"
    path.touch()
    assert "mace" in FROM_FILE
    assert summands(f"mace:{path}+d3(pbe,bj)") == [f"mace:{path}", "d3(pbe,bj)"]
    assert summands("mace:small.model+d3(pbe,bj)") == ["mace:small.model", "d3(pbe,bj)"]


def test_its_crystals_meet_no_hull_of_a_part(both):
    structure = example_crystals()[0]
    relaxed = Relaxed(structure=structure, energy=-27.0, converged=True, n_steps=1, max_force=0.0, potential=both.name)
    with pytest.raises(MixedHullError, match=r"d3\(pbe,bj\)"):
        load_reference("chgnet-0.3.0").height(relaxed)


def test_dispersion_takes_no_crystal_out_of_the_domain(both):
    """Technetium has the lowest energy of a network, -2.38 of the -3 eV/atom allowed, and 0.64 of dispersion."""
    technetium = Structure(Lattice.hexagonal(2.74, 4.39), ["Tc"] * 2, [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]])
    assert both.predict([technetium])[0].out_of_domain is None
    hole = Structure(Lattice.cubic(1.5), ["Tc"], [[0, 0, 0]])
    assert both.predict([hole])[0].out_of_domain


def test_layers_of_graphite_are_found_where_they_are():
    """At 3.35 Å and bound by about 50 meV/atom, as measured; CHGNet alone finds none, as the PBE of its labels."""
    spacings = [*np.arange(3.0, 4.61, 0.05), 9.0]
    chosen = [graphite(spacing) for spacing in spacings]
    alone, together = (np.array(load_potential(name, "cpu").energies(chosen)) / 4 for name in ("chgnet-0.3.0", NAME))
    assert alone[-1] - alone.min() < 0.005  # eV/atom
    assert 0.04 < together[-1] - together.min() < 0.06
    assert spacings[together.argmin()] == pytest.approx(3.35, abs=0.11)


def test_crystals_relax_on_it_in_batches_as_alone(both):
    chosen = [one.copy().perturb(0.05) for one in example_crystals()[2:]]
    batched = ms.relax(chosen, both, force_tol=0.1, max_steps=200)
    for structure, one in zip(chosen, batched, strict=True):
        assert one.converged
        assert one.potential == NAME
        alone = ms.relax([structure], both, force_tol=0.1, max_steps=200)[0]
        assert alone.energy == pytest.approx(one.energy, abs=1e-6)
        assert alone.n_steps == one.n_steps


def test_a_calculator_runs_on_it(both):
    atoms = to_atoms(example_crystals()[2])
    atoms.calc = PotentialCalculator(both)
    FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=0.1, steps=200)
    relaxed = ms.relax([example_crystals()[2]], both, force_tol=0.1)[0]
    assert atoms.get_potential_energy() == pytest.approx(relaxed.energy, abs=2e-3)
    assert atoms.get_magnetic_moments().shape == (2,)


def test_lists_of_neighbours_serve_all_parts(both):
    batch = CrystalBatch.from_structures(example_crystals())
    first = both.evaluate(batch)
    assert torch.equal(first.energies, both.evaluate(batch).energies)
