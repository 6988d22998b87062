"""An open queue: each job becomes a comic, once, and whoever waits is told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    BadRequestError,
    BatchState,
    ClientClosedError,
    ComicJob,
    ComicQueue,
    ComicRequest,
    GenerationFailedError,
    InvalidRequestError,
    JournalError,
    LlamaGenClient,
    Plan,
    RateLimit,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from llamagen_async.simulation import run
from tests.support.machine import Machine, Pictures, fetching, known
from tests.support.scripted import Network, Sent, left_over, minute

pytestmark = pytest.mark.virtual_time

ONE = Plan("one", limits=RateLimit(1, per=60))


@asynccontextmanager
async def opened(machine: Machine, **settings: Any) -> AsyncIterator[ComicQueue]:
    """A program with a queue, up to its end."""
    async with machine.open() as client:
        async with ComicQueue(client, machine.journal, **settings) as queue:
            yield queue
        assert not left_over()


async def seen(queue: ComicQueue, job: ComicJob) -> list[BatchState]:
    return [event.state async for event in queue.events(job)]


@pytest.mark.parametrize("lasting", [True, False])
async def test_a_job_becomes_a_comic(tmp_path: Path, *, lasting: bool) -> None:
    """Submitted, followed, and fetched; the same key is the same job at any time."""
    machine = Machine(tmp_path)

    async with machine.open() as client:
        journal = machine.journal if lasting else None
        async with ComicQueue(client, journal=journal) as queue:
            job = await queue.submit("a cat", key="job-42")
            assert (job.key, job.state) == ("job-42", BatchState.QUEUED)
            following = [asyncio.create_task(seen(queue, job)) for _ in range(3)]
            comic = await queue.result(job)
            assert comic.succeeded
            for states in await asyncio.gather(*following):
                assert states[-1] is BatchState.SUCCEEDED
                assert states == sorted(set(states), key=list(BatchState).index)
            again = await queue.submit(ComicRequest("a cat"), key="job-42")
            assert again == await queue.get("job-42")
            assert await queue.result(again) == comic
            assert await queue.get("job-43") is None
            assert (await known(queue, job)).state is BatchState.SUCCEEDED
        assert not left_over()
    assert machine.stories == {"a cat": 1}


async def test_without_a_key_each_job_is_a_new_one(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    async with opened(machine) as queue:
        jobs = [await queue.submit({"prompt": "a cat"}) for _ in range(3)]
        comics = await asyncio.gather(*map(queue.result, jobs))
        assert len({comic.id for comic in comics}) == 3
    assert machine.stories == {"a cat": 3}


async def test_bad_jobs_are_refused_at_once(tmp_path: Path) -> None:
    """The field is named, and nothing is in the journal nor sent."""
    machine = Machine(tmp_path)

    async with opened(machine) as queue:
        await queue.submit("a", key="k")
        jobs: list[tuple[Any, str | None, str]] = [
            ("", None, "prompt"),
            ({"prompt": "a", "size": "1x1"}, None, "size"),
            ("another", "k", "key"),
            ("a", "", "key"),
            ({"prompt": "a", "key": ["x"]}, None, "key"),
        ]
        for job, key, field in jobs:
            with pytest.raises(InvalidRequestError) as caught:
                await queue.submit(job, key=key)
            assert caught.value.field == field
        assert [job.key for job in await queue.list()] == ["k"]
        with pytest.raises(InvalidRequestError, match=r"^job: got 'z'"):
            await queue.result("z")


async def test_jobs_survive_a_restart(tmp_path: Path) -> None:
    """Running jobs are collected, waiting ones sent, and finished ones are there, unasked."""
    four = Plan("four", limits=RateLimit(4, per=60))
    machine = Machine(tmp_path, 400.0, plan=four)

    async with opened(machine) as queue:
        jobs = [await queue.submit(f"s{n}", key=f"job {n}") for n in range(30)]
        await asyncio.sleep(200)
    counts = Counter(state for state, _ in machine.rows())
    assert counts["running"]
    assert counts["queued"]
    async with opened(machine) as queue:
        await asyncio.sleep(5_000)
        for job in jobs:
            assert (await known(queue, job)).state is BatchState.SUCCEEDED
    sent = len(machine.sent)
    async with opened(machine) as queue:
        found = await queue.get("job 3")
        assert found is not None
        assert (await queue.result(found)).raw["prompt"] == "s3"
        assert await seen(queue, found) == [BatchState.SUCCEEDED]
    assert len(machine.sent) == sent
    assert set(machine.stories.values()) == {1}


async def test_a_batch_and_a_queue_speak_of_the_same_journal(tmp_path: Path) -> None:
    """A queue goes on with the stories that a batch has left."""
    machine = Machine(tmp_path, plan=ONE)

    await machine.batch([{"prompt": f"s{n}", "key": n} for n in range(3)], leave_after=1)
    async with opened(machine) as queue:
        for n in range(3):
            job = await queue.get(f"{n}")
            if job is not None:
                assert (await queue.result(job)).raw["prompt"] == f"s{n}"
    assert machine.stories == {"s0": 1, "s1": 1, "s2": 1}


@pytest.mark.parametrize("restart", [True, False])
async def test_errors_are_told_before_and_after_a_restart(tmp_path: Path, *, restart: bool) -> None:
    def body(sent: Sent, answer: Any) -> Any:
        return {**answer, "status": "FAILED"} if answer["prompt"] == "fails" else answer

    def before(sent: Sent) -> Exception | None:
        return BadRequestError(400, None, "no") if sent.prompt == "bad" else None

    def after(sent: Sent) -> Exception | None:
        return APIConnectionError("gone") if sent.prompt == "lost" else None

    machine = Machine(tmp_path, body=body, before=before, after=after)
    expected = {
        "fails": GenerationFailedError,
        "bad": BadRequestError,
        "lost": SubmissionUncertainError,
    }

    async def check(queue: ComicQueue) -> None:
        for story, kind in expected.items():
            job = await queue.submit(story, key=story)
            with pytest.raises(kind):
                await queue.result(job)
            final = [event async for event in queue.events(job)][-1]
            assert isinstance(final.error, kind)
            assert final.is_final

    async with opened(machine) as queue:
        await check(queue)
        if not restart:
            await check(queue)
    if restart:
        async with opened(machine) as queue:
            await check(queue)
    assert len(machine.creates) == 3


async def test_an_uncertain_job_is_sent_again_when_told_so(tmp_path: Path) -> None:
    machine = Machine(
        tmp_path, after=lambda sent: APIConnectionError("gone") if sent.n == 0 else None
    )

    async with opened(machine) as queue:
        job = await queue.submit("a", key="k")
        with pytest.raises(SubmissionUncertainError):
            await queue.result(job)
    async with opened(machine) as queue:
        await asyncio.sleep(1_000)
        assert [job.key for job in await queue.list(BatchState.UNCERTAIN)] == ["k"]
        assert machine.stories == {"a": 1}
        await queue.resend(job)
        assert (await queue.result(job)).succeeded
        await queue.resend(job)  # it is not uncertain any more
        assert (await known(queue, job)).state is BatchState.SUCCEEDED
    assert machine.stories == {"a": 2}


async def test_a_comic_that_takes_too_long_can_be_waited_for_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 800.0)

    async with opened(machine, timeout=300) as queue:
        job = await queue.submit("slow")
        for _ in range(2):
            with pytest.raises(WaitTimeoutError):
                await queue.result(job)
            assert (await known(queue, job)).state is BatchState.RUNNING
        assert (await queue.result(job)).succeeded
    assert machine.stories == {"slow": 1}


async def test_pictures_are_there_when_the_result_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that the last program had no time to fetch."""
    pictures = Pictures(OSError("no room"))
    monkeypatch.setattr("llamagen_async.comics.Comics.download", fetching(pictures))
    machine = Machine(tmp_path)

    async with opened(machine, out=tmp_path / "out") as queue:
        job = await queue.submit("a", key="k")
        events = [event async for event in queue.events(job)]
        assert events[-1].state is BatchState.SUCCEEDED
        assert isinstance(events[-1].error, OSError)
    async with opened(machine, out=tmp_path / "out") as queue:
        events = [event async for event in queue.events(job)]
        assert [len(event.files) for event in events] == [0, 2]
        assert (await known(queue, job)).files == events[-1].files
        assert all(file.exists() for file in events[-1].files)


