"""A store that goes away: said once, kept to less or refused, never hung, reported afterwards."""

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
from llamagen_async.ratelimit.failover import FailoverLedger, OnStoreFailure, modest
from llamagen_async.sandbox import SandboxService
from llamagen_async.simulation import SimulatedTransport, run

PAID = Plan.PAID
STATUS = RequestKind.STATUS


_ASKS = {"reserve", "reserve_many", "commit", "give_back", "record", "snapshot"}


class Store(MemoryLedger):
    """A store that can be away; what it is asked meanwhile fails."""

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


def test_a_process_on_its_own_begins_with_full_windows_and_keeps_to_an_eighth() -> None:
    """The others' last requests may be on their way for a lease, and count for a minute then."""

    async def main() -> list[float]:
        limiter, store = make()
        await grants(limiter, 3)
        store.away = True
        return await grants(limiter, 3)

    assert run(main()) == pytest.approx([90, 150, 210])


def test_it_is_said_once_that_the_store_is_away_and_once_that_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However many requests meet it."""
    caplog.set_level(logging.WARNING, "llamagen_async")

    async def main() -> None:
        limiter, store = make()
        store.away = True
        await grants(limiter, 2)
        store.away = False
        await asyncio.sleep(10)
        await grants(limiter, 2)

    run(main())
    away, back = (record.getMessage() for record in caplog.records)
    assert away == (
        "the store of spent requests is away (no connection): going on at a modest rate"
    )
    assert back == "the store of spent requests is back"


def test_what_was_sent_meanwhile_is_reported_to_the_store() -> None:
    """Before anything else is asked of it."""

    async def main() -> int:
        limiter, store = make()
        store.away = True
        await grants(limiter, 1)
        store.away = False
        await asyncio.sleep(5)
        await grants(limiter, 1)
        return (await store.snapshot()).windows[0].used

    assert run(main()) == 2


def test_who_waits_does_not_sleep_through_the_return_of_the_store() -> None:
    """The store is asked again every few seconds."""

    async def main() -> float:
        limiter, store = make()
        store.away = True
        waiter = asyncio.create_task(grants(limiter, 1))
        await asyncio.sleep(10)
        store.away = False
        return (await waiter)[0]

    assert 10 <= run(main()) <= 13


def test_a_store_that_is_away_is_not_asked_all_the_time() -> None:
    """An hour of waiting asks it a bounded number of times, and nobody busy-waits."""

    async def main() -> int:
        limiter, store = make(Plan("slow", limits=RateLimit(8, per=3600)))
        store.away = True
        await asyncio.wait({asyncio.create_task(grants(limiter, 1))}, timeout=3000)
        return store.asked

    assert run(main()) <= 3000 / 3 + 5


def test_raise_refuses_at_once_and_goes_on_when_the_store_is_back() -> None:
    """Nothing is sent, nobody waits."""

    async def main() -> None:
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

    run(main())


def test_an_answer_that_comes_while_the_store_is_away_is_not_lost() -> None:
    """Its slot comes back by the lease; a refusal in it still pauses this process."""

    async def main() -> tuple[int, float]:
        limiter, store = make()
        slot = await limiter.acquire(STATUS)
        given_back = await limiter.acquire(STATUS)
        store.away = True
        await slot.commit(refused=True, retry_after=200)
        await given_back.give_back()
        paused = (await limiter.snapshot()).paused_for
        store.away = False
        await asyncio.sleep(30)
        return (await store.snapshot()).in_flight, paused

    in_flight, paused = run(main())
    assert paused == pytest.approx(200)
    assert in_flight == 0


def test_slots_of_its_own_are_reported_on_to_itself() -> None:
    """Given back or committed, also after the store has returned."""

    async def main() -> int:
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
        return (await store.snapshot()).windows[0].used

    assert run(main()) == 4, "two of the store's, and the late one when it left and when it ended"


@pytest.mark.parametrize("plan", [Plan.DEMO, PAID, Plan("big", limits=RateLimit(800, per=60))])
def test_a_modest_plan_never_allows_more(plan: Plan) -> None:
    """An eighth of each short window, at least one; room for the beginning in a long one."""
    for limit, part in zip(plan.limits, modest(plan).limits, strict=True):
        assert part.per == limit.per
        assert 1 <= part.limit <= limit.limit


def test_cancelled_waiters_of_a_store_that_is_away_leave_nothing() -> None:
    """No place in any line."""

    async def main() -> None:
        limiter, store = make()
        store.away = True
        task = asyncio.create_task(limiter.acquire(STATUS))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_a_client_with_raise_tells_everyone_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Creates in the queue and comics that are waited for: an error at once, no task left."""
    stores: list[Store] = []

    def open_store(quota: str, name: str, plan: Plan, *, speed: float, lease: float) -> Store:
        stores.append(Store(plan, Clock(speed).now))
        return stores[0]

    monkeypatch.setattr("llamagen_async.ratelimit.registry.open_store", open_store)
    service = SandboxService()

    async def main() -> None:
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
            answers = await asyncio.gather(
                waiting, client.comics.create("y"), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [QuotaStoreError] * 2
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 1

    run(main())


@pytest.mark.parametrize("quota", ["mysql://x", "sqlite", "redis://", 7, ""])
def test_a_quota_that_names_no_store_is_refused(quota: Any) -> None:
    """With what is allowed, and without repeating what may hold a password."""
    with pytest.raises(InvalidRequestError, match=r"quota: .*sqlite:///PATH"):
        LlamaGenClient("key", quota=quota)
    with pytest.raises(InvalidRequestError) as caught:
        LlamaGenClient("key", quota="ftp://user:secret@host")
    assert "secret" not in str(caught.value)


def test_what_to_do_without_the_store_is_one_of_two() -> None:
    """And is checked when the client is made."""
    with pytest.raises(InvalidRequestError, match="on_store_failure"):
        LlamaGenClient("key", on_store_failure="panic")  # type: ignore[arg-type]  # on purpose
