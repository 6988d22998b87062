"""The file behind the SQLite ledger: one row per account, one short transaction per operation.

The account's note has a table of its own, which is made by who leaves the first one.

Everything here may block until the deadline it is told; without one nothing does: what might is
refused. Who calls it, and where, is the worker's business (`sqlite_worker`).
"""

from __future__ import annotations

import contextlib
import math
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from time import time as wall_time
from typing import Final, TypeVar

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.ledger import LONGEST_NOTE, StoreError
from llamagen_async.ratelimit.sqlite.machine_clock import advance, read_machine_clock
from llamagen_async.ratelimit.sqlite.row import DAMAGED, Row
from llamagen_async.ratelimit.window_log import WindowLog

__all__ = ["NotAtOnceError", "Operation", "SQLiteStore"]

_T = TypeVar("_T")
Operation = Callable[[WindowLog, Plan, float], _T]
"""What is done to an account of a plan at a time."""

_APPLICATION_ID: Final = 0x6C6C6771
"""Marks the file as ours in its header, so that nobody's database is taken for a ledger."""
_SCHEMA: Final = 1
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
# Not made with the file: files of before have none, and a program that learns nothing needs none.
_CREATE_NOTE: Final = """
    CREATE TABLE IF NOT EXISTS note (
        name TEXT NOT NULL, speed REAL NOT NULL, text TEXT NOT NULL, PRIMARY KEY (name, speed)
    )
"""
_HAS_NOTES: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'note'"
_LOAD_NOTE: Final = """
    SELECT text FROM note
    WHERE name = ? AND speed = ? AND typeof(text) = 'text' AND length(CAST(text AS BLOB)) <= ?
"""
_SAVE_NOTE: Final = """
    INSERT INTO note (name, speed, text) VALUES (?, ?, ?)
    ON CONFLICT (name, speed) DO UPDATE SET text = excluded.text
"""
_GRACE: Final = 5.0
"""Seconds that a place in the line is kept for a process that should have asked."""
_REAL_GRACE: Final = 0.5
"""As many real seconds at least: a process is not quicker because the server's clock is."""
_PASSING: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)
"""What SQLite reports when another process was quicker, and what it does not always wait out."""
_FOREIGN: Final = "it is a database of another program; name another file"
_LOCKED: Final = "another program keeps it locked; end that program, or try again"
_PROTECTED: Final = "it may not be written; change its permissions, or name another file"
_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_CANTOPEN: "name a file, not a folder, in a folder that may be written",
    sqlite3.SQLITE_CORRUPT: "move it away; what was spent is then forgotten",
    sqlite3.SQLITE_FULL: "make room on the disk",
    sqlite3.SQLITE_IOERR: "name a file on a disk that works",
    sqlite3.SQLITE_NOTADB: "name another file",
    sqlite3.SQLITE_PERM: _PROTECTED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_READONLY: _PROTECTED,
}
_CHECKPOINT_AFTER: Final = 256
"""Writes after which what they have left in the log is carried into the file."""


class NotAtOnceError(Exception):
    """What was to be done at once may take time: it was not done."""


