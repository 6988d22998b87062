"""SQLite files as the journal and the quota store both use them. Knows neither of the two."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:  # who only reads a file needs neither
    import asyncio
    from concurrent.futures import Executor

__all__ = [
    "claim",
    "close_after",
    "connect",
    "error_code",
    "explain",
    "file_id",
    "in_thread",
    "not_forking",
    "transaction",
]

_T = TypeVar("_T")

_LOCKED: Final = "another program keeps it locked; end that program, or try again"
_PROTECTED: Final = "it may not be written; change its permissions, or name another file"
_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_CANTOPEN: "name a file, not a folder, in a folder that may be written",
    sqlite3.SQLITE_FULL: "make room on the disk",
    sqlite3.SQLITE_IOERR: "make room, or name a file on a disk that works",
    sqlite3.SQLITE_PERM: _PROTECTED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_READONLY: _PROTECTED,
}
"""Advice to the user about an error, by SQLite's primary result code."""
_UNREADABLE: Final = "Could not decode"
"""The beginning of what `sqlite3` says of text that is none, for which SQLite has no code."""
_FORK_WAITS: Final = 5.0
"""Seconds that a fork waits at most for what other threads do: twice what a transaction takes."""


def connect(path: Path | str, *, timeout: float) -> sqlite3.Connection:
    """Open a database in autocommit mode.

    It is used by one thread at a time; the last one may be another than the first.

    Args:
        path: The file; an empty string is a private database that vanishes.
        timeout: Seconds to wait for another program's lock.
    """
    return sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)


def close_after(owner: object, connection: sqlite3.Connection) -> None:
    """Close a connection when its owner was collected that nobody has closed."""
    weakref.finalize(owner, _close_here, connection, os.getpid())


def _close_here(connection: sqlite3.Connection, process: int) -> None:
    """Close a connection, unless this is a process that was forked with it: it is the parent's."""
    if os.getpid() == process:
        connection.close()


class _ForkGate:
    """A gate that keeps a fork and the threads that are in SQLite apart.

    SQLite's own locks are copied as they are: a child would wait for ever for one that a thread of
    the parent has held, since it has no such thread.
    """

    def __init__(self) -> None:
        self.begin_afresh()

    def begin_afresh(self) -> None:
        """Forget the threads: this process has none of them."""
        self.changed = threading.Condition()
        """Told when a thread has left SQLite; its lock is held while there is a fork."""
        self.inside = 0
        """How many threads are in SQLite."""

    def close(self) -> None:
        """Wait until no thread is in SQLite, and let none in."""
        self.changed.acquire()
        self.changed.wait_for(lambda: not self.inside, timeout=_FORK_WAITS)

    def open(self) -> None:
        """Let the threads go on."""
        self.changed.release()


_gate: Final = _ForkGate()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_gate.close, after_in_parent=_gate.open, after_in_child=_gate.begin_afresh
    )


@contextlib.contextmanager
def not_forking() -> Generator[None, None, None]:
    """Have no other thread fork this process meanwhile."""
    with _gate.changed:
        _gate.inside += 1
    try:
        yield
    finally:
        with _gate.changed:
            _gate.inside -= 1
            _gate.changed.notify_all()


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, *, write: bool) -> Generator[None, None, None]:
    """Do what is done meanwhile in one transaction, or none of it if there is an error."""
    with not_forking():
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            # An error may have ended the transaction already.
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            raise


def in_thread(
    loop: asyncio.AbstractEventLoop, thread: Executor, work: Callable[..., _T], *arguments: Any
) -> asyncio.Future[_T]:
    """Do work in a thread, or here once the main thread has ended and none takes any work.

    An event loop may go on then, in another thread or in what `atexit` calls.
    """
    try:
        return loop.run_in_executor(thread, work, *arguments)
    except RuntimeError as error:
        if "cannot schedule" not in str(error):  # such as: the loop is closed
            raise
    thread.shutdown()  # what it does is done first
    done: asyncio.Future[_T] = loop.create_future()
    try:
        done.set_result(work(*arguments))
    except Exception as error:  # noqa: BLE001  # it belongs to who waits, as in a thread
        done.set_exception(error)
    return done


def claim(
    connection: sqlite3.Connection,
    *,
    application: int,
    schema: int,
    create: Callable[[sqlite3.Connection], object],
) -> str | None:
    """Make a new file ours, and say why any other file is refused.

    Args:
        connection: The file.
        application: The `application_id` that marks the file's kind in its header.
        schema: The version of its tables, kept as `user_version`.
        create: Makes the tables, inside a transaction.

    Returns:
        Why the file can't be used, or `None` if it can.
    """
    if _marks(connection) == (0, 0):
        with transaction(connection, write=True):
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            # Another process may have made it meanwhile.
            if _marks(connection) == (0, 0) and not tables:
                create(connection)
                connection.execute(f"PRAGMA application_id = {application}")
                connection.execute(f"PRAGMA user_version = {schema}")
    found_application, found_schema = _marks(connection)
    if found_application != application:
        return "it is a database of another program; name another file"
    if found_schema < schema:
        return (
            f"an older version of llamagen-async wrote it (schema {found_schema}, this one knows "
            f"{schema}); move it away, what is in it is then forgotten, or name another file"
        )
    if found_schema > schema:
        return (
            f"a newer version of llamagen-async wrote it (schema {found_schema}, this one knows "
            f"{schema}); upgrade llamagen-async, or name another file"
        )
    return None


def error_code(error: BaseException) -> int:
    """Return SQLite's primary result code of an error; 0 if it has none."""
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code


def explain(
    path: Path | str,
    error: sqlite3.Error | OSError,
    *,
    damaged: str,
    other: str = "name another file",
) -> str:
    """Return a message that says what failed and what can be done about it.

    Args:
        path: The file.
        error: What was raised.
        damaged: The advice for a damaged file: what is lost depends on what it held.
        other: The advice for a file that may never have been ours.
    """
    if isinstance(error, OSError):
        is_full = error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None))
        advice = (
            "make room on the disk" if is_full else "name a file in a folder that may be written"
        )
        return f"{error}; {advice}"
    code = error_code(error)
    is_damaged = code == sqlite3.SQLITE_CORRUPT or str(error).startswith(_UNREADABLE)
    advice = damaged if is_damaged else _ADVICE.get(code, other)
    return f"{path}: {error}; {advice}"


def file_id(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file, which a file that replaces it does not share."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    return application, connection.execute("PRAGMA user_version").fetchone()[0]
