"""Outages while many comics are made: held out and told of, and nothing but time is lost."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path

import attrs
import pytest

from llamagen_async import (
    APIConnectionError,
    Batch,
    BatchItem,
    BatchState,
    ComicQueue,
    InvalidResponseError,
    RequestKind,
    ServerError,
)
from llamagen_async.scheduling.circuit import TRIP
from tests.support.batches import Source, collect
from tests.support.machine import Machine, named, states
from tests.support.scripted import Network, Sent, minute, now

pytestmark = pytest.mark.virtual_time


async def first(batch: Batch) -> BatchItem:
    return await anext(aiter(batch))


UNREACHED = APIConnectionError("no connection", request_sent=False)


@pytest.mark.once
@pytest.mark.parametrize("seconds", [15, 60, 300, 1_500])
async def test_a_batch_outlasts_the_time_without_a_network(seconds: float) -> None:
    """All stories succeed, later by the outage and what it takes to notice its end."""
    network = Network(
        minute(), before=lambda sent: UNREACHED if 60 <= sent.at < 60 + seconds else None
    )
    async with network.client(max_retries=0) as client:
        items = await collect(client, named(40))
    assert states(items) == {BatchState.SUCCEEDED: 40}
    assert set(network.stories.values()) == {1}
    undisturbed = 4 * 60 + 4 * 60  # four a minute are started while others are checked
    assert now() <= undisturbed + seconds + 60


@pytest.mark.once
@pytest.mark.parametrize(
    "error",
    [
        ServerError(503, None, "away"),
        InvalidResponseError(200, None, "not JSON", "<html>"),
        APIConnectionError("broke off"),
    ],
    ids=str,
)
async def test_what_was_lost_before_it_was_noticed_is_all_that_is_uncertain(
    tmp_path: Path, error: ServerError
) -> None:
    machine = Machine(
        tmp_path, before=lambda sent: attrs.evolve(error) if 10 <= sent.at < 900 else None
    )
    machine.plan = attrs.evolve(machine.plan, limits=attrs.evolve(machine.plan.limits[0], limit=10))
    items = await machine.batch(named(60), timeout=3_600)
    assert states(items)[BatchState.UNCERTAIN] <= TRIP
    assert states(items)[BatchState.SUCCEEDED] >= 60 - TRIP
    assert len(machine.of(RequestKind.CREATE)) == 60


HOUR = 3_600.0
NOT_TAKEN = [UNREACHED, InvalidResponseError(302, None, "it points elsewhere", "")]
"""Failures of which it is certain that nothing was done."""


@pytest.mark.parametrize("error", NOT_TAKEN, ids=["unreached", "moved"])
@pytest.mark.parametrize("seconds", [60.0, HOUR])
async def test_creates_that_surely_were_not_taken_cost_no_more_than_a_window(
    error: Exception, seconds: float
) -> None:
    """Trying them again is free, so the end of an outage of creates is noticed at once."""
    ended, items = await without_creates(error, seconds)
    assert states(items) == {BatchState.SUCCEEDED: 40}
    assert ended <= UNDISTURBED + seconds + 60


@pytest.mark.parametrize(("seconds", "late", "lost"), [(300.0, 120.0, 6), (HOUR, HOUR / 10, 26)])
async def test_creates_that_may_have_been_taken_are_traded_for_time(
    seconds: float, late: float, lost: int
) -> None:
    """Each try may be one more uncertain story, so the end is noticed later by a stated time."""
    ended, items = await without_creates(ServerError(503, None, "away"), seconds)
    assert states(items)[BatchState.UNCERTAIN] <= lost
    assert ended <= UNDISTURBED + seconds + late + 60


UNDISTURBED = 4 * 60 + 4 * 60
"""Seconds that 40 comics of four minutes take: four a minute begin while others are checked."""


async def without_creates(error: Exception, seconds: float) -> tuple[float, list[BatchItem]]:
    """Run a batch through a time in which all but creates is answered."""

    def before(sent: Sent) -> Exception | None:
        is_away = sent.kind is RequestKind.CREATE and 60 <= sent.at < 60 + seconds
        return copy.copy(error) if is_away else None

    network = Network(minute(), before=before)
    async with network.client(max_retries=0) as client:
        items = await collect(client, named(40))
    return now(), items


async def test_progress_says_since_when_the_server_has_not_answered() -> None:
    network = Network(minute(), before=lambda sent: UNREACHED if sent.at < 100 else None)
    async with network.client() as client:
        batch = client.comics.batch(named(3))
        assert batch.progress.outage is None
        taking = asyncio.create_task(first(batch))
        await asyncio.sleep(50)
        assert batch.progress.outage == client.outage
        assert "the server has not answered since" in str(batch.progress.outage)
        assert "no connection" in str(batch.progress.outage)
        await taking
        assert batch.progress.outage is None
        await batch.aclose()


async def test_an_outage_does_not_have_the_input_read_to_its_end() -> None:
    """Stories that wait for the server count as waiting: a million fit."""
    source = Source(1_000)
    network = Network(minute(), before=lambda _sent: UNREACHED)
    async with network.client() as client:
        batch = client.comics.batch(source.plain())
        taking = asyncio.create_task(first(batch))
        await asyncio.sleep(1_000)
        assert source.read < 100
        taking.cancel()
        await batch.aclose()


async def test_running_jobs_of_a_queue_are_collected_after_any_outage(tmp_path: Path) -> None:
    """A queue collects what runs, whatever number of checks has failed."""
    machine = Machine(tmp_path, before=lambda sent: UNREACHED if 10 <= sent.at < 1_200 else None)
    async with machine.open() as client, ComicQueue(client, machine.journal) as queue:
        jobs = [await queue.submit(story) for story in named(5)]
        await asyncio.sleep(600)
        assert isinstance(queue.held_by, APIConnectionError)
        jobs.append(await queue.submit("late"))
        comics = await asyncio.gather(*map(queue.result, jobs))
        assert all(comic.succeeded for comic in comics)
        assert queue.held_by is None
    assert now() < 1_400
    assert set(machine.stories.values()) == {1}


async def test_a_batch_that_is_left_in_an_outage_goes_on_in_the_next_run(tmp_path: Path) -> None:
    """A story that was never sent is queued, whatever was tried."""
    machine = Machine(tmp_path, before=lambda sent: UNREACHED if sent.at < 300 else None)
    async with machine.open() as client:
        batch = client.comics.batch(named(5), journal=machine.journal)
        taking = asyncio.create_task(first(batch))
        await asyncio.sleep(200)
        taking.cancel()
        await batch.aclose()
    assert {state for state, _ in machine.rows()} == {"queued"}
    items = await machine.batch(named(5))
    assert states(items) == {BatchState.SUCCEEDED: 5}
    assert all(item.error is None for item in items)
