"""A pause that begins between the early grant of a slot and its use holds the request.

Tested over real stores with a clock that only the test moves, and in virtual time.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import attrs
import pytest

from llamagen_async import Plan, RateLimit, RequestKind
from llamagen_async.clock import Clock
from llamagen_async.ratelimit import Grant, Ledger, Limiter, MemoryLedger, Outcome
from llamagen_async.ratelimit.failover import FailoverLedger
from llamagen_async.ratelimit.protocol import StoreError
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from tests.support.grants import grants_in
from tests.support.redis_server import RedisServer

STATUS = RequestKind.STATUS
TWO = Plan("two", limits=RateLimit(2, per=10))
AHEAD = 3.0
LEASE = 30.0


@attrs.define
class ManualClock:
    """A clock that only tests move."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


async def _nothing() -> None:
    pass


@attrs.define
class ScriptedSleep:
    """A limiter's clock that sleeps without waiting, and runs `meanwhile` in its first sleep."""

    time: ManualClock
    speed: float = 1.0
    meanwhile: Callable[[], Awaitable[object]] = _nothing

    def now(self) -> float:
        return self.time.now

    def real(self, seconds: float) -> float:
        return seconds

    async def sleep(self, seconds: float) -> None:
        happens, self.meanwhile = self.meanwhile, _nothing
        await happens()
        self.time.now += seconds

    async def wait(self, _event: asyncio.Event, seconds: float) -> None:
        self.time.now += seconds


Make = Callable[[], Ledger]


@pytest.fixture
def time() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite", "redis"])
async def make(
    request: pytest.FixtureRequest, time: ManualClock, tmp_path: Path
) -> AsyncIterator[Make]:
    """Open ledgers of one account, as several processes would."""
    opened: list[Ledger] = []
    name = uuid.uuid4().hex

    def ledger() -> Ledger:
        one: Ledger
        if request.param == "sqlite":
            path = tmp_path / "quota.db"
            one = SQLiteLedger(path, name=name, plan=TWO, lease=LEASE, ahead=AHEAD, now=time)
        else:
            server: RedisServer = request.getfixturevalue("redis_server")
            one = RedisLedger(server.url, name=name, plan=TWO, lease=LEASE, ahead=AHEAD, now=time)
        opened.append(one)
        return one

    yield ledger
    for one in opened:
        await one.aclose()


async def spend_both(ledger: Ledger) -> Grant:
    """Use both slots of the window; return one of them."""
    grants = grants_in(await ledger.reserve_many("t", 2))
    for grant in grants:
        await ledger.commit(grant, Outcome())
    return grants[0]


def limiter_of(ledger: Ledger, clock: ScriptedSleep) -> Limiter:
    return Limiter(TWO, ledger, clock)  # type: ignore[arg-type]  # a clock that tests move


async def test_a_request_with_an_early_slot_waits_for_a_pause_of_another_process(
    make: Make, time: ManualClock
) -> None:
    """The slot goes back; the request leaves with a new one when the pause is over."""
    one, other = make(), make()
    grant = await spend_both(one)
    time.now += 8
    clock = ScriptedSleep(time)
    limiter = limiter_of(other, clock)

    async def refused() -> None:
        time.now += 1
        await one.commit(grant, Outcome(refused=True, retry_after=25.0))

    clock.meanwhile = refused
    await limiter.acquire(STATUS)
    assert time.now >= 1_000 + 8 + 1 + 25
    assert (await one.snapshot()).in_flight == 1, "the early slot was given back"


async def test_without_a_pause_a_request_leaves_when_its_slot_is_free(
    make: Make, time: ManualClock
) -> None:
    """The check for a pause delays nothing."""
    one, other = make(), make()
    await spend_both(one)
    time.now += 8
    await limiter_of(other, ScriptedSleep(time)).acquire(STATUS)
    assert time.now == pytest.approx(1_010)


async def test_all_slots_that_were_granted_together_go_back(make: Make, time: ManualClock) -> None:
    """The requests behind the first one must not leave during the pause either."""
    one, other = make(), make()
    grant = await spend_both(one)
    time.now += 8
    clock = ScriptedSleep(time)
    limiter = limiter_of(other, clock)
    left: list[float] = []

    async def leave() -> None:
        await limiter.acquire(STATUS)
        left.append(time.now)

    async def refused() -> None:
        await one.commit(grant, Outcome(refused=True, retry_after=25.0))

    clock.meanwhile = refused
    # The first asks for itself; the other two, together with the first one's second question.
    limiter._waiting += 1
    await asyncio.gather(leave(), leave())
    assert len(left) == 2
    assert min(left) >= 1_000 + 8 + 25


async def test_a_pause_is_over_when_it_is_over(make: Make, time: ManualClock) -> None:
    """The process with the 429, another one and a new one all know of it."""
    one, other = make(), make()
    grant = await spend_both(one)
    assert not await other.paused_for()
    await one.commit(grant, Outcome(refused=True, retry_after=25.0))
    await other.snapshot()
    for ledger in (one, other, make()):
        assert await ledger.paused_for()
    time.now += 25.5
    for ledger in (one, other, make()):
        assert not await ledger.paused_for()


@pytest.mark.virtual_time
async def test_a_request_that_waits_for_a_token_waits_for_a_pause_too() -> None:
    """In memory no slot is granted early, but a bucket spaces requests that have one."""
    clock = Clock()
    plan = Plan("spaced", limits=RateLimit(10, per=60), burst=1)
    limiter = Limiter(plan, MemoryLedger(plan, clock.now, lease=900), clock)
    slot = await limiter.acquire(STATUS)
    behind = asyncio.create_task(limiter.acquire(STATUS))
    await asyncio.sleep(2)
    await slot.commit(refused=True, retry_after=40)
    await behind
    assert clock.now() >= 42


@pytest.mark.virtual_time
@pytest.mark.parametrize("timeout", [8, 20])
async def test_a_check_for_a_pause_that_is_cancelled_or_fails_keeps_no_slot(timeout: float) -> None:
    """The check is cancelled after 8 seconds, or fails after less than 20."""

    class Failing(MemoryLedger):
        async def paused_for(self) -> float:
            await asyncio.sleep(5)
            raise StoreError("away")

    clock = Clock()
    plan = Plan("spaced", limits=RateLimit(10, per=60), burst=1)
    limiter = Limiter(plan, Failing(plan, clock.now, lease=900), clock)
    await limiter.acquire(STATUS)
    with pytest.raises((TimeoutError, StoreError)):
        await asyncio.wait_for(limiter.acquire(STATUS), timeout)
    assert (await limiter.snapshot()).in_flight == 1


async def test_without_the_store_no_pause_is_known() -> None:
    """A slot that was granted before it went away may be used."""

    class Away(MemoryLedger):
        async def paused_for(self) -> float:
            raise StoreError("away")

    ledger = FailoverLedger(Away(TWO, ManualClock(), lease=LEASE), TWO, Clock(), lease=LEASE)
    assert not await ledger.paused_for()
