"""The limiter over a slow store: one round trip asks for all waiters."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from llamagen_async import Plan, RateLimit, RequestKind
from llamagen_async.clock import Clock
from llamagen_async.ratelimit import Grant, Limiter, MemoryLedger, NoSlot, Slot
from llamagen_async.ratelimit.failover import FailoverLedger
from tests.support.grants import grants_in
from tests.support.remote_ledger import RemoteLedger

pytestmark = pytest.mark.virtual_time

STATUS = RequestKind.STATUS
TEN = Plan("ten", limits=RateLimit(10, per=60))


def make(
    plan: Plan = TEN,
    latency: Callable[[], float] = lambda: 0.1,
    *,
    ahead: float = 0.0,
    others: RemoteLedger | None = None,
) -> tuple[Limiter, RemoteLedger]:
    """Return a limiter as in a process of its own, which shares its count with `others`."""
    clock = Clock()
    memory = others.memory if others else MemoryLedger(plan, clock.now, lease=900)
    memory._log.ahead = ahead
    ledger = RemoteLedger(memory, latency)
    return Limiter(plan, ledger, clock), ledger


async def test_waiters_are_asked_for_together_in_one_round_trip() -> None:
    """Waiters that come during the first question share the next one, and are served in order."""
    limiter, store = make()
    order: list[int] = []
    times: list[float] = []

    async def one(number: int) -> None:
        slot = await limiter.acquire(STATUS)
        order.append(number)
        times.append(asyncio.get_running_loop().time())
        await slot.commit()

    await asyncio.gather(*(one(number) for number in range(12)))
    assert order == list(range(12))
    # The first; nine, and a position for those behind; once slots are free, the other two.
    assert store.round_trips == 3
    assert times[:10] == pytest.approx([0.2] + [0.4] * 9)
    assert times[10:] == pytest.approx([60.6] * 2, abs=0.21)


async def test_a_key_that_is_used_up_costs_one_round_trip_a_request() -> None:
    """The waiters behind learn in the same round trip when to ask, in every process."""
    first, store = make(latency=lambda: 0.0)
    second, other = make(latency=lambda: 0.0, others=store)
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def use(limiter: Limiter) -> None:
        slot = await limiter.acquire(STATUS)
        await asyncio.sleep(1.0)
        times.append(loop.time())
        await slot.commit()

    for _ in range(10):  # not all at the same moment
        await store.memory.record(1)
        await asyncio.sleep(6)
    waiters = [use(limiter) for _ in range(40) for limiter in (first, second)]
    await asyncio.gather(*waiters)
    assert times[-1] - times[0] == pytest.approx(79 * 6.1, abs=1), "ten in 61 s, without a gap"
    assert store.round_trips + other.round_trips <= 1.1 * len(times)


async def test_a_cancelled_waiter_leaves_its_position_to_the_next() -> None:
    """Nobody overtakes the waiters behind it, and that costs no question."""
    limiter, store = make(latency=lambda: 0.0)
    await store.memory.record(10)
    waiters = [asyncio.create_task(limiter.acquire(STATUS)) for _ in range(3)]
    await asyncio.sleep(1)
    asked = store.round_trips
    waiters[0].cancel()
    await asyncio.sleep(1)
    other = isinstance(await store.memory.reserve("other"), NoSlot)
    asked = store.round_trips - asked
    await asyncio.sleep(58.5)
    assert (asked, other, all(waiter.done() for waiter in waiters)) == (0, True, True)


@pytest.mark.parametrize("sleeper", [False, True])
async def test_the_position_is_given_up_with_the_last_waiter(sleeper: bool) -> None:
    """Also if it was kept for a waiter that was never told of it."""
    limiter, store = make(latency=lambda: 0.0, ahead=3.0)
    await store.memory.record(1)
    if sleeper:  # the second one gets an early slot, the third one a position
        await asyncio.sleep(58)
    await store.memory.record(8)
    waiters = [asyncio.create_task(limiter.acquire(STATUS)) for _ in range(13)]
    await asyncio.sleep(0.5)
    assert store.memory._log._queue
    for waiter in waiters:
        waiter.cancel()
    for slot in await asyncio.gather(*waiters, return_exceptions=True):
        if isinstance(slot, Slot):
            await slot.give_back()
    assert store.memory._log._queue == {}


async def test_a_slot_that_is_given_back_wakes_a_waiter_that_was_told_to_wait() -> None:
    """Also a waiter that got its position while the one before it still slept."""
    limiter, store = make(Plan("three", limits=RateLimit(3, per=60)), lambda: 0.0, ahead=3.0)
    await store.memory.record(1)
    held = await store.memory.reserve("somebody")
    await asyncio.sleep(58)
    waiters = [asyncio.create_task(limiter.acquire(STATUS)) for _ in range(3)]
    await asyncio.sleep(1)  # one is served, one sleeps until 60, one was told 118
    assert [waiter.done() for waiter in waiters] == [True, False, False]
    assert isinstance(held, Grant)
    await store.memory.give_back(held)
    await waiters[2]
    assert asyncio.get_running_loop().time() == pytest.approx(60)


@pytest.mark.parametrize("used", [0, 9])
async def test_the_next_slot_of_a_caller_that_wants_more_is_asked_for_as_well(used: int) -> None:
    """A slot if one is free, else a position in the wait queue."""
    limiter, store = make(latency=lambda: 0.0)
    await store.memory.record(used)
    left = 4

    def more() -> bool:
        return left > 1

    while left:
        slot = await limiter.acquire(STATUS, wants_more=more)
        left -= 1
        await slot.commit()
    # Two at once, twice; or one and a position, then the slots that came back together.
    assert (store.round_trips, asyncio.get_running_loop().time()) == (
        (2, 0.0) if not used else (3, 60.0)
    )


@pytest.mark.parametrize("used", [0, 9])
async def test_rest_gives_up_what_is_kept_for_the_caller(used: int) -> None:
    """A slot or a position."""
    limiter, store = make(latency=lambda: 0.0)
    await store.memory.record(used)

    def more() -> bool:
        return True

    await limiter.acquire(STATUS, wants_more=more)
    before = (await store.snapshot()).in_flight + len(store.memory._log._queue)
    limiter.rest(more)
    assert (before, (await store.snapshot()).in_flight, store.memory._log._queue) == (2, 1, {})


@pytest.mark.parametrize("used", [0, 9])
async def test_a_waiter_takes_over_what_was_kept_for_a_caller_that_rests(used: int) -> None:
    """The slot or position is given up with the last waiter."""
    limiter, store = make(latency=lambda: 0.0)
    await store.memory.record(used)

    def more() -> bool:
        return True

    await limiter.acquire(STATUS, wants_more=more)
    waiter = asyncio.create_task(limiter.acquire(STATUS))
    await asyncio.sleep(1)
    limiter.rest(more)
    limiter.rest(more)
    taken_over = store.round_trips
    waiter.cancel()
    for slot in await asyncio.gather(waiter, return_exceptions=True):
        if isinstance(slot, Slot):
            await slot.give_back()
    in_flight = (await store.snapshot()).in_flight
    assert (in_flight, store.memory._log._queue, taken_over) == (1, {}, 1)


async def test_nothing_is_kept_for_a_caller_that_wants_no_more_by_then() -> None:
    """The caller's wish at the end of the wait counts, not the one at the beginning."""
    limiter, store = make(latency=lambda: 0.0)
    await store.memory.record(10)
    wanted = [True]

    def more() -> bool:
        return wanted[0]

    waiting = asyncio.create_task(limiter.acquire(STATUS, wants_more=more))
    await asyncio.sleep(30)
    wanted[0] = False
    await waiting
    assert (store.asked_for, (await store.snapshot()).in_flight) == ([2, 1], 1)


