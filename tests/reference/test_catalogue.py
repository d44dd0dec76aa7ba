"""The list of known phases: two files that belong together, and formulas as pymatgen and the identity write them."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_phases import ROWS, row, write_phases
from pymatgen.core import Composition, Lattice, Structure

from matsearch.crystal.fingerprint import fingerprint
from matsearch.crystal.identity import reduced_formula, same_crystal
from matsearch.crystal.prototype import prototype_label
from matsearch.errors import InputError
from matsearch.reference.catalogue import Catalogue, amounts_in, composition_key, read_catalogue, write_catalogue
from matsearch.reference.sources import read_phases


def write(folder, rows=None):
    folder.mkdir(exist_ok=True)
    source = read_phases(write_phases(folder / "source.parquet", rows))
    write_catalogue(source, "made up", "Nobody's, CC0.", folder, lambda text: None)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "a")


def test_phases_keep_their_ids_their_order_and_their_crystals(folder):
    catalogue = Catalogue(folder)
    assert catalogue.ids == [one["material_id"] for one in ROWS]
    assert [catalogue.position[one] for one in catalogue.ids] == list(range(len(ROWS))) == list(range(len(catalogue)))
    assert (catalogue.source, catalogue.attribution, catalogue.n_rejected) == ("made up", "Nobody's, CC0.", 0)
    assert catalogue.elements == {"Li", "Mg", "O", "Ti"}
    for position, (_, listed) in enumerate(read_phases(folder / "source.parquet")):
        crystal = catalogue.structure(position)
        assert same_crystal(crystal, listed)
        assert len(crystal) == catalogue.column("n_atoms")[position]
        assert catalogue.column("prototype")[position] == prototype_label(crystal)
        np.testing.assert_array_equal(catalogue.fingerprint(position), fingerprint(crystal))
    assert catalogue.column("spacegroup")[:2] == [221, 221]  # one atom in a cube


def test_rows_of_a_composition_are_found_by_the_key_of_the_identity(folder):
    catalogue = Catalogue(folder)
    assert catalogue.positions[reduced_formula(catalogue.structure(5))] == [5, 6]


@pytest.mark.parametrize(
    "formula", ["Ti(NO3)4", "O2", "LiMgO", "Ba3(CoO3)4", "Na2CO3", "H2O", "CsFe(CN)6", "XeF2", "He"]
)
def test_formulas_are_read_as_pymatgen_reads_them(formula):
    assert amounts_in(formula) == Composition(formula).get_el_amt_dict()


def test_every_formula_that_pymatgen_reduces_is_read_back():
    rng = np.random.default_rng(0)
    symbols = np.array(["H", "C", "N", "O", "F", "P", "S", "Cl", "Na", "Fe", "Ba", "U", "As", "Br"])
    for _ in range(300):
        chosen = rng.choice(symbols, rng.integers(1, 6), replace=False)
        composition = Composition({str(symbol): int(rng.integers(1, 13)) for symbol in chosen})
        reduced = composition.reduced_composition
        assert composition_key(amounts_in(composition.reduced_formula)) == composition_key(reduced.get_el_amt_dict())


def test_deuterium_is_hydrogen(tmp_path):
    rows = [row("a-1", 3.0, ["D"]), row("a-2", 3.0, ["D", "O"])]
    catalogue = Catalogue(write(tmp_path / "a", rows))
    assert catalogue.elements == {"H", "O"}
    assert reduced_formula(catalogue.structure(1)) == "H1 O1"


def test_structures_of_other_phases_are_refused(folder, tmp_path):
    other = write(tmp_path / "b", ROWS[:3])
    shutil.copyfile(other / "structures.parquet", folder / "structures.parquet")
    catalogue = Catalogue(folder)
    with pytest.raises(InputError, match=r"structures\.parquet belongs to other phases .* build both anew"):
        catalogue.structure(0)


def test_the_digest_is_that_of_ids_and_crystals(folder, tmp_path):
    digest = Catalogue(folder).digest
    assert Catalogue(write(tmp_path / "again")).digest == digest
    renamed = [ROWS[0] | {"material_id": "b-1"}, *ROWS[1:]]
    moved = [row("a-1", 2.31, ["Li"]), *ROWS[1:]]
    others = {Catalogue(write(tmp_path / f"{n}", rows)).digest for n, rows in enumerate([renamed, moved, ROWS[::-1]])}
    assert len(others | {digest}) == 4


def test_an_empty_folder_says_how_to_fill_it(tmp_path):
    with pytest.raises(InputError, match=r"no known phases at .*phases\.parquet; make them with `matsearch reference"):
        Catalogue(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing more", b"x" * 5000])
@pytest.mark.parametrize("name", ["phases.parquet", "structures.parquet"])
def test_a_broken_file_is_one_line(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"cannot read .*{name}: [^\n]*; build it anew$"):
        Catalogue(folder).structure(0)


def test_half_a_file_is_one_line(folder):
    whole = (folder / "phases.parquet").read_bytes()
    (folder / "phases.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cannot read .*phases\.parquet"):
        Catalogue(folder)


def test_another_table_is_told_what_is_missing(folder):
    pq.write_table(pa.table({"id": ["a"], "formula": ["Li"]}), folder / "phases.parquet")
    with pytest.raises(InputError, match=r"is no list of known phases: n_atoms, spacegroup, .*attribution, digest"):
        Catalogue(folder)


def test_a_source_without_a_crystal_is_refused_and_leaves_no_list(tmp_path):
    with pytest.raises(InputError, match="holds no crystal that could be read"):
        write(tmp_path / "a", [row("a-1", 3.0, ["Qq"])])
    assert not (tmp_path / "a" / "phases.parquet").exists()


def test_a_folder_is_read_once_unless_it_was_written_anew(folder):
    first = read_catalogue(folder)
    assert read_catalogue(folder) is first
    write(folder, ROWS[:3])
    assert len(read_catalogue(folder)) == 3


def test_noble_gases_are_listed_without_a_warning(tmp_path):
    rows = [
        row("a-1", 3.0, ["He"]),
        row("a-2", 3.5, ["Ne"]),
        row("a-3", 4.0, ["Ar", "He"]),
        row("a-4", 5.0, ["Xe", "F"]),
    ]
    catalogue = Catalogue(write(tmp_path / "a", rows))
    assert catalogue.elements == {"He", "Ne", "Ar", "Xe", "F"}
    assert Structure(Lattice.cubic(3.0), ["He"], [[0, 0, 0]]).matches(catalogue.structure(0))
