"""Many crystals from anywhere: files, folders of files, tables with a column of CIFs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from matsearch.crystal.files import cif_structure, read_structures
from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

COLUMN = "cif"
"""The column of a table that holds the text of a CIF, in any case."""
ROWS_TOGETHER = 256
"""Rows of a table that are held at once."""
_STRUCTURE_FILE = re.compile(
    # A name that ends otherwise, such as POSCAR_notes.txt or make_poscar.py, is somebody's own.
    r".+\.m?cif(\.(gz|bz2|xz))?|.+\.(vasp|xyz|extxyz)|(.*[._-])?(POSCAR|CONTCAR)([_-][^.]*)?(\.(vasp|\d+|gz))?",
    re.IGNORECASE,
)


class Found(NamedTuple):
    """A crystal, or why there is none, and where it stands.

    Attributes:
        path: The file.
        number: Which one of the file: frame, data block, row of the table; from 0.
        crystal: It, or a rejection of `Stage.PARSE`, which does not name the file.
    """

    path: Path
    number: int
    crystal: Structure | Rejection


def read_collections(paths: Iterable[Path]) -> Iterator[Found]:
    """All crystals of files, folders and tables, one by one; what cannot be read of them is a `Rejection`.

    A folder gives the structure files in it and in its folders, sorted by path; hidden ones are left out. A table is a
    CSV or Parquet file with a column `cif`. A JSON file holds what `matsearch relax --json` wrote, or a list of
    structures as pymatgen writes them. Every other file goes through `read_structures`.

    Tables are read in pieces and files one by one, so that memory does not grow with their number.
    """
    for path in paths:
        if path.is_dir():
            yield from _folder(path)
        else:
            yield from _file(path)


def _folder(folder: Path) -> Iterator[Found]:
    files = [path for path in sorted(folder.rglob("*")) if _is_structure_file(path.relative_to(folder), path)]
    if not files:
        yield Found(
            folder, 0, _refuse("empty", "there is no structure file in it (*.cif, *POSCAR*, *.vasp, *.xyz, *.extxyz)")
        )
    for path in files:
        yield from _file(path)


def _is_structure_file(inside: Path, path: Path) -> bool:
    hidden = any(part.startswith(".") for part in inside.parts)
    return not hidden and _STRUCTURE_FILE.fullmatch(inside.name) is not None and path.is_file()


def _file(path: Path) -> Iterator[Found]:
    readers = {".csv": _csv, ".parquet": _parquet, ".json": _json}
    name = path.name.lower().removesuffix(".gz")
    reader = readers.get(Path(name).suffix, read_structures) if path.is_file() else read_structures
    for index, crystal in enumerate(reader(path)):
        yield Found(path, index, crystal)


def _csv(path: Path) -> Iterator[Structure | Rejection]:
    import pandas as pd

    # As text, where "NA" and "" stay what they are; utf-8-sig drops the mark that spreadsheets put in front.
    how: dict[str, Any] = {
        "dtype": str,
        "keep_default_na": False,
        "encoding": "utf-8-sig",
        "encoding_errors": "replace",
    }
    try:
        column = _column(list(pd.read_csv(path, nrows=0, **how).columns))
        if isinstance(column, Rejection):
            yield column
            return
        with pd.read_csv(path, usecols=[column], chunksize=ROWS_TOGETHER, **how) as chunks:
            yield from _cells(chunk[column] for chunk in chunks)
    except (ValueError, OSError) as err:  # ParserError and EmptyDataError are ValueErrors
        yield _unreadable("CSV", err)


def _parquet(path: Path) -> Iterator[Structure | Rejection]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            column = _column(file.schema_arrow.names)
            if isinstance(column, Rejection):
                yield column
                return
            batches = file.iter_batches(ROWS_TOGETHER, columns=[column])
            yield from _cells(batch[0].to_pylist() for batch in batches)
    except (pa.ArrowException, OSError) as err:
        yield _unreadable("Parquet", err)


def _column(names: list[str]) -> str | Rejection:
    for name in names:
        if str(name).strip().lower() == COLUMN:
            return name
    return _refuse(
        "no_column",
        f"it has no column {COLUMN!r}, which holds the text of a CIF; its columns: {', '.join(names) or 'none'}",
    )


def _cells(pieces: Iterable[Iterable[object]]) -> Iterator[Structure | Rejection]:
    n_rows = 0
    for piece in pieces:
        for text in piece:
            n_rows += 1
            yield _from_cell(text)
    if not n_rows:
        yield _refuse("empty", "the table has no rows")


def _from_cell(text: object) -> Structure | Rejection:
    if not isinstance(text, str) or not text.strip():
        return _refuse("empty", f"its {COLUMN!r} is empty")
    return cif_structure(text)


def _json(path: Path) -> Iterator[Structure | Rejection]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as err:
        yield _unreadable("JSON", err)
        return
    if isinstance(content, Mapping) and isinstance(content.get("structures"), list):
        content = content["structures"]  # as `matsearch evaluate --json` writes it
    rows = content if isinstance(content, list) else [content]
    if not rows:
        yield _refuse("empty", "it holds no structure")
    yield from map(_from_row, rows)


def _from_row(row: object) -> Structure | Rejection:
    """A row of `matsearch relax --json`, or a structure as pymatgen writes it."""
    from pymatgen.core import Structure

    if not isinstance(row, Mapping):
        return _refuse("unreadable", f"expected an object, got a {type(row).__name__}")
    if "reason" in row and "structure" not in row:
        return _refuse(str(row["reason"]), str(row.get("detail", "")))
    try:
        return Structure.from_dict(dict(row.get("structure", row)))
    except Exception as err:  # noqa: BLE001 - pymatgen raises every kind of error on what it did not write
        return _unreadable("structure of pymatgen", err)


def _unreadable(what: str, err: Exception) -> Rejection:
    return _refuse(
        "unreadable", f"it is no {what} that could be read ({type(err).__name__}: {' '.join(str(err).split())})"
    )


def _refuse(reason: str, detail: str) -> Rejection:
    return Rejection(Stage.PARSE, reason, detail)