async def test_with_a_quota_nothing_is_kept_for_anybody() -> None:
    """Each request that is left of a day is decided about on its own."""
    limiter, store = make(Plan.DEMO, latency=lambda: 0.0)
    for _ in range(3):
        await limiter.acquire(STATUS, wants_more=lambda: True)
    assert store.asked_for == [1, 1, 1]


async def test_no_more_slots_are_asked_for_than_there_are_waiters() -> None:
    """Nor more than 32 at once."""
    limiter, store = make(Plan("wide", limits=RateLimit(1000, per=60)))
    await limiter.acquire(STATUS)
    for number in (3, 100):
        await asyncio.gather(*(limiter.acquire(STATUS) for _ in range(number)))
    asked_for = store.asked_for
    assert asked_for[:2] == [1, 1], "the first of several does not know of the others yet"
    assert max(asked_for) == 32
    assert len(asked_for) <= 2 + 2 + 5


async def test_behind_a_token_bucket_each_waiter_asks_for_itself() -> None:
    """The bucket lets them through one by one: the others' slots would be held for nothing."""
    limiter, store = make(Plan("gentle", limits=RateLimit(10, per=60), burst=1))
    waiters = [asyncio.create_task(limiter.acquire(STATUS)) for _ in range(5)]
    await asyncio.sleep(7)
    held = (await limiter.snapshot()).in_flight
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert set(store.asked_for) == {1}
    assert held <= 3


