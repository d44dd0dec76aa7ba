"""Known phases from where people have them, one at a time: 150,000 crystals are never held together.

A source is the word `mp-api`, a Parquet or CSV file with a crystal a row, a folder of crystal files, or one such file.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matsearch.crystal.files import cif_structure, read_structures
from matsearch.errors import InputError
from matsearch.records import Rejection, Stage
from matsearch.reference.materials_project import MP_API, MaterialsProjectPhases
from matsearch.reference.phase_source import Phase, PhaseSource, checked, phase_structure

if TYPE_CHECKING:
    from pymatgen.core import Structure

ID = "material_id"
SITES = ("lattice", "species", "frac_coords")
CIF = "cif"
OTHER_IDS = ("id", "mp_id", "name")
"""What other tables call the column of ids."""

ROWS_AT_ONCE = 1000

_ENDINGS = (".cif", ".mcif", ".cif.gz", ".vasp", ".xyz", ".extxyz")
_NAMES = ("poscar", "contcar")
_TABLES = (".parquet", ".csv")


def read_phases(source: str | Path, keep: Path | None = None) -> PhaseSource:
    """The phases of a source.

    Args:
        source: `mp-api`, a Parquet or CSV file, a folder of CIF, POSCAR and extended XYZ files (searched through and
            through), or one of those.
        keep: Folder in which `mp-api` keeps what has arrived, so that nothing is asked for twice; None keeps nothing.

    Raises:
        InputError: There is no such file, or it is none of these; names the columns expected and found.
    """
    if str(source) == MP_API:
        return MaterialsProjectPhases(keep)
    path = Path(source)
    if path.is_dir():
        return FolderPhases(path)
    if not path.is_file():
        raise InputError(
            f"no known phases at {path}: expected a Parquet or CSV file, a folder of crystal files, or {MP_API}"
        )
    return TablePhases(path) if path.suffix.lower() in _TABLES else FolderPhases(path)


class TablePhases(PhaseSource):
    """A Parquet or CSV file with one crystal a row.

    The columns are `material_id` (or `id`), `lattice` ([6]: Å and degrees), `species` ([n_sites] symbols) and
    `frac_coords` ([3 * n_sites]); or an id and `cif`, the text of one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)
        found = self._columns()
        self._id = next((one for one in (ID, *OTHER_IDS) if one in found), "")
        is_csv = path.suffix.lower() == ".csv"
        if self._id and not is_csv and set(SITES) <= set(found):
            self._crystal: tuple[str, ...] = SITES
        elif self._id and CIF in found:
            self._crystal = (CIF,)
        else:
            by_sites = "" if is_csv else f"{', '.join((ID, *SITES))}; or "
            raise InputError(f"{path} needs the columns {by_sites}{ID}, {CIF}; it has {', '.join(found) or 'none'}")
        self.attribution = self._stated or f"Crystal structures: {path.name}; licence as its owner states."
        self._require_unique_ids()

    @property
    def digest(self) -> str:
        """Hash of the file."""
        return _digest([self._path], self._path.parent)

    @property
    def n_expected(self) -> int:
        """Rows of the table."""
        return len(self._ids)

    def __iter__(self) -> Iterator[Phase]:
        make = phase_structure if self._crystal == SITES else _from_cif
        for number, row in enumerate(self._rows()):
            yield self._ids[number], make(*row)

    @cached_property
    def _ids(self) -> list[str]:
        with self._reading():
            if self._is_parquet:
                import pyarrow.parquet as pq

                return [str(one) for one in pq.read_table(self._path, columns=[self._id])[self._id].to_pylist()]
            import pandas as pd

            found = pd.read_csv(self._path, usecols=[self._id], dtype=str, keep_default_na=False)
        return [str(one) for one in found[self._id]]

    @property
    def _is_parquet(self) -> bool:
        return self._path.suffix.lower() == ".parquet"

    def _columns(self) -> list[str]:
        self._stated = ""
        with self._reading():
            if not self._is_parquet:
                import pandas as pd

                return [str(name) for name in pd.read_csv(self._path, nrows=0).columns]
            import pyarrow.parquet as pq

            schema = pq.read_schema(self._path)
        self._stated = (schema.metadata or {}).get(b"attribution", b"").decode()
        return list(schema.names)

    def _require_unique_ids(self) -> None:
        for one, count in Counter(self._ids).items():
            if count > 1 or one in ("", "None"):
                raise InputError(
                    f"{self._path}: every row needs a value of its own in {self._id}; {count} rows have {one!r}"
                )

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        if not self._is_parquet:
            import pandas as pd

            with self._reading(), pd.read_csv(self._path, usecols=[CIF], dtype=str, chunksize=ROWS_AT_ONCE) as chunks:
                for chunk in chunks:
                    yield from ((text,) for text in chunk[CIF])
            return
        import pyarrow.parquet as pq

        with self._reading(), pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(self._crystal)):
                yield from zip(*(batch.column(name).to_pylist() for name in self._crystal), strict=True)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as err:  # what pyarrow and pandas cannot read is a ValueError
            raise InputError(f"cannot read {self._path}: {' '.join(str(err).split())}") from err


class FolderPhases(PhaseSource):
    """Crystal files in a folder and those below it, or one file; ids are paths without the ending, `#2` for a second.

    An id keeps the ending where two files differ in nothing else. Hidden files and folders are left out.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._root = path if path.is_dir() else path.parent
        if path.is_dir():
            self._files = sorted(file for file in path.rglob("*") if _names_a_crystal(file.relative_to(path)))
        else:
            self._files = [path]
        if not self._files:
            raise InputError(
                f"{path} holds no crystal files; expected *{', *'.join(_ENDINGS)}, *POSCAR* or *CONTCAR*, "
                "here or in folders below"
            )
        self.attribution = f"Crystal structures: {path.name}; licence as their owner states."

    @property
    def digest(self) -> str:
        """Hash of the files and their names."""
        return _digest(self._files, self._root)

    @property
    def n_expected(self) -> int:
        """Files: each may hold several phases."""
        return len(self._files)

    def __iter__(self) -> Iterator[Phase]:
        for name, file in zip(self._names(), self._files, strict=True):
            for number, found in enumerate(read_structures(file), start=1):
                structure = found if isinstance(found, Rejection) else checked(found)
                yield (name if number == 1 else f"{name}#{number}"), structure

    def _names(self) -> list[str]:
        paths = [file.relative_to(self._root) for file in self._files]
        stems = [path.with_suffix("").as_posix() for path in paths]
        count = Counter(stems)
        names = [
            stem if count[stem] == 1 and "#" not in stem else path.as_posix()
            for stem, path in zip(stems, paths, strict=True)
        ]
        return names if len(set(names)) == len(names) else [path.as_posix() for path in paths]


def _digest(files: Sequence[Path], root: Path) -> str:
    found = hashlib.sha256()
    for path in files:
        found.update(path.relative_to(root).as_posix().encode() if len(files) > 1 else b"")
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:32]


def _names_a_crystal(path: Path) -> bool:
    name = path.name.lower()
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and (name.endswith(_ENDINGS) or any(word in name for word in _NAMES))


def _from_cif(text: Any) -> Structure | Rejection:
    if not isinstance(text, str) or not text.strip():
        return Rejection(Stage.PARSE, "empty", "its row has no CIF")
    found = cif_structure(text)
    return found if isinstance(found, Rejection) else checked(found)
