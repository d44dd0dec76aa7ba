"""The known phases that a campaign stands on: the shipped ones, or those of a folder that it names."""

import json
import shutil

import pytest

import matsearch as ms
from matsearch.campaign.parts import Parts
from matsearch.config import load_config
from matsearch.errors import ConfigError, MissingReferenceError, MixedHullError
from matsearch.potential.weights import weight_hashes
from matsearch.reference.known import shipped_folder
from matsearch.store import RunStore

NAME = "chgnet-0.3.0"


@pytest.fixture
def own(tmp_path):
    """A reference in a folder beside the campaign file."""
    folder = tmp_path / "own"
    folder.mkdir()
    for file in (*shipped_folder().glob("phases*"), *shipped_folder().glob("structures*")):
        shutil.copy(file, folder)
    shutil.copy(shipped_folder() / f"{NAME}.energies.parquet", folder)
    return folder


def parts_of(path):
    parts = Parts.build(load_config(path))
    parts.close()
    return parts


def test_a_folder_beside_the_campaign_file_is_its_reference(write_campaign, own):
    shipped, named = (parts_of(write_campaign(more=more)) for more in ("", '[reference]\npath = "own"'))
    assert named.reference is not shipped.reference
    assert named.reference_hash() == shipped.reference_hash() != ""
    assert [one.id for one in named.seed_phases()] == [one.id for one in shipped.seed_phases()]


def test_a_folder_without_the_campaigns_potential_names_both(write_campaign, own):
    more = '[potential]\nname = "chgnet-r2scan"\n[reference]\npath = "own"\n[[objectives]]\nname = "density"'
    with pytest.raises(
        MissingReferenceError, match=r"'chgnet-r2scan' in .*own; potentials that have one: chgnet-0\.3\.0"
    ):
        parts_of(write_campaign(more=more))


def test_energies_under_a_wrong_name_are_never_taken(write_campaign, own):
    (own / f"{NAME}.energies.parquet").rename(own / "chgnet-r2scan.energies.parquet")
    more = '[potential]\nname = "chgnet-r2scan"\n[reference]\npath = "own"'
    with pytest.raises(MixedHullError, match=r"chgnet-0\.3\.0.*chgnet-r2scan|chgnet-r2scan.*chgnet-0\.3\.0"):
        parts_of(write_campaign(more=more))


def test_a_folder_that_is_not_there_is_named(write_campaign, tmp_path):
    with pytest.raises(MissingReferenceError, match=str(tmp_path / "nowhere")):
        parts_of(write_campaign(more='[reference]\npath = "nowhere"'))


def test_a_reference_may_move_but_not_change_while_a_run_goes_on(write_campaign, own, tmp_path, command, monkeypatch):
    path, run_dir = write_campaign(more='[reference]\npath = "own"\n[budget]\nproposals = 1'), tmp_path / "run"
    status, _, err = command("run", path, "--run-dir", run_dir)
    assert status == 0, err
    own.rename(tmp_path / "moved")
    status, _, err = command("run", run_dir)
    assert status == 2 and str(own) in err
    monkeypatch.chdir(tmp_path)
    status, _, err = command("run", run_dir, "--set", "reference.path=moved", "--set", "budget.proposals=4")
    assert status == 0, err
    with RunStore(run_dir, writable=False) as store:
        assert store.config["reference"]["path"] == str(tmp_path / "moved")


@pytest.mark.parametrize("name", ["energy_above_hull", "formation_energy", "hull_disagreement"])
def test_under_pressure_nothing_is_held_against_the_hull(write_campaign, name):
    path = write_campaign(more=f'[[objectives]]\nname = "{name}"\n')
    with pytest.raises(ConfigError, match=f"at zero pressure, so {name} says nothing"):
        Parts.build(load_config(path, ["relax.pressure_gpa=5"]))


def test_what_weights_a_run_computes_with_stands_in_its_folder(write_campaign, tmp_path):
    path = write_campaign(search='generations = 1\nseeds = 1\nsecond_opinion = "chgnet-r2scan"')
    campaign = ms.Campaign.from_toml(path, run_dir=tmp_path / "run")
    meta, written = campaign._first_records(parts := Parts.build(campaign.config))
    used = (parts.potential, parts.second_opinion.potential)
    expected = {one.name: weight_hashes(one) for one in used}
    assert set(expected) == {"chgnet-0.3.0", "chgnet-r2scan"} and all(expected.values())
    assert json.loads(meta["weights"]) == json.loads(written["resolved.json"])["weights"] == expected
