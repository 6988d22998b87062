"""No answer: whether the request may have arrived is known, against sockets that misbehave."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp
import pytest

from llamagen_async.errors import APIConnectionError, APITimeoutError
from llamagen_async.transport import APIRequest, HTTPTransport
from tests.support.exchange import (
    CREATE,
    KEY,
    STATUS,
    assert_secret,
    failure,
    hang,
    hang_in_the_body,
    reply_ok,
)
from tests.support.rawserver import Handler, Received, answer, raw_server, unused_port


@pytest.mark.parametrize("request_", [STATUS, CREATE])
async def test_a_refused_connection_was_provably_not_sent(request_: APIRequest) -> None:
    port = await unused_port()
    transport = HTTPTransport(f"http://127.0.0.1:{port}", KEY)
    with pytest.raises(APIConnectionError) as caught:
        await transport.send(request_)
    await transport.aclose()
    assert not caught.value.request_sent
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert_secret(caught.value)


class Nowhere(aiohttp.abc.AbstractResolver):
    """Names nobody knows, or never an answer."""

    def __init__(self, *, hang: bool) -> None:
        self.hang = hang

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
        if self.hang:
            await asyncio.Event().wait()
        raise OSError(None, "no such name")

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("hang", [False, True])
async def test_a_name_that_is_not_found_was_provably_not_sent(hang: bool) -> None:
    connector = aiohttp.TCPConnector(resolver=Nowhere(hang=hang))
    async with aiohttp.ClientSession(connector=connector) as session:
        transport = HTTPTransport("https://api.example", KEY, timeout=0.05, session=session)
        with pytest.raises(APIConnectionError) as caught:
            await transport.send(CREATE)
        await transport.aclose()
        assert not session.closed
    assert not caught.value.request_sent
    assert isinstance(caught.value, APITimeoutError) is hang
    assert "api.example" in str(caught.value)
    assert_secret(caught.value)


class Unknown(aiohttp.abc.AbstractResolver):
    """Names of which the name servers say something, or that lead to loopback."""

    def __init__(self, error: OSError | None, port: int = 0) -> None:
        self.error = error
        self.port = port

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
        if self.error is not None:
            raise self.error
        found = {"hostname": host, "host": "127.0.0.1", "port": self.port}
        return [{**found, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


def of_ares(number: int) -> OSError:
    """Return the error of aiohttp's other resolver."""
    error = OSError(None, "not found")
    error.__cause__ = ValueError(number, "not found")
    return error


UNKNOWN = [
    (socket.gaierror(socket.EAI_NONAME, "unknown"), "its name is not known"),
    (of_ares(4), "its name is not known"),
]
PASSING = [
    (socket.gaierror(socket.EAI_AGAIN, "try again"), "its name can't be looked up now"),
    (socket.gaierror(socket.EAI_FAIL, "failed"), "its name can't be looked up now"),
    (of_ares(11), "its name can't be looked up now"),
]


async def resolving(resolver: Unknown, host: str) -> APIConnectionError:
    """Return the error of a create to a host whose name is looked up by `resolver`."""
    connector = aiohttp.TCPConnector(resolver=resolver)
    async with aiohttp.ClientSession(connector=connector) as session:
        transport = HTTPTransport(f"https://{host}", KEY, session=session)
        with pytest.raises(APIConnectionError) as caught:
            await transport.send(CREATE)
    assert not caught.value.request_sent
    assert_secret(caught.value)
    return caught.value


@pytest.mark.parametrize(("error", "words"), [*UNKNOWN, *PASSING])
async def test_a_name_that_does_not_exist_is_a_mistake_and_one_that_is_not_found_now_is_none(
    error: OSError, words: str
) -> None:
    is_mistake = words == UNKNOWN[0][1]
    failed = await resolving(Unknown(error), "mistyped.example")
    assert words in str(failed)
    assert failed.retriable is not is_mistake
    assert ("Check base_url: mistyped.example" in str(failed)) is is_mistake


async def test_a_name_with_a_dot_at_its_end_is_not_taken_for_a_proxys() -> None:
    failed = await resolving(Unknown(UNKNOWN[0][0]), "mistyped.example.")
    assert f"({UNKNOWN[0][1]})" in str(failed)


async def test_the_vendors_own_name_is_no_mistake() -> None:
    """A machine without a network may say of every name that it does not exist."""
    failed = await resolving(Unknown(UNKNOWN[0][0]), "api.llamagen.ai")
    assert failed.retriable
    assert "base_url" not in str(failed)


