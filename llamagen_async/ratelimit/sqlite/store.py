"""The file behind the SQLite ledger: one row per count, one short transaction per operation.

The text that is kept beside the count has a table of its own, which is made with the first text.

Everything here may block until its deadline, so it runs in a thread of its own (see `ledger`).
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from time import time as wall_time
from typing import Final, TypeVar

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.protocol import MAX_BLOB, StoreError
from llamagen_async.ratelimit.sqlite.machine_clock import advance, is_ahead, read_machine_clock
from llamagen_async.ratelimit.sqlite.row import DAMAGED, StoredWindowLog
from llamagen_async.ratelimit.window_log import LedgerTimes, WindowLog
from llamagen_async.sqlite_file import claim, connect, error_code, explain, file_id

__all__ = ["SQLiteStore"]

_T = TypeVar("_T")
_Operation = Callable[[WindowLog, float], _T]
"""An operation on a window log at a time."""

_APPLICATION_ID: Final = 0x6C6C6771
"""Marks the file as ours in its header, so that nobody's database is taken for a ledger."""
_SCHEMA: Final = 2
_CREATE: Final = """
    CREATE TABLE account (
        name TEXT NOT NULL, speed REAL NOT NULL, state TEXT NOT NULL, PRIMARY KEY (name, speed)
    )
"""
_LOAD: Final = "SELECT state FROM account WHERE name = ? AND speed = ?"
_SAVE: Final = """
    INSERT INTO account (name, speed, state) VALUES (?, ?, ?)
    ON CONFLICT (name, speed) DO UPDATE SET state = excluded.state
"""
# Not made with the file: older files have none, and a program that learns nothing needs none.
_CREATE_BLOB: Final = """
    CREATE TABLE IF NOT EXISTS note (
        name TEXT NOT NULL, speed REAL NOT NULL, text TEXT NOT NULL, PRIMARY KEY (name, speed)
    )
"""
_HAS_BLOBS: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'note'"
_LOAD_BLOB: Final = """
    SELECT text FROM note
    WHERE name = ? AND speed = ? AND typeof(text) = 'text' AND length(CAST(text AS BLOB)) <= ?
"""
_SAVE_BLOB: Final = """
    INSERT INTO note (name, speed, text) VALUES (?, ?, ?)
    ON CONFLICT (name, speed) DO UPDATE SET text = excluded.text
"""
_PASSING: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)
"""Errors that pass: another process was quicker, and SQLite does not always wait for it."""
_DAMAGED: Final = "move it away; what was spent is then forgotten"
_ROUNDING: Final = 1.0
"""Seconds by which a time that is over may seem to be still to come: times are kept in rounded
numbers."""


