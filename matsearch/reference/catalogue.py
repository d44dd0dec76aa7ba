"""The known phases themselves, whatever their energies: what they are called, their structures, what matches them."""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.errors import InputError
from matsearch.records import Rejection

if TYPE_CHECKING:
    import pyarrow as pa
    from pymatgen.core import Structure

    from matsearch.reference.phase_source import PhaseSource

LABELS_FILE, GEOMETRY_FILE = "phases.parquet", "structures.parquet"
METADATA = ("attribution", "digest", "source", "n_rejected")
LABELS = ("id", "formula", "n_atoms", "spacegroup", "prototype", "fingerprint")
GEOMETRY = ("group", "lattice", "numbers", "coords")
_ELEMENT = re.compile(r"([A-Z][a-z]?)([0-9]*)")
_GROUP = re.compile(r"\(([^()]*)\)([0-9]*)")


class Catalogue:
    """All phases of one source, in its order.

    Two files, since whoever asks for a hull needs no structures: `phases.parquet` with the labels and
    `structures.parquet` with the cells (see `matsearch.reference.packing`).

    Attributes:
        labels: One row a phase: id, formula (reduced), n_atoms (of the primitive cell), spacegroup (within 0.1 Å),
            prototype, fingerprint.
        attribution: Whose data this is, and under which licence.
        digest: Hash of ids and cells. Energies name the catalogue that they belong to by it.
        source: What it was made from, as it was called then.
        source_digest: Hash of the source as it was then.
        n_rejected: Entries of the source that are no ordered crystal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.labels, metadata = _read(folder / LABELS_FILE, LABELS, METADATA)
        self.attribution = metadata["attribution"]
        self.digest = metadata["digest"]
        self.source = metadata["source"]
        self.source_digest = metadata["source_digest"]
        self.n_rejected = int(metadata["n_rejected"])

    def __len__(self) -> int:
        return int(self.labels.num_rows)

    def column(self, name: str) -> list[Any]:
        """One of the labels."""
        values: list[Any] = self.labels[name].to_pylist()
        return values

    @cached_property
    def ids(self) -> list[str]:
        """Ids of the phases."""
        return self.column("id")

    @cached_property
    def position(self) -> dict[str, int]:
        """Id of a phase to its row."""
        return {phase_id: position for position, phase_id in enumerate(self.ids)}

    @cached_property
    def amounts(self) -> list[dict[str, int]]:
        """Symbol to amount in the formula, for each phase."""
        return [amounts_in(formula) for formula in self.column("formula")]

    @cached_property
    def elements(self) -> frozenset[str]:
        """Symbols of all elements in it."""
        return frozenset(symbol for amounts in self.amounts for symbol in amounts)

    @cached_property
    def positions(self) -> dict[str, list[int]]:
        """Composition, as `reduced_formula` of `matsearch.crystal.identity` writes it, to rows."""
        found: dict[str, list[int]] = {}
        for position, amounts in enumerate(self.amounts):
            found.setdefault(composition_key(amounts), []).append(position)
        return found

    def structure(self, position: int) -> Structure:
        """The crystal in a row, as its source lists it: the primitive cell."""
        from matsearch.reference.packing import unpack

        group, *lists = (self._geometry[name][position] for name in GEOMETRY)
        return unpack(group.as_py(), *(one.values.to_numpy() for one in lists))

    @cached_property
    def _geometry(self) -> pa.Table:
        table, metadata = _read(self._folder / GEOMETRY_FILE, GEOMETRY, ("digest",))
        if metadata["digest"] != self.digest:
            raise InputError(
                f"{self._folder / GEOMETRY_FILE} belongs to other phases ({metadata['digest']}) than {LABELS_FILE} "
                f"beside it ({self.digest}); build both anew"
            )
        return table

    def is_whole(self) -> bool:
        """Whether ids and cells are those that the digest was made of.

        Raises:
            InputError: The file of the cells cannot be read, or belongs to other phases.
        """
        lists = [self._geometry[name].combine_chunks() for name in GEOMETRY[1:]]
        values = [(one.values.to_numpy(), one.offsets.to_numpy()) for one in lists]
        rows = (
            {"id": phase_id, "group": group}
            | {
                name: flat[starts[row] : starts[row + 1]]
                for name, (flat, starts) in zip(GEOMETRY[1:], values, strict=True)
            }
            for row, (phase_id, group) in enumerate(zip(self.ids, self._geometry["group"].to_pylist(), strict=True))
        )
        return _digest(rows) == self.digest

    def fingerprint(self, position: int) -> np.ndarray:
        """[12] uint8 of the phase in a row, as listed."""
        return np.frombuffer(self.labels["fingerprint"][position].as_py(), dtype=np.uint8)


def amounts_in(formula: str) -> dict[str, int]:
    """Symbol to amount in a formula of whole numbers, such as `Ti(NO3)4`; pymatgen's parser takes 50 times as long."""
    amounts: dict[str, int] = {}
    plain = _GROUP.sub(lambda group: _times(group[1], int(group[2] or 1)), formula)
    for symbol, count in _ELEMENT.findall(plain):
        amounts[symbol] = amounts.get(symbol, 0) + int(count or 1)
    return amounts


