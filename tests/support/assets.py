"""Pictures for tests of downloads: their bytes, their servers, and the files they become."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from llamagen_async.downloads.download import download_assets
from llamagen_async.transport import AssetSource, HTTPAssets
from tests.support.rawserver import answer

__all__ = [
    "FUTURE",
    "KEY",
    "OTHER",
    "PAST",
    "PNG",
    "TAG",
    "Handler",
    "Make",
    "fetch",
    "files",
    "picture",
    "read",
    "serving",
]

KEY = "lg_sk_0123456789abcdef"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
OTHER = PNG[:64] + PNG[:63:-1]
"""Another picture of the same length."""
TAG = {"ETag": '"v1"'}
PAST = "Wed, 01 Jan 2020 00:00:00 GMT"
FUTURE = "Tue, 01 Jan 2115 00:00:00 GMT"
Make = Callable[..., HTTPAssets]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def picture(content: bytes = PNG, **more: Any) -> bytes:
    return answer(content, **{"content_type": "image/png", **more})


async def read(assets: AssetSource, url: str, **headers: str) -> bytes:
    async with assets.open_asset(url, headers=headers) as stream:
        return b"".join([chunk async for chunk in stream.chunks()])


async def fetch(source: AssetSource, url: str, folder: Path, **options: Any) -> Path:
    options = {"speed": 1e6, "timeout": 60.0, **options}
    (path,) = await download_assets([(url, "c1-p01-01")], folder, source=source, **options)
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Serve with aiohttp on loopback and yield the address."""
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
