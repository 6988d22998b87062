"""Answers of Redis: long ones, late ones, and none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Connection

from llamagen_async.plans import MINUTE, Plan, RateLimit
from llamagen_async.ratelimit.protocol import ANSWERED, StoreError
from tests.support.grants import grants_in
from tests.support.redis_server import FakeClock, RedisServer, opened, pass_in_loop

WIDE = Plan("wide", limits=(RateLimit(5000, per=MINUTE),))


async def test_an_answer_that_is_longer_than_a_line_is_read(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """As for two thousand slots at once."""
    async with opened(redis_server.url, account_name, fake_clock, plan=WIDE) as ledger:
        grants = grants_in(await ledger.reserve_many("t", 2000))
        assert len({grant.slot for grant in grants}) == 2000
        await ledger.commit(grants[0], ANSWERED)
        assert (await ledger.snapshot()).in_flight == 1999


@pytest.mark.parametrize("flushed", [True, False])
async def test_a_call_that_failed_is_repeated(
    redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    flushed: bool,
) -> None:
    """The server forgot the script, or the connection broke during the call."""
    async with opened(redis_server.url, account_name, fake_clock, plan=WIDE) as ledger:
        await ledger.record(3)
        (connection,) = ledger._connection._client.connection_pool._available_connections
        if flushed:
            await ledger._connection.execute("SCRIPT FLUSH")
        else:

            async def broken(**_: Any) -> None:
                monkeypatch.undo()
                await connection.disconnect()
                raise ConnectionResetError

            monkeypatch.setattr(connection, "read_response", broken)
        await ledger.reserve("t")
        assert (await ledger.snapshot()).windows[0].used == 4


async def test_a_late_answer_is_not_taken_for_the_next_one(
    redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next question gets its own answer, and the slot of the question that failed is free."""
    read = Connection.read_response

    async def slow(connection: Connection, *args: Any, **options: Any) -> Any:
        pass_in_loop(monkeypatch, 10.0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await read(connection, *args, **options)

    async with opened(
        redis_server.url, account_name, fake_clock, plan=WIDE, timeout=0.05
    ) as ledger:
        await ledger.snapshot()
        monkeypatch.setattr(Connection, "read_response", slow)
        with pytest.raises(StoreError, match="no answer"):
            await ledger.reserve("t")
        monkeypatch.undo()
        ledger._calls._timeout = 10.0
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 0)


async def test_an_answer_at_the_last_moment_is_no_failure(
    redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next question has all its time."""
    feed = asyncio.StreamReader.feed_data

    def slow(reader: asyncio.StreamReader, data: bytes) -> None:
        monkeypatch.undo()
        pass_in_loop(monkeypatch, 10.0)
        feed(reader, data)

    async with opened(redis_server.url, account_name, fake_clock, plan=WIDE, timeout=0.2) as ledger:
        await ledger.snapshot()
        monkeypatch.setattr(asyncio.StreamReader, "feed_data", slow)
        await ledger.record(2)
        assert (await ledger.snapshot()).windows[0].used == 2
