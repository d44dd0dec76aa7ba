"""Building a reference, on a made-up potential and a made-up list of phases."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import made_up_phases
import pandas as pd
import pytest
from made_up_phases import ROWS, VOLUME, BallPotential, DeepBallPotential, MuteBallPotential, row, write_phases

from matsearch.errors import InputError, PotentialError, StoreError
from matsearch.reference import build as building
from matsearch.reference.build import build
from matsearch.reference.catalogue import Catalogue
from matsearch.reference.energies import energies_path, potentials_in, read_energies
from matsearch.reference.known import load_reference

LI_MG_O = ["Li", "Mg", "O"]


@pytest.fixture
def source(tmp_path):
    return write_phases(tmp_path / "phases.parquet")


def built(source, folder, potential=BallPotential, **options):
    said = []
    build(potential("cpu"), folder, said.append, source=None if source is None else str(source), **options)
    reference = load_reference(potential.name, folder)
    reference.said = said
    return reference


def rows_of(folder, potential=BallPotential):
    table = read_energies(energies_path(folder, potential.name), potential.name, Catalogue(folder))[0]
    return table.to_pandas().assign(id=lambda rows: [Catalogue(folder).ids[one] for one in rows.phase]).set_index("id")


def assert_same_reference(first, second):
    pd.testing.assert_frame_equal(first.phases, second.phases, atol=2e-6)
    for phase_id in first.phases["id"]:
        one, other = first.structure(phase_id), second.structure(phase_id)
        assert one.lattice.parameters == pytest.approx(other.lattice.parameters, abs=2e-4)
        assert one.species == other.species
    assert first.elements == second.elements
    assert first.n_pending == second.n_pending


def test_a_build_covers_the_elements_and_no_others(source, tmp_path):
    reference = built(source, tmp_path / "a", elements=["Mg", "Li", "O"])
    assert reference.elements == {"Li", "Mg", "O"}
    assert sorted(reference.phases["id"]) == [f"a-{k}" for k in range(1, 9)]
    assert (reference.potential, reference.energy_scale) == (BallPotential.name, "made-up")
    assert reference.n_pending == 0


def test_low_phases_are_relaxed_and_high_ones_keep_their_listed_cell(source, tmp_path):
    reference = built(source, tmp_path / "a")
    relaxed = reference.phases.set_index("id").relaxed
    assert not relaxed["a-7"]
    assert relaxed.drop("a-7").all()
    assert reference.structure("a-6").volume / 2 == pytest.approx(VOLUME, abs=1.5)
    assert reference.structure("a-7").volume == pytest.approx(4.2**3, rel=1e-6)


def test_a_gpu_or_a_wish_relaxes_all(source, tmp_path):
    assert built(source, tmp_path / "a", within=float("inf")).phases.relaxed.all()


def test_the_only_phase_of_its_formula_is_relaxed_however_high(tmp_path):
    rows = [*ROWS, row("a-10", 4.4, ["Li", "Mg"])]
    phases = built(write_phases(tmp_path / "b.parquet", rows), tmp_path / "a", within=0.0).phases.set_index("id")
    assert phases.relaxed["a-10"]


@pytest.mark.parametrize("moment", ["single points: 4", "to relax", "relaxed 3"])
def test_an_interrupted_build_ends_like_an_uninterrupted_one(source, tmp_path, monkeypatch, moment):
    monkeypatch.setattr(building, "CHUNK", 1)
    whole = built(source, tmp_path / "whole")

    def stop(text):
        if text.startswith(moment):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(BallPotential("cpu"), tmp_path / "parts", stop, source=str(source))
    BallPotential.n_calls = 0
    assert_same_reference(whole, built(None, tmp_path / "parts"))
    assert BallPotential.n_calls > 0


def test_a_build_stopped_among_the_single_points_serves_with_what_it_has(source, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "CHUNK", 1)
    whole, folder = built(source, tmp_path / "whole"), tmp_path / "parts"

    def stop(text):
        if text.startswith("single points: 7"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(BallPotential("cpu"), folder, stop, source=str(source))
    reference = load_reference(BallPotential.name, folder)
    assert reference.n_missing == 2 and len(reference.phases) == 7
    # Without the database of its progress, from the file alone.
    energies_path(folder, BallPotential.name).with_suffix(".progress.sqlite").unlink()
    assert_same_reference(whole, built(None, folder))
    assert load_reference(BallPotential.name, folder).n_missing == 0


@pytest.mark.parametrize("moment", ["single points: 4", "relaxed 3"])
def test_a_killed_build_ends_like_an_uninterrupted_one(source, tmp_path, moment):
    code = f"""
import os, signal
from pathlib import Path
from made_up_phases import BallPotential
from matsearch.reference import build as building

building.CHUNK = 1

def die(text):
    if text.startswith({moment!r}):
        os.kill(os.getpid(), signal.SIGKILL)

