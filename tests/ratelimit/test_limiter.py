"""The limiter in one event loop and in several: waiting, order, cancellation, bursts."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from llamagen_async import InvalidRequestError, LlamaGenClient, Plan, RateLimit, RequestKind
from llamagen_async.clock import Clock
from llamagen_async.ratelimit import (
    Identity,
    Limiter,
    MemoryLedger,
    Slot,
    close_limiter,
    open_limiter,
)
from llamagen_async.sandbox import SandboxService
from llamagen_async.simulation import run, simulated_client

PLAN = Plan("test", limits=RateLimit(10, per=60))
STATUS = RequestKind.STATUS


def make_limiter(plan: Plan = PLAN) -> Limiter:
    clock = Clock()
    return Limiter(plan, MemoryLedger(plan, clock.now, lease=900), clock)


async def grants(limiter: Limiter, number: int, latency: Callable[[], float]) -> list[float]:
    """Send `number` requests as fast as the limiter lets them; return when each was granted."""
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def one() -> None:
        slot = await limiter.acquire(STATUS)
        times.append(loop.time())
        if seconds := latency():
            await asyncio.sleep(seconds)
        await slot.commit()

    await asyncio.gather(*(one() for _ in range(number)))
    return times


def test_without_latency_the_grants_of_an_hour_are_those_of_the_ideal_window() -> None:
    """Ten at once, every minute, to the second: 600 in an hour."""
    times = run_with(lambda limiter: grants(limiter, 700, lambda: 0.0))
    assert times == [float(60 * (n // 10)) for n in range(700)]


def test_latency_costs_at_most_itself_in_each_window() -> None:
    """With a latency of 2 s the window takes 62 s, and no longer."""
    times = run_with(lambda limiter: grants(limiter, 100, lambda: 2.0))
    assert times == [float(62 * (n // 10)) for n in range(100)]


def test_no_slot_idles_while_somebody_waits() -> None:
    """With uneven latencies, each grant is at the moment when a slot is back."""
    draw = random.Random(3)
    loop_times: list[tuple[float, float]] = []

    async def main() -> None:
        limiter = make_limiter(Plan("small", limits=RateLimit(3, per=10)))
        loop = asyncio.get_running_loop()

        async def one() -> None:
            slot = await limiter.acquire(STATUS)
            start = loop.time()
            await asyncio.sleep(draw.uniform(0, 4))
            await slot.commit()
            loop_times.append((start, loop.time()))

        await asyncio.gather(*(one() for _ in range(60)))

    run(main())
    starts = sorted(start for start, _ in loop_times)
    ends = sorted(end for _, end in loop_times)
    backs = [0.0] * 3 + [end + 10 for end in ends]
    assert starts == pytest.approx(backs[: len(starts)])


def test_who_asks_first_is_served_first() -> None:
    """The order of grants is the order of asking."""

    async def main() -> list[int]:
        limiter = make_limiter(Plan("one", limits=RateLimit(1, per=5)))
        order: list[int] = []

        async def one(number: int) -> None:
            slot = await limiter.acquire(STATUS)
            order.append(number)
            await slot.commit()

        await asyncio.gather(*(one(number) for number in range(20)))
        return order

    assert run(main()) == list(range(20))


@pytest.mark.no_cover
@pytest.mark.parametrize("debug", [False, True])
def test_waiters_with_cancellations_leave_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    """The rest is served in order; no task, no future, no slot and no place in a line is left.

    Also under the loop's own debugging, which notes where each of them was made.
    """
    number, draw = 10_000, random.Random(11)
    plan = Plan("many", limits=RateLimit(number // 20, per=60))

    async def main() -> tuple[list[int], list[int]]:
        limiter = make_limiter(plan)
        served: list[int] = []

        async def one(place: int) -> None:
            slot = await limiter.acquire(STATUS)
            try:
                await asyncio.sleep(draw.choice([0.0, 0.5]))
                served.append(place)
            finally:
                await slot.commit()

        tasks = [asyncio.create_task(one(place)) for place in range(number)]
        doomed = set(draw.sample(range(number), number * 9 // 10))
        for place in sorted(doomed, key=lambda _: draw.random()):
            asyncio.get_running_loop().call_later(draw.uniform(0, 300), tasks[place].cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(asyncio.all_tasks()) == 1, "only this one"
        # Nothing is held, and after a window everything is free.
        assert (await limiter.snapshot()).in_flight == 0
        await asyncio.sleep(61)
        snapshot = await limiter.snapshot()
        assert snapshot.windows[0].used == 0
        rest = [place for place in range(number) if not tasks[place].cancelled()]
        return served, rest

    problems: list[object] = []
    monkeypatch.setattr(
        logging.getLogger("asyncio"), "error", lambda *args, **_: problems.append(args)
    )
    # A thread's stack is short: noting it each time takes most of the time that debugging takes.
    with ThreadPoolExecutor(1) as thread:
        served, rest = thread.submit(run, main(), debug=debug).result()
    gc.collect()
    assert sorted(served) == rest
    assert problems == []


@pytest.mark.parametrize("after", [0, 1, 30, 59, 60])
def test_a_cancelled_waiter_gives_its_place_to_the_next(after: float) -> None:
    """Cancelled while waiting, at any time, it costs nobody anything."""

    async def main() -> float:
        limiter = make_limiter(Plan("one", limits=RateLimit(1, per=60)))
        await (await limiter.acquire(STATUS)).commit()
        first = asyncio.create_task(limiter.acquire(STATUS))
        second = asyncio.create_task(limiter.acquire(STATUS))
        await asyncio.sleep(after)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        if not first.cancelled():  # it was granted in the very moment
            await first.result().give_back()
        await second
        return asyncio.get_running_loop().time()

    assert run(main()) == 60


def test_a_slot_that_is_given_back_is_granted_at_once() -> None:
    """Whoever waits need not wait for a window that nobody used."""

    async def main() -> float:
        limiter = make_limiter(Plan("one", limits=RateLimit(1, per=60)))
        slot = await limiter.acquire(STATUS)
        waiter = asyncio.create_task(limiter.acquire(STATUS))
        await asyncio.sleep(5)
        await slot.give_back()
        await waiter
        return asyncio.get_running_loop().time()

    assert run(main()) == 5


def test_a_second_report_on_a_slot_does_nothing() -> None:
    """Committed twice or given back after that, it is spent once."""

    async def main() -> int:
        limiter = make_limiter()
        slot = await limiter.acquire(STATUS)
        await slot.commit()
        await slot.commit()
        await slot.give_back()
        return (await limiter.snapshot()).windows[0].used

    assert run(main()) == 1


def test_a_burst_smaller_than_the_window_is_spaced_by_the_token_bucket() -> None:
    """Two leave at once, then one every six seconds, though ten would fit into the window."""
    plan = Plan("gentle", limits=RateLimit(10, per=60), burst=2)
    times = run_with(lambda limiter: grants(limiter, 6, lambda: 0.0), plan)
    assert times == pytest.approx([0, 0, 6, 12, 18, 24])


def test_what_is_not_metered_never_waits() -> None:
    """A plan that counts creates only lets any number of checks through."""
    plan = Plan("creates", limits=RateLimit(1, per=60), metered={"create"})

    async def main() -> float:
        limiter = make_limiter(plan)
        for _ in range(100):
            await (await limiter.acquire(STATUS)).commit()
        return asyncio.get_running_loop().time()

    assert run(main()) == 0


def test_what_is_not_metered_waits_for_the_end_of_a_pause() -> None:
    """A refusal holds everyone, whatever was refused, and no slot is spent on it."""
    plan = Plan("creates", limits=RateLimit(2, per=60), metered={"create"})

    async def main() -> list[float]:
        limiter, loop = make_limiter(plan), asyncio.get_running_loop()
        times: list[float] = []
        for retry_after in (30.0, None, None, None):
            slot = await limiter.acquire(STATUS)
            times.append(loop.time())
            await slot.commit(refused=True, retry_after=retry_after)
        await (await limiter.acquire(RequestKind.CREATE)).commit()
        times.append(loop.time())
        await (await limiter.acquire(STATUS)).commit()
        await (await limiter.acquire(STATUS)).commit(refused=True)
        await limiter.acquire(STATUS)
        times.append(loop.time())
        snapshot = await limiter.snapshot()
        assert (snapshot.windows[0].used, snapshot.burst) == (1, 2)
        return times

    # Without `Retry-After` twice an interval, which is half a minute, and twice as long each time;
    # not longer than a minute. An answer begins anew.
    assert run(main()) == pytest.approx([0.0, 30.0, 90.0, 150.0, 210.0, 240.0])


def test_a_refusal_pauses_everyone_for_retry_after_in_full() -> None:
    """No request leaves before, whatever the window says; a shorter pause changes nothing."""

    async def main() -> float:
        limiter = make_limiter()
        first, second = await limiter.acquire(STATUS), await limiter.acquire(STATUS)
        await first.commit(refused=True, retry_after=42.5)
        await second.commit(refused=True, retry_after=3)
        await limiter.acquire(STATUS)
        return asyncio.get_running_loop().time()

    assert run(main()) == 42.5


def test_refusals_that_name_no_time_pause_longer_each_time() -> None:
    """6, 12, 24, 48 seconds, then a minute at most; an answer starts it anew."""

    async def main() -> list[float]:
        limiter = make_limiter()
        waits: list[float] = []
        for outcome in (True, True, True, True, True, True, False, True):
            slot = await limiter.acquire(STATUS)
            await slot.commit(refused=outcome)
            waits.append(round((await limiter.snapshot()).paused_for, 6))
        return waits

    assert run(main()) == [6, 12, 24, 48, 60, 60, 0, 6]


def test_refusals_nothing_explains_halve_the_burst_down_to_strict_spacing() -> None:
    """10, 5, 2, 1: then one request every six seconds after the last one's response."""

    async def main() -> tuple[list[int], list[float]]:
        limiter = make_limiter()
        slots = [await limiter.acquire(STATUS) for _ in range(4)]
        bursts: list[int] = []
        for slot in slots:
            await slot.commit(refused=True, retry_after=1)
            bursts.append((await limiter.snapshot()).burst)
        times = await grants(limiter, 4, lambda: 1.0)
        return bursts, times

    bursts, times = run(main())
    assert bursts == [5, 2, 1, 1]
    assert times == pytest.approx([6, 13, 20, 27])


