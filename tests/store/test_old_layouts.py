"""Run folders of earlier versions still open."""

import shutil
from pathlib import Path

import pytest

import matsearch as ms
from matsearch.store import RunStore
from matsearch.store.schema import MIGRATIONS

LAYOUTS = sorted((Path(__file__).parent / "data").glob("layout_*.sqlite"))


@pytest.mark.parametrize("old", LAYOUTS, ids=lambda path: path.stem)
def test_a_run_of_an_earlier_version_opens_and_is_brought_up_to_date(old, tmp_path):
    shutil.copy(old, tmp_path / "run.sqlite")
    campaign = ms.Campaign.open(tmp_path)
    frame = campaign.candidates()
    assert campaign.status == "finished"
    assert list(frame["stage"]) == ["scored"] * 4
    assert campaign.write_report().is_file()
    with RunStore(tmp_path, writable=True) as store:
        assert store.row("PRAGMA user_version")[0] == len(MIGRATIONS)
