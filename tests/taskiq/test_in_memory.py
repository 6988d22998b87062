"""taskiq's broker for tests: it orders and is a worker in one process, with its jobs in Redis."""

from __future__ import annotations

import asyncio

import pytest
from taskiq import InMemoryBroker

from llamagen_async.taskiq import register
from tests.support.redis_server import RedisServer
from tests.support.taskiq_app import FAST, fresh_prefix, roomy_sandbox
from tests.support.web import sandbox_client


@pytest.mark.parametrize("started_by", ["queue", "broker"])
async def test_one_process_orders_and_works(redis_server: RedisServer, started_by: str) -> None:
    """Also when it is started again; a start that waited for itself never ended."""
    async with (
        roomy_sandbox() as server,
        sandbox_client(server, plan=FAST) as client,
        asyncio.timeout(60),
    ):
        broker, prefix = InMemoryBroker(), fresh_prefix()
        queue = register(broker, client, redis=redis_server.url, prefix=prefix)
        for key in ("first", "second"):
            if started_by == "broker":
                await broker.startup()
            async with queue:
                await queue.submit("a cat", key=key)
                assert (await queue.result(key)).succeeded
                task = await queue.generate.kiq("a dog", key=f"task-{key}")
                done = await task.wait_result(timeout=30)
                assert done.return_value["state"] == "succeeded"


async def test_what_was_left_is_gone_on_with(redis_server: RedisServer) -> None:
    """By the next process with such a broker, before it is given any task."""
    prefix = fresh_prefix()
    async with (
        roomy_sandbox(speed=30.0, seconds=60.0) as server,
        sandbox_client(server, plan=FAST) as client,
        asyncio.timeout(60),
    ):
        for _ in range(2):
            queue = register(InMemoryBroker(), client, redis=redis_server.url, prefix=prefix)
            async with queue:
                if await queue.get("k") is None:
                    await queue.submit("a cat", key="k")
                    continue
                assert (await queue.result("k")).succeeded
        assert len(server.service.stats(server.now())["generations"]) == 1
