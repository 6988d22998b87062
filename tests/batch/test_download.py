"""Assets reach the disk whole or not at all, and nowhere but in the folder."""

from __future__ import annotations

import asyncio
import gzip
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.downloads.download import asset_names, download_assets
from llamagen_async.downloads.media_types import (
    distinct_stems,
    extension_of,
    is_media_type,
    safe_stem,
)
from llamagen_async.downloads.part_file import in_thread
from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaGenError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
)
from llamagen_async.models import ComicGeneration
from llamagen_async.transport import AssetSource, HTTPTransport
from tests.support.rawserver import Received, answer, raw_server, unused_port
from tests.support.watched import Watched

KEY = "lg_sk_0123456789abcdef"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
OTHER = PNG[:64] + PNG[:63:-1]
"""Another picture of the same length."""
TAG = {"ETag": '"v1"'}
PAST = "Wed, 01 Jan 2020 00:00:00 GMT"
FUTURE = "Tue, 01 Jan 2115 00:00:00 GMT"


def picture(content: bytes = PNG, **more: Any) -> bytes:
    return answer(content, **{"content_type": "image/png", **more})


@pytest.fixture
def watched(source: HTTPTransport) -> Watched:
    return Watched(source)


@pytest.fixture
async def source() -> AsyncIterator[HTTPTransport]:
    transport = HTTPTransport("https://api.example", KEY)
    yield transport
    await transport.aclose()


async def fetch(source: AssetSource, url: str, folder: Path, **options: Any) -> Path:
    options = {"speed": 1e6, **options}
    (path,) = await download_assets([(url, "c1-p01-01")], folder, source=source, **options)
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Names.


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


@pytest.mark.parametrize("name", ["c1-p01-01", "Füße_2.1", "漫画-1", "a"])
def test_a_name_that_is_safe_stays_as_it_is(name: str) -> None:
    assert safe_stem(name) == name


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("", "_-"),
        ("..", "_-"),
        ("../../etc/passwd", "_.._etc_passwd-"),
        ("C:\\x", "C_x-"),
        ("con", "_con-"),
        ("LPT1.old", "_LPT1.old-"),
        ("com¹", "_com¹-"),
        ("-rf", "_rf-"),
        (".hidden.", "hidden-"),
        ("a\0b\nc d", "a_b_c_d-"),
        ("x" * 500, "x" * 91 + "-"),
        ("\ud800", "_-"),
    ],
)
def test_a_name_that_is_not_safe_is_changed_and_kept_apart(name: str, start: str) -> None:
    assert safe_stem(name).startswith(start)
    assert len(safe_stem(name)) == len(start) + 8


