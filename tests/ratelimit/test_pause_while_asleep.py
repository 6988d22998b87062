"""A slot may be given some seconds before it may be used. A pause that begins meanwhile holds it.

Over real stores with a clock that only the test moves, and in virtual time.
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
from llamagen_async.ratelimit.ledger import StoreError
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from llamagen_async.simulation import run
from tests.support.grants import grants_in
from tests.support.redis_server import RedisServer

STATUS = RequestKind.STATUS
TWO = Plan("two", limits=RateLimit(2, per=10))
AHEAD = 3.0
LEASE = 30.0


@attrs.define
class Time:
    """A clock that only tests move."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


async def _nothing() -> None:
    pass


@attrs.define
class Scripted:
    """Sleeps without sleeping; whatever is to happen meanwhile happens first, once."""

    time: Time
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
def time() -> Time:
    return Time()


@pytest.fixture(params=["sqlite", "redis"])
async def make(request: pytest.FixtureRequest, time: Time, tmp_path: Path) -> AsyncIterator[Make]:
    """Open the same account, as another process would."""
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


def limiter_of(ledger: Ledger, clock: Scripted) -> Limiter:
    return Limiter(TWO, ledger, clock)  # type: ignore[arg-type]  # a clock that tests move


async def test_who_sleeps_off_a_slot_hears_of_a_refusal_elsewhere(make: Make, time: Time) -> None:
    """It leaves when the pause is over, and asks for a slot anew."""
    one, other = make(), make()
    grant = await spend_both(one)
    time.now += 8
    clock = Scripted(time)
    limiter = limiter_of(other, clock)

    async def refused() -> None:
        time.now += 1
        await one.commit(grant, Outcome(refused=True, retry_after=25.0))

    clock.meanwhile = refused
    await limiter.acquire(STATUS)
    assert time.now >= 1_000 + 8 + 1 + 25
    assert (await one.snapshot()).in_flight == 1, "the slot of before was given back"


async def test_without_a_refusal_it_leaves_when_its_slot_is_back(make: Make, time: Time) -> None:
    """To look for a pause costs no time."""
    one, other = make(), make()
    await spend_both(one)
    time.now += 8
    await limiter_of(other, Scripted(time)).acquire(STATUS)
    assert time.now == pytest.approx(1_010)


async def test_all_slots_that_were_given_together_go_back(make: Make, time: Time) -> None:
    """Those behind the first one must not leave during the pause either."""
    one, other = make(), make()
    grant = await spend_both(one)
    time.now += 8
    clock = Scripted(time)
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


async def test_a_pause_is_over_when_it_is_over(make: Make, time: Time) -> None:
    """And it is known to who was refused, and to who has just come."""
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


def test_who_waits_for_a_token_hears_of_a_refusal_too() -> None:
    """In memory a slot is never given ahead, but a bucket spaces those who have one."""

    async def main() -> float:
        clock = Clock()
        plan = Plan("spaced", limits=RateLimit(10, per=60), burst=1)
        limiter = Limiter(plan, MemoryLedger(plan, clock.now, lease=900), clock)
        slot = await limiter.acquire(STATUS)
        behind = asyncio.create_task(limiter.acquire(STATUS))
        await asyncio.sleep(2)
        await slot.commit(refused=True, retry_after=40)
        await behind
        return clock.now()

    assert run(main()) >= 42


def test_a_cancelled_look_keeps_no_slot() -> None:
    """Nor does one that fails."""

    class Deaf(MemoryLedger):
        async def paused_for(self) -> float:
            await asyncio.sleep(5)
            raise StoreError("away")

    async def main(patience: float) -> int:
        clock = Clock()
        plan = Plan("spaced", limits=RateLimit(10, per=60), burst=1)
        limiter = Limiter(plan, Deaf(plan, clock.now, lease=900), clock)
        await limiter.acquire(STATUS)
        with pytest.raises((TimeoutError, StoreError)):
            await asyncio.wait_for(limiter.acquire(STATUS), patience)
        return (await limiter.snapshot()).in_flight

    assert run(main(8)) == run(main(20)) == 1


async def test_a_store_that_is_away_holds_nobody() -> None:
    """What was given before it went away may be used; what it would say is not known."""

    class Away(MemoryLedger):
        async def paused_for(self) -> float:
            raise StoreError("away")

    ledger = FailoverLedger(Away(TWO, Time(), lease=LEASE), TWO, Clock(), lease=LEASE)
    assert not await ledger.paused_for()
