"""The file behind the SQLite ledger: one row per account, one short transaction per operation.

The account's note has a table of its own, which is made by who leaves the first one.

Everything here runs in one thread, which belongs to the store, and may block for as long as it
is told; the ledger (`sqlite`) is what an event loop talks to.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import sqlite3
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.account import Account
from llamagen_async.ratelimit.ledger import LONGEST_NOTE, StoreError
from llamagen_async.ratelimit.machine_clock import Anchor, Reading, advance, read_machine_clock

__all__ = ["Operation", "SQLiteStore"]

_T = TypeVar("_T")
Operation = Callable[[Account, Plan, float], _T]
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
_DAMAGED: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What goes wrong when a row is read that is not as it was written."""
_NUMBERS: Final = ("last_slot", "pauses", "burst", "accepted", "patience", "horizon", "most")
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


@attrs.define
class _Page:
    """An account as it is in its row, and what else the row holds."""

    account: Account
    plan: Plan
    text: str = ""
    """The row from which it was read, or to which it was written."""
    anchor: Anchor | None = None
    spent: list[float] = attrs.field(factory=list[float])
    """When the responses came, as the row has it."""
    horizon: float = 0.0
    """The longest window in seconds that any plan had."""
    most: int = 0
    """The largest limit that any plan had: no older requests than that matter."""
    encoded: list[str] = attrs.field(factory=list[str])
    """`spent` as text; empty if it was read and not written yet."""


