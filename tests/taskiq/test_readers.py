"""Readers of jobs in Redis hear what becomes of them, however Redis is reached and whatever it
loses."""

from __future__ import annotations

import asyncio

import pytest

from llamagen_async import BatchState, ComicJob, JournalError
from llamagen_async.batch.outcomes import ORIGINS
from llamagen_async.batch.protocol import JobQueue
from tests.support.redis_server import RedisServer, connected
from tests.support.taskiq_app import fresh_prefix, orders, roomy_sandbox


async def seen(queue: JobQueue, key: str, begun: asyncio.Event) -> list[BatchState]:
    """Read a job to its end; `begun` is set when its first event has come."""
    states: list[BatchState] = []
    async for event in queue.events(key):
        begun.set()
        states.append(event.state)
    return states


async def test_who_reads_a_job_that_redis_has_lost_is_told(redis_server: RedisServer) -> None:
    """Else the reader waits for ever: nobody is left who could bring the job to an end."""
    prefix, begun = fresh_prefix(), asyncio.Event()
    async with (
        roomy_sandbox() as server,
        orders(redis_server.url, server, prefix) as queue,
        connected(redis_server.url) as redis,
    ):
        await queue.submit("a cat", key="k")
        reading = asyncio.create_task(seen(queue, "k", begun))
        await begun.wait()
        await redis.delete(f"{prefix}:job:k")
        # The jobs that are read are looked up whenever there is a new connection.
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        with pytest.raises(JournalError, match="'k' is gone from Redis"):
            await reading


async def test_news_come_from_the_redis_of_a_quota(redis_server: RedisServer) -> None:
    """The URL of that one has an option that redis-py does not know."""
    prefix, begun = fresh_prefix(), asyncio.Event()
    url = f"{redis_server.url}?prefix=shop:"
    async with (
        roomy_sandbox() as server,
        orders(redis_server.url, server, prefix) as other,
        orders(redis_server.url, server, prefix, redis=url) as queue,
    ):
        await queue.submit("a cat", key="k")
        reading = asyncio.create_task(seen(queue, "k", begun))
        await begun.wait()
        cancelled: ComicJob = await other.cancel("k")
        assert cancelled.state is BatchState.CANCELLED
        async with asyncio.timeout(30):
            assert (await reading)[-1] is BatchState.CANCELLED


async def test_who_reads_a_job_that_is_queued_again_is_told_its_position(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is if its request was refused, or no connection was made."""
    monkeypatch.setattr("llamagen_async.taskiq.readers._MOVES", 0.01)
    prefix = fresh_prefix()
    async with (
        roomy_sandbox() as server,
        orders(redis_server.url, server, prefix) as queue,
        asyncio.timeout(30),
    ):
        await queue.submit("first", key="first")
        await queue.submit("second", key="second")
        opened = await queue._started()
        events = queue.events("second")
        assert (await anext(events)).position == 2
        claimed = await opened.jobs.claim("second", "token")
        assert claimed.row is not None
        row = claimed.row
        for state in (BatchState.SENDING, BatchState.QUEUED):
            row = await opened.jobs.change(row, state, origins=ORIGINS[state])
            while (event := await anext(events)).state is not state:
                pass
            telling = opened.readers._telling
            if state is BatchState.SENDING and telling is not None:
                await telling  # nobody reads a job that is queued
        while event.position != 2:
            event = await anext(events)
        await queue.cancel("first")
        while event.position != 1:
            event = await anext(events)
        await events.aclose()
