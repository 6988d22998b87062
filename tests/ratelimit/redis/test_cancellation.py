"""Operations on Redis cancelled at any moment, and the end of a ledger and of its event loop."""

from __future__ import annotations

import asyncio
import random

import pytest

from llamagen_async.errors import ClientClosedError
from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit.protocol import ANSWERED, Grant
from llamagen_async.stored_values import StoreError
from tests.support.claims import IDLE_WORKLOAD
from tests.support.redis_server import (
    PER_DAY,
    FakeClock,
    RedisServer,
    claim_of,
    granted,
    ledger_of,
    no_slot,
    opened,
    settled,
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

        async def reserve(client: str) -> None:
            claim = claim_of(client=client)
            answer = await ledger.reserve(claim)
            if isinstance(answer, Grant):
                kept.append(answer)
            else:
                ledger.release(claim.id, client)

        for _ in range(60):
            tasks = [asyncio.create_task(reserve(f"{number}")) for number in range(6)]
            for task in tasks:
                if chance.random() < 0.8:
                    await asyncio.sleep(chance.choice([0, 0, 0.0002, 0.001]))
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await settled(ledger)
            seen = await ledger.snapshot()
            assert (seen.in_flight, seen.waiting) == (len(kept), {})
            while kept:
                grant = kept.pop()
                ledger.release(grant.id, grant.client)
        await granted(ledger, client="new")


async def test_a_cancelled_commit_is_done(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Cancelled at any moment: the request was sent."""
    async with opened(redis_server.url, account_name, fake_clock, plan=PER_DAY) as ledger:
        for pause in (None, 0, 0.0005):
            grant = await granted(ledger)
            task = asyncio.create_task(ledger.commit(grant, ANSWERED, IDLE_WORKLOAD))
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
    """A claim is asked for, cancelled and asked for again: its second position is not given up."""
    async with opened(redis_server.url, account_name, fake_clock) as ledger:
        await spend(ledger, 4)
        task = asyncio.create_task(ledger.reserve(claim_of("first", "one")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        await no_slot(ledger, "first", "one")
        fake_clock.advance(60)
        for _ in range(3):
            await granted(ledger, client="other")
        await no_slot(ledger, client="other")
        await granted(ledger, "first", "one")


@pytest.mark.parametrize("nonsense", [b"$-1\r\n" * 20, b"+OK\r\n" * 3, b":1\r\n" * 2, b"?\r\n"])
async def test_an_answer_without_sense_cancels_nobody(account_name: str, nonsense: bytes) -> None:
    """Whatever redis-py makes of it, the caller gets an error of the store."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(nonsense)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with opened(f"redis://127.0.0.1:{port}", account_name, None, timeout=0.1) as ledger:
        for _ in range(3):
            with pytest.raises(StoreError):
                await ledger.reserve(claim_of())
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    server.close()


async def test_a_call_that_was_cut_short_from_within_cancels_nobody(
    redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when a library mistakes its own timeout for a cancellation."""

    async def cut_short(*_: object) -> None:
        raise asyncio.CancelledError

    async with opened(redis_server.url, account_name, fake_clock) as ledger:
        monkeypatch.setattr(ledger._connection, "evaluate", cut_short)
        with pytest.raises(StoreError, match="cut short"):
            await ledger.snapshot()
        monkeypatch.undo()
        await granted(ledger)


async def test_no_task_is_left_after_the_end(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Operations that were begun are finished, then nothing runs; closing twice is no harm."""
    async with opened(redis_server.url, account_name, fake_clock, plan=PER_DAY) as ledger:
        grant, unused = await granted(ledger), await granted(ledger)
        task = asyncio.create_task(ledger.commit(grant, ANSWERED, IDLE_WORKLOAD))
        await asyncio.sleep(0)
        task.cancel()
        ledger.release(unused.id, unused.client)
        await ledger.aclose()
        assert task.done()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await ledger.aclose()
        with pytest.raises(ClientClosedError, match="closed"):
            await ledger.snapshot()
        ledger.release(unused.id, unused.client)
    async with opened(redis_server.url, account_name, fake_clock, plan=PER_DAY) as other:
        seen = await other.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 1)


def test_a_ledger_serves_one_event_loop_at_a_time(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """A ledger that outlives its loop goes on in the next one."""
    ledger = ledger_of(redis_server.url, account_name, fake_clock, plan=PER_DAY)

    async def interrupted() -> None:
        await spend(ledger, 1)
        await ledger._connection.close()
        asyncio.create_task(ledger.snapshot())  # noqa: RUF006  # the end of the loop ends it
        await asyncio.sleep(0)

    async def afterwards() -> None:
        assert (await ledger.snapshot()).windows[0].used == 1
        with pytest.raises(ClientClosedError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, ledger.snapshot())
        await ledger.aclose()

    asyncio.run(interrupted())
    asyncio.run(afterwards())