def _times(formula: str, factor: int) -> str:
    return "".join(f"{symbol}{factor * int(count or 1)}" for symbol, count in _ELEMENT.findall(formula))


def composition_key(amounts: Mapping[str, float]) -> str:
    """A composition up to a factor, as `reduced_formula` of `matsearch.crystal.identity` writes it."""
    counts = {symbol: round(amount) for symbol, amount in amounts.items()}
    divisor = math.gcd(*counts.values()) or 1
    return " ".join(f"{symbol}{count // divisor}" for symbol, count in sorted(counts.items()))


def read_catalogue(folder: Path) -> Catalogue:
    """The catalogue in a folder, read once a process unless its files change.

    Raises:
        InputError: There is none, or it is of another make.
    """
    return _read_catalogue(folder, version_of(folder / LABELS_FILE))


@lru_cache(maxsize=4)
def _read_catalogue(folder: Path, _version: int) -> Catalogue:
    return Catalogue(folder)


def version_of(path: Path) -> int:
    """Changes when the file does; 0 where there is none."""
    return path.stat().st_mtime_ns if path.is_file() else 0


def _read(path: Path, columns: Sequence[str], keys: Sequence[str]) -> tuple[pa.Table, dict[str, str]]:
    if not path.is_file():
        raise InputError(f"no known phases at {path}; make them with `matsearch reference build --from SOURCE`")
    return read_table(path, "list of known phases", columns, keys)


def read_table(path: Path, what: str, columns: Sequence[str], keys: Sequence[str]) -> tuple[pa.Table, dict[str, str]]:
    """A Parquet file and its metadata.

    Args:
        path: Of the file.
        what: What it should be, for the message.
        columns: That it must have.
        keys: That its metadata must have.

    Raises:
        InputError: It cannot be read, or is something else.
    """
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as err:  # pyarrow: what is no Parquet is a ValueError
        raise InputError(f"cannot read {path}: {' '.join(str(err).split())}; build it anew") from err
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    missing = [name for name in columns if name not in table.column_names]
    if missing := missing + [key for key in keys if key not in metadata]:
        raise InputError(f"{path} is no {what}: {', '.join(missing)} missing; build it anew")
    return table, metadata


