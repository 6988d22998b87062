"""The ledger of one machine: any number of processes share one SQLite file.

Each operation is one short transaction that takes the write lock, loads the account, decides
with the same code as the memory ledger, and stores it; nothing is locked while somebody waits
for a slot. A process that is killed at any instant leaves either all of an operation or nothing:
what it held counts until its lease is over, its place in the line until somebody else's turn.

One thread per ledger talks to the file, so that neither a slow disk nor another process's
transaction holds up the event loop. What was begun is finished, whoever stops waiting for it: a
slot that nobody is there to take goes back.

Time is the machine's (`machine_clock`), carried on in the file. The file must be on a local disk:
SQLite's locks can't be trusted on network file systems. It never contains the API key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import random
import sqlite3
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as futures_wait
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.account import Account
from llamagen_async.ratelimit.ledger import (
    Grant,
    LimitsSnapshot,
    Outcome,
    Refusal,
    StoreError,
    apply,
    settle,
    summarize,
)
from llamagen_async.ratelimit.machine_clock import Anchor, Reading, advance, read_machine_clock

__all__ = ["SQLiteLedger"]

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_Operation = Callable[[Account, Plan, float], _T]

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
_GRACE: Final = 5.0
"""Seconds that a place in the line is kept for a process that should have asked."""
_REAL_GRACE: Final = 0.5
"""As many real seconds at least: a process is not quicker because the server's clock is."""
_LOCK_SHARE: Final = 0.8
"""How much of an operation's time may pass in waiting for other processes."""
_PASSING: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL})
"""What SQLite reports when another process was quicker, and what it does not always wait out."""
_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "another program keeps it locked; end that program, or try again",
    sqlite3.SQLITE_PROTOCOL: "another program keeps it locked; end that program, or try again",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database; name another file",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away, and what was spent is forgotten",
    sqlite3.SQLITE_READONLY: "it may not be written; change its permissions or name another file",
    sqlite3.SQLITE_PERM: "it may not be written; change its permissions or name another file",
    sqlite3.SQLITE_CANTOPEN: "name a file, not a folder, in a folder that may be written",
    sqlite3.SQLITE_FULL: "the disk is full; make room on it",
    sqlite3.SQLITE_IOERR: "the disk fails; name a file on another one",
}


