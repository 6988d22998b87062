"""Operations on Redis cancelled at any moment, and the end of a ledger and of its event loop."""

from __future__ import annotations

import asyncio
import random

import pytest

from llamagen_async.errors import ClientClosedError
from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit.protocol import Grant, NoSlot, Outcome
from tests.support.grants import grants_in
from tests.support.redis_server import (
    PER_DAY,
    FakeClock,
    RedisServer,
    drop_connections,
    granted,
    ledger_of,
    opened,
    spend,
)


async def test_a_cancelled_reserve_leaves_nothing_behind(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """No slot and no position, wherever it is interrupted."""
    chance = random.Random(7)
    plan = Plan("few", limits=(RateLimit(3, per=60),))
    async with opened(redis_server.url, account_name, fake_clock, plan=plan) as ledger:
        kept: list[Grant] = []

        async def reserve(waiter_id: str) -> None:
            answers = await ledger.reserve_many(waiter_id, chance.choice([1, 1, 2, 3]))
            if isinstance(answers[-1], NoSlot):
                ledger.cancel_wait(waiter_id)
            kept.extend(grants_in(answers))

        for _ in range(60):
            tasks = [asyncio.create_task(reserve(f"{number}")) for number in range(6)]
            for task in tasks:
                if chance.random() < 0.8:
                    await asyncio.sleep(chance.choice([0, 0, 0.0002, 0.001]))
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (await ledger.snapshot()).in_flight == len(kept)
            while kept:
                await ledger.give_back(kept.pop())
        # The wait queue is empty: a new waiter is served.
        await granted(ledger, "new")


async def test_a_cancelled_commit_is_done(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Cancelled at any moment: the request was sent."""
    async with opened(redis_server.url, account_name, fake_clock, plan=PER_DAY) as ledger:
        for pause in (None, 0, 0.0005):
            grant = await granted(ledger)
            task = asyncio.create_task(ledger.commit(grant, Outcome()))
            await asyncio.sleep(0)
            if pause is not None:
                await asyncio.sleep(pause)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 3)


async def test_a_position_taken_after_a_cancelled_reserve_is_kept(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """A waiter asks, is cancelled and asks again: its second position is not given up."""
    async with opened(redis_server.url, account_name, fake_clock) as ledger:
        await spend(ledger, 4)
        task = asyncio.create_task(ledger.reserve("waiter_id"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert isinstance(await ledger.reserve("waiter_id"), NoSlot)
        fake_clock.advance(60)
        assert isinstance(await ledger.reserve("other"), Grant)
        for _ in range(2):
            await granted(ledger, "other")
        assert isinstance(await ledger.reserve("other"), NoSlot)
        await granted(ledger, "waiter_id")


async def test_no_task_is_left_after_the_end(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Operations that were begun are finished, then nothing runs."""
    async with opened(redis_server.url, account_name, fake_clock, plan=PER_DAY) as ledger:
        grant = await granted(ledger)
        task = asyncio.create_task(ledger.commit(grant, Outcome()))
        await asyncio.sleep(0)
        task.cancel()
        await ledger.aclose()
        assert task.done()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await ledger.aclose()
        with pytest.raises(ClientClosedError, match="closed"):
            await ledger.snapshot()
    async with opened(redis_server.url, account_name, fake_clock, plan=PER_DAY) as other:
        assert (await other.snapshot()).windows[0].used == 1


def test_no_operation_is_lost_when_the_event_loop_ends(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """A ledger that outlives its loop goes on in the next one, but serves one at a time."""
    ledger = ledger_of(redis_server.url, account_name, fake_clock, plan=PER_DAY)

    async def interrupted() -> None:
        grant = await granted(ledger)
        asyncio.create_task(ledger.commit(grant, Outcome()))  # noqa: RUF006
        asyncio.create_task(ledger.reserve("waiter_id"))  # noqa: RUF006
        await asyncio.sleep(0)
        drop_connections(ledger)

    async def afterwards() -> None:
        await ledger._calls.ask({"verb": "cancel_wait", "waiter_id": "waiter_id"})
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 1)
        with pytest.raises(ClientClosedError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, ledger.snapshot())
        await ledger.aclose()

    asyncio.run(interrupted())
    asyncio.run(afterwards())


async def test_listeners_hear_of_slots_and_positions_given_up_here(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """A slot given back, a wait or a reserve cancelled; nothing after the subscription ended."""
    async with opened(redis_server.url, account_name, fake_clock) as ledger:
        heard: list[str] = []

        end = ledger.subscribe(lambda: heard.append("first"))
        ledger.subscribe(lambda: heard.append("second"))
        await spend(ledger, 1)
        assert heard == []
        await ledger.give_back(await granted(ledger))
        end()
        ledger.cancel_wait("waiter_id")
        task = asyncio.create_task(ledger.reserve("waiter_id"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await ledger.snapshot()
        assert heard == ["first", "second", "second", "second"]
