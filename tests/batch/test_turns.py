"""Where jobs stand in the queue, when they should be done, and how they leave it unpaid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    BatchState,
    ComicJob,
    ComicQueue,
    InsufficientCreditsError,
    InvalidRequestError,
    LlamaGenError,
    Plan,
    RateLimit,
)
from llamagen_async.batch.events import Mark
from tests.support.machine import Machine, known
from tests.support.scripted import left_over, now

pytestmark = pytest.mark.virtual_time

ONE = Plan("one", limits=RateLimit(1, per=60), metered={"create"})
QUEUED, RUNNING, CANCELLED = BatchState.QUEUED, BatchState.RUNNING, BatchState.CANCELLED


@asynccontextmanager
async def opened(machine: Machine, **settings: Any) -> AsyncIterator[ComicQueue]:
    """A program with a queue, up to its end."""
    async with machine.open() as client:
        async with ComicQueue(client, machine.journal, **settings) as queue:
            yield queue
        assert not left_over()


async def all_events(queue: ComicQueue, job: ComicJob | str, **given: Any) -> list[ComicJob]:
    return [event async for event in queue.events(job, **given)]


async def test_a_follower_is_told_of_each_position_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path, plan=ONE)

    async with opened(machine) as queue:
        jobs = [await queue.submit(f"s{n}") for n in range(5)]
        events = await all_events(queue, jobs[-1])
        positions = [event.position or 0 for event in events if event.state is QUEUED]
        assert positions[0] in (4, 5)
        assert positions[-1] == 1
        assert positions == sorted(set(positions), reverse=True)
        assert all(event.position is None for event in events if event.state is not QUEUED)
        marks = [str(event.mark) for event in events]
        assert len(set(marks)) == len(marks)


async def test_urgent_jobs_and_cancelled_ones_move_the_others(tmp_path: Path) -> None:
    machine = Machine(tmp_path, plan=ONE)

    async with opened(machine) as queue:
        await queue.submit("first")
        await asyncio.sleep(1)
        a, b, c = [await queue.submit(name, key=name) for name in "abc"]
        assert [(await known(queue, job)).position for job in (a, b, c)] == [1, 2, 3]
        urgent = await queue.submit("urgent", urgent=True)
        assert urgent.position == 1
        assert (await known(queue, c)).position == 4
        await queue.cancel(a)
        assert (await known(queue, c)).position == 3
        listed = {job.key: job.position for job in await queue.list(QUEUED)}
        assert listed == {urgent.key: 1, "b": 2, "c": 3}
        assert await queue.waiting() == 3


@pytest.mark.parametrize("number", [1, 4, 12])
async def test_jobs_are_done_when_they_were_expected(tmp_path: Path, number: int) -> None:
    """The time that is told at the beginning is right to within a third."""
    machine = Machine(tmp_path, 60.0, plan=ONE)

    async with opened(machine) as queue:
        for n in range(number):
            job = await queue.submit(f"s{n}")
        assert job.expected_at is not None
        said = (job.expected_at - datetime.now(UTC)).total_seconds()
        before = now()
        await queue.result(job)
        assert 0.66 <= (now() - before) / said <= 1.5
        assert (await known(queue, job)).expected_at is None


@pytest.mark.parametrize(
    "error",
    [
        InsufficientCreditsError(402, None, "no credits"),
        APIConnectionError("no connection", request_sent=False),
    ],
    ids=["credits", "outage"],
)
async def test_nothing_is_expected_while_nobody_can_know(tmp_path: Path, error: Exception) -> None:
    machine = Machine(tmp_path, before=lambda sent: error if now() < 1_000 else None)

    async with opened(machine) as queue:
        job = await queue.submit("a")
        await asyncio.sleep(500)
        assert (await known(queue, job)).expected_at is None
        assert (await queue.result(job)).succeeded


async def test_a_cancelled_job_is_never_sent(tmp_path: Path) -> None:
    """Not in this run, not in the next, not by another key's order; who waits for it is told."""
    machine = Machine(tmp_path, plan=ONE)

    async with opened(machine) as queue:
        first = await queue.submit("first")
        job = await queue.submit("a", key="a")
        following = asyncio.create_task(all_events(queue, job))
        waiting = asyncio.create_task(queue.result(job))
        await asyncio.sleep(5)
        cancelled = await queue.cancel(job)
        assert cancelled.state is CANCELLED
        assert (await following)[-1].state is CANCELLED
        with pytest.raises(LlamaGenError, match="cancelled before it was sent"):
            await waiting
        assert (await queue.cancel("a")).state is CANCELLED
        assert (await queue.submit("a", key="a")).state is CANCELLED
        assert (await queue.result(first)).succeeded
    async with opened(machine) as queue:
        await asyncio.sleep(1_000)
        assert (await known(queue, job)).state is CANCELLED
        assert (await queue.result(await queue.submit("b"))).succeeded
    assert machine.stories == {"first": 1, "b": 1}


@pytest.mark.once
@pytest.mark.parametrize("turns", range(14))
async def test_a_job_is_cancelled_or_sent_and_never_both(tmp_path: Path, turns: int) -> None:
    """Whatever moment the cancellation comes at: before its turn, while its intent is written."""
    machine = Machine(tmp_path)

    async with opened(machine) as queue:
        job = await queue.submit("a")
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled = await queue.cancel(job)
        other = await queue.submit("b")
        assert (await queue.result(other)).succeeded
        final = (await all_events(queue, job))[-1]
        assert (final.state is CANCELLED) == (cancelled.state is CANCELLED)
        assert machine.stories["a"] == (0 if final.state is CANCELLED else 1)
        assert queue.held_by is None


