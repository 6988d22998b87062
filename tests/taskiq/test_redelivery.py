"""A task that is delivered again, or whose worker has died, never has its comic paid twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskiq.exceptions import NoResultError

from llamagen_async import BatchState, ComicGeneration, SubmissionUncertainError
from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.story import Story
from llamagen_async.batch.outcomes import ORIGINS
from llamagen_async.sandbox import SandboxServer
from llamagen_async.taskiq.rows import TakenOverError
from llamagen_async.taskiq.store import RedisJobs
from tests.support.redis_server import RedisServer
from tests.support.taskiq_app import fresh_prefix, orders, roomy_sandbox, worker

SENDING, RUNNING, QUEUED = BatchState.SENDING, BatchState.RUNNING, BatchState.QUEUED
SHORT = 0.2
"""Real seconds of a lease that ends within a test."""


def accepted(server: SandboxServer) -> int:
    return len(server.service.stats(server.now())["generations"])


def comic(id_: str = "c1") -> ComicGeneration:
    return ComicGeneration.parse({"id": id_, "status": "PENDING"})


@asynccontextmanager
async def store(url: str, prefix: str, lease: float = 30.0) -> AsyncIterator[RedisJobs]:
    """The jobs as one worker has them, with nobody who works."""
    jobs = RedisJobs(url, prefix=prefix, lease=lease, timeout=1_800.0, fetches=False)
    try:
        yield jobs
    finally:
        await jobs.disconnect()


async def added(jobs: RedisJobs, key: str = "k") -> Row:
    return await jobs.add(Story.parse("a cat"), key=key, task=f"task of {key}")


async def change(jobs: RedisJobs, row: Row, state: BatchState, **more: Any) -> Row:
    return await jobs.change(row, state, origins=ORIGINS[state], **more)


@pytest.mark.parametrize("moment", ["sending", "running"])
async def test_a_task_that_comes_again_finds_the_living_one(
    redis_server: RedisServer, moment: str
) -> None:
    """At any moment: it leaves the job to who has it, and has no result of its own."""
    url, prefix = redis_server.url, fresh_prefix()
    async with (
        roomy_sandbox(latency=(60.0, 60.0)) as server,
        worker(url, server, prefix),
        orders(url, server, prefix) as queue,
        worker(url, server, prefix, broker={"queue_name": f"{prefix}-elsewhere"}) as other,
    ):
        job = await queue.submit("a cat", key="k")
        async for event in queue.events(job):
            if event.state == moment:
                with pytest.raises(NoResultError):
                    await other._work("k")
                with pytest.raises(NoResultError):
                    await other._work("k")
        assert event.state is BatchState.SUCCEEDED
        # Right after its end, the result is the same for whoever comes.
        results = await asyncio.gather(*[other._work("k") for _ in range(3)])
        assert {result["id"] for result in results} == {event.generation and event.generation.id}
        assert accepted(server) == 1


async def test_a_task_that_comes_again_before_it_is_sent(redis_server: RedisServer) -> None:
    """Also in the worker that has the job itself."""
    url, prefix = redis_server.url, fresh_prefix()
    async with roomy_sandbox() as server, store(url, prefix) as jobs:
        await added(jobs)
        assert (await jobs.claim("k", "first")).outcome == "mine"
        async with worker(url, server, prefix) as other:
            for _ in range(3):
                with pytest.raises(NoResultError):
                    await other._work("k")
            assert (await jobs.claim("k", "second")).outcome == "held"
            assert accepted(server) == 0
            await jobs.release("k")
            assert (await other._work("k"))["state"] == "succeeded"
        assert accepted(server) == 1


@pytest.mark.once
async def test_redis_delivers_tasks_again_that_run_for_long(redis_server: RedisServer) -> None:
    """A comic takes longer than the broker's `idle_timeout`; its task is handed to others."""
    url, prefix, calls = redis_server.url, fresh_prefix(), list[str]()
    broker = {"idle_timeout": 20, "unacknowledged_lock_timeout": 5.0}
    async with (
        roomy_sandbox(seconds=1_500.0) as server,
        worker(url, server, prefix, broker=broker) as one,
        worker(url, server, prefix, broker=broker) as two,
        orders(url, server, prefix) as queue,
    ):
        for each in (one, two):
            work = each._workbench.work  # type: ignore[union-attr]  # it is started

            async def counted(key: str, work: Any = work) -> Any:
                calls.append(key)
                return await work(key)

            each._workbench.work = counted  # type: ignore[union-attr,method-assign]  # to count
        jobs = [await queue.submit("a cat", key="long")]
        # What is pending is looked at when something new comes; a comic takes five real seconds.
        while calls.count("long") < 2 and server.now() < 1_500:
            jobs.append(await queue.submit(f"s{len(jobs)}", key=f"k{len(jobs)}"))
            await asyncio.sleep(0.2)
        for job in jobs:
            assert (await queue.result(job)).succeeded
        assert calls.count("long") > 1
        assert accepted(server) == len(jobs)