def test_the_burst_recovers_slowly_after_many_answers() -> None:
    """Five windows' worth of answers without a refusal let it grow by one."""

    async def main() -> list[int]:
        limiter = make_limiter()
        slots = [await limiter.acquire(STATUS) for _ in range(2)]
        for slot in slots:
            await slot.commit(refused=True, retry_after=1)
        bursts = [(await limiter.snapshot()).burst]
        for _ in range(3):
            await grants(limiter, 50, lambda: 0.0)
            bursts.append((await limiter.snapshot()).burst)
        return bursts

    assert run(main()) == [2, 3, 4, 5]


def test_headers_correct_the_count_downwards_only() -> None:
    """What the server says is left binds if it is less than counted, and only then."""

    async def main() -> list[int]:
        limiter = make_limiter()
        free: list[int] = []
        for left in ("7", "9", "0"):
            slot = await limiter.acquire(STATUS)
            slot.observe({"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": left})
            await slot.commit()
            free.append((await limiter.snapshot()).windows[0].free)
        return free

    assert run(main()) == [7, 6, 0]


def test_the_first_wait_is_said_at_info_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    """Once, not for every request."""
    caplog.set_level(logging.INFO, "llamagen_async")
    run_with(lambda limiter: grants(limiter, 25, lambda: 0.0))
    (record,) = caplog.records
    assert record.getMessage() == "the limit of 10 per minute is used: waiting 60.0 s"


