"""Sources of assets: the real transport, and one that knows how much was taken."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llamagen_async.transport import HTTPTransport
from tests.support.assets import KEY
from tests.support.counted_assets import CountedAssets


@pytest.fixture
async def source() -> AsyncIterator[HTTPTransport]:
    transport = HTTPTransport("https://api.example", KEY)
    yield transport
    await transport.aclose()


@pytest.fixture
def watched(source: HTTPTransport) -> CountedAssets:
    return CountedAssets(source)
