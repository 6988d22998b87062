"""One asset on its way to disk: what is asked for, what is believed, when it starts again.

A transfer that broke off goes on from what has arrived only if the server promises the same bytes:
it has named them by a strong validator (RFC 9110, 8.8), is asked for the rest on that condition
(`If-Range`), and answers with the part that was asked for. Any other answer starts from the first
byte, so that two pictures are never spliced into one.

Until it is complete, an asset is a hidden file in the same folder. Whatever fails, that file is
removed and the error names the file that was to be written.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import secrets
from collections.abc import Callable, Generator, Mapping
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Final, ParamSpec, TypeVar

from llamagen_async.downloads.media_types import HEAD, extension_of, is_media_type, is_whole
from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    InvalidResponseError,
    LlamaGenError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
)
from llamagen_async.plans import RequestKind
from llamagen_async.transport.assets import asset_location
from llamagen_async.transport.decoding import SERVER_FAILURE, parse_http_date
from llamagen_async.transport.message import AssetSource, AssetStream
from llamagen_async.transport.retries import retrying

__all__ = ["Transfer", "in_thread"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_WRITE_SIZE: Final = 1 << 20
"""Bytes that are collected before a thread writes them."""
_ANSWERS_TO_RANGE: Final = (
    HTTPStatus.PARTIAL_CONTENT,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
)
_ERRORS: Final[dict[int, type[APIError]]] = {403: PermissionDeniedError, 404: NotFoundError}
_RANGE: Final = r"bytes (?P<start>\d{1,18})-(?P<end>\d{1,18})/(?P<total>\d{1,18}|\*)"


class Transfer:
    """One asset, over as many attempts as it takes.

    Args:
        source: Opens the URL.
        url: The asset's URL.
        folder: The folder of the file.
        stem: The file's name without extension, safe and nobody else's.
        largest: Bytes above which the asset is refused.

    Raises:
        InvalidRequestError: The URL is not http or https.
    """

    def __init__(
        self, source: AssetSource, url: str, folder: Path, stem: str, largest: int
    ) -> None:
        self._source = source
        self._url = url
        self._place = asset_location(url)
        self._folder = folder
        self._stem = stem
        self._largest = largest
        self._part = _PartFile(folder, stem)
        self._total: int | None = None
        """Bytes of the whole asset, once the server has said so."""
        self._until: int | None = None
        """Bytes that the file has at the end of this answer, if the answer says so."""
        self._validator: str | None = None
        """A tag or date of the asset's content; without one nothing is resumed."""
        self._extension: str | None = None

    async def run(self, *, max_retries: int, speed: float) -> Path:
        """Fetch the asset and return its file; see `download_assets`."""
        # Reading an asset is as safe to repeat as reading a status.
        attempt = retrying(
            self._attempt, kind=RequestKind.STATUS, max_retries=max_retries, speed=speed
        )
        try:
            return await attempt()
        finally:
            await in_thread(self._part.discard)

    async def _attempt(self) -> Path:
        if self._part.size and self._validator:
            rest = {"Range": f"bytes={self._part.size}-", "If-Range": self._validator}
            async with self._source.open_asset(self._url, headers=rest) as answer:
                if answer.status == HTTPStatus.OK:
                    return await self._begin(answer)
                if answer.status not in _ANSWERS_TO_RANGE:
                    raise self._refused(answer.status)
                if answer.status == HTTPStatus.PARTIAL_CONTENT and self._continues(answer.headers):
                    return await self._receive(answer)
        async with self._source.open_asset(self._url) as answer:
            if answer.status != HTTPStatus.OK:
                raise self._refused(answer.status)
            return await self._begin(answer)

    async def _begin(self, answer: AssetStream) -> Path:
        """Take the whole asset from its first byte on, whatever came before."""
        headers = answer.headers
        await in_thread(self._part.empty)
        if not is_media_type(headers.get("Content-Type")):
            raise self._invalid(f"it is {headers['Content-Type']!r:.80}, not a picture or a video")
        length = None if _is_encoded(headers) else _length(headers)
        self._total = self._until = length
        self._validator = None if _is_encoded(headers) else _validator(headers)
        self._extension = None
        self._check_size(length or 0)
        if (kept := await in_thread(self._kept, headers)) is not None:
            return kept
        return await self._receive(answer)

    def _continues(self, headers: Mapping[str, str]) -> bool:
        """Whether an answer is the part that was asked for, and of the same asset."""
        found = re.fullmatch(_RANGE, headers.get("Content-Range", "").strip())
        if found is None or _is_encoded(headers):
            return False
        start, until = int(found["start"]), int(found["end"]) + 1
        total = None if found["total"] == "*" else int(found["total"])
        known = total if self._total is None else self._total
        fits = (
            self._is_same(headers)
            and start == self._part.size
            and until > start
            and total in (None, known)
            and (known is None or until <= known)
            and _length(headers) in (None, until - start)
        )
        if fits:
            self._total, self._until = known, until
            self._check_size(until)
        return fits

    def _is_same(self, headers: Mapping[str, str]) -> bool:
        """Whether the server says that a part belongs to what is here."""
        if self._validator and self._validator.startswith('"'):
            return headers.get("ETag") == self._validator  # has to be said (RFC 9110, 15.3.7)
        return headers.get("Last-Modified", self._validator) == self._validator

    async def _receive(self, answer: AssetStream) -> Path:
        pending = bytearray()
        try:
            async for chunk in answer.chunks():
                self._check_size(self._part.size + len(pending) + len(chunk))
                pending += chunk
                if len(pending) >= _WRITE_SIZE:
                    await self._write(answer.headers, pending)
        except APIConnectionError:
            # What arrived need not be sent again; too little to tell what it is, is not worth it.
            if self._part.size or len(pending) >= HEAD:
                await self._write(answer.headers, pending)
            raise
        if pending:
            await self._write(answer.headers, pending)
        return await self._complete(answer.headers)

    async def _write(self, headers: Mapping[str, str], pending: bytearray) -> None:
        if not self._extension:
            self._extension = extension_of(headers.get("Content-Type"), bytes(pending[:HEAD]))
            if not self._extension:
                raise self._invalid("it does not begin like the picture or video it is said to be")
        await in_thread(self._part.append, bytes(pending))
        pending.clear()

    async def _complete(self, headers: Mapping[str, str]) -> Path:
        size = self._part.size
        if self._until is not None and size > self._until:
            self._validator = None  # what was sent is not what was announced
        for whole in (self._until, self._total):
            if whole is not None and size != whole:
                raise APIConnectionError(f"{self._place}: got {size} of {whole} bytes")
        if not self._extension:
            raise self._invalid("the asset is empty")
        chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        if not chunked and _length(headers) is None:
            # Nothing but the end of the connection says that this is the end.
            first, last = await in_thread(self._part.ends, HEAD)
            if not is_whole(self._extension, size, first, last):
                raise APIConnectionError(f"{self._place}: broke off after {size} bytes")
        return await in_thread(self._part.finish, self._extension)

    def _kept(self, headers: Mapping[str, str]) -> Path | None:
        """Return the file that is there already, if the server's answer says it is the same."""
        extension = extension_of(headers.get("Content-Type"))
        modified = parse_http_date(headers.get("Last-Modified"))
        if not extension or not modified or not self._total:
            return None
        path = self._folder / f"{self._stem}{extension}"
        try:
            there = path.stat()
        except OSError:
            return None
        same = there.st_size == self._total and there.st_mtime >= modified.timestamp()
        return path if same and path.is_file() else None

    def _check_size(self, size: int) -> None:
        if size > self._largest:
            raise self._invalid(f"the asset is larger than {self._largest / 1e6:g} MB")

    def _invalid(self, what: str) -> InvalidResponseError:
        return InvalidResponseError(HTTPStatus.OK, None, f"{self._place}: {what}")

    def _refused(self, status: int) -> LlamaGenError:
        error = _ERRORS.get(status, ServerError if status in SERVER_FAILURE else APIError)
        return error(
            status,
            None,
            f"{self._place}: the asset was not given out; URLs of assets expire, so get the "
            "generation again (nothing is charged for that) and then its assets",
        )


