"""Fixtures of all tests of the transport: nothing is left open, and a server on loopback."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from llamagen_async.transport import HTTPAssets, HTTPTransport
from tests.support.assets import Make
from tests.support.exchange import KEY, reply_ok
from tests.support.rawserver import raw_server


@pytest.fixture(autouse=True, scope="module")
def _nothing_left_behind() -> Iterator[None]:
    """Have everything collected while a warning about an open socket still fails a test."""
    yield
    gc.collect()


@pytest.fixture
async def loopback() -> AsyncIterator[HTTPTransport]:
    async with raw_server(reply_ok) as server:
        transport = HTTPTransport(server.url, KEY)
        yield transport
        await transport.aclose()


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Make sources, which are closed at the end."""
    made: list[HTTPAssets | HTTPTransport] = []

    def make(
        api: str = "http://127.0.0.1:9", *, inactivity: float = 60.0, **options: Any
    ) -> HTTPAssets:
        transport = HTTPTransport(api, KEY, **options)
        assets = HTTPAssets(transport, inactivity=inactivity)
        made.extend((assets, transport))
        return assets

    yield make
    for one in made:
        await one.aclose()
