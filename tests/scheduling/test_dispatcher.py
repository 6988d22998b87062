"""The dispatcher: which request is sent when, and what a cancelled caller leaves behind."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from llamagen_async import (
    ComicGeneration,
    Plan,
    QuotaStoreError,
    RateLimit,
    RequestKind,
)
from llamagen_async.plans import MINUTE
from llamagen_async.ratelimit import Limiter
from tests.support.scheduling import (
    ONE,
    TWO,
    accepted_id,
    collect,
    fill,
    network_of,
)
from tests.support.scripted import Network, Sent, left_over, minute, now

pytestmark = pytest.mark.virtual_time


async def test_other_tasks_run_while_many_requests_are_sent() -> None:
    """The dispatcher gives way to other tasks even if it never has to wait for a slot."""
    network = network_of(Plan("many", limits=RateLimit(200, per=MINUTE)))
    async with network.client(Plan("many", limits=RateLimit(200, per=MINUTE))) as client:
        creates = [asyncio.create_task(client.comics.create(f"{n}")) for n in range(100)]
        turns, sent_before = 0, 0
        while len(network.sent) < 100:
            await asyncio.sleep(0)
            turns += len(network.sent) > sent_before
            sent_before = len(network.sent)
        await asyncio.gather(*creates)
    assert turns > 50


async def test_creates_go_before_checks_in_the_queue() -> None:
    """Of the requests that wait for a slot, billed ones are sent first, whoever asked first."""
    network = network_of(TWO)
    async with network.client(TWO) as client:
        await fill(client, 2)
        known = accepted_id(network, "filler 0")
        await asyncio.gather(client.comics.get(known), client.comics.create("later"))
    assert network.order[2:] == ["create later", f"status {known}"]


async def test_requests_of_one_rank_are_sent_in_the_order_in_which_they_came() -> None:
    """Creates of one kind leave in the order in which they were asked for."""
    network = network_of(TWO)
    async with network.client(TWO) as client:
        await asyncio.gather(*(client.comics.create(f"s{n}") for n in range(7)))
    assert network.order == [f"create s{n}" for n in range(7)]


async def test_an_interactive_create_goes_before_those_of_a_batch() -> None:
    """A create that somebody waits for is not queued behind a batch."""
    network = network_of(TWO)
    async with network.client(TWO) as client:
        batch = asyncio.create_task(collect(client, [f"b{n}" for n in range(6)]))
        await asyncio.sleep(1)
        await client.comics.create("urgent")
        assert network.order[:3] == ["create b0", "create b1", "create urgent"]
        batch.cancel()
        await asyncio.gather(batch, return_exceptions=True)


async def test_a_later_request_that_is_worth_more_gets_the_slot() -> None:
    """The use of a slot is decided when it is free, not when it was asked for."""
    network = network_of(ONE)
    async with network.client(ONE) as client:
        await fill(client, 1)
        known = accepted_id(network, "filler 0")
        reading = asyncio.create_task(client.comics.get(known))
        await asyncio.sleep(59)  # the read has long been chosen and waits for the slot
        assert len(network.sent) == 1
        await client.comics.create("late")
        await reading
    assert network.order[1:] == ["create late", f"status {known}"]
    assert [sent.at for sent in network.sent] == pytest.approx([0, 60, 120])


@pytest.mark.parametrize("when", [0, 30, 59.999])
async def test_a_create_that_is_cancelled_in_the_queue_costs_no_slot(when: float) -> None:
    """A cancelled create is not sent, and the next one gets the slot in time."""
    network = network_of(ONE)
    async with network.client(ONE) as client:
        await fill(client, 1)
        gone = asyncio.create_task(client.comics.create("gone"))
        next_one = asyncio.create_task(client.comics.create("next"))
        await asyncio.sleep(when)
        gone.cancel()
        await next_one
        assert gone.cancelled()
    assert network.order == ["create filler 0", "create next"]
    assert network.sent[1].at == pytest.approx(60)
    assert not left_over()


@pytest.mark.parametrize("ticks", range(8))
async def test_a_create_that_is_cancelled_when_it_is_chosen_blocks_no_other(ticks: int) -> None:
    """A create that is cancelled right when it is chosen is sent, or costs no slot."""
    network = network_of(ONE)
    async with network.client(ONE) as client:
        gone = asyncio.create_task(client.comics.create("gone"))
        for _ in range(ticks):
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await client.comics.create("next")
    assert network.order in (["create next"], ["create gone", "create next"])
    assert network.sent[-1].at == (0 if len(network.sent) == 1 else pytest.approx(60))


async def test_a_create_that_is_cancelled_in_flight_is_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A create that was sent still takes its slot, and its id can be found in the log."""
    caplog.set_level(logging.WARNING, "llamagen_async")
    network = network_of(ONE, latency=4.0)
    async with network.client(ONE) as client:
        gone = asyncio.create_task(client.comics.create("gone"))
        await asyncio.sleep(3.9)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        limits = await client.limits()
        assert (limits.in_flight, limits.windows[0].free) == (1, 0)
        await client.comics.create("next")
        assert client.stats().requests == {"create": 2}
    assert network.sent[1].at == pytest.approx(64)
    assert network.accepted == 2
    assert not left_over()
    (record,) = caplog.records
    assert accepted_id(network, "gone") in record.getMessage()
    assert record.__dict__["generation_id"] == accepted_id(network, "gone")