@pytest.mark.parametrize(("when", "served"), [(0.05, 3), (0.25, 3), (0.35, 3), (0.45, 8)])
async def test_slots_of_cancelled_waiters_go_back(when: float, served: int) -> None:
    """Cancelled while the question travels, while its answer does, and after that."""
    limiter, _ = make()
    waiters = [asyncio.create_task(limiter.acquire(STATUS)) for _ in range(8)]
    await asyncio.sleep(when)
    for waiter in waiters[3:]:
        waiter.cancel()
    done = await asyncio.gather(*waiters, return_exceptions=True)
    kept = [one for one in done if isinstance(one, Slot)]
    assert len(kept) == (await limiter.snapshot()).in_flight == served


@pytest.mark.parametrize("when", [0.25, 0.35])
async def test_the_waiter_that_asked_for_all_may_be_cancelled(when: float) -> None:
    """The next waiter asks again, and no slot is left without an owner."""
    limiter, store = make()
    waiters = [asyncio.create_task(limiter.acquire(STATUS)) for _ in range(5)]
    await asyncio.sleep(when)
    waiters[1].cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert (await limiter.snapshot()).in_flight == 4
    assert store.asked_for == [1, 4, 3]


async def test_early_slots_of_cancelled_waiters_go_back() -> None:
    """Cancelled while the waiter before them still sleeps."""
    limiter, store = make(latency=lambda: 0.0, ahead=3.0)
    await store.memory.record(9)
    await asyncio.sleep(58)
    waiters = [asyncio.create_task(limiter.acquire(STATUS)) for _ in range(6)]
    await asyncio.sleep(1)
    before = (await store.snapshot()).in_flight
    for waiter in waiters[2:]:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert (before, (await store.snapshot()).in_flight) == (6, 2)


async def test_early_slots_are_used_at_their_own_time() -> None:
    """Each at the moment when it is free, not when the first one was."""
    limiter, store = make(Plan("two", limits=RateLimit(2, per=10)), lambda: 0.0, ahead=3.0)
    for _ in range(2):
        await store.memory.record(1)
        await asyncio.sleep(1)
    await asyncio.sleep(6)
    times: list[float] = []

    async def one() -> None:
        await limiter.acquire(STATUS)
        times.append(asyncio.get_running_loop().time())

    await asyncio.gather(one(), one())
    assert times == pytest.approx([10, 11])


