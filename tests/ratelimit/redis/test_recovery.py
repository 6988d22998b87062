"""A Redis server that forgets, or whose clock is set: never more requests than the limit."""

from __future__ import annotations

import time

import pytest

from llamagen_async.plans import DAY
from llamagen_async.ratelimit.protocol import NoSlot, Outcome
from tests.support.grants import delay_of
from tests.support.redis_server import (
    BOTH,
    PER_DAY,
    FakeClock,
    RedisServer,
    connected,
    granted,
    opened,
    spend,
)

# Loss of data. These tests run on the server's own clock.


async def test_a_server_that_was_just_started_may_have_forgotten(
    own_redis_server: RedisServer, account_name: str
) -> None:
    """A new client waits for requests that others may have sent; but not for a day."""
    async with opened(own_redis_server.url, account_name, None, plan=BOTH) as ledger:
        answer = await ledger.reserve("waiter_id")
        assert isinstance(answer, NoSlot)
        assert answer.limit == BOTH.limits[0]
        assert 30 < answer.delay <= 60
        minute, day = (await ledger.snapshot()).windows
        assert (minute.free, day.free) == (0, 15)


async def test_requests_in_flight_survive_a_restart(
    own_redis_server: RedisServer, account_name: str
) -> None:
    """Their client tells the restarted server of them, and of those that it has spent today."""
    async with (
        opened(own_redis_server.url, account_name, None, plan=PER_DAY) as ledger,
        opened(own_redis_server.url, account_name, None, plan=PER_DAY) as other,
        opened(own_redis_server.url, account_name, None, plan=PER_DAY) as stranger,
    ):
        grant = await granted(ledger)
        await spend(ledger, 2)
        await ledger.record(1)
        await spend(other, 1)
        own_redis_server.restart()
        assert (await stranger.snapshot()).windows[0].used == 0
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (1, 4)
        assert (await other.snapshot()).windows[0].used == 5
        await ledger.commit(grant, Outcome())
        seen = await stranger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 5)


async def test_a_server_with_an_older_snapshot_is_brought_up_to_date(
    own_redis_server: RedisServer, account_name: str
) -> None:
    """Requests in the snapshot are not counted twice, and the minute is full as of the start."""
    async with (
        opened(own_redis_server.url, account_name, None, plan=BOTH) as ledger,
        opened(own_redis_server.url, account_name, None, plan=BOTH) as other,
        connected(own_redis_server.url) as client,
    ):
        await ledger.record(2)
        await other.record(1)
        await client.save()
        await ledger.record(3)
        await other.record(1)
        own_redis_server.restart()
        assert (await ledger.snapshot()).windows[1].used == 6
        minute, day = (await other.snapshot()).windows
        assert day.used == 7
        assert minute.free == 0
        assert 30 < minute.next_free_in <= 60


async def test_the_state_of_another_server_may_lack_the_last_requests(
    own_redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """The minute is full as of the start of this server, also for a new client."""
    fake_clock.server = time.time() - 600
    async with (
        opened(own_redis_server.url, account_name, fake_clock, plan=BOTH) as ledger,
        opened(own_redis_server.url, account_name, None, plan=BOTH) as stranger,
    ):
        await ledger.record(2)
        minute, day = (await stranger.snapshot()).windows
        assert (minute.free, day.used) == (0, 2)
        assert 30 < minute.next_free_in <= 60


async def test_a_key_that_vanished_is_noticed_by_its_clients(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """The minute is full as of now, once; the day has the requests that all clients remember."""
    async with (
        opened(redis_server.url, account_name, fake_clock, plan=BOTH) as ledger,
        opened(redis_server.url, account_name, fake_clock, plan=BOTH) as other,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 3)
        await spend(other, 1)
        fake_clock.advance(120)
        await client.delete(f"llamagen:{account_name}")
        assert await ledger.reserve("waiter_id") == NoSlot(60.0, BOTH.limits[0])
        fake_clock.advance(30)
        minute, day = (await other.snapshot()).windows
        assert (minute.next_free_in, day.used) == (30.0, 4)
        fake_clock.advance(30)
        await spend(ledger, 4)
        assert (await other.snapshot()).windows[1].used == 8
        await client.delete(f"llamagen:{account_name}")
        await ledger.record(1)
        assert (await ledger.snapshot()).windows[1].used == 8, "three, four and this one"


async def test_a_key_that_expired_is_no_loss(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """No request in it counts any more."""
    async with (
        opened(redis_server.url, account_name, fake_clock) as ledger,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 4)
        fake_clock.advance(2 * DAY)
        await client.delete(f"llamagen:{account_name}")
        await granted(ledger)


async def test_a_slot_of_a_lost_count_is_no_slot_of_the_new_one(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Slot numbers are not used twice, so that a late answer spends nobody else's slot."""
    async with (
        opened(redis_server.url, account_name, fake_clock) as ledger,
        opened(redis_server.url, account_name, fake_clock) as other,
        connected(redis_server.url) as client,
    ):
        late = await granted(ledger)
        await client.delete(f"llamagen:{account_name}")
        await granted(other)
        await ledger.commit(late, Outcome())
        assert (await other.snapshot()).in_flight == 1


# A clock that is set.


async def test_a_clock_set_back_stops_the_time(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Slots come back after as many seconds as before, and not an hour later."""
    async with opened(redis_server.url, account_name, fake_clock) as ledger:
        await spend(ledger, 4)
        fake_clock.server -= 3600
        assert await delay_of(ledger, "waiter_id") == pytest.approx(60.0)
        fake_clock.advance(58)
        assert isinstance(await ledger.reserve("waiter_id"), NoSlot)
        fake_clock.advance(1)
        assert (await granted(ledger)).early_by == pytest.approx(1.0)


async def test_a_clock_set_forward_frees_nothing(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """The client's clock shows that it was set; afterwards time goes on as always."""
    async with (
        opened(redis_server.url, account_name, fake_clock) as ledger,
        opened(redis_server.url, account_name, fake_clock) as other,
    ):
        await spend(ledger, 4)
        fake_clock.advance(20)
        fake_clock.server += 3600
        assert await delay_of(ledger, "waiter_id") == pytest.approx(40.0)
        assert await delay_of(other, "other") == pytest.approx(40.0)
        fake_clock.advance(38)
        assert isinstance(await ledger.reserve("waiter_id"), NoSlot)
        fake_clock.advance(2)
        assert (await granted(ledger)).early_by == 0.0


async def test_a_slow_answer_is_no_clock_set_forward(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """A difference of half a second and one per cent is not corrected."""
    async with opened(redis_server.url, account_name, fake_clock) as ledger:
        await spend(ledger, 4)
        fake_clock.advance(30)
        fake_clock.server += 0.75
        assert await delay_of(ledger, "waiter_id") == pytest.approx(29.25)
