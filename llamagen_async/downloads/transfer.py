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
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final

from llamagen_async.downloads.media_types import HEAD, PICTURES, VIDEOS, extension_of
from llamagen_async.downloads.part_file import PartFile, in_thread
from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    InvalidResponseError,
    LlamaGenError,
    RateLimitError,
    ServerError,
)
from llamagen_async.foreign import clean_text
from llamagen_async.transport.address import asset_location
from llamagen_async.transport.decoding import (
    SERVER_FAILURE,
    parse_http_date,
    parse_retry_after,
)
from llamagen_async.transport.message import AssetSource, AssetStream
from llamagen_async.transport.retries import may_pass

__all__ = ["Transfer", "gives_all", "tells_its_end"]

_WRITE_SIZE: Final = 1 << 18
"""Bytes that are collected before a thread writes them."""
_WHOLE: Final = (HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION)
"""The statuses of a whole asset; 203 is that of a proxy that has changed something (RFC 9110)."""
_SLOW_AFTER: Final = 60.0
"""Seconds after which an answer may be too slow."""
_SLOWEST: Final = 1_000
"""Bytes a second below which an answer is given up then: it keeps others from being fetched."""
_WORDS: Final = 2_000
"""Bytes that are read of a refusal's content, at most."""
_SHOWN: Final = 120
"""Characters that a message repeats of it."""
_RANGE: Final = r"bytes (?P<start>\d{1,18})-(?P<end>\d{1,18})/(?P<total>\d{1,18}|\*)"


