"""Why nothing is sent, as a worker tells it to all hosts: at once, for as long as it is so."""

from __future__ import annotations

import asyncio

import pytest

from llamagen_async import APIConnectionError
from llamagen_async.taskiq.queue import TaskiqQueue
from tests.support.redis_server import RedisServer, connected
from tests.support.taskiq_app import fresh_prefix, roomy_sandbox, worker


async def is_held(queue: TaskiqQueue) -> None:
    while not isinstance(queue.held_by, APIConnectionError):
        await asyncio.sleep(0.01)
        await queue.waiting()


async def test_a_hold_is_told_at_once_and_again_until_it_is_over(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, prefix, told = redis_server.url, fresh_prefix(), list[object]()
    async with roomy_sandbox(speed=30.0) as server:
        pass  # nobody listens at its port any more
    async with worker(url, server, prefix, lease=600.0) as queue, connected(url) as redis:
        await queue.submit("a cat", key="k")
        await is_held(queue)
        bench = queue._workbench
        assert bench is not None

        async def hold(error: object, _seconds: float) -> None:
            told.append(error)

        with monkeypatch.context() as patched:
            patched.setattr(bench._jobs, "hold", hold)
            await bench._renew()
            await asyncio.gather(*bench._errands)
        assert isinstance(told[-1], APIConnectionError)
        async with server:
            assert (await queue.result("k")).succeeded
            assert not await redis.exists(f"{prefix}:held")
