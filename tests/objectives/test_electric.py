"""Charges and electric response as objectives."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.objectives import Objective, ObjectiveContext, load_objective
from matsearch.potential import load_potential
from matsearch.potential.batch import CrystalBatch
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
