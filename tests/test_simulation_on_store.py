"""Several processes that share a key over a store, in virtual time: real clients, one count."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from llamagen_async import (
    LlamaGenClient,
    Plan,
    QuotaStoreError,
    RateLimit,
    ServerError,
    WaitTimeoutError,
)
from llamagen_async.clock import Clock
from llamagen_async.ratelimit import Claim, LimitsSnapshot, NoSlot, Priority, registry
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import Grant, Ledger
from llamagen_async.ratelimit.throttle import READS_PER_SECOND
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.sandbox import PAID_KEY, Algorithm, Durations, SandboxService
from llamagen_async.simulation import SimulatedTransport
from llamagen_async.transport import APIRequest, APIResponse
from tests.support.claims import claim
from tests.support.remote_ledger import RemoteLedger

pytestmark = pytest.mark.virtual_time

COUNTED: list[Algorithm] = ["sliding", "fixed", "bucket"]

_numbers = itertools.count()


class Count(MemoryLedger):
    """The count in the store, which remembers what was asked and whether it was granted."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, Clock().now, LedgerTimes(lease=900.0))
        self.asked: list[tuple[Claim, bool]] = []
        self.reads: list[float] = []
        """When a read was let through that needs no slot."""

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        answer = await super().reserve(claim)
        self.asked.append((claim, isinstance(answer, Grant)))
        return answer

    async def admit_read(self) -> float:
        wait = await super().admit_read()
        self.reads += [] if wait else [self._now()]
        return wait


class Hosts:
    """A maker of clients as if each were in a process of its own, with a store between them.

    Args:
        service: The server.
        monkeypatch: The fixture that puts the store in the place of a real one.
        latency: Returns the seconds that one question to the store takes, and then its answer.
        plan: The key's plan.
    """

    def __init__(
        self,
        service: SandboxService,
        monkeypatch: pytest.MonkeyPatch,
        latency: Callable[[], float] = lambda: 0.002,
        *,
        plan: Plan = Plan.PAID,
    ) -> None:
        self.plan = plan
        self.count = Count(plan)
        self.stores: list[RemoteLedger] = []
        self._service = service

        def opened(*_: object, **__: object) -> Ledger:
            self.stores.append(RemoteLedger(self.count, latency))
            return self.stores[-1]

        monkeypatch.setattr(registry, "open_store", opened)

    def client(self, seed: int = 0, **options: Any) -> LlamaGenClient:
        return LlamaGenClient(
            PAID_KEY,
            plan=self.plan,
            base_url="https://hosts.invalid",
            quota=f"redis://host-{next(_numbers)}",
            transport=SimulatedTransport(self._service, PAID_KEY, latency=(0.0, 2.0), seed=seed),
            **options,
        )

    async def batch(self, number: int, size: int = 40) -> int:
        """Run a batch in a process of its own; return how many of its comics succeeded."""
        async with self.client(seed=number) as client:
            stories = (f"story {number} {n}" for n in range(size))
            return sum([item.state == "succeeded" async for item in client.comics.batch(stories)])

    async def left(self) -> LimitsSnapshot:
        """Return what is held, and who waits."""
        return await self.count.snapshot()

    @property
    def round_trips(self) -> int:
        return sum(store.round_trips for store in self.stores)


def counted(service: SandboxService) -> dict[str, Any]:
    loop_time = 1e6  # after all of it
    stats: dict[str, Any] = service.stats(loop_time)["keys"][PAID_KEY]
    return stats


@pytest.mark.once
@pytest.mark.parametrize("algorithm", COUNTED)
@pytest.mark.parametrize("seed", range(3))
async def test_three_processes_are_never_refused_and_leave_nothing_held(
    monkeypatch: pytest.MonkeyPatch, algorithm: Algorithm, seed: int
) -> None:
    """All comics of three batches are done in the time that the plan allows."""
    service = SandboxService(algorithm=algorithm, seed=seed, window_offset=seed * 7.3)
    hosts = Hosts(service, monkeypatch, lambda: 0.05)

    done = sum(await asyncio.gather(*(hosts.batch(number, 8) for number in range(3))))
    ended = asyncio.get_running_loop().time()
    server = counted(service)
    assert (done, server["refused"]) == (24, 0)
    left = await hosts.left()
    assert (left.in_flight, left.waiting, left.clients) == (0, {}, 0)
    # 48 requests take four windows and the last comics; checks that find nothing come on top.
    assert ended < 8 * 62
    assert hosts.round_trips <= 3 * server["total"]


