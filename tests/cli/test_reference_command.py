"""`matsearch reference`: what there is of known phases, and making more of them."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import made_up_phases
import pandas as pd
import pytest
from made_up_phases import ROWS, BallPotential, DeepBallPotential, row, write_phases

from matsearch.reference import load_reference
from matsearch.reference.energies import energies_path

NAME = BallPotential.name


@pytest.fixture
def source(tmp_path):
    return write_phases(tmp_path / "phases.parquet", [*ROWS, row("a-10", 3.0, ["Xe"])])


@pytest.fixture
def folder(source, tmp_path, command):
    status, _, err = command("reference", "build", "--from", source, "--out", tmp_path / "a", "--potential", NAME)
    assert status == 0, err
    return tmp_path / "a"


def assert_one_line(result, *words):
    status, out, err = result
    assert status == 2
    line = err.strip().splitlines()[-1]
    assert line.startswith("matsearch: ") and "Traceback" not in err
    for word in words:
        assert str(word) in line
    return out


def test_info_counts_what_the_package_brings(command):
    status, out, _ = command("reference", "info")
    assert status == 0
    reference = load_reference("chgnet-0.3.0")
    assert "CC-BY 4.0" in out
    assert "chgnet-0.3.0 (energy scale mp2020)" in out
    assert re.search(rf"phases with an energy +{len(reference.phases)} of \d+", out)
    assert re.search(rf"near it, not relaxed +{reference.n_pending}\b", out)
    assert re.search(rf"elements +{len(reference.elements)};", out)


def test_info_of_a_folder_names_what_is_missing(command, folder):
    status, out, _ = command("reference", "info", "--reference", folder)
    assert status == 0
    assert "10 known phases with 5 elements, from phases.parquet" in out
    assert f"{NAME} (energy scale made-up)" in out
    assert re.search(r"phases with an energy +9 of 10", out)
    assert re.search(r"relaxed +8, the others as listed", out)
    assert re.search(r"elements +4; without: Xe", out)


def test_info_lists_every_potential_in_the_folder(command, folder):
    status, _, err = command("reference", "build", "--out", folder, "--potential", DeepBallPotential.name)
    assert status == 0, err
    assert "10 phases of phases.parquet already" in err
    _, out, _ = command("reference", "info", "--reference", folder)
    assert NAME in out and DeepBallPotential.name in out


def test_a_folder_without_phases_or_energies_is_one_line(command, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "nowhere"):
        assert_one_line(command("reference", "info", "--reference", place), "no known phases at", place)
    energies_path(folder, NAME).unlink()
    result = command("reference", "info", "--reference", folder)
    assert "10 known phases" in assert_one_line(result, "holds no energies; make them with `matsearch reference build`")


@pytest.mark.parametrize("name", ["phases.parquet", "energies"])
def test_a_broken_file_is_one_line(command, folder, name):
    path = energies_path(folder, NAME) if name == "energies" else folder / name
    path.write_bytes(path.read_bytes()[:500])
    assert_one_line(command("reference", "info", "--reference", folder), "cannot read", path, "build it anew")


def test_energies_of_another_potential_are_one_line(command, folder):
    shutil.copyfile(energies_path(folder, NAME), energies_path(folder, DeepBallPotential.name))
    result = command("reference", "build", "--out", folder, "--potential", DeepBallPotential.name)
    assert_one_line(result, "holds energies of", NAME, DeepBallPotential.name)


def test_elements_are_taken_with_or_without_spaces(command, source, tmp_path):
    arguments = ("--from", source, "--out", tmp_path / "a", "--potential", NAME, "--elements", "Li, Mg,O,")
    status, _, err = command("reference", "build", *arguments, "--minutes", 0, "--attribution", "Mine, CC0.")
    assert status == 0, err
    reference = load_reference(NAME, tmp_path / "a")
    assert reference.elements == {"Li", "Mg", "O"}
    assert reference.attribution.startswith("Mine, CC0.")
    assert f"{reference.n_pending} phases near the hull are not relaxed yet: the same command goes on with them" in err


def test_mistakes_are_one_line(command, source, folder, tmp_path):
    build = ("reference", "build", "--potential", NAME)
    new = tmp_path / "new"
    assert_one_line(command(*build, "--from", tmp_path / "x.parquet", "--out", new), "no known phases at", "x.parquet")
    assert_one_line(command(*build, "--from", source, "--out", new, "--elements", "Li,Xe"), "not trained on Xe")
    assert_one_line(command(*build, "--from", source, "--out", source), "cannot make the folder", source)
    other = write_phases(tmp_path / "others.parquet")
    assert_one_line(command(*build, "--from", other, "--out", folder), "phases.parquet", "others.parquet")
    assert_one_line(command("reference", "build", "--potential", "nothing", "--out", new), "nothing", "chgnet-0.3.0")


@pytest.mark.parametrize("option", ["--minutes", "--within"])
def test_a_negative_limit_is_refused_by_name(command, source, tmp_path, option):
    arguments = ("--from", source, "--out", tmp_path / "a", "--potential", NAME)
    status, _, err = command("reference", "build", *arguments, option, -1)
    assert status == 2 and option in err


def test_a_folder_to_write_to_is_needed(command):
    status, _, err = command("reference", "build")
    assert status == 2 and "--out" in err


def test_ctrl_c_keeps_what_there_is_and_the_same_command_goes_on(folder, source, tmp_path):
    arguments = ["reference", "build", "--from", source, "--out", tmp_path / "b", "--potential", NAME]
    # A shell starts what it puts in the background with Ctrl-C ignored, and Python keeps to that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from matsearch.cli.main import main; main()"
    )
    run = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(made_up_phases.__file__).parent)}
    slowly = environment | {"BALL_PAUSE": "0.1"}
    with subprocess.Popen(run, env=slowly, stderr=subprocess.PIPE, text=True) as started:
        for line in started.stderr:
            if "to relax" in line:
                started.send_signal(signal.SIGINT)
                break
        said = started.stderr.read()
    assert started.returncode == 130
    assert "stopped; the same command goes on" in said and "Traceback" not in said
    stopped = load_reference(NAME, tmp_path / "b")
    assert len(stopped.phases) == 9 and stopped.n_pending > 0
    subprocess.run(run, env=environment, stderr=subprocess.DEVNULL, check=True)
    pd.testing.assert_frame_equal(load_reference(NAME, tmp_path / "b").phases, load_reference(NAME, folder).phases)