@pytest.mark.parametrize("when", [0.0, 0.3, 1.0, 1.6, 61.0, 100.0])
async def test_closing_turns_away_who_waits_and_loses_nothing(tmp_path: Path, when: float) -> None:
    """Creates on their way are recorded; no task is left; the next program goes on."""
    machine = Machine(tmp_path, 40.0, plan=ONE, latency=1.5)

    async with machine.open() as client:
        queue = ComicQueue(client, machine.journal)
        jobs = [await queue.submit(f"s{n}") for n in range(4)]
        waiting = [asyncio.create_task(queue.result(job)) for job in jobs]
        waiting += [asyncio.create_task(anext_twice(queue, jobs[-1]))]
        await asyncio.sleep(when)
        await queue.aclose()
        results: list[Any] = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results[-1], ClientClosedError)
        assert not left_over()
        assert all(isinstance(one, ClientClosedError) or one.succeeded for one in results)
        with pytest.raises(ClientClosedError):
            await queue.submit("late")
        with pytest.raises(ClientClosedError):
            await queue.result(jobs[0])
        await queue.aclose()
    accepted = {one["id"] for one in machine.service.stats(0)["generations"]}
    assert {id_ for _, id_ in machine.rows() if id_} == accepted
    async with opened(machine) as queue:
        for job in jobs:
            assert (await queue.result(job)).succeeded
    assert set(machine.stories.values()) == {1}