class Transfer:
    """One asset, over as many attempts as it takes.

    Args:
        source: Opens the URL.
        folder: The folder of the file.
        stem: The file's name without extension, safe and nobody else's.
        largest: Bytes above which the asset is refused.
        keeps_old: Whether the file that is there is kept under another name.
    """

    def __init__(
        self,
        source: AssetSource,
        folder: Path,
        stem: str,
        largest: int,
        *,
        keeps_old: bool = False,
    ) -> None:
        self.asked_to_wait: float = 0.0
        """Seconds that the host asked to wait at the last attempt."""
        self._source = source
        self._folder = folder
        self._stem = stem
        self._largest = largest
        self._keeps_old = keeps_old
        self._place = ""
        """The host and path of the URL, for messages."""
        self._address = ""
        """The URL without its query, in which signatures stand."""
        self._part = PartFile(folder, stem)
        self._total: int | None = None
        """Bytes of the whole asset, once the server has said so."""
        self._until: int | None = None
        """Bytes that the file has at the end of this answer, if the answer says so."""
        self._validator: str | None = None
        """A tag or date of the asset's content; without one nothing is resumed."""
        self._extension: str | None = None

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self._part.size

    async def discard(self) -> None:
        """Remove what is here, unless it has become a file."""
        await in_thread(self._part.discard)

    async def attempt(self, url: str) -> Path:
        """Ask for the asset, or for the rest of it, and return its file once it is whole.

        Raises:
            LlamaGenError: It has not come; what has come of it is kept for the next attempt.
            OSError: The file can't be written.
        """
        self.asked_to_wait = 0.0
        self._place = asset_location(url)
        if (address := url.partition("?")[0]) != self._address:
            # Another place may have the same tag or date for another picture.
            self._address, self._validator = address, None
        if self._part.size and self._validator:
            rest = {"Range": f"bytes={self._part.size}-", "If-Range": self._validator}
            async with self._source.open_asset(url, headers=rest) as answer:
                if answer.status in _WHOLE:
                    return await self._begin(answer)
                if answer.status == HTTPStatus.PARTIAL_CONTENT:
                    if self._continues(answer.headers):
                        return await self._receive(answer)
                elif may_pass(error := await self._refused(answer)):
                    raise error
            # What refuses a part may give out the whole: not every host or firewall knows parts.
        async with self._source.open_asset(url) as answer:
            if not gives_all(answer):
                raise await self._refused(answer)
            return await self._begin(answer)

    async def _begin(self, answer: AssetStream) -> Path:
        """Take the whole asset from its first byte on, whatever came before."""
        headers = answer.headers
        await in_thread(self._part.empty)
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
        pending, received = bytearray(), 0
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async for chunk in answer.chunks():
                self._check_size(self._part.size + len(pending) + len(chunk))
                pending += chunk
                received += len(chunk)
                if (took := loop.time() - began) > _SLOW_AFTER and received < took * _SLOWEST:
                    raise APITimeoutError(f"{self._place}: {received} bytes came in {took:.0f} s")
                if len(pending) >= (_WRITE_SIZE if self._extension else HEAD):
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
            said = headers.get("Content-Type")
            self._extension = extension_of(said, bytes(pending[:HEAD]))
            if not self._extension:
                what = clean_text(said or "of no content type", 80)
                raise self._invalid(f"it is {what} and begins like no known picture or video")
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
        is_told = tells_its_end(headers)
        if not is_told and not await in_thread(self._part.is_whole, self._extension):
            raise APIConnectionError(f"{self._place}: broke off after {size} bytes")
        finish = self._part.finish
        return await in_thread(finish, self._extension, keeps_old=self._keeps_old)

    def _kept(self, headers: Mapping[str, str]) -> Path | None:
        """Return the file that is there already, if the server's answer says it is the same."""
        modified = parse_http_date(headers.get("Last-Modified"))
        if self._keeps_old or not modified or not self._total:
            return None
        for extension in (*PICTURES, *VIDEOS):
            path = self._folder / f"{self._stem}{extension}"
            try:
                there = path.stat()
            except OSError:
                continue
            same = there.st_size == self._total and there.st_mtime >= modified.timestamp()
            if same and path.is_file():
                return path
        return None

    def _check_size(self, size: int) -> None:
        if size > self._largest:
            raise self._invalid(f"the asset is larger than {self._largest / 1e6:g} MB")

    def _invalid(self, what: str) -> InvalidResponseError:
        return InvalidResponseError(HTTPStatus.OK, None, f"{self._place}: {what}")

    async def _refused(self, answer: AssetStream) -> APIError:
        """Make the error for an answer without the asset, in the words of its host."""
        status, headers = answer.status, answer.headers
        now = parse_http_date(headers.get("Date")) or datetime.now(UTC)
        asked = parse_retry_after(headers.get("Retry-After"), now)
        self.asked_to_wait = asked or 0.0
        message = f"{self._place}: {await _words(answer)}"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return RateLimitError(status, None, message, retry_after=asked)
        return (ServerError if status in SERVER_FAILURE else APIError)(status, None, message)


def gives_all(answer: AssetStream) -> bool:
    """Whether an answer is a whole asset: some caches send all of it as a part that begins at 0."""
    if answer.status != HTTPStatus.PARTIAL_CONTENT:
        return answer.status in _WHOLE
    found = re.fullmatch(_RANGE, answer.headers.get("Content-Range", "").strip())
    if found is None or int(found["start"]):
        return False
    return found["total"] == str(int(found["end"]) + 1)


def tells_its_end(headers: Mapping[str, str]) -> bool:
    """Whether anything but the end of the connection says that an asset has ended."""
    chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
    return chunked or _length(headers) is not None


async def _words(answer: AssetStream) -> str:
    """Return the reason that a host gives for a refusal, as far as it is fit for a message."""
    beginning = b""
    with contextlib.suppress(LlamaGenError):
        async for chunk in answer.chunks():
            beginning += chunk[:_WORDS]
            if len(beginning) >= _WORDS:
                break
    text = beginning[:_WORDS].decode("utf-8", "replace")
    # Stores of files answer in XML; what else is in it may repeat the URL.
    found = re.findall(r"<(?:Code|Message)>([^<]{1,200})</", text)
    if found:
        return clean_text(": ".join(found))
    is_plain = text.strip() and not re.search(r"[<{?=]", text)
    return clean_text(text, _SHOWN) if is_plain else "the host did not give it out"


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
