"""Crystals from files: CIF, POSCAR and extended XYZ."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure


def read_structures(path: Path) -> list[Structure | Rejection]:
    """All crystals in a file, in order; an unreadable file is one `Rejection`.

    Extended XYZ may hold many; other formats go through pymatgen and hold one.
    """
    from pymatgen.core import Structure
    from pymatgen.io.ase import AseAtomsAdaptor

    if not path.is_file():
        return [Rejection(Stage.PARSE, "no_file", f"there is no file {path}")]
    try:
        with warnings.catch_warnings():
            # Readers warn about rounding and missing occupancies; what they return is checked below.
            warnings.simplefilter("ignore")
            if path.suffix.lower() in (".xyz", ".extxyz"):
                from ase.io import read

                frames = read(path, index=":", format="extxyz")
                structures = [AseAtomsAdaptor.get_structure(frame) for frame in frames]
            else:
                structures = [Structure.from_file(path)]
    except Exception as err:  # noqa: BLE001 - third-party readers raise every kind of error on a broken file
        return [
            Rejection(
                Stage.PARSE, "unreadable", f"{path} is no crystal that could be read ({type(err).__name__}: {err})"
            )
        ]
    return [_checked(structure, path) for structure in structures]


def _checked(structure: Structure, path: Path) -> Structure | Rejection:
    if not structure.is_ordered:
        return Rejection(Stage.PARSE, "disordered", f"{path} has partly occupied sites; choose an ordered cell")
    return structure
