"""The lock of a journal: a batch owns it alone, and queues share it; either is told of the other.

The owner holds a lock on a small SQLite file beside the journal. SQLite's locks are the operating
system's, on every platform: they are gone when the process is gone, however it ended. The owner's
process id is in that file's header, which can be read whoever holds the lock. The header also has
the number of accepted comics, by which a journal that was lost or replaced is noticed.

Queues hold a lock that is shared on another such file, and write their process id to the first one.
So a batch that comes finds the second file locked, and a queue that comes after a batch the first
one. A queue that gets the second file alone knows that no other is alive.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path
from typing import Final

from llamagen_async.errors import JournalError
from llamagen_async.sqlite_file import close_after, connect, error_code, file_id

__all__ = ["JournalLock"]

_SUFFIX: Final = "-owner"
_SHARED: Final = "-queue"
_BESIDE: Final = (_SUFFIX, _SHARED, "-ids", "-wal", "-shm")
"""The ends of the names of all files that belong to a journal."""
_LOCK_TIMEOUT: Final = 0.5
"""Seconds to wait for the lock: an owner that has just begun or ended needs a moment."""
_SHARED_TIMEOUT: Final = 15.0
"""Seconds to wait for a queue that looks after what the last ones have left."""
_USER_VERSION: Final = 60
"""Offset of `user_version` in the header of a SQLite file: four bytes, the highest first."""

_APPLICATION_ID: Final = 68
"""Offset of `application_id`, written in the same way."""

_guard: Final = threading.Lock()
_owned: Final[set[tuple[int, int]]] = set()
"""The lock files that this process holds. They must not be opened and closed by other means: that
would drop the lock, as POSIX has it."""


class JournalLock:
    """The right to write to a journal.

    Args:
        journal: The journal's file, without symbolic links in its path.
        shared: Whether other queues may have it, too.
    """

    def __init__(self, journal: Path, *, shared: bool = False) -> None:
        self._journal = journal
        self._path = journal.with_name(journal.name + _SUFFIX)
        self._shared_path = journal.with_name(journal.name + _SHARED)
        self._is_shared = shared
        self._connection: sqlite3.Connection | None = None
        self._queues: sqlite3.Connection | None = None
        """The file whose lock queues share."""
        self._file_id: tuple[int, int] | None = None
        self.accepted: int = 0
        """How many accepted comics the journal had, as far as its owners have counted."""
        self.is_alone: bool = False
        """Whether nobody else works with the journal, for sure."""

    @property
    def is_taken(self) -> bool:
        """Whether this is the owner, or one of them."""
        return self._connection is not None

    def take(self) -> None:
        """Become the owner, or one of them. Until `share` is called no other queue can.

        Raises:
            JournalError: Somebody else is the owner, or the journal is no file.
            sqlite3.Error: The lock file can't be written.
        """
        for suffix in ("", *_BESIDE):
            file = self._journal.with_name(self._journal.name + suffix)
            if file.exists() and not file.is_file():  # a pipe, for one, may never be read
                raise JournalError(f"{file}: it is no regular file; name a file, not a folder")
        try:
            if self._is_shared:
                self._take_shared()
            self._take_owner()
            if not self._is_shared:
                self._refuse_queues()
        except BaseException:
            self.release()
            raise

    def share(self) -> None:
        """Let other queues in.

        Raises:
            JournalError: A batch has come.
        """
        if self._queues is not None and self.is_alone:
            self.is_alone = False
            self._queues.execute("COMMIT")
            self._hold_shared(self._queues)

    def read_count(self) -> None:
        """Read how many accepted comics the journal had; nobody may be its owner.

        Raises:
            OSError: It can't be read.
        """
        self.accepted = self._header(_APPLICATION_ID) if self._path.is_file() else 0

    def count(self, accepted: int) -> None:
        """Write how many accepted comics the journal has: one that has fewer later is another.

        Raises:
            sqlite3.Error: It can't be written.
        """
        if self._connection is not None and accepted != self.accepted:
            self._connection.execute(f"PRAGMA application_id = {accepted}")
            self.accepted = accepted

    def release(self) -> None:
        """Let go."""
        connections = self._connection, self._queues
        self._connection = self._queues = None
        for connection in connections:
            if connection is not None:
                # The files stay: who removed one could remove one that was locked just now.
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
        if self._file_id is not None:
            with _guard:
                _owned.discard(self._file_id)
            self._file_id = None

    def _take_owner(self) -> None:
        """Be the owner, or pass by where one would be."""
        connection = self._connection = connect(self._path, timeout=_LOCK_TIMEOUT)
        close_after(self, connection)
        try:
            if not self._is_shared:
                # In this mode the lock outlasts the transaction: the process id is on disk, and
                # held.
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute(f"PRAGMA user_version = {os.getpid()}")
            connection.execute("COMMIT")
            (self.accepted,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.Error as error:
            if error_code(error) == sqlite3.SQLITE_BUSY:
                raise JournalError(self._refusal()) from None
            raise self._explained(self._path, error) from error
        if not self._is_shared:
            self._file_id = file_id(self._path)
            if self._file_id is not None:
                with _guard:
                    _owned.add(self._file_id)

    def _take_shared(self) -> None:
        """Lock the queues' file, alone if nobody else has it."""
        connection = self._queues = connect(self._shared_path, timeout=0.0)
        close_after(self, connection)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            self.is_alone = True
        except sqlite3.Error as error:
            if error_code(error) != sqlite3.SQLITE_BUSY:
                raise self._explained(self._shared_path, error) from error
        connection.execute(f"PRAGMA busy_timeout = {int(_SHARED_TIMEOUT * 1000)}")
        if not self.is_alone:
            self._hold_shared(connection)

    def _hold_shared(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            if error_code(error) == sqlite3.SQLITE_BUSY:
                raise JournalError(self._refusal()) from None
            raise self._explained(self._shared_path, error) from error

    def _refuse_queues(self) -> None:
        """Refuse a journal that queues share."""
        self.is_alone = True
        if not self._shared_path.exists():
            return
        with contextlib.closing(connect(self._shared_path, timeout=_LOCK_TIMEOUT)) as connection:
            try:
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error as error:
                if error_code(error) == sqlite3.SQLITE_BUSY:
                    raise JournalError(
                        f"{self._journal}: a queue works with this journal, and a batch or a "
                        "command needs it alone; end all programs with a ComicQueue on it, or name "
                        "another file. Nothing was sent"
                    ) from None
                raise self._explained(self._shared_path, error) from error
            connection.execute("ROLLBACK")

    def _refusal(self) -> str:
        alone = " alone, as batches and commands do" if self._is_shared else ""
        return (
            f"{self._journal}: {self._owner()} works with this journal{alone}; wait for it or "
            "end it, or name another file. Nothing was sent"
        )

    def _explained(self, path: Path, error: sqlite3.Error) -> JournalError | sqlite3.Error:
        if error_code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return JournalError(f"{path}: {error}; move that file away")
        return error

    def _owner(self) -> str:
        with _guard:
            mine = file_id(self._path) in _owned
        if mine:
            return f"this process ({os.getpid()})"
        with contextlib.suppress(OSError):
            if process := self._header(_USER_VERSION):
                return f"process {process}"
        return "another process"

    def _header(self, offset: int) -> int:
        """Return a number of the lock file's header, 0 if there is none."""
        with self._path.open("rb") as file:
            file.seek(offset)
            return int.from_bytes(file.read(4), signed=True)
