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

from llamagen_async import InvalidRequestError, LlamaGenClient, Plan, RateLimit
from llamagen_async.clock import Clock
from llamagen_async.errors import QuotaStoreError
from llamagen_async.ratelimit import (
    ANSWERED,
    Durations,
    Grant,
    MemoryLedger,
    NoSlot,
    OnStoreFailure,
    Outcome,
    StoreError,
)
from llamagen_async.ratelimit.failover import FailoverLedger, shared_plan
from llamagen_async.ratelimit.protocol import IDLE_WORKLOAD
from llamagen_async.ratelimit.window_log import shares_of
from llamagen_async.sandbox import SandboxService
from llamagen_async.simulation import SimulatedTransport, run
from tests.support.claims import claim
from tests.support.remote_ledger import RemoteLedger

pytestmark = pytest.mark.virtual_time

PAID = Plan.PAID
TWO = Plan("two windows", limits=(RateLimit(4, per=10), RateLimit(9, per=40)))
LEASE = 30.0
DURATIONS = Durations(lease=LEASE, grace=5.0, client_lease=3600.0, silence=8.0)


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
    durations: Durations = DURATIONS
    arrivals: deque[float] = attrs.field(factory=deque)
    """The server's: times of the requests that came within the longest short window."""
    refused: int = 0
    """Requests that were more than a window admits."""
    sent: dict[str, list[float]] = attrs.field(factory=dict)
    """Process -> times of its requests."""
    failed: set[str] = attrs.field(factory=set)
    """Processes that could not send because of the store."""
    away: bool = False
    memory: MemoryLedger = attrs.field(init=False)
    stores: list[Store] = attrs.field(factory=list)
    latency: float = LEASE
    """Seconds that a request may take, less than the lease."""

    def __attrs_post_init__(self) -> None:
        self.memory = MemoryLedger(self.plan, Clock().now, self.durations)

    def switch(self, away: bool) -> None:
        self.away = away
        for store in self.stores:
            store.away = away

    def ledger(self, on_failure: OnStoreFailure = "local") -> FailoverLedger:
        """Return the ledger of one more process."""
        store = Store(self.memory, lambda: self.draw.choice([0.0, 0.01, 0.3]))
        store.away = self.away
        self.stores.append(store)
        return FailoverLedger(
            store, self.plan, Clock(), self.durations, on_failure=on_failure
        )

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
                        answer = await ledger.reserve(
                            attrs.evolve(wanted, waited=now() - begun)
                        )
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


seconds_up = st.sampled_from([1.0, 10.0, 200.0]) | st.floats(0.1, 150)
seconds_away = st.sampled_from([2.0, 20.0, 99.0, 300.0]) | st.floats(0.1, 250)


@pytest.mark.parametrize("processes", [1, 5, 20])
@pytest.mark.parametrize("plan", [PAID, TWO], ids=lambda plan: plan.name)
@given(
    seed=st.integers(0, 10_000),
    story=st.lists(st.tuples(seconds_up, seconds_away), min_size=1, max_size=3),
    refusals=st.sampled_from([0.0, 0.05]),
)
@settings(max_examples=25, deadline=None)
def test_all_processes_together_keep_the_limits(
    processes: int,
    plan: Plan,
    seed: int,
    story: list[tuple[float, float]],
    refusals: float,
) -> None:
    """Whenever the store goes and comes back, also for those that start while it is away."""

    async def main() -> None:
        key = Key(plan, random.Random(seed))
        switches = [(seconds, away) for up, gone in story for seconds, away in
                    ((up, False), (gone, True))]
        await live(key, processes, [*switches, (120.0, False)], refusals=refusals)
        assert key.refused == 0
        assert len(asyncio.all_tasks()) == 1

    run(main())
