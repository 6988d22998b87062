"""One asset on its way to disk: what is taken, what is refused, and what is tried again."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from aiohttp import web

from llamagen_async.downloads.download import download_assets
from llamagen_async.downloads.held import HeldPictures
from llamagen_async.downloads.part_file import in_thread
from llamagen_async.errors import (
    APIError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaGenError,
)
from llamagen_async.transport import HTTPAssets
from tests.support.assets import KEY, PNG, fetch, files, picture, serving
from tests.support.counted_assets import CountedAssets
from tests.support.rawserver import Received, answer, raw_server

LARGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 2000
LARGE_OTHER = LARGE[:64] + LARGE[:63:-1]
"""Another picture of the same length."""


async def test_a_picture_is_written_whole_and_no_key_is_sent(
    source: HTTPAssets, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        await received.reply(picture())

    async with raw_server(serve) as server:
        path = await fetch(source, f"{server.url}/a%2Fb.png?sig=x%2By", tmp_path / "new" / "out")
        assert path == tmp_path / "new" / "out" / "c1-p01-01.png"
        assert path.read_bytes() == PNG
        assert files(path.parent) == ["c1-p01-01.png"]
        (received,) = server.received
        assert received.head.startswith("GET /a%2Fb.png?sig=x%2By HTTP/1.1\r\n")
        assert received.header("Authorization") is None
        assert KEY not in received.head
        assert received.header("Accept-Encoding") == "identity"


async def test_a_picture_of_some_megabytes_in_chunks_without_a_length_is_written(
    source: HTTPAssets, tmp_path: Path
) -> None:
    content = PNG * 300

    async def serve(received: Received) -> None:
        chunks = {"Transfer-Encoding": "chunked"}
        await received.reply(picture(b"", length=None, headers=chunks, content_type=None))
        await received.reply(b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content))

    async with raw_server(serve) as server:
        path = await fetch(source, server.url, tmp_path)
    assert path.name == "c1-p01-01.png"
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("203 Non-Authoritative Information", {}),
        ("206 Partial Content", {"Content-Range": f"bytes 0-{len(PNG) - 1}/{len(PNG)}"}),
    ],
)
async def test_a_whole_picture_is_taken_whatever_a_cache_calls_it(
    status: str, headers: dict[str, str], source: HTTPAssets, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        await received.reply(picture(status=status, headers=headers))

    async with raw_server(serve) as server:
        path = await fetch(source, server.url, tmp_path)
        held = await HeldPictures(source).get(server.url)
    assert path.read_bytes() == held.content == PNG


async def test_a_redirect_to_another_host_is_followed(source: HTTPAssets, tmp_path: Path) -> None:
    async def serve(received: Received) -> None:
        await received.reply(picture())

    async with raw_server(serve) as target:

        async def away(received: Received) -> None:
            hops = int(received.head.split()[1][1:])
            to = f"{target.url}/x" if hops == 1 else f"/{hops - 1}"
            await received.reply(answer(b"", status="302 Found", headers={"Location": to}))

        async with raw_server(away) as server:
            path = await fetch(source, f"{server.url}/5", tmp_path)
            assert path.read_bytes() == PNG
            with pytest.raises(InvalidResponseError, match="more than 5 redirects"):
                await fetch(source, f"{server.url}/6", tmp_path)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
async def test_a_redirect_to_something_else_than_http_is_refused(
    location: str, source: HTTPAssets, tmp_path: Path
) -> None:
    async def away(received: Received) -> None:
        await received.reply(answer(b"", status="302 Found", headers={"Location": location}))

    async with raw_server(away) as server:
        with pytest.raises(InvalidResponseError, match="other than http"):
            await fetch(source, server.url, tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "data:image/png;base64,AA", "//host/x", "", "http://", "http://[::1", 5],
)
async def test_a_url_that_is_not_http_is_refused(
    url: Any, source: HTTPAssets, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequestError, match="url"):
        await fetch(source, url, tmp_path)
    assert files(tmp_path) == []


async def test_a_host_that_is_no_host_is_refused(source: HTTPAssets, tmp_path: Path) -> None:
    with pytest.raises(LlamaGenError):
        await fetch(source, "http://a b/x", tmp_path)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (answer(b"<html>", content_type="text/html"), "text/html and begins like no"),
        (picture(b"<!doctype html>sorry"), "image/png and begins like no known picture"),
        (picture(b"<!doctype html>" + b"sorry " * 10**6, length=10**7), "begins like no"),
        (picture(b"MZ" + b"x" * 100, content_type="application/octet-stream"), "begins like no"),
        (answer(b"%PDF-1.7\n" + bytes(600), content_type="image/pdf"), "begins like no"),
        (picture(b""), "empty"),
        (picture(b"", length=200_000_001), "larger than 200 MB"),
        (picture(status="206 Partial Content"), "did not give it out"),
        (
            picture(
                PNG[:100],
                status="206 Partial Content",
                headers={"Content-Range": f"bytes 0-99/{len(PNG)}"},
            ),
            "did not give it out",
        ),
    ],
)
async def test_what_is_no_picture_is_refused_at_once_and_leaves_nothing(
    reply: bytes, message: str, source: HTTPAssets, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        await received.reply(reply)

    async with raw_server(serve) as server:
        with pytest.raises(APIError, match=message) as caught:
            await fetch(source, f"{server.url}/a.png?sig=secret", tmp_path)
        assert len(server.received) == 1
    assert "/a.png" in str(caught.value)
    assert "secret" not in repr(caught.value)
    assert files(tmp_path) == []


async def test_an_asset_that_grows_too_large_is_refused_while_it_is_read(
    source: HTTPAssets, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        await received.reply(picture(b"", length=None, headers={"Transfer-Encoding": "chunked"}))
        while True:
            await received.reply(b"%x\r\n%s\r\n" % (len(PNG), PNG))

    async with raw_server(serve) as server:
        with pytest.raises(InvalidResponseError, match="larger than 3 MB"):
            await fetch(source, server.url, tmp_path, largest=3_000_000)
    assert files(tmp_path) == []


@pytest.mark.parametrize("fails", [False, True])
async def test_cancelling_waits_for_the_thread_that_is_writing(fails: bool) -> None:
    begun, go_on = threading.Event(), threading.Event()
    ended = False

    def write() -> None:
        nonlocal ended
        begun.set()
        go_on.wait()
        ended = True
        if fails:
            raise OSError("disk full")

    task = asyncio.create_task(in_thread(write))
    await asyncio.to_thread(begun.wait)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


async def test_a_disk_that_refuses_is_told_and_nothing_is_left(
    source: HTTPAssets, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        await received.reply(picture())

    (tmp_path / "c1-p01-01.png").mkdir()
    async with raw_server(serve) as server:
        with pytest.raises(OSError, match="c1-p01-01"):
            await fetch(source, server.url, tmp_path)
    assert files(tmp_path) == ["c1-p01-01.png"]


def png(content: bytes = LARGE) -> web.Response:
    return web.Response(body=content, content_type="image/png")


@pytest.mark.parametrize("changed", [False, True])
async def test_a_file_server_goes_on_where_it_stopped_unless_the_file_has_changed(
    changed: bool, source: HTTPAssets, tmp_path: Path
) -> None:
    """aiohttp's file server does not look at a tag in If-Range: it sends the rest of any file."""
    watched = CountedAssets(source)
    served = tmp_path / "served.png"
    served.write_bytes(LARGE)
    half = len(LARGE) // 2
    asked: list[str | None] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Range"))
        if len(asked) > 1:
            return web.FileResponse(served)
        stat = served.stat()
        tag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'  # as the file server spells it
        response = web.StreamResponse(headers={"ETag": tag, "Content-Type": "image/png"})
        response.content_length = len(LARGE)
        await response.prepare(request)
        watched.expect(half)
        await response.write(LARGE[:half])
        await watched.enough.wait()
        if changed:
            served.write_bytes(LARGE_OTHER)
            os.utime(served, ns=(0, stat.st_mtime_ns + 1))
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(serve) as url:
        assets = [(f"{url}/a.png", "a")]
        (path,) = await download_assets(
            assets, tmp_path / "out", source=watched, timeout=60, speed=1e6
        )
    assert path.read_bytes() == (LARGE_OTHER if changed else LARGE)
    assert asked == [None, f"bytes={half}-", *([None] if changed else [])]
    assert files(tmp_path / "out") == ["a.png"]


