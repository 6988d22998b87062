"""The limiter in one event loop and in several: waiting, order, cancellation, bursts."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import threading
from collections.abc import Callable
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

pytestmark = pytest.mark.virtual_time

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


async def test_without_latency_the_grants_of_an_hour_are_those_of_the_ideal_window() -> None:
    """Ten at once, every minute, to the second: 600 in an hour."""
    times = await grants(make_limiter(), 700, lambda: 0.0)
    assert times == [float(60 * (n // 10)) for n in range(700)]


async def test_latency_lengthens_each_window_by_no_more_than_itself() -> None:
    """With a latency of 2 s the window takes 62 s, and no longer."""
    times = await grants(make_limiter(), 100, lambda: 2.0)
    assert times == [float(62 * (n // 10)) for n in range(100)]


async def test_no_slot_idles_while_somebody_waits() -> None:
    """With uneven latencies, each grant is at the moment when a slot is free."""
    draw = random.Random(3)
    loop_times: list[tuple[float, float]] = []
    limiter = make_limiter(Plan("small", limits=RateLimit(3, per=10)))
    loop = asyncio.get_running_loop()

    async def one() -> None:
        slot = await limiter.acquire(STATUS)
        start = loop.time()
        await asyncio.sleep(draw.uniform(0, 4))
        await slot.commit()
        loop_times.append((start, loop.time()))

    await asyncio.gather(*(one() for _ in range(60)))
    starts = sorted(start for start, _ in loop_times)
    ends = sorted(end for _, end in loop_times)
    backs = [0.0] * 3 + [end + 10 for end in ends]
    assert starts == pytest.approx(backs[: len(starts)])


async def test_waiters_are_served_in_the_order_in_which_they_came() -> None:
    """The order of grants is the order of asking."""
    limiter = make_limiter(Plan("one", limits=RateLimit(1, per=5)))
    order: list[int] = []

    async def one(number: int) -> None:
        slot = await limiter.acquire(STATUS)
        order.append(number)
        await slot.commit()

    await asyncio.gather(*(one(number) for number in range(20)))
    assert order == list(range(20))


@pytest.mark.no_cover
@pytest.mark.parametrize("debug", [False, True])
def test_waiters_with_cancellations_leave_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    """The others are served in order; no task, future, slot or position is left.

    Also in the loop's debug mode, which records where each task was made.
    """
    number, draw = 10_000, random.Random(11)
    plan = Plan("many", limits=RateLimit(number // 20, per=60))

    async def main() -> tuple[list[int], list[int]]:
        limiter = make_limiter(plan)
        served: list[int] = []

        async def one(index: int) -> None:
            slot = await limiter.acquire(STATUS)
            try:
                await asyncio.sleep(draw.choice([0.0, 0.5]))
                served.append(index)
            finally:
                await slot.commit()

        tasks = [asyncio.create_task(one(index)) for index in range(number)]
        doomed = set(draw.sample(range(number), number * 9 // 10))
        for index in sorted(doomed, key=lambda _: draw.random()):
            asyncio.get_running_loop().call_later(draw.uniform(0, 300), tasks[index].cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(asyncio.all_tasks()) == 1, "only this one"
        # Nothing is held, and after a window everything is free.
        assert (await limiter.snapshot()).in_flight == 0
        await asyncio.sleep(61)
        snapshot = await limiter.snapshot()
        assert snapshot.windows[0].used == 0
        rest = [index for index in range(number) if not tasks[index].cancelled()]
        return served, rest

    problems: list[object] = []
    monkeypatch.setattr(
        logging.getLogger("asyncio"), "error", lambda *args, **_: problems.append(args)
    )
    # A thread's stack is short: debug mode spends most of its time on recording the stack.
    with ThreadPoolExecutor(1) as thread:
        served, rest = thread.submit(run, main(), debug=debug).result()
    gc.collect()
    assert sorted(served) == rest
    assert problems == []


@pytest.mark.parametrize("after", [0, 1, 30, 59, 60])
async def test_a_cancelled_waiter_gives_its_turn_to_the_next(after: float) -> None:
    """A wait that is cancelled at any time delays nobody."""
    limiter = make_limiter(Plan("one", limits=RateLimit(1, per=60)))
    await (await limiter.acquire(STATUS)).commit()
    first = asyncio.create_task(limiter.acquire(STATUS))
    second = asyncio.create_task(limiter.acquire(STATUS))
    await asyncio.sleep(after)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    if not first.cancelled():  # it was granted at that moment
        await first.result().give_back()
    await second
    assert asyncio.get_running_loop().time() == 60


async def test_a_slot_that_is_given_back_is_granted_at_once() -> None:
    """A waiter does not wait for the window of a slot that was not used."""
    limiter = make_limiter(Plan("one", limits=RateLimit(1, per=60)))
    slot = await limiter.acquire(STATUS)
    waiter = asyncio.create_task(limiter.acquire(STATUS))
    await asyncio.sleep(5)
    await slot.give_back()
    await waiter
    assert asyncio.get_running_loop().time() == 5


async def test_a_second_report_on_a_slot_does_nothing() -> None:
    """A slot that is committed twice, or given back after that, is spent once."""
    limiter = make_limiter()
    slot = await limiter.acquire(STATUS)
    await slot.commit()
    await slot.commit()
    await slot.give_back()
    assert (await limiter.snapshot()).windows[0].used == 1


async def test_a_burst_smaller_than_the_window_is_spaced_by_the_token_bucket() -> None:
    """Two leave at once, then one every six seconds, though ten would fit into the window."""
    plan = Plan("gentle", limits=RateLimit(10, per=60), burst=2)
    times = await grants(make_limiter(plan), 6, lambda: 0.0)
    assert times == pytest.approx([0, 0, 6, 12, 18, 24])


async def test_requests_that_are_not_metered_never_wait() -> None:
    """A plan that meters creates only lets any number of status checks through."""
    plan = Plan("creates", limits=RateLimit(1, per=60), metered={"create"})
    limiter = make_limiter(plan)
    for _ in range(100):
        await (await limiter.acquire(STATUS)).commit()
    assert asyncio.get_running_loop().time() == 0


async def test_requests_that_are_not_metered_wait_for_the_end_of_a_pause() -> None:
    """A 429 to any kind of request pauses everyone, and no slot is spent on it."""
    plan = Plan("creates", limits=RateLimit(2, per=60), metered={"create"})
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
    # Without `Retry-After` twice an interval, which is half a minute, and twice as long each time;
    # not longer than a minute. Another answer starts it from the beginning.
    assert times == pytest.approx([0.0, 30.0, 90.0, 150.0, 210.0, 240.0])


async def test_a_429_pauses_everyone_for_retry_after_in_full() -> None:
    """No request leaves before, whatever the window says; a shorter pause changes nothing."""
    limiter = make_limiter()
    first, second = await limiter.acquire(STATUS), await limiter.acquire(STATUS)
    await first.commit(refused=True, retry_after=42.5)
    await second.commit(refused=True, retry_after=3)
    await limiter.acquire(STATUS)
    assert asyncio.get_running_loop().time() == 42.5


async def test_429s_that_name_no_time_pause_longer_each_time() -> None:
    """6, 12, 24, 48 seconds, then a minute at most; another answer starts it again at 6."""
    limiter = make_limiter()
    waits: list[float] = []
    for outcome in (True, True, True, True, True, True, False, True):
        slot = await limiter.acquire(STATUS)
        await slot.commit(refused=outcome)
        waits.append(round((await limiter.snapshot()).paused_for, 6))
    assert waits == [6, 12, 24, 48, 60, 60, 0, 6]


async def test_unexplained_429s_halve_the_burst_down_to_strict_spacing() -> None:
    """10, 5, 2, 1: then one request every six seconds after the last one's response."""
    limiter = make_limiter()
    slots = [await limiter.acquire(STATUS) for _ in range(4)]
    bursts: list[int] = []
    for slot in slots:
        await slot.commit(refused=True, retry_after=1)
        bursts.append((await limiter.snapshot()).burst)
    times = await grants(limiter, 4, lambda: 1.0)
    assert bursts == [5, 2, 1, 1]
    assert times == pytest.approx([6, 13, 20, 27])