class SQLiteLedger:
    """Remembers in a file that all processes of this machine may use at once.

    May be used from any thread and event loop. The file is opened by the first operation. After
    `aclose` an operation still works; it opens the file and lets go of it again.

    Args:
        path: The file. Missing folders are made.
        name: Whose requests are counted, such as a hash of key and server; never the API key.
        plan: Which windows to count. Who counts shorter windows than others that use the name
            does not forget what the others need.
        speed: Seconds of the server's clock in a real one. Each speed has a count of its own.
        lease: Seconds of the server's clock after which a slot that nobody reported on counts as
            spent; longer than any request may take.
        ahead: How many seconds of the server's clock before a slot is back it is given to who is
            next, so that asking costs no time.
        timeout: Real seconds after which an operation raises `StoreError` instead of waiting.
        now: The time in seconds of the server's clock, instead of the machine's. For tests.
        wall: The unix time in seconds of the server's clock, for windows that are aligned to it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str,
        plan: Plan,
        speed: float = 1.0,
        lease: float,
        ahead: float = 1.0,
        timeout: float = 2.0,
        now: Callable[[], float] | None = None,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self._path = Path(path).expanduser().absolute()
        self._plan = plan
        self._timeout = timeout
        self._book = _Book((name, float(speed)), lease, ahead, now, wall)
        self._guard = threading.Lock()
        self._worker: _Worker | None = None
        self._closed = False
        self._listeners: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"SQLiteLedger({str(self._path)!r}, {self._plan.name})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        self._plan = plan

    async def reserve(self, ticket: str) -> Grant | Refusal:
        """Hold a slot if one is free, else keep a place in the line for `ticket`.

        If this is cancelled, or fails, neither the slot nor the place is kept.
        """
        return await self._run(
            lambda account, _, now: apply(account, ticket, now), undo=partial(self._undo, ticket)
        )

    async def leave(self, ticket: str) -> None:
        """Give up the place in the line."""
        await self._run(lambda account, _plan, _now: account.leave(ticket), notify=True)

    async def commit(self, grant: Grant, outcome: Outcome) -> None:
        """Spend the slot; pause everyone if the server refused the request."""
        await self._run(lambda account, plan, now: settle(account, plan, grant, outcome, now))

    async def give_back(self, grant: Grant) -> None:
        """Free the slot of a request that never left."""
        await self._run(lambda account, _plan, _now: account.give_back(grant.slot), notify=True)

    async def record(self, number: int) -> None:
        """Count requests that were spent without a slot of this ledger."""
        await self._run(lambda account, _, now: account.spend_unasked(number, now))

    async def projected(self, position: int) -> Refusal:
        """Say how long a request with `position` others before it waits at least."""

        def look(account: Account, _plan: Plan, now: float) -> Refusal:
            wait = account.projected(now, position)
            return Refusal(max(0.0, wait.ask_at - now), wait.limit)

        return await self._run(look, write=False)

    async def snapshot(self) -> LimitsSnapshot:
        """Return what is known now."""
        return await self._run(summarize, write=False)

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when this object gave a slot back or left the line.

        What other processes do is not noticed; who waits asks again at the time it was told.
        """
        with self._guard:
            self._listeners = [*self._listeners, changed]

        def unsubscribe() -> None:
            with self._guard:
                self._listeners = [kept for kept in self._listeners if kept is not changed]

        return unsubscribe

    async def aclose(self) -> None:
        """Wait for what is running, close the file and end the thread."""
        with self._guard:
            self._closed = True
            worker, self._worker = self._worker, None
        if worker is None:
            return
        ended = asyncio.wrap_future(worker.end())
        # What hangs in the operating system can't be ended, nor is it waited for.
        if (await asyncio.wait((ended,), timeout=2 * self._timeout))[0]:
            worker.join()

    async def _run(
        self,
        operation: _Operation[_T],
        *,
        write: bool = True,
        notify: bool = False,
        undo: Callable[[Future[_T]], None] | None = None,
    ) -> _T:
        job = self._submit(operation, write=write, notify=notify)
        future = asyncio.wrap_future(job)
        done = False
        try:
            # Unlike `await future`, this does not cancel the operation with its caller.
            done = bool((await asyncio.wait((future,), timeout=self._timeout))[0])
        finally:
            if not done:
                future.add_done_callback(_report)
                if undo is not None:
                    undo(job)
        if not done:
            raise StoreError(
                f"{self._path}: no answer within {self._timeout:g} s; name a file on a local disk"
            )
        return future.result()

    def _undo(self, ticket: str, job: Future[Grant | Refusal]) -> None:
        """Give back what `job` gets, or already got."""

        def undo(account: Account, _plan: Plan, _now: float) -> None:
            answer = job.result() if job.exception() is None else None
            if isinstance(answer, Grant):
                account.give_back(answer.slot)
            else:
                account.leave(ticket)

        self._submit(undo, write=True, notify=True, after=job).add_done_callback(_report)

    def _submit(
        self,
        operation: _Operation[_T],
        *,
        write: bool,
        notify: bool,
        after: Future[Any] | None = None,
    ) -> Future[_T]:
        deadline = time.monotonic() + _LOCK_SHARE * self._timeout

        def work(file: _File) -> _T:
            if after is not None:
                # One thread does first things first; but `aclose` may have replaced it.
                futures_wait((after,))
            answer = file.run(self._book, self._plan, operation, write=write, deadline=deadline)
            if notify:
                for changed in self._listeners:
                    changed()
            return answer

        with self._guard:
            worker = self._worker
            if worker is None or worker.process != os.getpid():
                # A thread does not survive a fork, and a connection must not be used after one.
                worker = self._worker = _Worker(self._path, inherited=worker)
            job = worker.submit(work)
            if self._closed:
                worker.end()
                self._worker = None
            return job


def _report(future: asyncio.Future[Any] | Future[Any]) -> None:
    """Say that something failed which nobody waits for any more."""
    if not future.cancelled() and (error := future.exception()) is not None:
        _logger.warning("a slot may count for longer, or for less, than it should: %s", error)


class _Worker:
    """One thread, and the file that only it touches."""

    def __init__(self, path: Path, *, inherited: _Worker | None) -> None:
        self.process = os.getpid()
        self._inherited = inherited
        """The parent process's; kept, because to close it here would disturb the parent."""
        self._file = _File(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="llamagen-async-ledger")

    def submit(self, work: Callable[[_File], _T]) -> Future[_T]:
        """Do it after all that was submitted before."""
        return self._thread.submit(work, self._file)

    def end(self) -> Future[None]:
        """Close the file and end the thread after all that was submitted before."""
        closed = self._thread.submit(self._file.close)
        self._thread.shutdown(wait=False)
        return closed

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.shutdown(wait=True)


