from functools import partial

import pandas as pd
import pytest

from matsearch.training.chunks import map_chunks


def _doubled(part):
    return part.assign(x=2 * part["x"])


def _doubling():
    return _doubled


@pytest.fixture
def table():
    return pd.DataFrame({"x": range(10)})


@pytest.mark.parametrize("processes", [1, 2])
def test_rows_come_back_in_order_and_nothing_is_left_behind(table, tmp_path, processes):
    result = map_chunks(_doubling, table, tmp_path, version="1", chunk_size=3, processes=processes)
    assert result["x"].tolist() == [2 * x for x in range(10)]
    assert not list(tmp_path.iterdir())


def _until(limit, seen):
    def work(part):
        if part["x"].max() >= limit:
            raise KeyboardInterrupt
        seen.append(part["x"].tolist())
        return part

    return work


def test_finished_chunks_of_the_same_work_are_not_done_again(table, tmp_path):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        map_chunks(partial(_until, 6, seen), table, tmp_path, version="1", chunk_size=3)
    assert seen == [[0, 1, 2], [3, 4, 5]]
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        map_chunks(partial(_until, 6, seen), table, tmp_path, version="2", chunk_size=3)
    assert seen == [[0, 1, 2], [3, 4, 5]], "another version takes nothing over"
    seen.clear()
    assert len(map_chunks(partial(_until, 99, seen), table, tmp_path, version="1", chunk_size=3)) == 10
    assert seen == [[6, 7, 8], [9]]
