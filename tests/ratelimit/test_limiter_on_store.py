"""The limiter over a store that takes its time: who waits together travels together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from llamagen_async import Plan, RateLimit, RequestKind
from llamagen_async.clock import Clock
from llamagen_async.ratelimit import Grant, Ledger, Limiter, MemoryLedger, NoSlot, Slot
from llamagen_async.ratelimit.failover import FailoverLedger
from llamagen_async.simulation import run
from tests.support.distant import Distant
from tests.support.grants import grants_in

STATUS = RequestKind.STATUS
TEN = Plan("ten", limits=RateLimit(10, per=60))


def make(
    plan: Plan = TEN,
    latency: Callable[[], float] = lambda: 0.1,
    *,
    ahead: float = 0.0,
    others: Distant | None = None,
) -> tuple[Limiter, Distant]:
    """A limiter in a process of its own; it shares its count with `others`."""
    clock = Clock()
    memory = others.memory if others else MemoryLedger(plan, clock.now, lease=900)
    memory._account.ahead = ahead
    distant = Distant(memory, latency)
    ledger: Ledger = distant
    return Limiter(plan, ledger, clock), distant


def test_those_who_wait_together_cost_one_round_trip() -> None:
    """Those who came while the first one asked are asked for together, and served in order."""

    async def main() -> tuple[list[int], int, list[float]]:
        limiter, store = make()
        order: list[int] = []
        times: list[float] = []

        async def one(place: int) -> None:
            slot = await limiter.acquire(STATUS)
            order.append(place)
            times.append(asyncio.get_running_loop().time())
            await slot.commit()

        await asyncio.gather(*(one(place) for place in range(12)))
        return order, store.round_trips, times

    order, round_trips, times = run(main())
    assert order == list(range(12))
    # The first; nine together with a place for those behind; when a slot is back, the other two.
    assert round_trips == 3
    assert times[:10] == pytest.approx([0.2] + [0.4] * 9)
    assert times[10:] == pytest.approx([60.6] * 2, abs=0.21)


def test_who_stands_behind_is_told_when_to_ask_in_the_same_round_trip() -> None:
    """So a key that is used up costs one round trip a request, whoever uses it."""

    async def main() -> tuple[list[float], list[int]]:
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
        return times, [store.round_trips, other.round_trips]

    times, round_trips = run(main())
    assert times[-1] - times[0] == pytest.approx(79 * 6.1, abs=1), "ten in 61 s, without a gap"
    assert sum(round_trips) <= 1.1 * len(times)


def test_a_place_is_kept_for_those_behind_who_was_cancelled() -> None:
    """They go on where they stand: nobody overtakes them, and nothing is asked for that."""

    async def main() -> tuple[int, bool, bool]:
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
        return asked, other, all(waiter.done() for waiter in waiters)

    assert run(main()) == (0, True, True)


@pytest.mark.parametrize("sleeper", [False, True])
def test_a_place_is_given_up_with_the_last_one_who_waits(sleeper: bool) -> None:
    """Also if it was kept for somebody who was never told of it."""

    async def main() -> dict[str, float]:
        limiter, store = make(latency=lambda: 0.0, ahead=3.0)
        await store.memory.record(1)
        if sleeper:  # the second one gets a slot ahead, the third one a place
            await asyncio.sleep(58)
        await store.memory.record(8)
        waiters = [asyncio.create_task(limiter.acquire(STATUS)) for _ in range(13)]
        await asyncio.sleep(0.5)
        assert store.memory._account._line
        for waiter in waiters:
            waiter.cancel()
        for slot in await asyncio.gather(*waiters, return_exceptions=True):
            if isinstance(slot, Slot):
                await slot.give_back()
        return store.memory._account._line

    assert run(main()) == {}


def test_a_slot_that_comes_back_early_wakes_who_was_told_before_waiting() -> None:
    """Who gets a place while the one before still sleeps is not deaf meanwhile."""

    async def main() -> float:
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
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(60)


@pytest.mark.parametrize("used", [0, 9])
def test_who_will_be_back_at_once_has_its_next_one_asked_for_as_well(used: int) -> None:
    """A slot if there is one, else a place in the line."""

    async def main() -> tuple[int, float]:
        limiter, store = make(latency=lambda: 0.0)
        await store.memory.record(used)
        left = 4

        def more() -> bool:
            return left > 1

        while left:
            slot = await limiter.acquire(STATUS, wants_more=more)
            left -= 1
            await slot.commit()
        return store.round_trips, asyncio.get_running_loop().time()

    # Two at once, twice; or one and a place, then those that came back together.
    assert run(main()) == ((2, 0.0) if not used else (3, 60.0))


@pytest.mark.parametrize("used", [0, 9])
def test_what_is_kept_for_somebody_is_given_up_with_a_rest(used: int) -> None:
    """A slot and a place alike."""

    async def main() -> tuple[int, int, dict[str, float]]:
        limiter, store = make(latency=lambda: 0.0)
        await store.memory.record(used)

        def more() -> bool:
            return True

        await limiter.acquire(STATUS, wants_more=more)
        before = (await store.snapshot()).in_flight + len(store.memory._account._line)
        limiter.rest(more)
        return before, (await store.snapshot()).in_flight, store.memory._account._line

    assert run(main()) == (2, 1, {})


@pytest.mark.parametrize("used", [0, 9])
def test_what_is_kept_for_somebody_who_waits_behind_takes_over(used: int) -> None:
    """And it is given up with the last one of them."""

    async def main() -> tuple[int, dict[str, float], int]:
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
        return in_flight, store.memory._account._line, taken_over

    assert run(main()) == (1, {}, 1)


def test_who_wants_no_more_by_then_has_nothing_kept() -> None:
    """What was wanted when the wait began does not count at its end."""

    async def main() -> tuple[list[int], int]:
        limiter, store = make(latency=lambda: 0.0)
        await store.memory.record(10)
        wanted = [True]

        def more() -> bool:
            return wanted[0]

        waiting = asyncio.create_task(limiter.acquire(STATUS, wants_more=more))
        await asyncio.sleep(30)
        wanted[0] = False
        await waiting
        return store.asked_for, (await store.snapshot()).in_flight

    assert run(main()) == ([2, 1], 1)


def test_near_the_end_of_a_quota_nothing_is_kept_for_anybody() -> None:
    """What is left of a day is decided about one by one."""

    async def main() -> list[int]:
        limiter, store = make(Plan.DEMO, latency=lambda: 0.0)
        for _ in range(3):
            await limiter.acquire(STATUS, wants_more=lambda: True)
        return store.asked_for

    assert run(main()) == [1, 1, 1]


def test_no_more_is_asked_for_than_there_are_who_wait() -> None:
    """Nor more at once than a few dozen."""

    async def main() -> list[int]:
        limiter, store = make(Plan("wide", limits=RateLimit(1000, per=60)))
        await limiter.acquire(STATUS)
        for number in (3, 100):
            await asyncio.gather(*(limiter.acquire(STATUS) for _ in range(number)))
        return store.asked_for

    asked_for = run(main())
    assert asked_for[:2] == [1, 1], "the first of several does not know of the others yet"
    assert max(asked_for) == 32
    assert len(asked_for) <= 2 + 2 + 5


def test_behind_a_token_bucket_each_one_asks_for_itself() -> None:
    """It lets them through one by one: the others' slots would be held for nothing."""

    async def main() -> tuple[list[int], int]:
        limiter, store = make(Plan("gentle", limits=RateLimit(10, per=60), burst=1))
        waiters = [asyncio.create_task(limiter.acquire(STATUS)) for _ in range(5)]
        await asyncio.sleep(7)
        held = (await limiter.snapshot()).in_flight
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        return store.asked_for, held

    asked_for, held = run(main())
    assert set(asked_for) == {1}
    assert held <= 3