class _File:
    """The connection to the file: opened when it is needed, and again after a failure."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._durable: bool | None = None
        self._patience = 0.0

    def run(
        self, book: _Book, plan: Plan, operation: _Operation[_T], *, write: bool, deadline: float
    ) -> _T:
        """Do one operation in one transaction, before `deadline` on the monotonic clock."""
        while True:
            try:
                connection = self._ready(plan, deadline)
                return self._transact(connection, book, plan, operation, write=write)
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
        book: _Book,
        plan: Plan,
        operation: _Operation[_T],
        *,
        write: bool,
    ) -> _T:
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            row = connection.execute(_LOAD, book.key).fetchone()
            try:
                page = book.read(row and row[0], plan)
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                raise StoreError(
                    f"{self._path}: the count in it is damaged ({error}); move the file away, and "
                    "what was spent is forgotten"
                ) from error
            answer = operation(page.account, plan, page.now)
            if write:
                connection.execute(_SAVE, (*book.key, page.text()))
            connection.execute("COMMIT")
        except BaseException:
            # An error may have ended the transaction already.
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            raise
        return answer


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the table in a new file; refuse a file that is not ours."""
    if _marks(connection) == (0, 0):
        connection.execute("BEGIN IMMEDIATE")
        # Another process may have made it meanwhile.
        if _marks(connection) == (0, 0):
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreError(f"{path}: it is a database of another program; name another file")
            connection.execute(_CREATE)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        connection.execute("COMMIT")
    application, schema = _marks(connection)
    if application != _APPLICATION_ID:
        raise StoreError(f"{path}: it is a database of another program; name another file")
    if schema != _SCHEMA:
        raise StoreError(
            f"{path}: a newer version of llamagen-async wrote it (schema {schema}, this one knows "
            f"{_SCHEMA}); upgrade llamagen-async, or name another file"
        )
    connection.execute("PRAGMA journal_mode = WAL")


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    return application, connection.execute("PRAGMA user_version").fetchone()[0]


@attrs.frozen
class _Page:
    """An account as it was loaded at one moment, and what else its row holds."""

    account: Account
    now: float
    anchor: Anchor | None
    older: list[float]
    """What this plan has forgotten, and another that counts longer windows has not."""
    horizon: float
    """The longest window in seconds that any plan had."""
    most: int
    """The largest limit that any plan had: no older requests than that matter."""

    def text(self) -> str:
        """Return what to store."""
        state = self.account.dump()
        state["spent"] = self.older + state["spent"]
        state["horizon"] = [self.horizon, self.most]
        if self.anchor is not None:
            state["clock"] = [self.anchor.now, *attrs.astuple(self.anchor.reading)]
        return json.dumps(state, separators=(",", ":"))


@attrs.frozen
class _Book:
    """Knows how an account is written into its row."""

    key: tuple[str, float]
    """The row: name and speed."""
    lease: float
    ahead: float
    now: Callable[[], float] | None
    wall: Callable[[], float] | None

    def read(self, text: str | None, plan: Plan) -> _Page:
        """Return the account that was stored (`None`: a new one) at the present moment."""
        speed = self.key[1]
        state = None if text is None else _checked(json.loads(text))
        anchor = None
        if self.now is not None:
            now = self.now()
        else:
            clock = state and state.get("clock")
            anchor = advance(
                Anchor(clock[0], Reading(*clock[1:])) if clock else None, read_machine_clock()
            )
            now = round(anchor.now * speed, 6)
        grace = max(_GRACE, _REAL_GRACE * speed)
        horizon, most = max(one.per for one in plan.limits), max(one.limit for one in plan.limits)
        older: list[float] = []
        if state is None:
            account = Account(plan, lease=self.lease, ahead=self.ahead, grace=grace)
        else:
            spent = state["spent"]
            forgotten = bisect_right(spent, now - horizon)
            horizon, most = max(horizon, state["horizon"][0]), max(most, state["horizon"][1])
            older = spent[bisect_right(spent, now - horizon) : forgotten][-most:]
            state["spent"] = spent[forgotten:]
            account = Account.load(plan, state, lease=self.lease, ahead=self.ahead, grace=grace)
        if any(limit.aligned for limit in plan.limits):
            account.wall_offset = (self.wall() if self.wall else time.time() * speed) - now
        return _Page(account, now, anchor, older, horizon, most)


def _checked(state: dict[str, Any]) -> dict[str, Any]:
    """Raise if a row holds something that would only fail later, or count wrongly."""
    spent, held, line = state["spent"], state["held"], state["line"]
    clock = state.get("clock") or (0.0, 0.0, 0.0, None)
    numbers = [
        *spent,
        *(one for pair in held for one in pair),
        *(until for _, until in line),
        *(state[key] for key in ("last_slot", "pauses", "burst", "accepted", "patience")),
        *(state[key] for key in ("paused_until", "pause_set_at") if state[key] is not None),
        *state["horizon"],
        *clock[:3],
    ]
    if not all(map(math.isfinite, numbers)) or spent != sorted(spent) or len(clock) != 4:
        raise ValueError("it does not make sense")
    return state
