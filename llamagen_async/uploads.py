"""Files that are uploaded: opened, measured and named before anything is sent.

A file that a request names by its `Path` is uploaded before the request is sent, each content once:
those who need it at the same time share one upload, and its URL is used again for a day.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import mimetypes
import os
import re
import stat
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

import attrs

from llamagen_async.downloads.media_types import HEAD, extension_of
from llamagen_async.errors import InvalidRequestError, InvalidResponseError
from llamagen_async.foreign import clean_text
from llamagen_async.models import Upload
from llamagen_async.models.expiry import is_lasting
from llamagen_async.own_thread import in_own_thread
from llamagen_async.plans import RequestKind
from llamagen_async.requests import AnyRequest
from llamagen_async.requests.fields import URL_BEGINNINGS
from llamagen_async.requests.files import UploadStore, files_of, with_urls
from llamagen_async.transport import APIRequest, FormFile
from llamagen_async.validation import checked_path, checked_text, shown

__all__ = [
    "LARGEST_UPLOAD",
    "FileLike",
    "ReadableFile",
    "Uploads",
    "check_files",
    "form_file",
    "missing_uploads",
    "upload_request",
]

_R = TypeVar("_R", bound=AnyRequest)

LARGEST_UPLOAD: Final = 10 * 1024 * 1024
"""Bytes of the largest file that the API takes: 10 MB (seen in other people's code only)."""
_FILE: Final = "a path, bytes, or a file that is open for reading bytes"
_SIZE: Final = "1 byte to 10 MB"
_UNNAMED: Final = "upload"
"""The name of a file that has none, as the vendor's clients send it."""
_OTHER: Final = "application/octet-stream"
"""The media type of a file of no known kind."""
_TYPE: Final = r"[\w.+-]{1,60}/[\w.+-]{1,80}"
"""The form of a media type, without parameters."""
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


_FRESH: Final = 86_400.0
"""Seconds for which the URL of an upload is used again (chosen: how long such a URL is valid is not
documented; another upload costs a request, and a comic without its character costs credits)."""
_MOST_TRIES: Final = 3
"""Uploads of a file that is changed each time, at most."""
_MOST_KNOWN: Final = 10_000
"""Uploads and files that one client remembers, at most: some megabytes."""


class ReadableFile(Protocol):
    """A file that is open for reading bytes; `read` may be a coroutine, as a web framework's is."""

    def read(self, size: int, /) -> bytes | Awaitable[bytes]:
        """Return the next bytes, `size` of them at most."""
        ...


FileLike = str | os.PathLike[str] | bytes | bytearray | memoryview | ReadableFile
"""The forms in which a file may be given."""


async def form_file(
    file: FileLike, filename: str | None = None, content_type: str | None = None
) -> FormFile:
    """Return a file as it is uploaded. What is on disk stays there until it is sent.

    Args:
        file: Its path, its content, or the open file, which is read from where it stands and not
            closed.
        filename: The name that the server is told; the file's own if not given.
        content_type: The media type that the server is told; what its first bytes, or else its
            name, say if not given.

    Raises:
        InvalidRequestError: It is no file, can't be read, is empty or too large.
    """
    if filename is not None:
        checked_text("filename", filename)
    if content_type is not None and not re.fullmatch(
        _TYPE, checked_text("content_type", content_type)
    ):
        raise InvalidRequestError("content_type", content_type, "a media type such as image/png")
    content: bytes | Path
    if isinstance(file, str | os.PathLike):
        path = checked_path("file", file)
        content, head = await in_own_thread(_opened, path)
        own_name: str | None = path.name
    else:
        content = await _content(file)
        head, own_name = content[:HEAD], _name_of(file)
    name = filename or own_name or f"{_UNNAMED}{extension_of(None, head) or ''}"
    return FormFile(name, content, content_type or _media_type(name, head))


def upload_request(form: FormFile) -> APIRequest:
    """Return the request that uploads a file."""
    return APIRequest(RequestKind.UPLOAD, "POST", "/comics/upload", form=form)


def check_files(request: AnyRequest) -> None:
    """Check that the files of a request can be read and are not too large. It blocks.

    Raises:
        InvalidRequestError: One can't be uploaded; the error has its field and its path.
    """
    for field, path in files_of(request):
        _check_file(field, path)


async def missing_uploads(files: Iterable[Path], store: UploadStore) -> int:
    """Return how many uploads files need: each content once, without what was uploaded lately.

    Args:
        files: The files; one that can't be read counts, and is refused when it is needed.
        store: What remembers the uploads of earlier runs.
    """
    missing: set[str | Path] = set()
    since = time.time() - _FRESH
    for path in files:
        try:
            digest = await asyncio.to_thread(_hash_of, path)
        except OSError:
            missing.add(path)
            continue
        if digest not in missing:
            url = await store.uploaded(digest, since)
            if url is None or not is_lasting(url):
                missing.add(digest)
    return len(missing)


@attrs.define(eq=False)
class _Flight:
    """One upload that is going on, and how many wait for it."""

    task: asyncio.Task[tuple[str, float]]
    waiting: int = 0


class _ChangedError(Exception):
    """A file is another one than when it was looked at."""


class Uploads:
    """The uploads of the files that requests name, each content once; for one event loop.

    Args:
        send: Sends a request and returns its parsed answer, as `ClientCore.send` does.
    """

    def __init__(self, send: Callable[..., Awaitable[Upload]]) -> None:
        self._send = send
        self._known: dict[str, tuple[str, float]] = {}
        """The URL of each content and the unix time of its upload, by the content's hash."""
        self._flights: dict[str, _Flight] = {}
        self._digests: dict[tuple[object, ...], str] = {}
        """The hash of each file's content, by what changes when the file does."""

    async def completed(self, request: _R, store: UploadStore | None = None, **how: Any) -> _R:
        """Return a request with URLs in the place of its files, which are uploaded before.

        Args:
            request: The request.
            store: What remembers uploads for the next run.
            **how: Urgency and patience of an upload, as for `ClientCore.send`.

        Raises:
            InvalidRequestError: A file can't be uploaded; the error has its field and its path.
            LlamaGenError: It was not uploaded.
        """
        urls: dict[Path, str] = {}
        for field, path in files_of(request):
            if path not in urls:
                urls[path] = await self._url(field, path, store, how)
        return with_urls(request, urls) if urls else request

    async def _url(
        self, field: str, path: Path, store: UploadStore | None, how: dict[str, Any]
    ) -> str:
        for _ in range(_MOST_TRIES):
            digest = await asyncio.to_thread(self._digest, field, path)
            since = time.time() - _FRESH
            url = None if store is None else await store.uploaded(digest, since)
            if url is not None and is_lasting(url):
                return url
            try:
                url, at = await self._uploaded(digest, path, since, how)
            except _ChangedError:
                continue
            if store is not None:
                await store.keep_upload(digest, url, at)
            return url
        raise InvalidRequestError(field, str(path), "a file that stays as it is while it is sent")

    async def _uploaded(
        self, digest: str, path: Path, since: float, how: dict[str, Any]
    ) -> tuple[str, float]:
        """Return the URL of a content and when it was uploaded; those who wait share one upload."""
        while (
            (known := self._known.get(digest)) is None
            or known[1] < since
            or not is_lasting(known[0])
        ):
            flight = self._flights.get(digest)
            is_first = flight is None
            if flight is None:
                flight = _Flight(asyncio.create_task(self._upload(digest, path, how)))
                self._flights[digest] = flight
                flight.task.add_done_callback(partial(self._landed, digest))
            flight.waiting += 1
            try:
                return await asyncio.shield(flight.task)
            except Exception:
                if is_first:
                    raise  # the others try by their own patience
            finally:
                flight.waiting -= 1
                if not flight.waiting:
                    flight.task.cancel()
        return known

    def _landed(self, digest: str, task: asyncio.Task[tuple[str, float]]) -> None:
        del self._flights[digest]
        if not task.cancelled():
            task.exception()  # retrieved, whoever is left to hear of it

    async def _upload(self, digest: str, path: Path, how: dict[str, Any]) -> tuple[str, float]:
        form = await form_file(path)
        upload = await self._send(upload_request(form), Upload.parse, **how)
        if not upload.url.startswith(URL_BEGINNINGS):  # the request would be refused for it
            what = f"the upload of {path.name} has no URL but {shown(upload.url)}"
            raise InvalidResponseError(HTTPStatus.OK, None, what, upload.raw)
        # It waits for a slot and is read as it is sent: what was sent may be another content.
        with contextlib.suppress(InvalidRequestError):  # it is gone since, and was read before
            if await asyncio.to_thread(self._digest, "file", path) != digest:
                raise _ChangedError
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        known = self._known[digest] = upload.url, time.time()
        return known

    def _digest(self, field: str, path: Path) -> str:
        """Return the hash of a file's content, which is read again only if the file was changed."""
        _check_file(field, path)
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
                if state not in self._digests:
                    if len(self._digests) >= _MOST_KNOWN:
                        self._digests.clear()
                    self._digests[state] = hashlib.file_digest(file, "sha256").hexdigest()
                return self._digests[state]
        except OSError as error:
            raise _unreadable(field, path, error) from None


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(field: str, path: Path) -> None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # what is none may never end
            raise InvalidRequestError(field, str(path), "a file")
        _check_size(field, status.st_size, path)
        with path.open("rb"):
            pass
    except OSError as error:
        raise _unreadable(field, path, error) from None


def _opened(path: Path) -> tuple[bytes | Path, bytes]:
    """Return a file on disk and its first bytes; what can be read only once is read."""
    try:
        with path.open("rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                content = opened.read(LARGEST_UPLOAD + 1)
                _check_size("file", len(content))
                return content, content[:HEAD]
            _check_size("file", status.st_size, path)
            return path, opened.read(HEAD)
    except OSError as error:
        raise _unreadable("file", path, error) from None


def _unreadable(field: str, path: Path, error: OSError) -> InvalidRequestError:
    allowed = f"a file that can be read ({error.strerror or error})"
    return InvalidRequestError(field, str(path), allowed)


async def _content(file: object) -> bytes:
    if isinstance(file, bytes | bytearray | memoryview):
        view = memoryview(cast("bytes", file))
        _check_size("file", view.nbytes)
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
            piece: object = await (read(wanted) if is_coroutine else in_own_thread(read, wanted))
            if inspect.isawaitable(piece):
                piece = await piece
        except Exception as error:  # it is closed, open for writing, broken, or reads no part
            allowed = f"a file that can be read ({clean_text(str(error)) or type(error).__name__})"
            raise InvalidRequestError("file", file, allowed) from error
        if not isinstance(piece, bytes | bytearray):
            raise InvalidRequestError("file", file, _FILE)
        if not piece:
            break
        pieces.append(bytes(piece))
        size += len(piece)
    _check_size("file", size)
    return b"".join(pieces)


def _check_size(field: str, size: int, path: Path | None = None) -> None:
    if not 0 < size <= LARGEST_UPLOAD:
        more = " or more" if size > LARGEST_UPLOAD and path is None else ""
        name = "" if path is None else f" in {path}"
        raise InvalidRequestError(field, f"{size:,} bytes{more}{name}", _SIZE)


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
