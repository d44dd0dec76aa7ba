"""Files of crystals: all that is in them comes out, what is bad as a rejection."""

import pytest
from pymatgen.core import Structure
from scripted_campaign import poscar

from matsearch.crystal.files import read_structures
from matsearch.crystal.text import to_cif
from matsearch.records import Rejection, Stage


def cif(a: float) -> str:
    return to_cif(Structure.from_str(poscar("NaCl", a, ("Mg", "O")), fmt="poscar"))


def xyz(header: str) -> str:
    return f"2\n{header}\nMg 0 0 0\nO 1.5 1.5 1.5\n"


CUBIC = 'Lattice="3 0 0 0 3 0 0 0 3"'


def test_every_block_of_a_cif_is_read_and_a_bad_one_costs_no_other(tmp_path):
    path = tmp_path / "many.cif"
    bad = cif(4.2).replace("_cell_length_a", "_cell_length_q").replace("data_Mg1O1", "data_bad")
    # Two blocks of one name, and one without sites, as journals write for the paper itself.
    path.write_text("\n".join(["data_global\n_publ_section_title 'Oxides'", cif(4.2), bad, cif(4.3)]))
    first, rejected, last = read_structures(path)
    assert first.volume == pytest.approx(4.2**3 / 4) and last.volume == pytest.approx(4.3**3 / 4)
    assert (rejected.stage, rejected.reason) == (Stage.PARSE, "unreadable")
    assert "data block 'bad'" in rejected.detail


def test_a_cif_of_one_block_reads_as_pymatgen_does(tmp_path):
    path = tmp_path / "one.cif"
    path.write_text(cif(4.2))
    assert read_structures(path) == [Structure.from_file(path)]


def test_every_frame_of_an_xyz_is_read_and_one_without_a_cell_says_so(tmp_path):
    path = tmp_path / "frames.xyz"
    path.write_text(xyz(CUBIC) + xyz("") + xyz(CUBIC + ' pbc="T T F"'))
    crystal, molecule, slab = read_structures(path)
    assert crystal.volume == pytest.approx(27) and all(crystal.lattice.pbc)
    assert molecule.reason == "no_cell" and "Lattice=" in molecule.detail
    assert tuple(slab.lattice.pbc) == (True, True, False)  # refused by the relaxation


@pytest.mark.parametrize(
    ("name", "text", "reason", "word"),
    [
        ("bad.cif", "nonsense", "unreadable", "_atom_site_"),
        ("POSCAR", "a\nb", "unreadable", "ValueError"),
        ("crystal.foo", "x", "unreadable", ".extxyz"),
        ("empty.xyz", "", "empty", "no structure"),
        ("short.xyz", "2\n\nMg 0 0 0\n", "unreadable", "expected 2"),
        ("missing.cif", None, "no_file", "no such file"),
    ],
)
def test_a_bad_file_is_one_rejection_of_one_line_that_leaves_its_name_to_others(tmp_path, name, text, reason, word):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    (rejected,) = read_structures(path)
    assert isinstance(rejected, Rejection) and rejected.reason == reason
    assert word in rejected.detail and name not in rejected.detail and "\n" not in rejected.detail


def test_a_folder_is_called_one(tmp_path):
    (rejected,) = read_structures(tmp_path)
    assert rejected.reason == "directory" and "it is a directory" in rejected.detail