class SQLiteStore:
    """One row of the file, which is opened when it is needed, and again after a failure.

    ClientCore raise `StoreError`, or `NotAtOnceError` if they were not given a deadline.
    """

    def __init__(
        self,
        path: Path,
        key: tuple[str, float],
        *,
        lease: float,
        ahead: float,
        now: Callable[[], float] | None,
        wall: Callable[[], float] | None,
    ) -> None:
        self._path = path
        self._key = key
        self._speed = key[1]
        self._lease = lease
        self._ahead = ahead
        self._now = now
        self._wall = wall
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._has_log = False
        """Whether what is committed goes into a log, and not into the file at once."""
        self._durable: bool | None = None
        self._patience = 0.0
        self._written = 0
        """Writes since the last checkpoint."""
        self._row: Row | None = None
        """The account's, as this store has read or written it last."""

    def run(
        self, plan: Plan, operation: Operation[_T], *, write: bool, deadline: float | None
    ) -> _T:
        """Do one operation in one transaction, before `deadline`."""

        def transact(connection: sqlite3.Connection) -> _T:
            return self._transact(connection, plan, operation, write=write)

        return self._insist(plan, transact, deadline)

    def paused_for(self, plan: Plan, deadline: float | None) -> float:
        """Say how long a refusal holds everyone, without a transaction that others wait for."""

        def look(connection: sqlite3.Connection) -> float:
            found = connection.execute(_LOAD, self._key).fetchone()
            if found is None:
                return 0.0
            row = self._row
            if row is None or row.text != found[0] or row.plan is not plan:
                row = self._read(found[0], plan)
            return max(0.0, row.account.refusals.paused_until - self._tick(row))

        return self._insist(plan, look, deadline)

    def recall(self, plan: Plan, deadline: float) -> str | None:
        """Return the account's note."""

        def look(connection: sqlite3.Connection) -> str | None:
            if connection.execute(_HAS_NOTES).fetchone() is None:
                return None
            row = connection.execute(_LOAD_NOTE, (*self._key, LONGEST_NOTE)).fetchone()
            return None if row is None else str(row[0])

        return self._insist(plan, look, deadline)

    def remember(self, text: str, plan: Plan, deadline: float) -> None:
        """Replace the account's note, in a transaction of its own."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(_CREATE_NOTE)
                connection.execute(_SAVE_NOTE, (*self._key, text))
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.rollback()
                raise

        self._insist(plan, write, deadline)

    def _insist(
        self, plan: Plan, attempt: Callable[[sqlite3.Connection], _T], deadline: float | None
    ) -> _T:
        """Do it, and again where that helps, before `deadline`; without one, now or not at all."""
        if deadline is None:
            try:
                return attempt(self._ready_at_once(plan))
            except (sqlite3.Error, OSError) as error:
                raise NotAtOnceError from error
        while True:
            try:
                return attempt(self._ready(plan, deadline))
            except sqlite3.Error as error:
                self.close()
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code in _PASSING and monotonic() < deadline:
                    sleep(random.uniform(0.001, 0.01))
                    continue
                advice = _ADVICE.get(code, "name another file")
                raise StoreError(f"{self._path}: {error}: {advice}") from error
            except OSError as error:
                self.close()
                raise StoreError(f"{error}: name a file in a folder that may be written") from error

    def close(self) -> None:
        """Let go of the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _ready(self, plan: Plan, deadline: float) -> sqlite3.Connection:
        left = max(0.001, deadline - monotonic())
        if self._connection is not None and self._identity != _identity(self._path):
            # Moved away or deleted: nobody else would see what is written to it.
            self.close()
        connection = self._connection
        if connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._path, timeout=left, isolation_level=None, check_same_thread=False
            )
            try:
                self._has_log = _prepare(connection, self._path) == "wal"
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._identity = _identity(self._path)
            self._durable = None
            self._patience = left
            self._written = 0
        if not 0.9 * self._patience <= left <= self._patience:
            connection.execute(f"PRAGMA busy_timeout = {math.ceil(left * 1000)}")
            self._patience = left
        # With NORMAL a killed process loses nothing, but a power failure may lose the last few
        # transactions. A window of a minute is over when the machine is up again; what was spent
        # of a day's quota must not be forgotten, and is worth waiting for the disk.
        durable = bool(plan.quotas)
        if durable != self._durable:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        if self._written >= _CHECKPOINT_AFTER:
            self._written = 0
            # What fails is done after the next so many writes; it changes nothing.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return connection

    def _ready_at_once(self, plan: Plan) -> sqlite3.Connection:
        connection = self._connection
        if (
            connection is None
            or not self._has_log
            or self._durable is not False
            or plan.quotas
            or self._written >= _CHECKPOINT_AFTER
            or self._identity != _identity(self._path)
        ):
            raise NotAtOnceError
        if self._patience:
            connection.execute("PRAGMA busy_timeout = 0")
            self._patience = 0.0
        return connection

    def _transact(
        self,
        connection: sqlite3.Connection,
        plan: Plan,
        operation: Operation[_T],
        *,
        write: bool,
    ) -> _T:
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        # What an operation that fails leaves behind in memory is not what is in the file.
        row, self._row = self._row, None
        try:
            found = connection.execute(_LOAD, self._key).fetchone()
            if row is None or found is None or row.text != found[0] or row.plan is not plan:
                row = self._read(found and found[0], plan)
            now = self._tick(row)
            answer = operation(row.account, plan, now)
            if write:
                connection.execute(_SAVE, (*self._key, row.write(now)))
                self._written += 1
            connection.execute("COMMIT")
        except BaseException:
            # An error may have ended the transaction already.
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            raise
        self._row = row
        return answer

    def _tick(self, row: Row) -> float:
        """Carry the time on, and return it."""
        if self._now is not None:
            now = self._now()
        else:
            row.anchor = advance(row.anchor, read_machine_clock())
            now = round(row.anchor.now * self._speed, 6)
        if any(limit.aligned for limit in row.plan.limits):
            wall = self._wall() if self._wall is not None else wall_time() * self._speed
            row.account.wall_offset = wall - now
        return now

    def _read(self, text: str | None, plan: Plan) -> Row:
        """Return the account that was stored; without a text, a new one."""
        durations = {
            "lease": self._lease,
            "ahead": self._ahead,
            "grace": max(_GRACE, _REAL_GRACE * self._speed),
        }
        if text is None:
            return Row.new(WindowLog(plan, **durations), plan)
        try:
            return Row.read(text, plan, **durations)
        except DAMAGED as error:
            raise StoreError(
                f"{self._path}: the count in it is damaged ({error!r}); move the file away; what "
                "was spent is then forgotten"
            ) from error


def _prepare(connection: sqlite3.Connection, path: Path) -> str:
    """Make the table in a new file; refuse a file that is not ours; return the journal's mode."""
    if _marks(connection) == (0, 0):
        connection.execute("BEGIN IMMEDIATE")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        # Another process may have made it meanwhile.
        if _marks(connection) == (0, 0) and not tables:
            connection.execute(_CREATE)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        connection.execute("COMMIT")
    application, schema = _marks(connection)
    if application != _APPLICATION_ID:
        raise StoreError(f"{path}: {_FOREIGN}")
    if schema != _SCHEMA:
        raise StoreError(
            f"{path}: a newer version of llamagen-async wrote it (schema {schema}, this one knows "
            f"{_SCHEMA}); upgrade llamagen-async, or name another file"
        )
    # Who commits must not have to carry the log into the file.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    mode: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    return mode


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    return application, connection.execute("PRAGMA user_version").fetchone()[0]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
