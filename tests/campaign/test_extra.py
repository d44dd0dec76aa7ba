"""Phases of the user's own join the hull and what is known, and stay with the run folder."""

import json
import shutil

import pytest
from pymatgen.core import Structure
from scripted_campaign import assert_same_candidates, poscar, reply

import matsearch as ms
from matsearch.campaign import extra
from matsearch.campaign.parts import Parts
from matsearch.campaign.relaxations import Relaxations
from matsearch.config import load_config
from matsearch.errors import ConfigError
from matsearch.records import Relaxed
from matsearch.report.spending import spending
from matsearch.store import RunStore

# None of these is in nature: without the user's word for it they are new.
LITI, MGTI = poscar("CsCl", 3.0, ("Li", "Ti")), poscar("fluorite", 4.8, ("Mg", "Ti"))
EXTRA = '[reference]\nextra = ["mine/*.vasp"]'


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "lithium-titanium.vasp").write_text(LITI)
    return folder


def write_extra(write_campaign, more=EXTRA, **options):
    search = "generations = 1\npopulation = 4\nseeds = 2\nchildren_per_prompt = 2"
    return write_campaign([reply(LITI, MGTI)], preset="matsearch", search=search, more=more, **options)


def rows_of(run_dir):
    with RunStore(run_dir, writable=False) as store:
        return json.loads(store.meta["extra_phases"])


def test_an_extra_phase_is_known_and_its_relaxation_is_kept(write_campaign, mine, tmp_path, command):
    run_dir = tmp_path / "run"
    status, _, err = command("run", write_extra(write_campaign), "--run-dir", run_dir)
    assert status == 0, err
    assert "extra phases to relax: 1" in err
    frame = ms.Campaign.open(run_dir).candidates()
    first = frame[frame["generation"] == 1].iloc[0]
    assert (first["stage"], first["reason"]) == ("novelty", "known")
    assert first["detail"] == "matches extra/lithium-titanium"
    (row,) = rows_of(run_dir)
    with RunStore(run_dir, writable=False) as store:
        assert store.row("SELECT converged FROM relaxations WHERE key = ?", row["relaxation_key"])[0] == 1
        assert "extra/lithium-titanium" in store.meta["attribution"] and "CC-BY" in store.meta["attribution"]
        assert spending(store).seed_relaxations == 3  # two seeds and this one


def test_a_file_in_a_folder_that_is_given_too_is_one_phase(write_campaign, mine, tmp_path, command):
    more = '[reference]\nextra = ["mine", "mine/*.vasp"]'
    status, _, err = command("run", write_extra(write_campaign, more), "--run-dir", tmp_path / "run")
    assert status == 0, err
    assert len(rows_of(tmp_path / "run")) == 1


def test_a_run_needs_the_files_no_more_and_relaxes_nothing_twice(write_campaign, mine, tmp_path, command, monkeypatch):
    path = write_extra(write_campaign)
    whole = ms.Campaign.from_toml(path, run_dir=tmp_path / "whole").run().candidates()
    status, _, _ = command("run", path, "--run-dir", tmp_path / "run", "--set", "budget.relaxations=0")
    assert status == 0
    shutil.rmtree(mine)
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "run").rename(tmp_path / "elsewhere" / "moved")
    (row,) = rows_of(moved)
    entered = []
    enter = Relaxations.enter
    monkeypatch.setattr(
        Relaxations, "enter", lambda self, key, structure: entered.append(key) or enter(self, key, structure)
    )
    status, _, err = command("run", moved, "--set", "budget.relaxations=100")
    assert status == 0, err
    assert entered and row["relaxation_key"] not in entered
    assert_same_candidates(ms.Campaign.open(moved).candidates(), whole)


def test_a_stop_while_extra_phases_relax_keeps_what_is_done(write_campaign, mine, tmp_path):
    (mine / "magnesium-titanium.vasp").write_text(MGTI)
    campaign = ms.Campaign.from_toml(write_extra(write_campaign), run_dir=tmp_path / "run")
    parts = Parts.build(campaign.config)
    RunStore.create(campaign.run_dir, *campaign._first_records(parts))
    with RunStore(campaign.run_dir, writable=True) as store:
        with pytest.raises(extra.Interrupted):
            extra.add_extra(store, parts, extra.Progress(), lambda: True)
        assert store.row("SELECT count(*) FROM relaxations")[0] == 0
        calls = iter([False])
        with pytest.raises(extra.Interrupted):
            extra.add_extra(store, parts, extra.Progress(), lambda: next(calls, True))
        assert store.row("SELECT count(*) FROM relaxations")[0] == 2  # both were in flight
        assert extra.add_extra(store, parts, extra.Progress(), lambda: False).reference is not parts.reference


