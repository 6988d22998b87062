"""Answers whose HTTP breaks behind their head: what has come counts, and nobody waits for more."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from llamagen_async.errors import (
    APIConnectionError,
    InsufficientCreditsError,
    LlamaGenError,
    RateLimitError,
)
from llamagen_async.transport import APIRequest, APIResponse, HTTPAssets, HTTPTransport
from tests.support.assets import PNG, Make
from tests.support.exchange import BOTH, CREATE, KEY, STATUS, assert_secret
from tests.support.rawserver import Handler, Received, answer, raw_server

BODY = b'{"id": "c1"}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n" + BODY + b"\r\n"
CLOSING = {"Connection": "close"}
OTHER = answer(b"", status="408 Request Timeout", headers=CLOSING)
PAGE = b"<html>502 Bad Gateway</html>\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
BROKEN = {
    "a letter behind it": answer(BODY) + b"x",
    "a line behind it": answer(BODY, headers=CLOSING) + b"\r\n\r\n\r\nx",
    "another answer behind it": answer(BODY, headers=CLOSING) + OTHER,
    "a page in the chunks": CHUNKED + PAGE,
    "no end of the chunks": CHUNKED + b"x\r\n\r\n",
    "a trailer that is none": CHUNKED + b"0\r\n no trailer\r\n\r\n",
    "hints before it": INTERIM * 3 + answer(BODY) + b"x",
    "lines without CR": b"HTTP/1.1 200 OK\nContent-Length: 12\n\n" + BODY + b"x",
}
TEXT = '{"id": "c1", "prompt": "éé"}'
COUNTED_IN_CHARACTERS = answer(TEXT.encode(), length=len(TEXT))


def reply(*pieces: bytes) -> Handler:
    """Send each piece when the one before has been read, and leave the connection open."""

    async def handler(received: Received) -> None:
        for piece in pieces:
            await received.reply(piece)
            for _ in range(10):  # the client is in the same event loop
                await asyncio.sleep(0)
        await asyncio.Event().wait()

    return handler


@pytest.fixture(params=["own", "user's"])
async def session(request: pytest.FixtureRequest) -> AsyncIterator[aiohttp.ClientSession | None]:
    if request.param == "own":
        yield None
        return
    async with aiohttp.ClientSession(read_bufsize=8) as given:
        yield given


async def outcome(
    handler: Handler, request: APIRequest, session: aiohttp.ClientSession | None
) -> APIResponse | LlamaGenError:
    """Send a request; the time that it is given is never up in these tests."""
    async with raw_server(handler) as server:
        transport = HTTPTransport(server.url, KEY, timeout=600.0, session=session)
        try:
            return await transport.send(request)
        except LlamaGenError as error:
            assert_secret(error)
            return error.with_traceback(None)
        finally:
            await transport.aclose()


@BOTH
@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN.keys())
async def test_what_came_whole_is_used_although_something_is_wrong_behind_it(
    sent: bytes, request_: APIRequest, session: aiohttp.ClientSession | None
) -> None:
    for pieces in ((sent,), (sent[:-1], sent[-1:])):
        answered = await outcome(reply(*pieces), request_, session)
        assert isinstance(answered, APIResponse)
        assert answered.body == {"id": "c1"}


@BOTH
@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("packets", [1, 2, 3])
async def test_an_answer_is_read_whole_although_its_length_counts_characters(
    request_: APIRequest, packets: int, coding: str, session: aiohttp.ClientSession | None
) -> None:
    """Else a finished comic could never be collected."""
    text = json.dumps({"id": "c1", "prompt": "é" * 40}, ensure_ascii=False)
    body = gzip.compress(text.encode()) if coding else text.encode()
    length = len(body) - 40 if coding else len(text)
    sent = answer(body, length=length, headers={"Content-Encoding": coding} if coding else {})
    head = len(sent) - len(body)
    cuts = [0, *(head, head + 5)[: packets - 1], len(sent)]
    pieces = [sent[begin:end] for begin, end in itertools.pairwise(cuts)]
    answered = await outcome(reply(*pieces), request_, session)
    assert isinstance(answered, APIResponse)
    assert answered.body == {"id": "c1", "prompt": "é" * 40}


async def test_an_id_is_known_although_the_rest_comes_later(
    session: aiohttp.ClientSession | None,
) -> None:
    sent = COUNTED_IN_CHARACTERS
    answered = await outcome(reply(sent[:-2], sent[-2:]), CREATE, session)
    assert isinstance(answered, APIResponse)
    assert answered.body == {"id": "c1"}


@BOTH
@pytest.mark.parametrize("rest", [b"x", b"}", b'{"id": "c2"}', OTHER, PAGE])
async def test_what_comes_behind_a_whole_answer_is_not_part_of_it(
    request_: APIRequest, rest: bytes, session: aiohttp.ClientSession | None
) -> None:
    answered = await outcome(reply(answer(BODY) + rest), request_, session)
    assert isinstance(answered, APIResponse)
    assert answered.body == {"id": "c1"}


@pytest.mark.parametrize(
    ("status", "error"),
    [("402 Payment Required", InsufficientCreditsError), ("429 Too Many", RateLimitError)],
)
async def test_a_refusal_is_certain_although_something_is_wrong_behind_it(
    status: str, error: type[LlamaGenError], session: aiohttp.ClientSession | None
) -> None:
    refused = answer(b"{}", status=status, headers=CLOSING) + b"x"
    assert isinstance(await outcome(reply(refused), CREATE, session), error)


@BOTH
async def test_what_breaks_before_its_end_is_given_up_at_once(
    request_: APIRequest, session: aiohttp.ClientSession | None
) -> None:
    """Else it would be waited for until time is up, on a connection that is closed."""
    begun = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"id"\r\n'
    for pieces in ((begun + PAGE,), (begun, PAGE)):
        error = await outcome(reply(*pieces), request_, session)
        assert isinstance(error, APIConnectionError)
        assert error.request_sent


async def test_what_is_no_http_from_the_beginning_is_no_answer(
    session: aiohttp.ClientSession | None,
) -> None:
    for sent in (PAGE, b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", INTERIM + PAGE):
        error = await outcome(reply(sent), STATUS, session)
        assert isinstance(error, APIConnectionError)


class OfTheUser(aiohttp.TCPConnector):
    """A connector of another kind than aiohttp's own."""


@pytest.mark.parametrize("is_own", [True, False], ids=["own", "user's"])
async def test_a_picture_whose_chunks_break_is_given_up_at_once(is_own: bool, make: Make) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    begun = head + b"%x\r\n%s\r\n" % (len(PNG), PNG)
    received = b""

    async def read(assets: HTTPAssets, url: str) -> None:
        nonlocal received
        async with assets.open_asset(url) as stream:
            async for chunk in stream.chunks():
                received += chunk

    async with (
        raw_server(reply(begun, PAGE)) as server,
        aiohttp.ClientSession(connector=OfTheUser()) as session,
    ):
        assets = make(server.url, inactivity=600.0, session=None if is_own else session)
        with pytest.raises(APIConnectionError, match="incomplete"):
            await read(assets, f"{server.url}/c1.png")
    assert received == PNG
