"""`matsearch relax`: files in, lines and JSON out."""

import json
from typing import get_args, get_type_hints

import pytest
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
    assert 0 <= rows[0]["max_stress_ev_per_a3"] < 0.05
    assert len(rows[0]["magmoms_mu_b"]) == 2
    assert len(list((tmp_path / "cifs").glob("*.cif"))) == 1


def test_no_readable_file_is_an_error(tmp_path, command):
    status, out, err = command("relax", tmp_path / "missing.cif")
    assert status == 2
    assert "there is no such file" in err and err.count("missing.cif") == 1 and out == ""


def test_each_bad_file_is_named_once(tmp_path, command):
    (tmp_path / "bad.cif").write_text("no crystal")
    (tmp_path / "folder").mkdir()
    (tmp_path / "frames.xyz").write_text("1\n\nMg 0 0 0\n" * 2)
    status, _, err = command("relax", tmp_path / "bad.cif", tmp_path / "folder", tmp_path / "frames.xyz")
    assert status == 2 and len(err.splitlines()) == 1
    assert err.count("bad.cif") == err.count("frames.xyz#1") == 1
    assert "folder: it is a directory" in err and "frames.xyz: a crystal needs a cell" in err


def test_json_to_stdout_leaves_the_lines_to_stderr(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "POSCAR"
    path.write_text(poscar("NaCl", 4.3, ("Mg", "O")))
    status, out, err = command("relax", path, tmp_path / "missing.cif", "--max-steps", 1, "--json", "-")
    assert status == 0
    assert [row["file"] for row in json.loads(out)] == [str(path), str(tmp_path / "missing.cif")]
    assert "MgO" in err and "no_file" in err
    assert list(tmp_path.iterdir()) == [path]


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


def test_options_reach_the_relaxation(tmp_path, command):
    path, out = tmp_path / "POSCAR", tmp_path / "out.json"
    path.write_text(poscar("NaCl", 4.3, ("Mg", "O")))
    volumes = {}
    for name, options in {
        "free": ["--optimizer", "lbfgs", "--stress-tol", 1e-3, "--fix-symmetry"],
        "squeezed": ["--pressure-gpa", 20],
        "fixed": ["--cell", "fixed"],
        "fixed_volume": ["--cell", "fixed_volume", "--device", "cpu"],
    }.items():
        status, _, err = command("relax", path, "--json", out, *options)
        assert status == 0, err
        (row,) = json.loads(out.read_text())
        assert row["converged"]
        volumes[name] = row["structure"]["lattice"]["volume"]
        if name == "free":
            assert row["max_stress_ev_per_a3"] < 1e-3
    assert volumes["fixed"] == volumes["fixed_volume"] == pytest.approx(4.3**3 / 4)
    assert volumes["squeezed"] < volumes["free"] < volumes["fixed"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--optimizer", "bfgs"], "fire"),
        (["--cell", "loose"], "fixed_volume"),
        (["--stress-tol", "-1"], "stress_tol"),
        (["--pressure-gpa", "nan"], "pressure_gpa"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_a_wrong_option_is_named(tmp_path, command, options, word):
    status, out, err = command("relax", tmp_path / "x.cif", *options)
    assert status == 2 and word in err and out == ""


def test_choices_are_those_of_the_relaxation():
    from matsearch.cli.relax import relax
    from matsearch.relaxation.cell import CellMode
    from matsearch.relaxation.optimizer import OptimizerName

    hints = get_type_hints(relax)
    assert get_args(hints["cell"]) == get_args(CellMode)
    assert get_args(hints["optimizer"]) == get_args(OptimizerName)


def test_lines_json_and_cifs_come_in_the_order_of_many_files(tmp_path, command):
    files = []
    for number in range(90):
        files.append(tmp_path / f"{number}.vasp")
        a = 4.0 + 0.005 * number
        files[-1].write_text("nonsense" if number % 30 == 7 else poscar("NaCl", a, ("Mg", "O")))
    status, out, err = command(
        "relax", *files, "--max-steps", 3, "--json", tmp_path / "out.json", "--out", tmp_path / "cifs"
    )
    assert status == 0, err
    assert [line.partition(":")[0] for line in out.splitlines()] == [str(path) for path in files]
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["file"] for row in rows] == [str(path) for path in files]
    assert [number for number, row in enumerate(rows) if row.get("reason") == "unreadable"] == [7, 37, 67]
    assert len(list((tmp_path / "cifs").glob("*.cif"))) == 87


def test_a_place_that_cannot_be_written_is_said_before_anything_is_relaxed(tmp_path, command):
    path = tmp_path / "POSCAR"
    path.write_text(poscar("NaCl", 4.3, ("Mg", "O")))
    status, out, err = command("relax", path, "--json", tmp_path / "nowhere" / "out.json")
    assert status == 2 and "cannot write the results" in err and out == ""
