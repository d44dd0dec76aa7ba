"""Energies too good to be true stay in quarantine until a second potential calls the crystal metastable."""

import pytest
from made_up_campaign import FlatHull, MadeUpHull, OtherPotential, crystal, fate, make_parts, rows, run
from pymatgen.core import Lattice, Structure

from matsearch.campaign.parts import Parts
from matsearch.campaign.second_opinion import SecondOpinion, agrees, kept_energy
from matsearch.config import load_config
from matsearch.errors import ConfigError, MissingReferenceError
from matsearch.metrics.discovery import verdicts
from matsearch.records import Rejection, Relaxed
from matsearch.report.frame import candidates_frame
from matsearch.store import RunStore

SEARCH = {"generations": 8, "reject_known": False, "second_opinion": "other"}


def frame_of(run_dir, second):
    parts = make_parts(SEARCH if second else {**SEARCH, "second_opinion": None}, second=second)
    assert run(run_dir, parts) == "finished"
    with RunStore(run_dir, writable=False) as store:
        return candidates_frame(store)


def test_a_released_crystal_counts_as_on_the_floor_and_both_values_are_kept(tmp_path):
    frame = frame_of(tmp_path / "run", second=True)
    released, held = (frame[frame["second_opinion"] == height] for height in (0.02, -0.4))
    assert len(released) and len(held) and frame["second_opinion"].notna().sum() == len(released) + len(held)
    assert set(released["stage"]) == {"scored"} and set(released["energy_above_hull"]) == {-0.1}
    assert set(held["stage"]) == {"score"} and set(held["reason"]) == {"quarantined"}
    counted = verdicts(frame)
    assert counted.loc[released.index, "metastable"].all() and not counted.loc[released.index, "quarantined"].any()
    assert counted.loc[held.index, "quarantined"].all() and not counted.loc[held.index, "metastable"].any()
    stored = rows(tmp_path / "run", "SELECT * FROM scores WHERE objective = 'energy_above_hull'")
    raw = {row["candidate_id"]: row["value"] for row in stored}
    for row in [*released.itertuples(), *held.itertuples()]:
        assert raw[row.id] < -0.2
        word = "not released" if row.reason else "released"
        assert (
            row.detail
            == f"{raw[row.id]:.3f} eV/atom, below the floor of -0.1; {row.second_opinion:.3f} by other: {word}"
        )


def test_without_a_second_potential_none_is_released_and_none_is_asked(tmp_path):
    frame = frame_of(tmp_path / "run", second=False)
    assert "second_opinion" not in frame
    low = frame[frame["energy_above_hull"] < -0.1]
    assert len(low) and set(low["reason"]) == {"quarantined"}
    assert rows(tmp_path / "run", "SELECT * FROM scores WHERE objective = 'second_opinion'") == []


def test_only_what_is_too_good_is_asked_about(tmp_path):
    frame = frame_of(tmp_path / "run", second=True)
    raw = rows(tmp_path / "run", "SELECT * FROM scores WHERE objective = 'energy_above_hull' AND value < -0.1")
    assert {row["candidate_id"] for row in raw} == set(frame.loc[frame["second_opinion"].notna(), "id"])


def test_one_that_finds_the_crystal_far_below_its_own_hull_may_make_the_same_mistake():
    assert [agrees(height, -0.1) for height in (-0.3, -0.1, 0.0, 0.1, 0.11)] == [False, True, True, True, False]


def test_released_crystals_count_as_metastable_however_low_the_floor():
    assert (kept_energy(-0.1), kept_energy(-0.05), kept_energy(-0.5)) == (-0.1, -0.05, -0.1)


def test_what_the_second_potential_cannot_say_is_a_reason():
    foreign = Structure(Lattice.cubic(3.4), ["U", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    known = next(one for one in map(crystal, range(100)) if fate(one) == "released")
    made = [Relaxed(one, -1.0, True, 3, 0.01) for one in (foreign, known)]
    refused, height = SecondOpinion(OtherPotential(), FlatHull())(made)
    assert isinstance(refused, Rejection) and refused.reason == "untrained_element" and "U" in refused.detail
    assert height == 0.02 and MadeUpHull.value(known) < -0.2


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("chgnet-0.3.0", ConfigError, "the campaign's own potential"),
        ("chgnet-0.4.0", ConfigError, "unknown potential"),
        ("pqeq", MissingReferenceError, "no hull of known phases"),
    ],
)
def test_a_second_potential_that_cannot_judge_is_refused_before_any_work(name, error, said, write_campaign):
    search = f'generations = 1\npopulation = 2\nenergy_floor = -0.1\nsecond_opinion = "{name}"'
    with pytest.raises(error, match=said):
        Parts.build(load_config(write_campaign(search=search)))


def test_the_second_potential_stands_on_its_own_hull(write_campaign):
    search = 'generations = 1\npopulation = 2\nenergy_floor = -0.1\nsecond_opinion = "chgnet-r2scan"'
    parts = Parts.build(load_config(write_campaign(search=search)))
    parts.close()
    rocksalt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    (height,) = parts.second_opinion([Relaxed(rocksalt, 0.0, True, 0, 0.0)])
    # Not relaxed by it, so a little above; energies of the other potential lie eV away.
    assert -0.01 < height < 0.05
