"""Known phases come one at a time from tables, folders and the Materials Project's API."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.crystal.cif import to_cif
from matsearch.crystal.prototype import prototype_label
from matsearch.errors import InputError
from matsearch.records import Rejection
from matsearch.reference import materials_project
from matsearch.reference.sources import read_phases

KEY = "k3y" * 10


def rock_salt(a: float = 5.64) -> Structure:
    corners = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    centres = [[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    return Structure(Lattice.cubic(a), ["Na"] * 4 + ["Cl"] * 4, corners + centres)


def sites_row(phase_id: str, structure: Structure) -> dict[str, Any]:
    return {
        "material_id": phase_id,
        "lattice": list(structure.lattice.parameters),
        "species": [site.specie.symbol for site in structure],
        "frac_coords": structure.frac_coords.ravel().tolist(),
    }


# Tables


def test_rows_of_sites_are_crystals_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "phases.parquet"
    broken = {**sites_row("c", rock_salt()), "species": ["Na"]}
    table = pa.Table.from_pylist([sites_row("a", rock_salt()), sites_row("b", rock_salt(6.0)), broken])
    pq.write_table(table.replace_schema_metadata({"attribution": "mine, CC0"}), path)
    source = read_phases(path)
    phases = dict(source)
    assert source.n_expected == 3 and source.attribution == "mine, CC0"
    assert isinstance(phases["b"], Structure) and phases["b"].volume == pytest.approx(216.0)
    assert phases["a"].matches(rock_salt())
    assert isinstance(phases["c"], Rejection) and phases["c"].reason == "unreadable"
    assert list(dict(source)) == ["a", "b", "c"]  # again from the start


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_column_of_cifs_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"phases.{ending}"
    table = pd.DataFrame({"id": ["x", "y", "z"], "cif": [to_cif(rock_salt()), "data_nothing", None]})
    table.to_parquet(path) if ending == "parquet" else table.to_csv(path, index=False)
    phases = dict(read_phases(str(path)))
    assert phases["x"].composition.reduced_formula == "NaCl"
    assert [phases[one].reason for one in "yz"] == ["unreadable", "empty"]


@pytest.mark.parametrize(
    ("crystal", "detail"),
    [
        ({"lattice": [5.0, 5.0, 5.0, 90.0, 90.0]}, "6 lattice parameters"),
        ({"lattice": [5.0, 5.0, 5.0, 10.0, 10.0, 170.0]}, "no cell"),
        ({"frac_coords": [float("nan")] * 24}, "finite"),
        ({"species": ["Xx"] * 8}, "no element goes by Xx"),
        ({"lattice": None}, "unreadable"),
    ],
)
def test_a_row_that_is_no_crystal_is_a_rejection(tmp_path: Path, crystal: dict[str, Any], detail: str) -> None:
    path = tmp_path / "phases.parquet"
    pq.write_table(pa.Table.from_pylist([sites_row("a", rock_salt()) | crystal]), path)
    ((_, found),) = read_phases(path)
    assert isinstance(found, Rejection) and detail in f"{found.reason}: {found.detail}"


def test_columns_expected_and_found_are_named(tmp_path: Path) -> None:
    path = tmp_path / "phases.parquet"
    pd.DataFrame({"name": ["x"], "structure": ["?"]}).to_parquet(path)
    with pytest.raises(
        InputError, match="material_id, lattice, species, frac_coords; or material_id, cif; it has name"
    ):
        read_phases(path)


def test_an_id_given_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "phases.csv"
    pd.DataFrame({"id": ["x", "x"], "cif": [to_cif(rock_salt())] * 2}).to_csv(path, index=False)
    with pytest.raises(InputError, match="value of its own in id; 2 rows have 'x'"):
        read_phases(path)


@pytest.mark.parametrize("name", ["none.parquet", "none"])
def test_a_missing_source_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"no known phases at .*{name}: expected a Parquet"):
        read_phases(tmp_path / name)


def test_what_is_no_table_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_text("no parquet at all")
    with pytest.raises(InputError, match=r"cannot read .*bad\.parquet: [^\n]*$"):
        read_phases(tmp_path / "bad.parquet")


def test_a_table_that_breaks_off_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "phases.csv"
    path.write_text('id,cif\nx,data_x\ny,"data_y\n')
    with pytest.raises(InputError, match=r"cannot read .*phases\.csv: [^\n]*$"):
        list(read_phases(path))
    table = tmp_path / "phases.parquet"
    pq.write_table(pa.Table.from_pylist([sites_row(str(one), rock_salt()) for one in range(50)]), table)
    whole = table.read_bytes()
    table.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    with pytest.raises(InputError, match=r"cannot read .*phases\.parquet: [^\n]*$"):
        list(read_phases(table))


# Folders


def test_files_of_a_folder_are_named_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "salts").mkdir()
    rock_salt().to(tmp_path / "salts" / "NaCl.cif")
    (tmp_path / "salts" / "two.cif").write_text(to_cif(rock_salt()) + to_cif(rock_salt(6.0)))
    rock_salt().to(tmp_path / "twin.cif")
    rock_salt().to(tmp_path / "twin.vasp", fmt="poscar")
    (tmp_path / "broken.cif").write_text("data_x\n")
    (tmp_path / "notes.txt").write_text("not a crystal")
    (tmp_path / ".hidden").mkdir()
    rock_salt().to(tmp_path / ".hidden" / "NaCl.cif")
    phases = dict(read_phases(tmp_path))
    assert list(phases) == ["broken", "salts/NaCl", "salts/two", "salts/two#2", "twin.cif", "twin.vasp"]
    assert isinstance(phases["broken"], Rejection) and phases["salts/two#2"].volume == pytest.approx(216.0)
    assert list(dict(read_phases(tmp_path / "salts" / "NaCl.cif"))) == ["NaCl"]


def test_a_folder_without_crystals_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no crystal files; expected \*\.cif"):
        read_phases(tmp_path)


# The Materials Project


class FakeApi:
    """Speaks the two endpoints that are used; `requests` holds what was asked."""

    def __init__(self, materials: list[dict[str, Any]]) -> None:
        self.materials = materials
        self.requests: list[tuple[str, dict[str, list[str]]]] = []
        self.fail: Callable[[str, dict[str, list[str]]], int | None] = lambda path, query: None
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlparse(self.path)
                query = parse_qs(url.query)
                api.requests.append((url.path, query))
                status, answer = api.answer(url.path, query, self.headers.get("X-API-KEY"))
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, path: str, query: dict[str, list[str]], key: str | None) -> tuple[int, Any]:
        if status := self.fail(path, query):
            return status, {"detail": "no"}
        if path == "/heartbeat":
            return 200, {"status": "OK", "db_version": "2025.02.12"}
        if key != KEY:
            return 401, {"message": "Invalid authentication credentials"}
        if path != "/materials/summary/" or query["batch_id_not_eq"] != ["gnome_r2scan_statics"]:
            return 404, {"detail": "Not Found"}
        found = [one for one in self.materials if not one["deprecated"] or query["deprecated"] != ["False"]]
        skip, limit = int(query.get("_skip", ["0"])[0]), int(query["_limit"][0])
        fields = query["_fields"][0].split(",")
        data = [{name: one[name] for name in fields} for one in found[skip : skip + limit]]
        return 200, {"data": data, "meta": {"total_doc": len(found)}}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def material(number: int, structure: Structure, deprecated: bool = False) -> dict[str, Any]:
    meta = {"license": "BY-C", "batch_id": None}
    return {
        "material_id": f"mp-{number}",
        "structure": structure.as_dict(),
        "deprecated": deprecated,
        "builder_meta": meta,
    }


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    materials = [material(number, rock_salt(5.0 + 0.1 * number)) for number in range(5)]
    materials.insert(2, material(99, rock_salt(), deprecated=True))
    served = FakeApi(materials)
    monkeypatch.setenv("MP_API_KEY", KEY)
    monkeypatch.setenv("MP_API_ENDPOINT", f"http://127.0.0.1:{served.server.server_port}/")
    monkeypatch.setattr(materials_project, "PER_PAGE", 2)
    monkeypatch.setattr(materials_project, "PAUSES", (0.0, 0.0))
    yield served
    served.close()


def test_all_pages_of_the_api_come(api: FakeApi) -> None:
    source = read_phases("mp-api")
    phases = dict(source)
    assert list(phases) == [f"mp-{number}" for number in range(5)] and source.n_expected == 5
    assert phases["mp-3"].volume == pytest.approx(5.3**3) and phases["mp-3"].matches(rock_salt())
    assert "v2025.02.12" in source.attribution and "CC-BY 4.0" in source.attribution


def test_a_left_handed_cell_stays_the_crystal_that_it_is(api: FakeApi) -> None:
    # Chiral: elemental tellurium, P3_121 in a right-handed cell.
    right = Structure.from_spacegroup("P3_121", Lattice.hexagonal(4.5, 5.9), ["Te"], [[0.26, 0, 1 / 3]])
    a, b, c = right.lattice.matrix
    left = Structure(Lattice([b, a, c]), right.species, right.frac_coords[:, [1, 0, 2]])
    api.materials[0]["structure"] = left.as_dict()
    found = dict(read_phases("mp-api"))["mp-0"]
    assert isinstance(found, Structure)
    assert prototype_label(found) == prototype_label(right) == "A_hP3_152_a"


def test_a_site_of_two_elements_is_a_rejection(api: FakeApi) -> None:
    mixed = Structure(Lattice.cubic(3.0), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])
    api.materials[0]["structure"] = mixed.as_dict()
    api.materials[1]["structure"] = None
    phases = dict(read_phases("mp-api"))
    assert [phases[one].reason for one in ("mp-0", "mp-1")] == ["disordered", "unreadable"]


def test_what_is_not_for_every_use_is_left_out(api: FakeApi) -> None:
    api.materials[1]["builder_meta"] = {"license": "BY-NC"}
    api.materials[3]["builder_meta"] = None
    phases = dict(read_phases("mp-api"))
    assert phases["mp-1"].reason == "licence" and sum(isinstance(one, Structure) for one in phases.values()) == 4


def test_pages_that_arrived_are_not_asked_for_again(api: FakeApi, tmp_path: Path) -> None:
    api.fail = lambda path, query: 503 if query.get("_skip") == ["4"] else None
    with pytest.raises(InputError, match=r"HTTP 503.*what has arrived is kept"):
        dict(read_phases("mp-api", keep=tmp_path))
    api.fail = lambda path, query: None
    api.requests.clear()
    phases = dict(read_phases("mp-api", keep=tmp_path))
    assert len(phases) == 5 and phases["mp-0"].volume == pytest.approx(125.0)
    assert [query["_skip"] for _, query in api.requests if "_skip" in query] == [["4"]]
    assert not any(KEY in path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())


def test_a_server_that_was_busy_is_asked_again(api: FakeApi) -> None:
    refusals = iter([429, 502])
    api.fail = lambda path, query: next(refusals, None) if query.get("_skip") == ["2"] else None
    assert len(dict(read_phases("mp-api"))) == 5


def test_pages_that_stop_short_are_said(api: FakeApi) -> None:
    source = read_phases("mp-api")
    del api.materials[-1]
    with pytest.raises(InputError, match="4 different materials of 5 announced"):
        dict(source)


def test_a_missing_key_is_said(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MP_API_KEY")
    with pytest.raises(InputError, match=r"needs your key .* MP_API_KEY"):
        read_phases("mp-api")
    assert not api.requests


def test_a_refused_key_is_said_and_never_shown(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_API_KEY", "wrongwrongwrong")
    with pytest.raises(InputError, match=r"refused the key in MP_API_KEY .HTTP 401") as caught:
        read_phases("mp-api")
    assert "wrongwrong" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "path", "words"),
    [
        (404, "/materials/summary/", "answers HTTP 404: the API is another than matsearch knows"),
        (503, "/heartbeat", r"no answer from .*/heartbeat \(HTTP 503\); check the network$"),
    ],
)
def test_an_api_that_does_not_answer_is_one_line(api: FakeApi, status: int, path: str, words: str) -> None:
    api.fail = lambda asked, query: status if asked == path else None
    with pytest.raises(InputError, match=words):
        read_phases("mp-api")


def test_an_address_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_API_KEY", KEY)
    monkeypatch.setenv("MP_API_ENDPOINT", "file:///etc")
    with pytest.raises(InputError, match="MP_API_ENDPOINT must be an address"):
        read_phases("mp-api")


def test_an_empty_database_is_said(api: FakeApi) -> None:
    api.materials.clear()
    with pytest.raises(InputError, match="announces no materials"):
        read_phases("mp-api")


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_API_KEY", KEY)
    monkeypatch.setenv("MP_API_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(materials_project, "PAUSES", ())
    with pytest.raises(InputError, match=r"no answer from http://127.0.0.1:9/heartbeat \(.*refused.*\)[^\n]*$"):
        read_phases("mp-api")
