import os
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from chgnet.graph import converter as stock_converter
from chgnet.model import model as stock_model
from chgnet.model.model import CHGNet as StockNetwork
from generated_crystals import distorted, generated_crystals, prototypes
from pymatgen.core import Element, Lattice, Structure

from matsearch.errors import PotentialError
from matsearch.potential import chgnet, load_potential
from matsearch.potential.ase import PotentialCalculator, to_atoms, to_structure
from matsearch.potential.batch import CrystalBatch
from matsearch.testing.potential import example_crystals

EV_PER_A3_IN_GPA = 160.21766208
VERSIONS = {"chgnet-0.3.0": "0.3.0", "chgnet-r2scan": "r2scan"}
# meV/atom, meV/Å, GPa, μB.
AS_SHIPPED = {"energy": 0.1, "forces": 1.0, "stress": 0.01, "moments": 1e-3}
DOUBLE = {"energy": 1e-6, "forces": 1e-4, "stress": 1e-6, "moments": 1e-8}

CRYSTALS = generated_crystals()


class Stock:
    """The network of the stock package, in the precision it has or in double precision."""

    def __init__(self, version, dtype=torch.float32):
        self._network = StockNetwork.load(model_name=version, use_device="cpu", verbose=False).to(dtype)
        self._network.graph_converter.set_isolated_atom_response("ignore")
        self._dtype = dtype
        if dtype == torch.float64:  # it divides in single precision
            self._network.composition_model.forward = self._composition_energies

    def _composition_energies(self, graphs):
        references = self._network.composition_model.fc.weight[0]
        return torch.stack([references[graph.atomic_number.long() - 1].mean() for graph in graphs])

    def predict(self, structures):
        with self._geometry_in_its_precision(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad=True to a scalar")
            return [self._network.predict_structure(one, return_site_energies=True) for one in structures]

    @contextmanager
    def _geometry_in_its_precision(self):
        modules = (stock_converter, stock_model)
        for module in modules:
            module.TORCH_DTYPE = self._dtype
        try:
            yield
        finally:
            for module in modules:
                module.TORCH_DTYPE = torch.float32


@pytest.fixture(scope="module")
def potential():
    return load_potential("chgnet-0.3.0", "cpu")


@pytest.fixture(scope="module", params=VERSIONS)
def shipped(request):
    """Ours and the stock one, both as shipped."""
    return load_potential(request.param, "cpu"), Stock(VERSIONS[request.param])


@pytest.fixture(scope="module", params=VERSIONS)
def double(request):
    """Ours and the stock one, both in double precision."""
    return load_potential(request.param, "cpu").double(), Stock(VERSIONS[request.param], torch.float64)


def differences(ours, theirs):
    """Largest difference of each kind, per atom where it is an energy."""
    n_atoms = len(ours.forces)
    return {
        "energy": abs(ours.energy / n_atoms - float(theirs["e"])) * 1e3,
        "forces": np.abs(ours.forces - theirs["f"]).max() * 1e3,
        "stress": np.abs(ours.stress * EV_PER_A3_IN_GPA - theirs["s"]).max(),
        "moments": np.abs(ours.magmoms - theirs["m"]).max(),
    }


def assert_equal_within(limits, crystals, potential, stock):
    predictions = zip(potential.predict(list(crystals.values())), stock.predict(crystals.values()), strict=True)
    for name, (ours, theirs) in zip(crystals, predictions, strict=True):
        for kind, difference in differences(ours, theirs).items():
            assert difference < limits[kind], f"{kind} of {name}"


def test_generated_crystals_are_of_all_kinds():
    sizes = [len(one) for one in CRYSTALS.values()]
    assert (min(sizes), max(sizes)) == (1, 80)
    assert len({element for one in CRYSTALS.values() for element in one.composition.elements}) > 20
    short = {
        name: int((CrystalBatch.from_structures([one]).pairs(3.0).lengths > 0).sum()) for name, one in CRYSTALS.items()
    }
    assert [name for name, n_short in short.items() if n_short == 0] == ["no angles, CsI", "no angles, xenon"]
    assert short["one short bond, H2"] == 1
    assert all(np.linalg.det(one.lattice.matrix) > 0 for one in CRYSTALS.values())


def test_predictions_are_those_of_the_stock_package(shipped):
    assert_equal_within(AS_SHIPPED, CRYSTALS, *shipped)


def test_in_double_precision_they_are_the_same_numbers(double):
    # 64 and 80 atoms show nothing here that fewer do not.
    assert_equal_within(DOUBLE, {name: one for name, one in CRYSTALS.items() if len(one) < 60}, *double)


def test_double_precision_is_within_the_rounding_of_the_stock_package(shipped):
    potential, stock = shipped
    few = {name: CRYSTALS[name] for name in ("rocksalt MgO", "perovskite BaTiO3", "copper", "water, sparse")}
    assert_equal_within(AS_SHIPPED | {"energy": 0.01}, few, potential.double(), stock)


def test_symmetric_crystals_have_the_energies_and_stresses_of_the_stock_package(double):
    # Angles of 180 degrees, where single precision is a matter of luck: 1e-8 in a cosine is 1e-4 in its angle.
    names = ("rocksalt MgO", "perovskite BaTiO3", "copper", "aluminium, one atom", "no angles, CsI")
    assert_equal_within(DOUBLE, {name: prototypes()[name] for name in names}, *double)


def test_energies_of_the_atoms_are_those_of_the_stock_package(shipped):
    potential, stock = shipped
    crystals = [CRYSTALS[name] for name in ("spinel MgFe2O4", "heavy UO2", "water, sparse")]
    for ours, theirs in zip(potential.predict(crystals), stock.predict(crystals), strict=True):
        np.testing.assert_allclose(ours.atom_energies, theirs["site_energies"], atol=1e-4)


@pytest.mark.skipif("MATSEARCH_SHARED" not in os.environ, reason="MATSEARCH_SHARED names no folder of shared data")
@pytest.mark.parametrize("name", VERSIONS)
def test_parity_holds_for_crystals_of_the_materials_project(name):
    import pyarrow.parquet as pq

    path = Path(os.environ["MATSEARCH_SHARED"]) / "data" / "mp20_mpts52.parquet"
    if not path.is_file():
        pytest.skip("MATSEARCH_SHARED holds no data/mp20_mpts52.parquet")
    potential, stock = load_potential(name, "cpu"), Stock(VERSIONS[name])
    rows = pq.read_table(path, columns=["material_id", "lattice", "species", "frac_coords", "n_atoms"]).to_pylist()
    rows = [row for row in rows if row["n_atoms"] <= 20 and set(row["species"]) <= potential.elements]
    chosen = np.random.default_rng(0).choice(len(rows), 200, replace=False)
    crystals = {
        row["material_id"]: distorted(
            Structure(
                Lattice.from_parameters(*row["lattice"]), row["species"], np.reshape(row["frac_coords"], (-1, 3))
            ),
            seed,
        )
        for seed, row in enumerate(rows[index] for index in chosen)
    }
    assert_equal_within(AS_SHIPPED, crystals, potential, stock)
    assert_equal_within(AS_SHIPPED | {"energy": 0.01}, crystals, potential.double(), stock)


def test_refused_elements_are_those_the_weights_never_saw():
    potentials = {name: load_potential(name, "cpu") for name in VERSIONS}
    assert [len(one.elements) for one in potentials.values()] == [89, 88]
    every = {Element.from_Z(number).symbol for number in range(1, 95)}
    assert every - potentials["chgnet-0.3.0"].elements == {"Po", "At", "Rn", "Fr", "Ra"}
    assert every - potentials["chgnet-r2scan"].elements == {"Yb", "Po", "At", "Rn", "Fr", "Ra"}
    # Embeddings of elements without training data kept their initial norm, about 8; Ne, with next to no data, is 6th.
    norms = chgnet.checkpoint("0.3.0")["atom_embedding.embedding.weight"].norm(dim=1)
    unseen = {Element.from_Z(index + 1).symbol for index in torch.argsort(norms)[:6].tolist()}
    assert unseen == {"Po", "At", "Rn", "Fr", "Ra", "Ne"}


def test_energy_references_are_the_composition_energies_of_the_elements_it_knows():
    for name, version in VERSIONS.items():
        potential = load_potential(name, "cpu")
        assert potential.energy_references.keys() == potential.elements
        references = StockNetwork.load(model_name=version, use_device="cpu", verbose=False).composition_model.fc.weight
        for symbol, energy in potential.energy_references.items():
            assert energy == pytest.approx(float(references[0, Element(symbol).Z - 1]), abs=1e-6), symbol


def test_what_the_network_adds_to_the_references_is_small(potential):
    # An eV or two an atom; the references alone are up to -12.
    crystals = prototypes()
    for name, prediction in zip(crystals, potential.predict(list(crystals.values())), strict=True):
        symbols = [site.specie.symbol for site in crystals[name]]
        network = (prediction.energy - sum(potential.energy_references[one] for one in symbols)) / len(symbols)
        assert abs(network) < 3, name


def test_energy_scales_are_declared():
    assert load_potential("chgnet-0.3.0", "cpu").energy_scale == "mp2020"
    assert load_potential("chgnet-r2scan", "cpu").energy_scale == "r2scan"


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "meta", "cpu2"])
def test_bad_device_is_one_line(device):
    with pytest.raises(PotentialError, match=device) as caught:
        load_potential("chgnet-0.3.0", device)
    assert "\n" not in str(caught.value)


