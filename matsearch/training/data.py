"""Labelled crystals from files: extended XYZ, ASE databases (`.db`, `.json`) and Parquet.

What a label means stands in `LabelFormat`: energies in eV (or eV/atom), forces in eV/Å, stresses in eV/Å^3, GPa or
kbar, positive under tension unless it is said that they are so under compression (as VASP prints them), moments in μB.
Inside, all are as in `matsearch.records.Prediction`. What cannot be used is named with a reason and left out.

Columns of a Parquet file: `species` (symbol of each site), `frac_coords` or `positions` (Å; flat or [n_atoms, 3]),
`lattice` (three lengths in Å and three angles in degrees, or nine numbers, vectors as rows), and the labels: an energy,
and where there are any forces (flat or [n_atoms, 3]), a stress (nine numbers, or six in the order xx yy zz yz xz xy)
and magnetic moments. `n_atoms`, where it is there, is checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel
from pymatgen.core import Element, Lattice, Structure

from matsearch.errors import InputError
from matsearch.units import EV_PER_A3_IN_GPA

STRESS_UNITS = {"eV/A^3": 1.0, "GPa": 1 / EV_PER_A3_IN_GPA, "kbar": 0.1 / EV_PER_A3_IN_GPA}
LEAST_VOLUME = 0.5
"""Å^3 for an atom; a cell with less is none."""


class LabelFormat(BaseModel, frozen=True, extra="forbid"):
    """How labels are named in a file, and what their numbers mean.

    Attributes:
        energy: Name of the energy (a column, or a key of a frame).
        forces: Of the forces in eV/Å.
        stress: Of the stress.
        magmoms: Of the magnetic moments in μB.
        per_atom: Whether the energy is in eV/atom, not in eV.
        stress_unit: Of the stress.
        stress_positive: What a positive stress is a sign of.
    """

    energy: str = "energy"
    forces: str = "forces"
    stress: str = "stress"
    magmoms: str = "magmoms"
    per_atom: bool = False
    stress_unit: Literal["eV/A^3", "GPa", "kbar"] = "eV/A^3"
    stress_positive: Literal["tension", "compression"] = "tension"


@dataclass(frozen=True, eq=False)
class LabelledStructure:
    """A crystal and what it should give.

    Attributes:
        structure: Ordered, periodic in all three directions.
        energy: In eV.
        forces: [n_atoms, 3] in eV/Å, or None.
        stress: [3, 3] in eV/Å^3, positive under tension, or None.
        magmoms: [n_atoms] magnitudes in μB, or None.
        source: Where it is from: `file row 3`.
    """

    structure: Structure
    energy: float
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    magmoms: np.ndarray | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class BadRow:
    """What was left out of the data.

    Attributes:
        source: Where it is from.
        reason: What was expected, what came.
    """

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class LabelledData:
    """The data of one or several files."""

    rows: tuple[LabelledStructure, ...]
    bad: tuple[BadRow, ...]


def read_labelled(paths: Sequence[Path], form: LabelFormat | None = None) -> LabelledData:
    """All labelled crystals of some files.

    Raises:
        InputError: A file is missing, is of another kind, cannot be read, or holds no label that can be used.
    """
    form = form or LabelFormat()
    rows: list[LabelledStructure] = []
    bad: list[BadRow] = []
    names: set[str] = set()
    for path in paths:
        if not path.is_file():
            raise InputError(f"no labelled structures: there is no file {path}")
        of_file = []
        for raw in _read(path, form):
            of_file.append(_labelled(raw, form))
            names |= raw.names
        rows.extend(one for one in of_file if isinstance(one, LabelledStructure))
        refused = [one for one in of_file if isinstance(one, BadRow)]
        bad.extend(refused)
        if len(refused) == len(of_file):
            first = f"; {refused[0].source}: {refused[0].reason}" if refused else ""
            raise InputError(f"{path} holds no labelled structure that can be used, of {len(of_file)} rows{first}")
    for what in ("forces", "stress", "magmoms"):
        name = getattr(form, what)
        if name != LabelFormat.model_fields[what].default and name not in names:
            raise InputError(f"no row has {what} under the name {name!r}; there are {_listed(names)}")
    return LabelledData(tuple(rows), tuple(bad))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def write_labelled(rows: Sequence[LabelledStructure], path: Path) -> None:
    """Rows as Parquet, in the units that `read_labelled` takes if not told otherwise."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def flat(value: np.ndarray | None) -> list[float] | None:
        return None if value is None else value.ravel().tolist()

    columns = {
        "source": [row.source for row in rows],
        "species": [[site.specie.symbol for site in row.structure] for row in rows],
        "lattice": [flat(row.structure.lattice.matrix) for row in rows],
        "frac_coords": [flat(row.structure.frac_coords) for row in rows],
        "energy": [float(row.energy) for row in rows],
        "forces": [flat(row.forces) for row in rows],
        "stress": [flat(row.stress) for row in rows],
        "magmoms": [flat(row.magmoms) for row in rows],
    }
    pq.write_table(pa.table(columns), path)


