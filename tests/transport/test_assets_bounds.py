"""The answers of a host of pictures are bounded in time, in size and in redirects."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import aiohttp
import pytest

from llamagen_async.errors import (
    APIConnectionError,
    APITimeoutError,
    ClientClosedError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaGenError,
)
from tests.support.assets import Make, read
from tests.support.rawserver import Received, answer, raw_server

HELLO = answer(b"hello", content_type="image/png")


async def hello(received: Received) -> None:
    await received.reply(HELLO)


async def test_a_host_that_falls_silent_is_given_up(make: Make) -> None:
    async def silent(received: Received) -> None:
        await received.reply(answer(b"hello", length=6))
        await asyncio.Event().wait()

    async with raw_server(silent) as server:
        with pytest.raises(APITimeoutError) as caught:
            await read(make(inactivity=0.05), server.url)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("piece", [b"HTTP/1.1 103 Early Hints\r\n\r\n", b"X: y\r\n"])
async def test_a_head_that_never_ends_is_given_up(piece: bytes, make: Make) -> None:
    """Endless interim answers, and a head that comes line by line."""

    async def drip(received: Received) -> None:
        if piece.startswith(b"X"):
            await received.reply(b"HTTP/1.1 200 OK\r\n")
        while True:
            await received.reply(piece)
            await asyncio.sleep(0.001)

    async with raw_server(drip) as server:
        with pytest.raises(APIConnectionError):
            await read(make(inactivity=0.2), server.url)


async def test_a_long_header_of_a_host_is_read_and_so_are_many(make: Make) -> None:
    headers = {"Content-Security-Policy": "x" * 20_000, **{f"X-{n}": "x" for n in range(300)}}

    async def wordy(received: Received) -> None:
        await received.reply(answer(b"hello", headers=headers))

    async with raw_server(wordy) as server:
        assert await read(make(), server.url) == b"hello"


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("/a%2Fb/%7Ec+d?sig=a%2Fb%2B%3D&x=%7E&y=a+b;z=1", None),
        ("/a%2Fb/c d?sig=a%2Fb%2B%3D&x[]={1}", "/a%2Fb/c%20d?sig=a%2Fb%2B%3D&x[]=%7B1%7D"),
        ("/\u6f2b.png?sig=%2f%3A%40&q=\u6f2b", "/%E6%BC%AB.png?sig=%2f%3A%40&q=%E6%BC%AB"),
        ("/100%/a|b?x=50%&y=%2F ", "/100%/a%7Cb?x=50%&y=%2F"),
        ("/a\tb/c?x=%2F", "/ab/c?x=%2F"),
    ],
)
async def test_a_signed_url_is_asked_for_as_it_is_written(
    written: str, asked: str | None, make: Make
) -> None:
    """Only a character that can stand in no URL is encoded, also in a redirect."""

    async def away(received: Received) -> None:
        if received.number == 1:
            headers = {"Location": written.replace("\t", "")}
            await received.reply(answer(b"", status="302 Found", headers=headers))
        else:
            await hello(received)

    asked = asked or written
    async with raw_server(hello) as server:
        assert await read(make(), server.url + written) == b"hello"
        assert server.received[0].head.startswith(f"GET {asked} HTTP/1.1\r\n")
    async with raw_server(away) as server:
        assert await read(make(), f"{server.url}/first") == b"hello"
        assert server.received[1].head.startswith(f"GET {asked} HTTP/1.1\r\n")


async def test_redirects_in_a_circle_end(make: Make) -> None:
    async def around(received: Received) -> None:
        await received.reply(answer(b"x" * 99, status="301 X", headers={"Location": "/a"}))

    async with raw_server(around) as server:
        with pytest.raises(InvalidResponseError, match="more than 5 redirects"):
            await read(make(), f"{server.url}/a")
        assert len(server.received) == 6


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://127.0.0.1/", "data:image/png,x", "http://a..b/"],
)
async def test_a_redirect_out_of_the_web_is_refused(location: str, make: Make) -> None:
    async def away(received: Received) -> None:
        await received.reply(answer(b"", status="308 X", headers={"Location": location}))

    async with raw_server(away) as server:
        with pytest.raises(InvalidResponseError, match="other than http"):
            await read(make(), server.url)


@pytest.mark.parametrize(
    "url",
    [
        "http://a..b/",
        "http://.a/",
        "http://a b/",
        f"http://{'a' * 64}.example/",
        f"http://{'a.' * 130}example/",
        "http:///a",
        "http://a:99999/",
        "http://[::1",
        "https://",
    ],
)
async def test_a_host_that_can_be_none_is_refused(url: str, make: Make) -> None:
    with pytest.raises(InvalidRequestError, match="url"):
        await read(make(), url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
        ("ftp://user:secret@host/x?signature", "ftp://host/x"),
        ("//host/x?signature", "//host/x"),
        ("/x.png?signature", "/x.png"),
    ],
)
async def test_what_is_wrong_with_a_url_is_shown_and_no_secret_of_it(
    url: str, shown: str, make: Make
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await read(make(), url)
    assert str(caught.value) == f"url: got '{shown}', allowed is an http or https URL"


CONTENT = bytes(range(256)) * 4000


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(CONTENT)),
        ("GZIP", gzip.compress(CONTENT)),
        ("deflate", zlib.compress(CONTENT)),
        ("identity", CONTENT),
        ("gzip", gzip.compress(CONTENT[:9]) + gzip.compress(CONTENT[9:])),
        ("gzip", gzip.compress(CONTENT) + bytes(100)),
        ("deflate", zlib.compress(CONTENT, wbits=-15)),
        ("gzip, aws-chunked", gzip.compress(CONTENT)),
        ("aws-chunked", CONTENT),
        ("utf-8", CONTENT),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_packed_all_the_same_is_unpacked(
    encoding: str, packed: bytes, make: Make
) -> None:
    async def send(received: Received) -> None:
        await received.reply(answer(packed, headers={"Content-Encoding": encoding}))

    async with raw_server(send) as server:
        assert await read(make(), server.url) == CONTENT


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize(
    "begin", [b"\x89PNG\r\n", b"\xff\xd8\xff\xe0", b"RIFF", b"\0\0\0 ftypisom"]
)
async def test_a_picture_is_taken_although_it_is_said_to_be_packed(
    begin: bytes, encoding: str, make: Make
) -> None:
    """Some stores keep a header that their files do not have; a comic's picture was lost for it."""

    async def send(received: Received) -> None:
        await received.reply(answer(b"", length=None, headers={"Content-Encoding": encoding}))
        for piece in (begin[:1], begin[1:], CONTENT):
            await received.reply(piece)
        received.drop()

    async with raw_server(send) as server:
        assert await read(make(), server.url) == begin + CONTENT


