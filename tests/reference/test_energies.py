"""The file of one potential's energies: whose they are, and which phases they belong to."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_phases import ROWS, BallPotential, DeepBallPotential, write_phases

from matsearch.errors import InputError, MixedHullError, StoreError
from matsearch.reference.build import build
from matsearch.reference.catalogue import Catalogue
from matsearch.reference.energies import energies_path, potentials_in, read_energies
from matsearch.reference.known import load_reference, reference_of

NAME = BallPotential.name


def make(folder, rows=None):
    folder.mkdir()
    build(BallPotential("cpu"), folder, lambda text: None, source=str(write_phases(folder / "s.parquet", rows)))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made") / "a")


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "a")


def test_potentials_have_files_of_their_own_whatever_their_names(tmp_path):
    names = ["chgnet-0.3.0", "mace:/some/where.model", "mace:_some_where.model", "a+b", "../../up", "Ä"]
    paths = [energies_path(tmp_path, name) for name in names]
    assert len(set(paths)) == len(names)
    assert all(path.parent == tmp_path and path.name.isascii() for path in paths)
    assert paths[0].name == "chgnet-0.3.0.energies.parquet"


def test_energies_under_the_name_of_another_potential_are_refused(folder):
    shutil.copyfile(energies_path(folder, NAME), energies_path(folder, "chgnet-0.3.0"))
    with pytest.raises(MixedHullError, match=rf"holds energies of {NAME}, but chgnet-0\.3\.0 was asked for"):
        load_reference("chgnet-0.3.0", folder)


def test_energies_of_other_phases_are_refused(folder, tmp_path):
    other = make(tmp_path / "b", ROWS[:6])
    shutil.copyfile(energies_path(other, NAME), energies_path(folder, NAME))
    with pytest.raises(InputError, match=r"belongs to other known phases .* build it anew"):
        load_reference(NAME, folder)


class WeighedBallPotential(BallPotential):
    """With a file of weights."""

    def __init__(self, file):
        super().__init__("cpu")
        self.weight_files = (file,)


def test_a_potential_that_was_trained_on_needs_another_hull(tmp_path):
    folder, weights = tmp_path / "a", tmp_path / "weights.safetensors"
    weights.write_text("first")
    potential = WeighedBallPotential(weights)
    build(potential, folder, lambda text: None, source=str(write_phases(tmp_path / "s.parquet")))
    assert reference_of(potential, folder).potential == NAME
    assert reference_of(BallPotential("cpu"), folder).potential == NAME  # says nothing of weights
    weights.write_text("second")
    with pytest.raises(MixedHullError, match=r"other weights than it has now \(weights.safetensors changed since\)"):
        reference_of(potential, folder)
    with pytest.raises(MixedHullError, match=r"after deleting this file and the \.progress\.sqlite beside it"):
        build(potential, folder, lambda text: None)
    energies_path(folder, NAME).unlink()
    with pytest.raises(StoreError, match=r"holds a build with weights .*; delete it to begin anew"):
        build(potential, folder, lambda text: None)
    energies_path(folder, NAME).with_suffix(".progress.sqlite").unlink()
    build(potential, folder, lambda text: None)
    assert reference_of(potential, folder).potential == NAME


def test_the_energies_of_a_build_are_read_back(folder):
    table, metadata = read_energies(energies_path(folder, NAME), NAME, Catalogue(folder))
    assert table.num_rows == len(ROWS)
    assert metadata["elements"] == "Li,Mg,O,Ti"
    assert metadata["energy_scale"] == "made-up"
    assert '"max_steps": 500' in metadata["protocol"] and '"within": 0.1' in metadata["protocol"]
    assert potentials_in(folder) == [NAME]


@pytest.mark.parametrize("content", [b"", b"x" * 5000])
def test_a_broken_file_is_one_line(folder, content):
    energies_path(folder, NAME).write_bytes(content)
    for ask in (lambda: load_reference(NAME, folder), lambda: potentials_in(folder)):
        with pytest.raises(InputError, match=r"cannot read [^\n]*\.energies\.parquet: [^\n]*; build it anew$"):
            ask()


def test_a_file_of_something_else_is_told_what_is_missing(folder):
    pq.write_table(pa.table({"phase": [0]}), energies_path(folder, NAME))
    with pytest.raises(InputError, match=r"is no file of energies.*: energy_per_atom, .* potential, "):
        load_reference(NAME, folder)
    with pytest.raises(InputError, match="holds no energies of known phases: potential missing"):
        potentials_in(folder)


def test_two_potentials_never_share_a_hull(folder):
    build(DeepBallPotential("cpu"), folder, lambda text: None, minutes=0.0)
    first, second = load_reference(NAME, folder), load_reference(DeepBallPotential.name, folder)
    assert first.energy_above_hull("O", -4.0) != second.energy_above_hull("O", -4.0)
    assert (first.potential, second.potential) == (NAME, DeepBallPotential.name)
