"""Crystals from files: CIF, POSCAR and extended XYZ."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

_BLOCK = re.compile(r"^\s*data_", re.MULTILINE | re.IGNORECASE)
_SITES = re.compile(r"^\s*_atom_site_", re.MULTILINE | re.IGNORECASE)


def read_structures(path: Path) -> list[Structure | Rejection]:
    """All crystals in a file, in order; what cannot be read of it is a `Rejection`.

    Extended XYZ and CIF may hold many (frames, data blocks); other formats go through pymatgen and hold one. A
    rejection does not name the file.
    """
    if path.is_dir():
        return [_refuse("directory", "it is a directory; name the files in it")]
    if not path.is_file():
        return [_refuse("no_file", "there is no such file")]
    try:
        with warnings.catch_warnings():
            # Readers warn about rounding and missing occupancies; what they return is checked below.
            warnings.simplefilter("ignore")
            if path.suffix.lower() in (".xyz", ".extxyz"):
                found = _frames(path)
            elif re.search(r"\.m?cif", path.name.lower()):
                found = _blocks(path)
            else:
                found = [_from_pymatgen(path)]
    except Exception as err:  # noqa: BLE001 - third-party readers raise every kind of error on a broken file
        return [_unreadable(err, path=path)]
    return [one if isinstance(one, Rejection) else _checked(one) for one in found]


def cif_structure(text: str) -> Structure | Rejection:
    """The crystal in the text of a CIF; a rejection does not say where the text comes from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _from_cif(text)
    if len(found) > 1:
        return _refuse("several", f"{len(found)} data blocks of the CIF list sites; expected one crystal")
    return found[0] if isinstance(found[0], Rejection) else _checked(found[0])


def _frames(path: Path) -> list[Structure | Rejection]:
    from ase.io import read

    frames = read(path, index=":", format="extxyz")
    return [_from_frame(frame) for frame in frames] or [_refuse("empty", "it holds no structure")]


def _from_frame(frame: Any) -> Structure | Rejection:
    from pymatgen.io.ase import AseAtomsAdaptor

    if frame.cell.rank < 3:
        return _refuse(
            "no_cell",
            f"a crystal needs a cell of three independent vectors, got {frame.cell.rank}; "
            'write Lattice="ax ay az bx by bz cx cy cz" in the line above the atoms',
        )
    return AseAtomsAdaptor.get_structure(frame)


def _blocks(path: Path) -> list[Structure | Rejection]:
    from monty.io import zopen

    with zopen(path, mode="rt", encoding="utf-8", errors="replace") as file:
        return _from_cif(str(file.read()))


def _from_cif(text: str) -> list[Structure | Rejection]:
    """The structure of each data block that lists sites; others hold a publication or a diffraction pattern."""
    blocks = [f"data_{block}" for block in _BLOCK.split(text)[1:] if _SITES.search(block)]
    return [_from_block(block) for block in blocks] or [
        _refuse("unreadable", "it is no CIF with a structure: no data block lists sites (_atom_site_...)")
    ]


def _from_block(text: str) -> Structure | Rejection:
    from pymatgen.io.cif import CifParser

    try:
        # Each by itself: the parser drops blocks of equal names, and bad blocks beside good ones.
        (structure,) = CifParser.from_str(text).parse_structures(primitive=False, on_error="raise")
    except Exception as err:  # noqa: BLE001 - see above
        cause = err.__cause__ if isinstance(err.__cause__, Exception) else err
        return _unreadable(cause, f"data block {text.split(maxsplit=1)[0].removeprefix('data_')!r}")
    return structure


def _from_pymatgen(path: Path) -> Structure | Rejection:
    from pymatgen.core import Structure
    from pymatgen.io.registry import get_structure_format

    try:
        get_structure_format(filename=path.name)
    except ValueError:
        return _refuse(
            "unreadable", "its name says no format; expected *.cif, *POSCAR*, *CONTCAR*, *.vasp, *.xyz or *.extxyz"
        )
    return Structure.from_file(path)


def _checked(structure: Structure) -> Structure | Rejection:
    if not structure.is_ordered:
        return _refuse("disordered", "it has partly occupied sites; choose an ordered cell")
    return structure


def _unreadable(err: Exception, what: str = "it", path: Path | None = None) -> Rejection:
    said = " ".join(str(err).split())
    if path is not None:
        said = said.replace(str(path), path.name)
    return _refuse("unreadable", f"{what} is no crystal that could be read ({type(err).__name__}: {said})")


def _refuse(reason: str, detail: str) -> Rejection:
    return Rejection(Stage.PARSE, reason, detail)