@given(st.text() | st.text("./\\-~$ \0:conCON1é"))
def test_any_text_becomes_a_name_that_every_system_takes(text: str) -> None:
    name = safe_stem(text)
    assert name == safe_stem(text)
    assert 0 < len(name.encode()) <= 100
    assert name[0] not in ".-"
    assert name[-1] not in ". "
    assert not set(name) & set('/\\:*?"<>| \0\n')
    assert name.isprintable()
    assert name.partition(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT1"}
    assert Path("folder", name).resolve().parent == Path("folder").resolve()


@given(st.lists(st.sampled_from(["a", "A", "a-2", "b", "a/b", "a_b"])))
def test_names_are_distinct_even_where_case_is_ignored(texts: list[str]) -> None:
    names = distinct_stems(texts)
    assert len(names) == len(texts)
    assert len({name.casefold() for name in names}) == len(texts)


@pytest.mark.parametrize(
    ("kind", "head", "extension"),
    [
        ("image/png", b"", ".png"),
        ("IMAGE/JPEG; q=1", b"", ".jpg"),
        ("image/webp", b"", ".webp"),
        ("image/svg+xml", b"<svg>", ".svg"),
        ("image/x-made-up-by-them", b"x", ".bin"),
        ("image/exe", b"MZ", ".bin"),
        ("image/png", b"\xff\xd8\xff\xe0", ".jpg"),
        ("image/png", b'{"error": "expired"}', None),
        ("image/jpeg", b"Not found", None),
        ("image/avif", b"\0\0\0\x1cftypmif1", ".avif"),
        ("image/../../x", b"x", ".bin"),
        ("video/mp4", b"", ".mp4"),
        ("video/quicktime", b"", ".mov"),
        ("image/png", b"<!DOCTYPE html>", None),
        ("image/png", b" <HTML lang=en>", None),
        ("text/html", b"\x89PNG\r\n\x1a\n", None),
        ("application/json", b"{}", None),
        ("application/octet-stream", b"\x89PNG\r\n\x1a\n", ".png"),
        ("binary/octet-stream", b"\xff\xd8\xff\xe0", ".jpg"),
        ("", b"GIF89a", ".gif"),
        (None, b"RIFF\0\0\0\0WEBPVP8 ", ".webp"),
        (None, b"\0\0\0\x1cftypavif", ".avif"),
        (None, b"\0\0\0\x1cftypisom", ".mp4"),
        (None, b"\0\0\0\x1cftypqt  ", ".mov"),
        (None, b"\x1aE\xdf\xa3\x01\0\0\0webm", ".webm"),
        (None, b"BM1234\0\0\0\0", ".bmp"),
        (None, b"MZ\x90\0", None),
        (None, b"", None),
    ],
)
def test_the_extension_comes_from_the_type_or_from_the_content(
    kind: str | None, head: bytes, extension: str | None
) -> None:
    assert extension_of(kind, head) == extension
    assert extension is None or is_media_type(kind)


# What arrives.


async def test_a_picture_is_written_whole_and_no_key_is_sent(
    source: HTTPTransport, tmp_path: Path
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
    source: HTTPTransport, tmp_path: Path
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


async def test_many_are_fetched_a_few_at_a_time_and_come_back_in_order(
    source: HTTPTransport, tmp_path: Path
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
        paths = await download_assets(urls, tmp_path, source=source, concurrency=3)
    assert [path.read_bytes()[len(PNG) :] for path in paths] == [b"/%d" % n for n in range(20)]
    assert len(files(tmp_path)) == 20
    assert most == 3


async def test_a_redirect_to_another_host_is_followed(
    source: HTTPTransport, tmp_path: Path
) -> None:
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
    location: str, source: HTTPTransport, tmp_path: Path
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
    url: Any, source: HTTPTransport, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequestError, match="url"):
        await fetch(source, url, tmp_path)
    assert files(tmp_path) == []


async def test_a_host_that_is_no_host_is_refused(source: HTTPTransport, tmp_path: Path) -> None:
    with pytest.raises(LlamaGenError):
        await fetch(source, "http://a b/x", tmp_path, max_retries=0)


async def test_a_concurrency_of_nothing_is_refused(source: HTTPTransport, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="concurrency"):
        await fetch(source, "http://x", tmp_path, concurrency=0)


# What is refused.


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (answer(b"<html>", content_type="text/html"), "not a picture"),
        (picture(b"<!doctype html>sorry"), "does not begin like"),
        (picture(b"MZ" + b"x" * 100, content_type="application/octet-stream"), "does not begin"),
        (picture(b""), "empty"),
        (picture(b"", length=200_000_001), "larger than 200 MB"),
        (picture(status="206 Partial Content"), "not given out"),
    ],
)
async def test_what_is_no_picture_is_refused_at_once_and_leaves_nothing(
    reply: bytes, message: str, source: HTTPTransport, tmp_path: Path
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
    source: HTTPTransport, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        await received.reply(picture(b"", length=None, headers={"Transfer-Encoding": "chunked"}))
        while True:
            await received.reply(b"%x\r\n%s\r\n" % (len(PNG), PNG))

    async with raw_server(serve) as server:
        with pytest.raises(InvalidResponseError, match="larger than 3 MB"):
            await fetch(source, server.url, tmp_path, largest=3_000_000)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "error", "attempts"),
    [
        ("403 Forbidden", PermissionDeniedError, 1),
        ("404 Not Found", NotFoundError, 1),
        ("410 Gone", APIError, 1),
        ("500 Oops", ServerError, 3),
        ("503 Busy", ServerError, 3),
    ],
)
async def test_a_refusal_is_tried_again_only_if_it_may_pass(
    status: str, error: type[APIError], attempts: int, source: HTTPTransport, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        await received.reply(answer(b"<html>", status=status, content_type="text/html"))

    async with raw_server(serve) as server:
        with pytest.raises(error, match="not given out"):
            await fetch(source, server.url, tmp_path, max_retries=2)
        assert len(server.received) == attempts
    assert files(tmp_path) == []


async def test_one_failure_does_not_stop_the_others(source: HTTPTransport, tmp_path: Path) -> None:
    async def serve(received: Received) -> None:
        bad = "bad" in received.head
        await received.reply(answer(b"", status="404 Not Found") if bad else picture())

    async with raw_server(serve) as server:
        urls = [(f"{server.url}/{name}", name) for name in ("bad", "a", "b")]
        with pytest.raises(NotFoundError):
            await download_assets(urls, tmp_path, source=source)
    assert files(tmp_path) == ["a.png", "b.png"]


async def test_a_host_that_does_not_listen_is_tried_again_and_named(
    source: HTTPTransport, tmp_path: Path
) -> None:
    port = await unused_port()
    with pytest.raises(APIConnectionError, match=f"127.0.0.1:{port}/a"):
        await fetch(source, f"http://127.0.0.1:{port}/a?sig=secret", tmp_path, max_retries=1)


async def test_a_host_that_falls_silent_is_given_up(source: HTTPTransport) -> None:
    async def serve(received: Received) -> None:
        await received.reply(picture(PNG, length=len(PNG) + 1))
        await asyncio.Event().wait()

    async with raw_server(serve) as server:
        async with source.open_asset(server.url, inactivity=0.02) as asset:
            with pytest.raises(APITimeoutError) as caught:
                async for _ in asset.chunks():
                    pass
        assert caught.value.__context__ is None


# What breaks off.


@pytest.mark.parametrize("headers", [TAG, {"Last-Modified": PAST, "Date": FUTURE}])
async def test_a_transfer_that_breaks_off_is_resumed_where_it_stopped(
    headers: dict[str, str], watched: Watched, tmp_path: Path
) -> None:
    half = len(PNG) // 2

    async def serve(received: Received) -> None:
        if received.number == 1:
            await watched.break_off(
                received,
                picture(PNG[:half], length=len(PNG), headers=headers),
                len(PNG[:half]),
            )
        else:
            start = int((received.header("Range") or "")[len("bytes=") : -1])
            where = {"Content-Range": f"bytes {start}-{len(PNG) - 1}/{len(PNG)}", **headers}
            await received.reply(picture(PNG[start:], status="206 Partial Content", headers=where))

    async with raw_server(serve) as server:
        path = await fetch(watched, server.url, tmp_path)
        assert path.read_bytes() == PNG
        assert server.received[1].header("Range") == f"bytes={half}-"
        assert server.received[1].header("If-Range") == next(iter(headers.values()))
    assert files(tmp_path) == ["c1-p01-01.png"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ETag": 'W/"v1"'},
        TAG,
        {"Last-Modified": PAST},
        {"Last-Modified": PAST, "Date": PAST},
    ],
)
async def test_a_server_that_does_not_resume_is_asked_for_the_whole_again(
    headers: dict[str, str], watched: Watched, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        if received.number < 3:
            await watched.break_off(
                received, picture(PNG[:-9], length=len(PNG), headers=headers), len(PNG[:-9])
            )
        else:
            await received.reply(picture(OTHER, headers=headers))

    async with raw_server(serve) as server:
        path = await fetch(watched, server.url, tmp_path)
        asked = [received.header("Range") is not None for received in server.received]
    assert path.read_bytes() == OTHER
    assert asked == [False, *[headers.get("ETag") == '"v1"'] * 2]


WHERE = {"Content-Range": f"bytes 5000-{len(PNG) - 1}/{len(PNG)}"}
PACKED = gzip.compress(OTHER[5000:])
PACKED_WHERE = {"Content-Range": f"bytes 5000-{4999 + len(PACKED)}/{len(PNG)}"}


@pytest.mark.parametrize(
    ("status", "content", "headers"),
    [
        (416, b"", TAG),
        (206, OTHER[5000:], WHERE),
        (206, OTHER[5000:], WHERE | {"ETag": '"v2"'}),
        (206, OTHER[5000:], WHERE | {"ETag": 'W/"v1"'}),
        (206, OTHER[5000:], TAG),
        (206, OTHER[5000:], TAG | {"Content-Range": "bytes 5000-"}),
        (206, OTHER[5:], TAG | {"Content-Range": f"bytes 5-{len(PNG) - 1}/{len(PNG)}"}),
        (206, OTHER[5000:5002], TAG | {"Content-Range": "bytes 5000-5001/5002"}),
        (206, OTHER[4999:], TAG | {"Content-Range": f"bytes 5000-{len(PNG)}/{len(PNG)}"}),
        (206, OTHER, TAG | WHERE),  # the whole of it, said to be the rest
        (206, PACKED, TAG | PACKED_WHERE | {"Content-Encoding": "gzip"}),
    ],
)
async def test_a_wrong_resumption_starts_from_the_first_byte_at_once(
    status: int, content: bytes, headers: dict[str, str], watched: Watched, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        if received.number == 1:
            await watched.break_off(
                received, picture(PNG[:5000], length=len(PNG), headers=TAG), len(PNG[:5000])
            )
        elif received.header("Range"):
            await received.reply(picture(content, status=f"{status} X", headers=headers))
        else:
            await received.reply(picture())

    async with raw_server(serve) as server:
        path = await fetch(watched, server.url, tmp_path, max_retries=1)
        assert len(server.received) == 3
    assert path.read_bytes() == PNG
    assert files(tmp_path) == [path.name]


async def test_more_than_the_rest_is_not_taken_for_the_rest(
    watched: Watched, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        if received.number == 1:
            await watched.break_off(
                received, picture(PNG[:5000], length=len(PNG), headers=TAG), len(PNG[:5000])
            )
        elif received.header("Range"):
            chunks = TAG | WHERE | {"Transfer-Encoding": "chunked"}
            head = picture(b"", length=None, status="206 Partial Content", headers=chunks)
            await received.reply(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(PNG), PNG))
        else:
            await received.reply(picture())

    async with raw_server(serve) as server:
        path = await fetch(watched, server.url, tmp_path, max_retries=2)
        asked = [received.header("Range") for received in server.received]
    assert asked == [None, "bytes=5000-", None]
    assert path.read_bytes() == PNG


async def test_a_length_that_is_first_told_with_the_rest_is_kept_to(
    watched: Watched, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        if received.number == 1:
            chunks = TAG | {"Transfer-Encoding": "chunked"}
            chunk = b"%x\r\n%s\r\n" % (5000, PNG[:5000])
            head = picture(b"", length=None, headers=chunks)
            await watched.break_off(received, head + chunk, 5000)
        elif received.number == 2:
            where = TAG | {"Content-Range": f"bytes 5000-5999/{len(PNG)}"}
            await received.reply(picture(PNG[5000:6000], status="206 X", headers=where))
        else:
            where = TAG | {"Content-Range": f"bytes 6000-{len(PNG) - 1}/{len(PNG)}"}
            await received.reply(picture(PNG[6000:], status="206 X", headers=where))

    async with raw_server(serve) as server:
        path = await fetch(watched, server.url, tmp_path)
        asked = [received.header("Range") for received in server.received]
    assert asked == [None, "bytes=5000-", "bytes=6000-"]
    assert path.read_bytes() == PNG


@pytest.mark.parametrize(
    "content",
    [
        PNG + b"\0\0\0\0IEND\xaeB`\x82",
        b"\xff\xd8\xff\xe0" + bytes(500) + b"\xff\xd9",
        b"GIF89a" + bytes(500) + b";",
        b"RIFF\xf8\x01\0\0WEBP" + bytes(500),
    ],
)
async def test_without_any_length_a_picture_has_to_show_its_end(
    content: bytes, source: HTTPTransport, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        part = content if received.number == 2 else content[:-100]
        await received.reply(picture(part, length=None, content_type="application/octet-stream"))
        received.drop()

    async with raw_server(serve) as server:
        path = await fetch(source, server.url, tmp_path)
        assert len(server.received) == 2
    assert path.read_bytes() == content


async def test_a_resumption_that_ends_early_is_not_taken_for_complete(
    watched: Watched, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        if received.number == 1:
            await watched.break_off(
                received, picture(PNG[:5000], length=len(PNG), headers=TAG), len(PNG[:5000])
            )
        else:
            where = TAG | {"Content-Range": "bytes 5000-5009/*"}
            part = PNG[5000:5010]
            await received.reply(picture(part, status="206 Partial Content", headers=where))

    async with raw_server(serve) as server:
        with pytest.raises(APIConnectionError, match=f"5010 of {len(PNG)} bytes"):
            await fetch(watched, server.url, tmp_path, max_retries=1)
    assert files(tmp_path) == []


async def test_too_little_to_tell_what_it_is_is_thrown_away(
    watched: Watched, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        if received.number == 1:
            await watched.break_off(
                received, picture(PNG[:5], length=len(PNG), headers=TAG), len(PNG[:5])
            )
        else:
            await received.reply(picture())

    async with raw_server(serve) as server:
        path = await fetch(watched, server.url, tmp_path)
        assert server.received[1].header("Range") is None
    assert path.read_bytes() == PNG


async def test_a_compressed_asset_is_unpacked_and_never_resumed(
    source: HTTPTransport, tmp_path: Path
) -> None:
    packed = gzip.compress(PNG)

    async def serve(received: Received) -> None:
        headers = {"Content-Encoding": "gzip", "ETag": '"v1"'}
        await received.reply(picture(packed, headers=headers))

    async with raw_server(serve) as server:
        path = await fetch(source, server.url, tmp_path)
    assert path.read_bytes() == PNG


@pytest.mark.parametrize("length", [len(PNG), 10**7])
async def test_cancelling_leaves_no_file_and_no_task(
    length: int, source: HTTPTransport, tmp_path: Path
) -> None:
    arrived = asyncio.Event()

    async def serve(received: Received) -> None:
        await received.reply(picture(PNG * 200 if length > len(PNG) else PNG[:-1], length=length))
        arrived.set()
        await asyncio.Event().wait()

    async with raw_server(serve) as server:
        urls = [(f"{server.url}/{n}", str(n)) for n in range(3)]
        task = asyncio.create_task(download_assets(urls, tmp_path, source=source, concurrency=2))
        await arrived.wait()
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert files(tmp_path) == []
        assert not [t for t in asyncio.all_tasks() if "download" in repr(t.get_coro())]


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
    source: HTTPTransport, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        await received.reply(picture())

    (tmp_path / "c1-p01-01.png").mkdir()
    async with raw_server(serve) as server:
        with pytest.raises(OSError, match="c1-p01-01"):
            await fetch(source, server.url, tmp_path)
    assert files(tmp_path) == ["c1-p01-01.png"]


# What is there already.


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
    source: HTTPTransport,
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
    source: HTTPTransport, tmp_path: Path
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
