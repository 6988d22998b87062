"""Pauses are published by Redis; without a subscription the ledger asks."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import Plan, RateLimit
from llamagen_async.ratelimit import Outcome
from llamagen_async.ratelimit.redis import subscriber
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from tests.support.redis_server import (
    API_KEY,
    FakeClock,
    RedisServer,
    connected,
    drop_connections,
    granted,
    ledger_of,
    opened,
    pass_in_loop,
)

WIDE = Plan("wide", limits=RateLimit(100, per=60))


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it did not happen")


def has(several: list[bytes], number: int) -> bool:
    return len(several) == number


async def calls(client: Any) -> int:
    number: int = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    return number


async def subscribed(ledger: RedisLedger) -> None:
    """Subscribe, and ask once more: a pause from before the subscription was not heard."""
    assert not await ledger.paused_for()
    await until(lambda: ledger._subscriber.session)
    assert not await ledger.paused_for()


async def refused(ledger: RedisLedger, retry_after: float) -> None:
    grant = await granted(ledger)
    await ledger.commit(grant, Outcome(refused=True, retry_after=retry_after))


@pytest.mark.parametrize("way", ["plain", "prefix", "unix", "password", "decoded", "tls"])
async def test_who_listens_does_not_ask(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    account_name: str,
    fake_clock: FakeClock,
    way: str,
) -> None:
    """However the server is reached. A pause is known without a question, until it is over."""
    socket = tmp_path / "socket"
    options = ["--unixsocket", str(socket)] if way == "unix" else []
    server = RedisServer(
        tmp_path,
        *options,
        password="p@ss" if way == "password" else None,
        certificate=request.getfixturevalue("certificate") if way == "tls" else None,
    )
    query = {"prefix": "?prefix=team:", "decoded": "?decode_responses=true"}.get(way, "")
    url = f"unix://{socket}" if way == "unix" else server.url + query
    try:
        async with (
            connected(server.url) as client,
            opened(url, account_name, fake_clock, plan=WIDE) as one,
            opened(url, account_name, fake_clock, plan=WIDE) as other,
        ):
            await subscribed(other)
            (channel,) = await client.pubsub_channels()
            assert channel.endswith(f"llamagen:{account_name}".encode())
            assert API_KEY.encode() not in channel
            before = await calls(client)
            assert not await other.paused_for()
            await refused(one, 25.0)
            await until(lambda: other._paused_until > fake_clock.here)
            assert await other.paused_for()
            fake_clock.advance(25.5)
            assert not await other.paused_for()
            assert await calls(client) - before == 2, "the reserve and the report of the 429"
    finally:
        server.stop()


async def test_a_connection_that_is_lost_is_made_again(
    redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pause that was published meanwhile was not heard: the ledger asks."""
    monkeypatch.setattr(subscriber, "_FIRST_DELAY", 0.0)
    async with (
        opened(redis_server.url, account_name, fake_clock, plan=WIDE) as one,
        opened(redis_server.url, account_name, fake_clock, plan=WIDE) as other,
        connected(redis_server.url) as client,
    ):
        await subscribed(other)
        session = other._subscriber.session
        await client.client_kill_filter(_type="pubsub")
        await until(lambda: other._subscriber.session is not session)
        await refused(one, 25.0)
        assert await other.paused_for()
        await until(lambda: other._subscriber.session)
        assert await other.paused_for()


async def test_a_lost_connection_is_not_tried_again_too_often(
    account_name: str, fake_clock: FakeClock
) -> None:
    """After each failure the delay is twice as long."""
    async with opened("redis://127.0.0.1:1/0", account_name, fake_clock) as ledger:
        subscription = ledger._subscriber
        subscription.start()
        await until(lambda: subscription._task is None)
        assert subscription._delay == 2 * subscriber._FIRST_DELAY
        subscription.start()
        assert subscription._task is None
        subscription._not_before = 0.0
        subscription.start()
        await until(lambda: subscription._task is None)
        assert subscription._delay == 4 * subscriber._FIRST_DELAY


