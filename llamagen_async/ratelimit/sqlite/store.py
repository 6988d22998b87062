"""The file behind SQLite ledgers, and the one thread that uses it: one short transaction a call.

Everything that may block is done in that thread, in the order in which it was asked for: neither a
slow disk nor another process's transaction holds up an event loop. All ledgers of a process that
use the same file share both.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import attrs

from llamagen_async.sqlite_file import (
    claim,
    connect,
    error_code,
    explain,
    file_id,
    in_thread,
    not_forking,
    transaction,
)
from llamagen_async.stored_values import StoreError

__all__ = ["SQLiteStore"]

_T = TypeVar("_T")
_Work = Callable[[sqlite3.Connection], _T]

_APPLICATION_ID: Final = 0x6C6C6771
"""Marks the file as ours in its header, so that nobody's database is taken for a ledger."""
_SCHEMA: Final = 2
_CREATE: Final = """
    CREATE TABLE account (
        name TEXT NOT NULL, speed REAL NOT NULL, state TEXT NOT NULL, PRIMARY KEY (name, speed)
    )
"""
# Apart from the count, which is written often; older files have none.
_CREATE_BLOBS: Final = """
    CREATE TABLE IF NOT EXISTS note (
        name TEXT NOT NULL, speed REAL NOT NULL, text TEXT NOT NULL, PRIMARY KEY (name, speed)
    )
"""
_PASSING: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)
"""Errors that pass: another process was quicker, and SQLite does not always wait for it."""
_DAMAGED: Final = "move it away; what was spent is then forgotten"
_LOCK_SHARE: Final = 0.8
"""Share of an operation's timeout that may pass in waiting for other processes."""
_inherited: Final[list[sqlite3.Connection | None]] = []
"""Connections of the processes from which this one was forked. They are kept, since closing them
here would disturb those processes."""


class SQLiteStore:
    """A file and its thread. May be used from any thread and event loop.

    The thread starts when it is needed, and ends when the last user has left.

    Args:
        path: The file. Missing folders are made.
        timeout: Real seconds that an operation may take, and those before it: it is given up when
            none has ended for so long.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 2.0) -> None:
        self.path: Path = Path(path).expanduser().absolute()
        self.timeout = timeout
        self._guard = threading.Lock()
        self._users = WeakKeyDictionary[object, set[asyncio.Future[Any]]]()
        """The users and what they have asked for that has not ended."""
        self._ended_at = -math.inf
        """The time at which the last work has ended, in monotonic seconds."""
        self._thread: ThreadPoolExecutor | None = None
        self._file: _File
        """The file, as that thread uses it."""

    @classmethod
    def shared(cls, path: str | os.PathLike[str]) -> SQLiteStore:
        """Return the store of a file, the same one for all in this process."""
        store = cls(path)
        return _shared.setdefault(store.path, store)

    def submit(
        self, user: object, work: _Work[_T], *, write: bool = False, durable: bool = False
    ) -> asyncio.Future[_T]:
        """Do some work in one transaction, after all that was submitted before.

        The thread lives until its last `user` has left, or was collected. What was written and is
        `durable` must survive a power failure.
        """
        with not_forking(), self._guard:
            jobs = self._users.setdefault(user, set())
            if self._thread is None or not self._file.is_ours:
                # With a connection of its own: none survives a fork.
                self._file = _File(self.path, _LOCK_SHARE * self.timeout)
                self._thread = ThreadPoolExecutor(1, "llamagen-async-ledger")
            transact = partial(self._file.transact, work, write=write, durable=durable)
            job = in_thread(asyncio.get_running_loop(), self._thread, transact)
        jobs.add(job)
        job.add_done_callback(jobs.discard)
        job.add_done_callback(self.tell_end)
        return job

    def tell_end(self, _job: object) -> None:
        """Note that some work has ended."""
        self._ended_at = monotonic()

    def time_left(self, asked_at: float) -> float:
        """Return the seconds until nothing has ended for as long as the timeout, or been asked."""
        return max(asked_at, self._ended_at) + self.timeout - monotonic()

    async def leave(self, user: object) -> None:
        """Wait for what a user has asked for; close the file if no other is left."""
        loop, within = asyncio.get_running_loop(), 2 * self.timeout
        while jobs := [job for job in self._users.get(user, ()) if job.get_loop() is loop]:
            if not (await asyncio.wait(jobs, timeout=within))[0]:
                break  # one that hangs in the operating system can't be ended, nor is it waited for
        with not_forking(), self._guard:
            self._users.pop(user, None)
            if self._users or self._thread is None or not self._file.is_ours:
                return
            thread, self._thread, file = self._thread, None, self._file
        ended = in_thread(loop, thread, file.close)
        thread.shutdown(wait=False)
        if (await asyncio.wait((ended,), timeout=within))[0]:
            thread.shutdown(wait=True)


_shared: Final = WeakValueDictionary[Path, SQLiteStore]()


@attrs.define(eq=False)
class _File:
    """The file, which is opened when it is needed, and again after a failure.

    One thread at a time may use it.
    """

    _path: Path
    _timeout: float
    """Real seconds that may pass in waiting for other processes."""
    _process: int = attrs.Factory(os.getpid)
    _connection: sqlite3.Connection | None = None
    _identity: tuple[int, int] | None = None
    _is_durable: bool | None = None
    """Whether SQLite waits for the disk; `None` if that is not said yet."""

    @not_forking()
    def transact(self, work: _Work[_T], *, write: bool, durable: bool) -> _T:
        """Do some work in one transaction, again if that helps."""
        deadline = monotonic() + self._timeout
        while True:
            try:
                connection = self._ready()
                if write and durable != self._is_durable:
                    # With NORMAL a killed process loses nothing, but a power failure may.
                    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                    self._is_durable = durable
                with transaction(connection, write=write):
                    return work(connection)
            except (sqlite3.Error, OSError) as error:
                self.close()
                if error_code(error) not in _PASSING or monotonic() >= deadline:
                    raise StoreError(explain(self._path, error, damaged=_DAMAGED)) from error
                sleep(random.uniform(0.001, 0.01))

    @property
    def is_ours(self) -> bool:
        """Whether this process has opened it, and not the one from which it was forked."""
        return self._process == os.getpid()

    def __del__(self) -> None:
        if self.is_ours:
            self.close()
        else:
            _inherited.append(self._connection)

    def close(self) -> None:
        """Let go of the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error), not_forking():
                connection.close()

    def _ready(self) -> sqlite3.Connection:
        if self._connection is not None and self._identity != file_id(self._path):
            # The file was moved away or deleted: nobody else would see what is written to it.
            self.close()
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = connect(self._path, timeout=self._timeout)
            try:
                _prepare(connection, self._path)
            except BaseException:
                connection.close()
                raise
            self._connection, self._is_durable = connection, None
            self._identity = file_id(self._path)
        return self._connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in a new file; refuse a file that is not ours."""
    reason = claim(
        connection,
        application=_APPLICATION_ID,
        schema=_SCHEMA,
        create=lambda new_file: new_file.execute(_CREATE),
    )
    if reason is not None:
        raise StoreError(f"{path}: {reason}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(_CREATE_BLOBS)
