"""Webhook events replace status checks, however early, late, short or hostile the event is."""

from __future__ import annotations

import asyncio
import random
import statistics
import tracemalloc
from typing import Any

import pytest

from llamagen_async import (
    ClientClosedError,
    GenerationFailedError,
    InvalidRequestError,
    LlamaGenClient,
    WaitTimeoutError,
)
from llamagen_async.plans import Plan, RateLimit
from llamagen_async.sandbox import FAULTS, PAID_KEY, Durations, Fault, SandboxService
from llamagen_async.simulation import simulated_client
from llamagen_async.webhooks import WebhookEvent
from tests.support.webhooks import Endpoint, sending

pytestmark = pytest.mark.virtual_time

URL = "https://pictures.invalid/a.png"
PAGES = [{"page": 0, "panels": [{"panel": 0, "assetUrl": URL}]}]
ROOMY = Plan("roomy", limits=RateLimit(1_000, per=60))


def event(id_: str, word: str = "completed", **data: Any) -> WebhookEvent:
    return WebhookEvent.parse({"type": f"comic.generation.{word}", "data": {"id": id_, **data}})


def whole(id_: str) -> WebhookEvent:
    return event(id_, comics=PAGES)


def now() -> float:
    return asyncio.get_running_loop().time()


def checks(client: LlamaGenClient) -> int:
    return client.stats().requests.get("status", 0)


def roomy(seconds: float, **options: Any) -> SandboxService:
    return SandboxService(durations=Durations.constant(seconds), plans={PAID_KEY: ROOMY}, **options)


# --- what a wait costs --------------------------------------------------------------------------


async def test_an_announced_comic_costs_one_request() -> None:
    """Every slot goes into a create: ten comics a minute on the paid plan."""
    service = SandboxService(durations=Durations.constant(60))

    async with simulated_client(service, webhooks=True) as client:

        async def one(number: int) -> float:
            comic = await client.comics.create(f"story {number}")
            waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
            started = now()
            await asyncio.sleep(60)
            assert client.deliver(whole(comic.id))
            assert (await waiting).asset_urls == (URL,)
            return started

        started = await asyncio.gather(*(one(number) for number in range(40)))
        assert client.stats().total == 40
        assert max(started) == 180.0
        assert statistics.mean(started) == 90.0


@pytest.mark.parametrize(("data", "each"), [("result", 0), ("status", 1)])
async def test_a_batch_on_events_of_the_sandbox(data: Any, each: int) -> None:
    """No check where events carry the result, exactly one for each comic where they do not."""
    service = SandboxService(durations=Durations.constant(60))
    async with simulated_client(service, webhooks=True) as client:
        endpoint = Endpoint(client)
        async with sending(service, endpoint, data):
            batch = client.comics.batch([f"story {number}" for number in range(30)])
            items = [item async for item in batch]
        assert [item.state for item in items] == ["succeeded"] * 30
        assert all(item.generation and len(item.generation.asset_urls) == 5 for item in items)
        assert checks(client) == 30 * each
        assert set(endpoint.answers) == {204}


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


async def test_events_teach_how_long_comics_take() -> None:
    """Durations learned from webhooks plan the checks of later comics."""
    async with simulated_client(roomy(200), plan=ROOMY, api_key=PAID_KEY, webhooks=True) as client:
        for number in range(8):
            comic = await client.comics.create(f"story {number}")
            waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
            await asyncio.sleep(200)
            client.deliver(whole(comic.id))
            await waiting
        before, started = checks(client), now()
        await client.comics.create_and_wait("the event is lost")
        assert 200 <= now() - started < 300
        assert checks(client) - before < 5


# --- events that do not come --------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize(
    ("plan", "seconds"),
    [(Plan.PAID, 12), (Plan.PAID, 61), (Plan.PAID, 300), (ROOMY, 35), (ROOMY, 180)],
    ids=lambda value: getattr(value, "name", str(value)),
)
async def test_a_lost_event_at_most_doubles_the_wait(plan: Plan, seconds: float) -> None:
    """Compared with a client that knows of no webhooks; and with fewer requests than it sends."""
    waits: list[float] = []
    requests: list[int] = []
    for webhooks in (False, True):
        service = SandboxService(durations=Durations.constant(seconds), plans={PAID_KEY: plan})
        async with simulated_client(
            service, plan=plan, api_key=PAID_KEY, webhooks=webhooks
        ) as client:
            started = now()
            assert (await client.comics.create_and_wait("a", timeout=9_000)).succeeded
            waits.append(now() - started)
            requests.append(client.stats().total)
    assert waits[1] <= 2 * waits[0] + 1.0
    assert requests[1] <= requests[0]


