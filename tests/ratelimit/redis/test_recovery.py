"""A Redis server that forgets, or whose clock is set: never more requests than the limit."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from llamagen_async.plans import DAY, MINUTE
from llamagen_async.ratelimit.protocol import ANSWERED
from llamagen_async.ratelimit.window_log import LedgerTimes
from tests.support.claims import IDLE_WORKLOAD
from tests.support.redis_server import (
    BOTH,
    LEASE,
    PER_DAY,
    FakeClock,
    RedisServer,
    connected,
    granted,
    no_slot,
    opened,
    spend,
)

FULL = LEASE + MINUTE
"""Seconds for which the minute is full after a loss."""

# Loss of data. These tests run on the server's own clock.


async def test_a_server_that_was_just_started_may_have_forgotten(
    own_redis_server: RedisServer, account_name: str
) -> None:
    """A new client waits for requests that others may have sent; but not for a day."""
    async with opened(own_redis_server.url, account_name, None, plan=BOTH) as ledger:
        answer = await no_slot(ledger)
        assert answer.limit == BOTH.limits[0]
        assert FULL - 30 < answer.delay <= FULL
        assert answer.state.returning == pytest.approx([answer.delay] * 4)
        assert (answer.state.quota_left, answer.state.share) == (15, 0)
        minute, day = (await ledger.snapshot()).windows
        assert (minute.used, minute.free, day.free) == (4, 0, 15)


async def test_a_restart_without_data_fills_the_minute(
    own_redis_server: RedisServer, account_name: str
) -> None:
    """For a lease and the window; the day is forgotten, and a late answer is of no account."""
    async with opened(own_redis_server.url, account_name, None, plan=PER_DAY) as ledger:
        grant = await granted(ledger)
        await spend(ledger, 2)
        own_redis_server.restart()
        ledger.change_plan(BOTH)
        assert FULL - 30 < (await no_slot(ledger)).delay <= FULL
        await ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[1].used) == (0, 0)


async def test_a_server_that_keeps_its_data_keeps_the_day(
    tmp_path: Path, account_name: str
) -> None:
    """With `appendfsync always` nothing is lost, also of requests in flight."""
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    try:
        async with opened(server.url, account_name, None, plan=PER_DAY) as ledger:
            grant = await granted(ledger)
            await spend(ledger, 2)
            server.restart()
            seen = await ledger.snapshot()
            assert (seen.in_flight, seen.windows[0].used) == (1, 3)
            await ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
            await granted(ledger)
            assert (await ledger.snapshot()).in_flight == 1
    finally:
        server.stop()


async def test_a_server_with_an_older_snapshot_fills_the_minute(
    own_redis_server: RedisServer, account_name: str
) -> None:
    """As of its start, whoever asks."""
    async with (
        opened(own_redis_server.url, account_name, None, plan=BOTH) as ledger,
        opened(own_redis_server.url, account_name, None, plan=BOTH) as other,
        connected(own_redis_server.url) as client,
    ):
        await ledger.record(2)
        await client.save()
        await other.record(1)
        own_redis_server.restart()
        for one in (other, ledger):
            minute, day = (await one.snapshot()).windows
            assert (minute.free, day.used) == (0, 2)
            assert FULL - 30 < minute.next_free_in <= FULL


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
        assert FULL - 30 < minute.next_free_in <= FULL


async def test_a_key_that_vanished_is_noticed_by_its_clients(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """The minute is full for everyone, until what was in flight must be over; and then free."""
    async with (
        opened(redis_server.url, account_name, fake_clock, plan=BOTH) as ledger,
        opened(redis_server.url, account_name, fake_clock, plan=BOTH) as stranger,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 3)
        fake_clock.advance(120)
        await client.delete(f"llamagen:{account_name}")
        answer = await no_slot(ledger)
        assert (answer.delay, answer.limit) == (FULL, BOTH.limits[0])
        fake_clock.advance(30)
        assert (await no_slot(stranger)).delay == FULL - 30
        fake_clock.advance(FULL - 30 - 0.25)
        assert (await no_slot(ledger)).delay == 0.25
        fake_clock.advance(0.25)
        await spend(ledger, 4)


async def test_a_key_that_vanished_is_noticed_though_a_stranger_came_first(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """The state that a new client begins is younger than what another one remembers."""
    async with (
        opened(redis_server.url, account_name, fake_clock) as ledger,
        opened(redis_server.url, account_name, fake_clock) as stranger,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 3)
        await client.delete(f"llamagen:{account_name}")
        fake_clock.advance(1)
        await granted(stranger, client="stranger")
        fake_clock.advance(10)
        assert (await no_slot(ledger)).delay == FULL - 10
        assert (await no_slot(stranger, client="stranger")).delay == FULL - 10


async def test_nobody_gets_a_share_while_others_may_count_on_theirs(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Clients of before the loss are not known; theirs are over a client's lease later."""
    times = LedgerTimes(lease=LEASE, client_lease=100.0, silence=8.0)
    async with (
        opened(redis_server.url, account_name, fake_clock, times=times) as ledger,
        connected(redis_server.url) as client,
    ):
        assert (await granted(ledger)).state.share == 3
        fake_clock.advance(1)
        await client.delete(f"llamagen:{account_name}")
        assert (await no_slot(ledger)).state.share == 0
        fake_clock.advance(90)
        # After a silence one slot is nobody's share; the others may have been used.
        await granted(ledger)
        assert (await no_slot(ledger)).delay == 8.0
        fake_clock.advance(10)
        assert (await granted(ledger)).state.share == 3


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


# A clock that is set.


async def test_a_clock_set_back_stops_the_time(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Slots come back after as many seconds as before, and not an hour later."""
    async with opened(redis_server.url, account_name, fake_clock) as ledger:
        await spend(ledger, 4)
        fake_clock.server -= 3600
        assert (await no_slot(ledger)).delay == pytest.approx(60.0)
        fake_clock.advance(59)
        await no_slot(ledger)
        fake_clock.advance(1)
        await granted(ledger)


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
        assert (await no_slot(ledger)).delay == pytest.approx(40.0)
        assert (await no_slot(other)).delay == pytest.approx(40.0)
        fake_clock.advance(39)
        await no_slot(ledger)
        fake_clock.advance(1)
        await granted(ledger)


async def test_a_slow_answer_is_no_clock_set_forward(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """A difference of half a second and one per cent is not corrected."""
    async with opened(redis_server.url, account_name, fake_clock) as ledger:
        await spend(ledger, 4)
        fake_clock.advance(30)
        fake_clock.server += 0.75
        assert (await no_slot(ledger)).delay == pytest.approx(29.25)