def test_loading_and_predicting_print_nothing(capfd):
    chgnet.checkpoint.cache_clear()
    load_potential("chgnet-0.3.0", "cpu").predict(example_crystals())
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_weights_are_read_once_and_stay_as_they_are(potential):
    again = load_potential("chgnet-0.3.0", "cpu")
    weights = chgnet.checkpoint("0.3.0")
    assert again._weights is chgnet.checkpoint("0.3.0") is weights
    before = {name: weight.clone() for name, weight in weights.items()}
    again.predict(example_crystals())
    again.double().predict(example_crystals())
    assert all(torch.equal(weights[name], before[name]) for name in before)


def test_atoms_without_neighbours_do_not_spoil_a_list(potential):
    atom = Structure(Lattice.cubic(20), ["Al"], [[0, 0, 0]])
    pair_and_atom = Structure(Lattice.cubic(20), ["Na", "Cl", "Al"], [[0, 0, 0], [0.1, 0, 0], [0.5, 0.5, 0.5]])
    crystal = example_crystals()[0]
    predictions = potential.predict([atom, crystal, pair_and_atom])
    assert np.all(predictions[0].forces == 0) and np.all(predictions[0].stress == 0)
    assert np.all(predictions[2].forces[2] == 0)
    alone = potential.predict([crystal])[0]
    assert predictions[1].energy == pytest.approx(alone.energy, abs=1e-5)
    np.testing.assert_allclose(predictions[1].forces, alone.forces, atol=1e-5)
    assert all(np.isfinite(one.energy) for one in predictions)
    # The isolated atom of the molecule's cell is the isolated atom of the other.
    assert predictions[2].atom_energies[2] == pytest.approx(predictions[0].energy, abs=1e-5)


