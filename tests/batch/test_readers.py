"""A wait for the next item or event that is cut short does not pass for the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import BatchItem, BatchState, ClientClosedError, ComicQueue, Plan, RateLimit
from llamagen_async.batch.batch import Batch
from tests.support.machine import ROOMY, Machine, named
from tests.support.scripted import left_over

pytestmark = pytest.mark.virtual_time


async def rest(steps: AsyncIterable[Any]) -> list[Any]:
    return [step async for step in steps]


async def test_a_reader_of_events_waits_for_a_while_again_and_again(tmp_path: Path) -> None:
    """A stream with a comment every few seconds does so; each event comes once."""
    machine = Machine(tmp_path, 40.0)

    async with machine.open() as client, ComicQueue(client, machine.journal) as queue:
        job = await queue.submit("a")
        events = queue.events(job)
        states: list[BatchState] = []
        pauses = 0
        while BatchState.SUCCEEDED not in states:
            try:
                states.append((await asyncio.wait_for(anext(events), 5)).state)
            except TimeoutError:
                pauses += 1
        assert states == list(dict.fromkeys(states))
        assert states[0] is BatchState.QUEUED
        assert BatchState.RUNNING in states
        assert pauses > 2
        with pytest.raises(StopAsyncIteration):
            await anext(events)
    assert not left_over()


async def test_events_whose_reader_was_cut_off_can_be_closed(tmp_path: Path) -> None:
    """Nothing more comes then, and nobody follows the job any more."""
    machine = Machine(tmp_path, 40.0)

    async with machine.open() as client, ComicQueue(client, machine.journal) as queue:
        job = await queue.submit("a")
        events = queue.events(job)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rest(events), 10)
        await events.aclose()
        assert await rest(events) == []
        assert job.key not in queue._subscriptions
        thrown = queue.events(job)
        await anext(thrown)
        with pytest.raises(KeyError):
            await thrown.athrow(KeyError("odd"))
        assert await rest(thrown) == []
        assert job.key not in queue._subscriptions
    assert not left_over()


@pytest.mark.parametrize("taken", [0, 2])
async def test_a_batch_that_was_cut_short_has_not_ended(tmp_path: Path, taken: int) -> None:
    """The wait for the next item tells that the batch has stopped; another batch goes on."""
    machine = Machine(tmp_path, 40.0, plan=Plan("four", limits=RateLimit(4, per=60)))

    async with machine.open() as client:
        batch = client.comics.batch(named(6), journal=machine.journal)
        for _ in range(taken):
            await anext(aiter(batch))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rest(batch), 5)
        for _ in range(2):
            with pytest.raises(ClientClosedError, match="with the same journal goes on"):
                await anext(aiter(batch))
        assert not left_over()
        items = await rest(client.comics.batch(named(6), journal=machine.journal))
    assert [item.state for item in items] == [BatchState.SUCCEEDED] * 6
    assert set(machine.stories.values()) == {1}


async def test_several_tasks_take_the_items_of_one_batch(tmp_path: Path) -> None:
    """Each item goes to one of them; all of them end with the batch."""
    machine = Machine(tmp_path, 40.0, plan=ROOMY)

    async def worker(batch: Batch) -> list[BatchItem]:
        taken: list[BatchItem] = []
        async for item in batch:
            await asyncio.sleep(1)  # what is done with it
            taken.append(item)
        return taken

    async with machine.open() as client:
        batch = client.comics.batch(named(30), journal=machine.journal)
        taken = await asyncio.gather(*(worker(batch) for _ in range(3)))
    assert all(taken)
    assert sorted(item.index for items in taken for item in items) == list(range(30))
    assert not left_over()