@pytest.mark.parametrize(("when", "served"), [(0.05, 3), (0.25, 3), (0.35, 3), (0.45, 8)])
def test_slots_of_those_who_were_cancelled_meanwhile_go_back(when: float, served: int) -> None:
    """On the way there, on the way back, and when all of it is over."""

    async def main() -> tuple[int, int]:
        limiter, _ = make()
        waiters = [asyncio.create_task(limiter.acquire(STATUS)) for _ in range(8)]
        await asyncio.sleep(when)
        for waiter in waiters[3:]:
            waiter.cancel()
        done = await asyncio.gather(*waiters, return_exceptions=True)
        kept = [one for one in done if isinstance(one, Slot)]
        return len(kept), (await limiter.snapshot()).in_flight

    kept, held = run(main())
    assert kept == held == served


@pytest.mark.parametrize("when", [0.25, 0.35])
def test_who_asked_for_all_may_be_cancelled(when: float) -> None:
    """The next one in the line asks anew, and nothing is held for nobody."""

    async def main() -> tuple[int, list[int]]:
        limiter, store = make()
        waiters = [asyncio.create_task(limiter.acquire(STATUS)) for _ in range(5)]
        await asyncio.sleep(when)
        waiters[1].cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        return (await limiter.snapshot()).in_flight, store.asked_for

    held, asked_for = run(main())
    assert held == 4
    assert asked_for == [1, 4, 3]


