from __future__ import annotations

import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.crystal.text import (
    TextError,
    from_cif,
    from_json,
    from_poscar,
    to_cif,
    to_json,
    to_poscar,
)

ROCKSALT = """NaCl
1.0
5.64 0.0 0.0
0.0 5.64 0.0
0.0 0.0 5.64
Na Cl
4 4
direct
0.0 0.0 0.0 Na
0.0 0.5 0.5 Na
0.5 0.0 0.5 Na
0.5 0.5 0.0 Na
0.5 0.5 0.5 Cl
0.5 0.0 0.0 Cl
0.0 0.5 0.0 Cl
0.0 0.0 0.5 Cl
"""

CIF = """data_NaCl
_symmetry_space_group_name_H-M 'F m -3 m'
_cell_length_a 5.64(2)
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_chemical_formula_sum 'Na Cl' # Z = 4
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 0 0 0 1
Cl1 0.5 0.5 0.5 1.0
"""


@pytest.fixture
def triclinic() -> Structure:
    rng = np.random.default_rng(3)
    lattice = Lattice.from_parameters(4.1, 5.2, 6.3, 71, 83, 105)
    return Structure(lattice, ["Ti", "O", "O", "Ti", "Li"], rng.uniform(-0.5, 1.5, (5, 3)))


@pytest.mark.parametrize(("write", "read"), [(to_poscar, from_poscar), (to_cif, from_cif), (to_json, from_json)])
def test_what_is_written_is_read_back(write, read, triclinic):
    back = read(write(triclinic))
    assert [site.specie.symbol for site in back] == ["Ti", "O", "O", "Ti", "Li"]
    assert np.allclose(back.frac_coords, triclinic.frac_coords, atol=1e-7)
    assert np.allclose(back.lattice.parameters, triclinic.lattice.parameters, atol=1e-6)


