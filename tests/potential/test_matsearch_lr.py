"""The potential that comes with the package: CHGNet refitted, and PQEq beyond near neighbours."""

from importlib.resources import files

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.potential import Potential, load_potential
from matsearch.reference import reference_of
from matsearch.testing.potential import PotentialContract, example_crystals


class TestMatsearchLR(PotentialContract):
    @pytest.fixture
    def potential(self) -> Potential:
        return load_potential("matsearch-lr", "cpu").double()


@pytest.fixture(scope="module")
def potential() -> Potential:
    return load_potential("matsearch-lr", "cpu")


def dimer(distance: float) -> Structure:
    places = [[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]
    # At 40 Å images take an eighth of the force between ions 12 Å apart.
    return Structure(Lattice.cubic(60.0), ["Na", "Cl"], places, coords_are_cartesian=True)


def test_it_is_small_and_comes_with_its_card_and_curves() -> None:
    folder = files("matsearch.potential") / "trained" / "matsearch-lr"
    names = {"model.json", "weights.safetensors", "MODEL_CARD.md", "learning_curves.csv"}
    assert names <= {one.name for one in folder.iterdir()}
    assert len((folder / "weights.safetensors").read_bytes()) < 5e6


def test_it_goes_by_its_name_and_hashes_its_files(potential: Potential) -> None:
    assert potential.name == "matsearch-lr"
    assert potential.energy_scale == "mp2020"
    assert {one.name for one in potential.weight_files} == {"model.json", "weights.safetensors"}
    assert len(potential.elements) > 80


def test_its_hull_is_that_of_its_weights(potential: Potential) -> None:
    reference = reference_of(potential)
    assert reference.elements == potential.elements
    assert reference.n_missing == 0
    phases = reference.phases
    salt = phases[phases.formula == "NaCl"].sort_values("energy_per_atom").iloc[0]
    assert salt.energy_above_hull == 0.0
    (energy,) = potential.energies([reference.structure(salt["id"])])
    assert energy / salt.n_atoms == pytest.approx(salt.energy_per_atom, abs=1e-3)


def test_it_is_near_chgnet_in_crystals(potential: Potential) -> None:
    crystals = example_crystals()
    others = load_potential("chgnet-0.3.0", "cpu").predict(crystals)
    for one, other in zip(potential.predict(crystals), others, strict=True):
        n_atoms = len(one.forces)
        assert one.energy / n_atoms == pytest.approx(other.energy / n_atoms, abs=0.15)
        assert one.magmoms is not None
        assert one.charges is not None
        assert one.charges.sum() == pytest.approx(0.0, abs=1e-6)


def test_ions_beyond_the_network_attract_as_charges_do(potential: Potential) -> None:
    """Na and Cl, where CHGNet ends (6 Å) and further; by Coulomb's law with their charges to a quarter from 8 Å on."""
    found = potential.predict([dimer(r) for r in (6.5, 8.0, 10.0, 12.0)])
    energies = [one.energy for one in found]
    assert energies == sorted(energies)
    for one, r in list(zip(found, (6.5, 8.0, 10.0, 12.0), strict=True))[1:]:
        assert one.forces[0, 0] == pytest.approx(14.3996 * one.charges[0] ** 2 / r**2, rel=0.25)
    assert np.all(np.array([one.charges[0] for one in found]) > 0.4)
