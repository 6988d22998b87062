"""Failover: all processes together keep the limits, and a store that is away is told of once."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llamagen_async import Plan, RateLimit
from llamagen_async.clock import Clock
from llamagen_async.errors import QuotaStoreError
from llamagen_async.ratelimit import ANSWERED, NoSlot, OnStoreFailure, Outcome
from llamagen_async.ratelimit.failover import FailoverLedger
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.ratelimit.shares import shared_plan, shares_of
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.simulation import run
from llamagen_async.stored_values import StoreError
from tests.support.claims import IDLE_WORKLOAD, claim
from tests.support.remote_ledger import RemoteLedger

pytestmark = pytest.mark.virtual_time

PAID = Plan.PAID
TWO = Plan("two windows", limits=(RateLimit(4, per=10), RateLimit(9, per=40)))
LEASE = 30.0
TIMES = LedgerTimes(lease=LEASE, grace=5.0, client_lease=3600.0, silence=8.0)


def now() -> float:
    return asyncio.get_running_loop().time()


class Store(RemoteLedger):
    """A store whose answers are lost as well if it is away before they have come."""

    async def _travel(self, do: Callable[[], Awaitable[Any]]) -> Any:
        answer = await super()._travel(do)
        if self.away:
            raise StoreError("no answer")
        return answer


@attrs.define(eq=False)
class Key:
    """A key at a server that counts what arrives, and the store of its count."""

    plan: Plan
    draw: random.Random
    arrivals: deque[float] = attrs.field(factory=deque)
    """The server's: times of the requests that came within the longest short window."""
    refused: int = 0
    sent: dict[str, list[float]] = attrs.field(factory=dict)
    failed: set[str] = attrs.field(factory=set)
    away: bool = False
    memory: MemoryLedger = attrs.field(init=False)
    stores: list[Store] = attrs.field(factory=list)
    latency: float = LEASE

    def __attrs_post_init__(self) -> None:
        self.memory = MemoryLedger(self.plan, Clock().now, TIMES)

    def switch(self, away: bool) -> None:
        self.away = away
        for store in self.stores:
            store.away = away

    def ledger(self, on_failure: OnStoreFailure = "local") -> FailoverLedger:
        """Return the ledger of one more process."""
        store = Store(self.memory, lambda: self.draw.choice([0.0, 0.01, 0.3]))
        store.away = self.away
        self.stores.append(store)
        return FailoverLedger(store, self.plan, Clock(), TIMES, on_failure=on_failure)

    def arrive(self) -> None:
        """Count a request as the strictest server does."""
        short = [limit for limit in self.plan.limits if limit.per < 3600]
        while self.arrivals and self.arrivals[0] <= now() - max(one.per for one in short) + 1e-6:
            self.arrivals.popleft()
        self.arrivals.append(now())
        for limit in short:
            since = now() - limit.per + 1e-6
            self.refused += sum(at > since for at in self.arrivals) > limit.limit

    async def send(self, ledger: FailoverLedger, grant: Grant, outcome: Outcome) -> None:
        """Let a request arrive at any time before its answer."""
        latency = self.draw.choice([0.0, 0.5, 2.0, self.draw.uniform(0, 0.99 * self.latency)])
        before = self.draw.uniform(0, latency)
        await asyncio.sleep(before)
        self.arrive()
        await asyncio.sleep(latency - before)
        await ledger.commit(grant, outcome, IDLE_WORKLOAD)

    async def work(self, name: str, ledger: FailoverLedger, *, refusals: float = 0.0) -> None:
        """Be a process that sends as much as it may, several requests at a time."""
        sending: set[asyncio.Task[None]] = set()
        self.sent.setdefault(name, [])

        async def one(number: int) -> None:
            asked = 0
            begun = now()
            while True:
                asked += 1
                wanted = claim(f"{name}.{number}.{asked}", name, waited=now() - begun)
                try:
                    answer = await ledger.reserve(wanted)
                    while isinstance(answer, NoSlot):
                        await asyncio.sleep(max(0.01, answer.delay))
                        answer = await ledger.reserve(attrs.evolve(wanted, waited=now() - begun))
                except QuotaStoreError:
                    self.failed.add(name)
                    await asyncio.sleep(self.draw.uniform(0.1, 5))
                    continue
                if self.draw.random() < 0.05:
                    ledger.release(wanted.id, name)
                    continue
                refused = self.draw.random() < refusals
                outcome = Outcome(refused=True, retry_after=9.0) if refused else ANSWERED
                self.sent[name].append(now())
                task = asyncio.create_task(self.send(ledger, answer, outcome))
                sending.add(task)
                task.add_done_callback(sending.discard)
                if self.draw.random() < 0.1:
                    await asyncio.sleep(self.draw.uniform(0, 40))

        try:
            await asyncio.gather(*(one(number) for number in range(2)))
        finally:
            await asyncio.gather(*sending, return_exceptions=True)
            await ledger.aclose()


