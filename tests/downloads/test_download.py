"""Pictures reach the folder whole or not at all, many at a time, whoever gives up."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
from aiohttp import web

from llamagen_async.downloads.download import asset_names, download_assets, sweep
from llamagen_async.errors import APIError, InvalidRequestError
from llamagen_async.models import ComicGeneration
from llamagen_async.transport import HTTPAssets, HTTPTransport
from tests.support.assets import FUTURE, KEY, OTHER, PAST, PNG, fetch, files, picture, serving
from tests.support.rawserver import Received, answer, raw_server

LARGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 2000


def test_panels_are_named_by_page_and_panel_and_output_only_if_it_is_another_picture() -> None:
    comic = ComicGeneration.parse(
        {
            "id": "c1",
            "status": "SUCCEEDED",
            "output": "u/out",
            "comics": [
                {"page": 0, "panels": [{"assetUrl": "u/1"}, {"caption": "none"}, {"image": "u/3"}]},
                {"page": 1, "panels": [{"assetUrl": "u/4"}, {"assetUrl": "u/1"}]},
            ],
        }
    )
    names = asset_names(comic)
    assert names == [
        ("u/1", "c1-p01-01"),
        ("u/3", "c1-p01-03"),
        ("u/4", "c1-p02-01"),
        ("u/out", "c1-output"),
    ]
    assert tuple(url for url, _ in names) == comic.asset_urls
    single = ComicGeneration.parse(
        {"id": "c2", "comics": [{"panels": [{"assetUrl": "u"}]}], "output": "u"}
    )
    assert asset_names(single) == [("u", "c2-p01-01")]
    assert asset_names(ComicGeneration.parse({"id": "c3"})) == []


async def test_many_are_fetched_a_few_at_a_time_and_come_back_in_order(
    source: HTTPAssets, tmp_path: Path
) -> None:
    busy = most = 0

    async def serve(received: Received) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.001)
        busy -= 1
        await received.reply(picture(PNG + received.head.split()[1].encode()))

    async with raw_server(serve) as server:
        urls = [(f"{server.url}/{n}", "same/name") for n in range(20)]
        paths = await download_assets(urls, tmp_path, source=source, timeout=60, concurrency=3)
    assert [path.read_bytes()[len(PNG) :] for path in paths] == [b"/%d" % n for n in range(20)]
    assert len(files(tmp_path)) == 20
    assert most == 3


async def test_a_concurrency_of_nothing_is_refused(source: HTTPAssets, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="concurrency"):
        await fetch(source, "http://x", tmp_path, concurrency=0)


async def test_one_failure_does_not_stop_the_others(source: HTTPAssets, tmp_path: Path) -> None:
    async def serve(received: Received) -> None:
        bad = "bad" in received.head
        await received.reply(answer(b"", status="410 Gone") if bad else picture())

    async with raw_server(serve) as server:
        urls = [(f"{server.url}/{name}", name) for name in ("bad", "a", "b")]
        with pytest.raises(APIError, match="410"):
            await download_assets(urls, tmp_path, source=source, timeout=60)
    assert files(tmp_path) == ["a.png", "b.png"]


@pytest.mark.parametrize("length", [len(PNG), 10**7])
async def test_cancelling_leaves_no_file_and_no_task(
    length: int, source: HTTPAssets, tmp_path: Path
) -> None:
    arrived = asyncio.Event()

    async def serve(received: Received) -> None:
        await received.reply(picture(PNG * 200 if length > len(PNG) else PNG[:-1], length=length))
        arrived.set()
        await asyncio.Event().wait()

    async with raw_server(serve) as server:
        urls = [(f"{server.url}/{n}", str(n)) for n in range(3)]
        task = asyncio.create_task(
            download_assets(urls, tmp_path, source=source, timeout=60, concurrency=2)
        )
        await arrived.wait()
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert files(tmp_path) == []
        assert not [t for t in asyncio.all_tasks() if "download" in repr(t.get_coro())]


@pytest.mark.parametrize(
    ("modified", "content", "kept"),
    [
        (PAST, OTHER, True),
        (FUTURE, OTHER, False),
        (PAST, PNG + b"longer", False),
        (None, OTHER, False),
        ("yesterday", OTHER, False),
    ],
)
async def test_a_file_is_kept_only_if_the_server_says_it_is_the_same(
    modified: str | None,
    content: bytes,
    kept: bool,
    source: HTTPAssets,
    tmp_path: Path,
) -> None:
    async def serve(received: Received) -> None:
        headers = {"Last-Modified": modified} if modified else {}
        await received.reply(picture(content, headers=headers))

    there = tmp_path / "c1-p01-01.png"
    there.write_bytes(PNG)
    async with raw_server(serve) as server:
        assert await fetch(source, server.url, tmp_path) == there
    assert there.read_bytes() == (PNG if kept else content)
    assert files(tmp_path) == [there.name]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
async def test_a_link_of_that_name_is_replaced_and_not_written_through(
    source: HTTPAssets, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        await received.reply(picture())

    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "c1-p01-01.png").symlink_to(victim)
    async with raw_server(serve) as server:
        path = await fetch(source, server.url, folder)
    assert victim.read_text() == "mine"
    assert not path.is_symlink()
    assert path.read_bytes() == PNG


def png(content: bytes = LARGE) -> web.Response:
    return web.Response(body=content, content_type="image/png")


async def test_the_key_goes_to_no_host_of_assets(source: HTTPAssets, tmp_path: Path) -> None:
    heads: list[str] = []

    async def target(request: web.Request) -> web.StreamResponse:
        heads.append(str(request.raw_headers))
        return png()

    async with serving(target) as elsewhere:

        async def away(request: web.Request) -> web.StreamResponse:
            heads.append(str(request.raw_headers))
            raise web.HTTPFound(f"{elsewhere}/b.png")

        async with serving(away) as url:
            await download_assets([(f"{url}/a.png", "a")], tmp_path, source=source, timeout=60)
    assert len(heads) == 2
    assert not [head for head in heads if KEY in head or "uthorization" in head or "ookie" in head]


async def test_the_same_comic_twice_at_once_into_one_folder(
    source: HTTPAssets, tmp_path: Path
) -> None:
    arrived = 0
    both = asyncio.Event()

    async def serve(request: web.Request) -> web.StreamResponse:
        nonlocal arrived
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        response.content_length = len(LARGE)
        await response.prepare(request)
        await response.write(LARGE[:-1])
        arrived += 1
        if arrived == 6:
            both.set()
        await both.wait()  # all six are in the middle now
        await response.write(LARGE[-1:])
        return response

    async with serving(serve) as url:
        assets = [(f"{url}/{n}", f"c1-p01-{n:02}") for n in range(3)]
        one, two = await asyncio.gather(
            download_assets(assets, tmp_path, source=source, timeout=60),
            download_assets(assets, tmp_path, source=source, timeout=60),
        )
    assert one == two
    assert files(tmp_path) == [path.name for path in one]
    assert {path.read_bytes() for path in one} == {LARGE}


async def test_however_many_comics_there_are_so_many_pictures_are_fetched_at_once(
    source: HTTPAssets, tmp_path: Path
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
        return png(LARGE[:500])

    async with serving(serve) as url, asyncio.TaskGroup() as group:
        for comic in range(8):
            assets = [(f"{url}/{comic}/{n}", f"c{comic}-{n}") for n in range(8)]
            group.create_task(download_assets(assets, tmp_path, source=source, timeout=60))
        await full.wait()
        # Whatever else is on its way would be here before these.
        other = HTTPAssets(HTTPTransport("http://127.0.0.1:9", KEY))
        for _ in range(20):
            await download_assets(
                [(f"{url}/other", "x")], tmp_path / "other", source=other, timeout=60
            )
        await other.aclose()
        go_on.set()
    assert most == 32
    assert len(files(tmp_path)) == 64 + 1


async def test_cancelled_at_any_step_it_leaves_whole_files_and_free_slots(
    source: HTTPAssets, tmp_path: Path
) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        return png()

    whole = 0
    async with serving(serve) as url:
        for steps in range(120):
            folder = tmp_path / str(steps)
            assets = [(f"{url}/{n}", f"a{n}") for n in range(3)]
            task = asyncio.create_task(
                download_assets(assets, folder, source=source, timeout=60, concurrency=2)
            )
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            left = list(folder.iterdir()) if folder.exists() else []
            assert all(path.read_bytes() == LARGE for path in left)
            assert {path.name for path in left} <= {"a0.png", "a1.png", "a2.png"}
            whole += len(left)
        # Nothing of that is still held: more than can be fetched at once comes through.
        assets = [(f"{url}/{n}", f"b{n}") for n in range(40)]
        assert len(await download_assets(assets, tmp_path / "all", source=source, timeout=60)) == 40


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


async def test_a_download_sweeps_its_own_folder(source: HTTPAssets, tmp_path: Path) -> None:
    old = tmp_path / ".a.0123abcd.part"
    old.write_bytes(LARGE[:100])
    os.utime(old, (0, 0))

    async def serve(request: web.Request) -> web.StreamResponse:
        return png()

    async with serving(serve) as url:
        await download_assets([(url, "a")], tmp_path, source=source, timeout=60)
    assert files(tmp_path) == ["a.png"]
