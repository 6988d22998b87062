"""Queued jobs come into memory a few at a time, and none while the queue is held."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    BatchState,
    ComicJob,
    ComicQueue,
    InsufficientCreditsError,
    JournalError,
    Plan,
    RateLimit,
)
from llamagen_async.batch.journal.database import Database
from llamagen_async.batch.lifecycle import READ_AHEAD
from tests.support.machine import Machine, known
from tests.support.scripted import left_over, now

pytestmark = pytest.mark.virtual_time

ONE = Plan("one", limits=RateLimit(1, per=60))


@asynccontextmanager
async def opened(machine: Machine, **settings: Any) -> AsyncIterator[ComicQueue]:
    """A program with a queue, up to its end."""
    async with machine.open() as client:
        async with ComicQueue(client, machine.journal, **settings) as queue:
            yield queue
        assert not left_over()


async def test_urgent_jobs_go_first(tmp_path: Path) -> None:
    """Also before hundreds that wait on the disk."""
    machine = Machine(tmp_path, 10.0, plan=ONE)

    async with opened(machine) as queue:
        jobs = [await queue.submit(f"s{n}") for n in range(3 * READ_AHEAD)]
        urgent = await queue.submit("urgent", urgent=True)
        await queue.result(urgent)
        assert "urgent" in [sent.prompt for sent in machine.creates[:2]]
        assert (await known(queue, jobs[-1])).state is BatchState.QUEUED


@pytest.mark.once
async def test_jobs_are_served_in_order_and_few_are_in_memory(tmp_path: Path) -> None:
    """More than the read-ahead: all are made, first come first served."""
    machine = Machine(tmp_path, 5.0)
    number = 5 * READ_AHEAD

    async with opened(machine) as queue:
        jobs = await asyncio.gather(*(queue.submit(f"s{n}", key=f"{n}") for n in range(number)))
        waiting = 0
        for _ in range(200):
            entries = queue._lifecycle.tasks.values()
            waiting = max(waiting, sum(entry.state is BatchState.QUEUED for entry in entries))
            await asyncio.sleep(0)
        assert waiting <= READ_AHEAD
        await asyncio.gather(*map(queue.result, jobs))
    assert [sent.prompt for sent in machine.creates] == [f"s{n}" for n in range(number)]


CREDITS = InsufficientCreditsError(402, None, "no credits")
UNREACHED = APIConnectionError("no connection", request_sent=False)


@pytest.mark.once
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CREDITS, "the queue waits 5 s before it sends again.*the queue waits 300 s"),
        (UNREACHED, "the server has not answered since.*waiting for it.*it is back"),
    ],
    ids=["credits", "connection"],
)
async def test_a_queue_that_is_held_up_goes_on_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, said: str
) -> None:
    """A held queue tries again from time to time, with one job only; nobody is turned away."""
    machine = Machine(tmp_path, before=lambda sent: error if now() < 3_000 else None)

    async with opened(machine) as queue:
        jobs = [await queue.submit(f"s{n}") for n in range(20)]
        waiting = [asyncio.create_task(queue.result(job)) for job in jobs]
        following = asyncio.create_task(told(queue, jobs[0]))
        await asyncio.sleep(600)
        assert type(queue.held_by) is type(error)
        assert (await known(queue, jobs[0])).state is BatchState.QUEUED
        await asyncio.sleep(2_400)
        assert len(machine.sent) < 150
        comics = await asyncio.gather(*waiting)
        assert all(comic.succeeded for comic in comics)
        assert now() < 3_700
        assert queue.held_by is None
        events = await following
        assert any(type(event.error) is type(error) for event in events)
        assert events[-1].state is BatchState.SUCCEEDED
    assert set(machine.stories.values()) == {1}
    assert re.search(said, caplog.text, re.DOTALL)


async def told(queue: ComicQueue, job: ComicJob) -> list[ComicJob]:
    return [event async for event in queue.events(job)]


@pytest.mark.once
async def test_a_queue_waits_for_tomorrow(tmp_path: Path) -> None:
    """A day's quota that is used up is nothing that anybody has to be told."""
    day = Plan("day", limits=(RateLimit(10, per=60), RateLimit(6, per=86_400)))
    machine = Machine(tmp_path, plan=day)

    async with opened(machine) as queue:
        jobs = [await queue.submit(f"s{n}") for n in range(6)]
        comics = await asyncio.gather(*map(queue.result, jobs))
        assert all(comic.succeeded for comic in comics)
        assert 86_400 < now() < 4 * 86_400
    assert machine.refused == 0


async def test_a_disk_that_is_full_for_a_while_holds_the_queue_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that can't be recorded is sent, and a new job is refused; then it goes on."""
    machine = Machine(tmp_path, plan=ONE)
    transact = Database._transact

    def full(self: Database, operations: Any, *, write: bool) -> list[Any]:
        if write and 30 < now() < 2_000:
            raise JournalError("database or disk is full; make room on the disk")
        return transact(self, operations, write=write)

    monkeypatch.setattr(Database, "_transact", full)

    async with opened(machine) as queue:
        jobs = [await queue.submit(f"s{n}") for n in range(4)]
        await asyncio.sleep(1_000)
        assert machine.stories == {"s0": 1}
        assert isinstance(queue.held_by, JournalError)
        with pytest.raises(JournalError, match="full"):
            await queue.submit("new")
        for job in jobs:
            assert (await queue.result(job)).succeeded
    assert set(machine.stories.values()) == {1}