def test_clients_of_one_key_share_one_limiter_in_a_loop() -> None:
    """And keep the count when all of them are closed and a new one is made."""

    async def main() -> list[int]:
        url, used = "https://shared.invalid/v1", []
        for _ in range(3):
            async with LlamaGenClient("same", plan=PLAN, base_url=url) as client:
                await spend_one("same", url, PLAN)
                used.append((await client.limits()).windows[0].used)
        return used

    assert run(main()) == [1, 2, 3]


def test_two_open_clients_of_one_key_cannot_have_different_plans() -> None:
    """The second is refused with both plans' names; after closing, the count is carried over."""

    async def main() -> int:
        url = "https://plans.invalid/v1"
        async with LlamaGenClient("same", plan="demo", base_url=url):
            await spend_one("same", url, Plan.DEMO)
            other = LlamaGenClient("same", plan="paid", base_url=url)
            with pytest.raises(InvalidRequestError, match="plan: got 'paid', allowed is 'demo'"):
                await other.limits()
        async with LlamaGenClient("same", plan="paid", base_url=url) as client:
            return (await client.limits()).windows[0].used

    assert run(main()) == 1


def test_loops_in_two_threads_keep_one_limit_together() -> None:
    """Two clients with one key, each in a thread of its own: never more than the plan allows."""
    identity = Identity.of("threads", "https://threads.invalid/v1", 600.0, None)
    plan = Plan("threads", limits=RateLimit(5, per=60))
    log: list[tuple[float, float]] = []

    async def work() -> None:
        clock = Clock(identity.speed)
        limiter = open_limiter(identity, plan, timeout=30)

        async def one() -> None:
            slot = await limiter.acquire(STATUS)
            sent = clock.now()
            await asyncio.sleep(0.001)
            answered = clock.now()
            await slot.commit()
            log.append((sent, answered))

        await asyncio.gather(*(one() for _ in range(15)))
        await close_limiter(identity, limiter)

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log) == 30
    for sent, _ in log:
        counted = [one for one in log if one[0] <= sent < one[1] + 60]
        assert len(counted) <= 5, "more than five in a window, wherever between they arrived"


