"""The file that an asset is until it is complete: hidden, in the same folder, renamed at the end.

Whatever fails, the file is removed and the error names the place that was to be written. What a
killed process left behind is removed by a later download of the same comic.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import secrets
from collections.abc import Callable, Collection, Generator
from pathlib import Path
from typing import BinaryIO, Final, ParamSpec, TypeVar

__all__ = ["PartFile", "in_thread", "sweep"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_ABANDONED: Final = 86_400.0
"""Seconds after the last write from which on a temporary file is nobody's."""
_NAME: Final = r"\.(?P<stem>.+)\.[0-9a-f]{8}\.part"


class PartFile:
    """A temporary file that becomes a whole one or nothing.

    Its methods block and belong in a thread, one call at a time. What they raise is an `OSError`
    that names the file to be, such as `No space left on device: 'out/c1-p01-01'`.

    Args:
        folder: Where it is.
        stem: The name of the file to be, without its extension.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder = folder
        self._stem = stem
        self._path = folder / f".{stem}.{secrets.token_hex(4)}.part"
        self._file: BinaryIO | None = None
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that are in it."""
        return self._size

    def append(self, content: bytes) -> None:
        """Write at its end; it is made by the first call."""
        with self._named():
            if self._file is None:
                self._file = self._path.open("x+b")
            self._file.write(content)
        self._size += len(content)

    def empty(self) -> None:
        """Forget what is in it."""
        with self._named():
            if self._file is not None:
                self._file.seek(0)
                self._file.truncate()
        self._size = 0

    def ends(self, length: int) -> tuple[bytes, bytes]:
        """Return its first and its last bytes, so many of each if there are so many."""
        assert self._file is not None
        with self._named():
            self._file.seek(0)
            first = self._file.read(length)
            self._file.seek(max(0, self._size - length))
            return first, self._file.read(length)

    def finish(self, extension: str) -> Path:
        """Give it its name, in place of a file that may be there, and return that.

        Args:
            extension: What the name ends with, with its dot.
        """
        assert self._file is not None
        path = self._folder / f"{self._stem}{extension}"
        with self._named(extension):
            self._file.flush()
            # Else a power cut could leave the final name on an empty file.
            os.fsync(self._file.fileno())
            self._file.close()
            self._path.replace(path)
        self._file = None
        return path

    def discard(self) -> None:
        """Remove it, unless it has become a whole one."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk may make itself heard once more
                self._file.close()
            self._path.unlink(missing_ok=True)
            self._file = None

    @contextlib.contextmanager
    def _named(self, extension: str = "") -> Generator[None]:
        try:
            yield
        except OSError as error:
            place = self._folder / f"{self._stem}{extension}"
            raise OSError(error.errno, error.strerror or str(error), str(place)) from error


def sweep(folder: Path, stems: Collection[str], *, now: float) -> None:
    """Remove the temporary files of these names that a killed process left a day ago or earlier.

    Args:
        folder: Where they are.
        stems: Names of files to be; temporary files of others are not looked at.
        now: Seconds since 1970.
    """
    for entry in os.scandir(folder):
        match = re.fullmatch(_NAME, entry.name) if entry.name.endswith(".part") else None
        if match is None or match["stem"] not in stems:
            continue
        with contextlib.suppress(OSError):  # somebody else was quicker
            if now - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED:
                Path(entry.path).unlink()


async def in_thread(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run `call` in a thread and, if cancelled meanwhile, wait for it before saying so.

    A thread cannot be stopped: were it left alone, it would write to a file that is being removed.
    """
    loop = asyncio.get_running_loop()
    # A future and no task: at the end of asyncio.run() tasks are cancelled once more.
    work = loop.run_in_executor(None, functools.partial(call, *args, **kwargs))
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()  # looked at, so that the loop does not complain about it
        raise cancelled
    return work.result()