async def test_the_burst_recovers_slowly_after_many_answers() -> None:
    """After five windows' worth of answers without a 429 the burst grows by one."""
    limiter = make_limiter()
    slots = [await limiter.acquire(STATUS) for _ in range(2)]
    for slot in slots:
        await slot.commit(refused=True, retry_after=1)
    bursts = [(await limiter.snapshot()).burst]
    for _ in range(3):
        await grants(limiter, 50, lambda: 0.0)
        bursts.append((await limiter.snapshot()).burst)
    assert bursts == [2, 3, 4, 5]


async def test_headers_correct_the_count_downwards_only() -> None:
    """The server's number of requests left binds if it is less than counted, and only then."""
    limiter = make_limiter()
    free: list[int] = []
    for left in (7, 9, 0):
        slot = await limiter.acquire(STATUS)
        await slot.commit(rate_limit=(10, left))
        free.append((await limiter.snapshot()).windows[0].free)
    assert free == [7, 6, 0]


async def test_the_first_wait_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    """Once at level INFO, not for every request."""
    caplog.set_level(logging.INFO, "llamagen_async")
    await grants(make_limiter(), 25, lambda: 0.0)
    (record,) = caplog.records
    assert record.getMessage() == "the limit of 10 per minute is used: waiting 60.0 s"