async def live(
    key: Key, processes: int, story: list[tuple[float, bool]], *, refusals: float = 0.0
) -> None:
    """Let processes work while the store goes and comes; one more starts each time it is away."""
    tasks: list[asyncio.Task[None]] = []

    def start(delay: float) -> None:
        async def late(name: str) -> None:
            await asyncio.sleep(delay)
            await key.work(name, key.ledger(), refusals=refusals)

        tasks.append(asyncio.create_task(late(f"p{len(tasks)}")))

    for _ in range(processes):
        start(key.draw.choice([0.0, key.draw.uniform(0, 5)]))
    for seconds, away in story:
        key.switch(away)
        if away:
            start(key.draw.uniform(0, seconds))
        await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    for answer in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(answer, asyncio.CancelledError), answer


seconds_up = st.sampled_from([12.0, 20.0, 200.0]) | st.floats(12.0, 150)
"""Seconds for which the store is back: enough for everyone to notice it."""
seconds_away = st.sampled_from([2.0, 20.0, 99.0, 300.0]) | st.floats(0.1, 250)


@pytest.mark.once
@pytest.mark.parametrize("processes", [1, 5, 20])
@pytest.mark.parametrize("plan", [PAID, TWO], ids=lambda plan: plan.name)
@given(
    seed=st.integers(0, 10_000),
    begun=st.sampled_from([0.5, 1.0, 10.0, 100.0]),
    story=st.lists(st.tuples(seconds_away, seconds_up), min_size=1, max_size=3),
    refusals=st.sampled_from([0.0, 0.05]),
)
@settings(max_examples=12, deadline=None)
def test_all_processes_together_keep_the_limits(
    processes: int,
    plan: Plan,
    seed: int,
    begun: float,
    story: list[tuple[float, float]],
    refusals: float,
) -> None:
    """Whenever the store goes and comes back, also for those that start while it is away."""

    async def main() -> None:
        key = Key(plan, random.Random(seed))
        switches = [one for gone, up in story for one in ((gone, True), (up, False))]
        await live(key, processes, [(begun, False), *switches], refusals=refusals)
        assert key.refused == 0
        assert len(asyncio.all_tasks()) == 1

    run(main())


@pytest.mark.once
@pytest.mark.parametrize("processes", [1, 5, 20])
async def test_in_a_long_outage_each_process_with_a_share_goes_on(processes: int) -> None:
    """After a lease and a window; then all slots of the shares are used, and no others."""
    key = Key(PAID, random.Random(1), latency=1.0)
    tasks = [asyncio.create_task(key.work(f"p{n}", key.ledger())) for n in range(processes)]
    await asyncio.sleep(200)
    assert (await key.memory.snapshot()).clients == processes
    key.switch(away=True)
    away_since = now()
    await asyncio.sleep(1000)
    times = [at for sent in key.sent.values() for at in sent if at > away_since + 1]
    assert min(times) >= away_since + LEASE + 60 + TIMES.silence
    sending = [name for name, sent in key.sent.items() if sent and sent[-1] > away_since + 1]
    assert len(sending) == min(processes, 9)
    shared = {1: 9, 5: 5, 20: 9}[processes]
    assert shared * 14 <= len(times) <= shared * 16
    assert key.refused == 0
    assert len(key.failed) == processes - len(sending), "who has no share is told"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def reserve(ledger: FailoverLedger, name: str = "a.1", client: str = "a") -> Grant | NoSlot:
    return await ledger.reserve(claim(name, client))


async def granted(ledger: FailoverLedger, name: str, client: str = "a") -> Grant:
    """Wait for a slot as told."""
    answer = await reserve(ledger, name, client)
    while isinstance(answer, NoSlot):
        await asyncio.sleep(max(0.01, answer.delay))
        answer = await reserve(ledger, name, client)
    return answer


async def test_a_short_outage_makes_all_wait_and_loses_nothing() -> None:
    """A waiter does not sleep through the return of the store."""
    key = Key(PAID, random.Random(1))
    ledger = key.ledger()
    await granted(ledger, "a.1")
    key.switch(away=True)
    waiter = asyncio.create_task(granted(ledger, "a.2"))
    await asyncio.sleep(30)
    key.switch(away=False)
    await waiter
    assert 30 <= now() <= 36
    assert (await key.memory.snapshot()).windows[0].used == 2
    await ledger.aclose()


