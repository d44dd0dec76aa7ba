"""`matsearch doctor`: what is wrong is found and named."""

import hashlib
from base64 import urlsafe_b64encode

import pytest
from made_up_phases import ROWS, BallPotential, write_phases

from matsearch.cli import doctor
from matsearch.reference.catalogue import GEOMETRY_FILE, read_catalogue, read_table, write_table


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    return list(doctor._findings(None, tmp_path_factory.mktemp("runs") / "of" / "mine"))


def of(findings, subject):
    return [one for one in findings if one.subject == subject]


def test_nothing_is_wrong_here(findings):
    assert [one for one in findings if one.state == doctor.BAD] == []


def test_it_looks_at_versions_devices_data_and_the_run_folder(findings):
    assert of(findings, "Python")[0].text.startswith("3.")
    assert "required" in of(findings, "packages")[0].text
    assert "torch" in of(findings, "CPU")[0].text and of(findings, "GPU")
    assert "weights" in of(findings, "chgnet")[0].text and "SHA-256" in of(findings, "chgnet")[0].text
    assert "whole" in of(findings, "known phases")[0].text
    assert {one.text.split(":")[0] for one in of(findings, "hull")} >= {"chgnet-0.3.0", "chgnet-r2scan"}
    assert "can be written" in of(findings, "run folder")[0].text


def test_lines_and_exit_status_say_what_is_bad(command, monkeypatch):
    lines = [doctor.Finding(doctor.OK, "CPU", "2 cores"), doctor.Finding(doctor.BAD, "packages", "ase is missing")]
    monkeypatch.setattr(doctor, "_findings", lambda *_: iter(lines))
    status, out, _ = command("doctor")
    assert status == 1 and "BAD   packages      ase is missing" in out and "1 of 2 are BAD" in out
    monkeypatch.setattr(doctor, "_findings", lambda *_: iter(lines[:1]))
    status, out, _ = command("doctor")
    assert status == 0 and out.endswith("nothing is wrong\n")


def test_a_changed_and_a_missing_file_of_a_package_are_named(tmp_path, monkeypatch):
    def recorded(content):
        return "sha256=" + urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()

    (tmp_path / "wholesome" / "data").mkdir(parents=True)
    (tmp_path / "wholesome" / "data" / "weights").write_bytes(b"1234")
    information = tmp_path / "wholesome-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: wholesome\nVersion: 1.0\n")
    record = f"wholesome/data/weights,{recorded(b'1234')},4\nwholesome/code.py,{recorded(b'')},0\n"
    (information / "RECORD").write_text(record)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [one.state for one in doctor._files_of("wholesome", "data")] == [doctor.OK]
    (tmp_path / "wholesome" / "data" / "weights").write_bytes(b"1235")
    (found,) = doctor._files_of("wholesome")
    assert found.state == doctor.BAD
    assert "data/weights was changed" in found.text and "code.py is missing" in found.text


def test_phases_that_are_not_those_of_their_digest_are_found(command, tmp_path):
    source = write_phases(tmp_path / "phases.parquet", ROWS)
    folder = tmp_path / "a"
    status, _, err = command("reference", "build", "--from", source, "--out", folder, "--potential", BallPotential.name)
    assert status == 0, err
    assert read_catalogue(folder).is_whole()
    table, metadata = read_table(folder / GEOMETRY_FILE, "cells", (), ())
    write_table(table.take([1, 0, *range(2, len(table))]), folder / GEOMETRY_FILE, {"digest": metadata["digest"]})
    read_catalogue.__globals__["_read_catalogue"].cache_clear()
    assert not read_catalogue(folder).is_whole()


def test_a_run_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    found = doctor._run_folder(tmp_path / "file" / "runs")
    assert found.state == doctor.BAD and str(tmp_path / "file") in found.text


def test_a_campaign_has_its_llm_asked_and_its_potential_looked_for(write_campaign):
    good = write_campaign()
    found = list(doctor._of_campaign(good))
    assert [(one.state, one.subject) for one in found] == [(doctor.OK, "LLM"), (doctor.OK, "potential")]
    silent = 'backend = "openai"\nmodel = "m"\noptions = { base_url = "http://127.0.0.1:9/v1", max_retries = 0 }'
    text = good.read_text()
    script = text[text.index('backend = "scripted"') : text.index("[search]")]
    good.write_text(text.replace(script, silent + "\n") + '[potential]\nname = "nothing"\n')
    found = list(doctor._of_campaign(good))
    assert [one.state for one in found] == [doctor.BAD, doctor.BAD]
    assert "127.0.0.1" in found[0].text and "nothing" in found[1].text


def test_a_campaign_file_that_is_wrong_is_one_line(command, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_of_this_place", lambda _: iter(()))
    (tmp_path / "a.toml").write_text("nam = 1")
    status, _, err = command("doctor", tmp_path / "a.toml")
    assert status == 2 and "nam" in err and "Traceback" not in err
