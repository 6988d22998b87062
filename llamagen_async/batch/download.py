"""Pictures and videos onto disk: whole or not at all, and nowhere but in the folder given.

Each asset is written to a hidden temporary file in the same folder, checked, and then renamed, so
that a file under its final name is always complete. No key is sent to the hosts of assets, and no
message shows a URL's query, which may be a signature. Nothing here costs a place in the rate limit.

A file that is there already is kept if the server's answer says that it is the same: same name,
same length, and not modified since the file was written (`Last-Modified`). Without that header it
is fetched again, because a redrawn panel has the same name and might have the same length.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Final, ParamSpec, TypeVar

from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaGenError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
)
from llamagen_async.models import ComicGeneration
from llamagen_async.plans import RequestKind
from llamagen_async.transport.assets import asset_place
from llamagen_async.transport.decoding import SERVER_FAILURE, parse_http_date
from llamagen_async.transport.media import HEAD, distinct_stems, extension_of, is_media_type
from llamagen_async.transport.message import AssetSource, AssetStream
from llamagen_async.transport.retries import retrying

__all__ = ["LARGEST_ASSET", "asset_names", "download_assets"]

LARGEST_ASSET: Final = 200_000_000
"""Bytes of the largest asset that is accepted."""

_P = ParamSpec("_P")
_T = TypeVar("_T")

_WRITTEN: Final = 1 << 20
"""Bytes that are collected before a thread writes them."""
_ERRORS: Final[dict[int, type[APIError]]] = {403: PermissionDeniedError, 404: NotFoundError}


def asset_names(generation: ComicGeneration) -> list[tuple[str, str]]:
    """Name all pictures of a comic.

    Returns:
        Pairs of URL and file name without extension, as many as `generation.asset_urls` and in
        the same order: `<id>-p01-02` for the second panel of the first page, counted from 1 in
        reading order, and `<id>-output` for `output` if it is another picture.
    """
    names: dict[str, str] = {}
    for page_number, page in enumerate(generation.pages, 1):
        for panel_number, panel in enumerate(page.panels, 1):
            if panel.asset_url:
                stem = f"{generation.id}-p{page_number:02}-{panel_number:02}"
                names.setdefault(panel.asset_url, stem)
    if generation.output:
        names.setdefault(generation.output, f"{generation.id}-output")
    return list(names.items())


async def download_assets(
    urls: Sequence[tuple[str, str]],
    folder: Path,
    *,
    source: AssetSource,
    concurrency: int = 8,
    max_retries: int = 4,
    speed: float = 1.0,
    largest: int = LARGEST_ASSET,
) -> list[Path]:
    """Fetch assets into a folder, several at a time.

    Lost connections, timeouts and 5xx are tried again after a random wait that grows; what has
    arrived is kept and resumed where the server allows it. One asset's failure does not stop the
    others: all are tried, and then the first failure is raised. On cancellation, complete files
    stay and incomplete ones are removed.

    Args:
        urls: Pairs of URL and file name without extension. The names are made safe and unique.
        folder: Where to; made if it is missing.
        source: What opens the URLs, such as `HTTPTransport`.
        concurrency: How many at the same time.
        max_retries: How many times each is tried again, at most.
        speed: How many times faster than real time the waits pass.
        largest: Bytes above which an asset is refused.

    Returns:
        The files, in the order of `urls`.

    Raises:
        InvalidRequestError: A URL is not http or https, or `concurrency` is less than 1.
        APIConnectionError: A connection failed until the last attempt.
        APIError: A server refused, or what it sent is no picture or video, or too large.
        OSError: A file cannot be written.
    """
    if concurrency < 1:
        raise InvalidRequestError("concurrency", concurrency, "a whole number of at least 1")
    await _in_thread(folder.mkdir, parents=True, exist_ok=True)
    free = asyncio.Semaphore(concurrency)

    async def fetch(url: str, stem: str) -> Path | Exception:
        async with free:
            try:
                download = _Download(source, url, folder, stem, largest)
                return await download.run(max_retries=max_retries, speed=speed)
            except (LlamaGenError, OSError) as error:
                return error

    stems = distinct_stems([stem for _, stem in urls])
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(fetch(url, stem)) for (url, _), stem in zip(urls, stems, strict=True)
        ]
    files: list[Path] = []
    for task in tasks:
        result = task.result()
        if isinstance(result, Exception):
            raise result
        files.append(result)
    return files


class _Download:
    """One asset on its way to disk, over as many attempts as it takes."""

    def __init__(
        self, source: AssetSource, url: str, folder: Path, stem: str, largest: int
    ) -> None:
        self._source = source
        self._url = url
        self._place = asset_place(url)
        self._folder = folder
        self._stem = stem
        self._largest = largest
        self._part = folder / f".{stem}.{secrets.token_hex(4)}.part"
        self._file: BinaryIO | None = None
        self._size = 0
        """Bytes in the temporary file."""
        self._total: int | None = None
        """Bytes of the whole asset, once the server has said so."""
        self._validator: str | None = None
        """What tells that the asset is still the same; without it nothing is resumed."""
        self._extension: str | None = None

    async def run(self, *, max_retries: int, speed: float) -> Path:
        # Reading an asset is as safe to repeat as reading a status.
        attempt = retrying(
            self._attempt, kind=RequestKind.STATUS, max_retries=max_retries, speed=speed
        )
        try:
            return await attempt()
        finally:
            await _in_thread(self._discard)

    async def _attempt(self) -> Path:
        headers: dict[str, str] = {}
        if self._size and self._validator:
            headers = {"Range": f"bytes={self._size}-", "If-Range": self._validator}
        async with self._source.open_asset(self._url, headers=headers) as answer:
            if headers and answer.status == HTTPStatus.PARTIAL_CONTENT:
                self._check_range(answer.headers)
            elif answer.status == HTTPStatus.OK:
                await self._start(answer.headers)
                if (kept := await _in_thread(self._kept, answer.headers)) is not None:
                    return kept
            else:
                raise self._refused(answer.status)
            await self._receive(answer)
        if self._total is not None and self._size != self._total:
            raise APIConnectionError(f"{self._place}: got {self._size} of {self._total} bytes")
        if not self._extension:
            raise self._invalid("the asset is empty")
        path = self._folder / f"{self._stem}{self._extension}"
        await _in_thread(self._finish, path)
        return path

    async def _start(self, headers: Mapping[str, str]) -> None:
        """Begin from the first byte, whatever came before."""
        await _in_thread(self._empty)
        if not is_media_type(headers.get("Content-Type")):
            raise self._invalid(f"it is {headers['Content-Type']!r:.80}, not a picture or a video")
        encoded = headers.get("Content-Encoding", "identity").lower() != "identity"
        length = headers.get("Content-Length", "")
        self._total = int(length) if re.fullmatch("[0-9]{1,18}", length) and not encoded else None
        tag = headers.get("ETag", "")
        # A weak tag does not promise the same bytes.
        validator = headers.get("Last-Modified") if not tag or tag.startswith("W/") else tag
        self._validator = None if encoded else validator
        self._extension = None
        self._check_size(self._total or 0)

    async def _receive(self, answer: AssetStream) -> None:
        pending = bytearray()
        try:
            async for chunk in answer.chunks():
                self._check_size(self._size + len(pending) + len(chunk))
                pending += chunk
                if len(pending) >= _WRITTEN:
                    await self._write(answer.headers, pending)
        except APIConnectionError:
            # What arrived need not be sent again; too little to tell what it is, is not worth it.
            if self._size or len(pending) >= HEAD:
                await self._write(answer.headers, pending)
            raise
        if pending:
            await self._write(answer.headers, pending)

    async def _write(self, headers: Mapping[str, str], pending: bytearray) -> None:
        if not self._extension:
            self._extension = extension_of(headers.get("Content-Type"), bytes(pending[:HEAD]))
            if not self._extension:
                raise self._invalid("it does not begin like a picture or a video")
        await _in_thread(self._append, bytes(pending))
        self._size += len(pending)
        pending.clear()

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

    def _check_range(self, headers: Mapping[str, str]) -> None:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        total = None if self._total is None else str(self._total)
        if not found or int(found[1]) != self._size or (total and found[2] not in ("*", total)):
            self._validator = None  # the next attempt starts from the first byte
            raise APIConnectionError(f"{self._place}: resumed at another place than asked for")

    def _check_size(self, size: int) -> None:
        if size > self._largest:
            raise self._invalid(f"the asset is larger than {self._largest / 1e6:g} MB")

    def _invalid(self, what: str) -> InvalidResponseError:
        return InvalidResponseError(HTTPStatus.OK, None, f"{self._place}: {what}")

    def _refused(self, status: int) -> LlamaGenError:
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self._size:
            self._validator = None
            return APIConnectionError(f"{self._place}: cannot be resumed")
        error = _ERRORS.get(status, ServerError if status in SERVER_FAILURE else APIError)
        return error(
            status,
            None,
            f"{self._place}: the asset was not given out; URLs of assets expire, so get the "
            "generation again (nothing is charged for that) and then its assets",
        )

    # What follows runs in a thread, one call at a time.

    def _append(self, content: bytes) -> None:
        if self._file is None:
            self._file = self._part.open("xb")
        self._file.write(content)

    def _empty(self) -> None:
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
        self._size = 0

    def _finish(self, path: Path) -> None:
        assert self._file is not None
        self._file.flush()
        # Else a power cut could leave the final name on an empty file.
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(path)
        self._file = None

    def _discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk may make itself heard once more
                self._file.close()
            self._part.unlink(missing_ok=True)
            self._file = None


async def _in_thread(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
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