@pytest.mark.parametrize("seed", range(6))
async def test_many_cancellations_in_two_processes_lose_no_slot_and_keep_the_limit(
    seed: int,
) -> None:
    """Cancelled at any time: served in order, never too many, nothing left behind."""
    draw = random.Random(seed)
    sent: list[tuple[float, float]] = []
    first, store = make(latency=lambda: draw.choice([0.0, 0.05, 0.4]), ahead=draw.choice([0, 3]))
    second, _ = make(latency=store.latency, others=store, ahead=store.memory._log.ahead)
    loop = asyncio.get_running_loop()
    served: dict[Limiter, list[int]] = {first: [], second: []}

    async def one(limiter: Limiter, number: int) -> None:
        slot = await limiter.acquire(STATUS)
        begun = loop.time()
        served[limiter].append(number)
        try:
            await asyncio.sleep(draw.choice([0.0, 0.5, 2.0]))
        finally:
            await slot.commit()
            sent.append((begun, loop.time()))

    tasks: list[asyncio.Task[None]] = []
    for number in range(120):
        tasks += (asyncio.create_task(one(limiter, number)) for limiter in (first, second))
        if draw.random() < 0.1:
            await asyncio.sleep(draw.uniform(0, 20))
    for task in draw.sample(tasks, 150):
        loop.call_later(draw.choice([0.0, draw.uniform(0, 1), draw.uniform(0, 300)]), task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    for order in served.values():
        assert order == sorted(order)
    assert len(asyncio.all_tasks()) == 1
    assert (await first.snapshot()).in_flight == 0
    assert not first._ready
    assert not second._ready
    await asyncio.sleep(61)
    assert (await first.snapshot()).windows[0].used == 0
    assert isinstance(await store.memory.reserve("somebody"), Grant), "the wait queue is empty"
    # Each may have arrived at any time between grant and answer.
    for begun, _ in sent:
        assert sum(one <= begun < answered + 60 for one, answered in sent) <= 10


async def test_while_the_store_is_away_waiters_are_served_one_by_one() -> None:
    """A question for several slots is answered with one of this process's own."""
    clock = Clock()
    store = RemoteLedger(MemoryLedger(TEN, clock.now, lease=900), lambda: 0.1)
    limiter = Limiter(TEN, FailoverLedger(store, TEN, clock, lease=30), clock)
    await (await limiter.acquire(STATUS)).commit()
    store.away = True
    waiters = [asyncio.create_task(limiter.acquire(STATUS)) for _ in range(4)]
    await asyncio.sleep(400)
    served = sum(waiter.done() for waiter in waiters)
    for waiter in waiters[2:]:
        waiter.cancel()
    done = await asyncio.gather(*waiters, return_exceptions=True)
    for one in done:
        if isinstance(one, Slot):
            await one.give_back()
    store.away = False
    await asyncio.sleep(200)
    await (await limiter.acquire(STATUS)).commit()
    assert served >= 2
    assert (await store.memory.snapshot()).in_flight == 0


async def test_unused_slots_are_returned_to_the_count_that_granted_them() -> None:
    """Slots of the store go back to the store, slots of this process to its own count."""
    clock = Clock()
    store = RemoteLedger(MemoryLedger(TEN, clock.now, lease=900), lambda: 0.0)
    ledger = FailoverLedger(store, TEN, clock, lease=30)
    of_the_store = grants_in(await ledger.reserve_many("t", 3))
    store.away = True
    (own,) = await ledger.reserve_many("t", 3)
    while isinstance(own, NoSlot):
        await asyncio.sleep(max(0.1, own.delay))
        (own,) = await ledger.reserve_many("t", 3)
    ledger.return_unused([own, *of_the_store])
    store.away = False
    await asyncio.sleep(60)
    assert (await store.memory.snapshot()).in_flight == 0
    assert (await ledger.snapshot()).windows[0].used == 0
