"""Workers that end and leave their jobs to others: these go on at once, and none is forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from llamagen_async import BatchState, ClientClosedError, JournalError, Plan, RateLimit
from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.shared import SharedJournal
from llamagen_async.batch.journal.workers import BEAT
from tests.support.machine import Machine
from tests.support.workers import crew

pytestmark = pytest.mark.virtual_time

FIVE = Plan("five", limits=RateLimit(5, per=60))
ONE = Plan("one", limits=RateLimit(1, per=60))


async def test_who_closes_leaves_its_jobs_to_others_at_once(tmp_path: Path) -> None:
    """Nobody waits for a lease to run out; creates on their way are recorded before."""
    machine = Machine(tmp_path, 400.0, latency=1.0)

    async with crew(machine, 2) as (first, second):
        second.suspend()
        for n in range(3):
            await first.queue.submit(f"s{n}", key=f"k{n}")
        await asyncio.sleep(0.5)
        second.resume()
        await first.close()
        await asyncio.sleep(1)
        assert {task.state for task in second.queue._lifecycle.tasks.values()} == {
            BatchState.RUNNING
        }
        await asyncio.gather(*(second.queue.result(f"k{n}") for n in range(3)))
    assert set(machine.stories.values()) == {1}


async def test_what_waits_here_and_is_left_by_its_sender_goes_on(tmp_path: Path) -> None:
    """A worker that has it in memory as a job to be sent waits for the comic that it became."""
    machine = Machine(tmp_path, 40.0, plan=ONE)

    async with crew(machine, 2) as workers:
        for n in range(2):
            await workers[0].queue.submit(f"s{n}", key=f"k{n}")
        while (found := machine.rows("state, worker")[1])[0] != "running":  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)
        sender = next(one for one in workers if one.queue._journal.worker == found[1])
        other = workers[1 - workers.index(sender)]
        assert other.queue._lifecycle.tasks[2].state is BatchState.QUEUED
        await sender.close()
        await asyncio.sleep(200)
        assert machine.rows("state") == [("succeeded",)] * 2
    assert set(machine.stories.values()) == {1}


async def test_what_was_left_and_cannot_be_read_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(tmp_path, 100.0)
    read = SharedJournal.at
    fails = [2] * 3

    async def failing(self: SharedJournal, id_: int) -> Row:
        if id_ in fails:
            fails.remove(id_)
            raise JournalError("the disk does not answer")
        return await read(self, id_)

    monkeypatch.setattr(SharedJournal, "at", failing)
    async with crew(machine, 2) as (first, second):
        second.suspend()
        for n in range(3):
            await first.queue.submit(f"s{n}", key=f"k{n}")
        await asyncio.sleep(5)
        second.resume()
        await first.close()
        await asyncio.sleep(1)
        assert second.queue._lifecycle.tasks.keys() == {1, 3}
        await asyncio.sleep(3 * BEAT)
        assert second.queue._lifecycle.tasks.keys() == {1, 2, 3}
        await asyncio.sleep(120)
        assert machine.rows("state") == [("succeeded",)] * 3
    assert caplog.text.count("the disk does not answer") == 1


async def test_a_whole_host_can_be_restarted(tmp_path: Path) -> None:
    """The first that comes up again goes on with everything, without waiting."""
    machine = Machine(tmp_path, 400.0, plan=FIVE)

    async with crew(machine, 3) as workers:
        for n in range(8):
            await workers[n % 3].queue.submit(f"s{n}", key=f"k{n}")
        await asyncio.sleep(10)
        for one in workers:
            await one.kill()
    async with crew(machine, 2) as workers:
        assert len(workers[0].queue._lifecycle.tasks) >= 5
        await asyncio.gather(*(workers[1].queue.result(f"k{n}") for n in range(8)))
    assert set(machine.stories.values()) == {1}


async def test_a_client_that_is_closed_first_leaves_its_jobs_to_others(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 200.0)

    async with crew(machine, 2) as (first, second):
        second.suspend()
        await first.queue.submit("a", key="k")
        await asyncio.sleep(5)
        second.resume()
        waiting = asyncio.create_task(first.queue.result("k"))
        await asyncio.sleep(1)
        await first.client.aclose()
        with pytest.raises(ClientClosedError):
            await waiting
        assert (await second.queue.result("k")).succeeded
    assert Counter(machine.stories) == {"a": 1}


async def test_a_job_is_not_lost_with_a_reader_that_goes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was given up is waited for again when asked for, also without the reader."""
    machine = Machine(tmp_path, 1_000.0)

    async with crew(machine, 2, timeout=600.0) as (first, second):
        await first.queue.submit("slow", key="k")
        await asyncio.sleep(700)  # it was given up

        async def never(*_row: object, **_how: object) -> None:
            await asyncio.Event().wait()

        with monkeypatch.context() as patch:
            patch.setattr(second.queue._turns, "job", never)
            reading = asyncio.create_task(anext(second.queue.events("k")))
            while machine.rows("worker") != [(second.queue._journal.worker,)]:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.01)
            reading.cancel()
        await asyncio.sleep(500)
        assert machine.rows("state") == [("succeeded",)]
    assert machine.stories == {"slow": 1}
