"""Whatever a server does: an answer, or an error of this package in time, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import threading
import tracemalloc
from datetime import UTC, datetime

import pytest

from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    InvalidResponseError,
    LlamaGenError,
)
from llamagen_async.transport import APIRequest, APIResponse, HTTPTransport, decode
from llamagen_async.transport.content import LARGEST, unpacked
from llamagen_async.transport.secret import Secret
from tests.support.exchange import CREATE, KEY, STATUS, assert_secret, failure
from tests.support.rawserver import Handler, Received, answer, raw_server

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MOST_MEMORY = 100_000_000
"""Bytes that reading one answer takes at most, whatever the answer is."""
MOST_KEPT = 12_000_000
"""Bytes that one answer takes at most once it was read."""


def repeating(begin: bytes, piece: bytes, *, pause: float | None) -> Handler:
    """Send `begin`, then `piece` again and again: a drip with pauses, a flood without."""

    async def handler(received: Received) -> None:
        await received.reply(begin)
        while True:
            await received.reply(piece)
            if pause is not None:
                await asyncio.sleep(pause)

    return handler


ENDLESS = {
    "a head, byte by byte": repeating(HEAD + b"X-A: ", b"a", pause=0.001),
    "a body, byte by byte": repeating(HEAD + b"Content-Length: 9999999\r\n\r\n", b" ", pause=0.001),
    "chunks, byte by byte": repeating(CHUNKED, b"1\r\n \r\n", pause=0.001),
    "the length of a chunk": repeating(CHUNKED + b"1;", b"a", pause=0.001),
    "interim answers": repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.001),
    "hints": repeating(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", pause=0.001),
    "a flood of interim answers": repeating(b"", b"HTTP/1.1 102 P\r\n\r\n" * 50, pause=0),
}


@pytest.mark.parametrize("handler", ENDLESS.values(), ids=ENDLESS.keys())
@pytest.mark.parametrize("request_", [STATUS, CREATE], ids=["status", "create"])
async def test_what_does_not_end_is_given_up_when_time_is_up(
    handler: Handler, request_: APIRequest
) -> None:
    error, _ = await failure(handler, request_, timeout=0.2)
    assert isinstance(error, APITimeoutError)


FLOODS = {
    "a body in chunks": repeating(CHUNKED, b"186a0\r\n" + b"x" * 100_000 + b"\r\n", pause=None),
    "a body without an end": repeating(
        HEAD + b"Connection: close\r\n\r\n", b"x" * 99_999, pause=None
    ),
    "one line of a head": repeating(HEAD + b"X-A: ", b"a" * 9999, pause=None),
}


@pytest.mark.parametrize("handler", FLOODS.values(), ids=FLOODS.keys())
async def test_a_flood_is_shut_off(handler: Handler) -> None:
    error, _ = await failure(handler, timeout=60.0)
    assert isinstance(error, InvalidResponseError | APIConnectionError)
    assert not isinstance(error, APITimeoutError)


async def test_nothing_is_left_of_hostile_exchanges() -> None:
    """No task and no thread, whatever way an exchange has ended."""
    threads = threading.active_count()
    for handler in (*ENDLESS.values(), *FLOODS.values()):
        await failure(handler, CREATE, timeout=0.1)
    await asyncio.sleep(0)  # the last connection is closed in this turn
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert threading.active_count() == threads


async def sent(handler: Handler, request: APIRequest) -> APIResponse:
    async with raw_server(handler) as server:
        transport = HTTPTransport(server.url, KEY, timeout=0.5)
        try:
            return await transport.send(request)
        finally:
            await transport.aclose()


def cut_off(content: bytes, *, stay: bool, status: str = "200 OK") -> Handler:
    """Send less than was announced, then close the connection or keep silent."""

    async def handler(received: Received) -> None:
        await received.reply(answer(content, status=status, length=len(content) + 10))
        if stay:
            await asyncio.Event().wait()
        received.drop()

    return handler


@pytest.mark.parametrize("stay", [True, False])
async def test_an_answer_that_breaks_off_behind_the_id_is_not_lost(stay: bool) -> None:
    cut = b'{"id": "c1", "status": "SUCCEEDED", "comi'
    assert (await sent(cut_off(cut, stay=stay), CREATE)).body == {"id": "c1"}
    with pytest.raises(APIConnectionError):  # a check is repeated
        await sent(cut_off(cut, stay=stay), STATUS)
    with pytest.raises(APIConnectionError) as caught:
        await sent(cut_off(b'{"id": "c', stay=stay), CREATE)
    assert caught.value.request_sent


@pytest.mark.parametrize("stay", [True, False])
@pytest.mark.parametrize("request_", [STATUS, CREATE], ids=["status", "create"])
async def test_what_came_whole_is_used_although_more_was_announced(
    request_: APIRequest, stay: bool
) -> None:
    assert (await sent(cut_off(b'{"id": "c1"}', stay=stay), request_)).body == {"id": "c1"}


@pytest.mark.parametrize("stay", [True, False])
async def test_the_status_of_a_refusal_counts_although_its_body_breaks_off(stay: bool) -> None:
    with pytest.raises(APIError, match="HTTP 402"):
        await sent(cut_off(b'{"message": "no cre', stay=stay, status="402 No"), CREATE)


async def test_a_comic_in_a_broken_packing_is_not_lost() -> None:
    packed = gzip.compress(json.dumps({"id": "c1", "x": [*range(9000)]}).encode())

    async def broken(received: Received) -> None:
        await received.reply(
            answer(packed[: len(packed) // 2], headers={"Content-Encoding": "gzip"})
        )

    assert (await sent(broken, CREATE)).body == {"id": "c1"}
    error, _ = await failure(broken, STATUS)
    assert isinstance(error, APIConnectionError)


def filled(begin: str, end: str = '"}') -> bytes:
    begun = begin.encode()
    return begun + b"x" * (LARGEST - len(begun) - len(end)) + end.encode()


HUGE = {
    "one wide text": filled('{"id": "c1", "x": "🐈'),
    "wide texts": filled(
        '{"id": "c1",' + ",".join(f'"{n}🐈":"🐈{"y" * 30}"' for n in range(99_000)) + ',"x":"'
    ),
    "names": b'{"id": "c1",' + b",".join(b'"%d":{}' % n for n in range(99_000)) + b"}",
    "parts": b'{"id": "c1", "x": [' + b"{}," * 3_000_000,
    "depth": b'{"id": "c1", "x": ' + b"[" * LARGEST,
    "the key": filled('{"id": "c1", "x": "' + f"\\u006c{KEY[1:]}" * 200_000),
    "escapes": filled('{"id": "c1", "x": "' + "\\ud83d\\ude00" * 700_000),
    "a number": b'{"id": "c1", "x": ' + b"9" * (LARGEST - 20) + b"}",
    "HTML": b"<html>" + b"%61" * 3_000_000,
    "a bomb": gzip.compress(b"x" * 50_000_000),
}


@pytest.mark.once
@pytest.mark.parametrize("content", HUGE.values(), ids=HUGE.keys())
@pytest.mark.parametrize("status", [200, 500])
def test_reading_an_answer_takes_a_bounded_memory(content: bytes, status: int) -> None:
    """The stated figures hold for the worst answers that were thought of."""
    gc.collect()
    tracemalloc.start()
    outcome: APIResponse | LlamaGenError
    try:
        packing = "gzip" if content[:2] == b"\x1f\x8b" else None
        outcome = decode(
            status,
            {"Content-Type": "application/json"},
            unpacked(content, packing)[0],
            now=datetime.now(UTC),
            secret=Secret(KEY),
            is_billed=True,
        )
    except LlamaGenError as error:
        assert_secret(error)
        outcome = error.with_traceback(None)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST_MEMORY
    assert kept < MOST_KEPT
    assert "lg_sk" not in str(outcome)


async def test_an_error_does_not_keep_the_answer_alive() -> None:
    """A batch keeps the error of each story: ten of these would be 90 MB."""

    async def page(received: Received) -> None:
        await received.reply(answer(b"<html>" + b"%61" * 3_000_000))

    errors = [(await failure(page))[0]]  # the first one loads what is loaded once
    gc.collect()
    tracemalloc.start()
    errors += [(await failure(page))[0] for _ in range(3)]
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2_000_000
    assert len(errors) == 4
