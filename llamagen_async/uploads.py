"""A file that is to be uploaded: opened, measured and named before anything is sent."""

from __future__ import annotations

import asyncio
import inspect
import mimetypes
import os
import stat
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final, Protocol, cast

from llamagen_async.downloads.media_types import HEAD, extension_of
from llamagen_async.errors import InvalidRequestError
from llamagen_async.transport import FormFile
from llamagen_async.validation import checked_path, checked_text

__all__ = ["LARGEST_UPLOAD", "FileLike", "ReadableFile", "form_file"]

LARGEST_UPLOAD: Final = 10 * 1024 * 1024
"""Bytes of the largest file that the API takes: 10 MB (seen in other people's code only)."""
_FILE: Final = "a path, bytes, or a file that is open for reading bytes"
_SIZE: Final = "1 byte to 10 MB"
_UNNAMED: Final = "upload"
"""The name of a file that has none, as the vendor's clients send it."""
_OTHER: Final = "application/octet-stream"
"""The media type of a file of no known kind."""
_TYPES: Final = {
    ".avif": "image/avif",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".jxl": "image/jxl",
    ".md": "text/markdown",
    ".webp": "image/webp",
}
"""Media types that not every system knows, by extension."""


class ReadableFile(Protocol):
    """A file that is open for reading bytes; `read` may be a coroutine, as a web framework's is."""

    def read(self, size: int, /) -> bytes | Awaitable[bytes]:
        """Return the next bytes, `size` of them at most."""
        ...


FileLike = str | os.PathLike[str] | bytes | bytearray | memoryview | ReadableFile
"""The forms in which a file may be given."""


async def form_file(file: FileLike, filename: str | None = None) -> FormFile:
    """Return a file as it is uploaded. What is on disk stays there until it is sent.

    Args:
        file: Its path, its content, or the open file, which is read from where it stands and not
            closed.
        filename: The name that the server is told; the file's own if not given.

    Raises:
        InvalidRequestError: It is no file, can't be read, is empty or too large.
    """
    if filename is not None:
        checked_text("filename", filename)
    content: bytes | Path
    if isinstance(file, str | os.PathLike):
        path = checked_path("file", file)
        try:
            content, head = await asyncio.to_thread(_opened, path)
        except OSError as error:
            allowed = f"a file that can be read ({error.strerror or error})"
            raise InvalidRequestError("file", os.fspath(file), allowed) from None
        own_name: str | None = path.name
    else:
        content = await _content(file)
        head, own_name = content[:HEAD], _name_of(file)
    name = filename or own_name or f"{_UNNAMED}{extension_of(None, head) or ''}"
    return FormFile(name, content, _media_type(name, head))


def _opened(path: Path) -> tuple[bytes | Path, bytes]:
    """Return a file on disk and its first bytes; what can be read only once is read."""
    with path.open("rb") as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            content = opened.read(LARGEST_UPLOAD + 1)
            _check_size(len(content))
            return content, content[:HEAD]
        _check_size(status.st_size)
        return path, opened.read(HEAD)


async def _content(file: object) -> bytes:
    if isinstance(file, bytes | bytearray | memoryview):
        view = memoryview(cast("bytes", file))
        _check_size(view.nbytes)
        return bytes(view)
    read: Any = getattr(file, "read", None)
    if not callable(read):
        raise InvalidRequestError("file", file, _FILE)
    is_coroutine = inspect.iscoroutinefunction(read)
    pieces: list[bytes] = []
    size = 0
    while size <= LARGEST_UPLOAD:
        try:
            wanted = LARGEST_UPLOAD + 1 - size
            piece: object = await (
                read(wanted) if is_coroutine else asyncio.to_thread(read, wanted)
            )
            if inspect.isawaitable(piece):
                piece = await piece
        except (OSError, ValueError) as error:  # it is closed, or open for writing
            allowed = f"a file that can be read ({error})"
            raise InvalidRequestError("file", file, allowed) from None
        if not isinstance(piece, bytes | bytearray):
            raise InvalidRequestError("file", file, _FILE)
        if not piece:
            break
        pieces.append(bytes(piece))
        size += len(piece)
    _check_size(size)
    return b"".join(pieces)


def _check_size(size: int) -> None:
    if not 0 < size <= LARGEST_UPLOAD:
        more = " or more" if size > LARGEST_UPLOAD else ""
        raise InvalidRequestError("file", f"{size:,} bytes{more}", _SIZE)


def _name_of(file: object) -> str | None:
    """Return the name that an open file says it has."""
    for attribute in ("filename", "name"):
        name = getattr(file, attribute, None)
        if isinstance(name, str) and name and not name.startswith("<"):
            return Path(name).name
    return None


def _media_type(name: str, head: bytes) -> str:
    # What a file is wins over what it is called.
    for extension in (extension_of(None, head), Path(name).suffix.lower()):
        known = (
            _TYPES.get(extension or "") or mimetypes.guess_type(f"x{extension}", strict=False)[0]
        )
        if known:
            return known
    return _OTHER
