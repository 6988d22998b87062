"""Downloads while servers, disks and callers do their worst: real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from aiohttp import web

from llamagen_async.downloads.download import download_assets
from llamagen_async.downloads.part_file import sweep
from llamagen_async.errors import InvalidResponseError
from llamagen_async.transport import HTTPTransport
from tests.support.watched import Watched

KEY = "lg_sk_0123456789abcdef"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 2000
OTHER = PNG[:64] + PNG[:63:-1]
"""Another picture of the same length."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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


@pytest.fixture
async def source() -> AsyncIterator[HTTPTransport]:
    transport = HTTPTransport("https://api.example", KEY)
    yield transport
    await transport.aclose()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def png(content: bytes = PNG) -> web.Response:
    return web.Response(body=content, content_type="image/png")


@pytest.mark.parametrize("changed", [False, True])
async def test_a_file_server_goes_on_where_it_stopped_unless_the_file_has_changed(
    changed: bool, source: HTTPTransport, tmp_path: Path
) -> None:
    """aiohttp's file server does not look at a tag in If-Range: it sends the rest of any file."""
    watched = Watched(source)
    served = tmp_path / "served.png"
    served.write_bytes(PNG)
    half = len(PNG) // 2
    asked: list[str | None] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Range"))
        if len(asked) > 1:
            return web.FileResponse(served)
        stat = served.stat()
        tag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'  # as the file server spells it
        response = web.StreamResponse(headers={"ETag": tag, "Content-Type": "image/png"})
        response.content_length = len(PNG)
        await response.prepare(request)
        watched.expect(half)
        await response.write(PNG[:half])
        await watched.enough.wait()
        if changed:
            served.write_bytes(OTHER)
            os.utime(served, ns=(0, stat.st_mtime_ns + 1))
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(serve) as url:
        assets = [(f"{url}/a.png", "a")]
        (path,) = await download_assets(assets, tmp_path / "out", source=watched, speed=1e6)
    assert path.read_bytes() == (OTHER if changed else PNG)
    assert asked == [None, f"bytes={half}-", *([None] if changed else [])]
    assert files(tmp_path / "out") == ["a.png"]


async def test_the_key_goes_to_no_host_of_assets(source: HTTPTransport, tmp_path: Path) -> None:
    heads: list[str] = []

    async def target(request: web.Request) -> web.StreamResponse:
        heads.append(str(request.raw_headers))
        return png()

    async with serving(target) as elsewhere:

        async def away(request: web.Request) -> web.StreamResponse:
            heads.append(str(request.raw_headers))
            raise web.HTTPFound(f"{elsewhere}/b.png")

        async with serving(away) as url:
            await download_assets([(f"{url}/a.png", "a")], tmp_path, source=source)
    assert len(heads) == 2
    assert not [head for head in heads if KEY in head or "uthorization" in head or "ookie" in head]


