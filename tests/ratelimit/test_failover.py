"""Failover: a store that is away is logged once, nothing hangs, and requests are reported later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from llamagen_async import InvalidRequestError, LlamaGenClient, Plan, RateLimit, RequestKind
from llamagen_async.clock import Clock
from llamagen_async.errors import QuotaStoreError
from llamagen_async.ratelimit import Limiter, MemoryLedger, StoreError
from llamagen_async.ratelimit.failover import FailoverLedger, OnStoreFailure, degraded_plan
from llamagen_async.sandbox import SandboxService
from llamagen_async.simulation import SimulatedTransport

pytestmark = pytest.mark.virtual_time

PAID = Plan.PAID
STATUS = RequestKind.STATUS


_ASKS = {"reserve", "reserve_many", "commit", "give_back", "record", "snapshot"}


class Store(MemoryLedger):
    """A store that can be away; every question meanwhile fails."""

    def __init__(self, plan: Plan, now: Callable[[], float]) -> None:
        super().__init__(plan, now, lease=30)
        self.away = False
        self.asked = 0

    def _check(self) -> None:
        self.asked += 1
        if self.away:
            raise StoreError("no connection")

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name not in _ASKS:
            return value

        async def checked(*args: Any) -> Any:
            self._check()
            return await value(*args)

        return checked


def make(plan: Plan = PAID, on_failure: OnStoreFailure = "local") -> tuple[Limiter, Store]:
    clock = Clock()
    store = Store(plan, clock.now)
    ledger = FailoverLedger(store, plan, clock, lease=30, on_failure=on_failure)
    return Limiter(plan, ledger, clock), store


async def grants(limiter: Limiter, number: int) -> list[float]:
    times: list[float] = []
    for _ in range(number):
        slot = await limiter.acquire(STATUS)
        times.append(asyncio.get_running_loop().time())
        await slot.commit()
    return times


async def test_without_the_store_a_process_begins_with_full_windows_and_keeps_to_an_eighth() -> (
    None
):
    """The others' last requests may be in flight for a lease, and count for a minute then."""
    limiter, store = make()
    await grants(limiter, 3)
    store.away = True
    assert await grants(limiter, 3) == pytest.approx([90, 150, 210])