@pytest.mark.once
@pytest.mark.parametrize("seed", range(3))
async def test_a_create_gets_the_first_slot_that_the_batches_of_other_processes_leave(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Only a check that is overdue may go before it, and no second one."""
    service = SandboxService(seed=seed)
    hosts = Hosts(service, monkeypatch)

    batches = [asyncio.create_task(hosts.batch(number)) for number in range(3)]
    async with hosts.client(seed=9) as client:
        for _ in range(8):
            await asyncio.sleep(37)
            hosts.count.asked.clear()
            await client.comics.create("somebody waits")
            asked = hosts.count.asked
            first, last = (
                [one.priority is Priority.INTERACTIVE for one, _ in order].index(True)
                for order in (asked, asked[::-1])
            )
            between = asked[first : len(asked) - last]
            assert between[-1][1], "it has its slot"
            others = [one.priority for one, is_granted in between[:-1] if is_granted]
            assert others in ([], [Priority.OVERDUE])
    for task in batches:
        task.cancel()
    await asyncio.gather(*batches, return_exceptions=True)
    left = await hosts.left()
    assert (left.in_flight, left.waiting, left.clients) == (0, {}, 0)


@pytest.mark.once
@pytest.mark.parametrize("latency", [0.0, 0.002, 0.05])
async def test_batches_that_begin_at_the_same_time_use_every_slot(
    monkeypatch: pytest.MonkeyPatch, latency: float
) -> None:
    """None of them waits for another one that waits for it, however long the store is asked."""
    service, way = SandboxService(), random.Random(1)
    hosts = Hosts(service, monkeypatch, lambda: latency * way.random())
    batches = [asyncio.create_task(hosts.batch(number)) for number in range(3)]
    await asyncio.sleep(10 * 65)
    assert counted(service)["total"] >= 100, "ten in each window, and seconds in between"
    for batch in batches:
        batch.cancel()
    await asyncio.gather(*batches, return_exceptions=True)


async def test_what_comes_while_a_claim_waits_keeps_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten slots are free at once, and who has most of the older stories is the last to ask."""
    service = SandboxService()
    hosts = Hosts(service, monkeypatch)
    async with hosts.client() as quick, hosts.client() as slow:
        await hosts.count.record(10)
        orders: list[asyncio.Task[Any]] = []
        for n, client in enumerate([quick] + [slow] * 12 + [quick] * 6):
            orders.append(asyncio.create_task(client.comics.create(str(n))))
            await asyncio.sleep(2)
        hosts.stores[1].latency = lambda: 0.1
        await asyncio.gather(*orders)
    assert set(in_windows(service)[0]) == set(range(10))


@pytest.mark.parametrize("whose", ["cabbaaaccbcb", "abbaaababbaa", "abcabcabcabc"])
async def test_no_slot_is_left_to_those_who_do_not_take_it(
    monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    """However the stories lie that others have: how many of them go before is only estimated."""
    service = SandboxService()
    hosts = Hosts(service, monkeypatch)
    async with AsyncExitStack() as stack:
        clients = {one: await stack.enter_async_context(hosts.client()) for one in "abc"}
        await hosts.count.record(10)
        orders: list[asyncio.Task[Any]] = []
        for n, one in enumerate(whose):
            orders.append(asyncio.create_task(clients[one].comics.create(str(n))))
            await asyncio.sleep(2)
        await asyncio.gather(*orders)
    assert [len(window) for window in in_windows(service)] == [10, 2]


class Taken:
    """The owner of a story that has waited elsewhere since the beginning."""

    since = 0.0

    async def before_send(self) -> None: ...

    async def accepted(self, answer: object) -> None: ...

    async def written(self) -> None: ...


async def test_a_story_that_was_taken_over_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client that takes it over has been told to ask again later, for a younger one."""
    service = SandboxService()
    hosts = Hosts(service, monkeypatch, plan=Plan("one", limits=RateLimit(1, per=60)))
    async with hosts.client() as one, hosts.client() as other:
        await hosts.count.record(1)
        orders: list[asyncio.Task[Any]] = []
        for n, client in enumerate((one, one, other), start=1):
            await asyncio.sleep(2)
            orders.append(asyncio.create_task(client.comics.create(str(n), urgent=False)))
        await asyncio.sleep(20)
        taken = other.comics.create("0", urgent=False, hooks=Taken())  # type: ignore[arg-type]  # nothing else is told
        await asyncio.gather(taken, *orders)
    assert in_windows(service)[0] == [0]


async def test_others_may_end_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A story that stood behind a long batch is sent soon after that was broken off."""
    service = SandboxService()
    hosts = Hosts(service, monkeypatch)
    async with hosts.client() as client:
        batch = asyncio.create_task(hosts.batch(1, 100))
        await asyncio.sleep(1)
        order = asyncio.create_task(client.comics.create("100", urgent=False))
        await asyncio.sleep(30)
        batch.cancel()
        await asyncio.gather(batch, return_exceptions=True)
        began = asyncio.get_running_loop().time()
        await order
    assert asyncio.get_running_loop().time() - began < 60 + 2 * 60


@pytest.mark.parametrize("latency", [0.05, 2.0])
async def test_clients_that_all_have_much_to_do_leave_no_slot_unused(
    monkeypatch: pytest.MonkeyPatch, latency: float
) -> None:
    """Each of eight has four requests that wait: their order is known, not estimated."""
    service = SandboxService()
    hosts = Hosts(service, monkeypatch, lambda: latency / 2)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(hosts.client(seed)) for seed in range(8)]

        async def create(client: LlamaGenClient) -> None:
            for _ in range(6):
                await client.comics.create("a story")

        await asyncio.gather(*(create(client) for client in clients for _ in range(4)))
    server = counted(service)
    windows = -(-server["total"] // 10)
    # A window is 60 s, the answer's two seconds, and three questions to the store. The first one
    # has begun with the first request.
    assert asyncio.get_running_loop().time() < (windows - 1) * (60 + 2 + 3 * latency)
    assert hosts.round_trips < 3.3 * server["total"]


def in_windows(service: SandboxService) -> list[list[int]]:
    """Return the numbers that the stories are called by, minute by minute as they were sent."""
    found: dict[int, list[int]] = {}
    for one in service.stats(1e6)["generations"]:
        found.setdefault(int(one["accepted_at"] // 60), []).append(int(one["prompt"]))
    return [found[minute] for minute in sorted(found)]


@pytest.mark.parametrize("cancelled_at", [0.25, 0.75])
async def test_a_cancelled_request_leaves_neither_slot_nor_position(
    monkeypatch: pytest.MonkeyPatch, cancelled_at: float
) -> None:
    """Whether the question was on its way to the store, or its answer on its way back."""
    hosts = Hosts(SandboxService(), monkeypatch, lambda: 0.5)
    async with hosts.client() as client:
        for number, used in enumerate((0, 10)):
            await hosts.count.record(used)
            create = asyncio.create_task(client.comics.create(f"story {number}"))
            await asyncio.sleep(cancelled_at)
            left = await hosts.left()
            assert (left.in_flight or left.waiting != {}) == (cancelled_at > 0.5)
            create.cancel()
            await asyncio.gather(create, return_exceptions=True)
            await asyncio.sleep(0.1)
            left = await hosts.left()
            assert (left.in_flight, left.waiting) == (0, {})


async def test_the_queue_position_of_a_cancelled_request_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request of another process is not queued behind one that was cancelled."""
    hosts = Hosts(SandboxService(), monkeypatch, lambda: 0.0)
    async with hosts.client() as client:
        await hosts.count.record(10)
        create = asyncio.create_task(client.comics.create("nobody waits any more"))
        await asyncio.sleep(10)
        assert (await hosts.left()).waiting == {Priority.INTERACTIVE: 1}
        create.cancel()
        await asyncio.sleep(0.1)
        assert (await hosts.left()).waiting == {}
        await asyncio.sleep(50)
        last = claim("last", "somebody else", Priority.BATCH)
        assert isinstance(await hosts.count.reserve(last), Grant)


@pytest.mark.parametrize("hours", [0.5, 3.0])
async def test_a_wait_outlasts_a_store_that_is_away(
    monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    """A create that may not be sent fails, and takes no wait with it; nothing is lost."""
    plan = Plan("a day's quota", limits=(RateLimit(10, per=60), RateLimit(100, per=86_400)))
    service = SandboxService(plans={PAID_KEY: plan}, durations=Durations.constant(60.0))
    hosts = Hosts(service, monkeypatch, plan=plan)
    async with hosts.client() as client:
        comics = [await client.comics.create(f"story {n}") for n in range(3)]
        hosts.stores[0].away = True
        waits = [
            asyncio.create_task(client.comics.wait_for_completion(one.id, timeout=86_400))
            for one in comics
        ]
        short = asyncio.create_task(client.comics.wait_for_completion(comics[0].id, timeout=900))
        sent = counted(service)["total"]
        for _ in range(10):
            await asyncio.sleep(hours * 360)
            if hours == 3.0:
                with pytest.raises(QuotaStoreError, match="nothing was sent"):
                    await client.comics.create("another story")
        assert counted(service)["total"] == sent
        assert not any(wait.done() for wait in waits)
        with pytest.raises(WaitTimeoutError):
            await short
        hosts.stores[0].away = False
        back = asyncio.get_running_loop().time()
        assert all(comic.succeeded for comic in await asyncio.gather(*waits))
        assert asyncio.get_running_loop().time() <= back + 60
    assert counted(service)["refused"] == 0


async def test_a_wait_outlasts_a_store_and_a_server_that_are_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The read that finds out whether the server is there needs a slot, and waits for the store."""
    service = SandboxService(durations=Durations.constant(60.0))
    hosts = Hosts(service, monkeypatch)
    send, away = SimulatedTransport.send, [True]

    async def fail(transport: SimulatedTransport, request: APIRequest) -> APIResponse:
        if away:
            raise ServerError(503, None, "away")
        return await send(transport, request)

    async with hosts.client() as client:
        comics = [await client.comics.create(f"story {n}") for n in range(3)]
        monkeypatch.setattr(SimulatedTransport, "send", fail)
        waits = [
            asyncio.create_task(client.comics.wait_for_completion(one.id, timeout=86_400))
            for one in comics
        ]
        await asyncio.sleep(600)
        assert client.outage is not None
        hosts.stores[0].away = True
        await asyncio.sleep(4 * 3_600)
        assert not any(wait.done() for wait in waits)
        hosts.stores[0].away = False
        away.clear()
        assert all(comic.succeeded for comic in await asyncio.gather(*waits))
    assert counted(service)["refused"] == 0


@pytest.mark.parametrize("wait_for_quota", [False, True])
async def test_a_create_without_a_share_takes_no_wait_with_it(
    monkeypatch: pytest.MonkeyPatch, wait_for_quota: bool
) -> None:
    """The share is over by then: the create is told at once, and the comic waits for the store."""
    service = SandboxService(durations=Durations.constant(4 * 3_600.0))
    hosts = Hosts(service, monkeypatch)
    async with hosts.client() as client:
        comic = await client.comics.create("a long story")
        hosts.stores[0].away = True
        wait = asyncio.create_task(client.comics.wait_for_completion(comic.id, timeout=86_400))
        await asyncio.sleep(3 * 3_600)
        assert not wait.done()
        with pytest.raises(QuotaStoreError, match="nothing was sent"):
            await client.comics.create("another story", wait_for_quota=wait_for_quota)
        await asyncio.sleep(60)
        assert not wait.done()
        hosts.stores[0].away = False
        assert (await wait).succeeded
    assert counted(service)["refused"] == 0


async def test_with_raise_a_client_fails_at_once_while_the_store_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is sent and nobody waits, for a comic or in a batch; then all is as before."""
    service = SandboxService(seed=1)
    hosts = Hosts(service, monkeypatch)
    async with hosts.client(on_store_failure="raise") as client:
        comic = await client.comics.create("a story")
        hosts.stores[0].away = True
        away_since, sent = asyncio.get_running_loop().time(), counted(service)["total"]
        with pytest.raises(QuotaStoreError, match="nothing was sent"):
            await client.comics.create("another story")
        with pytest.raises(QuotaStoreError, match="accepted and goes on") as caught:
            await client.comics.wait_for_completion(comic.id)
        assert caught.value.id == comic.id
        with pytest.raises(QuotaStoreError):
            await client.limits()
        assert asyncio.get_running_loop().time() < away_since + 120
        assert counted(service)["total"] == sent
        hosts.stores[0].away = False
        await asyncio.sleep(5)
        assert (await client.comics.wait_for_completion(comic.id)).succeeded
        await client.comics.create_and_wait("another story")
    assert counted(service)["refused"] == 0


async def test_processes_share_the_pace_of_reads_that_need_no_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight wait for comics that one has started: no second has more reads than one's would."""
    plan = Plan("creates", limits=RateLimit(60, per=60), metered={"create"})
    service = SandboxService(plans={PAID_KEY: plan}, durations=Durations.constant(60.0))
    hosts = Hosts(service, monkeypatch, plan=plan)
    async with AsyncExitStack() as stack:
        first, *others = [await stack.enter_async_context(hosts.client(n)) for n in range(8)]
        comics = [await first.comics.create(f"story {n}") for n in range(40)]
        waits = [
            others[n % 7].comics.wait_for_completion(comic.id) for n, comic in enumerate(comics)
        ]
        assert {comic.status.name for comic in await asyncio.gather(*waits)} == {"SUCCEEDED"}
    reads = hosts.count.reads
    assert len(reads) >= 40
    assert all(
        last - first >= 1.0 - 1e-9
        for first, last in zip(reads, reads[READS_PER_SECOND:], strict=False)
    )