def write_catalogue(source: PhaseSource, name: str, attribution: str, folder: Path, say: Callable[[str], None]) -> None:
    """Reduce, label and write every phase of a source.

    Args:
        source: Where the phases come from.
        name: What it is called.
        attribution: Whose data it is, and under which licence.
        folder: Gets the file `phases.parquet`, whole or not at all.
        say: Is told how far it has come.

    Raises:
        InputError: The source holds no crystal.
    """
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    n_rejected = 0
    for number, (phase_id, structure) in enumerate(source, start=1):
        if isinstance(structure, Rejection):
            n_rejected += 1
            say(f"{phase_id}: left out, {structure.reason}: {structure.detail}")
        else:
            rows.append(_row(phase_id, structure))
        if number % 5000 == 0:
            say(f"labelled {number} of {source.n_expected} phases")
    if not rows:
        raise InputError(f"{source.name} holds no crystal that could be read")
    labels = pa.schema(
        [
            ("id", pa.string()),
            ("formula", pa.string()),
            ("n_atoms", pa.int16()),
            ("spacegroup", pa.uint8()),
            ("prototype", pa.string()),
            ("fingerprint", pa.binary(12)),
        ]
    )
    digest = _digest(rows)
    metadata = {
        "attribution": attribution,
        "source": name,
        "source_digest": source.digest,
        "digest": digest,
        "n_rejected": str(n_rejected),
    }
    folder.mkdir(parents=True, exist_ok=True)
    # Labels last: without them there is no catalogue.
    write_table(pa.Table.from_pylist(rows, schema=geometry_schema()), folder / GEOMETRY_FILE, {"digest": digest})
    write_table(pa.Table.from_pylist(rows, schema=labels), folder / LABELS_FILE, metadata)


def geometry_schema() -> pa.Schema:
    """Columns of packed crystals."""
    import pyarrow as pa

    lists = {"lattice": pa.int32(), "numbers": pa.uint8(), "coords": pa.uint16()}
    return pa.schema([("group", pa.uint8()), *((name, pa.list_(kind)) for name, kind in lists.items())])


def write_table(table: pa.Table, path: Path, metadata: dict[str, str]) -> None:
    """Write a Parquet file, whole or not at all, in as few bytes as it takes."""
    import pyarrow.parquet as pq

    # The high and the low bytes of lengths and coordinates compress apart: a quarter less.
    split = [name for name in ("lattice", "coords") if name in table.column_names]
    dictionary = [name for name in table.column_names if name not in (*split, "numbers", "fingerprint")]
    partial = path.with_name(f"{path.name}.partial")
    pq.write_table(
        table.replace_schema_metadata(metadata),
        partial,
        compression="zstd",
        compression_level=19,
        use_dictionary=dictionary,
        column_encoding={f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in split},
    )
    partial.replace(path)


def _row(phase_id: str, structure: Structure) -> dict[str, Any]:
    from matsearch.crystal.fingerprint import fingerprint
    from matsearch.crystal.prototype import prototype_label
    from matsearch.reference.packing import pack, unpack

    packed = pack(structure)
    primitive = unpack(*packed)
    label = prototype_label(primitive)
    group = label.split("_")[2] if label.count("_") > 1 else packed.group
    return {
        "id": phase_id,
        "formula": formula_of(primitive),  # of what is stored: D is H there
        "n_atoms": len(primitive),
        "spacegroup": int(group),
        "prototype": label,
        "fingerprint": fingerprint(primitive).tobytes(),
        **packed._asdict(),
    }


def formula_of(structure: Structure) -> str:
    """The reduced formula as pymatgen writes it."""
    with warnings.catch_warnings():
        # pymatgen orders the symbols by electronegativity, and warns that helium, neon and argon have none.
        warnings.filterwarnings("ignore", message="No Pauling electronegativity")
        return str(structure.composition.element_composition.reduced_formula)


def _digest(rows: Iterable[dict[str, Any]]) -> str:
    found = hashlib.sha256()
    for row in rows:
        found.update(row["id"].encode())
        found.update(bytes([row["group"]]))
        for name in ("lattice", "numbers", "coords"):
            found.update(row[name].tobytes())
    return found.hexdigest()[:32]