def split_by_formula(
    rows: Sequence[LabelledStructure], fraction: float, seed: int = 0
) -> tuple[list[LabelledStructure], list[LabelledStructure]]:
    """Rows to train on, and rows held out, of which no reduced formula is trained on.

    Formulas are drawn until a fraction of the rows is held out; one whose elements no other formula would show stays.

    Raises:
        InputError: Nothing can be held out.
    """
    compositions = [one.structure.composition for one in rows]
    formulas = [one.reduced_formula for one in compositions]
    elements = {formula: one.chemical_system_set for formula, one in zip(formulas, compositions, strict=True)}
    n_rows = Counter(formulas)
    n_formulas = Counter(element for one in elements.values() for element in one)
    held: set[str] = set()
    n_held = 0
    for formula in np.random.default_rng(seed).permutation(sorted(elements)):
        if n_held >= fraction * len(rows):
            break
        if all(n_formulas[element] > 1 for element in elements[formula]):
            held.add(str(formula))
            n_held += n_rows[formula]
            n_formulas.subtract(elements[formula])
    if not held:
        raise InputError(
            f"nothing can be held out of {len(rows)} labelled structures of {len(elements)} formulas: each has an "
            "element that no other has; give more formulas, or held-out structures in a file of their own"
        )
    kept = [one for one, formula in zip(rows, formulas, strict=True) if formula not in held]
    return kept, [one for one, formula in zip(rows, formulas, strict=True) if formula in held]


@dataclass(frozen=True, eq=False)
class _Raw:
    """A row before it is checked; labels as they stand in the file."""

    source: str
    cell: Any
    symbols: Sequence[Any]
    positions: Any
    fractional: bool
    energy: Any
    forces: Any = None
    stress: Any = None
    magmoms: Any = None
    pbc: bool = True
    n_atoms: int | None = None
    names: frozenset[str] = frozenset()


def _read(path: Path, form: LabelFormat) -> Iterator[_Raw]:
    readers = {".xyz": _frames, ".extxyz": _frames, ".db": _database, ".json": _database, ".parquet": _table}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path} is of no kind that labels are read from; expected *.extxyz, *.xyz, *.db, *.json (ASE database) or "
            "*.parquet"
        )
    try:
        yield from reader(path, form)
    except InputError:
        raise
    except Exception as err:  # third-party readers raise every kind of error on a broken file
        said = " ".join(str(err).split())
        raise InputError(f"{path} could not be read ({type(err).__name__}: {said})") from err


def _frames(path: Path, form: LabelFormat) -> Iterator[_Raw]:
    from ase.io import iread

    for number, atoms in enumerate(iread(path, index=":", format="extxyz")):
        yield _of_atoms(f"{path.name} frame {number}", atoms, form, {})


def _database(path: Path, form: LabelFormat) -> Iterator[_Raw]:
    from ase.db import connect

    with connect(path) as database:
        for row in database.select():
            more = dict(row.key_value_pairs) | dict(row.data)
            yield _of_atoms(f"{path.name} id {row.id}", row.toatoms(), form, more)


def _of_atoms(source: str, atoms: Any, form: LabelFormat, more: dict[str, Any]) -> _Raw:
    """From ASE's atoms, whose labels lie in a calculator, in `info`, in arrays or in columns of a database."""
    found: dict[str, Any] = dict(atoms.arrays) | dict(atoms.info) | more
    if atoms.calc is not None:
        found |= {name: value for name, value in atoms.calc.results.items() if value is not None}
    stress = found.get(form.stress)
    if stress is None and form.stress == "stress":
        # A virial is what the stress would be times minus the volume, in eV whatever the stress is said to be in.
        virial = next((found[name] for name in ("virial", "virials") if name in found), None)
        if virial is not None and abs(atoms.cell.volume) > 0:
            sign = -1.0 if form.stress_positive == "tension" else 1.0
            stress = sign * np.asarray(virial, dtype=float) / abs(atoms.cell.volume) / STRESS_UNITS[form.stress_unit]
    return _Raw(
        source,
        atoms.cell.array,
        atoms.get_chemical_symbols(),
        atoms.positions,
        False,
        found.get(form.energy),
        found.get(form.forces),
        stress,
        found.get(form.magmoms),
        pbc=bool(atoms.pbc.all()),
        names=frozenset(found) - {"numbers", "positions"},
    )


