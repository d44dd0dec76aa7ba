"""The database of a build: what was committed is there, and it belongs to one potential and one list of phases."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.errors import StoreError
from matsearch.records import Rejection, Relaxed, Stage
from matsearch.reference.packing import pack, unpack
from matsearch.reference.progress import BuildProgress, State

MGO = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5] * 3])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "progress.sqlite"


def relaxed(converged=True):
    return Relaxed(MGO, -8.0 * len(MGO), converged, 10, 0.01, potential="p")


def test_what_was_committed_is_there_when_opened_again(path):
    progress = BuildProgress(path, "p", "digest", "weights")
    progress.add_single_points(["a", "b", "c", "d"], [-1.0, -2.0, -3.0, -4.0])
    rejection = Rejection(Stage.RELAX, "exploded", "five times its volume")
    progress.add_relaxations([("b", relaxed()), ("c", relaxed(converged=False)), ("d", rejection)])
    progress.close()
    progress = BuildProgress(path, "p", "digest", "weights")
    assert progress.states() == [
        State("a", -1.0, None, None),
        State("b", -8.0, True, None),
        State("c", -8.0, False, None),
        State("d", None, False, "exploded: five times its volume"),
    ]
    cells = progress.cells()
    assert list(cells) == ["b"]
    assert unpack(*cells["b"]).matches(MGO)
    np.testing.assert_array_equal(cells["b"].coords, pack(MGO).coords)
    progress.close()


def test_a_second_single_point_does_not_undo_a_relaxation(path):
    progress = BuildProgress(path, "p", "digest", "weights")
    progress.add_single_points(["a"], [-1.0])
    progress.add_relaxations([("a", relaxed())])
    progress.add_single_points(["a"], [-1.0])
    assert progress.states() == [State("a", -8.0, True, None)]
    progress.close()


def test_a_single_point_outside_the_domain_of_the_potential_is_a_failure(path):
    progress = BuildProgress(path, "p", "digest", "weights")
    progress.add_single_points(["a", "b"], [Rejection(Stage.RELAX, "out_of_domain", "atoms collide"), -1.0])
    failure = "out_of_domain: as listed, atoms collide"
    assert progress.states() == [State("a", None, False, failure), State("b", -1.0, None, None)]
    progress.close()


@pytest.mark.parametrize(
    ("owner", "what"),
    [
        (("q", "digest", "weights"), "potential p, not q"),
        (("p", "x", "weights"), "catalogue digest, not x"),
        (("p", "digest", "y"), "weights weights, not y"),
    ],
)
def test_the_progress_of_another_build_is_refused(path, owner, what):
    BuildProgress(path, "p", "digest", "weights").close()
    with pytest.raises(StoreError, match=f"holds a build with {what}; delete it to begin anew"):
        BuildProgress(path, *owner)


def test_a_file_that_is_no_database_is_refused(path):
    path.write_bytes(b"no database at all " * 100)
    with pytest.raises(StoreError, match="not a database; delete it to begin anew"):
        BuildProgress(path, "p", "digest", "weights")


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="cannot open"):
        BuildProgress(tmp_path / "nowhere" / "progress.sqlite", "p", "digest", "weights")