@pytest.mark.parametrize("scheme", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:image/png,A"])
async def test_a_redirect_out_of_the_web_is_refused_on_any_jump(
    scheme: str, source: HTTPTransport, tmp_path: Path
) -> None:
    async def away(request: web.Request) -> web.StreamResponse:
        further = request.path == "/first"
        raise web.HTTPFound("/second" if further else scheme)

    async with serving(away) as url:
        with pytest.raises(InvalidResponseError, match="other than http"):
            await download_assets([(f"{url}/first", "a")], tmp_path, source=source)
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
    fails: str, source: HTTPTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def serve(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return png(PNG * 5)

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
                await download_assets([(f"{url}/a", "c1-p01-01")], tmp_path, source=source)
        assert caught.value.errno == errno.ENOSPC
        assert str(tmp_path) in str(caught.value)
        assert asked == 1  # trying again makes no room
        assert files(tmp_path) == []
        # With room again, it goes on.
        await download_assets([(f"{url}/a", "c1-p01-01")], tmp_path, source=source)
    assert files(tmp_path) == ["c1-p01-01.png"]


async def test_the_same_comic_twice_at_once_into_one_folder(
    source: HTTPTransport, tmp_path: Path
) -> None:
    arrived = 0
    both = asyncio.Event()

    async def serve(request: web.Request) -> web.StreamResponse:
        nonlocal arrived
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        response.content_length = len(PNG)
        await response.prepare(request)
        await response.write(PNG[:-1])
        arrived += 1
        if arrived == 6:
            both.set()
        await both.wait()  # all six are in the middle now
        await response.write(PNG[-1:])
        return response

    async with serving(serve) as url:
        assets = [(f"{url}/{n}", f"c1-p01-{n:02}") for n in range(3)]
        one, two = await asyncio.gather(
            download_assets(assets, tmp_path, source=source),
            download_assets(assets, tmp_path, source=source),
        )
    assert one == two
    assert files(tmp_path) == [path.name for path in one]
    assert {path.read_bytes() for path in one} == {PNG}


async def test_however_many_comics_there_are_so_many_pictures_are_fetched_at_once(
    source: HTTPTransport, tmp_path: Path
) -> None:
    busy = most = 0
    full, go_on = asyncio.Event(), asyncio.Event()

    async def serve(request: web.Request) -> web.StreamResponse:
        nonlocal busy, most
        if request.path == "/other":
            return png()
        busy += 1
        most = max(most, busy)
        if busy == 32:
            full.set()
        await go_on.wait()
        busy -= 1
        return png(PNG[:500])

    async with serving(serve) as url, asyncio.TaskGroup() as group:
        for comic in range(8):
            assets = [(f"{url}/{comic}/{n}", f"c{comic}-{n}") for n in range(8)]
            group.create_task(download_assets(assets, tmp_path, source=source))
        await full.wait()
        # Whatever else is on its way would be here before these.
        other = HTTPTransport("https://api.example", KEY)
        for _ in range(20):
            await download_assets([(f"{url}/other", "x")], tmp_path / "other", source=other)
        await other.aclose()
        go_on.set()
    assert most == 32
    assert len(files(tmp_path)) == 64 + 1


async def test_cancelled_at_any_step_it_leaves_whole_files_and_free_slots(
    source: HTTPTransport, tmp_path: Path
) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        return png()

    whole = 0
    async with serving(serve) as url:
        for steps in range(120):
            folder = tmp_path / str(steps)
            assets = [(f"{url}/{n}", f"a{n}") for n in range(3)]
            task = asyncio.create_task(
                download_assets(assets, folder, source=source, concurrency=2)
            )
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            left = list(folder.iterdir()) if folder.exists() else []
            assert all(path.read_bytes() == PNG for path in left)
            assert {path.name for path in left} <= {"a0.png", "a1.png", "a2.png"}
            whole += len(left)
        # Nothing of that is still held: more than can be fetched at once comes through.
        assets = [(f"{url}/{n}", f"b{n}") for n in range(40)]
        assert len(await download_assets(assets, tmp_path / "all", source=source)) == 40


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    now = 1_750_000_000.0
    for name, age in {
        ".c1-p01-01.0123abcd.part": 90_000,
        ".c1-p01-02.0123abcd.part": 3_000,
        ".c2-p01-01.0123abcd.part": 90_000,
        ".c1-p01-01.part": 90_000,
        "c1-p01-01.0123abcd.part": 90_000,
        "c1-p01-01.png": 90_000,
    }.items():
        path = tmp_path / name
        path.write_bytes(b"x")
        os.utime(path, (now - age, now - age))
    before = files(tmp_path)
    sweep(tmp_path, {"c1-p01-01", "c1-p01-02"}, now=now)
    assert set(before) - set(files(tmp_path)) == {".c1-p01-01.0123abcd.part"}


async def test_a_download_sweeps_its_own_folder(source: HTTPTransport, tmp_path: Path) -> None:
    old = tmp_path / ".a.0123abcd.part"
    old.write_bytes(PNG[:100])
    os.utime(old, (0, 0))

    async def serve(request: web.Request) -> web.StreamResponse:
        return png()

    async with serving(serve) as url:
        await download_assets([(url, "a")], tmp_path, source=source)
    assert files(tmp_path) == ["a.png"]
