"""Candidates against the known phases: decompositions and hulls, only where they agree with what is stored."""

from __future__ import annotations

import json

import pytest
from small_run import add, rock_salt

from matsearch.reference import load_reference
from matsearch.report.hulls import hulls
from matsearch.store import RunStore

HEIGHT = 0.02


def run_with(make_run, height=HEIGHT, **meta):
    """A run with one candidate, MgO at `HEIGHT` above the hull of the known phases, stored as at `height`."""
    run_dir = make_run(**meta)
    reference = load_reference("chgnet-0.3.0")
    per_atom = HEIGHT - reference.energy_above_hull("MgO", 0.0)
    with RunStore(run_dir, writable=True) as store, store.transaction():
        add(store, 0, "scored", structure=rock_salt("Mg", "O"), energy=height)
        store.connection.execute("UPDATE relaxations SET energy = ?", [8 * per_atom])
    return run_dir


def test_a_candidate_has_a_decomposition_a_formation_energy_and_its_system(make_run):
    with RunStore(run_with(make_run, reference_hash="h"), writable=False) as store:
        found = hulls(store)
    assert found.why_not == ""
    assert found.decomposition == {0: {"MgO": pytest.approx(1.0)}}
    (oxide,) = [phase for phase in found.phases["Mg-O"] if phase[1] == "MgO" and phase[3] == 0.0]
    assert found.formation_energy[0] == pytest.approx(oxide[2] + HEIGHT, abs=1e-4)
    assert -3.5 < oxide[2] < -2.5  # experiment: -3.1 eV/atom (NIST-JANAF)
    assert {"Mg", "O", "Mg-O"} == set(found.phases)
    for element in ("Mg", "O"):
        assert min(phase[2] for phase in found.phases[element]) == pytest.approx(0.0, abs=1e-5)


def test_phases_that_the_search_did_not_know_are_not_in_its_hull(make_run):
    left = load_reference("chgnet-0.3.0").hiding(["MgO"])
    height = left.energy_above_hull("MgO", HEIGHT - load_reference("chgnet-0.3.0").energy_above_hull("MgO", 0.0))
    meta = {"reference_hash": "h", "hidden_phases": json.dumps(sorted(left.hidden))}
    with RunStore(run_with(make_run, height=height, **meta), writable=False) as store:
        found = hulls(store)
    assert height < -0.5
    assert "MgO" not in found.decomposition[0]
    assert not [phase for phase in found.phases.get("Mg-O", []) if phase[1] == "MgO"]


def test_other_phases_than_those_of_the_run_show_nothing(make_run):
    with RunStore(run_with(make_run, height=0.05, reference_hash="h"), writable=False) as store:
        found = hulls(store)
    assert "not those that this run was held against" in found.why_not
    assert not found.decomposition
    assert not found.phases


def test_a_run_without_a_hull_says_so(make_run):
    with RunStore(run_with(make_run), writable=False) as store:
        assert hulls(store).why_not == "This run has no hull of known phases."