async def test_a_batch_whose_events_are_lost_takes_at_most_twice_as_long() -> None:
    """Checks of comics that were not announced are not kept waiting by creates."""
    took: list[float] = []
    for webhooks in (False, True):
        async with simulated_client(SandboxService(seed=3), webhooks=webhooks) as client:
            started = now()
            batch = client.comics.batch([f"story {number}" for number in range(40)])
            assert [item.state async for item in batch] == ["succeeded"] * 40
            took.append(now() - started)
    assert took[1] <= 2 * took[0]


@pytest.mark.parametrize("plan", [Plan.PAID, Plan.DEMO], ids=["paid", "demo"])
async def test_hardly_a_check_is_made_in_vain(plan: Plan) -> None:
    """Also where slots are idle: events of the beginning tell that the one of the end will come."""
    service = SandboxService()
    async with simulated_client(service, plan=plan, webhooks=True) as client:
        async with sending(service, Endpoint(client), "result"):
            for number in range(10):
                await client.comics.create_and_wait(f"story {number}")
        assert checks(client) <= 3


async def test_a_program_that_delivers_nothing_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    """After a few ends that nobody announced, checks are made as without webhooks."""
    async with simulated_client(roomy(60), plan=ROOMY, api_key=PAID_KEY, webhooks=True) as client:
        for number in range(3):
            await client.comics.create_and_wait(f"story {number}")
        assert "3 generations in a row ended without a webhook event" in caplog.text
        assert caplog.text.count("in a row") == 1

        async def announced() -> bool:
            comic = await client.comics.create("another")
            waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
            await asyncio.sleep(0)
            (target,) = client._core.open().scheduler._polls.targets.values()
            is_announced = target.announced
            await asyncio.sleep(30)
            client.deliver(whole(comic.id))
            await waiting
            return is_announced

        assert not await announced()
        assert await announced()  # the last event came, so the next one is waited for


