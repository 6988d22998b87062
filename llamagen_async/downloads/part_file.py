"""The temporary file of an asset, which becomes a whole file or nothing.

All of it blocks, and is called in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
from collections.abc import Callable, Generator
from pathlib import Path
from typing import BinaryIO, Final, ParamSpec, TypeVar

from llamagen_async.downloads.versions import keep_others, keep_versions
from llamagen_async.downloads.wholeness import is_whole

__all__ = ["TEMPORARY", "PartFile", "in_thread"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

TEMPORARY: Final = r"\.(?P<stem>.+)\.[0-9a-f]{8}\.part"
"""The names of temporary files."""


class PartFile:
    """A temporary file that becomes a whole one or nothing.

    It is hidden, in the folder of the file to be, and renamed at the end. Its methods block and
    belong in a thread, one call at a time. They raise an `OSError` that names the file to be, such
    as `No space left on device: 'out/c1-p01-01'`.

    Args:
        folder: The folder of both files.
        stem: The name of the file to be, without its extension.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder = folder
        self._stem = stem
        self._path = folder / f".{stem}.{secrets.token_hex(4)}.part"
        self._file: BinaryIO | None = None
        self.size: int = 0
        """Bytes that are in the file."""

    def append(self, content: bytes) -> None:
        """Write at the end of the file; the first call makes it."""
        with self._named():
            if self._file is None:
                self._file = self._path.open("x+b")
            self._file.write(content)
        self.size += len(content)

    def empty(self) -> None:
        """Remove what is in the file."""
        with self._named():
            if self._file is not None:
                self._file.seek(0)
                self._file.truncate()
        self.size = 0

    def is_whole(self, extension: str) -> bool:
        """Whether what is in the file can be all of it, by its own bytes; see `wholeness`."""
        assert self._file is not None
        file = self._file

        def piece(at: int, length: int) -> bytes:
            file.seek(at)
            return file.read(length)

        with self._named():
            whole = is_whole(extension, self.size, piece)
            file.seek(0, os.SEEK_END)
            return whole

    def finish(self, extension: str, *, keeps_old: bool = False) -> Path:
        """Give the file its final name, in place of a file that may be there; return its path.

        Args:
            extension: The end of the name, with its dot.
            keeps_old: Whether what is there is kept under another name, if it is another picture.
        """
        assert self._file is not None
        path = self._folder / f"{self._stem}{extension}"
        with self._named(extension):
            self._file.flush()
            # Else a power cut could leave the final name on an empty file.
            os.fsync(self._file.fileno())
            self._file.close()
            if not keeps_old or keep_versions(self._path, path):
                self._path.replace(path)
            else:
                self._path.unlink()
            self._file = None
            if not keeps_old:
                keep_others(path)
        return path

    def discard(self) -> None:
        """Remove the file, unless it has become a whole one."""
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


async def in_thread(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run `call` in a thread; a cancellation meanwhile is raised when the thread is done.

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
        work.exception()  # retrieved, so that the loop does not complain about it
        raise cancelled
    return work.result()