def _is_encoded(headers: Mapping[str, str]) -> bool:
    """Whether the content is unpacked on the way: lengths then mean other bytes."""
    return headers.get("Content-Encoding", "identity").strip().lower() != "identity"


def _length(headers: Mapping[str, str]) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if re.fullmatch("[0-9]{1,18}", length) else None


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return the header value that promises the same bytes: a strong tag or a strong date.

    An asset that changed twice in a second has one date for two contents; a date counts only if
    the answer is from a later second (RFC 9110, 8.8.2.2).
    """
    tag = headers.get("ETag", "")
    if tag.startswith('"'):
        return tag
    modified = parse_http_date(headers.get("Last-Modified"))
    sent = parse_http_date(headers.get("Date"))
    if not tag and modified and sent and sent - modified >= timedelta(seconds=1):
        return headers["Last-Modified"]
    return None


class _PartFile:
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
        self.size = 0
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

    def ends(self, length: int) -> tuple[bytes, bytes]:
        """Return the first and the last bytes, `length` of each if the file is that long."""
        assert self._file is not None
        with self._named():
            self._file.seek(0)
            first = self._file.read(length)
            self._file.seek(max(0, self.size - length))
            return first, self._file.read(length)

    def finish(self, extension: str) -> Path:
        """Give the file its final name, in place of a file that may be there; return its path.

        Args:
            extension: The end of the name, with its dot.
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
