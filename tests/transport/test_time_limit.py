"""An event loop that is blocked for longer than a request may take loses no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest

from llamagen_async.errors import APITimeoutError
from llamagen_async.simulation import VirtualTimeLoop
from llamagen_async.transport import HTTPTransport
from llamagen_async.transport.time_limit import time_limit
from tests.support.exchange import CREATE, KEY
from tests.support.scripted import left_over, now
from tests.support.wired import Piece, Request, WiredConnector, packed

pytestmark = pytest.mark.virtual_time

COMIC = b"".join(packed(200, {}, b'{"id": "c1"}'))


def block(seconds: float) -> None:
    """Do what a breakpoint does: time goes on, and the loop does not."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.advance(seconds)


async def sent_while_blocked(*pieces: Piece) -> object:
    def serve(_: Request) -> Iterator[Piece]:
        yield from pieces

    async with aiohttp.ClientSession(connector=WiredConnector(serve)) as session:
        transport = HTTPTransport("https://api.invalid", KEY, session=session, timeout=30.0)
        asyncio.get_running_loop().call_later(0.5, block, 100.0)
        return (await transport.send(CREATE)).body


@pytest.mark.parametrize(
    "pieces",
    [
        [Piece(1.0, COMIC)],
        [Piece(1.0, COMIC[:9]), Piece(0.1, COMIC[9:])],
        [Piece(29.0, COMIC[:-5]), Piece(0.1, COMIC[-5:])],
    ],
)
async def test_an_answer_that_came_while_the_loop_was_blocked_is_read(pieces: list[Piece]) -> None:
    assert await sent_while_blocked(*pieces) == {"id": "c1"}
    assert not left_over()


async def test_an_answer_that_has_not_come_by_then_is_given_up_soon() -> None:
    with pytest.raises(APITimeoutError):
        await sent_while_blocked(Piece(1.0, COMIC[:9]))
    assert now() == pytest.approx(105.5)
    assert not left_over()


async def test_the_time_is_up_when_it_is_up() -> None:
    with pytest.raises(TimeoutError):
        async with time_limit(30.0):
            await asyncio.sleep(31.0)
    assert now() == 30.0


async def test_what_ends_before_is_not_ended_later() -> None:
    async with time_limit(30.0):
        await asyncio.sleep(29.0)
    with pytest.raises(ValueError, match="mine"):
        async with time_limit(30.0):
            raise ValueError("mine")
    await asyncio.sleep(100.0)
