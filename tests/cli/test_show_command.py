"""`matsearch show`: what it says of ids that no candidate has."""

import pytest

from matsearch.store import RunStore


@pytest.mark.parametrize("number", ["1", "10000000000000000000000000"])
def test_an_id_that_no_candidate_has_is_said_to_be_none(tmp_path, command, number):
    run_dir = tmp_path / "run"
    RunStore.create(run_dir, {"config": "{}"}, {})
    status, _, err = command("show", run_dir, number)
    assert status == 2
    assert f"no candidate {number} in {run_dir}; it has none yet" in err

    with RunStore(run_dir, writable=True) as store, store.transaction():
        row = {"id": 0, "parents": "[]", "generation": 0, "operator": "seed", "model": "", "stage": "waiting"}
        store.insert("candidates", [row])
    _, _, err = command("show", run_dir, number)
    assert f"no candidate {number} in {run_dir}; its ids go from 0 to 0" in err
