"""A Redis server that forgets, and one whose clock is set: never more than the limit."""

from __future__ import annotations

import time

import pytest

from llamagen_async.plans import DAY
from llamagen_async.ratelimit.ledger import NoSlot, Outcome
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

# When the store forgets. These run on the server's own fake_clock.


async def test_a_server_that_was_just_started_may_have_forgotten(
    own_redis_server: RedisServer, account_name: str
) -> None:
    """Who was never there before waits for what others may have sent; but not for a day."""
    async with opened(own_redis_server.url, account_name, None, plan=BOTH) as ledger:
        answer = await ledger.reserve("ticket")
        assert isinstance(answer, NoSlot)
        assert answer.limit == BOTH.limits[0]
        assert 30 < answer.delay <= 60
        minute, day = (await ledger.snapshot()).windows
        assert (minute.free, day.free) == (0, 15)


async def test_what_is_on_its_way_survives_a_restart(
    own_redis_server: RedisServer, account_name: str
) -> None:
    """Its client tells the new server, and what it has spent today."""
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


async def test_an_older_snapshot_is_brought_up_to_date(
    own_redis_server: RedisServer, account_name: str
) -> None:
    """What is in it is not counted twice, and the minute is full as of the start."""
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


async def test_what_another_server_has_written_may_lack_the_latest(
    own_redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """The minute is full as of the start of this one, also for who was never there before."""
    fake_clock.server = time.time() - 600
    async with (
        opened(own_redis_server.url, account_name, fake_clock, plan=BOTH) as ledger,
        opened(own_redis_server.url, account_name, None, plan=BOTH) as stranger,
    ):
        await ledger.record(2)
        minute, day = (await stranger.snapshot()).windows
        assert (minute.free, day.used) == (0, 2)
        assert 30 < minute.next_free_in <= 60


async def test_a_key_that_vanished_is_noticed_by_who_used_it(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """The minute is full as of now, once; the day has what all remember."""
    async with (
        opened(redis_server.url, account_name, fake_clock, plan=BOTH) as ledger,
        opened(redis_server.url, account_name, fake_clock, plan=BOTH) as other,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 3)
        await spend(other, 1)
        fake_clock.advance(120)
        await client.delete(f"llamagen:{account_name}")
        assert await ledger.reserve("ticket") == NoSlot(60.0, BOTH.limits[0])
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
    """Nothing that it held counts any more."""
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
    """Numbers don't begin anew, so that a late answer spends nobody else's slot."""
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


# The clock of the server's host.


async def test_a_clock_set_back_stops_the_time(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Slots come back after as many seconds as before, and not an hour later."""
    async with opened(redis_server.url, account_name, fake_clock) as ledger:
        await spend(ledger, 4)
        fake_clock.server -= 3600
        assert (await ledger.reserve("ticket")).delay == pytest.approx(60.0)
        fake_clock.advance(58)
        assert isinstance(await ledger.reserve("ticket"), NoSlot)
        fake_clock.advance(1)
        assert (await granted(ledger)).delay == pytest.approx(1.0)


async def test_a_clock_set_forward_frees_nothing(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """This machine's clock knows better; afterwards time goes on as always."""
    async with (
        opened(redis_server.url, account_name, fake_clock) as ledger,
        opened(redis_server.url, account_name, fake_clock) as other,
    ):
        await spend(ledger, 4)
        fake_clock.advance(20)
        fake_clock.server += 3600
        assert (await ledger.reserve("ticket")).delay == pytest.approx(40.0)
        assert (await other.reserve("other")).delay == pytest.approx(40.0)
        fake_clock.advance(38)
        assert isinstance(await ledger.reserve("ticket"), NoSlot)
        fake_clock.advance(2)
        assert (await granted(ledger)).delay == 0.0


async def test_a_slow_answer_is_no_clock_set_forward(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Half a second and one in a hundred is not worth a correction."""
    async with opened(redis_server.url, account_name, fake_clock) as ledger:
        await spend(ledger, 4)
        fake_clock.advance(30)
        fake_clock.server += 0.75
        assert (await ledger.reserve("ticket")).delay == pytest.approx(29.25)