async def test_the_demo_plan_waits_through_a_short_outage_and_then_says_so() -> None:
    """The part of the day that others have used is not known, so nothing is sent."""
    key = Key(Plan.DEMO, random.Random(1))
    ledger = key.ledger()
    grant = await granted(ledger, "a.1")
    key.switch(away=True)
    await ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
    away_since = now()
    with pytest.raises(QuotaStoreError, match="nothing was sent"):
        await granted(ledger, "a.2")
    assert now() - away_since >= LEASE + 60
    with pytest.raises(QuotaStoreError):
        await ledger.snapshot()
    key.switch(away=False)
    await asyncio.sleep(4)
    await granted(ledger, "a.3")
    await ledger.aclose()


async def test_raise_fails_at_once_and_goes_on_when_the_store_is_back() -> None:
    """Nothing is sent, and nobody waits meanwhile; a report does not fail."""
    key = Key(PAID, random.Random(1))
    ledger = key.ledger("raise")
    grant = await granted(ledger, "a.1")
    key.switch(away=True)
    await ledger.commit(grant, Outcome(refused=True, retry_after=200), IDLE_WORKLOAD)
    for _ in range(3):
        with pytest.raises(QuotaStoreError):
            await reserve(ledger, "a.2")
    key.switch(away=False)
    await asyncio.sleep(4)
    answer = await reserve(ledger, "a.2")
    assert isinstance(answer, NoSlot), "the store was told of the pause first"
    assert 190 < answer.delay < 200
    await ledger.aclose()


async def test_a_share_is_forgotten_before_the_store_gives_it_to_others() -> None:
    """Also in the middle of an outage."""
    key = Key(PAID, random.Random(1))
    ledger = key.ledger()
    await granted(ledger, "a.1")
    key.switch(away=True)
    sent: list[float] = []

    async def work() -> None:
        while True:
            grant = await granted(ledger, f"a.x{len(sent)}")
            await ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
            sent.append(now())

    with pytest.raises(QuotaStoreError):
        await work()
    assert len(sent) >= 9 * 55
    assert sent[-1] < 3600 - LEASE - 60 + 0.1
    await ledger.aclose()


async def test_a_share_that_was_told_of_long_ago_is_not_used() -> None:
    key = Key(PAID, random.Random(1))
    ledger = key.ledger()
    await granted(ledger, "a.1")
    await asyncio.sleep(TIMES.client_lease / 2)
    key.switch(away=True)
    with pytest.raises(QuotaStoreError):
        await granted(ledger, "a.2")
    await ledger.aclose()


async def test_what_is_in_flight_is_reported_as_soon_as_the_store_is_back() -> None:
    """Though nobody asks for a slot; and again until it has ended."""
    key = Key(PAID, random.Random(1))
    ledger = key.ledger()
    await granted(ledger, "a.1")
    key.switch(away=True)
    await reserve(ledger, "a.2")
    grant = await granted(ledger, "a.2")
    key.switch(away=False)
    await asyncio.sleep(TIMES.silence)
    for _ in range(10):
        assert (await key.memory.snapshot()).windows[0].used >= 1
        await asyncio.sleep(17)
    await ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
    await asyncio.sleep(59)
    assert (await key.memory.snapshot()).windows[0].used >= 1
    await ledger.aclose()


async def test_what_is_granted_while_a_report_travels_is_reported_as_well() -> None:
    """Before the store is asked for anything else."""
    key = Key(PAID, random.Random(1))
    ledger = key.ledger()
    await granted(ledger, "a.1")
    key.switch(away=True)
    await reserve(ledger, "a.2")
    await granted(ledger, "a.2")
    ledger.release("a.2", "a")
    await asyncio.sleep(3.5)
    key.stores[0].latency = lambda: 0.5
    key.switch(away=False)
    first = asyncio.create_task(reserve(ledger, "a.3"))
    await asyncio.sleep(0.1)
    assert isinstance(await reserve(ledger, "a.4"), Grant)
    await asyncio.sleep(1)  # now the second report is on its way
    key.stores[0].latency = lambda: 0.0
    await reserve(ledger, "a.5")
    assert {"a.4", "a.5"} <= ledger._local, "the store was not asked before it was told"
    assert isinstance(await first, Grant)
    assert (await key.memory.snapshot()).windows[0].used >= 3
    await ledger.aclose()


async def test_nobody_asks_the_store_before_a_slow_report_has_come() -> None:
    """A question that overtakes it would be answered by a count that lacks something."""
    key = Key(PAID, random.Random(1))
    ledger = key.ledger()
    await granted(ledger, "a.1")
    key.switch(away=True)
    await reserve(ledger, "a.2")
    await ledger.commit(await granted(ledger, "a.2"), ANSWERED, IDLE_WORKLOAD)
    key.stores[0].latency = lambda: 3.5
    key.switch(away=False)
    await asyncio.sleep(3.2)  # the report is on its way
    key.stores[0].latency = lambda: 0.0
    await granted(ledger, "a.3")
    assert "a.3" not in ledger._local
    assert (await key.memory.snapshot()).windows[0].used >= 2
    await ledger.aclose()


