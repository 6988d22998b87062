"""Leaving, closing or cancelling a batch: nothing more is sent, and no task is left."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llamagen_async import (
    BatchState,
)
from llamagen_async.simulation import run
from tests.support.batches import FORMS, Source, collect, roomy
from tests.support.machine import ROOMY, Machine, named, states
from tests.support.scripted import Network, left_over, minute, now

pytestmark = pytest.mark.virtual_time


async def settle() -> None:
    """Let what is on its way out go."""
    for _ in range(20):
        await asyncio.sleep(0)


@FORMS
async def test_leaving_the_block_stops_the_batch(form: str) -> None:
    """After `async with` no task is left, nothing more is sent, and the source is closed."""
    network = Network(minute(30.0))
    source = Source(50)

    async with network.client() as client:
        async with client.comics.batch(source.stories(form)) as batch:
            async for _item in batch:
                break
        assert batch.progress.running
        await settle()
        sent = len(network.sent)
        assert source.closed
        await asyncio.sleep(600)
        assert len(network.sent) == sent
        assert not left_over()


def test_breaking_out_of_the_loop_stops_the_batch() -> None:
    """A plain `break` is enough: nothing more is created, without the garbage collector's help."""
    network = Network(minute(30.0))

    async def main() -> None:
        async with network.client() as client:
            async for _item in client.comics.batch(named(50)):
                break
            await settle()
            sent = len(network.creates)
            await asyncio.sleep(600)
            assert len(network.creates) == sent
            assert not left_over()

    gc.collect()
    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()


async def test_the_input_may_end_its_own_batch() -> None:
    """Nothing waits for itself: who iterates gets the end, and what was read last is not sent."""
    network = Network(minute(30.0))

    async with network.client() as client:

        async def stories() -> AsyncIterator[str]:
            yield "one"
            await settle()
            await batch.aclose()
            yield "two"

        batch = client.comics.batch(stories())
        assert [item async for item in batch] == []
        await asyncio.sleep(600)
        assert network.stories == {"one": 1}
        assert not left_over()


async def test_closing_is_fine_at_any_time() -> None:
    """Before the first item, after the last, and twice."""
    network = roomy()

    async with network.client(ROOMY) as client:
        batch = client.comics.batch(["a"])
        await batch.aclose()
        assert [item async for item in batch] == []
        batch = client.comics.batch(["b"])
        aiter(batch)
        await batch.aclose()
        batch = client.comics.batch(["c"])
        assert len([item async for item in batch]) == 1
        assert [item async for item in batch] == []
        await batch.aclose()
        await batch.aclose()
        assert not left_over()
    assert network.stories == {"c": 1}


async def test_another_task_may_close_the_batch() -> None:
    """A program that shuts down closes the batch under the loop that reads it."""
    network = roomy(600.0)

    async with network.client(ROOMY) as client:
        batch = client.comics.batch(named(3))

        async def read() -> int:
            return len([item async for item in batch])

        reading = asyncio.create_task(read())
        await asyncio.sleep(5)
        await batch.aclose()
        assert await reading == 0
        assert not left_over()


@pytest.mark.parametrize("when", [0.0, 0.5, 45.0, 200.0])
async def test_a_cancelled_batch_leaves_nothing(when: float) -> None:
    """A reader may be cancelled at any time: no task, no slot and no create is left."""
    network = Network(minute(), latency=1.0)

    async with network.client() as client:
        reading = asyncio.create_task(collect(client, named(40)))
        await asyncio.sleep(when)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert reading.cancelled()
        await asyncio.sleep(10)
        assert (await client.limits()).in_flight == 0
        sent = len(network.sent)
        await asyncio.sleep(600)
        assert len(network.sent) == sent
        assert not left_over()


async def test_closing_the_client_ends_its_batches() -> None:
    """Every story of a batch whose client closes is told; nothing hangs."""
    network = Network(minute(600.0))

    client = network.client()
    reading = asyncio.create_task(collect(client, named(15)))
    await asyncio.sleep(70)
    await client.aclose()
    items = await reading
    assert now() < 75
    assert len(items) == 15
    assert all(item.error is not None for item in items)
    assert states(items) == {BatchState.RUNNING: 15} or BatchState.QUEUED in states(items)


@pytest.mark.parametrize("number", [1, 3])
async def test_a_client_that_is_closed_waits_until_its_journals_are_written(
    tmp_path: Path, number: int
) -> None:
    """A create that hangs is given up with the client; that it may be paid for is on disk then."""
    machine = Machine(tmp_path, latency=10_000.0)
    async with machine.open() as client:
        batch = client.comics.batch(named(number), journal=machine.journal)
        async with batch:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await anext(aiter(batch))
    assert not left_over()
    assert {state for state, _ in machine.rows()} == {"uncertain"}
