import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

import matsearch as ms
from matsearch.errors import ConfigError, PotentialError
from matsearch.objectives.catalogue import _REGISTERED
from matsearch.objectives.simple import density


@pytest.fixture
def crystals():
    rock_salt = Structure(
        Lattice(np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 2.85), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    polonium = Structure(Lattice.cubic(3.3), ["Po"], [[0, 0, 0]])
    aluminium = Structure(Lattice(np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 2.0), ["Al"], [[0, 0, 0]])
    return [rock_salt, polonium, aluminium]


@pytest.fixture
def potential():
    return ms.load_potential("chgnet-0.3.0", device="cpu")


def test_one_row_a_structure_and_nan_only_beside_a_reason(crystals, potential):
    @ms.objective(name="sites", unit="1", direction="min")
    def sites(structure):
        if len(structure) == 1:
            raise ValueError("one atom")
        return len(structure)

    try:
        table = ms.score(crystals, ["bulk_modulus", "density", "sites"], potential)
    finally:
        _REGISTERED.pop("sites")
    assert list(table["formula"]) == ["NaCl", "Po", "Al"]
    assert list(table["converged"]) == [True, False, True]
    for name in ("bulk_modulus", "density", "sites"):
        assert table[name].dtype == float
        assert list(table[name].isna()) == list(table[f"{name}_rejected"].notna())
    assert list(table["energy_per_atom"].isna()) == list(table["relax_rejected"].notna()) == [False, True, False]
    assert table["density_rejected"][1].startswith("untrained_element: chgnet-0.3.0 was not trained on Po")
    assert table["sites_rejected"][2] == "objective_error: ValueError: one atom"
    assert table["bulk_modulus"][0] == pytest.approx(24, abs=5)
    units = {"energy_per_atom": "eV/atom", "bulk_modulus": "GPa", "density": "g/cm3", "sites": "1"}
    assert table.attrs["units"] == units


def test_noble_gases_raise_no_warning_of_others(potential):
    argon = Structure(Lattice(np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 2.6), ["Ar"], [[0, 0, 0]])
    assert list(ms.score([argon], ["volume_per_atom"], potential)["formula"]) == ["Ar"]


def test_a_potential_goes_by_name_too_and_no_structure_is_no_row():
    table = ms.score([], ["density"], "chgnet-0.3.0")
    assert len(table) == 0 and "density_rejected" in table


def test_unknown_objective_is_refused_before_any_work(crystals):
    class Untouchable(ms.load_potential("chgnet-0.3.0", "cpu").__class__):
        def __init__(self):
            self.name = "untouchable"

        def predict(self, structures):
            raise AssertionError("worked before it checked")

    with pytest.raises(ConfigError, match="hardness"):
        ms.score(crystals, ["hardness"], Untouchable())


def test_one_objective_twice_is_refused(crystals, potential):
    with pytest.raises(ConfigError, match="density"):
        ms.score(crystals[:1], ["density", "density"], potential)


def test_objectives_themselves_are_scored_as_their_names_are(crystals, potential):
    table = ms.score(crystals[:1], [density, "volume_per_atom"], potential)
    assert table.attrs["units"] == {"energy_per_atom": "eV/atom", "density": "g/cm3", "volume_per_atom": "Å^3"}
    assert table["density"][0] == pytest.approx(crystals[0].density, rel=0.2)


@pytest.mark.parametrize("objectives", ["density", density])
def test_one_objective_instead_of_a_list_is_refused(crystals, potential, objectives):
    with pytest.raises(TypeError, match="takes a list of objectives"):
        ms.score(crystals[:1], objectives, potential)


def test_one_structure_instead_of_a_list_is_refused(crystals, potential):
    with pytest.raises(TypeError, match="takes a list of structures"):
        potential.predict(crystals[0])


@pytest.mark.parametrize("name", ["os:sep", "os:getenv", "collections:OrderedDict"])
def test_what_is_no_potential_is_refused(name):
    with pytest.raises(PotentialError, match=f"potential '{name}'"):
        ms.load_potential(name)
