"""A hostile host of pictures: errors of this package, bounded memory, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import tracemalloc
import zlib
from pathlib import Path

import pytest

from llamagen_async.downloads.download import download_assets
from llamagen_async.errors import LlamaGenError
from llamagen_async.transport import HTTPAssets, HTTPTransport
from tests.support.assets import PNG, files, picture
from tests.support.rawserver import Received, answer, raw_server

MEMORY = 80_000_000
"""Bytes that 32 pictures at once may take, with what the test and its server hold."""
CHUNKED = {"Transfer-Encoding": "chunked"}
PIECE = PNG * 10


def bomb() -> bytes:
    """Return 300 kB that become 300 MB of picture."""
    packer = zlib.compressobj(9)
    million = bytes(1_000_000)
    pieces = [packer.compress(PNG), *(packer.compress(million) for _ in range(300))]
    return b"".join(pieces) + packer.flush()


BOMB = bomb()


async def forever(received: Received, piece: bytes, pause: float = 0.0) -> None:
    while not received.writer.is_closing():
        await received.reply(piece)
        await asyncio.sleep(pause)


async def endless(received: Received) -> None:
    await received.reply(picture(b"", length=None, headers=CHUNKED))
    await forever(received, b"%x\r\n%s\r\n" % (len(PIECE), PIECE))


async def endless_without_length(received: Received) -> None:
    await received.reply(picture(b"", length=None))
    await forever(received, PIECE)


async def endless_text(received: Received) -> None:
    await received.reply(answer(b"", length=None, content_type="text/html"))
    await forever(received, b"<p>sorry" * 1000)


async def endless_refusal(received: Received) -> None:
    await received.reply(answer(b"", status="410 Gone", length=None))
    await forever(received, b"sorry " * 1000)


async def bombing(received: Received) -> None:
    await received.reply(picture(BOMB, headers={"Content-Encoding": "deflate"}))


async def dripping(received: Received) -> None:
    await received.reply(picture(PNG[:600], length=10**6))
    await forever(received, b"x", 0.01)


async def dripping_head(received: Received) -> None:
    await received.reply(b"HTTP/1.1 200 OK\r\n")
    await forever(received, b"X: y\r\n", 0.01)


async def interim(received: Received) -> None:
    await forever(received, b"HTTP/1.1 102 Processing\r\n\r\n" * 100)


async def head_without_end(received: Received) -> None:
    await received.reply(b"HTTP/1.1 200 OK\r\nX: ")
    await forever(received, b"x" * 10_000)


async def around(received: Received) -> None:
    await received.reply(answer(PIECE, status="302 X", headers={"Location": "/around"}))


async def inside(received: Received) -> None:
    to = {"Location": "http://169.254.169.254/latest/meta-data/"}
    await received.reply(answer(b"", status="302 X", headers=to))


async def garbage(received: Received) -> None:
    await received.reply(b"\0\xff" * 5000)
    received.drop()


async def too_short(received: Received) -> None:
    await received.reply(picture(PNG, length=len(PNG) + 1, headers={"ETag": '"v1"'}))
    received.drop()


async def wrong_part(received: Received) -> None:
    where = {"Content-Range": f"bytes 0-{10**17}/{10**17}"}
    await received.reply(picture(PNG, status="206 Partial Content", headers=where))


async def silent(received: Received) -> None:
    await asyncio.Event().wait()


async def dropping(received: Received) -> None:
    received.reset()


HOSTS = {
    host.__name__: host
    for host in (
        endless,
        endless_without_length,
        endless_text,
        endless_refusal,
        bombing,
        dripping,
        dripping_head,
        interim,
        head_without_end,
        around,
        inside,
        garbage,
        too_short,
        wrong_part,
        silent,
        dropping,
    )
}


async def serve(received: Received) -> None:
    await HOSTS[received.head.split()[1].strip("/").partition("-")[0]](received)


@pytest.mark.parametrize("host", HOSTS)
async def test_a_hostile_host_gets_an_error_and_leaves_nothing(
    host: str, source: HTTPAssets, tmp_path: Path
) -> None:
    async with raw_server(serve) as server:
        with pytest.raises(LlamaGenError) as caught:
            await download_assets(
                [(f"{server.url}/{host}?sig=hidden", "a")],
                tmp_path,
                source=source,
                timeout=0.5,
                largest=5_000_000,
            )
    assert "hidden" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    assert files(tmp_path) == []


async def test_the_loop_closes_no_generator_of_what_was_not_read_to_the_end(tmp_path: Path) -> None:
    """The loop would do so in tasks of its own, whenever they are found to be garbage."""
    source = HTTPAssets(HTTPTransport("http://127.0.0.1:9", "lg_sk_0123456789abcdef"))
    left: list[object] = []
    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(finalizer=left.append)
    try:
        async with raw_server(serve) as server:
            for name in ("bombing", "endless"):
                urls = [(f"{server.url}/{name}-1", "1")]
                with pytest.raises(LlamaGenError):
                    await download_assets(
                        urls, tmp_path, source=source, timeout=5, largest=1_000_000
                    )
        gc.collect()
    finally:
        sys.set_asyncgen_hooks(*before)
        await source.aclose()
    assert left == []


@pytest.mark.once
async def test_many_at_once_take_little_memory_and_leave_nothing(tmp_path: Path) -> None:
    """Sixty-four of the worst, as many at once as there ever are."""
    source = HTTPAssets(HTTPTransport("http://127.0.0.1:9", "lg_sk_0123456789abcdef"))
    before, threads = set(asyncio.all_tasks()), set(threading.enumerate())
    tracemalloc.start()
    try:
        async with raw_server(serve) as server:
            worst = ("endless", "endless_without_length", "bombing", "head_without_end")
            urls = [(f"{server.url}/{worst[n % 4]}-{n}", f"{n}") for n in range(64)]
            with pytest.raises(LlamaGenError):
                await download_assets(
                    urls, tmp_path, source=source, timeout=5, concurrency=64, largest=40_000_000
                )
            await source.aclose()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY
    assert files(tmp_path) == []
    assert set(asyncio.all_tasks()) == before
    started = set(threading.enumerate()) - threads
    assert not [one for one in started if "asyncio" not in one.name], "the loop's own stay"
