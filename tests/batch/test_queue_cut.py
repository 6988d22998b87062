"""A job that a queue has recorded is seen to, though who asked for it was cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    BatchState,
    ComicQueue,
    LlamaGenError,
    Plan,
    RateLimit,
    SubmissionUncertainError,
)
from llamagen_async.batch.lifecycle import READ_AHEAD
from tests.support.machine import Machine
from tests.support.scripted import left_over

pytestmark = pytest.mark.virtual_time

ONE = Plan("one", limits=RateLimit(1, per=60))
STEPS = pytest.mark.parametrize("steps", range(9))
LASTING = pytest.mark.parametrize("lasting", [True, False])


async def cut_off(call: Coroutine[Any, Any, Any], steps: int) -> None:
    """Make a call, and cancel it after some steps of the event loop."""
    task = asyncio.ensure_future(call)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@STEPS
@LASTING
async def test_a_job_is_sent_though_its_submitter_left(
    tmp_path: Path, steps: int, *, lasting: bool
) -> None:
    """Else a job waits for the next one to come, even if it is submitted again."""
    machine = Machine(tmp_path, 40.0)

    async with machine.open() as client:
        async with ComicQueue(client, machine.journal if lasting else None) as queue:
            await asyncio.sleep(10)  # all that was there has been looked at
            await cut_off(queue.submit("a", key="k"), steps)
            await asyncio.sleep(1)
            is_recorded = await queue.get("k") is not None
            assert bool(machine.creates) is is_recorded
            job = await queue.submit("a", key="k")
            async with asyncio.timeout(300):
                assert (await queue.result(job)).succeeded
        assert not left_over()
    assert machine.stories == Counter({"a": 1})


@STEPS
async def test_who_follows_a_job_is_told_though_who_cancelled_it_left(
    tmp_path: Path, steps: int
) -> None:
    """Of a job that is not in memory nobody else would tell."""
    machine = Machine(tmp_path, 40.0, plan=ONE)

    async with machine.open() as client, ComicQueue(client, machine.journal) as queue:
        jobs = [await queue.submit(f"s{n}", key=f"k{n}") for n in range(READ_AHEAD + 5)]
        following = asyncio.create_task(queue.result(jobs[-1]))
        await asyncio.sleep(1)
        await cut_off(queue.cancel(jobs[-1]), steps)
        await asyncio.sleep(0.5)
        found = await queue.get(jobs[-1].key)
        assert found is not None
        assert following.done() is (found.state is BatchState.CANCELLED)
        await queue.cancel(jobs[-1])
        with pytest.raises(LlamaGenError, match="cancelled before it was sent"):
            await following
    assert not left_over()


@STEPS
async def test_an_uncertain_job_is_sent_again_though_who_said_so_left(
    tmp_path: Path, steps: int
) -> None:
    machine = Machine(
        tmp_path, 40.0, after=lambda sent: APIConnectionError("gone") if sent.n == 0 else None
    )

    async with machine.open() as client, ComicQueue(client, machine.journal) as queue:
        job = await queue.submit("a", key="k")
        with pytest.raises(SubmissionUncertainError):
            await queue.result(job)
        await asyncio.sleep(200)  # what the lost answer has held up goes on
        await cut_off(queue.resend(job), steps)
        await asyncio.sleep(200)
        found = await queue.get("k")
        assert found is not None
        assert found.state in (BatchState.UNCERTAIN, BatchState.SUCCEEDED)
        await queue.resend(job)
        async with asyncio.timeout(300):
            assert (await queue.result(job)).succeeded
    assert len(machine.creates) == 2
    assert not left_over()


@STEPS
async def test_closing_waits_for_what_is_being_recorded(tmp_path: Path, steps: int) -> None:
    """A job of which nobody knows whether it was recorded is sent by the next program, or new."""
    machine = Machine(tmp_path, 40.0)

    async with machine.open() as client:
        async with ComicQueue(client, machine.journal) as queue:
            submitting = asyncio.create_task(queue.submit("a", key="k"))
            for _ in range(steps):
                await asyncio.sleep(0)
            submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
        assert not left_over()
        async with ComicQueue(client, machine.journal) as queue:
            job = await queue.submit("a", key="k")
            assert (await queue.result(job)).succeeded
    assert machine.stories == Counter({"a": 1})