async def test_a_user_that_must_not_subscribe_asks(
    own_redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A user without channels loses nothing else; that is logged once, at level DEBUG."""
    caplog.set_level(logging.DEBUG, "llamagen_async")
    rights = ["on", ">hush", "~*", "+@all", "resetchannels"]
    async with connected(own_redis_server.url) as client:
        await client.execute_command("ACL", "SETUSER", "deaf", *rights)
    url = own_redis_server.url.replace("redis://", "redis://deaf:hush@")
    async with (
        opened(url, account_name, fake_clock, plan=WIDE) as one,
        opened(url, account_name, fake_clock, plan=WIDE) as other,
    ):
        for _ in range(2):
            assert not await other.paused_for()
            other._subscriber._not_before = 0.0
            await until(lambda: other._subscriber._task is None)
        await refused(one, 25.0)
        assert await other.paused_for()
        fake_clock.advance(25.5)
        assert not await other.paused_for()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "does not let this user" in said[0]
    assert "hush" not in said[0]


@pytest.mark.parametrize("moment", [0, 1, 2, 5, 10, 100])
async def test_aclose_leaves_no_task_and_no_connection(
    own_redis_server: RedisServer, fake_clock: FakeClock, moment: int
) -> None:
    """At whatever moment the ledger is closed."""
    name = uuid.uuid4().hex
    before = asyncio.all_tasks()
    async with connected(own_redis_server.url) as client:
        known = {one["id"] for one in await client.client_list()}
        async with opened(own_redis_server.url, name, fake_clock) as ledger:
            ledger._subscriber.start()
            for _ in range(moment):
                await asyncio.sleep(0)
            if moment == 100:
                await subscribed(ledger)
                assert {one["id"] for one in await client.client_list()} > known
        assert asyncio.all_tasks() == before
        for _ in range(2000):  # the server has yet to notice
            if known == {one["id"] for one in await client.client_list()}:
                break
        assert known == {one["id"] for one in await client.client_list()}
        ledger._subscriber.start()
        assert asyncio.all_tasks() == before, "start does nothing after aclose"


def test_the_subscription_ends_with_its_event_loop(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """In the next loop there is a new one."""
    ledger = ledger_of(redis_server.url, account_name, fake_clock, plan=WIDE)

    async def interrupted() -> None:
        await subscribed(ledger)
        drop_connections(ledger)

    async def closed() -> None:
        await subscribed(ledger)
        await ledger.aclose()

    for _ in range(2):
        asyncio.run(interrupted())
        assert ledger._subscriber._task is None
        assert ledger._subscriber.session is None
    asyncio.run(closed())


async def test_a_dead_connection_is_noticed(
    redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A silent server answers a ping; if it does not, the subscription ends."""
    is_cut, asked, ended = False, list[bytes](), list[None]()

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            asked.extend([data] * (b"PING" in data))
            if not is_cut:
                writer.write(data)
        writer.close()

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", redis_server.port)
        await asyncio.gather(passed(reader, back), passed(there, writer))
        ended.append(None)

    server = await asyncio.start_server(between, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    async with (
        opened(url, account_name, fake_clock, plan=WIDE) as ledger,
        connected(redis_server.url) as client,
    ):
        await subscribed(ledger)
        session, heard = ledger._subscriber.session, list[bytes]()
        monkeypatch.setattr(ledger._subscriber, "_on_message", heard.append)
        for times in range(1, 4):
            pass_in_loop(monkeypatch, subscriber._QUIET)
            await until(partial(has, asked, times))
            await client.publish(ledger._subscriber._channel, b"what follows the answer")
            await until(partial(has, heard, times))
        assert ledger._subscriber.session is session
        is_cut = True
        pass_in_loop(monkeypatch, subscriber._QUIET)
        await until(partial(has, asked, 4))
        pass_in_loop(monkeypatch, subscriber._QUIET)
        await until(lambda: ledger._subscriber.session is None)
    server.close()
    await until(lambda: len(ended) == 2)