async def test_the_loss_of_the_store_and_its_return_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once each, however many requests need the store."""
    caplog.set_level(logging.WARNING, "llamagen_async")
    limiter, store = make()
    store.away = True
    await grants(limiter, 2)
    store.away = False
    await asyncio.sleep(10)
    await grants(limiter, 2)
    away, back = (record.getMessage() for record in caplog.records)
    assert away == (
        "the store of spent requests is away (no connection): going on at a modest rate"
    )
    assert back == "the store of spent requests is back"


async def test_requests_sent_without_the_store_are_reported_once_it_is_back() -> None:
    """The report comes before anything else is asked of the store."""
    limiter, store = make()
    store.away = True
    await grants(limiter, 1)
    store.away = False
    await asyncio.sleep(5)
    await grants(limiter, 1)
    assert (await store.snapshot()).windows[0].used == 2


async def test_a_waiter_does_not_sleep_through_the_return_of_the_store() -> None:
    """The store is asked again every few seconds."""
    limiter, store = make()
    store.away = True
    waiter = asyncio.create_task(grants(limiter, 1))
    await asyncio.sleep(10)
    store.away = False
    assert 10 <= (await waiter)[0] <= 13


async def test_a_store_that_is_away_is_not_asked_all_the_time() -> None:
    """Waiting for 50 minutes asks the store a bounded number of times."""
    limiter, store = make(Plan("slow", limits=RateLimit(8, per=3600)))
    store.away = True
    await asyncio.wait({asyncio.create_task(grants(limiter, 1))}, timeout=3000)
    assert store.asked <= 3000 / 3 + 5


async def test_raise_fails_at_once_and_goes_on_when_the_store_is_back() -> None:
    """Nothing is sent, and nobody waits meanwhile."""
    limiter, store = make(on_failure="raise")
    store.away = True
    with pytest.raises(QuotaStoreError, match="nothing was sent"):
        await limiter.acquire(STATUS)
    with pytest.raises(QuotaStoreError):
        await limiter.snapshot()
    assert asyncio.get_running_loop().time() == 0
    store.away = False
    await asyncio.sleep(4)
    await grants(limiter, 1)


async def test_an_answer_that_comes_while_the_store_is_away_is_not_lost() -> None:
    """The slot comes back by its lease; a 429 still pauses this process."""
    limiter, store = make()
    slot = await limiter.acquire(STATUS)
    given_back = await limiter.acquire(STATUS)
    store.away = True
    await slot.commit(refused=True, retry_after=200)
    await given_back.give_back()
    paused = (await limiter.snapshot()).paused_for
    store.away = False
    await asyncio.sleep(30)
    assert paused == pytest.approx(200)
    assert (await store.snapshot()).in_flight == 0


async def test_slots_granted_without_the_store_are_reported_to_the_local_count() -> None:
    """Given back or committed, also after the store has returned."""
    limiter, store = make()
    store.away = True
    await asyncio.sleep(61)
    first = asyncio.create_task(limiter.acquire(STATUS))
    slot = await first
    await slot.give_back()
    late = await limiter.acquire(STATUS)
    store.away = False
    await asyncio.sleep(5)
    await grants(limiter, 1)
    await late.commit()
    await grants(limiter, 1)
    assert (await store.snapshot()).windows[0].used == 4, (
        "two of the store's, and the late one when it left and when it ended"
    )


@pytest.mark.parametrize("plan", [Plan.DEMO, PAID, Plan("big", limits=RateLimit(800, per=60))])
def test_a_degraded_plan_never_allows_more(plan: Plan) -> None:
    """An eighth of each short window, at least one; a long window has room for the beginning."""
    for limit, part in zip(plan.limits, degraded_plan(plan).limits, strict=True):
        assert part.per == limit.per
        assert 1 <= part.limit <= limit.limit


async def test_cancelled_waiters_of_a_store_that_is_away_leave_nothing() -> None:
    """No task, and no position in a wait queue."""
    limiter, store = make()
    store.away = True
    task = asyncio.create_task(limiter.acquire(STATUS))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(asyncio.all_tasks()) == 1


async def test_a_client_with_raise_fails_all_waiters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Creates in the queue and waits for comics get an error at once, and no task is left."""
    stores: list[Store] = []

    def open_store(quota: str, name: str, plan: Plan, *, speed: float, lease: float) -> Store:
        stores.append(Store(plan, Clock(speed).now))
        return stores[0]

    monkeypatch.setattr("llamagen_async.ratelimit.registry.open_store", open_store)
    service = SandboxService()
    client = LlamaGenClient(
        "sandbox-paid",
        plan="paid",
        base_url="https://away.invalid",
        quota="redis://somewhere",
        on_store_failure="raise",
        transport=SimulatedTransport(service, "sandbox-paid"),
    )
    async with client:
        comic = await client.comics.create("x")
        stores[0].away = True
        waiting = client.comics.wait_for_completion(comic.id)
        answers = await asyncio.gather(waiting, client.comics.create("y"), return_exceptions=True)
        assert [type(answer) for answer in answers] == [QuotaStoreError] * 2
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("quota", ["mysql://x", "sqlite", "redis://", 7, ""])
def test_a_quota_that_names_no_store_is_refused(quota: Any) -> None:
    """The error names the allowed URLs, and does not repeat a possible password."""
    with pytest.raises(InvalidRequestError, match=r"quota: .*sqlite:///PATH.*'memory'"):
        LlamaGenClient("key", quota=quota)
    with pytest.raises(InvalidRequestError) as caught:
        LlamaGenClient("key", quota="ftp://user:secret@host")
    assert "secret" not in str(caught.value)


def test_on_store_failure_is_checked_when_the_client_is_made() -> None:
    """Another value than the two allowed ones is refused."""
    with pytest.raises(InvalidRequestError, match="on_store_failure"):
        LlamaGenClient("key", on_store_failure="panic")  # type: ignore[arg-type]  # on purpose
