"""One campaign's record: a folder with `run.sqlite` in it, which appears complete or not at all."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matsearch.errors import StoreError
from matsearch.store.schema import check_layout, migrate

DATABASE = "run.sqlite"


class RunStore:
    """Reads and writes `run.sqlite`.

    One process writes at a time (a lock on the folder holds that); any number may read.
    Every method that writes is one transaction.
    """

    def __init__(self, run_dir: Path, *, writable: bool) -> None:
        self.run_dir = run_dir
        self._lock: int | None = None
        path = run_dir / DATABASE
        if not path.is_file():
            raise StoreError(f"no campaign in {run_dir}: expected {DATABASE} there; give the folder of a run")
        if writable:
            self._lock = _lock_folder(run_dir)
        try:
            mode = "rw" if writable else "ro"
            self.connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None)
        except sqlite3.Error as err:
            raise StoreError(f"cannot open {path}: {err}") from err
        self.connection.row_factory = sqlite3.Row
        with self._errors():
            if writable:
                self.connection.execute("PRAGMA journal_mode = WAL")
                # A reply may have cost money: it is on the disk when the commit returns.
                self.connection.execute("PRAGMA synchronous = FULL")
            check_layout(self.connection, str(path))
            if writable:
                migrate(self.connection)

    @classmethod
    def create(cls, run_dir: Path, meta: Mapping[str, str], files: Mapping[str, str]) -> None:
        """Make the run folder in one step, with its database, meta rows and text files.

        It is built beside its final place and renamed, so that a kill leaves either no folder or a whole one.

        Raises:
            StoreError: The folder exists, or cannot be written.
        """
        if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
            raise StoreError(f"{run_dir} exists and is no empty folder; name another with --run-dir")
        partial = run_dir.parent / f".{run_dir.name}.partial-{os.getpid()}"
        try:
            run_dir.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(run_dir)
            partial.mkdir()
            for name, text in files.items():
                (partial / name).write_text(text, encoding="utf-8")
            connection = sqlite3.connect(partial / DATABASE, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                migrate(connection)
                connection.executemany("INSERT INTO meta VALUES (?, ?)", list(meta.items()))
            finally:
                connection.close()
            partial.rename(run_dir)
        except (OSError, sqlite3.Error) as err:
            shutil.rmtree(partial, ignore_errors=True)
            raise StoreError(
                f"cannot create the run folder {run_dir}: {err}; "
                f"choose a writable place with enough space with --run-dir"
            ) from err

    def close(self) -> None:
        """Close the database and release the folder."""
        self.connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as err:
            raise StoreError(
                f"cannot use {self.run_dir / DATABASE}: {err}; everything committed so far is kept. "
                f"Mend that (free space, permissions) and continue with `{continue_command(self.run_dir)}`"
            ) from err

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside reach the disk together, or none does."""
        with self._errors():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def insert(self, table: str, rows: Iterable[Mapping[str, Any]], *, ignore_existing: bool = False) -> None:
        """Insert rows inside an open transaction."""
        verb = "INSERT OR IGNORE" if ignore_existing else "INSERT"
        for row in rows:
            columns = ", ".join(row)
            marks = ", ".join("?" for _ in row)
            self.connection.execute(f"{verb} INTO {table} ({columns}) VALUES ({marks})", list(row.values()))

    def update_candidate(self, candidate_id: int, **columns: Any) -> None:
        """Set columns of one candidate inside an open transaction."""
        self._update("candidates", candidate_id, columns)

    def update_proposal(self, proposal: int, **columns: Any) -> None:
        """Set columns of one proposal inside an open transaction."""
        self._update("proposals", proposal, columns)

    def _update(self, table: str, number: int, columns: Mapping[str, Any]) -> None:
        assignments = ", ".join(f"{name} = ?" for name in columns)
        self.connection.execute(f"UPDATE {table} SET {assignments} WHERE id = ?", [*columns.values(), number])

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._errors():
            return self.connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        with self._errors():
            first: sqlite3.Row | None = self.connection.execute(sql, values).fetchone()
            return first

    @property
    def meta(self) -> dict[str, str]:
        """The meta table: `config`, `versions`, `created`, ..."""
        return {row["key"]: row["value"] for row in self.rows("SELECT key, value FROM meta")}

    def set_meta(self, key: str, value: str) -> None:
        """Write one meta row."""
        with self.transaction():
            self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration of the campaign."""
        try:
            config: dict[str, Any] = json.loads(self.meta["config"])
        except (KeyError, json.JSONDecodeError) as err:
            raise StoreError(f"the configuration in {self.run_dir / DATABASE} is damaged ({err})") from err
        return config


def continue_command(run_dir: Path) -> str:
    """What a person types to go on, ready for a shell."""
    return f"matsearch run {shlex.quote(str(run_dir))}"


def is_run_dir(path: Path) -> bool:
    """Whether a folder holds a campaign."""
    return (path / DATABASE).is_file()


def _lock_folder(run_dir: Path) -> int:
    """Hold the folder for this process; the system lets go of it however the process ends."""
    import fcntl

    try:
        handle = os.open(run_dir / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as err:
        raise StoreError(f"cannot write in the run folder {run_dir}: {err.strerror}; check its permissions") from err
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        os.close(handle)
        raise StoreError(f"another matsearch is running in {run_dir}; wait for it or stop it first") from err
    return handle


def _remove_stale(run_dir: Path) -> None:
    """Take away half-made folders that killed processes left beside the run folder."""
    for leftover in run_dir.parent.glob(f".{run_dir.name}.partial-*"):
        pid = leftover.name.rpartition("-")[2]
        if not (pid.isdigit() and _is_alive(int(pid))) or int(pid) == os.getpid():
            shutil.rmtree(leftover, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
