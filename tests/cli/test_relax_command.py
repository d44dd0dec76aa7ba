"""`matsearch relax`: files in, lines and JSON out."""

import json

from scripted_campaign import poscar


def test_good_and_bad_files_are_a_row_each(tmp_path, command):
    good, bad = tmp_path / "POSCAR", tmp_path / "bad.cif"
    good.write_text(poscar("NaCl", 4.3, ("Mg", "O")))
    bad.write_text("no crystal")
    status, out, err = command(
        "relax", good, bad, tmp_path / "missing.cif", "--json", tmp_path / "out.json", "--out", tmp_path / "cifs"
    )
    assert status == 0, err
    assert "MgO" in out and "converged" in out and "rejected, unreadable" in out and "rejected, no_file" in out
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row.get("reason") for row in rows] == [None, "unreadable", "no_file"]
    assert rows[0]["converged"] and rows[0]["max_force_ev_per_a"] < 0.05
    assert len(list((tmp_path / "cifs").glob("*.cif"))) == 1


def test_no_readable_file_is_an_error(tmp_path, command):
    status, out, err = command("relax", tmp_path / "missing.cif")
    assert status == 2
    assert "there is no file" in err and out == ""


def test_an_unknown_potential_lists_the_known_ones(tmp_path, command):
    status, _, err = command("relax", tmp_path / "x.cif", "--potential", "chgnot")
    assert status == 2
    assert "chgnet-0.3.0" in err and len(err.splitlines()) == 1


def test_what_is_not_converged_is_blamed_on_atoms_or_cell(tmp_path, command):
    # By symmetry no force acts on its atoms; the cell is far from its minimum.
    path = tmp_path / "POSCAR"
    path.write_text(poscar("NaCl", 4.7, ("Mg", "O")))
    status, out, _ = command("relax", path, "--max-steps", 1)
    assert status == 0
    assert "NOT converged (atoms or cell) in 1 steps, largest force on an atom 0.000 eV/Å" in out
