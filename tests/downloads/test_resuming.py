"""A transfer that broke off goes on where it stopped, or starts again from the first byte."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from llamagen_async.transport import HTTPAssets
from tests.support.assets import FUTURE, OTHER, PAST, PNG, TAG, fetch, files, picture
from tests.support.counted_assets import CountedAssets
from tests.support.rawserver import Received, raw_server

WHERE = {"Content-Range": f"bytes 5000-{len(PNG) - 1}/{len(PNG)}"}
PACKED = gzip.compress(OTHER[5000:], mtime=0)
"""Part of another file; without a time in it, since test ids must be the same in each process."""
PACKED_WHERE = {"Content-Range": f"bytes 5000-{4999 + len(PACKED)}/{len(PNG)}"}


@pytest.mark.parametrize("headers", [TAG, {"Last-Modified": PAST, "Date": FUTURE}])
async def test_a_transfer_that_breaks_off_is_resumed_where_it_stopped(
    headers: dict[str, str], watched: CountedAssets, tmp_path: Path
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


async def test_what_came_together_with_the_end_is_not_asked_for_again(
    source: HTTPAssets, tmp_path: Path
) -> None:
    """Else a host that ends each connection after so many bytes would never give out a picture."""
    piece = len(PNG) // 4 + 1

    async def serve(received: Received) -> None:
        start = int((received.header("Range") or "bytes=0-")[len("bytes=") : -1])
        where = {"Content-Range": f"bytes {start}-{len(PNG) - 1}/{len(PNG)}", **TAG}
        status, rest = "206 Partial Content" if start else "200 OK", PNG[start:]
        await received.reply(
            picture(rest[:piece], status=status, length=len(rest), headers=where if start else TAG)
        )
        received.drop()

    async with raw_server(serve) as server:
        path = await fetch(source, server.url, tmp_path)
        assert path.read_bytes() == PNG
        assert len(server.received) == 4
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
    headers: dict[str, str], watched: CountedAssets, tmp_path: Path
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
        *((status, b"no parts", {}) for status in (400, 403, 405, 412, 416, 501)),
        (206, OTHER, TAG | WHERE),  # the whole of it, said to be the rest
        (206, PACKED, TAG | PACKED_WHERE | {"Content-Encoding": "gzip"}),
    ],
)
async def test_a_wrong_resumption_starts_from_the_first_byte_at_once(
    status: int, content: bytes, headers: dict[str, str], watched: CountedAssets, tmp_path: Path
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
        path = await fetch(watched, server.url, tmp_path)
        assert len(server.received) == 3
    assert path.read_bytes() == PNG
    assert files(tmp_path) == [path.name]


async def test_more_than_the_rest_is_not_taken_for_the_rest(
    watched: CountedAssets, tmp_path: Path
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
        path = await fetch(watched, server.url, tmp_path)
        asked = [received.header("Range") for received in server.received]
    assert asked == [None, "bytes=5000-", None]
    assert path.read_bytes() == PNG


async def test_a_length_that_is_first_told_with_the_rest_is_kept_to(
    watched: CountedAssets, tmp_path: Path
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
    content: bytes, source: HTTPAssets, tmp_path: Path
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
    watched: CountedAssets, tmp_path: Path
) -> None:
    async def serve(received: Received) -> None:
        if received.number == 1:
            await watched.break_off(
                received, picture(PNG[:5000], length=len(PNG), headers=TAG), len(PNG[:5000])
            )
        elif received.number == 2:
            where = TAG | {"Content-Range": "bytes 5000-5009/*"}
            part = PNG[5000:5010]
            await received.reply(picture(part, status="206 Partial Content", headers=where))
        else:
            where = TAG | {"Content-Range": f"bytes 5010-{len(PNG) - 1}/{len(PNG)}"}
            await received.reply(picture(PNG[5010:], status="206 X", headers=where))

    async with raw_server(serve) as server:
        path = await fetch(watched, server.url, tmp_path)
        assert server.received[2].header("Range") == "bytes=5010-"
    assert path.read_bytes() == PNG


async def test_too_little_to_tell_what_it_is_is_thrown_away(
    watched: CountedAssets, tmp_path: Path
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
    source: HTTPAssets, tmp_path: Path
) -> None:
    packed = gzip.compress(PNG)

    async def serve(received: Received) -> None:
        headers = {"Content-Encoding": "gzip", "ETag": '"v1"'}
        await received.reply(picture(packed, headers=headers))

    async with raw_server(serve) as server:
        path = await fetch(source, server.url, tmp_path)
    assert path.read_bytes() == PNG
