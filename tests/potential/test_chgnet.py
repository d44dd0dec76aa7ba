import threading
import warnings

import numpy as np
import pytest
import torch
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from chgnet.model.model import CHGNet as StockNetwork
from pymatgen.core import Element, Lattice, Structure

from matsearch.errors import PotentialError
from matsearch.potential import load_potential
from matsearch.potential.ase import PotentialCalculator, to_atoms, to_structure
from matsearch.potential.neighbors import bond_graph
from matsearch.testing.potential import example_crystals

EV_PER_A3_IN_GPA = 160.21766208


@pytest.fixture
def potential():
    return load_potential("chgnet-0.3.0", "cpu")


@pytest.mark.parametrize(("name", "version"), [("chgnet-0.3.0", "0.3.0"), ("chgnet-r2scan", "r2scan")])
def test_predictions_equal_those_of_the_stock_package(name, version, capsys):
    stock = StockNetwork.load(model_name=version, use_device="cpu", verbose=False)
    # The stock package gives the stress of a left-handed cell with the wrong sign, so those are left out here; the
    # contract holds them to their right-handed description.
    crystals = [one for one in example_crystals() if np.linalg.det(one.lattice.matrix) > 0]
    assert len(crystals) == 3
    for structure, ours in zip(crystals, load_potential(name, "cpu").predict(crystals), strict=True):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad=True to a scalar")
            theirs = stock.predict_structure(structure)
        assert ours.energy == pytest.approx(float(theirs["e"]) * len(structure), abs=2e-5)
        np.testing.assert_allclose(ours.forces, theirs["f"], atol=2e-4)
        np.testing.assert_allclose(ours.stress, theirs["s"] / EV_PER_A3_IN_GPA, atol=5e-6)
        np.testing.assert_allclose(ours.magmoms, theirs["m"], atol=1e-5)


def test_refused_elements_are_those_the_weights_never_saw():
    potentials = {name: load_potential(name, "cpu") for name in ("chgnet-0.3.0", "chgnet-r2scan")}
    assert [len(one.elements) for one in potentials.values()] == [89, 88]
    every = {Element.from_Z(number).symbol for number in range(1, 95)}
    assert every - potentials["chgnet-0.3.0"].elements == {"Po", "At", "Rn", "Fr", "Ra"}
    assert every - potentials["chgnet-r2scan"].elements == {"Yb", "Po", "At", "Rn", "Fr", "Ra"}
    # Embeddings of elements without training data kept their initial norm, about 8; Ne, with next to no data, is 6th.
    norms = potentials["chgnet-0.3.0"]._network.atom_embedding.embedding.weight.norm(dim=1)
    unseen = {Element.from_Z(index + 1).symbol for index in torch.argsort(norms)[:6].tolist()}
    assert unseen == {"Po", "At", "Rn", "Fr", "Ra", "Ne"}


def test_energy_scales_are_declared():
    assert load_potential("chgnet-0.3.0", "cpu").energy_scale == "mp2020"
    assert load_potential("chgnet-r2scan", "cpu").energy_scale == "r2scan"


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "meta", "cpu2"])
def test_bad_device_is_one_line(device):
    with pytest.raises(PotentialError, match=device) as caught:
        load_potential("chgnet-0.3.0", device)
    assert "\n" not in str(caught.value)


def test_loading_and_predicting_print_nothing(capsys):
    from matsearch.potential import chgnet

    chgnet._load.cache_clear()
    load_potential("chgnet-0.3.0", "cpu").predict(example_crystals())
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_weights_are_loaded_once_a_device(potential):
    assert load_potential("chgnet-0.3.0", "cpu")._network is potential._network


def test_atoms_without_neighbours_do_not_spoil_a_list(potential):
    atom = Structure(Lattice.cubic(20), ["Al"], [[0, 0, 0]])
    pair_and_atom = Structure(Lattice.cubic(20), ["Na", "Cl", "Al"], [[0, 0, 0], [0.1, 0, 0], [0.5, 0.5, 0.5]])
    crystal = example_crystals()[0]
    predictions = potential.predict([atom, crystal, pair_and_atom])
    assert np.all(predictions[0].forces == 0)
    assert np.all(predictions[2].forces[2] == 0)
    assert predictions[1].energy == potential.predict([crystal])[0].energy
    assert all(np.isfinite(one.energy) for one in predictions)


def test_disordered_and_nan_structures_are_refused(potential):
    mixed = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    with pytest.raises(PotentialError, match="structure 0 is disordered"):
        potential.predict([mixed])
    with pytest.raises(PotentialError, match="finite"):
        potential.predict([Structure(Lattice.cubic(3), ["Fe"], [[np.nan, 0, 0]])])


def test_same_bits_from_any_thread_and_thread_setting(potential):
    crystals = example_crystals()
    here = potential.predict(crystals)
    elsewhere = []
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        worker = threading.Thread(target=lambda: elsewhere.extend(potential.predict(crystals)))
        worker.start()
        worker.join()
        again = potential.predict(crystals)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    for one, two, three in zip(here, elsewhere, again, strict=True):
        assert one.energy == two.energy == three.energy
        assert np.array_equal(one.forces, two.forces) and np.array_equal(one.forces, three.forces)
        assert np.array_equal(one.stress, two.stress) and np.array_equal(one.stress, three.stress)


def test_bonds_come_in_pairs_and_angles_join_short_bonds_at_one_atom():
    structure = example_crystals()[1]
    bonds = bond_graph(structure.lattice.matrix, structure.cart_coords, 6.0, 3.0)
    assert np.all(np.bincount(bonds.directed_to_undirected) == 2)
    assert np.array_equal(
        bonds.directed_to_undirected[bonds.undirected_to_directed], np.arange(len(bonds.undirected_to_directed))
    )
    assert np.array_equal(bonds.centers[bonds.angle_first], bonds.centers[bonds.angle_second])
    assert np.all(bonds.angle_first != bonds.angle_second)
    at_atom = [len(structure.get_neighbors(site, 3.0)) for site in structure]
    assert len(bonds.angle_first) == sum(n * (n - 1) for n in at_atom)
    assert len(bonds.centers) == sum(len(structure.get_neighbors(site, 6.0)) for site in structure)


def test_ase_tools_run_on_a_potential(potential):
    structure = example_crystals()[2]
    atoms = to_atoms(structure)
    atoms.calc = PotentialCalculator(potential)
    prediction = potential.predict([structure])[0]
    assert atoms.get_potential_energy() == prediction.energy
    np.testing.assert_array_equal(atoms.get_forces(), prediction.forces)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), prediction.stress)
    np.testing.assert_array_equal(atoms.get_magnetic_moments(), prediction.magmoms)
    FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=0.1, steps=5)
    assert atoms.get_potential_energy() < prediction.energy
    assert to_structure(atoms).composition == structure.composition
