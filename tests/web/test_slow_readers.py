"""Readers that open a stream of events and take nothing: the server does not collect for them."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlsplit

import attrs
import pytest
from aiohttp import web

from llamagen_async import BatchState, ComicRequest, LlamaGenClient
from llamagen_async.batch.events import ComicJob
from llamagen_async.batch.protocol import JobQueue
from llamagen_async.web import create_app
from llamagen_async.web.aiohttp import create_app as create_aiohttp_app
from tests.support.web import BORDERS, served

READERS = 100
BUFFER = 32_768
"""Bytes that the system keeps at either end of a connection; Linux takes up to twice as many."""
EVENT = 20_000
"""Bytes of an event, about."""
MOST = 20
"""Events that can be on their way to a reader that takes none: 128 kB at the ends, and 64 kB that
the server itself holds before it waits."""

AT = datetime(2026, 1, 1, tzinfo=UTC)
JOB = ComicJob("k", BatchState.QUEUED, 0, AT, AT, ComicRequest("x" * EVENT))


class Endless:
    """A queue whose one job always has news for each of its readers."""

    held_by = None

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        """How many events the stream of each reader has taken."""

    async def start(self) -> None:
        pass

    async def aclose(self, grace: float = 0.0) -> None:
        pass

    async def get(self, key: str) -> ComicJob:
        return attrs.evolve(JOB, key=key)

    async def events(self, key: str, *, after: str | None = None) -> AsyncGenerator[ComicJob, None]:
        for position in itertools.count(1):
            self.told[key] += 1
            yield attrs.evolve(JOB, key=key, position=position)
            await asyncio.sleep(0)


@asynccontextmanager
async def serving(border: str, queue: Endless, grace: float = 0.2) -> AsyncIterator[str]:
    """The URL of the routes of a queue, over sockets with small buffers."""
    given: Any = cast("JobQueue", queue)
    async with LlamaGenClient("sk-llamagen-x", plan="paid", quota="memory") as client:
        if border == "starlette":
            async with served(create_app(client, queue=given), unsent=BUFFER) as url:
                yield url
            return
        app = create_aiohttp_app(client, queue=given)
        runner = web.AppRunner(app, shutdown_timeout=grace)
        await runner.setup()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            try:
                await web.SockSite(runner, listening).start()
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                await runner.cleanup()


@asynccontextmanager
async def reader(url: str, key: str) -> AsyncIterator[socket.socket]:
    """A connection that has asked for a stream of events, and has taken nothing of it."""
    split, loop = urlsplit(url), asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        await loop.sock_connect(connection, (split.hostname, split.port))
        asked = f"GET /comics/{key}/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await loop.sock_sendall(connection, asked.encode())
        yield connection


@pytest.mark.once
@pytest.mark.parametrize("border", BORDERS)
async def test_a_reader_that_takes_nothing_costs_little(border: str) -> None:
    """Each stream stands still after some events, while one that is read goes on and on."""
    queue, loop = Endless(), asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(border, queue))
        for n in range(READERS):
            await stack.enter_async_context(reader(url, f"slow-{n}"))
        quick = await stack.enter_async_context(reader(url, "quick"))
        while queue.told["quick"] < 5 * MOST or len(queue.told) <= READERS:
            assert await loop.sock_recv(quick, 1 << 20)
        slow = [number for key, number in queue.told.items() if key != "quick"]
        assert len(slow) == READERS
        assert max(slow) <= MOST


@pytest.mark.once
async def test_a_server_that_ends_waits_for_no_reader_that_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """aiohttp gives requests a minute or two, and hosts kill a server sooner."""
    monkeypatch.setattr("llamagen_async.web.aiohttp.FAREWELL", 0.0)
    queue, loop = Endless(), asyncio.get_running_loop()
    async with AsyncExitStack() as readers:
        async with serving("aiohttp", queue, grace=3_600) as url:
            await readers.enter_async_context(reader(url, "slow"))
            quick = await readers.enter_async_context(reader(url, "quick"))
            while queue.told["quick"] < 5 * MOST:
                assert await loop.sock_recv(quick, 1 << 20)
        assert 0 < queue.told["slow"] <= MOST
