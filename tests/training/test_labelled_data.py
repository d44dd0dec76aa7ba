"""Labelled crystals come out of all files alike, and bad rows say why."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from matsearch.errors import InputError
from matsearch.training.data import LabelFormat, read_labelled, split_by_formula, write_labelled
from matsearch.units import EV_PER_A3_IN_GPA

FORCES = np.array([[0.1, 0.2, -0.3], [-0.1, -0.2, 0.3]])
STRESS = np.array([[0.01, 0.002, 0.003], [0.002, 0.02, 0.004], [0.003, 0.004, -0.03]])
VOIGT = STRESS[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def atoms(symbols="NaCl", energy=-6.7, **labels):
    made = Atoms(symbols, cell=[3.9, 4.0, 4.1], pbc=True, scaled_positions=[[0, 0, 0], [0.5, 0.52, 0.5]])
    made.calc = SinglePointCalculator(made, energy=energy, **{"forces": FORCES, "stress": VOIGT, **labels})
    return made


def row(**more):
    made = atoms()
    return {
        "species": made.get_chemical_symbols(),
        "lattice": [3.9, 4.0, 4.1, 90.0, 90.0, 90.0],
        "frac_coords": made.get_scaled_positions().ravel().tolist(),
        "energy": -6.7,
        "forces": FORCES.ravel().tolist(),
        "stress": STRESS.ravel().tolist(),
    } | more


def parquet(path, *rows):
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["extxyz", "db", "parquet"])
def test_all_files_give_the_same_labels(kind, tmp_path):
    path = tmp_path / f"labels.{kind}"
    if kind == "extxyz":
        write(path, [atoms()])
    elif kind == "db":
        with connect(path) as database:
            database.write(atoms())
    else:
        parquet(path, row())
    data = read_labelled([path])
    assert not data.bad
    (one,) = data.rows
    assert one.energy == pytest.approx(-6.7) and one.magmoms is None
    np.testing.assert_allclose(one.forces, FORCES)
    np.testing.assert_allclose(one.stress, STRESS)
    np.testing.assert_allclose(one.structure.cart_coords, atoms().positions, atol=1e-12)
    assert one.source.startswith(path.name)


def test_what_is_written_is_read_again(tmp_path):
    (one,) = read_labelled([parquet(tmp_path / "a.parquet", row(magmoms=[1.0, 2.0]))]).rows
    bare = replace(one, forces=None, stress=None, magmoms=None)
    write_labelled([one, bare], tmp_path / "b.parquet")
    again, other = read_labelled([tmp_path / "b.parquet"]).rows
    assert again.energy == one.energy and other.forces is None and other.stress is None and other.magmoms is None
    for name in ("forces", "stress", "magmoms"):
        np.testing.assert_array_equal(getattr(again, name), getattr(one, name))
    np.testing.assert_allclose(again.structure.cart_coords, one.structure.cart_coords)


def test_units_and_names_are_as_stated(tmp_path):
    made = row(magmoms=[-1.0, 2.0], e=-3.35, vasp=(-STRESS * EV_PER_A3_IN_GPA * 10).tolist())
    form = LabelFormat(energy="e", per_atom=True, stress="vasp", stress_unit="kbar", stress_positive="compression")
    (one,) = read_labelled([parquet(tmp_path / "a.parquet", made)], form).rows
    assert one.energy == pytest.approx(-6.7)
    np.testing.assert_allclose(one.stress, STRESS)
    np.testing.assert_allclose(one.magmoms, [1, 2])


def test_a_virial_is_a_stress(tmp_path):
    made = atoms()
    virial = -STRESS * made.cell.volume
    made.calc.results.pop("stress")
    made.info["virial"] = virial
    write(tmp_path / "a.extxyz", [made])
    (one,) = read_labelled([tmp_path / "a.extxyz"]).rows
    np.testing.assert_allclose(one.stress, STRESS, atol=1e-8)


def test_bad_rows_are_named_with_a_reason(tmp_path):
    rows = [
        row(),
        row(energy=None),
        row(energy=float("nan")),
        row(forces=[0.1, 0.2]),
        row(species=["Na", "Qq"]),
        row(lattice=[1e-3] * 3 + [90.0] * 3),
        row(stress=[1.0, 2.0]),
    ]
    data = read_labelled([parquet(tmp_path / "a.parquet", *rows)])
    assert len(data.rows) == 1
    assert [one.source for one in data.bad] == [f"a.parquet row {i}" for i in range(1, 7)]
    for one, said in zip(data.bad, ["energy", "energy", "forces", "Qq", "Å^3", "stress"], strict=True):
        assert said in one.reason


def test_molecules_without_a_cell_are_refused_and_the_file_is_named(tmp_path):
    made = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7]])
    made.calc = SinglePointCalculator(made, energy=-6.0)
    write(tmp_path / "a.extxyz", [made])
    with pytest.raises(InputError, match=r"a\.extxyz holds no labelled structure.*periodic"):
        read_labelled([tmp_path / "a.extxyz"])


@pytest.mark.parametrize("name", ["missing.extxyz", "a.csv", "broken.parquet"])
def test_files_that_cannot_be_read_are_one_error(name, tmp_path):
    if not name.startswith("missing"):
        (tmp_path / name).write_text("nothing")
    with pytest.raises(InputError, match=name):
        read_labelled([tmp_path / name])


def test_no_formula_is_on_both_sides_of_a_split(tmp_path):
    cells = [atoms(symbols) for symbols in ("NaCl", "KCl", "KF", "NaF", "LiF", "LiCl") for _ in range(4)]
    write(tmp_path / "a.extxyz", cells)
    rows = read_labelled([tmp_path / "a.extxyz"]).rows
    kept, held = split_by_formula(rows, 0.2, seed=3)
    formulas = [{one.structure.composition.reduced_formula for one in side} for side in (kept, held)]
    assert len(held) == 8 and len(kept) == 16 and not formulas[0] & formulas[1]
    assert [one.source for one in held] == [one.source for one in split_by_formula(rows, 0.2, seed=3)[1]]
    with pytest.raises(InputError, match="held out"):
        split_by_formula(rows[:4], 0.2)


def test_the_one_formula_that_shows_an_element_is_trained_on(tmp_path):
    cells = [atoms(symbols) for symbols in ("NaCl", "NaF", "KCl", "KF", "MgO")]
    write(tmp_path / "a.extxyz", cells)
    rows = read_labelled([tmp_path / "a.extxyz"]).rows
    for seed in range(5):
        kept, _ = split_by_formula(rows, 0.9, seed)
        assert {str(element) for one in kept for element in one.structure.composition} == set("Na K Cl F Mg O".split())