@pytest.mark.parametrize("scheme", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:image/png,A"])
async def test_a_redirect_out_of_the_web_is_refused_on_any_jump(
    scheme: str, source: HTTPAssets, tmp_path: Path
) -> None:
    async def away(request: web.Request) -> web.StreamResponse:
        further = request.path == "/first"
        raise web.HTTPFound("/second" if further else scheme)

    async with serving(away) as url:
        with pytest.raises(InvalidResponseError, match="other than http"):
            await download_assets([(f"{url}/first", "a")], tmp_path, source=source, timeout=60)
    assert files(tmp_path) == []


class FullDisk:
    """A file that takes some bytes and then no more."""

    def __init__(self, file: BinaryIO, room: int) -> None:
        self._file = file
        self._room = room

    def write(self, content: bytes) -> int:
        if len(content) > self._room:
            self._file.write(content[: self._room])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._room -= len(content)
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("fails", ["write", "fsync"])
async def test_a_full_disk_is_named_with_its_file_and_nothing_is_left(
    fails: str, source: HTTPAssets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def serve(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return png(LARGE * 5)

    really_open = Path.open

    def full_open(path: Path, *args: Any) -> BinaryIO:
        file = cast("BinaryIO", really_open(path, *args))
        return cast("BinaryIO", FullDisk(file, 1_200_000)) if path.suffix == ".part" else file

    def full_fsync(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with serving(serve) as url:
        with monkeypatch.context() as patch:
            if fails == "write":
                patch.setattr(Path, "open", full_open)
            else:
                patch.setattr(os, "fsync", full_fsync)
            with pytest.raises(OSError, match="c1-p01-01") as caught:
                await download_assets(
                    [(f"{url}/a", "c1-p01-01")], tmp_path, source=source, timeout=60
                )
        assert caught.value.errno == errno.ENOSPC
        assert str(tmp_path) in str(caught.value)
        assert asked == 1  # trying again makes no room
        assert files(tmp_path) == []
        # With room again, it goes on.
        await download_assets([(f"{url}/a", "c1-p01-01")], tmp_path, source=source, timeout=60)
    assert files(tmp_path) == ["c1-p01-01.png"]
