"""Transports of several keys over one session: each sends its own, none takes all connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from llamagen_async.errors import APITimeoutError, ClientClosedError
from llamagen_async.plans import RequestKind
from llamagen_async.transport import APIRequest, HTTPTransport, UnsentCancelledError
from llamagen_async.transport.sessions import own_session, share_of

USAGE = APIRequest(RequestKind.USAGE, "GET", "/comics/usage")


class Server:
    """Answers at once, but for one key, whose requests hang until the end."""

    def __init__(self) -> None:
        self.came = Counter[str]()
        self.reached = asyncio.Event()
        self.released = asyncio.Event()
        app = web.Application()
        app.router.add_get("/v1/comics/usage", self._answer)
        self._server = TestServer(app)

    async def __aenter__(self) -> str:
        await self._server.start_server()
        return str(self._server.make_url("/"))

    async def __aexit__(self, *_: object) -> None:
        self.released.set()
        await self._server.close()

    async def _answer(self, request: web.Request) -> web.Response:
        key = request.headers["Authorization"].removeprefix("Bearer ")
        self.came[key] += 1
        if key == "sk-stuck":
            self.reached.set()
            await self.released.wait()
        return web.json_response({"key": key[::-1]})  # as it is, it would be taken out


async def test_each_key_is_sent_by_its_own_transport_over_one_session() -> None:
    """Closing one of them closes nothing; closing the one that lends the session ends all."""
    async with Server() as url:
        lender = HTTPTransport(url, "sk-parent")
        one, other = lender.with_key("sk-one"), lender.with_key("sk-other")
        for transport, key in ((lender, "parent"), (one, "one"), (other, "other"), (one, "one")):
            assert (await transport.send(USAGE)).body == {"key": f"sk-{key}"[::-1]}
        await one.aclose()
        with pytest.raises(ClientClosedError):
            await one.send(USAGE)
        assert (await other.send(USAGE)).body == {"key": "rehto-ks"}
        await lender.aclose()
        with pytest.raises(ClientClosedError):
            await other.send(USAGE)
        assert "sk-" not in f"{lender!r} {one!r}"


async def test_requests_of_one_key_that_hang_do_not_take_the_connections_of_others() -> None:
    """The user's session has eight; one key may have two of them on their way."""
    server = Server()
    connector = aiohttp.TCPConnector(limit=8, force_close=True)
    async with server as url, aiohttp.ClientSession(connector=connector) as session:
        lender = HTTPTransport(url, "sk-parent", session=session)
        stuck, good = lender.with_key("sk-stuck"), lender.with_key("sk-good")
        hanging = [asyncio.create_task(stuck.send(USAGE)) for _ in range(20)]
        await server.reached.wait()
        async with asyncio.timeout(20):
            for _ in range(10):
                assert (await good.send(USAGE)).body == {"key": "doog-ks"}
        assert server.came["sk-stuck"] == 2
        hanging[-1].cancel()
        with pytest.raises(UnsentCancelledError):
            await hanging[-1]
        server.released.set()
        assert len(await asyncio.gather(*hanging[:-1])) == 19


async def test_a_request_that_waits_too_long_for_its_keys_share_was_not_sent() -> None:
    async with Server() as url:
        connector = aiohttp.TCPConnector(limit=4)
        async with aiohttp.ClientSession(connector=connector) as session:
            lender = HTTPTransport(url, "sk-parent", session=session, timeout=0.2)
            stuck = lender.with_key("sk-stuck")
            sends = [asyncio.create_task(stuck.send(USAGE)) for _ in range(3)]
            ends = await asyncio.gather(*sends, return_exceptions=True)
    assert {type(one) for one in ends} == {APITimeoutError}
    sent = [one.request_sent for one in ends if isinstance(one, APITimeoutError)]
    assert sent.count(True) == 1


@pytest.mark.parametrize(
    ("limits", "share"),
    [({"limit": 0}, 0), ({"limit": 100}, 25), ({"limit": 3}, 1), ({"limit_per_host": 40}, 10)],
)
async def test_the_share_of_a_key(limits: dict[str, Any], share: int) -> None:
    """A quarter of what the session allows in all, or to the one host."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(**limits)) as session:
        assert share_of(session) == share


async def test_a_session_of_ones_own_opens_fewer_connections_than_the_system_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    with monkeypatch.context() as small:
        small.setattr(resource, "getrlimit", lambda _: (1024, 4096))
        session = own_session()
    async with session:
        assert session.connector is not None
        assert session.connector.limit == 512
        assert share_of(session) == 128
