"""A source of assets that counts the bytes that were read, for transfers that break off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from llamagen_async.transport import AssetSource, AssetStream
from tests.support.rawserver import Received

__all__ = ["CountedAssets"]


class CountedAssets:
    """A source of assets that sets `enough` when enough bytes of one have been read.

    Bytes that aiohttp holds when a connection drops are lost, so a test that drops one must wait.
    """

    def __init__(self, source: AssetSource) -> None:
        self.source = source
        self.missing = 0
        self.enough = asyncio.Event()

    def took(self, size: int) -> None:
        self.missing -= size
        if self.missing <= 0:
            self.enough.set()

    @contextlib.asynccontextmanager
    async def open_asset(
        self, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[AssetStream]:
        async with self.source.open_asset(url, headers=headers) as stream:
            yield CountedStream(self, stream)

    async def aclose(self) -> None:
        await self.source.aclose()

    def expect(self, length: int) -> None:
        """Begin to count: `enough` is set once `length` bytes have been read."""
        self.missing = length
        self.enough.clear()

    async def break_off(self, received: Received, reply: bytes, length: int) -> None:
        """Drop the connection once `length` bytes of the reply have been read."""
        self.expect(length)
        await received.reply(reply)
        await self.enough.wait()
        received.drop()


class CountedStream:
    def __init__(self, assets: CountedAssets, stream: AssetStream) -> None:
        self.assets = assets
        self.stream = stream
        self.status = stream.status
        self.headers = stream.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self.stream.chunks():
            self.assets.took(len(chunk))
            yield chunk
