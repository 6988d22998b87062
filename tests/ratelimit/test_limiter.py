"""The limiter: one question for a slot, and token buckets that no store can mislead."""

from __future__ import annotations

import asyncio
import logging
import random

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llamagen_async import Plan, RateLimit
from llamagen_async.clock import Clock
from llamagen_async.plans import HOUR
from llamagen_async.ratelimit import ANSWERED, Claim, Limiter, NoSlot, Outcome, Slot
from llamagen_async.ratelimit.failover import FailoverLedger
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.simulation import run
from tests.support.claims import IDLE_WORKLOAD, acquire, claim, key_state

pytestmark = pytest.mark.virtual_time

TEN = Plan("ten", limits=RateLimit(10, per=60))
PLANS = (
    TEN,
    Plan.DEMO,
    Plan("one", limits=RateLimit(1, per=7)),
    Plan("three windows", limits=(RateLimit(2, per=1), RateLimit(7, per=9), RateLimit(9, per=20))),
)
TIMES = LedgerTimes(lease=900.0, tolerance=0.0)


def now() -> float:
    return asyncio.get_running_loop().time()


class WrongLedger(MemoryLedger):
    """A ledger of a store that was wiped: it grants everything."""

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        return Grant(claim.id, claim.client, key_state())


class TimedLedger(MemoryLedger):
    """A ledger that remembers when it has answered last."""

    answered_at = 0.0

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        self.answered_at = now()
        return await super().reserve(claim)


def make(plan: Plan = TEN, kind: type[MemoryLedger] = MemoryLedger, speed: float = 1.0) -> Limiter:
    clock = Clock(speed)
    return Limiter(plan, kind(plan, clock.now, attrs.evolve(TIMES)), clock)


@pytest.mark.once
@given(st.sampled_from(PLANS), st.integers(0, 10_000), st.sampled_from([1.0, 60.0]))
@settings(max_examples=60, deadline=None)
def test_buckets_never_delay_what_the_ledger_grants(plan: Plan, seed: int, speed: float) -> None:
    """With any latency, and slots that are given back, in any order."""

    async def main() -> None:
        draw = random.Random(seed)
        limiter = make(plan, TimedLedger, speed)
        ledger = limiter.ledger
        assert isinstance(ledger, TimedLedger)

        async def one(number: int) -> None:
            slot = await acquire(limiter, f"c{number}")
            assert now() == ledger.answered_at, "a bucket has delayed it"
            await asyncio.sleep(draw.choice([0.0, 0.0, draw.uniform(0, 5)]) / speed)
            if draw.random() < 0.3:
                slot.give_back()
            else:
                await slot.commit(ANSWERED, IDLE_WORKLOAD)

        for number in range(60):
            task = asyncio.create_task(one(number))
            await asyncio.sleep(draw.choice([0.0, 0.0, 0.0, draw.uniform(0, 30)]) / speed)
            if draw.random() < 0.1:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            if draw.random() < 0.3:
                await asyncio.gather(task, return_exceptions=True)
            if task.done() and not task.cancelled():
                task.result()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*rest)

    run(main())


@pytest.mark.once
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
async def test_with_a_wrong_store_a_process_sends_what_the_buckets_admit(plan: Plan) -> None:
    """The windows' slots at once, and then no more than the longest window's rate."""
    limiter = make(plan, WrongLedger)
    sent: list[float] = []

    async def work(client: str) -> None:
        while len(sent) < 5_000:  # with a bucket it never comes to that
            slot = await acquire(limiter, client)
            sent.append(now())
            await slot.commit(ANSWERED, IDLE_WORKLOAD)

    workers = [asyncio.create_task(work(f"c{number}")) for number in range(5)]
    await asyncio.sleep(HOUR)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    for limit in plan.limits:
        for first, at in enumerate(sent):
            within = sum(at <= other < at + limit.per - 1e-3 for other in sent[first:])
            assert within <= 2 * limit.limit
        assert len(sent) <= limit.limit + HOUR / limit.interval + 1
    assert len(sent) >= plan.rate.limit


async def test_a_burst_smaller_than_the_window_is_spaced_by_the_bucket() -> None:
    """Two leave at once, then one every six seconds, though ten would fit into the window."""
    limiter = make(attrs.evolve(TEN, burst=2))
    times: list[float] = []
    for _ in range(6):
        slot = await acquire(limiter)
        times.append(now())
        await slot.commit(ANSWERED, IDLE_WORKLOAD)
    assert times == pytest.approx([0, 0, 6, 12, 18, 24], abs=1e-4)


class Listener:
    """A client that waits for a slot."""

    def __init__(self) -> None:
        self.heard = 0

    def changed(self) -> None:
        self.heard += 1


async def test_who_waits_hears_of_slots_and_positions_that_are_given_up() -> None:
    """A slot, a position, a question that was cut short; nobody who is gone is told."""
    limiter = make(attrs.evolve(TEN, burst=1))
    listener, gone = Listener(), Listener()
    limiter.subscribe(listener.changed)
    limiter.subscribe(gone.changed)
    del gone
    slot = await acquire(limiter)
    await slot.commit(ANSWERED, IDLE_WORKLOAD)
    await asyncio.sleep(0)
    assert listener.heard == 0
    (await acquire(limiter)).give_back()
    await asyncio.sleep(0)
    assert listener.heard == 1
    limiter.give_up("a claim", "a")
    await asyncio.sleep(0)
    assert listener.heard == 2
    await (await acquire(limiter)).commit(ANSWERED, IDLE_WORKLOAD)
    task = asyncio.create_task(limiter.reserve(claim("waits for a token")))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    assert listener.heard == 3