async def spend_one(api_key: str, url: str, plan: Plan) -> None:
    """Use one slot of the limiter that the clients of a key share."""
    identity = Identity.of(api_key, url, 1.0, None)
    limiter = open_limiter(identity, plan, timeout=30)
    await (await limiter.acquire(STATUS)).commit()
    await close_limiter(identity, limiter)


def run_with(use: Callable[[Limiter], Awaitable[list[float]]], plan: Plan = PLAN) -> list[float]:
    """Run `use` with a new limiter in virtual time."""

    async def main() -> list[float]:
        return await use(make_limiter(plan))

    return run(main())


def test_a_slot_says_nothing_of_the_key() -> None:
    """Neither does the ledger."""

    async def main() -> str:
        identity = Identity.of("very-secret", "https://repr.invalid/v1", 1.0, None)
        limiter = open_limiter(identity, PLAN, timeout=30)
        slot: Slot = await limiter.acquire(STATUS)
        await close_limiter(identity, limiter)
        return f"{identity!r} {limiter!r} {slot!r} {limiter.ledger!r}"

    assert "very-secret" not in run(main())


def test_a_slot_that_the_machine_slept_through_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease may be over by the wall clock: the request goes out in a new one."""
    service = SandboxService()
    wall = [1_000.0]
    monkeypatch.setattr("llamagen_async.scheduling.dispatcher.wall_time", lambda: wall[0])

    async def main() -> tuple[int, int]:
        async with simulated_client(service) as client:
            create = asyncio.create_task(client.comics.create("x"))
            while not any("_send" in str(one) for one in asyncio.all_tasks()):  # noqa: ASYNC110
                await asyncio.sleep(0)  # there is no event for what is tested
            wall[0] += 3600  # the slot is granted, the request has not left
            await create
            return (await client.limits()).windows[0].used, client.stats().total

    assert run(main()) == (2, 1)


@pytest.mark.parametrize("burst", [1, 2, 3])
def test_a_token_bucket_in_virtual_time_does_not_stand_still(burst: int) -> None:
    """Its timers fall due a rounding error early; the loop moves on all the same."""
    plan = Plan("gentle", limits=RateLimit(10, per=60), burst=burst)
    times = run_with(lambda limiter: grants(limiter, 40, lambda: 1.7), plan)
    assert len(times) == 40
