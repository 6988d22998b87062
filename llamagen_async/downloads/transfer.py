"""One asset on its way to disk: what is asked for, what is believed, and when it starts anew.

A transfer that broke off goes on from what has arrived only if the server promises the same bytes:
it has named them by a strong validator (RFC 9110, 8.8), is asked for the rest on that condition
(`If-Range`), and answers with the part that was asked for. Any other answer starts from the first
byte, so that two pictures are never spliced into one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final

from llamagen_async.downloads.media_types import HEAD, extension_of, is_media_type, is_whole
from llamagen_async.downloads.part_file import PartFile, in_thread
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
from llamagen_async.transport.assets import asset_place
from llamagen_async.transport.decoding import SERVER_FAILURE, parse_http_date
from llamagen_async.transport.message import AssetSource, AssetStream
from llamagen_async.transport.retries import retrying

__all__ = ["Download"]

_WRITTEN: Final = 1 << 20
"""Bytes that are collected before a thread writes them."""
_ERRORS: Final[dict[int, type[APIError]]] = {403: PermissionDeniedError, 404: NotFoundError}
_RANGE: Final = r"bytes (?P<start>\d{1,18})-(?P<end>\d{1,18})/(?P<total>\d{1,18}|\*)"


class Download:
    """One asset, over as many attempts as it takes.

    Args:
        source: What opens the URL.
        url: Where it is.
        folder: Where to.
        stem: The file's name without extension, safe and nobody else's.
        largest: Bytes above which it is refused.

    Raises:
        InvalidRequestError: The URL is not http or https.
    """

    def __init__(
        self, source: AssetSource, url: str, folder: Path, stem: str, largest: int
    ) -> None:
        self._source = source
        self._url = url
        self._place = asset_place(url)
        self._folder = folder
        self._stem = stem
        self._largest = largest
        self._part = PartFile(folder, stem)
        self._total: int | None = None
        """Bytes of the whole asset, once the server has said so."""
        self._until: int | None = None
        """Bytes that are here when this answer is at its end, if it says so."""
        self._validator: str | None = None
        """What tells that the asset is still the same; without it nothing is resumed."""
        self._extension: str | None = None

    async def run(self, *, max_retries: int, speed: float) -> Path:
        """Fetch it and return its file; see `download_assets`."""
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
        """Take all of it from the first byte on, whatever came before."""
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
        """Whether an answer is the part that was asked for, of the asset that it was asked of."""
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
        """Whether a part is said to be of what is here."""
        if self._validator and self._validator.startswith('"'):
            return headers.get("ETag") == self._validator  # has to be said (RFC 9110, 15.3.7)
        return headers.get("Last-Modified", self._validator) == self._validator

    async def _receive(self, answer: AssetStream) -> Path:
        pending = bytearray()
        try:
            async for chunk in answer.chunks():
                self._check_size(self._part.size + len(pending) + len(chunk))
                pending += chunk
                if len(pending) >= _WRITTEN:
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


_ANSWERS_TO_RANGE: Final = (
    HTTPStatus.PARTIAL_CONTENT,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
)


def _is_encoded(headers: Mapping[str, str]) -> bool:
    """Whether what arrives is unpacked on the way: lengths then mean other bytes."""
    return headers.get("Content-Encoding", "identity").strip().lower() != "identity"


def _length(headers: Mapping[str, str]) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if re.fullmatch("[0-9]{1,18}", length) else None


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return what promises the same bytes: a strong tag, or a date that is strong.

    Something that changed twice in a second has one date for two contents; a date counts only if
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
