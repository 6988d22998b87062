"""The tables of a journal's file, and which files are refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import attrs

from llamagen_async.batch.journal.codec import AccountId
from llamagen_async.errors import JournalError
from llamagen_async.sqlite_file import claim

__all__ = ["prepare"]

_APPLICATION_ID: Final = 0x6C6C676A
"""The mark of a journal in a file's header, so that no other database is taken for one."""
_SCHEMA: Final = 1
"""The version of the tables below."""
_TABLES: Final = """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE job (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        digest BLOB NOT NULL,
        request TEXT NOT NULL,
        urgent INTEGER NOT NULL,
        label TEXT NOT NULL DEFAULT '',
        position INTEGER,
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
    CREATE INDEX job_by_generation ON job (generation_id) WHERE generation_id IS NOT NULL;
"""
_COUNT: Final = "CREATE TEMP TABLE seen (digest BLOB PRIMARY KEY, number INTEGER NOT NULL)"
"""How often each content has come in this input: in a file, for there may be a million."""


def prepare(path: Path | None, account: AccountId, connection: sqlite3.Connection) -> None:
    """Make the tables in a new file; refuse a file that is not ours or not of this key.

    Args:
        path: The file's name, for messages.
        account: The account whose generations the journal is to hold.
        connection: The file.

    Raises:
        JournalError: The file is refused.
        sqlite3.Error: The file can't be read or written.
    """

    def create(connection: sqlite3.Connection) -> None:
        for statement in _TABLES.split(";")[:-1]:
            connection.execute(statement)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", attrs.asdict(account).items())

    reason = claim(connection, application=_APPLICATION_ID, schema=_SCHEMA, create=create)
    if reason is not None:
        raise JournalError(f"{path}: {reason}")
    meta = dict(connection.execute("SELECT name, value FROM meta"))
    if meta.get("base_url") != account.base_url:
        raise JournalError(
            f"{path}: it is about generations at {meta.get('base_url')}, and this client talks "
            f"to {account.base_url}; name another file, or another base URL"
        )
    if meta.get("account") != account.account:
        raise JournalError(
            f"{path}: it is about generations of another API key; use that key, or name "
            "another file"
        )
    connection.execute(_COUNT)
