"""Ledgers of many keys on one Redis server: a few connections for all, none in another's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from llamagen_async.plans import Plan
from llamagen_async.ratelimit.redis.ledger import RedisLedger, script
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.redis_server import RedisConnection
from llamagen_async.stored_values import StoreError
from tests.support.redis_server import RedisServer, claim_of, connected

MOST = 8
"""Connections of one process."""


@asynccontextmanager
async def many(url: str, name: str, number: int) -> AsyncIterator[list[RedisLedger]]:
    """Ledgers of as many keys over one connection, closed in the end."""
    times = LedgerTimes(lease=60.0)
    connection = RedisConnection.shared(url, script())
    ledgers = [
        RedisLedger(connection, name=f"{name}-{one}", plan=Plan.PAID, times=times, now=lambda: 9.0)
        for one in range(number)
    ]
    try:
        yield ledgers
    finally:
        await asyncio.gather(*(ledger.aclose() for ledger in ledgers))


async def spend(ledger: RedisLedger) -> int:
    """Use one slot; return how many are used then."""
    await ledger.record(1)
    return (await ledger.snapshot()).windows[0].used


async def test_many_keys_at_once_need_a_few_connections(
    redis_server: RedisServer, account_name: str
) -> None:
    """Each has its own count; when the last one is closed, none is left."""
    async with connected(redis_server.url) as admin:
        async with many(redis_server.url, account_name, 200) as ledgers:
            most = 0
            spending = asyncio.gather(*map(spend, ledgers))
            while not spending.done():
                most = max(most, (await admin.info("clients"))["connected_clients"] - 1)
            assert await spending == [1] * 200
            assert 1 <= most <= MOST
            await ledgers[0].aclose()
            assert await spend(ledgers[1]) == 2
        async with asyncio.timeout(10):  # the server may hear of it a moment later
            while any(one["cmd"].startswith("evalsha") for one in await admin.client_list()):
                pass


@pytest.mark.virtual_time
async def test_those_who_wait_for_others_are_not_given_up_while_they_move() -> None:
    """Though all together take longer than one call may; a server that hangs is told of in time."""
    loop = asyncio.get_running_loop()
    async with many("redis://never-asked.invalid", "moving", 60) as ledgers:
        for ledger in ledgers:
            ledger._calls.timeout = 0.5

        async def slow() -> int:
            await asyncio.sleep(0.1)
            return 1

        began = loop.time()
        moving = [ledger._calls.answer(slow) for ledger in ledgers]
        assert await asyncio.gather(*moving) == [1] * 60
        assert loop.time() - began > 0.5

        async def hanging() -> None:
            await asyncio.sleep(3600)

        began = loop.time()
        asking = [ledger._calls.answer(hanging) for ledger in ledgers]
        ends = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(one) for one in ends} == {StoreError}
        assert loop.time() - began < 60.0


async def test_an_error_of_one_key_ends_no_call_of_another(
    redis_server: RedisServer, account_name: str
) -> None:
    """A call that is damaged, cancelled or refused has its connection renewed, and only its own."""
    async with (
        connected(redis_server.url) as admin,
        many(redis_server.url, account_name, 40) as ledgers,
    ):
        bad, good = ledgers[:10], ledgers[10:]
        for ledger in bad:
            await admin.set(ledger._key, b"no hash")

        async def cancelled(ledger: RedisLedger) -> None:
            task = asyncio.create_task(ledger.reserve(claim_of()))
            await asyncio.sleep(0.001)
            task.cancel()

        async def rounds(ledger: RedisLedger) -> int:
            for _ in range(3):
                used = await spend(ledger)
            return used

        ends = await asyncio.gather(
            *map(rounds, good),
            *map(spend, bad),
            *map(cancelled, bad),
            return_exceptions=True,
        )
        assert ends[:30] == [3] * 30
        assert {type(one) for one in ends[30:40]} == {StoreError}