building.build(BallPotential("cpu"), Path({str(tmp_path / "parts")!r}), die, source={str(source)!r})
"""
    environment = os.environ | {"PYTHONPATH": str(Path(made_up_phases.__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert_same_reference(built(source, tmp_path / "whole"), built(source, tmp_path / "parts"))


def test_a_finished_build_computes_nothing_again(source, tmp_path):
    first = built(source, tmp_path / "a")
    BallPotential.n_calls = 0
    assert_same_reference(first, built(source, tmp_path / "a"))
    assert BallPotential.n_calls == 0


def test_without_minutes_all_is_as_listed_and_is_said_to_be_pending(source, tmp_path):
    stopped = built(source, tmp_path / "a", minutes=0.0)
    assert not stopped.phases.relaxed.any()
    assert len(stopped.phases) == len(ROWS)
    assert stopped.n_pending > 0
    assert any(f"{stopped.n_pending} phases near the hull are not relaxed yet" in text for text in stopped.said)
    assert_same_reference(built(source, tmp_path / "whole"), built(source, tmp_path / "a"))


def test_a_build_goes_on_from_a_file_of_energies_alone(source, tmp_path):
    """As they are shipped: without the database that they were made with."""
    rows = [*ROWS, row("a-10", 20.0, ["Mg", "Mg", "Mg", "O"])]
    source = write_phases(tmp_path / "b.parquet", rows)
    whole = built(source, tmp_path / "whole")
    for minutes in (0.0, None):
        built(source, tmp_path / "parts", minutes=minutes)
        (database,) = (tmp_path / "parts").glob("*.sqlite")
        database.unlink()
        BallPotential.n_calls = 0
        assert_same_reference(whole, built(source, tmp_path / "parts"))
        assert (BallPotential.n_calls == 0) == (minutes is None)
        database.unlink()
    assert rows_of(tmp_path / "whole").failure.equals(rows_of(tmp_path / "parts").failure)


def test_more_elements_cost_only_the_new_phases(source, tmp_path):
    built(source, tmp_path / "a", elements=LI_MG_O)
    BallPotential.n_calls = 0
    wider = built(source, tmp_path / "a", elements=[*LI_MG_O, "Ti"])
    assert 0 < BallPotential.n_calls < 40
    assert wider.elements == {"Li", "Mg", "O", "Ti"}
    assert_same_reference(wider, built(source, tmp_path / "b"))


def test_what_the_potential_was_not_trained_on_is_left_out_and_said(tmp_path):
    rows = [*ROWS, row("a-10", 2.3, ["Xe"]), row("a-11", 2.9, ["Xe", "O"]), row("a-12", 2.3, ["Ac"])]
    reference = built(write_phases(tmp_path / "b.parquet", rows), tmp_path / "a")
    assert len(reference.phases) == len(ROWS)
    assert any("left out are those with Ac, Xe" in text and "not trained" in text for text in reference.said)
    assert reference.known("XeO") == ["a-11"]  # known, and without an energy
    assert reference.uncovered(["Xe", "O"]) == ["Xe"]


def test_compounds_of_an_element_without_a_pure_phase_are_left_out_and_said(tmp_path):
    rows = [*ROWS[:8], row("a-10", 2.9, ["Ti", "O"])]
    reference = built(write_phases(tmp_path / "b.parquet", rows), tmp_path / "a")
    assert reference.elements == {"Li", "Mg", "O"}
    assert any("left out are those with Ti: no phase of the pure element" in text for text in reference.said)


def test_a_rejected_relaxation_leaves_no_energy_and_says_why(tmp_path):
    rows = [*ROWS, row("a-10", 20.0, ["Mg", "Mg", "Mg", "O"])]  # the only one of its formula, its atoms far apart
    reference = built(write_phases(tmp_path / "b.parquet", rows), tmp_path / "a")
    assert "a-10" not in set(reference.phases["id"])
    assert reference.known("Mg3O") == ["a-10"]
    table = rows_of(tmp_path / "a")
    assert table.failure["a-10"].startswith("isolated_atom")
    assert table.failure.drop("a-10").isna().all()
    assert pd.isna(table.energy_per_atom["a-10"]) and pd.isna(table.energy_above_hull["a-10"])
    assert any("1 without an energy" in text for text in reference.said)


def test_an_element_whose_pure_phases_have_no_energy_is_left_out_with_its_compounds(tmp_path):
    rows = [*ROWS[:8], row("a-9", 9.0, ["Ti"]), row("a-10", 2.9, ["Ti", "O"])]
    reference = built(write_phases(tmp_path / "b.parquet", rows), tmp_path / "a")
    assert reference.elements == {"Li", "Mg", "O"}
    assert set(reference.phases["id"]) == {one["material_id"] for one in ROWS[:8]}
    failures = rows_of(tmp_path / "a").failure
    assert failures["a-9"].startswith("isolated_atom")
    assert failures["a-10"] == "no_hull: no phase of pure Ti has an energy"


def test_a_hull_of_no_element_is_an_error(tmp_path):
    with pytest.raises(PotentialError, match="no pure element of these phases has an energy"):
        built(write_phases(tmp_path / "b.parquet", [row("a-9", 9.0, ["Ti"])]), tmp_path / "a")


def test_an_energy_that_is_no_number_is_a_failure(tmp_path):
    rows = [*ROWS, row("a-10", 2.9, ["Ti", "O"])]
    source = write_phases(tmp_path / "b.parquet", rows)
    for _ in range(2):
        reference = built(source, tmp_path / "a", MuteBallPotential)
        assert set(reference.phases["id"]) == {one["material_id"] for one in ROWS}
        assert (
            rows_of(tmp_path / "a", MuteBallPotential)
            .failure["a-10"]
            .startswith("out_of_domain: as listed, the energy is not finite")
        )


def test_a_second_potential_in_the_folder_has_a_hull_of_its_own(source, tmp_path):
    first = built(source, tmp_path / "a")
    second = built(source, tmp_path / "a", DeepBallPotential)
    assert potentials_in(tmp_path / "a") == [BallPotential.name, DeepBallPotential.name]
    assert_same_reference(first, load_reference(BallPotential.name, tmp_path / "a"))
    assert second.energy_above_hull("O", -4.0) == pytest.approx(first.energy_above_hull("O", -4.0) + 1.0)


def test_another_source_for_the_same_folder_is_refused(source, tmp_path):
    built(source, tmp_path / "a", minutes=0.0)
    assert any("9 phases of phases.parquet already" in text for text in built(source, tmp_path / "a").said)
    other = write_phases(tmp_path / "others.parquet", ROWS[:3])
    with pytest.raises(InputError, match=r"holds the phases of phases\.parquet as it was then, and .*others\.parquet"):
        built(other, tmp_path / "a")
    source.unlink()
    assert len(built(None, tmp_path / "a").phases) == 9  # the folder has all that is needed


def test_a_source_of_the_same_name_that_has_changed_is_refused(source, tmp_path):
    built(source, tmp_path / "a", minutes=0.0)
    write_phases(source, ROWS[:3])
    with pytest.raises(InputError, match="holds others"):
        built(source, tmp_path / "a")


def test_elements_that_a_folder_holds_stay_when_others_are_asked_for(source, tmp_path):
    built(source, tmp_path / "a", elements=["Li", "O"])
    both = built(source, tmp_path / "a", elements=["Mg", "O"])
    assert both.elements == {"Li", "Mg", "O"}
    assert any("holds Li already" in text for text in both.said)
    whole = built(source, tmp_path / "b", elements=LI_MG_O)
    assert both.phases["id"].tolist() == whole.phases["id"].tolist()


def test_a_folder_of_files_is_called_by_its_name(source, tmp_path, monkeypatch):
    from pymatgen.core import Lattice, Structure

    folder = tmp_path / "mine"
    folder.mkdir()
    for symbol in LI_MG_O:
        Structure(Lattice.cubic(2.3), [symbol], [[0, 0, 0]]).to(str(folder / f"{symbol}.cif"))
    monkeypatch.chdir(folder)
    reference = built(".", tmp_path / "a")
    assert Catalogue(tmp_path / "a").source == "mine"
    assert sorted(reference.phases["id"]) == LI_MG_O


def test_the_progress_of_other_phases_is_refused(source, tmp_path):
    built(source, tmp_path / "a", minutes=0.0)
    for name in ("phases.parquet", "structures.parquet"):
        (tmp_path / "a" / name).unlink()
    next((tmp_path / "a").glob("*.energies.parquet")).unlink()
    other = write_phases(tmp_path / "others.parquet", ROWS[:3])
    with pytest.raises(StoreError, match=r"holds a build with catalogue .* delete it to begin anew"):
        built(other, tmp_path / "a")


def test_disordered_phases_are_counted_and_left_out(tmp_path):
    rows = [*ROWS, row("a-10", 2.9, ["Qq", "O"])]
    reference = built(write_phases(tmp_path / "b.parquet", rows), tmp_path / "a", minutes=0.0)
    assert Catalogue(tmp_path / "a").n_rejected == 1
    assert any(text.startswith("a-10: left out") for text in reference.said)


def test_elements_that_cannot_be_served_are_refused_by_name(source, tmp_path):
    with pytest.raises(InputError, match="not trained on Zr"):
        built(source, tmp_path / "a", elements=["Li", "Zr"])
    with pytest.raises(InputError, match="no phase of pure H"):
        built(source, tmp_path / "a", elements=["Li", "H"])


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.parquet"):
        built(tmp_path / "nowhere.parquet", tmp_path / "a")