@pytest.mark.parametrize("symbol", ["He", "Lr"])
def test_rare_elements_are_written_and_read_without_warnings(symbol):
    structure = Structure(Lattice.cubic(4), [symbol, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    for write, read in ((to_poscar, from_poscar), (to_cif, from_cif), (to_json, from_json)):
        assert [site.specie.symbol for site in read(write(structure))] == [symbol, "O"]


def test_charged_species_are_written_as_elements(triclinic):
    charged = triclinic.copy()
    charged.add_oxidation_state_by_element({"Ti": 4, "O": -2, "Li": 1})
    assert to_poscar(charged) == to_poscar(triclinic)


@pytest.mark.parametrize("write", [to_poscar, to_cif, to_json])
def test_disorder_is_refused_when_written(write):
    alloy = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    with pytest.raises(TextError) as error:
        write(alloy)
    assert error.value.reason == "disordered"


def test_left_handed_cell_is_kept_by_poscar():
    text = ROCKSALT.replace("5.64 0.0 0.0\n0.0 5.64 0.0", "0.0 5.64 0.0\n5.64 0.0 0.0")
    assert np.linalg.det(from_poscar(text).lattice.matrix) < 0


def test_negative_scale_factor_is_the_volume():
    assert from_poscar(ROCKSALT.replace("1.0\n5.64", "-200\n5.64", 1)).volume == pytest.approx(200)


def test_scale_factor_multiplies_cartesian_coordinates():
    text = "X\n2.0\n2 0 0\n0 2 0\n0 0 2\nCs Cl\n1 1\nCartesian\n0 0 0\n1 1 1\n"
    structure = from_poscar(text)
    assert structure.lattice.a == pytest.approx(4)
    assert np.allclose(structure.frac_coords[1], 0.5)


def test_three_scale_factors_multiply_x_y_and_z():
    text = "X\n2 3 4\n1 1 0\n0 1 0\n0 0 1\nCs Cl\n1 1\nCartesian\n0 0 0\n0.5 0.5 0.5\n"
    structure = from_poscar(text)
    assert structure.lattice.matrix == pytest.approx(np.array([[2, 3, 0], [0, 3, 0], [0, 0, 4]]))
    assert structure.cart_coords[1] == pytest.approx([1, 1.5, 2])


@pytest.mark.parametrize("row", ["1/2, 0, -1/3, Cl", "0.5,0.0,-1/3 Cl", "1/2 0/1 -1/3 Cl", "+1/2 , 0 , -2/6  Cl1-"])
def test_fractions_and_commas_in_coordinates_are_read(row):
    structure = from_poscar(ROCKSALT.replace("0.5 0.0 0.0 Cl", row))
    assert structure.frac_coords[5] == pytest.approx([0.5, 0, -1 / 3])
    assert len(structure) == 8


@pytest.mark.parametrize("ions", ["Na+ Cl-", "Na1+ Cl1-", "Na+1 Cl-1", "Na_pv Cl-"])
def test_ions_name_their_elements(ions):
    assert from_poscar(ROCKSALT.replace("Na Cl\n", f"{ions}\n")) == from_poscar(ROCKSALT)


@pytest.mark.parametrize("species", ["Na1 Cl1", "Na4 Cl4", "Na2 Cl2"])
def test_numbers_behind_species_may_be_a_formula_or_labels(species):
    assert from_poscar(ROCKSALT.replace("Na Cl\n", f"{species}\n")) == from_poscar(ROCKSALT)


def test_species_may_be_numbered_by_element():
    assert from_poscar(ROCKSALT.replace("Na Cl\n4 4", "Na1 Na2 Cl1\n1 3 4")) == from_poscar(ROCKSALT)


@pytest.mark.parametrize("remark", ["! first", "# first", "(first)", "// first", "<- first", "-- first"])
def test_remarks_behind_a_row_are_dropped(remark):
    assert from_poscar(ROCKSALT.replace("5.64 0.0 0.0\n", f"5.64 0.0 0.0 {remark}\n")) == from_poscar(ROCKSALT)


def test_groups_of_sites_may_be_parted_by_blank_lines():
    text = ROCKSALT.replace("0.5 0.5 0.5 Cl", "\n# chlorine\n0.5 0.5 0.5 Cl")
    assert from_poscar(text) == from_poscar(ROCKSALT)
    with pytest.raises(TextError, match="count_mismatch"):
        from_poscar(text.replace("4 4", "4 5"))


def test_coordinates_outside_the_cell_are_kept_as_written():
    structure = from_poscar(ROCKSALT.replace("0.0 0.0 0.5 Cl", "7.2 0.0 -1.5 Cl"))
    assert np.allclose(structure.frac_coords[-1], [7.2, 0, -1.5])


def test_vasp4_takes_species_from_the_comment_or_the_labels():
    body = "1.0\n4 0 0\n0 4 0\n0 0 4\n1 1\ndirect\n"
    assert from_poscar("Cs Cl\n" + body + "0 0 0\n.5 .5 .5\n").formula == "Cs1 Cl1"
    assert from_poscar("Cs1 Cl1\n" + body + "0 0 0\n.5 .5 .5\n").formula == "Cs1 Cl1"
    assert from_poscar("salt\n" + body + "0 0 0 Cs\n.5 .5 .5 Cl\n").formula == "Cs1 Cl1"
    with pytest.raises(TextError, match="unknown_element"):
        from_poscar("salt\n" + body + "0 0 0\n.5 .5 .5\n")


def test_selective_dynamics_and_velocities_are_dropped():
    sites = "".join(f"{line} T F T\n" for line in ("0 0 0", "0.5 0.5 0.5"))
    text = f"x\n1.0\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\nSelective dynamics\nDirect\n{sites}\n0 0 1e-3\n0 0 0\n"
    assert from_poscar(text).formula == "Cs1 Cl1"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("4 4\n", "4 5\n", "count_mismatch"),
        ("4 4\n", "4 3\n", "count_mismatch"),
        ("4 4\n", "4 4 4\n", "count_mismatch"),
        ("4 4\n", "3 5\n", "count_mismatch"),
        ("4 4\n", "0 0\n", "bad_poscar"),
        ("4 4\n", "4 -4\n", "bad_poscar"),
        ("4 4\n", "4 999999999\n", "count_mismatch"),
        ("Na Cl\n", "Na Xx\n", "unknown_element"),
        ("Na Cl\n", "Na2 Cl1\n", "count_mismatch"),
        ("Na Cl\n", "Na4 Cl\n", "count_mismatch"),
        ("0.5 0.0 0.0 Cl", "0.5 0.0 0.0 Br", "count_mismatch"),
        ("0.5 0.0 0.0 Cl", "0.5 nan 0.0 Cl", "not_finite"),
        ("0.5 0.0 0.0 Cl", "0.5 1e999 0.0 Cl", "not_finite"),
        ("0.5 0.0 0.0 Cl", "0.5 0.0 Cl", "bad_poscar"),
        ("0.5 0.0 0.0 Cl", "0.5 0.0 1/0 Cl", "bad_poscar"),
        ("0.5 0.0 0.0 Cl", "0.5 0.0 1/ Cl", "bad_poscar"),
        ("0.5 0.0 0.0 Cl", "0.5 0.0 1/2/3 Cl", "bad_poscar"),
        ("0.5 0.0 0.0 Cl", "0,5 0 0 Cl", "bad_poscar"),
        ("0.5 0.0 0.0 Cl", "0,5 0,0 0,0 Cl", "bad_poscar"),
        ("0.5 0.0 0.0 Cl", "0.5, 0.0 Cl", "bad_poscar"),
        ("0.5 0.0 0.0 Cl", "0.5, 0.0, 0.0, 0.0 Cl", "bad_poscar"),
        ("0.0 0.0 0.5 Cl\n", "0.0 0.0 0.5 Cl\n1/4 1/4 1/4 Cl\n", "count_mismatch"),
        ("Na Cl\n", "Na+- Cl-\n", "unknown_element"),
        ("Na Cl\n", "Na+1.5 Cl-\n", "unknown_element"),
        ("1.0\n5.64", "1.0 1.0\n5.64", "bad_poscar"),
        ("1.0\n5.64", "1.0 1.0 -1.0\n5.64", "bad_poscar"),
        ("0.5 0.0 0.0 Cl", "0.5 0.0 0.0 0.0 Cl", "bad_poscar"),
        ("0.0 0.0 0.5 Cl\n", "0.0 0.0 0.5 Cl\n\n0.0 0.0 0.25 Cl\n", "count_mismatch"),
        ("0.0 0.0 5.64\n", "0.0 0.0 5.64\n1.0 1.0 1.0\n", "bad_poscar"),
        ("0.0 0.0 5.64\n", "", "bad_poscar"),
        ("0.0 0.0 5.64\n", "0.0 0.0 inf\n", "not_finite"),
        ("0.0 0.0 5.64\n", "0.0 0.0 5.64 Na\n", "bad_poscar"),
        ("1.0\n5.64", "5.64", "bad_poscar"),
        ("1.0\n5.64", "0.0\n5.64", "bad_poscar"),
        ("direct\n", "primitive\n", "bad_poscar"),
        ("direct\n", "cubic\n", "bad_poscar"),
        ("direct\n", "", "bad_poscar"),
    ],
)
def test_a_poscar_that_contradicts_itself_is_refused(old, new, reason):
    assert old in ROCKSALT
    with pytest.raises(TextError) as error:
        from_poscar(ROCKSALT.replace(old, new, 1))
    assert error.value.reason == reason
    assert error.value.detail


