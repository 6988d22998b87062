"""Word of a pause comes from Redis itself; whoever does not hear it asks."""

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
from llamagen_async.ratelimit.redis import subscriber as redis_listener
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from tests.support.redis_server import (
    API_KEY,
    FakeClock,
    RedisServer,
    connected,
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


async def listening(ledger: RedisLedger) -> None:
    """Have it listen, and ask once more: what came before that was not heard."""
    assert not await ledger.paused_for()
    await until(lambda: ledger._listener.since)
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
            await listening(other)
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
            assert await calls(client) - before == 2, "the reserve and the refusal"
    finally:
        server.stop()


async def test_a_connection_that_is_lost_is_made_again(
    redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was published meanwhile was not heard: it is asked for."""
    monkeypatch.setattr(redis_listener, "_FIRST_REST", 0.0)
    async with (
        opened(redis_server.url, account_name, fake_clock, plan=WIDE) as one,
        opened(redis_server.url, account_name, fake_clock, plan=WIDE) as other,
        connected(redis_server.url) as client,
    ):
        await listening(other)
        since = other._listener.since
        await client.client_kill_filter(_type="pubsub")
        await until(lambda: other._listener.since is not since)
        await refused(one, 25.0)
        assert await other.paused_for()
        await until(lambda: other._listener.since)
        assert await other.paused_for()


async def test_it_is_not_tried_again_too_often(account_name: str, fake_clock: FakeClock) -> None:
    """Each time that it fails it rests twice as long."""
    async with opened("redis://127.0.0.1:1/0", account_name, fake_clock) as ledger:
        listener = ledger._listener
        listener.start()
        await until(lambda: listener._task is None)
        assert listener._rest == 2 * redis_listener._FIRST_REST
        listener.start()
        assert listener._task is None
        listener._not_before = 0.0
        listener.start()
        await until(lambda: listener._task is None)
        assert listener._rest == 4 * redis_listener._FIRST_REST


async def test_who_must_not_listen_asks(
    own_redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A user without any channel loses nothing else; it is said once, to who debugs."""
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
            other._listener._not_before = 0.0
            await until(lambda: other._listener._task is None)
        await refused(one, 25.0)
        assert await other.paused_for()
        fake_clock.advance(25.5)
        assert not await other.paused_for()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "does not let this user" in said[0]
    assert "hush" not in said[0]


@pytest.mark.parametrize("moment", [0, 1, 2, 5, 10, 100])
async def test_nothing_is_left_behind(
    own_redis_server: RedisServer, fake_clock: FakeClock, moment: int
) -> None:
    """Neither a task nor a connection, whenever it is closed."""
    name = uuid.uuid4().hex
    before = asyncio.all_tasks()
    async with connected(own_redis_server.url) as client:
        known = {one["id"] for one in await client.client_list()}
        async with opened(own_redis_server.url, name, fake_clock) as ledger:
            ledger._listener.start()
            for _ in range(moment):
                await asyncio.sleep(0)
            if moment == 100:
                await listening(ledger)
                assert {one["id"] for one in await client.client_list()} > known
        assert asyncio.all_tasks() == before
        for _ in range(2000):  # the server has yet to notice
            if known == {one["id"] for one in await client.client_list()}:
                break
        assert known == {one["id"] for one in await client.client_list()}
        ledger._listener.start()
        assert asyncio.all_tasks() == before, "nor is it begun again"


def test_a_loop_that_ends_is_not_listened_in(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """In the next one it begins anew."""
    ledger = ledger_of(redis_server.url, account_name, fake_clock, plan=WIDE)

    async def interrupted() -> None:
        await listening(ledger)
        ledger._link._connection._close()  # type: ignore[union-attr]

    async def closed() -> None:
        await listening(ledger)
        await ledger.aclose()

    for _ in range(2):
        asyncio.run(interrupted())
        assert ledger._listener._task is None
        assert ledger._listener.since is None
    asyncio.run(closed())


async def test_a_connection_that_is_dead_is_found_out(
    redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that is only silent says so when it is asked; one that does not is not heard."""
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
        await listening(ledger)
        since, heard = ledger._listener.since, list[bytes]()
        monkeypatch.setattr(ledger._listener, "_heard", heard.append)
        for times in range(1, 4):
            pass_in_loop(monkeypatch, redis_listener._QUIET)
            await until(partial(has, asked, times))
            await client.publish(ledger._listener._channel, b"what follows the answer")
            await until(partial(has, heard, times))
        assert ledger._listener.since is since
        is_cut = True
        pass_in_loop(monkeypatch, redis_listener._QUIET)
        await until(partial(has, asked, 4))
        pass_in_loop(monkeypatch, redis_listener._QUIET)
        await until(lambda: ledger._listener.since is None)
    server.close()
    await until(lambda: len(ended) == 2)
