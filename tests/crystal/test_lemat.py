"""What is written for LeMat-GenBench is read as that benchmark reads it."""

import json

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.crystal.lemat import LematFolder
from matsearch.errors import InputError


def crystals() -> list[Structure]:
    skew = Lattice.from_parameters(4.1, 5.2, 6.3, 81, 92, 103)
    return [
        Structure(Lattice.cubic(2.66), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        Structure(skew, ["Ti", "O", "O", "O"], np.random.default_rng(0).random((4, 3))),
        # Atoms too near to each other are for the benchmark to refuse, not for the export.
        Structure(Lattice.cubic(4), ["Mg", "O"], [[0, 0, 0], [0.05, 0, 0]]),
    ]


def written(folder) -> list[Structure]:
    with LematFolder(folder) as export:
        for number, one in zip((0, 1, 12), crystals(), strict=True):
            export.write(number, one)
    assert export.n_written == 3
    return crystals()


def test_the_table_reads_back_to_the_last_bit(tmp_path):
    expected = written(tmp_path / "new" / "lemat")
    table = pd.read_csv(tmp_path / "new" / "lemat" / "structures.csv", dtype={"material_id": str})
    assert list(table["material_id"]) == ["000000", "000001", "000012"]
    assert [Structure.from_dict(json.loads(text)) for text in table["structure"]] == expected


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pymatgen: how it reads a CIF
def test_every_cif_is_found_and_read_by_pymatgen(tmp_path):
    expected = written(tmp_path)
    found = [Structure.from_file(path) for path in sorted(tmp_path.rglob("*.cif"))]
    for one, other in zip(found, expected, strict=True):
        assert one.species == other.species
        assert np.allclose(one.lattice.parameters, other.lattice.parameters, atol=1e-6)
        assert np.allclose(one.distance_matrix, other.distance_matrix, atol=1e-6)


def test_old_cifs_are_not_mixed_with_new_ones(tmp_path):
    written(tmp_path)
    with pytest.raises(InputError, match="CIF files already"):
        LematFolder(tmp_path)
