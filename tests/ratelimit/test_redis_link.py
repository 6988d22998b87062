"""What comes back from Redis: long answers, late ones, and none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Connection

from llamagen_async.plans import MINUTE, Plan, RateLimit
from llamagen_async.ratelimit.ledger import ANSWERED, StoreError
from tests.support.grants import grants_in
from tests.support.redis_server import FakeClock, RedisServer, opened, pass_in_loop

WIDE = Plan("wide", limits=(RateLimit(5000, per=MINUTE),))


async def test_an_answer_that_is_too_long_for_a_line(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Many slots at once."""
    async with opened(redis_server.url, account_name, fake_clock, plan=WIDE) as ledger:
        grants = grants_in(await ledger.reserve_many("t", 2000))
        assert len({grant.slot for grant in grants}) == 2000
        for grant in grants:
            await ledger.commit(grant, ANSWERED)
        assert (await ledger.snapshot()).in_flight < 2000


@pytest.mark.parametrize("flushed", [True, False])
async def test_a_call_that_could_not_be_done_is_done_again(
    redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    flushed: bool,
) -> None:
    """If the server forgot the script, or the connection broke while the call was under way."""
    async with opened(redis_server.url, account_name, fake_clock, plan=WIDE) as ledger:
        await ledger.record(3)
        connection: Any = ledger._link._connection
        if flushed:
            await ledger._link.execute(b"SCRIPT", b"FLUSH")
        else:

            async def broken(**_: Any) -> None:
                await connection.disconnect()
                raise ConnectionResetError

            monkeypatch.setattr(connection, "read_response", broken)
        await ledger.reserve("t")
        assert (await ledger.snapshot()).windows[0].used == 4
        assert (ledger._link._connection is connection) == flushed


async def test_what_comes_too_late_is_nobodys_answer(
    redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who asks next gets its own, and the slot of who was told that there is none is free."""
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
        ledger._courier._timeout = 10.0
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 0)


async def test_an_answer_in_the_last_moment_is_no_failure(
    redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who asks right after it has all its time."""
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
