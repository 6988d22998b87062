"""Several workers on one journal: each job is one worker's at a time, and all can tell of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async import (
    BatchState,
    ComicJob,
    ComicQueue,
    GenerationFailedError,
    InvalidRequestError,
    JournalError,
    LlamaGenError,
    Plan,
    RateLimit,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.workers import BEAT, LEASE
from llamagen_async.sandbox import Fault
from llamagen_async.webhooks import WebhookEvent
from tests.support.journals import added
from tests.support.machine import Machine, Pictures, fetching, known
from tests.support.scripted import left_over
from tests.support.workers import Station, crew

pytestmark = pytest.mark.virtual_time

FIVE = Plan("five", limits=RateLimit(5, per=60))
ONE = Plan("one", limits=RateLimit(1, per=60))
SUCCEEDED, UNCERTAIN = BatchState.SUCCEEDED, BatchState.UNCERTAIN


async def followed(queue: ComicQueue, key: str, after: str | None = None) -> list[BatchState]:
    return [event.state async for event in queue.events(key, after=after)]


async def test_any_worker_can_do_everything_with_any_job(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    async with crew(machine, 3) as workers:
        queues = [one.queue for one in workers]
        for n in range(6):
            await queues[n % 3].submit(f"s{n}", key=f"k{n}")
        following = [
            asyncio.create_task(followed(queue, f"k{n}")) for n in range(6) for queue in queues
        ]
        for n in range(6):
            comic = await queues[(n + 1) % 3].result(f"k{n}")
            assert comic.raw["prompt"] == f"s{n}"
        for states in await asyncio.gather(*following):
            assert states[-1] is SUCCEEDED
            assert BatchState.RUNNING in states
            ranked = [one for one in states if one is not BatchState.QUEUED]
            assert ranked == sorted(set(ranked), key=list(BatchState).index)
        for queue in queues:
            listed = await queue.list()
            assert {job.state for job in listed} == {SUCCEEDED}
    assert not left_over()
    assert set(machine.stories.values()) == {1}
    assert machine.refused == 0
    assert [sent.prompt for sent in machine.creates] == [f"s{n}" for n in range(6)]


async def test_the_same_key_is_the_same_job_whatever_worker_it_meets(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    async with crew(machine, 4) as workers:
        jobs = await asyncio.gather(*(one.queue.submit("a", key="k") for one in workers))
        assert {job.key for job in jobs} == {"k"}
        with pytest.raises(InvalidRequestError, match="another one"):
            await workers[1].queue.submit("b", key="k")
        results = await asyncio.gather(*(one.queue.result("k") for one in workers))
        assert len({comic.id for comic in results}) == 1
    assert machine.stories == {"a": 1}


async def test_a_job_of_another_worker_can_be_cancelled_unpaid(tmp_path: Path) -> None:
    machine = Machine(tmp_path, plan=ONE)

    async with crew(machine, 2) as (first, second):
        for n in range(3):
            await first.queue.submit(f"s{n}", key=f"k{n}")
        await asyncio.sleep(1)
        following = asyncio.create_task(followed(first.queue, "k2"))
        await asyncio.sleep(1)
        assert (await second.queue.cancel("k2")).state is BatchState.CANCELLED
        assert (await following)[-1] is BatchState.CANCELLED
        assert (await second.queue.cancel("k0")).state is not BatchState.CANCELLED
        await first.queue.result("k1")
    assert machine.stories == {"s0": 1, "s1": 1}


async def test_what_a_killed_worker_waited_for_is_collected_by_another(tmp_path: Path) -> None:
    """The comic that was paid for is polled by its id; nothing is created again."""
    machine = Machine(tmp_path, 120.0)

    async with crew(machine, 2) as (first, second):
        second.suspend()
        for n in range(4):
            await first.queue.submit(f"s{n}", key=f"k{n}")
        await asyncio.sleep(10)
        second.resume()
        await first.kill()
        results = await asyncio.gather(*(second.queue.result(f"k{n}") for n in range(4)))
        assert {comic.raw["prompt"] for comic in results} == {f"s{n}" for n in range(4)}
    assert set(machine.stories.values()) == {1}


@pytest.mark.parametrize("answers", [True, False])
async def test_what_a_dead_worker_was_sending_is_uncertain(
    tmp_path: Path, *, answers: bool
) -> None:
    """As after a crash today; a worker that was only suspended tells what it knows after all."""
    machine = Machine(tmp_path, 300.0, latency=2.0)

    async with crew(machine, 2) as (first, second):
        second.suspend()
        await first.queue.submit("a", key="k")
        await asyncio.sleep(0.5)
        assert machine.rows() == [("sending", None)]
        second.resume()
        following = asyncio.create_task(followed(second.queue, "k"))
        await asyncio.sleep(0)
        if answers:
            first.suspend()
        else:
            await first.kill()
        await asyncio.sleep(LEASE + 2 * BEAT)
        assert (
            await known(second.queue, await second.queue.submit("a", key="k"))
        ).state is UNCERTAIN
        assert (await following)[-1] is UNCERTAIN
        with pytest.raises(SubmissionUncertainError):
            await second.queue.result("k")
        if answers:
            first.resume()
            await asyncio.sleep(1)
            assert (await second.queue.result("k")).raw["prompt"] == "a"
    assert machine.stories == {"a": 1}


@pytest.mark.once
@pytest.mark.parametrize("stopped", [0.0, 0.1])
async def test_a_worker_that_was_suspended_sends_nothing_that_another_has(
    tmp_path: Path, stopped: float
) -> None:
    """Past its lease it finds that its jobs are taken, right before the request would leave."""
    machine = Machine(tmp_path, 300.0, latency=0.2)

    async with crew(machine, 2) as (first, second):
        second.suspend()
        for n in range(20):
            await first.queue.submit(f"s{n}", key=f"k{n}")
        await asyncio.sleep(stopped)
        first.suspend()
        second.resume()
        await asyncio.sleep(100)
        assert len(machine.creates) == 20
        first.resume()
        for n in range(20):
            assert (await second.queue.get(f"k{n}")) is not None
        results = await asyncio.gather(
            *(first.queue.result(f"k{n}") for n in range(20)), return_exceptions=True
        )
        lost = [one for one in results if isinstance(one, BaseException)]
        assert all(isinstance(one, SubmissionUncertainError) for one in lost), lost
    assert set(machine.stories.values()) == {1}
    assert machine.refused == 0


async def test_events_go_on_at_another_worker_without_gap_or_double(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 120.0, plan=ONE)

    async with crew(machine, 3) as workers:
        for n in range(3):
            await workers[0].queue.submit(f"s{n}", key=f"k{n}")
        seen: list[tuple[str, BatchState]] = []
        turn = 0
        while not seen or seen[-1][1] is not SUCCEEDED:
            after = seen[-1][0] if seen else None
            async for event in workers[turn % 3].queue.events("k2", after=after):
                seen.append((str(event.mark), event.state))
                break
            turn += 1
        marks = [mark for mark, _ in seen]
        assert len(marks) == len(set(marks)), seen
        states = [state for _, state in seen]
        assert BatchState.RUNNING in states
    assert set(machine.stories.values()) == {1}


async def test_pictures_are_fetched_once_and_told_by_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = Pictures()
    monkeypatch.setattr("llamagen_async.comics.Comics.download", fetching(pictures))
    machine = Machine(tmp_path)

    async with crew(machine, 3, out=tmp_path / "out") as workers:
        for n in range(6):
            await workers[n % 3].queue.submit(f"s{n}", key=f"k{n}")
        for n in range(6):
            for one in workers:
                events = [event async for event in one.queue.events(f"k{n}")]
                assert len(events[-1].files) == 2
    assert len(pictures.fetched) == 6


@pytest.mark.once
async def test_who_follows_at_another_worker_hears_why_a_job_was_given_up(tmp_path: Path) -> None:
    """And asking again waits again, whoever is asked."""
    machine = Machine(tmp_path, 1_500.0)

    async with crew(machine, 2, timeout=600.0) as (first, second):
        second.suspend()
        await first.queue.submit("slow", key="k")
        await asyncio.sleep(5)
        second.resume()
        with pytest.raises(WaitTimeoutError):
            await second.queue.result("k")
        told = await second.queue.get("k")
        assert told is not None
        assert (told.state, type(told.error)) == (BatchState.RUNNING, WaitTimeoutError)
        with pytest.raises(WaitTimeoutError):
            await second.queue.result("k")
        assert (await first.queue.result("k")).succeeded
    assert machine.stories == {"slow": 1}


@pytest.mark.once
async def test_creates_go_out_in_the_order_of_arrival(tmp_path: Path) -> None:
    machine = Machine(tmp_path, plan=Plan("ten", limits=RateLimit(10, per=60)), latency=0.3)

    async with crew(machine, 4) as workers:
        for n in range(24):
            await workers[n * 7 % 4].queue.submit(f"s{n}", key=f"k{n}")
            await asyncio.sleep(0.05)
        await asyncio.gather(*(workers[0].queue.result(f"k{n}") for n in range(24)))
    order = [int(sent.prompt[1:]) for sent in machine.creates]
    late = [sum(other > one for other in order[:place]) for place, one in enumerate(order)]
    assert max(late) < 4, order


async def test_who_has_waited_longest_elsewhere_goes_first(tmp_path: Path) -> None:
    """The store of the jobs may know better than this process since when each of them waits."""
    machine = Machine(tmp_path, plan=ONE)

    async with crew(machine, 1) as (only,):
        await only.queue.submit("s0", key="k0")
        await only.queue.result("k0")
        wait = only.queue._journal.waiting

        async def known_better(**asked: Any) -> list[Row]:
            return [attrs.evolve(row, since=-float(row.id)) for row in await wait(**asked)]

        only.queue._journal.waiting = known_better  # type: ignore[method-assign]  # as in Redis
        for n in range(1, 5):
            await only.queue.submit(f"s{n}", key=f"k{n}")
        await asyncio.gather(*(only.queue.result(f"k{n}") for n in range(1, 5)))
    assert [sent.prompt for sent in machine.creates] == ["s0", "s4", "s3", "s2", "s1"]


async def test_a_new_job_goes_after_those_that_others_have_taken(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    async with crew(machine, 2) as (first, second):
        await asyncio.sleep(1)
        for n in range(3):  # the first one is too busy to send them
            await added(first.queue._journal, f"s{n}", f"k{n}")
        await second.queue.submit("s3", key="k3")
        await second.queue.result("k3")
    assert [sent.prompt for sent in machine.creates] == ["s0", "s1", "s2", "s3"]


@pytest.mark.parametrize("fails", [False, True])
async def test_what_ends_while_somebody_begins_to_follow_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    """Between the first look at a job and the news of it nothing is missed, also if the journal
    can't be read at that moment and nobody writes to it ever after.
    """
    machine = Machine(tmp_path, 60.0)

    async with crew(machine, 2) as (first, second):
        second.suspend()
        await first.queue.submit("a", key="k")
        await asyncio.sleep(5)
        second.resume()
        turns, journal = second.queue._turns, second.queue._journal
        read, marks = turns.job, journal.marks

        async def slowly(row: Row, **more: Any) -> ComicJob:
            job = await read(row, **more)
            await asyncio.sleep(100)
            await first.close()
            await asyncio.sleep(100)
            return job

        async def badly(keys: list[str]) -> Any:
            monkeypatch.setattr(journal, "marks", marks)
            raise JournalError("not now")

        monkeypatch.setattr(turns, "job", slowly)
        if fails:
            monkeypatch.setattr(journal, "marks", badly)
        async with asyncio.timeout(1_000):
            states = await followed(second.queue, "k")
        assert states == [BatchState.RUNNING, SUCCEEDED]


async def test_panels_are_told_at_other_workers_as_they_are_drawn(tmp_path: Path) -> None:
    """Each event has more of them, and a reader that comes back has nothing twice."""
    faults = {"faults": [Fault("early-pictures")]}
    machine = Machine(tmp_path, 100.0, Plan("sixty", limits=RateLimit(60, per=60)), service=faults)

    async with crew(machine, 2) as (first, second):
        second.suspend()
        await first.queue.submit({"prompt": "a", "fix_panel_num": 4}, key="k")
        await asyncio.sleep(2)
        second.resume()
        events = [event async for event in second.queue.events("k")]
        running = [event for event in events if event.state is BatchState.RUNNING]
        drawn = [sum(one.asset_url is not None for one in event.panels) for event in running]
        assert drawn == sorted(set(drawn))
        assert 0 < drawn[-1] <= 4
        for event in running:
            assert await followed(second.queue, "k", after=str(event.mark)) == [SUCCEEDED]
    assert machine.stories == {"a": 1}


async def test_a_batch_and_a_queue_refuse_each_other_by_name(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    async with crew(machine, 2), machine.open() as client:
        with pytest.raises(JournalError, match="a queue works with this journal"):
            async for _ in client.comics.batch(["a"], journal=machine.journal):
                pass
    async with (
        machine.open() as client,
        client.comics.batch(["a"], journal=machine.journal) as batch,
    ):
        await anext(aiter(batch))
        queue = ComicQueue(client, machine.journal)
        with pytest.raises(JournalError, match="works with this journal alone, as batches"):
            await queue.submit("b")
        await queue.aclose()
    async with crew(machine, 1) as (only,):
        assert [job.state for job in await only.queue.list()] == [SUCCEEDED]


async def test_workers_of_another_key_are_refused(tmp_path: Path) -> None:
    """Also before anything was accepted: what runs for two keys must not be in one file."""
    machine = Machine(tmp_path)

    async with crew(machine, 1):
        machine.url = "https://another.invalid"
        other = Station(machine)
        with pytest.raises(JournalError, match="talks to"):
            await other.start()
        await other.queue.aclose()
        await other.client.aclose()


async def test_a_webhook_event_reaches_the_worker_that_waits(tmp_path: Path) -> None:
    """The vendor sends it to any of them; no status check is spent by who waits."""
    machine = Machine(tmp_path, 500.0)

    async with crew(machine, 3) as (first, second, third):
        second.suspend()
        third.suspend()
        await first.queue.submit("a", key="k")
        await asyncio.sleep(5)
        second.resume()
        third.resume()
        job = await known(second.queue, await second.queue.submit("a", key="k"))
        assert job.generation is not None
        fields = {**job.generation.raw, "status": "FAILED"}
        event = WebhookEvent.parse({"type": "comic.generation.failed", "data": fields})
        assert not second.client.deliver(event)
        checks = len(machine.checks)
        await second.queue.announce(event.raw)
        with pytest.raises(GenerationFailedError):
            await third.queue.result("k")
        assert len(machine.checks) <= checks + 1


@pytest.mark.parametrize(
    "error", [ValueError("mine"), LlamaGenError("not for me"), asyncio.CancelledError()]
)
async def test_an_announced_that_fails_ends_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """A reader who follows a job of another worker goes on to hear of it."""
    machine = Machine(tmp_path, 200.0)

    def announced(_raw: dict[str, Any]) -> None:
        raise error

    async with crew(machine, 1) as (first,), machine.open() as client:
        await first.queue.submit("a", key="k")
        async with ComicQueue(client, machine.journal, announced=announced) as queue:
            waiting = asyncio.create_task(queue.result("k"))
            await asyncio.sleep(2 * BEAT)  # they know of each other
            for n in range(2):
                await first.queue.announce({"type": "comic", "data": {"id": f"c{n}"}})
                await asyncio.sleep(1)
            assert (await asyncio.wait_for(waiting, 600)).succeeded
    assert caplog.text.count("the announced= of a queue has failed") == 2