def test_an_isolated_atom_alone_has_an_energy_and_no_forces(potential):
    for one in (potential, potential.double()):
        prediction = one.predict([Structure(Lattice.cubic(20), ["Al"], [[0, 0, 0]])])[0]
        assert np.isfinite(prediction.energy)
        assert np.all(prediction.forces == 0) and np.all(prediction.stress == 0)


def test_an_isolated_atom_beside_a_molecule_is_that_of_the_stock_package(double):
    three = Structure(Lattice.cubic(20), ["Na", "Cl", "Al"], [[0, 0, 0], [0.1, 0, 0], [0.5, 0.5, 0.5]])
    assert_equal_within(DOUBLE, {"three": three}, *double)


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


def test_colliding_atoms_and_holes_of_the_energy_are_flagged_where_they_are():
    potential = load_potential("chgnet-r2scan", "cpu")
    good = prototypes()["rocksalt MgO"]
    collision = Structure(Lattice.cubic(6.0), ["O", "Na", "Na"], [[0, 0, 0], [0, 0, 0.2], [0.5, 0.5, 0.5]])
    hole = good.copy()
    hole.scale_lattice(good.volume * 0.17)
    first, second, third, fourth = potential.predict([good, collision, hole, good])
    assert first.out_of_domain is fourth.out_of_domain is None
    assert second.out_of_domain.startswith("Na and O are 1.20 Å apart")
    assert "eV/atom from the references of chgnet-r2scan" in third.out_of_domain
    assert third.energy / len(hole) < first.energy / len(good) - 100


def test_ase_tools_run_on_a_potential(potential):
    structure = example_crystals()[2]
    atoms = to_atoms(structure)
    atoms.calc = PotentialCalculator(potential)
    prediction = potential.predict([structure])[0]
    assert atoms.get_potential_energy() == pytest.approx(prediction.energy, abs=1e-6)
    np.testing.assert_allclose(atoms.get_forces(), prediction.forces, atol=1e-6)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), prediction.stress, atol=1e-8)
    np.testing.assert_allclose(atoms.get_magnetic_moments(), prediction.magmoms, atol=1e-6)
    FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=0.1, steps=5)
    assert atoms.get_potential_energy() < prediction.energy
    assert to_structure(atoms).composition == structure.composition
