"""A connection for each request: what was left on another one is nobody's answer."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import pytest

from llamagen_async.transport import APIRequest, HTTPAssets, HTTPTransport
from llamagen_async.transport.attempt import OBSERVER
from tests.support.exchange import BOTH, CREATE, KEY, STATUS, fails, reply_ok
from tests.support.rawserver import RawServer, Received, answer, raw_server


class Twice:
    """Answers each request, and once more when it is told to, unasked."""

    def __init__(self, status: str) -> None:
        self._late = answer(b'{"id": "late"}', status=status, headers={"Retry-After": "0"})
        self._may_speak, self._has_spoken = asyncio.Event(), asyncio.Event()

    async def __call__(self, received: Received) -> None:
        await self.answer(received)
        await self._may_speak.wait()
        self._may_speak.clear()
        with contextlib.suppress(ConnectionError):
            await received.reply(self._late)
        self._has_spoken.set()

    async def answer(self, received: Received) -> None:
        await received.reply(answer(b'{"id": "c%d"}' % received.number))

    async def speak(self) -> None:
        self._may_speak.set()
        await self._has_spoken.wait()
        self._has_spoken.clear()

    async def leave_in(self, session: aiohttp.ClientSession, server: RawServer) -> None:
        """Leave a connection with such an answer in a user's session."""
        async with session.get(server.url) as response:
            await response.read()
        await self.speak()


STATUSES = pytest.mark.parametrize(
    "status", ["200 OK", "408 Request Timeout", "429 Too Many Requests"]
)


@BOTH
@STATUSES
async def test_an_answer_without_a_request_is_nobodys(status: str, request_: APIRequest) -> None:
    handler = Twice(status)
    async with raw_server(handler) as server:
        transport = HTTPTransport(server.url, KEY)
        for number in (1, 2, 3):
            assert (await transport.send(request_)).body == {"id": f"c{number}"}
            await handler.speak()
        await transport.aclose()
    assert [received.connection for received in server.received] == [1, 2, 3]


@BOTH
@STATUSES
async def test_an_answer_without_a_request_in_a_users_session_is_nobodys(
    status: str, request_: APIRequest
) -> None:
    handler = Twice(status)
    async with raw_server(handler) as server, aiohttp.ClientSession() as session:
        await handler.leave_in(session, server)
        transport = HTTPTransport(server.url, KEY, session=session)
        for number in (2, 3):
            assert (await transport.send(request_)).body == {"id": f"c{number}"}
            await handler.speak()
    assert [received.connection for received in server.received] == [1, 2, 3]


async def test_an_answer_without_a_request_through_a_users_proxy_is_nobodys() -> None:
    handler = Twice("429 Too Many Requests")
    async with raw_server(handler) as proxy, aiohttp.ClientSession(proxy=proxy.url) as session:
        await handler.leave_in(session, proxy)
        transport = HTTPTransport("http://127.0.0.1:9", KEY, session=session)
        assert (await transport.send(CREATE)).body == {"id": "c2"}
    assert [received.connection for received in proxy.received] == [1, 2]
    assert proxy.received[1].head.startswith("POST http://127.0.0.1:9/v1/comics")


class PictureTwice(Twice):
    """Answers each picture with its path, and once more with another one, unasked."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self._late = answer(b"late", status=status)

    async def __call__(self, received: Received) -> None:
        self._path = received.head.split()[1].encode()
        await super().__call__(received)

    async def answer(self, received: Received) -> None:
        await received.reply(answer(self._path))


@STATUSES
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "user's"])
async def test_a_picture_without_a_request_is_nobodys(status: str, is_own: bool) -> None:
    """Else each panel would show the one before."""
    handler = PictureTwice(status)
    async with raw_server(handler) as server, aiohttp.ClientSession() as session:
        transport = HTTPTransport(server.url, KEY, session=None if is_own else session)
        assets = HTTPAssets(transport)
        for number in range(3):
            async with assets.open_asset(f"{server.url}/{number}") as stream:
                assert stream.status == 200
                assert [chunk async for chunk in stream.chunks()] == [b"/%d" % number]
            await handler.speak()
            for _ in range(10):  # it has come: the client is in the same event loop
                await asyncio.sleep(0)
        await assets.aclose()
        await transport.aclose()


class Lying(aiohttp.TCPConnector):
    """A connector that says that it never uses a connection twice, and does."""

    @property
    def force_close(self) -> bool:
        return True


async def test_nothing_is_sent_on_a_connection_that_was_used_before() -> None:
    async with raw_server(reply_ok) as server:
        session = aiohttp.ClientSession(connector=Lying(), headers={"Connection": "keep-alive"})
        async with session:
            transport = HTTPTransport(server.url, KEY, session=session)
            await transport.send(CREATE)
            await fails(transport, sent=False)
    assert len(server.received) == 1


async def test_other_requests_of_a_users_session_are_left_alone() -> None:
    """Requests of the user keep their connections and get no key."""
    async with raw_server(reply_ok) as server, aiohttp.ClientSession() as session:
        for _ in range(2):
            await HTTPTransport(server.url, KEY, session=session).send(STATUS)
        for _ in range(3):
            async with session.get(server.url) as response:
                assert response.status == 200
        assert session.trace_configs.count(OBSERVER) == 1
    own = [received for received in server.received if not received.header("Authorization")]
    assert len({received.connection for received in own}) == 1


async def test_the_key_does_not_go_through_a_proxy_elsewhere_in_the_clear() -> None:
    """A plain request would be readable there."""
    async with aiohttp.ClientSession(proxy="http://192.0.2.1:3128") as session:
        transport = HTTPTransport("http://127.0.0.1:9", KEY, session=session)
        error = await fails(transport, sent=False, retriable=False)
    assert "proxy" in str(error)
