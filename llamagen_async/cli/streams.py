"""stdin, stdout and stderr as they come: closed, full, not blocking, of any encoding, no terminal.

Python has `None` for a stream that was closed before it began (`>&-`, a service without a console).
A line for stderr that nobody can be shown is kept in a file. Nothing here decides what is printed.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
from datetime import UTC, datetime
from typing import IO, Any, Final, cast

__all__ = [
    "NOT_SHOWN",
    "discard_unwritten",
    "forgiving",
    "is_pipe",
    "is_terminal",
    "prepare_streams",
    "write_error",
    "write_line",
    "write_passing",
]

NOT_SHOWN: Final = "not-shown.log"
"""The name of the file for lines that stderr did not take, in the user's state folder."""
_LARGEST: Final = 1_000_000
"""Bytes of that file after which another one is begun."""
_STANDARD: Final = range(3)
"""The descriptors of stdin, stdout and stderr."""


def prepare_streams() -> None:
    """Make the streams of this process fit to be used."""
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next file that is opened is stdout to all who write there by number.
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        _make_blocking(stream)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # No story is refused because the terminal can't show a letter of it.
            stream.reconfigure(errors="replace")


def is_terminal(stream: IO[Any] | None) -> bool:
    """Return whether a stream is a terminal, whatever FORCE_COLOR and the like say."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False


def is_pipe(stream: IO[Any] | None) -> bool:
    """Return whether another program reads what is written to a stream."""
    try:
        return stream is not None and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # it is closed, or nobody's but Python's
        return False


def write_line(stream: IO[str] | None, text: str) -> OSError | None:
    """Write a line at once, and return why that was not possible."""
    if stream is None:
        return OSError(errno.EBADF, "it is closed")
    try:
        _make_blocking(stream)  # who shares it may have changed that meanwhile
        stream.write(f"{text}\n")
        stream.flush()
    except OSError as error:
        return error
    except ValueError as error:
        return OSError(errno.EBADF, str(error))
    return None


def write_passing(stream: IO[str] | None, text: str) -> None:
    """Write on a terminal what will be written over; one that is gone is no error."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            stream.write(text)
            stream.flush()


def write_error(text: str) -> None:
    """Write a line on stderr; if that can't be written, to a file in the user's state folder.

    The line may be the only one that has the id of something paid for.
    """
    if write_line(sys.stderr, text) is not None:
        # There is nobody left to tell that this, too, failed.
        with contextlib.suppress(OSError, RuntimeError):
            _keep(text)


def _keep(text: str) -> None:
    """Add a line to the file of what nobody was shown; an old one is kept once beside it."""
    from platformdirs import user_state_path  # noqa: PLC0415  # hardly ever needed

    path = user_state_path("llamagen-async", appauthor=False) / NOT_SHOWN
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_size > _LARGEST:
        path.replace(path.with_suffix(".old.log"))
    line = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {text}\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
    file = os.open(path, flags, 0o600)
    try:
        os.write(file, line.encode("utf-8", "replace"))
    finally:
        os.close(file)


def discard_unwritten() -> OSError | None:
    """Write what is left, or else forget it: the interpreter would fail of it at its end.

    Returns:
        Why stdout could not be written.
    """
    reason: OSError | None = None
    for stream in (sys.stderr, sys.stdout):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError) as error:
            reason = error if stream is sys.stdout and isinstance(error, OSError) else None
            with contextlib.suppress(OSError, ValueError):
                assert stream is not None
                nowhere = os.open(os.devnull, os.O_WRONLY)
                try:
                    os.dup2(nowhere, stream.fileno())
                finally:
                    os.close(nowhere)
    return reason


def forgiving(stream: IO[str]) -> IO[str]:
    """Return a stream for live progress: a terminal that is gone is no error there."""
    return cast("IO[str]", _Forgiving(stream))


class _Forgiving:
    """A stream that loses what can't be written."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _make_blocking(stream: IO[Any] | None) -> None:
    """Have reads and writes wait: what was started by another program may share its pipe."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.set_blocking(stream.fileno(), True)  # type: ignore[union-attr]  # AttributeError is meant
