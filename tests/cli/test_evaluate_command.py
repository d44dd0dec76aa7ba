"""`matsearch evaluate`: crystals from anywhere in, a table and a summary out."""

import json
import re

import pandas as pd
import pytest
from pymatgen.core import Structure
from scripted_campaign import poscar

from matsearch.crystal.text import to_cif


def cif(prototype: str, a: float, elements: tuple[str, str] = ("Mg", "O")) -> str:
    return to_cif(Structure.from_str(poscar(prototype, a, elements), fmt="poscar"))


@pytest.fixture
def table(tmp_path):
    """Rock salt twice, caesium chloride, an overlap, and what is no crystal."""
    path = tmp_path / "made.csv"
    cifs = [cif("NaCl", 4.2), cif("CsCl", 2.66), cif("NaCl", 4.3), cif("NaCl", 2.6), "no crystal"]
    pd.DataFrame({"name": list("abcde"), "cif": cifs}).to_csv(path, index=False)
    return path


def strict(text: str):
    """JSON without NaN and Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_table_of_cifs_is_judged_without_energies(table, command):
    status, out, err = command("evaluate", table)
    assert status == 0 and "Traceback" not in err
    assert "no energies without a judge; --judge chgnet-0.3.0" in err
    assert "5 proposed, 4 readable" in out and "overlapping_atoms" in out
    assert re.search(r"structurally valid +3 +5 proposed +60.0 %", out)
    assert "E_hull" not in out


def test_a_judge_adds_energies_and_msun(table, command, tmp_path):
    status, out, err = command("evaluate", table, "--judge", "chgnet-0.3.0", "--json", tmp_path / "out.json")
    assert status == 0, err
    assert "E_hull" in out and "MSUN" in out and "as relaxed by chgnet-0.3.0" in out and "L-BFGS to 0.05 eV/Å" in out
    content = strict((tmp_path / "out.json").read_text())
    rows = content["structures"]
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 4] and {row["file"] for row in rows} == {str(table)}
    assert [row["unique"] for row in rows] == [True, True, False, False, False]
    assert rows[0]["energy_above_hull"] == pytest.approx(0, abs=1e-3) and rows[4]["energy_above_hull"] is None
    assert [row["reasons"] is None for row in rows] == [True, True, True, False, False]
    assert rows[1]["relaxed"]["chgnet-0.3.0"]["species"] == ["Mg", "O"] and rows[3]["relaxed"]["chgnet-0.3.0"] is None
    msun = [one for one in content["summary"]["rates"] if one["name"] == "msun"]
    assert [(one["of"], one["total"]) for one in msun] == [("proposed", 5), ("structurally_valid", 3)]
    assert content["units"]["rmsd"] == "Å" and content["stopped"] is False


def test_several_judges_stand_side_by_side(table, command, tmp_path, monkeypatch):
    from matsearch.errors import MissingReferenceError
    from matsearch.evaluation import judging

    shipped = judging.reference_of

    def only_one(potential, folder=None):
        if potential.name != "chgnet-0.3.0":
            raise MissingReferenceError(f"no hull of known phases for potential {potential.name!r}")
        return shipped(potential, folder)

    monkeypatch.setattr(judging, "reference_of", only_one)
    status, _, err = command(
        "evaluate", table, "--judge", "chgnet-0.3.0", "--judge", "chgnet-r2scan", "--json", tmp_path / "out.json"
    )
    assert status == 0
    assert err.count("chgnet-r2scan gives energies, but none above the hull") == 1
    row = strict((tmp_path / "out.json").read_text())["structures"][0]
    assert row["energy_per_atom:chgnet-r2scan"] < row["energy_per_atom:chgnet-0.3.0"] == row["energy_per_atom"]
    assert row["energy_above_hull:chgnet-r2scan"] is None and "no_reference" in row["reasons:chgnet-r2scan"]


def test_json_to_stdout_leaves_the_table_to_stderr(table, command):
    status, out, err = command("evaluate", table, "--json", "-")
    assert status == 0
    assert len(strict(out)["structures"]) == 5 and "5 proposed" in err


def test_files_of_all_kinds_and_folders_are_read_in_their_order(tmp_path, command):
    (tmp_path / "POSCAR").write_text(poscar("NaCl", 4.2, ("Mg", "O")))
    (tmp_path / "frames.extxyz").write_text('2\nLattice="3 0 0 0 3 0 0 0 3"\nMg 0 0 0\nO 1.5 1.5 1.5\n' * 2)
    (tmp_path / "cifs").mkdir()
    (tmp_path / "cifs" / "a.cif").write_text(cif("CsCl", 2.6))
    paths = [tmp_path / name for name in ("frames.extxyz", "missing.cif", "cifs", "POSCAR")]
    status, out, _ = command("evaluate", *paths, "--json", "-")
    rows = strict(out)["structures"]
    assert status == 0
    assert [(row["file"].rsplit("/", 1)[1], row["index"]) for row in rows] == [
        ("frames.extxyz", 0), ("frames.extxyz", 1), ("missing.cif", 0), ("a.cif", 0), ("POSCAR", 0),
    ]  # fmt: skip
    assert rows[2]["reasons"] == "no_file: there is no such file"


def test_only_the_first_of_many_are_printed(tmp_path, command):
    path = tmp_path / "many.csv"
    pd.DataFrame({"cif": ["x"] * 30 + [cif("NaCl", 4.2)]}).to_csv(path, index=False)
    status, out, _ = command("evaluate", path)
    assert status == 0
    assert out.count("unreadable") == 20 and "and 11 more; --json FILE writes them all" in out


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("missing", None, "there is no such file"),
        ("folder", "", "no structure file in it"),
        ("table.csv", "id,text\n1,x\n", "no column 'cif'"),
        ("table.csv", "cif\n", "no rows"),
        ("bad.cif", "nonsense", "no data block lists sites"),
        ("mixed.cif", None, "partly occupied"),
    ],
)
def test_nothing_readable_is_one_line_and_status_2(tmp_path, command, name, content, word):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name == "mixed.cif":
        path.write_text(cif("CsCl", 2.6).replace("  1\n", "  0.5\n"))
    elif content is not None:
        path.write_text(content)
    status, out, err = command("evaluate", path)
    message = err.splitlines()[-1]
    assert status == 2 and out == "" and word in message and message.count(name) == 1
    assert len([line for line in err.splitlines() if "no energies" not in line]) == 1


def test_of_many_bad_files_the_first_are_named(tmp_path, command):
    status, _, err = command("evaluate", *[tmp_path / f"{number}.cif" for number in range(9)])
    assert status == 2 and "4.cif" in err and "5.cif" not in err and "and 4 more" in err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--judge", "chgnot"], "chgnet-0.3.0"),
        (["--judge", "chgnet-0.3.0", "--judge", "chgnet-0.3.0"], "named twice"),
        (["--judge", "chgnet-0.3.0", "--device", "tpu"], "tpu"),
        (["--json", "nowhere/out.json"], "cannot write"),
        (["--lemat", "file/lemat"], "cannot write"),
        (["--reference", "nowhere"], "no hull of known phases"),
    ],
)
def test_a_mistake_is_named_before_anything_is_read(tmp_path, command, monkeypatch, options, word):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    status, out, err = command("evaluate", tmp_path / "missing.cif", *options)
    assert status == 2 and word in err and out == "" and "no such file" not in err


def test_the_export_for_lemat_holds_what_was_readable(table, command, tmp_path):
    folder = tmp_path / "lemat"
    (table.parent / "POSCAR").write_text("flat\n1\n4 0 0\n0 4 0\n4 4 0\nMg\n1\ndirect\n0 0 0\n")
    status, _, err = command("evaluate", table, table.parent / "POSCAR", "--lemat", folder)
    assert status == 0 and "4 of 6 structures for LeMat-GenBench" in err
    found = pd.read_csv(folder / "structures.csv")
    assert list(found["material_id"]) == [0, 1, 2, 3] and len(list(folder.glob("*.cif"))) == 4
    assert Structure.from_dict(json.loads(found["structure"][1])).volume == pytest.approx(2.66**3, rel=1e-5)


def test_ctrl_c_keeps_what_is_done_and_says_so(table, command, tmp_path, monkeypatch):
    from matsearch.evaluation import judging

    real = judging.relax_iter

    def interrupted(*arguments):
        yield next(real(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(judging, "relax_iter", interrupted)
    status, out, err = command("evaluate", table, "--judge", "chgnet-0.3.0", "--json", tmp_path / "out.json")
    assert status == 130 and "chgnet-0.3.0 relaxed 1 of 3" in err and "5 proposed" in out
    content = strict((tmp_path / "out.json").read_text())
    assert content["stopped"] is True
    assert sum("stopped: " in (row["reasons"] or "") for row in content["structures"]) == 2


def test_ctrl_c_while_reading_says_so(table, command, monkeypatch):
    from matsearch.crystal import collections

    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(collections, "_csv", interrupted)
    status, out, err = command("evaluate", table)
    assert status == 130 and "after reading 0 structures" in err and out == ""
