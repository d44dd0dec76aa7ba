"""A potential with other composition energies and scales, as itself and read back from its folder."""

import json

import numpy as np
import pytest
import torch
from pymatgen.core import Structure

from matsearch.errors import MissingReferenceError, PotentialError
from matsearch.potential import load_potential
from matsearch.potential.batch import Output
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.corrected import CorrectedPotential, Correction
from matsearch.reference import load_reference
from matsearch.testing.potential import PotentialContract, example_crystals

SCALES = {"Cl-Na": 1.2, "Mg-O": 0.9}
CORRECTION = Correction(base="walls", scales=SCALES)


class Walls(BatchedPotential):
    """Pairs repel up to 4 Å, over composition energies."""

    name, energy_scale, device = "walls", "made-up", "cpu"
    elements = frozenset({"Li", "O", "Na", "Mg", "Al", "Cl", "Fe"})
    energy_references = dict.fromkeys(sorted(elements), -3.0)

    def double(self):
        return self

    def forward(self, batch):
        pairs = batch.pairs(4.0)
        lengths = pairs.vectors(batch.positions, batch.cells).norm(dim=1)
        energies = 0.01 * (4.0 - lengths) ** 4
        atoms = torch.full((batch.n_atoms,), -3.0, dtype=torch.float64)
        atoms = atoms.index_add(0, pairs.first, energies / 2).index_add(0, pairs.second, energies / 2)
        return Output(energies=batch.per_system(atoms), atom_energies=atoms.detach())


class TestCorrectedInMemory(PotentialContract):
    @pytest.fixture
    def potential(self):
        return CorrectedPotential(Walls(), CORRECTION)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    chgnet = load_potential("chgnet-0.3.0", "cpu")
    folder = tmp_path_factory.mktemp("corrected")
    CorrectedPotential(chgnet, Correction(base=chgnet.name, scales=SCALES)).save(folder)
    return folder


class TestCorrectedCHGNetFromItsFolder(PotentialContract):
    @pytest.fixture
    def potential(self, folder):
        return load_potential(str(folder), "cpu").double()

    @pytest.fixture
    def crystals(self):
        return example_crystals()[2:3]  # one with a scale: what CHGNet does with others is its own test's

    def test_its_hull_is_not_that_of_its_base(self, folder, potential):
        assert potential.name == str(folder)
        with pytest.raises(MissingReferenceError, match="no hull of known phases"):
            load_reference(potential.name)


def test_each_system_has_its_scale_and_no_other():
    base, corrected = Walls(), CorrectedPotential(Walls(), CORRECTION)
    (salt, _, magnesia, aluminium) = example_crystals()
    sodium = Structure(salt.lattice, ["Na"] * 8, salt.frac_coords)
    structures = [salt, magnesia, aluminium, sodium]
    for structure, scale, one, two in zip(
        structures, (1.2, 0.9, 1.0, 1.0), base.predict(structures), corrected.predict(structures), strict=True
    ):
        composition = -3.0 * len(structure)
        assert two.energy == pytest.approx(composition + scale * (one.energy - composition), abs=1e-10)
        np.testing.assert_allclose(two.forces, scale * one.forces, atol=1e-12)
        np.testing.assert_allclose(two.stress, scale * one.stress, atol=1e-12)


def test_new_composition_energies_replace_the_old_ones():
    references = Walls.energy_references | {"Na": -30.0}
    del references["Fe"]
    correction = Correction(base="walls", energy_references=references, energy_scale="other", scales={"Cl-Na": 1.2})
    corrected = CorrectedPotential(Walls(), correction)
    salt = example_crystals()[0]
    network = Walls().predict([salt])[0].energy + 24.0
    assert corrected.energies([salt])[0] == pytest.approx(4 * -30.0 + 4 * -3.0 + 1.2 * network)
    assert corrected.energy_scale == "other"
    assert corrected.elements == Walls.elements - {"Fe"}
    assert corrected.energy_references == {one: references[one] for one in sorted(corrected.elements)}


def test_a_correction_of_a_correction_is_one_and_loads_by_its_path(tmp_path):
    references = {symbol: 1.0 + number for number, symbol in enumerate(sorted(load_potential("chgnet-0.3.0").elements))}
    first = Correction(base="", energy_references=references, energy_scale="other", scales={"Cl-Na": 1.2})
    once = CorrectedPotential(load_potential("chgnet-0.3.0", "cpu"), first)
    twice = CorrectedPotential(once, Correction(base="", scales={"Cl-Na": 1.5, "Mg-O": 0.5}))
    twice.save(tmp_path / "both")
    loaded = load_potential(str(tmp_path / "both"), "cpu")
    assert loaded.energy_scale == "other" and loaded.energy_references == once.energy_references
    for crystal in example_crystals():
        scale = {"Cl Na": 1.5, "Mg O": 0.5}.get(" ".join(sorted(crystal.symbol_set)), 1.0)
        composition = sum(references[site.specie.symbol] for site in crystal)
        (one,), (both,) = once.energies([crystal]), loaded.energies([crystal])
        assert both - composition == pytest.approx(scale * (one - composition), rel=1e-6)


def test_its_name_tells_corrections_apart():
    names = [
        CorrectedPotential(Walls(), Correction(base="walls", scales={"Cl-Na": scale})).name for scale in (1.1, 1.1, 1.2)
    ]
    assert names[0] == names[1] != names[2]
    assert "walls" in names[0] and names[0] != "walls"


def test_what_cannot_be_corrected_is_named():
    with pytest.raises(PotentialError, match="pqeq cannot be corrected"):
        CorrectedPotential(load_potential("pqeq", "cpu"), Correction(base="pqeq"))
    for scales, message in ({"Cl-Xe": 1.1}, "does not know: Xe"), ({"Na-Cl": 1.1}, "'Cl-Na', not 'Na-Cl'"):
        with pytest.raises(PotentialError, match=message):
            CorrectedPotential(Walls(), Correction(base="walls", scales=scales))
    with pytest.raises(PotentialError, match="knows no Xe"):
        CorrectedPotential(Walls(), Correction(base="walls", energy_references={"Xe": 0.0}, energy_scale="x"))
    with pytest.raises(PotentialError, match="state their energy_scale"):
        CorrectedPotential(Walls(), Correction(base="walls", energy_references={"Na": 0.0}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"potential": "corrected", "base": "nothing"}, "model.json: unknown potential 'nothing'"),
        ({"potential": "corrected", "base": "pqeq"}, "cannot be corrected"),
        ({"potential": "corrected"}, "base: Field required"),
        ({"potential": "corrected", "base": "chgnet-0.3.0", "scales": {"Cl-Na": -1}}, "scales.Cl-Na"),
        ({"potential": "corrected", "base": "chgnet-0.3.0", "colour": "red"}, "colour"),
        ({"potential": "melted"}, "'melted'; expected one of corrected, latent"),
        ([], "expected one of corrected"),
    ],
)
def test_a_broken_folder_is_one_line(tmp_path, content, message):
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(PotentialError, match=message) as raised:
        load_potential(str(tmp_path), "cpu")
    assert "model.json" in str(raised.value)