async def test_a_job_that_somebody_else_has_cancelled_holds_nothing_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal says no when its turn comes, and the next one is sent."""
    machine = Machine(tmp_path, plan=ONE)

    async with opened(machine) as queue:
        await queue.submit("first")
        job = await queue.submit("a")
        other = await queue.submit("b")
        await asyncio.sleep(1)
        row = await queue._journal.get(job.key)
        assert row is not None
        await queue._journal.change(row, CANCELLED, origins=(QUEUED,))
        assert (await queue.result(other)).succeeded
        assert (await known(queue, job)).state is CANCELLED
        assert queue._lifecycle.budget.spending.credits == 2 * 600
    assert machine.stories == {"first": 1, "b": 1}
    assert "the queue waits" not in caplog.text


async def test_a_job_that_was_sent_is_not_cancelled(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    async with opened(machine) as queue:
        job = await queue.submit("a")
        await asyncio.sleep(30)
        assert (await queue.cancel(job)).state is RUNNING
        assert (await queue.result(job)).succeeded
        assert (await queue.cancel(job)).state is BatchState.SUCCEEDED
        with pytest.raises(InvalidRequestError, match=r"^job: got 'z'"):
            await queue.cancel("z")


async def test_jobs_far_down_the_journal_are_cancelled_too(tmp_path: Path) -> None:
    machine = Machine(tmp_path, plan=ONE)

    async with opened(machine) as queue:
        jobs = [await queue.submit(f"s{n}") for n in range(80)]
        for job in jobs[1:]:
            await queue.cancel(job)
        assert await queue.waiting() <= 1
        await asyncio.sleep(1_000)
    assert machine.stories == {"s0": 1}


async def test_jobs_are_listed_from_the_newest_on(tmp_path: Path) -> None:
    """Page after page, also while new ones come."""
    machine = Machine(tmp_path)

    async with opened(machine) as queue:
        for n in range(7):
            await queue.submit(f"s{n}", key=f"{n}")
        page = await queue.list(limit=3)
        assert [job.key for job in page] == ["6", "5", "4"]
        await queue.submit("new", key="new")
        page = await queue.list(limit=3, after=page[-1].key)
        assert [job.key for job in page] == ["3", "2", "1"]
        assert [job.key for job in await queue.list(after="1")] == ["0"]
        assert await queue.list(after="0") == []
        assert await queue.list(BatchState.FAILED) == []
        with pytest.raises(InvalidRequestError, match=r"^after: got 'z'"):
            await queue.list(after="z")
        with pytest.raises(InvalidRequestError, match=r"^limit: got 0"):
            await queue.list(limit=0)


async def test_a_reader_goes_on_after_any_event_without_gap_or_double(tmp_path: Path) -> None:
    """Wherever it was cut off, and whatever program it asks then."""
    machine = Machine(tmp_path, plan=ONE)

    async with opened(machine) as queue:
        await queue.submit("first")
        job = await queue.submit("a", key="a")
        events = await all_events(queue, job)
        marks = [str(event.mark) for event in events]
        assert [event.state for event in events][-2:] == [RUNNING, BatchState.SUCCEEDED]
    async with opened(machine) as queue:
        for number, mark in enumerate(marks):
            again = await all_events(queue, "a", after=mark)
            durable = {RUNNING, BatchState.SUCCEEDED}
            expected = [one for one in events[number + 1 :] if one.state in durable]
            assert [str(one.mark) for one in again] == [str(one.mark) for one in expected]
            assert [one.state for one in again] == [one.state for one in expected]
        for wrong in ("", "x", "-1", "9" * 50, "1.2.3", "\u0663"):
            assert len(await all_events(queue, "a", after=wrong)) == 1


async def test_a_reader_that_comes_back_while_a_job_waits(tmp_path: Path) -> None:
    machine = Machine(tmp_path, plan=ONE)

    async with opened(machine) as queue:
        for n in range(3):
            job = await queue.submit(f"s{n}")
        async with aclosing(queue.events(job)) as events:
            first = await anext(events)
        rest = await all_events(queue, job, after=str(first.mark))
        assert rest[0].mark != first.mark
        assert rest[-1].state is BatchState.SUCCEEDED


def test_marks_grow_with_whatever_a_job_goes_through() -> None:
    """Sent in vain, sent again after uncertainty, and done: each number is higher."""
    way = [
        (0, QUEUED),
        (1, BatchState.SENDING),
        (1, QUEUED),
        (2, BatchState.SENDING),
        (2, BatchState.UNCERTAIN),
        (2, QUEUED),
        (3, BatchState.SENDING),
        (3, RUNNING),
        (3, BatchState.SUCCEEDED),
    ]
    serials = [Mark.of(*one).serial for one in way]
    assert serials == sorted(set(serials))
    for attempts, state in way:
        mark = Mark.of(attempts, state, 7)
        assert Mark.parse(str(mark)) == mark
        assert mark.position == 7


async def test_a_queue_says_when_there_is_room_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, plan=ONE)

    async with opened(machine) as queue:
        assert await queue.next_turn() <= 60
        await queue.submit("a")
        await queue.submit("b")
        await asyncio.sleep(2)
        assert 50 <= await queue.next_turn() <= 60


def test_the_time_of_a_job_is_known_to_the_second() -> None:
    """Times are in UTC, so that they can be compared with any other."""
    at = datetime.now(UTC)
    job = ComicJob("k", QUEUED, 0, at, at, position=2)
    assert job.mark == Mark(2, 2)
    assert not job.follows(job.mark)
    assert job.at.utcoffset() == timedelta(0)
