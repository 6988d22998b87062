"""Webhook events replace status checks, however early, late or short the event is."""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

import pytest

from llamagen_async import GenerationFailedError, InvalidRequestError
from llamagen_async.plans import Plan, RateLimit
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxService
from llamagen_async.simulation import simulated_client

pytestmark = pytest.mark.virtual_time

URL = "https://pictures.invalid/a.png"


def event(id_: str, word: str = "completed", **data: Any) -> dict[str, Any]:
    return {"type": f"comic.generation.{word}", "data": {"id": id_, **data}}


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_an_announced_comic_costs_one_request() -> None:
    """Every slot goes into a create: ten comics a minute on the paid plan."""
    service = SandboxService(durations=Durations.constant(60))

    async with simulated_client(service, webhooks=True) as client:

        async def one(number: int) -> float:
            comic = await client.comics.create(f"story {number}")
            waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
            started = now()
            await asyncio.sleep(60)
            assert client.deliver(event(comic.id, output=URL))
            assert (await waiting).output == URL
            return started

        started = await asyncio.gather(*(one(number) for number in range(40)))
        assert client.stats().total == 40
        assert max(started) == 180.0
        assert statistics.mean(started) == 90.0


async def test_an_end_that_is_announced_before_anybody_waits_is_kept() -> None:
    """The event may overtake the answer to the create."""
    service = SandboxService()

    async with simulated_client(service, webhooks=True) as client:
        comic = await client.comics.create("a")
        assert not client.deliver(event(comic.id, output=URL))
        done = await client.comics.wait_for_completion(comic.id)
        assert (done.output, client.stats().total) == (URL, 1)


async def test_an_end_without_pictures_is_checked_once() -> None:
    """An event that names the id only makes one check, at once."""
    service = SandboxService(durations=Durations.constant(20))

    async with simulated_client(service, webhooks=True) as client:
        comic = await client.comics.create("a")
        waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        await asyncio.sleep(20)
        assert client.deliver(event(comic.id))
        done = await waiting
        assert done.asset_urls
        assert (now(), client.stats().total) == (20.0, 2)


async def test_a_failure_needs_no_check() -> None:
    """A failed comic has no pictures that a check could find."""
    async with simulated_client(SandboxService(), webhooks=True) as client:
        comic = await client.comics.create("a")
        waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        await asyncio.sleep(5)
        client.deliver(event(comic.id, "updated"))
        client.deliver(event(comic.id, "failed"))
        with pytest.raises(GenerationFailedError):
            await waiting
        assert client.stats().total == 1


async def test_an_announcement_that_does_not_come_is_not_waited_for() -> None:
    """A comic whose event is overdue is checked like any other."""
    service = SandboxService(durations=Durations.constant(60))

    async with simulated_client(service, webhooks=True) as client:
        done = await client.comics.create_and_wait("a", timeout=3_000)
        assert client.stats().total < 5
    assert done.succeeded


async def test_events_teach_how_long_comics_take() -> None:
    """Durations learned from webhooks plan the checks of later comics."""
    plan = Plan("roomy", limits=RateLimit(1_000, per=60))
    service = SandboxService(durations=Durations.constant(200), plans={PAID_KEY: plan})

    async with simulated_client(service, plan=plan, api_key=PAID_KEY, webhooks=True) as client:
        for number in range(8):
            comic = await client.comics.create(f"story {number}")
            waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
            await asyncio.sleep(200)
            client.deliver(event(comic.id, output=URL))
            await waiting
        started = now()
        await client.comics.create_and_wait("the event is lost")
        assert 200 <= now() - started < 300


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("text", "event"),
        ({}, "event.data"),
        ({"type": "x", "data": []}, "event.data"),
        ({"type": "comic.generation.completed", "data": {}}, "event.data.id"),
        ({"type": "comic.generation.completed", "data": {"id": ".."}}, "event.data.id"),
    ],
)
async def test_a_value_that_is_no_event_is_an_error(given: Any, field: str) -> None:
    """The error names what is missing."""
    async with simulated_client(SandboxService()) as client:
        with pytest.raises(InvalidRequestError, match=field):
            client.deliver(given)
