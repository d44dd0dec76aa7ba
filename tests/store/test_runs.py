"""The run store: whole or not there, one writer, nothing lost."""

import sqlite3

import pytest

from matsearch.errors import StoreError
from matsearch.store import RunStore
from matsearch.store.schema import MIGRATIONS


def create(tmp_path):
    run_dir = tmp_path / "runs" / "a"
    RunStore.create(run_dir, {"config": "{}"}, {"campaign.toml": "name = 'a'"})
    return run_dir


def test_the_folder_appears_whole(tmp_path):
    run_dir = create(tmp_path)
    assert sorted(path.name for path in run_dir.iterdir()) == ["campaign.toml", "run.sqlite"]
    assert [path.name for path in run_dir.parent.iterdir()] == ["a"]


def test_half_made_folders_of_dead_processes_are_taken_away(tmp_path):
    stale = tmp_path / "runs" / ".a.partial-999999999"
    stale.mkdir(parents=True)
    create(tmp_path)
    assert not stale.exists()


def test_an_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot create the run folder .*--run-dir"):
        RunStore.create(tmp_path / "file" / "run", {}, {})


def test_a_second_writer_is_told_to_wait(tmp_path):
    run_dir = create(tmp_path)
    with RunStore(run_dir, writable=True):
        with pytest.raises(StoreError, match="another matsearch is running"):
            RunStore(run_dir, writable=True)
        with RunStore(run_dir, writable=False) as reader:
            assert reader.config == {}


def test_a_full_disk_keeps_what_was_committed_and_names_the_mend(tmp_path):
    run_dir = create(tmp_path)
    with RunStore(run_dir, writable=True) as store:
        store.set_meta("kept", "yes")
        (pages,) = store.connection.execute("PRAGMA page_count").fetchone()
        store.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match=r"full.*committed so far is kept.*matsearch run"):
            store.set_meta("big", "x" * 1_000_000)
        assert store.meta["kept"] == "yes"
        assert "big" not in store.meta


def test_a_transaction_that_fails_leaves_no_half(tmp_path):
    with RunStore(create(tmp_path), writable=True) as store:
        with pytest.raises(StoreError), store.transaction():
            store.insert("meta", [{"key": "one", "value": "1"}])
            store.insert("meta", [{"key": "one", "value": "2"}])
        assert "one" not in store.meta


def test_a_folder_without_a_campaign_says_so(tmp_path):
    with pytest.raises(StoreError, match=r"no campaign in .* expected run\.sqlite"):
        RunStore(tmp_path, writable=False)


def test_a_file_from_a_newer_version_is_refused(tmp_path):
    run_dir = create(tmp_path)
    connection = sqlite3.connect(run_dir / "run.sqlite")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StoreError, match="update matsearch"):
        RunStore(run_dir, writable=True)
