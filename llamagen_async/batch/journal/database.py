"""The file behind a journal: one SQLite database, one thread, and many writes in one commit.

What is awaited here is on disk when the await is over, through a power cut. A disk takes its time
for that promise, so what is asked for while one commit is on its way shares the next one. The
event loop never waits for the disk.

Without a path it is a private database that SQLite keeps in memory while it is small and in a
temporary file when it is not. That one needs no promise and no thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from llamagen_async.batch.journal.lock import JournalLock
from llamagen_async.errors import JournalError

__all__ = ["Database", "Operation"]

_T = TypeVar("_T")
Operation = Callable[[sqlite3.Connection], _T]
"""What is done in one transaction. It may be done again, if another of its group has failed."""

_LARGEST_GROUP: Final = 512
"""ClientCore in one transaction, at most."""
_PATIENCE: Final = 5.0
"""Seconds to wait for another program that looks at the file."""
_LOCKED: Final = "another program keeps it locked; end that program"
_PROTECTED: Final = "it may not be written; change its permissions, or name another file"
_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_CANTOPEN: "name a file, not a folder, in a folder that may be written",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore it, or move it away: it knows what was paid",
    sqlite3.SQLITE_FULL: "make room on the disk",
    sqlite3.SQLITE_IOERR: "make room, or name a file on a disk that works",
    sqlite3.SQLITE_NOTADB: "name another file",
    sqlite3.SQLITE_PERM: _PROTECTED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_READONLY: _PROTECTED,
}


@attrs.frozen(eq=False)
class _Asked:
    """One operation that somebody waits for."""

    operation: Operation[Any]
    write: bool
    future: asyncio.Future[Any]


@attrs.frozen
class _Answer:
    """What became of one operation."""

    value: Any = None
    error: Exception | None = None


class Database:
    """One SQLite database, for one event loop.

    Args:
        path: Its file; `None` is a private one that vanishes.
        prepare: Makes the tables in a new file and refuses one that is not ours.
    """

    def __init__(self, path: Path | None, prepare: Operation[None]) -> None:
        self.path = None if path is None else Path(os.path.realpath(path))
        self._prepare = prepare
        self._owner = None if self.path is None else JournalLock(self.path)
        self._thread = None if path is None else ThreadPoolExecutor(1, "llamagen-async-journal")
        self._connection: sqlite3.Connection | None = None
        self._place: tuple[int, int] | None = None
        self._asked: list[_Asked] = []
        self._busy = False
        self._process = os.getpid()
        self._closing: asyncio.Future[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked of it any more."""
        return self._closing is not None

    async def open(self) -> None:
        """Open the file; make it if it is not there.

        Raises:
            JournalError: It can't be opened, is not ours, or somebody else works with it.
        """
        if self._thread is None:
            self._open()
        else:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def run(self, operation: Operation[_T], *, write: bool) -> _T:
        """Do something in a transaction; what it wrote is on disk when this returns.

        It is done even if the caller is cancelled meanwhile.

        Raises:
            JournalError: It could not be done, and nothing of it was.
        """
        if self.closed or self._process != os.getpid():
            raise JournalError(f"{self._name}: the journal is closed")
        if self._thread is None:
            value: _T = self._together([operation], write=write)[0]
            return value
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._asked.append(_Asked(operation, write, future))
        if not self._busy:
            # Soon, not now: what else is asked for in this turn of the loop shares the commit.
            self._busy = True
            loop.call_soon(self._start, loop)
        return await future

    async def aclose(self) -> None:
        """Finish what was asked for, and let go of the file. Closing twice is fine."""
        if self._closing is None:
            loop = asyncio.get_running_loop()
            if self._thread is None:
                self._closing = loop.create_future()
                self._closing.set_result(None)
                self._close()
            else:
                while self._asked:
                    self._start(loop)
                self._closing = loop.run_in_executor(self._thread, self._close)
                self._thread.shutdown(wait=False)
        # The closing itself goes on if this is cancelled.
        await asyncio.shield(self._closing)

    @property
    def _name(self) -> str:
        return "(no file)" if self.path is None else str(self.path)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the thread do what was asked for."""
        group, self._asked = self._asked[:_LARGEST_GROUP], self._asked[_LARGEST_GROUP:]
        self._busy = bool(group)
        if group and self._closing is None and self._thread is not None:
            work = loop.run_in_executor(self._thread, self._answers, group)
            work.add_done_callback(partial(self._done, loop, group))

    def _done(
        self,
        loop: asyncio.AbstractEventLoop,
        group: Sequence[_Asked],
        work: asyncio.Future[list[_Answer]],
    ) -> None:
        """Tell those who wait, and go on with the next group."""
        answers = [] if work.cancelled() else work.result()
        for asked, answer in zip(group, answers, strict=False):
            if asked.future.done():
                continue  # its caller was cancelled
            if answer.error is not None:
                asked.future.set_exception(answer.error)
            else:
                asked.future.set_result(answer.value)
        self._start(loop)

    # What follows runs in the thread, if there is one.

    def _open(self) -> None:
        if self.closed:
            raise JournalError(f"{self._name}: the journal is closed")
        try:
            if self.path is None:
                self._connection = self._connect("")
                self._connection.execute("PRAGMA journal_mode = MEMORY")
                self._prepare(self._connection)
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            assert self._owner is not None
            self._owner.take()
            connection = self._connection = self._connect(self.path)
            self._prepare(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: a commit is on disk when it returns. The other two matter on macOS only, where
            # the disk has to be asked more firmly.
            for name in ("synchronous = FULL", "fullfsync = 1", "checkpoint_fullfsync = 1"):
                connection.execute(f"PRAGMA {name}")
            self._place = _place(self.path)
            _sync_folder(self.path.parent)
        except BaseException as error:
            self._close()
            if isinstance(error, sqlite3.Error | OSError):
                raise self._advised(error) from error
            raise

    def _connect(self, path: Path | str) -> sqlite3.Connection:
        connection = _connect(path)
        weakref.finalize(self, connection.close)  # for who forgets to close it
        return connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        if self._owner is not None:
            self._owner.release()

    def _answers(self, group: Sequence[_Asked]) -> list[_Answer]:
        try:
            write = any(asked.write for asked in group)
            values = self._together([asked.operation for asked in group], write=write)
            return [_Answer(value) for value in values]
        except Exception as error:  # noqa: BLE001  # it belongs to whoever asked
            if len(group) == 1:
                return [_Answer(error=error)]
        # One that fails must not take the others with it.
        return [answer for asked in group for answer in self._answers([asked])]

    def _together(self, operations: Sequence[Operation[Any]], *, write: bool) -> list[Any]:
        """Do all of it in one transaction, or nothing."""
        connection = self._connection
        if connection is None:
            raise JournalError(f"{self._name}: the journal is not open")
        if self.path is not None and _place(self.path) != self._place:
            raise JournalError(
                f"{self._name}: the journal was moved away or deleted while it was in use; put it "
                "back, and start again"
            )
        try:
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            values = [operation(connection) for operation in operations]
            connection.execute("COMMIT")
        except BaseException as error:
            # An error may have ended the transaction already.
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            if isinstance(error, sqlite3.Error):
                raise self._advised(error) from error
            raise
        return values

    def _advised(self, error: sqlite3.Error | OSError) -> JournalError:
        if isinstance(error, OSError):
            return JournalError(f"{error}; name a file in a folder that may be written")
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return JournalError(f"{self._name}: {error}; {_ADVICE.get(code, 'name another file')}")


def _connect(path: Path | str) -> sqlite3.Connection:
    # One thread at a time; the last one may be another, when a loop was ended without closing.
    return sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)


def _place(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _sync_folder(folder: Path) -> None:
    """Have the name of a new file on disk, too, where the system can be asked for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
