"""Long work on the rows of a table: over several processes, and taken up again where it was interrupted."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

Work = Callable[["pd.DataFrame"], "pd.DataFrame"]

_work: Work | None = None


def map_chunks(
    make_work: Callable[[], Work],
    table: pd.DataFrame,
    folder: Path,
    *,
    version: str,
    chunk_size: int = 1000,
    processes: int = 1,
) -> pd.DataFrame:
    """What a function makes of a table, chunk by chunk.

    Args:
        make_work: Called once in every process; gives the function, which maps rows to rows.
        table: The rows.
        folder: Where finished chunks are kept until all are; a second call goes on from there.
        version: Of the work; chunks of another version, or of another table, are not taken over.
        chunk_size: Rows at a time.
        processes: How many work at once; 1 is this one.

    Returns:
        The new rows, in the order of the old.
    """
    import pandas as pd

    rows = pd.util.hash_pandas_object(table.index).to_numpy().tobytes()
    key = hashlib.sha256(version.encode() + rows + str(chunk_size).encode()).hexdigest()[:12]
    paths = [folder / f"chunk-{key}-{number:05d}.parquet" for number in range(-(-len(table) // chunk_size))]
    folder.mkdir(parents=True, exist_ok=True)
    missing = [(path, number) for number, path in enumerate(paths) if not path.is_file()]
    tasks = ((table.iloc[number * chunk_size : (number + 1) * chunk_size], path) for path, number in missing)
    if processes == 1 or len(missing) < 2:
        _run_here(make_work, tasks)
    else:
        # Not forked: a fork of a process with threads (those of torch) may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(make_work,)) as pool:
            for future in [pool.submit(_run, part, path) for part, path in tasks]:
                future.result()
    result = pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True) if paths else table.iloc[:0]
    for path in paths:
        path.unlink()
    return result


def _run_here(make_work: Callable[[], Work], tasks: Iterator[tuple[pd.DataFrame, Path]]) -> None:
    work = make_work()
    for part, path in tasks:
        _write(work(part), path)


def _start(make_work: Callable[[], Work]) -> None:
    global _work  # noqa: PLW0603 - the one way to keep it in a process of a pool
    _work = make_work()


def _run(part: pd.DataFrame, path: Path) -> None:
    assert _work is not None
    _write(_work(part), path)


def _write(table: pd.DataFrame, path: Path) -> None:
    partial = path.with_suffix(".new")
    table.to_parquet(partial)
    partial.replace(path)