async def test_an_event_that_comes_after_the_check_is_not_missed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Events that are slower than checks reach this client all the same."""
    async with simulated_client(roomy(60), plan=ROOMY, api_key=PAID_KEY, webhooks=True) as client:
        for number in range(10):
            comic = await client.comics.create_and_wait(f"story {number}")
            client.deliver(event(comic.id))
    assert not caplog.records


# --- events that come early, late, twice or in another order ------------------------------------


async def test_an_end_that_is_announced_before_anybody_waits_is_kept() -> None:
    """The event may overtake the answer to the create."""
    async with simulated_client(SandboxService(), webhooks=True) as client:
        comic = await client.comics.create("a")
        assert not client.deliver(whole(comic.id))
        done = await client.comics.wait_for_completion(comic.id)
        assert done.asset_urls == (URL,)
        assert (client.stats().total, client.stats().finished) == (1, 1)


async def test_an_early_end_without_its_result_is_checked_at_once() -> None:
    """The wait begins with the one check that brings the pictures."""
    service = SandboxService(durations=Durations.constant(20))
    async with simulated_client(service, webhooks=True) as client:
        comic = await client.comics.create("a")
        await asyncio.sleep(20)
        assert not client.deliver(event(comic.id, output=URL))
        done = await client.comics.wait_for_completion(comic.id)
        assert len(done.asset_urls) == 5
        assert (now(), checks(client)) == (20.0, 1)


async def test_who_waits_again_is_not_kept_waiting_for_an_event_that_was() -> None:
    """The end was announced once, and is not announced again."""
    service = SandboxService(durations=Durations.constant(20))
    async with simulated_client(service, webhooks=True) as client:
        comic = await client.comics.create("a")
        waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        await asyncio.sleep(20)
        client.deliver(event(comic.id))
        await waiting
        before = checks(client)
        await client.comics.wait_for_completion(comic.id)
        assert (now(), checks(client) - before) == (20.0, 1)


async def test_a_wait_that_timed_out_before_the_event_begins_again_with_it() -> None:
    service = SandboxService(durations=Durations.constant(200))
    async with simulated_client(service, webhooks=True) as client:
        comic = await client.comics.create("a")
        with pytest.raises(WaitTimeoutError):
            await client.comics.wait_for_completion(comic.id, timeout=5)
        before = client.stats().total
        assert not client.deliver(whole(comic.id))
        assert (await client.comics.wait_for_completion(comic.id)).succeeded
        assert client.stats().total == before


async def test_an_event_during_a_check_ends_the_wait_once() -> None:
    """The answer to the check, which says that it runs, changes nothing any more."""
    service = SandboxService(durations=Durations.constant(100))
    async with simulated_client(service, webhooks=True, latency=(20.0, 20.0)) as client:
        comic = await client.comics.create("a")
        waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        await asyncio.sleep(40)
        (target,) = client._core.open().scheduler._polls.targets.values()
        assert target.in_flight
        client.deliver(whole(comic.id))
        assert (await waiting).asset_urls == (URL,)
        await asyncio.sleep(100)
        assert client.stats().finished == 1


async def test_everybody_who_waits_hears_of_the_end() -> None:
    async with simulated_client(SandboxService(), webhooks=True) as client:
        comic = await client.comics.create("a")
        waiting = [
            asyncio.create_task(client.comics.wait_for_completion(comic.id)) for _ in range(5)
        ]
        await asyncio.sleep(1)
        client.deliver(whole(comic.id))
        assert {one.asset_urls for one in await asyncio.gather(*waiting)} == {(URL,)}


@pytest.mark.once
@pytest.mark.parametrize("seed", range(8))
async def test_late_doubled_disordered_and_lost_events_are_harmless(seed: int) -> None:
    """Each story ends once and well; no check is wasted on a comic that has ended."""
    shares = random.Random(seed)
    faults = [
        Fault(name, rate=shares.random() / 2) for name, kind in FAULTS.items() if kind.is_of_events
    ]
    service = SandboxService(seed=seed, failure_rate=0.1, faults=faults)
    async with simulated_client(service, webhooks=True) as client:
        endpoint = Endpoint(client)
        async with sending(service, endpoint, shares.choice(("status", "result"))):
            batch = client.comics.batch([f"story {number}" for number in range(25)])
            states = [item.state async for item in batch]
            await asyncio.sleep(2_000)
        assert set(states) <= {"succeeded", "failed"}
        assert len(states) == client.stats().finished == 25
        assert client.stats().refused == 0


async def test_hostile_and_unknown_events_are_harmless() -> None:
    """Events about nothing, about others and of new types neither end a wait nor fill memory."""
    service = SandboxService(durations=Durations.constant(50))
    async with simulated_client(service, webhooks=True) as client:
        comic = await client.comics.create("a")
        waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        await asyncio.sleep(1)
        assert not client.deliver(WebhookEvent.parse({"type": "account.low", "data": {}}))
        assert not client.deliver(WebhookEvent.parse({}))
        assert client.deliver(event(comic.id, "dreamt"))
        assert client.deliver(event(comic.id, "updated", status="LOADING"))
        tracemalloc.start()
        try:
            for number in range(5_000):
                text = "x" * 20_000
                raw = {"type": "comic.generation.completed", "data": {"id": f"{number}", "t": text}}
                assert not client.deliver(WebhookEvent.parse(raw))
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert used < 4_000_000
        assert not waiting.done()
        assert (await waiting).succeeded


# --- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("text", "event"),
        ({"type": "comic.generation.completed", "data": {"id": "c"}}, "event"),
        (event(""), r"event\.data\.id"),
    ],
)
async def test_a_value_that_is_no_verified_event_is_an_error(given: Any, field: str) -> None:
    """The error names what is missing; parsed JSON may come from anybody."""
    async with simulated_client(SandboxService()) as client:
        with pytest.raises(InvalidRequestError, match=field):
            client.deliver(given)


async def test_a_client_that_expects_no_events_takes_them_all_the_same() -> None:
    """Waits end by events; an event that nobody waits for is not kept."""
    async with simulated_client(SandboxService()) as client:
        comic = await client.comics.create("a")
        assert not client.deliver(event("another"))
        waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        await asyncio.sleep(1)
        assert client.deliver(whole(comic.id))
        assert (await waiting).asset_urls == (URL,)


async def test_a_client_that_is_closed_takes_no_events() -> None:
    """The endpoint answers with an error then, and the vendor sends the event again."""
    async with simulated_client(SandboxService()) as client:
        pass
    with pytest.raises(ClientClosedError):
        client.deliver(event("c"))
