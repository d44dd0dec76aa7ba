"""The file of a reference: what one potential makes of the phases of a catalogue."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matsearch.errors import InputError, MixedHullError
from matsearch.potential.weights import weight_hashes
from matsearch.reference.catalogue import GEOMETRY, Catalogue, geometry_schema, read_table, write_table

if TYPE_CHECKING:
    import pyarrow as pa

    from matsearch.potential.base import Potential

COLUMNS = ("phase", "energy_per_atom", "energy_above_hull", "relaxed", "unconverged", "failure", *GEOMETRY)
METADATA = ("potential", "energy_scale", "elements", "catalogue", "protocol", "n_pending")


def energies_path(folder: Path, potential_name: str) -> Path:
    """Where the energies of a potential lie in a folder; names with signs that no file should have get a hash."""
    plain = re.sub(r"[^A-Za-z0-9.+_-]", "_", potential_name)
    if plain != potential_name:
        plain += "-" + hashlib.sha256(potential_name.encode()).hexdigest()[:8]
    return folder / f"{plain}.energies.parquet"


def potentials_in(folder: Path) -> list[str]:
    """Names of the potentials that have energies in a folder, sorted.

    Raises:
        InputError: A file of energies is broken.
    """
    import pyarrow.parquet as pq

    names = []
    for path in sorted(folder.glob("*.energies.parquet")):
        try:
            found = (pq.read_schema(path).metadata or {}).get(b"potential")
        except (OSError, ValueError) as err:  # pyarrow: what is no Parquet is a ValueError
            raise InputError(f"cannot read {path}: {' '.join(str(err).split())}; build it anew") from err
        if found is None:
            raise InputError(f"{path} holds no energies of known phases: potential missing; build it anew")
        names.append(found.decode())
    return sorted(names)


def require_same_weights(path: Path, metadata: Mapping[str, str], potential: Potential) -> None:
    """Hold the weights that gave the energies of a file against those that the potential has now.

    Nothing is asked of a file that does not tell, nor of a potential without weights.

    Raises:
        MixedHullError: They are others: the potential was trained on, or exchanged, under the same name.
    """
    then = json.loads(metadata.get("weights", "{}"))
    now = weight_hashes(potential) if then else {}
    if now and then != now:
        changed = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
        raise MixedHullError(
            f"{path} holds energies that {potential.name} gave with other weights than it has now "
            f"({', '.join(changed)} changed since); two sets of weights have no common hull. Build it anew with "
            "`matsearch reference build`, in another --out or after deleting this file and the .progress.sqlite beside "
            "it"
        )


def read_energies(path: Path, potential_name: str, catalogue: Catalogue) -> tuple[pa.Table, dict[str, str]]:
    """The rows and the metadata of a file of energies.

    Raises:
        InputError: It is no such file, or belongs to another catalogue.
        MixedHullError: The energies are another potential's.
    """
    table, metadata = read_table(path, "file of energies of known phases", COLUMNS, METADATA)
    if metadata["potential"] != potential_name:
        raise MixedHullError(
            f"{path} holds energies of {metadata['potential']}, but {potential_name} was asked for; "
            f"energies of two potentials have no common hull"
        )
    if metadata["catalogue"] != catalogue.digest:
        raise InputError(
            f"{path} belongs to other known phases ({metadata['catalogue']}) than those beside it "
            f"({catalogue.digest}); build it anew"
        )
    return table, metadata


def write_energies(path: Path, rows: list[dict[str, Any]], metadata: dict[str, str]) -> None:
    """Write the file of one potential, whole or not at all.

    Args:
        path: See `energies_path`.
        rows: `phase` (row of the catalogue), `energy_per_atom` and `energy_above_hull` (eV/atom; None with a
            `failure`), `relaxed` (its relaxation converged), `unconverged` (it did not: the energy is that of the last
            step), `failure`, and the packed cell of what is relaxed.
        metadata: See `METADATA`, and `weights`, hashes by file as JSON.
    """
    import pyarrow as pa

    schema = pa.schema(
        [
            ("phase", pa.int32()),
            ("energy_per_atom", pa.float32()),  # 0.5e-6 eV/atom at -8 eV/atom
            ("energy_above_hull", pa.float32()),
            ("relaxed", pa.bool_()),
            ("unconverged", pa.bool_()),
            ("failure", pa.string()),
            *geometry_schema(),
        ]
    )
    write_table(pa.Table.from_pylist(rows, schema=schema), path, metadata)
