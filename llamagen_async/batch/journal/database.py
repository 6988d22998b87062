"""The file behind a journal: one SQLite database, one thread, and many writes in one commit.

A write that was awaited here is on disk when the await is over, also after a power cut. A disk
takes its time for that promise, so all that is asked for while one commit runs shares the next
commit. The event loop never waits for the disk.

Without a path it is a private database that SQLite keeps in memory while it is small and in a
temporary file when it is not. That one needs no promise and no thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from llamagen_async.batch.journal.codec import AccountId
from llamagen_async.batch.journal.lock import JournalLock
from llamagen_async.batch.journal.network_disk import refuse_network
from llamagen_async.batch.journal.opening import keep_changes
from llamagen_async.batch.journal.reserve import Receipt, Reserve
from llamagen_async.errors import JournalError, LlamaGenError
from llamagen_async.sqlite_file import (
    close_after,
    connect,
    explain,
    file_id,
    in_thread,
    transaction,
)

__all__ = ["Database", "Operation", "SetAsideError"]

_T = TypeVar("_T")
Operation = Callable[[sqlite3.Connection], _T]
"""Work for one transaction. It may be done twice, if another operation of its group fails."""
_Request = tuple[Operation[Any], bool, asyncio.Future[Any], Receipt | None]
"""An operation, whether it writes, the future of its caller, and what is noted if it fails."""

_LARGEST_GROUP: Final = 512
"""Operations in one transaction, at most: enough for a burst, and soon done."""
_LOCK_TIMEOUT: Final = 5.0
"""Seconds to wait for another program that reads the file."""
_SHARED_TIMEOUT: Final = 15.0
"""Seconds to wait for other workers that write: each writes for milliseconds, but SQLite's waiting
has no order, and a disk may be slow."""
_OTHER: Final = "name another file"
_DAMAGED: Final = "it is damaged; restore it, or move it away: it knows what was paid"


class SetAsideError(JournalError):
    """A change that could not be written, and whose receipt is in the reserve instead."""


class Database:
    """One SQLite database, for one event loop.

    Args:
        path: The file; `None` is a private database that vanishes.
        prepare: Makes the tables in a new file and refuses a file that is not ours.
        account: The account whose generations it holds.
        start_over: Make a file that is gone anew, though its newest changes are there.
        worker: The name of one of several workers that share the file; empty if it has one owner.
    """

    def __init__(
        self,
        path: Path | None,
        prepare: Operation[None],
        account: AccountId,
        *,
        start_over: bool = False,
        worker: str = "",
    ) -> None:
        self.path: Path | None = None if path is None else Path(os.path.realpath(path))
        self.reserve = None if self.path is None else Reserve(self.path, account, worker)
        """Room for what a full disk keeps out of the file."""
        self.lock: JournalLock | None = (
            None if self.path is None else JournalLock(self.path, shared=bool(worker))
        )
        """Keeps out who may not work with it at the same time."""
        self.is_shared: bool = bool(worker) and path is not None
        """Whether others may work with it at the same time."""
        self.dead: list[str] = []
        """The workers that had left it without a word when it was opened."""
        self.was_alone: bool = False
        """Whether nobody else worked with it when it was opened."""
        self.receipts: list[Receipt] = []
        """The receipts that earlier owners had left when it was opened."""
        self._start_over = start_over
        self._prepare = prepare
        self._thread = None if path is None else ThreadPoolExecutor(1, "llamagen-async-journal")
        self._connection: sqlite3.Connection | None = None
        self._file_id: tuple[int, int] | None = None
        self._requests: list[_Request] = []
        self._is_at_work = False
        """Whether a group is in the thread, or about to be given to it."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop that gives it."""
        self._account = account
        self._process = os.getpid()
        self._closing: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Open the file; make it if it is not there.

        Raises:
            JournalError: The file can't be opened, is not ours, or somebody else works with it.
        """
        if self._thread is None:
            self._open()
        else:
            await in_thread(asyncio.get_running_loop(), self._thread, self._open)

    def renew(self, worker: str) -> bool:
        """Belong to this process, if it was forked since this was made; return whether it was.

        Args:
            worker: The name that is used then.
        """
        if self._process == os.getpid() or self._connection is not None or self.path is None:
            return False
        self._process = os.getpid()
        self.reserve = Reserve(self.path, self._account, worker)
        return True

    async def run(
        self, operation: Operation[_T], *, write: bool, receipt: Receipt | None = None
    ) -> _T:
        """Do an operation in a transaction; what it wrote is on disk when this returns.

        It is done even if the caller is cancelled meanwhile.

        Args:
            operation: The work.
            write: Whether it writes.
            receipt: What is written to the reserve if the operation fails.

        Raises:
            SetAsideError: The operation could not be done, and its receipt was written.
            JournalError: The operation could not be done, and nothing of it was.
        """
        if self._process != os.getpid():
            raise JournalError(
                f"{self._name}: the journal is closed here, as it was opened before this process "
                "was forked; open it in each worker, when that starts"
            )
        if self._closing is not None:
            raise JournalError(f"{self._name}: the journal is closed")
        if self._thread is None:
            value: _T = self._transact([operation], write=write)[0]
            return value
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._requests.append((operation, write, future, receipt))
        if not self._is_at_work or self._loop is not loop:  # that one has ended
            # Soon, not now: what else is asked for in this turn of the loop shares the commit.
            self._is_at_work, self._loop = True, loop
            loop.call_soon(self._start, loop)
        return await future

    async def apart(self, work: Callable[[], object]) -> None:
        """Do work on the files beside the database, where its operations are done, if it is open.

        What fails of it is tried again when the journal is next opened or closed.
        """
        if self._thread is not None and self._connection is not None and self._closing is None:
            with contextlib.suppress(sqlite3.Error, OSError):
                await in_thread(asyncio.get_running_loop(), self._thread, work)

    async def beat(self, operation: Operation[_T]) -> _T:
        """Do an operation that writes and that a power cut may undo: it does not wait for the disk.

        Raises:
            JournalError: The operation could not be done, and nothing of it was.
        """

        def work() -> _T:
            self._synchronous("NORMAL")
            try:
                value: _T = self._transact([operation], write=True)[0]
            finally:
                self._synchronous("FULL")
            return value

        return await self._in_thread(work)

    async def version(self) -> int:
        """Return a number that changes when somebody else has written to the file."""

        def work() -> int:
            if self._connection is None:
                return 0
            number: int
            (number,) = self._connection.execute("PRAGMA data_version").fetchone()
            return number

        return await self._in_thread(work)

    async def aclose(self) -> None:
        """Finish what was asked for, and let go of the file. Closing twice is fine."""
        if self._process != os.getpid() and self._thread is not None:
            return  # it is another process's to close, from which this one was forked
        if self._closing is None:
            loop = asyncio.get_running_loop()
            if self._thread is None:
                self._closing = loop.create_future()
                self._closing.set_result(None)
                self._close()
            else:
                while self._requests:
                    self._start(loop)
                self._closing = in_thread(loop, self._thread, self._close)
                self._thread.shutdown(wait=False)
        # The closing itself goes on if this is cancelled.
        await asyncio.shield(self._closing)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        if self._thread is None or self._closing is not None or self._process != os.getpid():
            raise JournalError(f"{self._name}: the journal is closed")
        try:
            return await in_thread(asyncio.get_running_loop(), self._thread, work)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    @property
    def _name(self) -> str:
        return "(no file)" if self.path is None else str(self.path)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the next group to the thread."""
        group, self._requests = self._requests[:_LARGEST_GROUP], self._requests[_LARGEST_GROUP:]
        self._is_at_work = bool(group)
        if group and self._closing is None and self._thread is not None:
            work = in_thread(loop, self._thread, self._results, group)
            work.add_done_callback(partial(self._done, loop, group))

    def _done(
        self,
        loop: asyncio.AbstractEventLoop,
        group: Sequence[_Request],
        work: asyncio.Future[list[Any]],
    ) -> None:
        """Hand out a group's results, and go on with the next group."""
        results = [] if work.cancelled() else work.result()
        for (_, _, future, _), result in zip(group, results, strict=False):
            if future.done() or future.get_loop().is_closed():
                continue  # its caller was cancelled, or has ended with the loop
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        self._start(loop)

    # What follows runs in the thread, if there is one.

    def _open(self) -> None:
        if self._closing is not None:
            raise JournalError(f"{self._name}: the journal is closed")
        try:
            if self.path is None:
                self._connection = self._connect("")
                self._connection.execute("PRAGMA journal_mode = MEMORY")
                self._prepare(self._connection)
                return
            assert self.lock is not None
            assert self.reserve is not None
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.is_shared:
                refuse_network(self.path)
            self.lock.take()
            self.reserve.open()
            keep_changes(self.path, start_over=self._start_over)
            connection = self._connection = self._connect(self.path)
            self._prepare(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: a commit is on disk when it returns. The other two matter on macOS only, where
            # the disk has to be asked more firmly.
            for name in ("synchronous = FULL", "fullfsync = 1", "checkpoint_fullfsync = 1"):
                connection.execute(f"PRAGMA {name}")
            if self.lock.is_alone:
                self.receipts = [*self.reserve.receipts, *self.reserve.of_dead()]
                self.dead = [name for (name,) in connection.execute("SELECT token FROM worker")]
                self.was_alone = True
                self.lock.share()
            self._file_id = file_id(self.path)
            _sync_folder(self.path.parent)
        except BaseException as error:
            self._close()
            if isinstance(error, sqlite3.Error | OSError):
                raise self._explained(error) from error
            raise

    def shrink(self) -> None:
        """Give back the room that changes take beside the file: results may need it."""
        if self._connection is not None:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _synchronous(self, setting: str) -> None:
        if self._connection is not None:
            self._connection.execute(f"PRAGMA synchronous = {setting}")

    def _connect(self, path: Path | str) -> sqlite3.Connection:
        timeout = _SHARED_TIMEOUT if self.is_shared else _LOCK_TIMEOUT
        connection = connect(path, timeout=timeout)
        close_after(self, connection)
        return connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        if self.reserve is not None and self.lock is not None and self.lock.is_taken:
            self.reserve.close()
            self.lock.release()

    def _results(self, group: Sequence[_Request]) -> list[Any]:
        """Return what each operation returned or raised."""
        try:
            write = any(writes for _, writes, _, _ in group)
            return self._transact([operation for operation, _, _, _ in group], write=write)
        except Exception as error:  # noqa: BLE001  # it belongs to whoever asked
            if len(group) == 1:
                return [self._set_aside(group[0][-1], error)]
        # One that fails must not take the others with it.
        return [result for request in group for result in self._results([request])]

    def _set_aside(self, receipt: Receipt | None, error: Exception) -> Exception:
        """Write a receipt of a change that failed; return the error that its caller gets."""
        if receipt is None or self.reserve is None or not isinstance(error, JournalError):
            return error  # nothing is wrong with the file
        try:
            self.reserve.add(receipt)
        except OSError:
            return error
        return SetAsideError(f"{error}; {self.reserve.path} has the ids until the next run")

    def _transact(self, operations: Sequence[Operation[Any]], *, write: bool) -> list[Any]:
        """Do all operations in one transaction, or none."""
        connection = self._connection
        if connection is None:
            raise JournalError(f"{self._name}: the journal is not open")
        if self.path is not None and file_id(self.path) != self._file_id:
            raise JournalError(
                f"{self._name}: the journal was moved away or deleted while it was in use; put it "
                "back, and start again"
            )
        try:
            with transaction(connection, write=write):
                return [operation(connection) for operation in operations]
        except (sqlite3.Error, OSError) as error:
            raise self._explained(error) from error
        except LlamaGenError:
            raise
        except Exception as error:
            # A value that SQLite can't hold, or one that nobody here has written.
            raise JournalError(f"{self._name}: {error!r}") from error

    def _explained(self, error: sqlite3.Error | OSError) -> JournalError:
        # What had comics was ours, whatever it is now: another file would pay for them again.
        had_comics = self.lock is not None and self.lock.accepted > 0
        other = _DAMAGED if had_comics else _OTHER
        return JournalError(explain(self._name, error, damaged=_DAMAGED, other=other))


def _sync_folder(folder: Path) -> None:
    """Have the name of a new file on disk, too, where the system can be asked for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