def test_an_extra_phase_below_the_hull_lowers_it(write_campaign):
    parts = Parts.build(load_config(write_extra(write_campaign, more="")))
    crystal = Structure.from_str(LITI, fmt="poscar")
    low = Relaxed(crystal, -20.0, True, 3, 0.0, potential=parts.potential.name)
    height = parts.objectives[0]([low])[0]
    assert height < 0
    more = parts.with_phases([("extra/low", low)], [])
    assert more.objectives[0]([low])[0] == pytest.approx(0.0, abs=1e-6)
    assert more.reference.match(crystal) == "extra/low"
    assert parts.objectives[0]([low])[0] == height, "the shipped reference is left as it was"


def test_one_that_does_not_converge_is_known_and_leaves_the_hull(write_campaign, mine, tmp_path, command):
    run_dir = tmp_path / "run"
    status, _, err = command("run", write_extra(write_campaign), "--run-dir", run_dir, "--set", "relax.max_steps=1")
    assert status == 0, err
    (line,) = [line for line in err.splitlines() if "extra/lithium-titanium" in line]
    assert "known, but not part of the hull: not converged after 1 steps" in line
    frame = ms.Campaign.open(run_dir).candidates()
    assert frame[frame["generation"] == 1].iloc[0]["reason"] == "known"


def test_under_pressure_extra_phases_are_known_unrelaxed(write_campaign, mine, tmp_path, command):
    path = write_extra(write_campaign, more=f'{EXTRA}\n[[objectives]]\nname = "density"')
    run_dir = tmp_path / "run"
    status, _, err = command("run", path, "--run-dir", run_dir, "--set", "relax.pressure_gpa=10")
    assert status == 0, err
    assert "extra phases to relax" not in err
    frame = ms.Campaign.open(run_dir).candidates()
    assert frame[frame["generation"] == 1].iloc[0]["reason"] == "known"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.cif", LITI, ["nothing matches", "mine/*.vasp"]),
        ("bad.vasp", "no crystal", ["bad.vasp", "no crystal that could be read"]),
        ("twice.vasp", LITI.replace("0.500000 0.500000 0.500000", "0 0 0"), ["twice.vasp", "overlapping_atoms"]),
        ("odd.vasp", LITI.replace("Li Ti\n1", "Po Ti\n1"), ["odd.vasp", "not trained on Po"]),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_before_there_is_a_folder(
    write_campaign, tmp_path, command, name, text, words
):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text(text)
    status, _, err = command("run", write_extra(write_campaign), "--run-dir", tmp_path / "run")
    assert status == 2 and len(err.splitlines()) == 1
    for word in ["[reference] extra", *words]:
        assert word in err
    assert not (tmp_path / "run").exists()


def test_files_of_one_name_have_ids_of_their_own(write_campaign, mine, tmp_path):
    (tmp_path / "yours").mkdir()
    (tmp_path / "yours" / "lithium-titanium.vasp").write_text(MGTI)
    config = load_config(write_extra(write_campaign, more='[reference]\nextra = ["mine", "yours/*"]'))
    ids = [name for name, _ in extra.read_extra(Parts.build(config))]
    assert ids == ["extra/lithium-titanium", "extra/yours/lithium-titanium"]


def test_the_reference_cannot_change_once_a_run_has_begun(write_campaign, mine, tmp_path):
    run_dir = tmp_path / "run"
    ms.Campaign.from_toml(write_extra(write_campaign), run_dir=run_dir, overrides=["budget.proposals=0"]).run()
    with pytest.raises(ConfigError, match=r"reference\.extra"):
        ms.Campaign.from_toml(write_extra(write_campaign, more=""), run_dir=run_dir)
    with pytest.raises(ConfigError, match="only its budgets"):
        ms.Campaign.open(run_dir, overrides=["reference.extra=[]"])
    with RunStore(run_dir, writable=True) as store:
        store.set_meta("reference_hash", "another")
    with pytest.raises(ConfigError, match=r"not those that .* began with"):
        ms.Campaign.open(run_dir).run()


def test_a_run_of_an_earlier_version_goes_on_without_extra_phases(write_campaign, tmp_path):
    path, run_dir = write_extra(write_campaign, more="[budget]\nproposals = 1"), tmp_path / "run"
    ms.Campaign.from_toml(path, run_dir=run_dir).run()
    with RunStore(run_dir, writable=True) as store:
        config = store.config
        del config["reference"]
        store.set_meta("config", json.dumps(config))
        with store.transaction():
            store.connection.execute("DELETE FROM meta WHERE key IN ('extra_phases', 'reference_hash')")
        assert spending(store).seed_relaxations == 2
    more = ms.Campaign.from_toml(path, run_dir=run_dir, overrides=["budget.proposals=4"]).run()
    assert (more.candidates()["generation"] == 1).sum() == 4
