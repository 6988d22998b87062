"""Sources of assets: the real transport, and one that knows how much was taken."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llamagen_async.transport import HTTPAssets, HTTPTransport
from tests.support.assets import KEY
from tests.support.counted_assets import CountedAssets


@pytest.fixture
async def source() -> AsyncIterator[HTTPAssets]:
    """The source of an API on this machine, for which pictures may be here, too."""
    assets = HTTPAssets(HTTPTransport("http://127.0.0.1:9", KEY))
    yield assets
    await assets.aclose()


@pytest.fixture
def watched(source: HTTPAssets) -> CountedAssets:
    return CountedAssets(source)