@pytest.mark.once
@pytest.mark.parametrize("died", ["queued", "sending", "running"])
async def test_the_job_of_a_dead_worker_is_handed_over(
    redis_server: RedisServer, died: str
) -> None:
    """Not sent: it is sent. Accepted: it is collected. Between the two: nobody can know."""
    url, prefix = redis_server.url, fresh_prefix()
    async with roomy_sandbox() as server, store(url, prefix, SHORT) as dead:
        paid = 0
        row = await added(dead)
        await dead.claim("k", "of the dead")
        if died != "queued":
            row = await change(dead, row, SENDING)
        if died == "running":
            async with worker(url, server, fresh_prefix()) as maker:
                generation = await maker._given.comics.create("a cat")  # type: ignore[union-attr]
            await change(dead, row, RUNNING, generation=generation)
            paid = 1
        async with worker(url, server, prefix, lease=SHORT), orders(url, server, prefix) as queue:
            if died == "sending":
                with pytest.raises(SubmissionUncertainError, match="its worker ended"):
                    await queue.result("k")
                assert accepted(server) == 0
                return
            assert (await queue.result("k")).succeeded
            assert accepted(server) == max(paid, 1)


async def test_a_job_that_comes_back_to_its_worker_ends_for_both_tasks(
    redis_server: RedisServer,
) -> None:
    """A job does if another worker saw its lease end while Redis could not be reached here."""
    url, prefix = redis_server.url, fresh_prefix()
    async with (
        roomy_sandbox(speed=30.0, seconds=60.0) as server,
        worker(url, server, prefix, lease=SHORT) as queue,
        store(url, prefix, SHORT) as other,
        asyncio.timeout(60),
    ):
        bench = queue._workbench
        assert bench is not None
        assert bench._beating is not None
        bench._beating.cancel()  # no lease is renewed
        job = await queue.submit("a cat", key="k")
        async for event in queue.events(job):
            if event.state is RUNNING:
                break
        first = bench._done[1]
        while not other.kicks:  # the lease is over
            await other.sweep()
        assert (await queue._work("k"))["state"] == "succeeded"
        row = await first
        assert row is not None
        assert row.state is BatchState.SUCCEEDED
        assert accepted(server) == 1


async def test_who_was_taken_for_dead_sends_nothing(redis_server: RedisServer) -> None:
    """The fence: only who has the lease may write that a job is about to be sent."""
    prefix = fresh_prefix()
    async with (
        store(redis_server.url, prefix, 0.001) as late,
        store(redis_server.url, prefix, 0.001) as new,
    ):
        row = await added(late)
        assert (await late.claim("k", "late")).outcome == "mine"
        await asyncio.sleep(0.01)
        assert (await new.claim("k", "new")).outcome == "mine"
        assert await late.renew() == ["k"]
        with pytest.raises(TakenOverError):
            await change(late, row, SENDING)
        assert (await change(new, row, SENDING)).attempts == 1
        refused = await change(late, row, QUEUED)
        assert (refused.state, refused.attempts) == (QUEUED, 1) or refused.state is SENDING


async def test_an_answer_counts_whoever_has_the_lease(redis_server: RedisServer) -> None:
    """A job that was feared to be uncertain is running once its id is known."""
    prefix = fresh_prefix()
    async with (
        store(redis_server.url, prefix, 0.001) as late,
        store(redis_server.url, prefix, 0.001) as new,
    ):
        row = await added(late)
        await late.claim("k", "late")
        row = await change(late, row, SENDING)
        await asyncio.sleep(0.01)
        taken = await new.claim("k", "new")
        assert taken.outcome == "done"
        assert taken.row is not None
        assert taken.row.state is BatchState.UNCERTAIN
        row = await change(late, row, RUNNING, generation=comic())
        assert (row.state, row.generation_id) == (RUNNING, "c1")
        other = await added(new, "other")
        await new.claim("other", "new")
        await change(new, other, SENDING)
        with pytest.raises(SubmissionUncertainError, match="which is the comic of 'k'"):
            await change(new, other, RUNNING, generation=comic())


STEPS = st.lists(
    st.tuples(st.sampled_from(["claim", "send", "accept", "die", "sweep"]), st.integers(0, 2)),
    max_size=25,
)


@given(steps=STEPS)
@settings(max_examples=60)
def test_never_two_creates_for_one_key(redis_server: RedisServer, steps: Any) -> None:
    """Three workers claim, send, are answered, and die at any time; leases end at once."""
    asyncio.run(_creates(redis_server.url, steps))


async def _creates(url: str, steps: list[tuple[str, int]]) -> None:
    prefix, creates, answered = fresh_prefix(), 0, set[int]()
    workers = [
        RedisJobs(url, prefix=prefix, lease=0.0005, timeout=60.0, fetches=False) for _ in range(3)
    ]
    row = await added(workers[0])
    sent = set[int]()
    for number, (step, who) in enumerate(steps):
        jobs = workers[who]
        if step == "claim":
            await jobs.claim("k", f"{who}/{number}")
        elif step == "die":
            jobs._tokens.clear()
        elif step == "sweep":
            await jobs.sweep()
        elif step == "accept" and who in sent - answered:
            answered.add(who)
            await change(jobs, row, RUNNING, generation=comic())
        elif step == "send" and "k" in jobs.held and who not in sent:
            try:
                now = await change(jobs, row, SENDING)
            except TakenOverError:
                continue
            if now.state is SENDING and now.attempts == creates + 1:
                creates += 1
                sent.add(who)
    for jobs in workers:
        await jobs.disconnect()
    assert creates <= 1
