"""`matsearch potential list` and `check`."""

import re

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from springs import springs

from matsearch.cli.potential import NEEDS
from matsearch.potential import load_potential
from matsearch.potential.adapters.ase import AsePotential
from matsearch.potential.checks import check_crystals
from matsearch.potential.names import FROM_FILE, POTENTIALS, WITH_OPTIONS


class WrongStress(AsePotential):
    """Right but for the sign of its stress."""

    def predict(self, structures):
        found = super().predict(structures)
        for one in found:
            one.stress[:] *= -1
        return found


def make_springs(device="auto"):
    return springs()


def make_wrong(device="auto"):
    right = springs()
    right.__class__ = WrongStress
    return right


def test_list_names_all_that_load_potential_knows_and_what_each_needs(command):
    status, out, _ = command("potential", "list")
    assert status == 0
    lines = {line.split()[0]: line for line in out.split("\n\n")[0].splitlines()}
    assert lines.keys() >= POTENTIALS.keys()
    assert "ready" in lines["chgnet-0.3.0"] and "hull of known phases comes with it" in lines["chgnet-0.3.0"]
    assert "matsearch[mace]" in lines["mace:PATH"] or "ready" in lines["mace:PATH"]
    assert "hull" not in lines["pqeq"]
    assert "model.json" in out


def test_every_name_has_its_needs():
    kinds = {name.partition(":")[0].partition("(")[0] for name in NEEDS}
    assert kinds == POTENTIALS.keys() | FROM_FILE.keys() | WITH_OPTIONS.keys()


def test_a_right_potential_passes_with_numbers(command):
    status, out, err = command("potential", "check", "test_potential_command:make_springs", "--device", "cpu")
    assert status == 0, err
    assert len(re.findall(r"^pass .* \d\.\de[+-]\d\d of \de-\d\d eV", out, re.MULTILINE)) == 13
    assert "FAIL" not in out and "all 13 checks pass" in out
    for name in (
        "batch = singles",
        "forces = -dE/dr",
        "stress = dE/dstrain",
        "twice the cell",
        "rotated",
        "handedness",
    ):
        assert name in out


def test_a_wrong_stress_fails_and_nothing_else_does(command, tmp_path):
    crystal = check_crystals(springs().elements)[0]
    crystal.to(str(tmp_path / "POSCAR"))
    status, out, _ = command("potential", "check", "test_potential_command:make_wrong", tmp_path / "POSCAR")
    assert status == 1
    assert re.findall(r"^FAIL  (.*?)  ", out, re.MULTILINE) == ["stress = dE/dstrain / V"]
    assert "1 of 13 checks FAILED" in out


def test_mistakes_are_one_line(command, tmp_path):
    (tmp_path / "a.cif").write_text("nothing")
    Structure(Lattice.cubic(3), ["Xe"], [[0, 0, 0]]).to(str(tmp_path / "POSCAR"))
    name = "test_potential_command:make_springs"
    for arguments, word in (
        (["nothing"], "nothing"),
        ([name, tmp_path / "a.cif"], "a.cif"),
        ([name, tmp_path / "POSCAR"], "Xe"),
    ):
        status, _, err = command("potential", "check", *arguments)
        assert status == 2 and word in err and "Traceback" not in err


@pytest.mark.parametrize("elements", [{"Na", "O", "Fe"}, {"Cs"}, {"He", "U"}])
def test_crystals_are_of_known_elements_and_no_atoms_collide(elements):
    for crystal in check_crystals(frozenset(elements)):
        assert {one.symbol for one in crystal.composition.elements} <= elements
        distances = crystal.distance_matrix[np.triu_indices(len(crystal), 1)]
        assert len(crystal) == 1 or distances.min() > 0.58 * 2 * 0.28


def test_chgnet_flags_none_of_them():
    chgnet = load_potential("chgnet-0.3.0", "cpu")
    assert [one.out_of_domain for one in chgnet.predict(check_crystals(chgnet.elements))] == [None] * 4