class SQLiteStore:
    """One row of the file, which is opened when it is needed, and again after a failure.

    Operations raise `StoreError`. One thread at a time may use it.

    Args:
        path: The file.
        key: The count's name and speed.
        times: The times to keep to.
        timeout: Real seconds to wait for another process's lock.
        now: The time in seconds of the server's clock, instead of the machine's.
        wall: The unix time in seconds of the server's clock.
    """

    def __init__(
        self,
        path: Path,
        key: tuple[str, float],
        times: LedgerTimes,
        *,
        timeout: float,
        now: Callable[[], float] | None,
        wall: Callable[[], float] | None,
    ) -> None:
        self._path = path
        self._key = key
        self._speed = key[1]
        self._times = times
        self._timeout = timeout
        self._now = now
        self._wall = wall
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._synchronous = ""
        """The setting by which SQLite waits for the disk; empty if it is not made yet."""

    def run(self, plan: Plan, operation: _Operation[_T], *, write: bool = True) -> _T:
        """Do one operation in one transaction."""

        def work(connection: sqlite3.Connection) -> _T:
            row = self._load(connection, plan)
            now = self._tick(row)
            if row.latest > now + _ROUNDING:
                raise self._damaged("a time that is still to come")
            answer = operation(row.log, now)
            if write:
                connection.execute(_SAVE, (*self._key, row.write(now)))
            return answer

        return self._insist(plan, partial(_transact, work, write=write))

    def load_blob(self, plan: Plan) -> str | None:
        """Return the text."""

        def read(connection: sqlite3.Connection) -> str | None:
            if connection.execute(_HAS_BLOBS).fetchone() is None:
                return None
            row = connection.execute(_LOAD_BLOB, (*self._key, MAX_BLOB)).fetchone()
            return None if row is None else str(row[0])

        return self._insist(plan, read)

    def save_blob(self, text: str, plan: Plan) -> None:
        """Replace the text, in a transaction of its own."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_CREATE_BLOB)
            connection.execute(_SAVE_BLOB, (*self._key, text))

        self._insist(plan, partial(_transact, work, write=True))

    def _insist(self, plan: Plan, attempt: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run an attempt, again if that helps."""
        deadline = monotonic() + self._timeout
        while True:
            try:
                return attempt(self._ready(plan))
            except (sqlite3.Error, OSError) as error:
                self.close()
                if error_code(error) in _PASSING and monotonic() < deadline:
                    sleep(random.uniform(0.001, 0.01))
                    continue
                raise StoreError(explain(self._path, error, damaged=_DAMAGED)) from error

    def close(self) -> None:
        """Let go of the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _ready(self, plan: Plan) -> sqlite3.Connection:
        if self._connection is not None and self._identity != file_id(self._path):
            # The file was moved away or deleted: nobody else would see what is written to it.
            self.close()
        connection = self._connection
        if connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = connect(self._path, timeout=self._timeout)
            try:
                _prepare(connection, self._path)
            except BaseException:
                connection.close()
                raise
            self._connection, self._synchronous = connection, ""
            self._identity = file_id(self._path)
        # With NORMAL a killed process loses nothing, but a power failure may lose the last few
        # transactions. A window of a minute is over when the machine is up again; what was spent
        # of a day's quota must not be forgotten, and is worth waiting for the disk.
        synchronous = "FULL" if plan.quotas else "NORMAL"
        if self._synchronous != synchronous:
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            self._synchronous = synchronous
        return connection

    def _tick(self, row: StoredWindowLog) -> float:
        """Bring the row's time up to now, and return it."""
        if self._now is not None:
            now = self._now()
        else:
            reading = read_machine_clock()
            if row.anchor is not None and is_ahead(row.anchor, reading):
                raise self._damaged("a clock that is ahead of this machine's")
            row.anchor = advance(row.anchor, reading)
            now = round(row.anchor.now * self._speed, 6)
        if any(limit.aligned for limit in row.plan.limits):
            wall = self._wall() if self._wall is not None else wall_time() * self._speed
            row.log.wall_offset = wall - now
        return now

    def _load(self, connection: sqlite3.Connection, plan: Plan) -> StoredWindowLog:
        """Return the row that was stored, or a new one."""
        found = connection.execute(_LOAD, self._key).fetchone()
        if found is None:
            return StoredWindowLog.new(WindowLog(plan, self._times), plan)
        try:
            return StoredWindowLog.read(found[0], plan, self._times)
        except DAMAGED as error:
            raise self._damaged(repr(error)) from error

    def _damaged(self, reason: str) -> StoreError:
        return StoreError(
            f"{self._path}: the count in it is damaged ({reason}); move the file away; what was "
            "spent is then forgotten"
        )


def _transact(
    work: Callable[[sqlite3.Connection], _T], connection: sqlite3.Connection, *, write: bool
) -> _T:
    """Do the work in one transaction: all of it, or nothing."""
    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        answer = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        # An error may have ended the transaction already.
        with contextlib.suppress(sqlite3.Error):
            connection.rollback()
        raise
    return answer


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the table in a new file; refuse a file that is not ours."""
    reason = claim(
        connection,
        application=_APPLICATION_ID,
        schema=_SCHEMA,
        create=lambda new_file: new_file.execute(_CREATE),
    )
    if reason is not None:
        raise StoreError(f"{path}: {reason}")
    connection.execute("PRAGMA journal_mode = WAL")
