"""The scheduler: closing ends every wait with an error and leaves no task behind."""

from __future__ import annotations

import asyncio
import json

import pytest

from llamagen_async import (
    APIConnectionError,
    ClientClosedError,
    ComicRequest,
    RateLimitError,
    SubmissionUncertainError,
)
from llamagen_async.clock import Clock
from llamagen_async.ratelimit import PeerReport
from llamagen_async.scheduling import Scheduler
from tests.support.claims import key_state
from tests.support.scheduling import (
    ONE,
    accepted_id,
    network_of,
    refusal,
)
from tests.support.scripted import Network, left_over, minute, now

pytestmark = pytest.mark.virtual_time


async def test_closing_ends_queued_creates_and_leaves_no_task() -> None:
    """A create that was not sent raises `ClientClosedError`, and is not sent later."""
    network = network_of(ONE)
    client = network.client(ONE)
    await client.comics.create("a")
    queued = asyncio.gather(
        client.comics.create("b"), client.comics.create("c"), return_exceptions=True
    )
    await asyncio.sleep(1)
    await client.aclose()
    assert [type(error) for error in await queued] == [ClientClosedError] * 2
    assert not left_over()
    assert now() == 1
    with pytest.raises(ClientClosedError):
        await client.comics.create("d")
    await client.aclose()
    assert network.order == ["create a"]
    assert network.closed


async def test_closing_ends_the_wait_for_a_comic() -> None:
    """The waiter gets the error at once, not after the rest of its timeout."""
    network = Network(minute(600.0))
    client = network.client()
    comic = await client.comics.create("a")
    waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
    await asyncio.sleep(1)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await waiting
    assert now() < 5
    assert not left_over()


async def test_closing_ends_a_queued_read_with_an_error() -> None:
    """A reader whose request was not sent gets an error; it is not cancelled."""
    network = network_of(ONE)
    client = network.client(ONE)
    comic = await client.comics.create("a")
    reading = asyncio.create_task(client.comics.get(comic.id))
    await asyncio.sleep(1)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await reading
    assert not left_over()


async def test_closing_ends_a_create_between_two_attempts() -> None:
    """A create that waits before it tries to connect again raises, and is not sent."""
    unsent = APIConnectionError("no connection", request_sent=False)
    network = Network(minute(), before=lambda _sent: unsent)
    client = network.client(max_retries=50)
    creating = asyncio.create_task(client.comics.create("a"))
    await asyncio.sleep(20)
    await client.aclose()
    sent = len(network.sent)
    with pytest.raises(ClientClosedError):
        await creating
    assert len(network.sent) == sent


async def test_closing_waits_a_moment_for_a_create_in_flight() -> None:
    """A create whose answer comes within the grace is not lost."""
    network = Network(minute(), latency=0.5)
    client = network.client()
    creating = asyncio.create_task(client.comics.create("a"))
    await asyncio.sleep(0.1)
    await client.aclose()
    assert (await creating).id == accepted_id(network, "a")
    assert not left_over()


async def test_closing_gives_up_a_create_that_takes_too_long() -> None:
    """The outcome of such a create is uncertain; the error holds the request."""
    network = Network(minute(), latency=20.0)
    request = ComicRequest("a")
    client = network.client()
    creating = asyncio.create_task(client.comics.create(request))
    reading = asyncio.create_task(client.comics.get("somewhere"))
    await asyncio.sleep(0.1)
    await client.aclose()
    with pytest.raises(SubmissionUncertainError) as caught:
        await creating
    with pytest.raises((ClientClosedError, asyncio.CancelledError)):
        await reading
    assert now() == pytest.approx(1.1)
    assert not left_over()
    assert caught.value.request is request
    assert len(network.creates) == 1


