"""The order in which workers send jobs: the one in which they came, whoever has their tasks."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from taskiq.exceptions import NoResultError

from llamagen_async import Plan, RateLimit
from llamagen_async.batch.journal.story import Story
from llamagen_async.taskiq.queue import TaskiqQueue
from llamagen_async.taskiq.store import RedisJobs
from tests.support.redis_server import RedisServer
from tests.support.taskiq_app import fresh_prefix, roomy_sandbox, worker

SLOW = Plan("slow", limits=RateLimit(1, per=3_000), metered="create")
"""A plan under which the second job waits for longer than a test."""


async def added(queue: TaskiqQueue, number: int) -> None:
    opened = await queue._started()
    for n in range(number):
        await opened.jobs.add(Story.parse(f"s{n}"), key=f"k{n}", task=f"t{n}")
    opened.jobs.kicks.clear()  # the tests are the tasks


async def test_all_that_a_worker_is_given_waits_to_be_sent(redis_server: RedisServer) -> None:
    """However many others wait: one that comes late, but has waited longest, is the next."""
    url, prefix = redis_server.url, fresh_prefix()
    async with (
        roomy_sandbox(plan=SLOW) as server,
        worker(url, server, prefix, plan=SLOW) as queue,
    ):
        await added(queue, 80)
        working = [asyncio.create_task(queue._work(f"k{n}")) for n in reversed(range(80))]
        assert queue._workbench is not None
        tasks = queue._workbench._lifecycle.tasks
        while len(tasks) < 80:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        for one in working:
            one.cancel()


async def test_jobs_that_come_at_once_can_be_told_apart(redis_server: RedisServer) -> None:
    """By more than ledgers take for the same time, by the clock of whoever has them."""
    first, second = (
        RedisJobs(redis_server.url, prefix=prefix, lease=30.0, timeout=60.0, fetches=False)
        for prefix in [fresh_prefix()] * 2
    )
    for n in range(4):
        await first.add(Story.parse(f"s{n}"), key=f"k{n}", task=f"t{n}")
    taken = [await (first, second)[n % 2].claim(f"k{n}", "token") for n in range(4)]
    since = [one.row.since or 0.0 for one in taken if one.row is not None]
    assert all(later - one > 0.05 for one, later in itertools.pairwise(since))
    assert since[0] <= asyncio.get_running_loop().time()
    for jobs in (first, second):
        await jobs.disconnect()


async def test_a_task_whose_job_was_taken_over_has_no_result(redis_server: RedisServer) -> None:
    """The end of the job is told by whoever has it now."""
    url, prefix = redis_server.url, fresh_prefix()
    async with (
        roomy_sandbox(plan=SLOW) as server,
        worker(url, server, prefix, plan=SLOW, lease=0.3) as queue,
    ):
        await queue.submit("first", key="first")
        await queue.result("first")
        await added(queue, 1)
        working = asyncio.create_task(queue._work("k0"))
        jobs = (await queue._started()).jobs
        while "k0" not in jobs.held:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        jobs._tokens["k0"] = "another worker's"  # as its own lease has it
        with pytest.raises(NoResultError):
            await working
