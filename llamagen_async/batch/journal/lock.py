"""The lock of a journal: a second owner is refused and told the first one's process id.

The owner holds a lock on a small SQLite file beside the journal. SQLite's locks are the operating
system's, on every platform: they are gone when the process is gone, however it ended. The owner's
process id is in that file's header, which can be read whoever holds the lock. The header also has
the number of accepted comics, by which a journal that was lost or replaced is noticed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path
from typing import Final

from llamagen_async.errors import JournalError
from llamagen_async.sqlite_file import connect, error_code, file_id

__all__ = ["JournalLock"]

_SUFFIX: Final = "-owner"
_BESIDE: Final = (_SUFFIX, "-ids", "-wal", "-shm")
"""The ends of the names of all files that belong to a journal."""
_LOCK_TIMEOUT: Final = 0.5
"""Seconds to wait for the lock: an owner that has just begun or ended needs a moment."""
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
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._path = journal.with_name(journal.name + _SUFFIX)
        self._connection: sqlite3.Connection | None = None
        self._file_id: tuple[int, int] | None = None
        self.accepted = 0
        """How many accepted comics the journal had, as far as its owners have counted."""

    @property
    def is_taken(self) -> bool:
        """Whether this is the owner."""
        return self._connection is not None

    def take(self) -> None:
        """Become the owner.

        Raises:
            JournalError: Somebody else is the owner, or the journal is no file.
            sqlite3.Error: The lock file can't be written.
        """
        for suffix in ("", *_BESIDE):
            file = self._journal.with_name(self._journal.name + suffix)
            if file.exists() and not file.is_file():  # a pipe, for one, may never be read
                raise JournalError(f"{file}: it is no regular file; name a file, not a folder")
        connection = connect(self._path, timeout=_LOCK_TIMEOUT)
        try:
            # In this mode the lock outlasts the transaction: the process id is on disk, and held.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute(f"PRAGMA user_version = {os.getpid()}")
            connection.execute("COMMIT")
            (self.accepted,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.Error as error:
            connection.close()
            code = error_code(error)
            if code == sqlite3.SQLITE_BUSY:
                raise JournalError(
                    f"{self._journal}: {self._owner()} works with this journal; wait for it or "
                    "end it, or name another file. Nothing was sent"
                ) from None
            if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise JournalError(f"{self._path}: {error}; move that file away") from error
            raise
        self._connection = connection
        self._file_id = file_id(self._path)
        if self._file_id is not None:
            with _guard:
                _owned.add(self._file_id)

    def look(self) -> None:
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
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # The file stays: whoever removed it could remove one that somebody else has just locked.
        with contextlib.suppress(sqlite3.Error):
            connection.close()
        if self._file_id is not None:
            with _guard:
                _owned.discard(self._file_id)

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