@pytest.mark.parametrize("was_reached", [True, False])
async def test_a_host_that_was_reached_once_is_waited_for_when_its_name_is_gone(
    was_reached: bool,
) -> None:
    async with raw_server(reply_ok) as server:
        resolver = Unknown(None, server.port)
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False)
        async with aiohttp.ClientSession(connector=connector) as session:
            if was_reached:
                one = HTTPTransport(f"http://localhost:{server.port}", KEY, session=session)
                await one.send(STATUS)
            other = HTTPTransport(f"http://localhost:{server.port}", KEY, session=session)
            resolver.error = UNKNOWN[0][0]
            with pytest.raises(APIConnectionError) as caught:
                await other.send(STATUS)
            assert caught.value.retriable is was_reached


async def test_a_port_at_which_nobody_listens_yet_is_waited_for_with_a_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server and what uses it may start together."""
    # Ports are given out again: a server of another test may have had this one.
    monkeypatch.setattr("llamagen_async.transport.http._reached", set())
    port = await unused_port()
    transport = HTTPTransport(f"http://127.0.0.1:{port}", KEY)
    with pytest.raises(APIConnectionError) as caught:
        await transport.send(CREATE)
    await transport.aclose()
    assert caught.value.retriable
    assert "(Connection refused)" in str(caught.value)
    assert f"Check base_url: 127.0.0.1:{port} has never been reached yet" in str(caught.value)


async def test_a_proxy_that_refuses_to_connect_did_not_send_anything() -> None:
    async def refuse(received: Received) -> None:
        await received.reply(answer(b"", status="403 Forbidden"))

    async with raw_server(refuse) as proxy, aiohttp.ClientSession(proxy=proxy.url) as session:
        transport = HTTPTransport("https://api.example", KEY, session=session)
        with pytest.raises(APIConnectionError, match="proxy") as caught:
            await transport.send(CREATE)
        assert KEY not in proxy.received[0].head
    assert not caught.value.request_sent
    assert_secret(caught.value)


async def drop(received: Received) -> None:
    received.drop()


async def reset(received: Received) -> None:
    received.reset()


async def break_off(received: Received) -> None:
    await received.reply(answer(b'{"id":', length=100))
    received.drop()


async def break_off_a_chunk(received: Received) -> None:
    await received.reply(answer(b"9\r\n{", length=None, headers={"Transfer-Encoding": "chunked"}))
    received.drop()


async def garbage(received: Received) -> None:
    await received.reply(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    received.drop()


async def endless_header(received: Received) -> None:
    await received.reply(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n")
    received.drop()


async def bad_compression(received: Received) -> None:
    await received.reply(answer(b"not gzip at all", headers={"Content-Encoding": "gzip"}))


@pytest.mark.parametrize("request_", [STATUS, CREATE])
@pytest.mark.parametrize(
    "handler",
    [drop, reset, break_off, break_off_a_chunk, garbage, endless_header, bad_compression],
)
async def test_an_exchange_that_breaks_off_may_have_arrived_and_is_not_repeated(
    handler: Handler, request_: APIRequest
) -> None:
    error, count = await failure(handler, request_)
    assert isinstance(error, APIConnectionError)
    assert not isinstance(error, APITimeoutError)
    assert error.request_sent
    assert "127.0.0.1" in str(error)
    assert count == 1


@pytest.mark.parametrize("handler", [hang, hang_in_the_body])
async def test_an_answer_that_does_not_come_in_time_may_have_arrived(handler: Handler) -> None:
    error, count = await failure(handler, timeout=0.5)
    assert isinstance(error, APITimeoutError)
    assert error.request_sent
    assert count == 1


@pytest.mark.parametrize("own_session", [True, False])
async def test_a_dropped_connection_is_not_tried_a_second_time(own_session: bool) -> None:
    """aiohttp repeats a GET by itself, whether its connection was used before or not."""

    async def once(received: Received) -> None:
        received.reset()

    async with raw_server(once) as server, aiohttp.ClientSession() as session:
        transport = HTTPTransport(server.url, KEY, session=None if own_session else session)
        with pytest.raises(APIConnectionError) as caught:
            await transport.send(STATUS)
        await transport.aclose()
    assert len(server.received) == 1
    assert caught.value.request_sent
    assert_secret(caught.value)


async def test_bare_aiohttp_would_try_it_a_second_time() -> None:
    """Shows that the test above has something to prove."""

    async def once(received: Received) -> None:
        if received.number == 2:
            received.reset()
        else:
            await received.reply(answer())

    async with raw_server(once) as server, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get(server.url) as response:
                await response.read()
    assert len(server.received) == 3
