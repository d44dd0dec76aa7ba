"""The tables of `run.sqlite`, as an append-only list of migrations.

A migration that has been released is never edited; a change is a new entry at the end.
`PRAGMA user_version` counts the ones a file has seen.
"""

from __future__ import annotations

import sqlite3

from matsearch.errors import StoreError

MIGRATIONS: list[str] = [
    # 1: the first layout.
    """
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    );
    -- One row a proposal: what the engine asked for.
    CREATE TABLE proposals (
        id INTEGER PRIMARY KEY,
        generation INTEGER NOT NULL,
        operator TEXT NOT NULL,
        parents TEXT NOT NULL,            -- JSON list of candidate ids
        n_children INTEGER NOT NULL,
        llm INTEGER NOT NULL,             -- index into the campaign's [[llm]]
        template TEXT NOT NULL,
        template_hash TEXT NOT NULL
    );
    -- One row a distinct prompt text.
    CREATE TABLE prompts (
        hash TEXT PRIMARY KEY,
        system TEXT NOT NULL,
        user TEXT NOT NULL
    );
    -- One row a reply, committed when it arrives and never asked for again.
    CREATE TABLE replies (
        key TEXT PRIMARY KEY,             -- hash of (prompt, model, options, seed, sample)
        proposal_id INTEGER NOT NULL REFERENCES proposals(id),
        sample INTEGER NOT NULL,
        prompt_hash TEXT NOT NULL REFERENCES prompts(hash),
        identity TEXT NOT NULL,           -- JSON: backend, model, options
        seed INTEGER NOT NULL,
        text TEXT NOT NULL,
        reply_hash TEXT NOT NULL,
        finish_reason TEXT NOT NULL,
        model TEXT NOT NULL,
        prompt_tokens INTEGER,
        completion_tokens INTEGER,
        cached_tokens INTEGER,
        reasoning_tokens INTEGER,
        seconds REAL NOT NULL,
        UNIQUE (proposal_id, sample)
    );
    -- One row a candidate, seeds included (proposal_id is NULL for those).
    CREATE TABLE candidates (
        id INTEGER PRIMARY KEY,
        proposal_id INTEGER REFERENCES proposals(id),
        sample INTEGER NOT NULL DEFAULT 0,
        parents TEXT NOT NULL,
        generation INTEGER NOT NULL,
        operator TEXT NOT NULL,
        model TEXT NOT NULL,
        name TEXT,                        -- id of the known phase that a seed is
        formula TEXT,
        structure TEXT,                   -- JSON, as proposed; NULL when there was none to read
        structure_hash TEXT,
        stage TEXT NOT NULL,
        reason TEXT,
        detail TEXT,
        relaxation_key TEXT,
        energy_above_hull REAL,
        duplicate_of INTEGER,             -- earlier candidate that the relaxed structure matches
        matched_known TEXT,               -- known phase that the relaxed structure matches
        add_status TEXT
    );
    CREATE INDEX candidates_of_proposal ON candidates(proposal_id);
    -- One row a relaxation, keyed by (structure, potential, protocol).
    CREATE TABLE relaxations (
        key TEXT PRIMARY KEY,
        structure TEXT,                   -- JSON, relaxed; NULL when rejected
        energy REAL,
        converged INTEGER,
        n_steps INTEGER,
        max_force REAL,
        reason TEXT,
        detail TEXT,
        seconds REAL NOT NULL
    );
    -- One row a candidate and objective.
    CREATE TABLE scores (
        candidate_id INTEGER NOT NULL REFERENCES candidates(id),
        objective TEXT NOT NULL,
        value REAL,
        unit TEXT,
        reason TEXT,
        detail TEXT,
        seconds REAL NOT NULL,
        PRIMARY KEY (candidate_id, objective)
    );
    """,
    # 2: what is left of the stress, in eV/Å^3.
    "ALTER TABLE relaxations ADD COLUMN max_stress REAL",
]


def check_layout(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a database that this version cannot read.

    Raises:
        StoreError: The file was written by a newer matsearch, or holds no campaign.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        raise StoreError(f"{path} holds no campaign; start a new run in another folder")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} has layout {version}, this matsearch knows up to {len(MIGRATIONS)}; update matsearch to read it"
        )


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database up to date, one migration a transaction."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number in range(version, len(MIGRATIONS)):
        # executescript commits what is open before it starts, so the transaction is written out.
        connection.executescript(f"BEGIN;{MIGRATIONS[number]};PRAGMA user_version = {number + 1};COMMIT;")