async def test_clients_of_one_key_share_one_limiter_in_a_loop() -> None:
    """The count is kept when all of them are closed and a new one is made."""
    url, used = "https://shared.invalid/v1", []
    for _ in range(3):
        async with LlamaGenClient("same", plan=PLAN, base_url=url) as client:
            await spend_one("same", url, PLAN)
            used.append((await client.limits()).windows[0].used)
    assert used == [1, 2, 3]


async def test_two_open_clients_of_one_key_cannot_have_different_plans() -> None:
    """The error of the second names both plans; after closing, the count is carried over."""
    url = "https://plans.invalid/v1"
    async with LlamaGenClient("same", plan="demo", base_url=url):
        await spend_one("same", url, Plan.DEMO)
        other = LlamaGenClient("same", plan="paid", base_url=url)
        with pytest.raises(InvalidRequestError, match="plan: got 'paid', allowed is 'demo'"):
            await other.limits()
    async with LlamaGenClient("same", plan="paid", base_url=url) as client:
        assert (await client.limits()).windows[0].used == 1


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
        assert len(counted) <= 5, "more than five in a window, if they arrived at these times"


async def spend_one(api_key: str, url: str, plan: Plan) -> None:
    """Use one slot of the limiter that the clients of a key share."""
    identity = Identity.of(api_key, url, 1.0, None)
    limiter = open_limiter(identity, plan, timeout=30)
    await (await limiter.acquire(STATUS)).commit()
    await close_limiter(identity, limiter)


async def test_no_repr_contains_the_key() -> None:
    """Neither of the slot nor of the limiter and its ledger."""
    identity = Identity.of("very-secret", "https://repr.invalid/v1", 1.0, None)
    limiter = open_limiter(identity, PLAN, timeout=30)
    slot: Slot = await limiter.acquire(STATUS)
    await close_limiter(identity, limiter)
    assert "very-secret" not in (f"{identity!r} {limiter!r} {slot!r} {limiter.ledger!r}")


async def test_a_slot_is_not_used_after_the_machine_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease may be over by the wall clock: the request is sent in a new slot."""
    wall = [1_000.0]
    monkeypatch.setattr("llamagen_async.scheduling.sender.wall_time", lambda: wall[0])
    steps: list[str] = []

    class Hooks:
        """Hooks during the first of which the machine sleeps for an hour."""

        async def before_send(self) -> None:
            steps.append("before_send")
            wall[0] += 3600 if len(steps) == 1 else 0

        async def not_sent(self) -> None:
            steps.append("not_sent")

        async def accepted(self, answer: object) -> None:
            steps.append("accepted")

        def abandoned(self, outcome: object) -> None:
            steps.append("abandoned")

    async with simulated_client(SandboxService()) as client:
        await client.comics.create("x", hooks=Hooks())
        assert (await client.limits()).windows[0].used == 2
        assert client.stats().total == 1
    assert steps == ["before_send", "not_sent", "before_send", "accepted"]


@pytest.mark.parametrize("burst", [1, 2, 3])
async def test_a_token_bucket_in_virtual_time_does_not_stand_still(burst: int) -> None:
    """The bucket's timers fall due a rounding error early; the loop moves on all the same."""
    plan = Plan("gentle", limits=RateLimit(10, per=60), burst=burst)
    times = await grants(make_limiter(plan), 40, lambda: 1.7)
    assert len(times) == 40