async def test_a_token_that_was_not_used_is_one_as_long_as_the_bucket_lacks_it() -> None:
    """Five of ten slots are given back, and are used much later than the next token came."""
    limiter = make()
    slots = [await acquire(limiter) for _ in range(10)]
    for slot in slots[:5]:
        slot.give_back()
    await asyncio.sleep(20)
    again = [await acquire(limiter) for _ in range(5)]
    assert (now(), len(again)) == (20, 5)


async def test_who_waited_for_a_token_asks_again_whether_there_is_a_pause() -> None:
    """Another request may have been refused meanwhile; the token is given back."""
    limiter = make(attrs.evolve(TEN, burst=1))
    first = await acquire(limiter)
    second = asyncio.create_task(limiter.reserve(claim("b", "b")))
    await asyncio.sleep(1)
    await first.commit(Outcome(refused=True, retry_after=20), IDLE_WORKLOAD)
    answer = await second
    assert isinstance(answer, NoSlot)
    assert now() == pytest.approx(6, abs=1e-3)
    await asyncio.sleep(answer.delay)
    await acquire(limiter, "b")
    assert now() == pytest.approx(21, abs=1e-3)


@pytest.mark.parametrize("after", [0.0, 1.0, 5.9])
async def test_a_cancelled_wait_for_a_token_leaves_nothing(after: float) -> None:
    """Neither a slot nor a token is lost."""
    limiter = make(attrs.evolve(TEN, burst=1))
    slot = await acquire(limiter)
    waiter = asyncio.create_task(limiter.reserve(claim("b", "b")))
    await asyncio.sleep(after)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    await slot.commit(ANSWERED, IDLE_WORKLOAD)
    snapshot = await limiter.ledger.snapshot()
    assert (snapshot.in_flight, snapshot.windows[0].used) == (0, 1)
    await acquire(limiter)
    assert now() == pytest.approx(6, abs=1e-3)


async def test_the_end_of_a_request_is_reported_once() -> None:
    """A slot that is committed twice, or given back after that, is spent once."""
    limiter = make()
    slot = await acquire(limiter)
    assert await slot.commit(ANSWERED, IDLE_WORKLOAD) is not None
    assert await slot.commit(ANSWERED, IDLE_WORKLOAD) is None
    slot.give_back()
    assert (await limiter.ledger.snapshot()).windows[0].used == 1


async def test_requests_that_are_not_metered_wait_for_the_end_of_a_pause_only() -> None:
    """A 429 to any kind of request pauses everyone, and no slot is spent on it."""
    limiter = make(Plan("creates", limits=RateLimit(2, per=60), metered={"create"}))
    times: list[float] = []
    for after in (30.0, None, None, None):
        if not isinstance(slot := await limiter.unmetered_slot(is_read=False), Slot):
            await asyncio.sleep(slot)
            slot = await limiter.unmetered_slot(is_read=False)
        assert isinstance(slot, Slot)
        times.append(now())
        await slot.commit(Outcome(refused=True, retry_after=after), IDLE_WORKLOAD)
    await acquire(limiter)
    times.append(now())
    for outcome in (ANSWERED, Outcome(refused=True)):
        slot = await limiter.unmetered_slot(is_read=True)
        assert isinstance(slot, Slot)
        await slot.commit(outcome, IDLE_WORKLOAD)
    assert await limiter.unmetered_slot(is_read=True) == 30.0
    times.append((await limiter.ledger.snapshot()).paused_for)
    snapshot = await limiter.ledger.snapshot()
    assert (snapshot.windows[0].used, snapshot.burst) == (1, 2)
    # Without a time it is twice an interval, which is half a minute, and twice as long each time,
    # up to a minute. Another answer starts it from the beginning.
    assert times == pytest.approx([0.0, 30.0, 90.0, 150.0, 210.0, 30.0])


async def test_another_plan_has_other_buckets() -> None:
    """The ledger still knows the requests that were spent before."""
    limiter = make(Plan.DEMO)
    for _ in range(4):
        await (await acquire(limiter)).commit(ANSWERED, IDLE_WORKLOAD)
    limiter.change_plan(Plan.PAID)
    for _ in range(6):
        await acquire(limiter)
    assert now() == 0
    assert isinstance(await limiter.reserve(claim("x")), NoSlot)


async def test_the_first_wait_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    """Once at level INFO, not for every request."""
    caplog.set_level(logging.INFO, "llamagen_async")
    limiter = make()
    for _ in range(25):
        await (await acquire(limiter)).commit(ANSWERED, IDLE_WORKLOAD)
    (record,) = caplog.records
    assert record.getMessage() == "the limit of 10 per minute has no room: waiting 60.0 s"


async def test_no_repr_has_anything_but_the_plan_in_it() -> None:
    """Neither the count's name nor what clients said."""
    ledger = FailoverLedger(make().ledger, TEN, Clock(), TIMES)
    assert repr(ledger) == "FailoverLedger(MemoryLedger(ten))"