@pytest.mark.once
async def test_many_members_without_content_end_it(make: Make) -> None:
    async def send(received: Received) -> None:
        members = gzip.compress(b"") * 20_000
        await received.reply(answer(members, headers={"Content-Encoding": "gzip"}))

    async with raw_server(send) as server:
        with pytest.raises(InvalidResponseError, match="members"):
            await read(make(), server.url)


@pytest.mark.once
async def test_a_bomb_is_unpacked_in_small_pieces(make: Make) -> None:
    """A megabyte that becomes a gigabyte comes in pieces of 256 kB, and who reads may stop."""
    packer = zlib.compressobj(9)
    million = bytes(1_000_000)
    bomb = b"".join(packer.compress(million) for _ in range(300)) + packer.flush()

    async def send(received: Received) -> None:
        await received.reply(answer(bomb, headers={"Content-Encoding": "deflate"}))

    async with raw_server(send) as server, make().open_asset(server.url) as stream:
        sizes: list[int] = []
        async for chunk in stream.chunks():
            sizes.append(len(chunk))
            if sum(sizes) > 3_000_000:
                break
    assert len(bomb) < 400_000
    assert max(sizes) <= 1 << 18


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("br", b"\x8b\x02"), ("zstd", b"("), ("gzip, gzip", b""), ("gzip", b"no gzip at all")],
)
async def test_what_cannot_be_unpacked_is_refused(encoding: str, packed: bytes, make: Make) -> None:
    async def send(received: Received) -> None:
        await received.reply(answer(packed, headers={"Content-Encoding": encoding}))

    async with raw_server(send) as server:
        with pytest.raises(InvalidResponseError, match="packed"):
            await read(make(), server.url)


async def test_what_is_packed_and_breaks_off_is_not_whole(make: Make) -> None:
    async def send(received: Received) -> None:
        cut = gzip.compress(CONTENT)[:-20]
        await received.reply(answer(cut, headers={"Content-Encoding": "gzip"}))

    async with raw_server(send) as server:
        with pytest.raises(APIConnectionError, match="incomplete"):
            await read(make(), server.url)


async def test_exceptions_of_a_connector_do_not_get_out(make: Make) -> None:
    class Broken(aiohttp.TCPConnector):
        async def connect(self, *_args: Any, **_options: Any) -> Any:
            raise RuntimeError("https://cdn.example/?sig=secret")

    async with aiohttp.ClientSession(connector=Broken()) as session:
        with pytest.raises(LlamaGenError) as caught:
            await read(make(session=session), "http://127.0.0.1:9/a?sig=secret")
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("closed", ["client", "client of a session", "session"])
@pytest.mark.parametrize("framing", ["Content-Length: 9", "Transfer-Encoding: chunked"])
async def test_what_is_read_when_the_client_is_closed_breaks_off(
    framing: str, closed: str, make: Make
) -> None:
    """Else a download would wait for its whole time, on a connection that is closed."""

    async def begin(received: Received) -> None:
        await received.reply(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n".encode()[:-4])
        await asyncio.Event().wait()

    async with raw_server(begin) as server, aiohttp.ClientSession() as session:
        assets = make(inactivity=600.0, session=None if closed == "client" else session)
        async with assets.open_asset(server.url) as stream:
            chunks = stream.chunks()
            await anext(chunks)

            async def go_on() -> bytes:
                return await anext(chunks)

            reading = asyncio.create_task(go_on())
            await asyncio.sleep(0)
            await (session.close() if closed == "session" else assets.aclose())
            with pytest.raises(APIConnectionError):
                await reading


async def test_what_is_closed_opens_nothing_any_more(make: Make) -> None:
    assets = make()
    arrived = asyncio.Event()

    async def hang(received: Received) -> None:
        arrived.set()
        await asyncio.Event().wait()

    async with raw_server(hang) as server:
        task = asyncio.create_task(read(assets, server.url))
        await arrived.wait()
        await assets.aclose()
        await assets.aclose()
        with pytest.raises(LlamaGenError):
            await task
        with pytest.raises(ClientClosedError):
            await read(assets, server.url)
        never_used = make()
        await never_used.aclose()
        with pytest.raises(ClientClosedError):
            await read(never_used, server.url)
    assert never_used._session is None


async def test_the_pictures_of_a_comic_share_connections(make: Make) -> None:
    assets = make()
    async with raw_server(hello) as server:
        for _ in range(5):
            await read(assets, server.url)
        assert server.connections == 1
