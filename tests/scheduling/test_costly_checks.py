"""Checks that fail where each takes a slot of a day: few are sent, and one before a wait ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from llamagen_async import (
    InvalidResponseError,
    Plan,
    RateLimit,
    RequestKind,
    ServerError,
    SubmissionUncertainError,
)
from llamagen_async.plans import HOUR
from tests.support.scheduling import service_of
from tests.support.scripted import Network, Sent, minute, now

pytestmark = pytest.mark.virtual_time

AWAY = ServerError(503, None, "away")
MOVED = InvalidResponseError(302, None, "a redirect")
DAILY = Plan("day", limits=(RateLimit(4, per=60), RateLimit(60, per=86_400)))
ROOMY_DAY = Plan("roomy day", limits=(RateLimit(10, per=60), RateLimit(300, per=86_400)))


def unchecked(end: float) -> Callable[[Sent], Exception | None]:
    """Return what makes all status checks fail up to a time."""
    return lambda sent: (
        attrs.evolve(AWAY) if sent.at < end and sent.kind is RequestKind.STATUS else None
    )


@pytest.mark.parametrize("number", [1, 2, 3, 12])
async def test_checks_that_fail_alone_leave_slots_of_the_day(number: int) -> None:
    """Creates and the usage are answered: six slots an hour, however many comics wait."""
    network = Network(service_of(DAILY), key="the-key", before=unchecked(2 * HOUR))
    async with network.client(DAILY) as client:
        comics = [await client.comics.create(f"s{n}") for n in range(number)]
        waiting = [
            asyncio.create_task(client.comics.wait_for_completion(comic.id, timeout=4 * HOUR))
            for comic in comics
        ]
        for _ in range(6):
            await asyncio.sleep(1_200)
            await client.comics.usage()
        assert len(network.checks) <= number + 9, "one at a time"
        comics = await asyncio.gather(*waiting)
        assert all(comic.succeeded for comic in comics)
        answered = min(sent.at for sent in network.checks if sent.at >= 2 * HOUR)
        assert answered <= 2.5 * HOUR
        assert now() <= answered + 60 * (1 + number / 4), "all at once then, as the slots allow"


async def test_sick_comics_cost_a_day_few_slots_beside_others() -> None:
    """Answers about other comics say nothing of them."""
    gone: list[str] = []
    network = Network(
        service_of(ROOMY_DAY),
        key="the-key",
        before=lambda sent: attrs.evolve(AWAY) if sent.target in gone else None,
    )
    async with network.client(ROOMY_DAY) as client:
        gone += [(await client.comics.create(f"sick {n}")).id for n in range(3)]
        waits = [asyncio.create_task(client.comics.wait_for_completion(one)) for one in gone]
        for n in range(20):
            began = now()
            await client.comics.create_and_wait(f"well {n}", timeout=300)
            assert now() <= began + 120
            await asyncio.sleep(120)
        assert sum(sent.target in gone for sent in network.checks) <= 3 * 9
        for wait in waits:
            wait.cancel()


async def test_a_wait_whose_checks_fail_has_its_last_one_before_its_end() -> None:
    network = Network(service_of(DAILY), key="the-key", before=unchecked(1_000))
    async with network.client(DAILY) as client:
        comic = await client.comics.create_and_wait("a", timeout=1_500)
    assert comic.succeeded
    assert 1_000 < now() <= 1_500


@pytest.mark.parametrize("error", [AWAY, MOVED], ids=str)
async def test_creates_that_fail_alone_leave_slots_of_the_day(error: Any) -> None:
    """However many wait, and whether the server says that it did nothing or not."""
    network = Network(
        service_of(ROOMY_DAY),
        key="the-key",
        before=lambda sent: (
            attrs.evolve(error)
            if sent.at < 1.5 * HOUR and sent.kind is RequestKind.CREATE
            else None
        ),
    )
    async with network.client(ROOMY_DAY) as client:
        creating = [
            asyncio.create_task(client.comics.create_and_wait(f"s{n}", timeout=4 * HOUR))
            for n in range(30)
        ]
        for _ in range(9):
            await asyncio.sleep(600)
            assert (await client.comics.usage()).is_paid_plan
        tried = len(network.creates)
        assert tried <= 13
        outcomes = await asyncio.gather(*creating, return_exceptions=True)
    lost = 0 if error is MOVED else tried
    assert sum(isinstance(one, SubmissionUncertainError) for one in outcomes) == lost
    assert sum(not isinstance(one, Exception) for one in outcomes) == 30 - lost
    assert network.creates[tried].at <= 2 * HOUR


async def test_creates_that_are_redirected_leave_slots_for_checks() -> None:
    """Each try is free but for its slot, and a minute has ten."""
    network = Network(
        minute(),
        before=lambda sent: (
            attrs.evolve(MOVED)
            if 50 <= sent.at < HOUR and sent.kind is RequestKind.CREATE
            else None
        ),
    )
    async with network.client() as client:
        running = asyncio.create_task(client.comics.create_and_wait("running"))
        await asyncio.sleep(50)
        creating = [
            asyncio.create_task(client.comics.create_and_wait(f"s{n}", timeout=2 * HOUR))
            for n in range(30)
        ]
        assert (await running).succeeded
        assert now() <= 90
        assert client.outage is not None
        assert all(comic.succeeded for comic in await asyncio.gather(*creating))
    tried = [sent.at for sent in network.creates[1:] if sent.at < HOUR]
    assert len(tried) <= 130
    assert next(sent.at for sent in network.creates if sent.at >= HOUR) <= HOUR + 30
