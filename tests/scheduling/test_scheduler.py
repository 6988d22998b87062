"""The scheduler: closing ends every wait with an error and leaves no task behind."""

from __future__ import annotations

import asyncio

import pytest

from llamagen_async import (
    APIConnectionError,
    ClientClosedError,
    ComicRequest,
    RateLimitError,
    SubmissionUncertainError,
)
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