def _table(path: Path, form: LabelFormat) -> Iterator[_Raw]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    names = set(file.schema_arrow.names)
    places = next((one for one in ("frac_coords", "positions") if one in names), None)
    missing = [name for name in ("species", "lattice", form.energy) if name not in names]
    if places is None:
        missing.append("frac_coords or positions")
    if missing or places is None:
        raise InputError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(sorted(names))}")
    labels = [form.energy, form.forces, form.stress, form.magmoms, "n_atoms"]
    columns = ["species", "lattice", places, *(name for name in labels if name in names)]
    number, columns_there = 0, frozenset(names)
    for part in file.iter_batches(columns=columns):
        for row in part.to_pylist():
            yield _Raw(
                f"{path.name} row {number}",
                row["lattice"],
                row["species"] or [],
                row[places],
                places == "frac_coords",
                row[form.energy],
                row.get(form.forces),
                row.get(form.stress),
                row.get(form.magmoms),
                n_atoms=row.get("n_atoms"),
                names=columns_there,
            )
            number += 1


class _BadLabelError(Exception):
    """Why a row cannot be used."""


def _labelled(raw: _Raw, form: LabelFormat) -> LabelledStructure | BadRow:
    try:
        return _checked(raw, form)
    except _BadLabelError as err:
        return BadRow(raw.source, str(err))


def _checked(raw: _Raw, form: LabelFormat) -> LabelledStructure:
    structure = _structure(raw)
    n_atoms = len(structure)
    energy = _numbers("the energy", raw.energy, [(), (1,)])
    if energy is None:
        raise _BadLabelError(f"it has no energy under the name {form.energy!r}; there are {_listed(raw.names)}")
    forces = _numbers("the forces", raw.forces, [(n_atoms, 3), (3 * n_atoms,)])
    stress = _numbers("the stress", raw.stress, [(3, 3), (9,), (6,)])
    if stress is not None:
        stress = _square(stress) * STRESS_UNITS[form.stress_unit]
        stress = -stress if form.stress_positive == "compression" else stress
    magmoms = _numbers("the magnetic moments", raw.magmoms, [(n_atoms,)])
    return LabelledStructure(
        structure,
        float(energy.reshape(-1)[0]) * (n_atoms if form.per_atom else 1),
        None if forces is None else forces.reshape(-1, 3),
        stress,
        None if magmoms is None else np.abs(magmoms),
        raw.source,
    )


def _structure(raw: _Raw) -> Structure:
    n_atoms = len(raw.symbols)
    if not n_atoms:
        raise _BadLabelError("it has no atoms")
    if raw.n_atoms is not None and raw.n_atoms != n_atoms:
        raise _BadLabelError(f"n_atoms is {raw.n_atoms}, but {n_atoms} species are listed")
    if unknown := sorted({str(one) for one in raw.symbols if not Element.is_valid_symbol(str(one))}):
        raise _BadLabelError(f"{', '.join(unknown)} is no element")
    if not raw.pbc:
        raise _BadLabelError("it is not periodic along all three vectors; leave vacuum (8 Å) and make it periodic")
    cell = _numbers("the lattice", raw.cell, [(6,), (9,), (3, 3)])
    places = _numbers("the positions", raw.positions, [(n_atoms, 3), (3 * n_atoms,)])
    if cell is None or places is None:
        raise _BadLabelError("it has no lattice or no positions")
    try:
        lattice = Lattice.from_parameters(*cell) if cell.shape == (6,) else Lattice(cell.reshape(3, 3))
    except ValueError as err:
        raise _BadLabelError(f"its lattice is none: {err}") from err
    volume = abs(float(np.linalg.det(lattice.matrix)))
    if not volume > LEAST_VOLUME * n_atoms:
        raise _BadLabelError(f"its cell has {volume:.3g} Å^3 for {n_atoms} atoms")
    symbols = [str(one) for one in raw.symbols]
    return Structure(lattice, symbols, places.reshape(-1, 3), coords_are_cartesian=not raw.fractional)


def _numbers(what: str, value: Any, shapes: list[tuple[int, ...]]) -> np.ndarray | None:
    """A label as finite numbers of one of some shapes; None where there is none."""
    if value is None:
        return None
    try:
        numbers = np.array(value.tolist() if isinstance(value, np.ndarray) else value, dtype=float)
    except (TypeError, ValueError) as err:
        raise _BadLabelError(f"{what} cannot be read as numbers: {err}") from err
    if numbers.shape not in shapes:
        wanted = " or ".join(str(list(shape)) for shape in shapes)
        raise _BadLabelError(f"{what} must be {wanted}, got {list(numbers.shape)}")
    if not np.isfinite(numbers).all():
        raise _BadLabelError(f"{what} holds NaN or inf")
    return numbers


def _square(stress: np.ndarray) -> np.ndarray:
    """[3, 3] symmetric, from that, nine numbers or six (xx yy zz yz xz xy)."""
    if stress.shape == (6,):
        return stress[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    stress = stress.reshape(3, 3)
    half: np.ndarray = 0.5 * (stress + stress.T)
    return half