def test_every_cut_of_a_poscar_is_refused_or_complete():
    whole = from_poscar(ROCKSALT)
    for end in range(len(ROCKSALT)):
        try:
            structure = from_poscar(ROCKSALT[:end])
        except TextError:
            continue
        assert structure.composition == whole.composition


def test_cartesian_coordinates_need_a_volume():
    text = "x\n1.0\n4 0 0\n4 0 0\n0 0 4\nCs\n1\nCartesian\n0 0 1\n"
    with pytest.raises(TextError, match="zero_volume"):
        from_poscar(text)


def test_cif_is_expanded_by_its_space_group():
    structure = from_cif(CIF)
    assert structure.composition.reduced_formula == "NaCl"
    assert len(structure) == 8
    assert structure.get_neighbors(structure[0], 3)[0].nn_distance == pytest.approx(2.82)


def test_cif_operations_of_the_file_come_before_its_space_group():
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n'x, y+1/2, z+1/2'\n"
    structure = from_cif(CIF.replace("loop_\n", operations + "loop_\n", 1))
    assert len(structure) == 4
    assert np.allclose(structure.frac_coords[1], [0, 0.5, 0.5])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("_cell_length_b 5.64\n", "", "truncated"),
        ("_cell_length_b 5.64\n", "_cell_length_b -5.64\n", "bad_cif"),
        ("_cell_length_b 5.64\n", "_cell_length_b ?\n", "bad_cif"),
        ("_cell_length_b 5.64\n", "_cell_length_b nan\n", "not_finite"),
        ("_cell_angle_alpha 90\n", "_cell_angle_alpha 190\n", "bad_cif"),
        ("0.5 0.5 0.5 1.0\n", "0.5 0.5 0.5\n", "truncated"),
        ("0.5 0.5 0.5 1.0\n", "0.5 0.5 ? 1.0\n", "bad_cif"),
        ("0.5 0.5 0.5 1.0\n", "0.5 0.5 0.5 0.5\n", "disordered"),
        ("Cl1 0.5", "Xx1 0.5", "unknown_element"),
        ("'Na Cl'", "'Na2 Cl'", "count_mismatch"),
        ("'F m -3 m'", "'Q 7'", "bad_cif"),
        ("'F m -3 m'", "'F m -3 m'\n_symmetry_Int_Tables_number 221", "bad_cif"),
        ("Na1 0 0 0 1\n", "Na1 0 0 0 1\nNa1 0 0 0\n", "truncated"),
    ],
)
def test_a_cif_that_contradicts_itself_is_refused(old, new, reason):
    assert old in CIF
    with pytest.raises(TextError) as error:
        from_cif(CIF.replace(old, new, 1))
    assert error.value.reason == reason


