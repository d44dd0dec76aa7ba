"""Charges and electric response as objectives."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.objectives import Objective, ObjectiveContext, load_objective
from matsearch.potential import load_potential
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.latent import LatentPotential, LatentSettings
from matsearch.potential.longrange.pqeq import Equilibrium, PQEq
from matsearch.potential.response import shell_response
from matsearch.records import Rejection, Relaxed
from matsearch.testing.objective import ObjectiveContract

CONTEXT = ObjectiveContext(load_potential("pqeq", "cpu"))


def rocksalt(side: float, cation: str, anion: str) -> Relaxed:
    structure = Structure(Lattice(side / 2 * (1 - np.eye(3))), [cation, anion], [[0] * 3, [0.5] * 3])
    return Relaxed(structure, -1.0, True, 3, 0.0)


class TestElectricObjectives(ObjectiveContract):
    @pytest.fixture(params=["charges", "polarizability", "born_charges"])
    def objective(self, request) -> Objective:
        return load_objective(request.param, CONTEXT)

    @pytest.fixture
    def relaxed(self) -> list[Relaxed]:
        return [rocksalt(4.21, "Mg", "O"), rocksalt(5.64, "Na", "Cl"), rocksalt(5.0, "Rf", "O")]


def test_values_are_those_of_pqeq() -> None:
    crystals = [rocksalt(5.64, "Na", "Cl"), rocksalt(4.21, "Mg", "O")]
    batch = CrystalBatch.from_structures([one.structure for one in crystals])
    response = shell_response(CONTEXT.potential, batch)
    assert load_objective("charges", CONTEXT)(crystals) == pytest.approx([0.9114, 0.4305], abs=2e-4)
    born = load_objective("born_charges", CONTEXT)(crystals)
    assert born == pytest.approx([float(response.born_charges[atom, 0, 0].abs()) for atom in (0, 2)])
    polarizability = load_objective("polarizability", CONTEXT)(crystals)
    assert polarizability == pytest.approx([float(one[0, 0]) / 2 for one in response.polarizability])


def test_what_has_no_charges_is_rejected_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = PQEq.equilibrium

    def unstable(self, batch, *rest, **more) -> Equilibrium:
        result = found(self, batch, *rest, **more)
        result.failures[0] = "polarization catastrophe"
        return result

    monkeypatch.setattr(PQEq, "equilibrium", unstable)
    values = load_objective("charges", CONTEXT)([rocksalt(5.0, "Rf", "O"), rocksalt(5.64, "Na", "Cl")])
    assert all(isinstance(one, Rejection) for one in values)
    assert [one.reason for one in values] == ["no_parameters", "no_stable_charges"]
    assert values[0].detail == "PQEq knows no Rf"


def test_a_potential_with_charges_of_its_own_is_asked() -> None:
    settings = LatentSettings(elements=("Cl", "Na"), energy_scale="own", optical_dielectric=2.25, width=0)
    crystals = [rocksalt(5.64, "Na", "Cl"), rocksalt(4.21, "Mg", "O")]
    context = ObjectiveContext(LatentPotential.new(settings))
    charge, other = load_objective("charges", context)(crystals)
    assert charge == pytest.approx(abs(context.potential.predict([crystals[0].structure])[0].charges[0]))
    assert other.detail == "untrained knows no Mg, O"
    assert load_objective("born_charges", context)(crystals)[0] == pytest.approx(1.5 * charge)
    volume = crystals[0].structure.volume
    polarizability = load_objective("polarizability", context)(crystals)[0]
    assert polarizability == pytest.approx(1.25 * volume / (4 * np.pi) / 2)
    silent = ObjectiveContext(LatentPotential.new(settings.model_copy(update={"optical_dielectric": None})))
    assert load_objective("polarizability", silent)(crystals)[0].reason == "no_dielectric_constant"
    # A twin without charges leaves it to PQEq.
    twin = ObjectiveContext(LatentPotential.new(settings.model_copy(update={"long_range": False})))
    assert load_objective("charges", twin)(crystals) == pytest.approx([0.9114, 0.4305], abs=2e-4)
