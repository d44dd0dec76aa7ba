import numpy as np
import pytest

from matsearch.errors import InputError
from matsearch.training.held_out import HeldOut, read_held_out, structure_of


def row_of(crystals, id):
    return next(crystals[crystals["material_id"] == id].itertuples())


def test_rows_with_any_other_tag_than_training_are_held_out(crystals, splits):
    held_out = read_held_out([splits], crystals)
    # Each as the benchmark lists it and as the data do.
    assert sorted(held_out["material_id"]) == ["x-1-1-0", "x-1-1-0", "x-2-2-0", "x-2-2-0"]


def test_benchmark_without_tags_is_held_out_whole(crystals, data):
    assert len(read_held_out([data], crystals)) == 2 * len(crystals)


def test_the_same_crystal_under_another_id_is_held_out_and_its_polymorph_is_not(crystals, splits):
    held_out = HeldOut(read_held_out([splits], crystals))
    rocksalt, caesium_chloride = (structure_of(row_of(crystals, f"x-1-1-{k}")) for k in (0, 1))
    stretched = rocksalt.copy()
    stretched.apply_strain(0.02)
    assert held_out.holds("other", "NaCl", stretched)
    assert held_out.holds("other", "NaCl", stretched * (2, 1, 1))
    assert not held_out.holds("other", "NaCl", caesium_chloride)
    assert held_out.holds("x-1-1-0", "NaCl", caesium_chloride), "held out by its id"


def test_nothing_of_a_formula_is_free_where_the_benchmark_lists_no_structure(crystals, tmp_path):
    path = tmp_path / "benchmark.parquet"
    listed = crystals[crystals["material_id"] == "x-0-0-0"].copy()
    listed["material_id"], listed["lattice"] = "y-1", None
    listed.to_parquet(path)
    held_out = HeldOut(read_held_out([path], crystals))
    assert held_out.holds("x-0-0-1", "LiF", structure_of(row_of(crystals, "x-0-0-1")))
    assert not held_out.holds("x-0-1-0", "LiCl", structure_of(row_of(crystals, "x-0-1-0")))


def test_coordinates_of_a_row_are_read_atom_by_atom(crystals):
    structure = structure_of(row_of(crystals, "x-0-0-1"))
    assert np.allclose(structure.frac_coords, [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_file_without_the_columns_is_refused_by_name(crystals, tmp_path):
    path = tmp_path / "other.parquet"
    crystals[["material_id"]].to_parquet(path)
    with pytest.raises(InputError, match="lacks the columns formula, lattice"):
        read_held_out([path], crystals)
    with pytest.raises(InputError, match="cannot read"):
        read_held_out([tmp_path / "missing.parquet"], crystals)