def test_cif_atoms_on_the_same_place_are_not_merged():
    text = CIF.replace("'F m -3 m'", "'P 1'").replace("_chemical_formula_sum 'Na Cl'", "")
    text += "Na2 0 0 0 1\n"
    assert from_cif(text).formula == "Na2 Cl1"


def test_json_is_exact_to_the_last_bit(triclinic):
    back = from_json(to_json(triclinic))
    assert (back.lattice.matrix == triclinic.lattice.matrix).all()
    assert (back.frac_coords == triclinic.frac_coords).all()


def test_json_lattice_may_be_parameters():
    for lattice in ([4, 4, 4, 90, 90, 90], {"a": 4, "b": 4, "c": 4, "alpha": 90, "beta": 90, "gamma": 90}):
        text = json.dumps({"lattice": lattice, "species": ["Cs"], "frac_coords": [[0, 0, 0]]})
        assert from_json(text).volume == pytest.approx(64)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2]", "bad_json"),
        ("{", "bad_json"),
        ('{"species": ["Cs"], "frac_coords": [[0, 0, 0]]}', "bad_json"),
        ('{"lattice": [4, 4, 4], "species": ["Cs"], "frac_coords": [[0, 0, 0]]}', "bad_json"),
        ('{"lattice": [4, 4, 4, 10, 10, 90], "species": ["Cs"], "frac_coords": [[0, 0, 0]]}', "bad_json"),
        ('{"lattice": [4, 4, 4, 90, 90, 90], "species": ["Cs", "Cl"], "frac_coords": [[0, 0, 0]]}', "count_mismatch"),
        ('{"lattice": [4, 4, 4, 90, 90, 90], "species": ["Cs"], "frac_coords": [[0, 0]]}', "bad_json"),
        ('{"lattice": [4, 4, 4, 90, 90, 90], "species": ["Cs"], "frac_coords": [[0, 0, true]]}', "bad_json"),
        ('{"lattice": [4, 4, 4, 90, 90, 90], "species": ["Cs"], "frac_coords": [[0, 0, NaN]]}', "not_finite"),
        ('{"lattice": [4, 4, 1e400, 90, 90, 90], "species": ["Cs"], "frac_coords": [[0, 0, 0]]}', "not_finite"),
        ('{"lattice": [4, 4, 4, 90, 90, 90], "species": ["Zz"], "frac_coords": [[0, 0, 0]]}', "unknown_element"),
    ],
)
def test_json_that_contradicts_itself_is_refused(text, reason):
    with pytest.raises(TextError) as error:
        from_json(text)
    assert error.value.reason == reason
