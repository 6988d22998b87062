"""Several processes that share a key over a store, in virtual time: real clients, one count."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from llamagen_async import LlamaGenClient, Plan
from llamagen_async.clock import Clock
from llamagen_async.ratelimit import Grant, Ledger, MemoryLedger, registry
from llamagen_async.sandbox import PAID_KEY, Algorithm, Durations, SandboxService
from llamagen_async.simulation import SimulatedTransport
from tests.support.remote_ledger import RemoteLedger

pytestmark = pytest.mark.virtual_time

COUNTED: list[Algorithm] = ["sliding", "fixed", "bucket"]

_numbers = itertools.count()


class Hosts:
    """A maker of clients as if each were in a process of its own, with a store between them.

    Args:
        service: The server.
        monkeypatch: The fixture that puts the store in the place of a real one.
        latency: Returns the seconds that one question to the store and its answer take.
    """

    def __init__(
        self,
        service: SandboxService,
        monkeypatch: pytest.MonkeyPatch,
        latency: Callable[[], float] = lambda: 0.002,
    ) -> None:
        self.memory = MemoryLedger(Plan.PAID, Clock().now, lease=900)
        self.memory._log.ahead = 3.0
        self.stores: list[RemoteLedger] = []
        self._service = service

        def opened(*_: object, **__: object) -> Ledger:
            self.stores.append(RemoteLedger(self.memory, latency))
            return self.stores[-1]

        monkeypatch.setattr(registry, "open_store", opened)

    def client(self, seed: int = 0, *, webhooks: bool = False) -> LlamaGenClient:
        return LlamaGenClient(
            PAID_KEY,
            plan=Plan.PAID,
            base_url="https://hosts.invalid",
            quota=f"redis://host-{next(_numbers)}",
            transport=SimulatedTransport(self._service, PAID_KEY, latency=(0.0, 2.0), seed=seed),
            webhooks=webhooks,
        )

    def left(self) -> tuple[int, dict[str, float]]:
        """Return the number of held slots, and the wait queue."""
        return self.memory._log.held, dict(self.memory._log._queue)

    @property
    def round_trips(self) -> int:
        return sum(store.round_trips for store in self.stores)


def counted(service: SandboxService) -> dict[str, Any]:
    loop_time = 1e6  # after all of it
    stats: dict[str, Any] = service.stats(loop_time)["keys"][PAID_KEY]
    return stats


@pytest.mark.parametrize("algorithm", COUNTED)
@pytest.mark.parametrize("seed", range(3))
async def test_three_processes_are_never_refused_and_leave_nothing_held(
    monkeypatch: pytest.MonkeyPatch, algorithm: Algorithm, seed: int
) -> None:
    """All comics of three batches are done in the time that the plan allows."""
    service = SandboxService(algorithm=algorithm, seed=seed, window_offset=seed * 7.3)

    hosts = Hosts(service, monkeypatch)

    async def batch(number: int) -> int:
        async with hosts.client(seed=number) as client:
            stories = [f"story {number} {n}" for n in range(8)]
            return sum([item.state == "succeeded" async for item in client.comics.batch(stories)])

    done = sum(await asyncio.gather(*(batch(number) for number in range(3))))
    ended = asyncio.get_running_loop().time()
    server = counted(service)
    assert (done, server["refused"]) == (24, 0)
    assert hosts.left() == (0, {})
    # 48 requests take four windows and the last comics; checks that find nothing come on top.
    assert ended < 8 * 62
    assert hosts.round_trips <= 3 * server["total"]


@pytest.mark.parametrize("something_runs", [True, False])
async def test_the_slot_of_a_cancelled_request_is_free_again(
    monkeypatch: pytest.MonkeyPatch, something_runs: bool
) -> None:
    """The slot is free whether the client has a comic to check later or nothing to do."""
    service = SandboxService(durations=Durations.constant(600))

    hosts = Hosts(service, monkeypatch, lambda: 0.0)
    async with hosts.client(webhooks=True) as client:
        running = await client.comics.create("runs for ten minutes")
        await hosts.memory.record(9)  # the window is full: somebody else's
        await asyncio.sleep(58)  # slots are given three seconds before they are back
        creates = [asyncio.create_task(client.comics.create(f"{n}")) for n in range(3)]
        tasks = list(creates)
        if something_runs:
            tasks.append(asyncio.create_task(client.comics.wait_for_completion(running.id)))
        await asyncio.sleep(1)
        assert hosts.left()[0] > 1
        for create in creates[1:]:
            create.cancel()
        await creates[0]
        assert hosts.left() == (0, {}), "another process may use them"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_queue_position_of_a_cancelled_request_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request of another process is not queued behind one that was cancelled."""
    service = SandboxService()

    hosts = Hosts(service, monkeypatch, lambda: 0.0)
    async with hosts.client() as client:
        await hosts.memory.record(9)
        creates = [asyncio.create_task(client.comics.create(f"{n}")) for n in range(2)]
        await asyncio.sleep(10)
        assert hosts.left()[1], "the second one has a position"
        creates[1].cancel()
        await asyncio.sleep(0.1)
        assert hosts.left() == (0, {})
        await asyncio.gather(*creates, return_exceptions=True)
        await asyncio.sleep(50)
        assert isinstance(await hosts.memory.reserve("somebody else"), Grant)