def test_slots_given_ahead_go_back_with_those_who_were_to_use_them() -> None:
    """Cancelled while the one before them still sleeps."""

    async def main() -> tuple[int, int]:
        limiter, store = make(latency=lambda: 0.0, ahead=3.0)
        await store.memory.record(9)
        await asyncio.sleep(58)
        waiters = [asyncio.create_task(limiter.acquire(STATUS)) for _ in range(6)]
        await asyncio.sleep(1)
        before = (await store.snapshot()).in_flight
        for waiter in waiters[2:]:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        return before, (await store.snapshot()).in_flight

    assert run(main()) == (6, 2)


def test_a_slot_that_is_given_ahead_is_used_by_those_behind_in_their_time() -> None:
    """Each at the moment when it is back, not when the first one's was."""

    async def main() -> list[float]:
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
        return times

    assert run(main()) == pytest.approx([10, 11])


@pytest.mark.parametrize("seed", range(6))
def test_storms_of_two_processes_lose_no_slot_and_keep_the_limit(seed: int) -> None:
    """Cancelled at any time, wherever it was: in order, never too many, nothing left behind."""
    draw = random.Random(seed)
    sent: list[tuple[float, float]] = []

    async def main() -> None:
        first, store = make(
            latency=lambda: draw.choice([0.0, 0.05, 0.4]), ahead=draw.choice([0, 3])
        )
        second, _ = make(latency=store.latency, others=store, ahead=store.memory._account.ahead)
        loop = asyncio.get_running_loop()
        served: dict[Limiter, list[int]] = {first: [], second: []}

        async def one(limiter: Limiter, place: int) -> None:
            slot = await limiter.acquire(STATUS)
            begun = loop.time()
            served[limiter].append(place)
            try:
                await asyncio.sleep(draw.choice([0.0, 0.5, 2.0]))
            finally:
                await slot.commit()
                sent.append((begun, loop.time()))

        tasks: list[asyncio.Task[None]] = []
        for place in range(120):
            tasks += (asyncio.create_task(one(limiter, place)) for limiter in (first, second))
            if draw.random() < 0.1:
                await asyncio.sleep(draw.uniform(0, 20))
        for task in draw.sample(tasks, 150):
            loop.call_later(
                draw.choice([0.0, draw.uniform(0, 1), draw.uniform(0, 300)]), task.cancel
            )
        await asyncio.gather(*tasks, return_exceptions=True)
        for order in served.values():
            assert order == sorted(order)
        assert len(asyncio.all_tasks()) == 1
        assert (await first.snapshot()).in_flight == 0
        assert not first._ready
        assert not second._ready
        await asyncio.sleep(61)
        assert (await first.snapshot()).windows[0].used == 0
        assert isinstance(await store.memory.reserve("somebody"), Grant), "nobody is in the line"

    run(main())
    # Wherever each arrived between grant and answer.
    for begun, _ in sent:
        assert sum(one <= begun < answered + 60 for one, answered in sent) <= 10


def test_a_store_that_goes_away_serves_them_one_by_one() -> None:
    """This process's own count is asked like any other; what is asked for together is one."""

    async def main() -> tuple[int, int]:
        clock = Clock()
        store = Distant(MemoryLedger(TEN, clock.now, lease=900), lambda: 0.1)
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
        return served, (await store.memory.snapshot()).in_flight

    served, held = run(main())
    assert served >= 2
    assert held == 0


def test_slots_of_ones_own_are_returned_where_they_are_from() -> None:
    """Those of the store go there, the others need not."""

    async def main() -> tuple[int, int]:
        clock = Clock()
        store = Distant(MemoryLedger(TEN, clock.now, lease=900), lambda: 0.0)
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
        return (await store.memory.snapshot()).in_flight, (await ledger.snapshot()).windows[0].used

    assert run(main()) == (0, 0)
