"""Objectives that other packages install as entry points go by their short names."""

import importlib

import pytest
from pymatgen.core import Lattice, Structure

from matsearch.errors import ConfigError
from matsearch.objectives import ObjectiveContext, evaluate_objective, known_objectives, load_objective
from matsearch.records import Relaxed

MODULE = '''
class Edges:
    """Longest edge of the cell."""

    name, unit, direction, cost = "longest_edge", "Å", "min", "relaxation"

    def __call__(self, relaxed):
        return [max(one.structure.lattice.abc) for one in relaxed]
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with an objective, and one that is named but not there, as pip would leave them."""
    (tmp_path / "other_objectives.py").write_text(MODULE)
    folder = tmp_path / "other_objectives-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: other-objectives\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[matsearch.objectives]\nlongest_edge = other_objectives:Edges\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return folder / "entry_points.txt"


def test_an_installed_objective_scores_by_its_short_name(installed):
    made = load_objective("longest_edge", ObjectiveContext(potential=None))
    cell = Structure(Lattice.orthorhombic(3, 4, 5), ["Al"], [[0, 0, 0]])
    (score,) = evaluate_objective(made, [Relaxed(cell, -1.0, True, 0, 0.0)])
    assert (score.objective, score.value, score.unit) == ("longest_edge", 5.0, "Å")


def test_it_is_listed_with_what_it_says_of_itself(installed):
    (listed,) = [one for one in known_objectives() if one.name == "longest_edge"]
    assert (listed.cost, listed.summary) == ("relaxation", "Longest edge of the cell.")


def test_one_that_cannot_be_imported_says_which(installed):
    installed.write_text("[matsearch.objectives]\nlost = other_objectives:Lost\n")
    with pytest.raises(ConfigError, match="lost"):
        load_objective("lost", ObjectiveContext(potential=None))
