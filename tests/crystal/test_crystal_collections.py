"""Crystals from files, folders and tables: each a row, in order, whatever the others are."""

import json

import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure
from scripted_campaign import poscar

from matsearch.crystal.collections import ROWS_TOGETHER, read_collections
from matsearch.crystal.text import to_cif
from matsearch.records import Rejection


def cubic(a: float) -> Structure:
    return Structure(Lattice.cubic(a), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def kinds(found) -> list[object]:
    """Lattice parameter of each crystal, reason of each rejection."""
    return [
        one.crystal.reason if isinstance(one.crystal, Rejection) else round(one.crystal.lattice.a, 3) for one in found
    ]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_a_table_is_a_crystal_a_row(tmp_path, kind):
    path = tmp_path / f"table.{kind}"
    two = to_cif(cubic(3.0)) + "\n" + to_cif(cubic(3.1)).replace("data_", "data_other")
    table = pd.DataFrame({"id": range(6), "CIF": [to_cif(cubic(2.6)), "", "nonsense", None, two, to_cif(cubic(2.7))]})
    table.to_parquet(path) if kind == "parquet" else table.to_csv(path, index=False)
    found = list(read_collections([path]))
    assert kinds(found) == [2.6, "empty", "unreadable", "empty", "several", 2.7]
    assert [one.number for one in found] == [0, 1, 2, 3, 4, 5] and {one.path for one in found} == {path}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_is_read_in_pieces(tmp_path, kind):
    path = tmp_path / f"table.{kind}"
    table = pd.DataFrame({"cif": [to_cif(cubic(2.6))] * (ROWS_TOGETHER + 2)})
    table.to_parquet(path) if kind == "parquet" else table.to_csv(path, index=False)
    assert [one.number for one in read_collections([path])] == list(range(ROWS_TOGETHER + 2))


def test_a_cif_longer_than_any_limit_of_csv_is_read(tmp_path):
    path = tmp_path / "long.csv"
    pd.DataFrame({"cif": ["# " + "x" * 200_000 + "\n" + to_cif(cubic(2.6))]}).to_csv(path, index=False)
    assert kinds(read_collections([path])) == [2.6]


@pytest.mark.parametrize(
    ("name", "content", "reason", "word"),
    [
        ("table.csv", "id,structure\n1,x\n", "no_column", "its columns: id, structure"),
        ("table.csv", "cif,id\n", "empty", "no rows"),
        ("table.csv", "", "unreadable", "EmptyDataError"),
        ("table.csv", 'cif\n"unclosed', "unreadable", "ParserError"),
        ("table.parquet", "no table", "unreadable", "Parquet"),
        ("rows.json", "[", "unreadable", "JSON"),
        ("rows.json", "[]", "empty", "no structure"),
        ("rows.json", "[1]", "unreadable", "expected an object"),
        ("rows.json", "[{}]", "unreadable", "structure of pymatgen"),
        ("missing.csv", None, "no_file", "no such file"),
    ],
)
def test_a_bad_table_is_one_rejection_of_one_line(tmp_path, name, content, reason, word):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    (found,) = read_collections([path])
    assert found.crystal.reason == reason and word in found.crystal.detail
    assert "\n" not in found.crystal.detail and str(tmp_path) not in found.crystal.detail


def test_a_parquet_table_without_the_column_names_its_columns(tmp_path):
    pd.DataFrame({"text": ["x"]}).to_parquet(tmp_path / "table.parquet")
    (found,) = read_collections([tmp_path / "table.parquet"])
    assert found.crystal.reason == "no_column" and "its columns: text" in found.crystal.detail


def test_a_folder_gives_its_structure_files_by_path(tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name, a in (("b/deep/POSCAR", 4.3), ("b/x.vasp", 4.4), ("CONTCAR_relaxed", 4.5), (".hidden/z.vasp", 4.6)):
        (tmp_path / name).write_text(poscar("CsCl", a, ("Mg", "O")))
    (tmp_path / "a.cif").write_text(to_cif(cubic(2.6)))
    (tmp_path / "bad.cif").write_text("nonsense")
    for name in ("README.md", "POSCAR_notes.txt", "make_poscar.py", "poscars.zip", "INCAR", "table.csv", ".a.cif"):
        (tmp_path / name).write_text("not a structure")
    found = list(read_collections([tmp_path]))
    assert kinds(found) == [4.5, 2.6, 4.3, 4.4, "unreadable"]
    assert [str(one.path.relative_to(tmp_path)) for one in found] == [
        "CONTCAR_relaxed", "a.cif", "b/deep/POSCAR", "b/x.vasp", "bad.cif",
    ]  # fmt: skip


def test_a_folder_without_structures_says_what_it_looked_for(tmp_path):
    (tmp_path / "cifs.zip").write_bytes(b"")
    (found,) = read_collections([tmp_path])
    assert found.crystal.reason == "empty" and "*.cif" in found.crystal.detail


def test_what_relax_wrote_is_read_again(tmp_path):
    rows = [
        {"file": "a.cif", "index": 0, "formula": "MgO", "structure": cubic(2.6).as_dict()},
        {"file": "b.cif", "index": 0, "stage": "parse", "reason": "unreadable", "detail": "it is no crystal"},
    ]
    path = tmp_path / "relaxed.json"
    path.write_text(json.dumps(rows))
    assert kinds(read_collections([path])) == [2.6, "unreadable"]
    path.write_text(json.dumps(cubic(2.7).as_dict()))
    assert kinds(read_collections([path])) == [2.7]


def test_a_crystal_with_deuterium_is_read(tmp_path):
    path = tmp_path / "ice.cif"
    path.write_text(to_cif(cubic(2.6)).replace("Mg", "D"))
    (found,) = read_collections([path])
    assert [site.specie.Z for site in found.crystal] == [1, 8]
