"""What a journal's file looks like, and which files are refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import attrs

from llamagen_async.batch.journal.rows import AccountId
from llamagen_async.errors import JournalError

__all__ = ["prepare"]

_APPLICATION_ID: Final = 0x6C6C676A
"""Marks the file as ours in its header, so that nobody's database is taken for a journal."""
_SCHEMA: Final = 1
_TABLES: Final = """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE job (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        digest BLOB NOT NULL,
        request TEXT NOT NULL,
        urgent INTEGER NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        generation_id TEXT,
        generation TEXT,
        error TEXT,
        files TEXT,
        queued_at REAL NOT NULL,
        sent_at REAL,
        accepted_at REAL,
        ended_at REAL
    );
    CREATE INDEX job_by_state ON job (state, urgent, id);
"""
_COUNT: Final = "CREATE TEMP TABLE seen (digest BLOB PRIMARY KEY, number INTEGER NOT NULL)"
"""How often each content has come in this input: in a file, for there may be a million."""
_FOREIGN: Final = "it is a database of another program; name another file"


def prepare(path: Path | None, origin: AccountId, connection: sqlite3.Connection) -> None:
    """Make the tables in a new file; refuse a file that is not ours or not of this key.

    Args:
        path: Its name, for messages.
        origin: Whose generations it is to be about.
        connection: The file.

    Raises:
        JournalError: It is refused.
        sqlite3.Error: It can't be read or written.
    """
    if _marks(connection) == (0, 0):
        connection.execute("BEGIN IMMEDIATE")
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            for statement in _TABLES.split(";")[:-1]:
                connection.execute(statement)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", attrs.asdict(origin).items())
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        connection.execute("COMMIT")
    application, schema = _marks(connection)
    if application != _APPLICATION_ID:
        raise JournalError(f"{path}: {_FOREIGN}")
    if schema != _SCHEMA:
        raise JournalError(
            f"{path}: a newer version of llamagen-async wrote it (schema {schema}, this one "
            f"knows {_SCHEMA}); upgrade llamagen-async, or name another file"
        )
    meta = dict(connection.execute("SELECT name, value FROM meta"))
    if meta.get("base_url") != origin.base_url:
        raise JournalError(
            f"{path}: it is about generations at {meta.get('base_url')}, and this client talks "
            f"to {origin.base_url}; name another file, or another base URL"
        )
    if meta.get("account") != origin.account:
        raise JournalError(
            f"{path}: it is about generations of another API key; use that key, or name "
            "another file"
        )
    connection.execute(_COUNT)


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    return application, connection.execute("PRAGMA user_version").fetchone()[0]
