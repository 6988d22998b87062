"""The registry: one limiter for a key in each loop, one count for all of them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from llamagen_async import (
    InvalidRequestError,
    LlamaGenClient,
    Plan,
    QuotaStoreError,
    RateLimit,
    simulation,
)
from llamagen_async.clock import Clock
from llamagen_async.ratelimit import (
    ANSWERED,
    Identity,
    Workload,
    close_limiter,
    open_limiter,
    registry,
)
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.stores import store_times
from llamagen_async.sandbox import PAID_KEY, SandboxService
from llamagen_async.simulation import SimulatedTransport
from tests.support.claims import acquire
from tests.support.remote_ledger import RemoteLedger

PLAN = Plan("test", limits=RateLimit(10, per=60))


async def spend_one(api_key: str, url: str, plan: Plan) -> None:
    """Use one slot of the limiter that the clients of a key share."""
    identity = Identity.of(api_key, url, 1.0, None)
    limiter = open_limiter(identity, plan, timeout=30)
    await (await acquire(limiter)).commit(ANSWERED, Workload())
    await close_limiter(identity, limiter)


@pytest.mark.virtual_time
async def test_clients_of_one_key_share_one_limiter_in_a_loop() -> None:
    """The count is kept when all of them are closed and a new one is made."""
    url, used = "https://shared.invalid/v1", []
    for _ in range(3):
        async with LlamaGenClient("same", plan=PLAN, base_url=url, quota="memory") as client:
            await spend_one("same", url, PLAN)
            used.append((await client.limits()).windows[0].used)
    assert used == [1, 2, 3]


@pytest.mark.virtual_time
async def test_counts_that_are_over_take_no_memory() -> None:
    """However many keys were used once; what still counts is kept, at any speed."""
    counts = registry._counts_of(asyncio.get_running_loop())

    async def use(name: str, speed: float) -> int:
        identity = Identity.of(name, "https://many.invalid/v1", speed, None)
        limiter = open_limiter(identity, PLAN, timeout=30)
        await (await acquire(limiter)).commit(ANSWERED, Workload())
        used = (await limiter.ledger.snapshot()).windows[0].used
        await close_limiter(identity, limiter)
        return used

    for speed in (1.0, 10.0, 0.5):
        for number in range(20):
            await use(f"{speed} {number}", speed)
            await asyncio.sleep(600)
        assert len(counts) <= 4, f"all that is over is kept at speed {speed}"
        for number in range(5):
            await use(f"{speed} {number}", speed)
        assert [await use(f"{speed} {number}", speed) for number in range(5)] == [2] * 5


@pytest.mark.virtual_time
async def test_what_another_plan_needs_is_not_over() -> None:
    """A day is remembered although the last client of the key counted minutes only."""
    url = "https://day.invalid/v1"
    for plan in (Plan.DEMO, PLAN):
        await spend_one("day", url, plan)
    for number in range(6):
        await asyncio.sleep(600)
        await spend_one(f"other {number}", url, PLAN)
    async with LlamaGenClient("day", plan="demo", base_url=url, quota="memory") as client:
        assert (await client.limits()).windows[1].used == 2


def test_a_loop_in_virtual_time_counts_for_itself() -> None:
    """Virtual times mean nothing to the next loop, whose clock begins anew, nor to a real one."""
    url = "https://anew.invalid/v1"

    async def use(hours: float = 0.0) -> int:
        await asyncio.sleep(hours * 3600)
        await spend_one("same", url, PLAN)
        async with LlamaGenClient("same", plan=PLAN, base_url=url, quota="memory") as client:
            return (await client.limits()).windows[0].used

    assert asyncio.run(use()) == 1
    assert [simulation.run(use(hours=hours)) for hours in (1, 1, 0.999, 0)] == [1] * 4
    assert asyncio.run(use()) == 2, "a real clock goes on when its loop ends"


@pytest.mark.virtual_time
async def test_to_close_again_takes_nothing_from_who_has_opened_since() -> None:
    """A close that was cut short is repeated, perhaps when another client is there."""
    identity = Identity.of("again", "https://again.invalid/v1", 1.0, None)
    first = open_limiter(identity, PLAN, timeout=30)
    await close_limiter(identity, first)
    second = open_limiter(identity, PLAN, timeout=30)
    await close_limiter(identity, first)
    await (await acquire(second)).commit(ANSWERED, Workload())
    await close_limiter(identity, second)
    third = open_limiter(identity, PLAN, timeout=30)
    assert (await third.ledger.snapshot()).windows[0].used == 1
    await close_limiter(identity, third)


@pytest.mark.virtual_time
async def test_two_open_clients_of_one_key_cannot_have_different_plans() -> None:
    """The error of the second names both plans; after closing, the count is carried over."""
    url = "https://plans.invalid/v1"
    async with LlamaGenClient("same", plan="demo", base_url=url, quota="memory"):
        await spend_one("same", url, Plan.DEMO)
        other = LlamaGenClient("same", plan="paid", base_url=url, quota="memory")
        with pytest.raises(InvalidRequestError, match="plan: got 'paid', allowed is 'demo'"):
            await other.limits()
    async with LlamaGenClient("same", plan="paid", base_url=url, quota="memory") as client:
        assert (await client.limits()).windows[0].used == 1


@pytest.mark.virtual_time
async def test_a_client_may_name_the_plan_that_the_first_one_named() -> None:
    """Also when the server has said since that it is another one, which the limiter keeps now."""
    identity = Identity.of("named", "https://named.invalid/v1", 1.0, None)
    limiter = open_limiter(identity, Plan.DEMO, timeout=30.0)
    limiter.change_plan(Plan.PAID)
    for plan in (Plan.DEMO, Plan.PAID):
        assert open_limiter(identity, plan, timeout=30.0) is limiter
    assert limiter.plan is Plan.PAID
    with pytest.raises(InvalidRequestError, match="plan: got 'other', allowed is 'paid'"):
        open_limiter(identity, Plan("other", limits=RateLimit(1, per=60)), timeout=30.0)
    await close_limiter(identity, limiter)


def test_loops_in_two_threads_keep_one_limit_together() -> None:
    """Two clients with one key, each in a thread of its own: never more than the plan allows."""
    identity = Identity.of("threads", "https://threads.invalid/v1", 600.0, None)
    plan = Plan("threads", limits=RateLimit(5, per=60))
    log: list[tuple[float, float]] = []

    async def work(name: str) -> None:
        clock = Clock(identity.speed)
        limiter = open_limiter(identity, plan, timeout=30)

        async def one(number: int) -> None:
            slot = await acquire(limiter, f"{name} {number}")
            sent = clock.now()
            await asyncio.sleep(0)
            answered = clock.now()
            await slot.commit(ANSWERED, Workload())
            log.append((sent, answered))

        await asyncio.gather(*(one(number) for number in range(15)))
        await close_limiter(identity, limiter)

    threads = [threading.Thread(target=asyncio.run, args=(work(name),)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log) == 30
    for sent, _ in log:
        counted = [one for one in log if one[0] <= sent < one[1] + 60]
        assert len(counted) <= 5, "more than five in a window, if they arrived at these times"


@pytest.mark.virtual_time
async def test_no_repr_contains_the_key() -> None:
    """Neither of the slot nor of the limiter and its ledger."""
    identity = Identity.of("very-secret", "https://repr.invalid/v1", 1.0, None)
    limiter = open_limiter(identity, PLAN, timeout=30)
    slot = await acquire(limiter)
    await close_limiter(identity, limiter)
    assert "very-secret" not in f"{identity!r} {limiter!r} {slot!r} {limiter.ledger!r}"


@pytest.mark.virtual_time
async def test_a_client_with_raise_fails_all_waiters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Creates in the queue and waits for comics get an error at once, and no task is left."""
    memory = MemoryLedger(Plan.PAID, Clock().now, store_times(1.0, 30.0))
    store = RemoteLedger(memory, lambda: 0.0)
    monkeypatch.setattr("llamagen_async.ratelimit.registry.open_store", lambda *_: store)
    client = LlamaGenClient(
        PAID_KEY,
        plan="paid",
        base_url="https://away.invalid",
        quota="redis://somewhere",
        on_store_failure="raise",
        transport=SimulatedTransport(SandboxService(), PAID_KEY),
    )
    async with client:
        comic = await client.comics.create("x")
        store.away = True
        waiting = client.comics.wait_for_completion(comic.id)
        answers = await asyncio.gather(waiting, client.comics.create("y"), return_exceptions=True)
        assert [type(answer) for answer in answers] == [QuotaStoreError] * 2
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("quota", ["mysql://x", "sqlite", "redis://", 7, ""])
def test_a_quota_that_names_no_store_is_refused(quota: Any) -> None:
    """The error names the allowed URLs, and does not repeat a possible password."""
    with pytest.raises(InvalidRequestError, match=r"quota: .*sqlite:///PATH"):
        LlamaGenClient("key", quota=quota)
    with pytest.raises(InvalidRequestError) as caught:
        LlamaGenClient("key", quota="ftp://user:secret@host")
    assert "secret" not in str(caught.value)