async def anext_twice(queue: ComicQueue, job: ComicJob) -> Any:
    events = aiter(queue.events(job))
    for _ in itertools.count():
        await anext(events)


async def test_a_client_that_is_closed_first_turns_away_who_waits(tmp_path: Path) -> None:
    """Nobody waits for ever for a queue whose client is gone."""
    machine = Machine(tmp_path, 300.0, plan=ONE)

    client = machine.open()
    async with ComicQueue(client, machine.journal) as queue:
        jobs = [await queue.submit(f"s{n}") for n in range(3)]
        waiting = [asyncio.create_task(queue.result(job)) for job in jobs]
        await asyncio.sleep(10)
        await client.aclose()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, ClientClosedError) for one in results)
        with pytest.raises(ClientClosedError):
            await queue.submit("late")
    assert not left_over()
    assert [state for state, _ in machine.rows()] == ["running", "queued", "queued"]


async def test_a_queue_whose_journal_a_batch_has_is_refused(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    async with (
        machine.open() as client,
        client.comics.batch(["a"], journal=machine.journal) as batch,
    ):
        await anext(aiter(batch))
        with pytest.raises(JournalError, match="works with this journal"):
            async with ComicQueue(client, machine.journal):
                pass
        queue = ComicQueue(client, machine.journal)
        with pytest.raises(JournalError, match="works with this journal"):
            await queue.submit("a")
        await queue.aclose()


async def test_who_stops_following_leaves_nothing_behind(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    async with opened(machine) as queue:
        job = await queue.submit("a")
        async with contextlib.aclosing(queue.events(job)) as events:
            async for _event in events:
                break
        task = asyncio.create_task(queue.result(job))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert job.key not in queue._subscriptions
        assert (await queue.result(job)).succeeded


def test_it_works_with_any_client(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bad setting is refused when it is made; an unstarted one can be closed."""
    client = LlamaGenClient("the-key", transport=Network(minute()))
    with pytest.raises(InvalidRequestError, match=r"^timeout"):
        ComicQueue(client, timeout=0)

    async def main() -> None:
        await ComicQueue(client).aclose()
        await client.aclose()

    with caplog.at_level(logging.WARNING):
        run(main())
    assert not caplog.text