class SQLiteStore:
    """One row of the file, and the thread that alone touches it.

    The file is opened when it is needed, and again after a failure.
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
        inherited: SQLiteStore | None,
    ) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="llamagen-async-ledger")
        self.process = os.getpid()
        self.ended: Future[None] | None = None
        self._inherited = inherited
        self._path = path
        self._key = key
        self._speed = key[1]
        self._lease = lease
        self._ahead = ahead
        self._now = now
        self._wall = wall
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._durable: bool | None = None
        self._patience = 0.0
        self._page: _Page | None = None

    def end(self) -> Future[None]:
        """Close the file and end the thread after all that was submitted before."""
        if self.ended is None:
            self.ended = self.thread.submit(self.close)
            self.thread.shutdown(wait=False)
        return self.ended

    def run(self, plan: Plan, operation: Operation[_T], *, write: bool, deadline: float) -> _T:
        """Do one operation in one transaction, before `deadline` on the monotonic clock."""

        def transact(connection: sqlite3.Connection) -> _T:
            return self._transact(connection, plan, operation, write=write)

        return self._insist(plan, transact, deadline)

    def paused_for(self, plan: Plan, deadline: float) -> float:
        """Say how long a refusal holds everyone, without a transaction that others wait for."""

        def look(connection: sqlite3.Connection) -> float:
            row = connection.execute(_LOAD, self._key).fetchone()
            if row is None:
                return 0.0
            page = self._page
            if page is None or page.text != row[0] or page.plan is not plan:
                page = self._read(row[0], plan)
            return max(0.0, page.account.paused_until - self._tick(page))

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
        self, plan: Plan, attempt: Callable[[sqlite3.Connection], _T], deadline: float
    ) -> _T:
        """Do it, and again where that helps, before `deadline`."""
        while True:
            try:
                return attempt(self._ready(plan, deadline))
            except sqlite3.Error as error:
                self.close()
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code in _PASSING and time.monotonic() < deadline:
                    time.sleep(random.uniform(0.001, 0.01))
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
        left = max(0.001, deadline - time.monotonic())
        if self._connection is not None and self._identity != _identity(self._path):
            # Moved away or deleted: nobody else would see what is written to it.
            self.close()
        connection = self._connection
        if connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=left, isolation_level=None)
            try:
                _prepare(connection, self._path)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._identity = _identity(self._path)
            self._durable = None
            self._patience = left
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
        return connection

    def _transact(
        self,
        connection: sqlite3.Connection,
        plan: Plan,
        operation: Operation[_T],
        *,
        write: bool,
    ) -> _T:
        # What an operation that fails leaves behind in memory is not what is in the file.
        page, self._page = self._page, None
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            row = connection.execute(_LOAD, self._key).fetchone()
            if page is None or row is None or page.text != row[0] or page.plan is not plan:
                page = self._read(row and row[0], plan)
            now = self._tick(page)
            answer = operation(page.account, plan, now)
            if write:
                _write(page, now)
                connection.execute(_SAVE, (*self._key, page.text))
            connection.execute("COMMIT")
        except BaseException:
            # An error may have ended the transaction already.
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            raise
        self._page = page
        return answer

    def _tick(self, page: _Page) -> float:
        """Carry the time on, and return it."""
        if self._now is not None:
            now = self._now()
        else:
            page.anchor = advance(page.anchor, read_machine_clock())
            now = round(page.anchor.now * self._speed, 6)
        if any(limit.aligned for limit in page.plan.limits):
            wall = self._wall() if self._wall is not None else time.time() * self._speed
            page.account.wall_offset = wall - now
        return now

    def _read(self, text: str | None, plan: Plan) -> _Page:
        """Return the account that was stored; without a text, a new one."""
        grace = max(_GRACE, _REAL_GRACE * self._speed)
        horizon = max(limit.per for limit in plan.limits)
        most = max(limit.limit for limit in plan.limits)
        if text is None:
            account = Account(plan, lease=self._lease, ahead=self._ahead, grace=grace)
            return _Page(account, plan, horizon=horizon, most=most)
        try:
            state = json.loads(text)
            clock = _check(state)
            return _Page(
                Account.load(plan, state, lease=self._lease, ahead=self._ahead, grace=grace),
                plan,
                text,
                Anchor(clock[0], Reading(*clock[1:])) if clock else None,
                state["spent"],
                max(horizon, state["horizon"]),
                max(most, state["most"]),
            )
        except _DAMAGED as error:
            raise StoreError(
                f"{self._path}: the count in it is damaged ({error!r}); move the file away; what "
                "was spent is then forgotten"
            ) from error


def _write(page: _Page, now: float) -> None:
    """Bring the page's text up to date."""
    state = page.account.dump()
    longest = max(limit.per for limit in page.plan.limits)
    if longest < page.horizon:
        # The account forgets what its own plan needs no more.
        before, after = page.spent, state["spent"]
        first, last = (bisect_right(before, now - age) for age in (page.horizon, longest))
        kept = after[bisect_right(after, now - longest) :]
        state["spent"] = before[first:last][-page.most :] + kept
    page.encoded = _encoded(page, state["spent"])
    page.spent = state.pop("spent")
    state["horizon"], state["most"] = page.horizon, page.most
    if (anchor := page.anchor) is not None:
        reading = anchor.reading
        state["clock"] = (anchor.now, reading.wall, reading.monotonic, reading.boot_id)
    page.text = f'{{"spent":[{",".join(page.encoded)}],{_encode(state)[1:]}'


def _encoded(page: _Page, spent: list[float]) -> list[str]:
    """Return times as text; those that were written before need not be encoded again."""
    before = page.spent
    first = bisect_left(before, spent[0]) if spent else 0
    known = len(before) - first
    if len(page.encoded) != len(before) or before[first:] != spent[:known]:
        return list(map(repr, spent))
    return [*page.encoded[first:], *map(repr, spent[known:])]


def _check(state: dict[str, Any]) -> list[Any] | None:
    """Raise if a row holds what would only fail later, or count wrongly; return its clock."""
    clock: list[Any] | None = state.get("clock")
    numbers = [
        *state["spent"],
        *(number for pair in state["held"] for number in pair),
        *(until for _, until in state["line"]),
        *(state[name] for name in _NUMBERS),
        *(state[name] for name in ("paused_until", "pause_set_at") if state[name] is not None),
        *(clock[:3] if clock else ()),
    ]
    if not all(map(math.isfinite, numbers)) or state["burst"] < 1:
        raise ValueError("a number that can't be")
    if state["spent"] != sorted(state["spent"]):
        raise ValueError("times out of order")
    return clock


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the table in a new file; refuse a file that is not ours."""
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
    connection.execute("PRAGMA journal_mode = WAL")


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    return application, connection.execute("PRAGMA user_version").fetchone()[0]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