async def test_a_read_that_is_cancelled_leaves_no_task() -> None:
    """A cancelled read leaves no task that waits for its slot."""
    network = network_of(ONE)
    async with network.client(ONE) as client:
        comic = await client.comics.create("x")
        reading = asyncio.create_task(client.comics.get(comic.id))
        await asyncio.sleep(1)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert not left_over()


async def test_no_slot_is_waited_for_once_every_caller_is_cancelled() -> None:
    """No task waits for a slot after the last request of the queue was cancelled."""
    network = network_of(ONE)
    async with network.client(ONE) as client:
        await fill(client, 1)
        gone = asyncio.create_task(client.comics.create("gone"))
        await asyncio.sleep(1)
        gone.cancel()
        await asyncio.sleep(0.1)
        assert not left_over()


async def test_a_slot_whose_check_is_no_longer_needed_is_given_back() -> None:
    """Events about both comics come while a check waits for its slot: nothing is sent in it."""
    network = network_of(TWO)
    async with network.client(TWO) as client:
        one, other = [await client.comics.create(story) for story in ("a", "b")]
        waits = [
            asyncio.create_task(client.comics.wait_for_completion(comic.id))
            for comic in (one, other)
        ]
        await asyncio.sleep(59.5)  # a check was chosen long ago and waits for its slot
        deliver = client._core.open().scheduler._poller.deliver
        deliver(ComicGeneration.parse({"id": one.id, "status": "COMPLETED"}), now())
        deliver(ComicGeneration.parse({"id": other.id, "status": "PROCESSING"}), now())
        await asyncio.sleep(0.6)
        assert (await client.limits()).windows[0].free == 2
        await asyncio.gather(*waits)
    assert all(sent.at > 61 for sent in network.checks)


@pytest.mark.parametrize("error", [QuotaStoreError("the store is away"), OSError("disk full")])
async def test_a_limiter_that_fails_ends_every_wait_with_its_error(
    error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a limiter nothing may be sent, and nobody waits for ever."""
    network = Network(minute())

    async def broken(*_: Any, **__: Any) -> Any:
        raise error

    async with network.client() as client:
        comic = await client.comics.create("a")
        monkeypatch.setattr(Limiter, "reserve", broken)
        outcomes = await asyncio.gather(
            client.comics.wait_for_completion(comic.id),
            client.comics.create("b"),
            client.comics.create("c"),
            return_exceptions=True,
        )
        waited, *created = outcomes
        assert created == [error, error]
        assert isinstance(waited, type(error))
        assert getattr(waited, "__cause__", None) is error or waited is error
        assert not left_over()
    assert network.order == ["create a"]
    assert bool(caplog.records) is isinstance(error, OSError)


async def test_a_client_with_nothing_to_send_runs_no_task() -> None:
    """An open client that has nothing to decide runs no task of its own."""
    network = Network(minute())
    async with network.client() as client:
        await client.comics.create_and_wait("a")
        await asyncio.sleep(0)
        assert not left_over()
        assert client.stats().finished == 1


async def test_statistics_count_what_was_sent() -> None:
    """Statistics hold the requests by kind, and how many it took for each finished comic."""
    network = Network(minute())
    seen: list[Sent] = network.sent
    async with network.client() as client:
        assert client.stats().requests_per_finished is None
        await collect(client, ["a", "b"])
        stats = client.stats()
        assert stats.total == len(seen)
        assert stats.requests == {"create": 2, "status": len(seen) - 2}
        assert stats.requests_per_finished == len(seen) / 2
    assert len(network.of(RequestKind.CREATE)) == 2
