"""Pictures in memory, for those who look at a comic before its files are here.

However many look at one picture, its host is asked once, and again when what is held is a minute
old: what is drawn may yet change. Nothing is written to a disk.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextvars import Context
from http import HTTPStatus
from typing import Final

import attrs

from llamagen_async.downloads.media_types import HEAD, PICTURES, extension_of, media_type_of
from llamagen_async.downloads.transfer import gives_all, tells_its_end
from llamagen_async.downloads.wholeness import is_whole
from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    InvalidResponseError,
)
from llamagen_async.transport.address import asset_location
from llamagen_async.transport.message import AssetSource
from llamagen_async.waiting import result_for_all

__all__ = ["HeldPicture", "HeldPictures"]

_FRESH: Final = 60.0
"""Seconds for which a picture is held (chosen: all panels of a comic are drawn in some minutes)."""
_LARGEST: Final = 20_000_000
"""Bytes of the largest picture that is held, and of all together (chosen: dozens of panels)."""
_AT_ONCE: Final = 4
"""Pictures that are fetched at the same time."""
_TIMEOUT: Final = 30.0
"""Seconds for one picture, with the wait for its turn: somebody is looking."""


@attrs.frozen
class HeldPicture:
    """One picture."""

    content: bytes = attrs.field(repr=False)
    """The whole file."""
    media_type: str
    """The type that its first bytes tell, such as `image/png`."""


class HeldPictures:
    """The pictures that were looked at last; for one event loop.

    Args:
        source: Opens their URLs.
        largest: Bytes above which a picture is refused, and that are held of all together.
    """

    def __init__(self, source: AssetSource, *, largest: int = _LARGEST) -> None:
        self._source = source
        self._largest = largest
        self._held: OrderedDict[str, tuple[float, HeldPicture]] = OrderedDict()
        """Each picture with the loop's time at which it came, the oldest first."""
        self._fetches: dict[str, asyncio.Task[HeldPicture]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def get(self, url: str) -> HeldPicture:
        """Return the picture at a URL. Whoever is cancelled meanwhile leaves it to the others.

        Raises:
            InvalidRequestError: The URL is not http or https, or leads inside a network.
            APIError: Its host refuses it, or it is no picture or too large.
            APIConnectionError: It has not come.
            ClientClosedError: This, or the client, was closed.
        """
        self._drop_old()
        if url in self._held:
            return self._held[url][1]
        fetch = self._fetches.get(url)
        if fetch is None:
            fetch = self._fetches[url] = asyncio.Task(self._fetch(url), context=Context())
            fetch.add_done_callback(lambda done: self._end(url, done))
        return await result_for_all(fetch, "pictures are not fetched any more")

    async def aclose(self) -> None:
        """Fetch nothing more, and hold nothing."""
        fetches = list(self._fetches.values())
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
        self._held.clear()

    async def _fetch(self, url: str) -> HeldPicture:
        place, content = asset_location(url), bytearray()
        try:
            async with (
                asyncio.timeout(_TIMEOUT),
                self._turns,
                self._source.open_asset(url) as answer,
            ):
                if not gives_all(answer):
                    raise APIError(answer.status, None, f"{place}: the host did not give it out")
                headers = answer.headers
                async for chunk in answer.chunks():
                    content += chunk
                    if len(content) > self._largest:
                        what = f"the picture is larger than {self._largest / 1e6:g} MB"
                        raise InvalidResponseError(HTTPStatus.OK, None, f"{place}: {what}")
        except TimeoutError:
            raise APITimeoutError(f"{place}: not here after {_TIMEOUT:g} s") from None

        def piece(at: int, length: int) -> bytes:
            return bytes(content[at : at + length])

        extension = extension_of(None, piece(0, HEAD))
        if extension not in PICTURES:
            raise InvalidResponseError(HTTPStatus.OK, None, f"{place}: it begins like no picture")
        if not (tells_its_end(headers) or is_whole(extension, len(content), piece)):
            raise APIConnectionError(f"{place}: broke off after {len(content)} bytes")
        return HeldPicture(bytes(content), media_type_of(extension))

    def _end(self, url: str, fetch: asyncio.Task[HeldPicture]) -> None:
        self._fetches.pop(url, None)
        if not fetch.cancelled() and fetch.exception() is None:
            self._held[url] = asyncio.get_running_loop().time(), fetch.result()
            self._drop_old()

    def _drop_old(self) -> None:
        """Hold nothing that is too old, or too much."""
        until = asyncio.get_running_loop().time() - _FRESH
        size = sum(len(picture.content) for _, picture in self._held.values())
        while self._held:
            at, picture = next(iter(self._held.values()))
            if at > until and size <= self._largest:
                return
            self._held.popitem(last=False)
            size -= len(picture.content)