async def test_who_did_not_ask_for_long_may_have_missed_that_the_store_was_back() -> None:
    """So the outage begins again, and no share is used while the store is asked."""
    key = Key(PAID, random.Random(1))
    ledger = key.ledger()
    await granted(ledger, "a.1")
    key.switch(away=True)
    await reserve(ledger, "a.2")
    ledger.release("a.2", "a")
    key.switch(away=False)
    await asyncio.sleep(300)
    key.stores[0].latency = lambda: 0.3
    first = asyncio.create_task(reserve(ledger, "a.3"))
    await asyncio.sleep(0.1)
    assert isinstance(await reserve(ledger, "a.4"), NoSlot)
    key.switch(away=True)
    assert isinstance(await first, NoSlot)
    await asyncio.sleep(4)
    assert isinstance(await reserve(ledger, "a.5"), NoSlot)
    await ledger.aclose()


async def test_a_lost_answer_gives_no_share_twice() -> None:
    """The store keeps what a client may still believe to be its own."""
    key = Key(PAID, random.Random(1), latency=0.0)
    first, second = key.ledger(), key.ledger()
    await granted(first, "a.1")
    await granted(second, "b.1", "b")
    lost = asyncio.create_task(reserve(first, "a.2"))
    key.stores[0].latency = lambda: 0.2
    await asyncio.sleep(0.25)
    key.stores[0].away = True  # for this answer only; then the store is away for all
    await granted(second, "b.2", "b")
    await granted(second, "b.3", "b")
    key.switch(away=True)
    await lost
    assert [first._shares["a"].slots, second._shares["b"].slots] == [9, 0]
    await first.aclose()
    await second.aclose()


async def test_the_loss_of_the_store_and_its_return_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However many requests need the store."""
    caplog.set_level(logging.WARNING, "llamagen_async")
    key = Key(PAID, random.Random(1), latency=1.0)
    task = asyncio.create_task(key.work("a", key.ledger()))
    await asyncio.sleep(1)
    key.switch(away=True)
    await asyncio.sleep(500)
    key.switch(away=False)
    await asyncio.sleep(100)
    away, back = (record.getMessage() for record in caplog.records)
    assert away.startswith("the store of spent requests is away (")
    assert away.endswith("): going on within a share")
    assert back == "the store of spent requests is back"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_store_that_is_away_is_not_asked_all_the_time() -> None:
    """Every three seconds, however many wait."""
    key = Key(PAID, random.Random(1))
    ledger = key.ledger()
    await granted(ledger, "a.0")
    key.switch(away=True)
    before = key.stores[0].round_trips
    waiters = [asyncio.create_task(granted(ledger, f"a.{n + 1}")) for n in range(20)]
    await asyncio.sleep(90)
    assert key.stores[0].round_trips - before <= 20 + 90 / 3 + 5
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    await ledger.aclose()
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("when", [0.0, 0.1, 0.4, 1.0])
async def test_closing_reports_what_the_store_does_not_know(when: float) -> None:
    """Also if the first attempt is cancelled; no task is left, and none is begun later."""
    key = Key(PAID, random.Random(1))
    ledger = key.ledger()
    await granted(ledger, "a.0")
    key.switch(away=True)
    grants = [await granted(ledger, f"a.{n}") for n in range(1, 5)]
    for grant in grants[:2]:
        await ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
    ledger.release(grants[3].id, "a")
    key.stores[0].latency = lambda: 0.3
    key.switch(away=False)
    closing = asyncio.create_task(ledger.aclose())
    await asyncio.sleep(when)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await ledger.aclose()
    assert (await key.memory.snapshot()).windows[0].used >= 3
    await ledger.commit(grants[2], ANSWERED, IDLE_WORKLOAD)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("plan", [Plan.DEMO, PAID, TWO, Plan("one", limits=RateLimit(1, per=9))])
def test_plans_of_shares_never_allow_more_together(plan: Plan) -> None:
    """Whatever shares add up to the slots that are shared out: in each window all but one."""
    shares = shares_of(plan)
    for parts in ([1] * shares, [shares], [shares // 2, shares - shares // 2]):
        plans = [shared_plan(plan, part) for part in parts if part]
        for index, limit in enumerate(limit for limit in plan.limits if limit.per < 3600):
            assert sum(one.limits[index].limit for one in plans) < max(2, limit.limit)