async def test_a_refused_create_is_not_queued_in_a_client_that_closes() -> None:
    """A refusal that comes within the grace is final."""
    network = Network(minute(), latency=0.5, after=lambda _sent: refusal(1.0))
    client = network.client()
    creating = asyncio.create_task(client.comics.create("a"))
    await asyncio.sleep(0.1)
    await client.aclose()
    with pytest.raises((RateLimitError, ClientClosedError)):
        await creating
    assert not left_over()
    assert len(network.sent) == 1


async def test_a_client_is_at_rest_when_nobody_is_likely_to_come_for_a_comic() -> None:
    """Not while anything waits, nor within half an hour of what nobody has waited for yet."""
    network = network_of(ONE, seconds=20.0)
    async with network.client(ONE) as client:
        scheduler = client._core.open().scheduler
        assert scheduler.is_at_rest()
        comic = await client.comics.create("a")
        await asyncio.sleep(1_799)
        assert not scheduler.is_at_rest(), "somebody may come for it"
        await asyncio.sleep(2)
        assert scheduler.is_at_rest()
        waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        await asyncio.sleep(0)
        assert not scheduler.is_at_rest()
        await waiting
        assert scheduler.is_at_rest(), "it is collected"
        queued = [asyncio.create_task(client.comics.usage()) for _ in range(2)]
        await asyncio.sleep(1)
        assert not scheduler.is_at_rest(), "a request waits for a slot"
        await asyncio.gather(*queued)
        await scheduler.settle()
        assert scheduler.is_at_rest()
        assert (await client.limits()).in_flight == 0


async def test_a_client_is_not_at_rest_in_an_outage() -> None:
    """The server's silence is known to it alone."""
    gone = APIConnectionError("no connection", request_sent=False)
    network = Network(minute(), before=lambda sent: gone if sent.at < 100 else None)
    async with network.client(max_retries=0) as client:
        scheduler = client._core.open().scheduler
        for _ in range(4):
            with pytest.raises(APIConnectionError):
                await client.comics.usage()
        assert client.outage is not None
        assert not scheduler.is_at_rest()
        await asyncio.sleep(100)
        await client.comics.usage()
        assert scheduler.is_at_rest()


async def test_the_load_of_a_client_is_told_in_numbers() -> None:
    """Requests that wait, comics that run, and slots that are left, at any time."""
    network = network_of(ONE, seconds=20.0)
    async with network.client(ONE) as client:
        scheduler = client._core.open().scheduler
        idle = scheduler.load(0.0)
        assert (idle.plan, idle.per, idle.slots_limit, idle.slots_used) == ("one", 60.0, 1, 0)
        assert (idle.quota_left, idle.running, idle.circuit) == (None, 0, "closed")
        assert not any(idle.waiting.values())
        comic = await client.comics.create("a")
        tasks = [
            asyncio.create_task(client.comics.wait_for_completion(comic.id)),
            asyncio.create_task(client.comics.create("b")),
            asyncio.create_task(client.comics.usage()),
        ]
        await asyncio.sleep(1)
        busy = scheduler.load(now())
        assert busy.key == idle.key
        assert (busy.slots_used, busy.running) == (1, 1)
        assert busy.waiting == {"interactive": 1, "read": 1, "batch": 0}
        assert scheduler.load(now() + 60.0).slots_used == 0
        await asyncio.gather(*tasks)


async def test_a_client_learns_from_others_once_it_knows_what_was_learned_before() -> None:
    """Else durations that others tell of would be learned, and then loaded as well."""
    network = network_of(ONE)
    async with network.client(ONE) as client:
        rooms = client._core.open()
        scheduler = Scheduler(rooms.transport, rooms.limiter, Clock(), max_retries=0)
        told = json.dumps({"observed": [[1, ["comic"], 40.0, 50.0]]})
        state = key_state(peers=(PeerReport("other", 0.0, (), told),))
        scheduler._view.update(state, now())
        assert scheduler.forecasts.observed == 0
        scheduler.start_learning()
        scheduler._view.update(state, now())
        assert scheduler.forecasts.observed == 1
        await scheduler.aclose(0.0)
