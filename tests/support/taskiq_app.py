"""Taskiq apps in this process: a worker and those who order, with a sandbox and a real Redis."""

from __future__ import annotations

import asyncio
import gc
import uuid
import warnings
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from taskiq.receiver import Receiver
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from llamagen_async import Plan, RateLimit
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxServer, SandboxService
from llamagen_async.taskiq import TaskiqQueue, register
from tests.support.web import sandbox_client

__all__ = ["FAST", "broker_of", "fresh_prefix", "orders", "roomy_sandbox", "worker"]

FAST = Plan("fast", limits=RateLimit(1_000, per=60))
"""A plan whose limit is never in the way."""


def fresh_prefix() -> str:
    """Names that no other test uses."""
    return f"test-{uuid.uuid4().hex}"


def broker_of(url: str, prefix: str, **settings: Any) -> RedisStreamBroker:
    """A broker as an app has it, with a stream of its own."""
    options: dict[str, Any] = {"queue_name": f"{prefix}-stream", "xread_block": 50, **settings}
    broker = RedisStreamBroker(url, **options)
    broker.result_backend = RedisAsyncResultBackend(url)
    return broker


@asynccontextmanager
async def roomy_sandbox(
    *, speed: float = 300.0, plan: Plan = FAST, seconds: float = 20.0, **settings: Any
) -> AsyncIterator[SandboxServer]:
    """A sandbox whose plan is the test's."""
    latency = settings.pop("latency", (0.0, 0.0))
    durations = Durations.constant(seconds)
    service = SandboxService(durations=durations, plans={PAID_KEY: plan}, **settings)
    async with SandboxServer(service, speed=speed, latency=latency) as server:
        yield server


@asynccontextmanager
async def worker(
    url: str,
    server: SandboxServer,
    prefix: str,
    *,
    plan: Plan = FAST,
    broker: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[TaskiqQueue]:
    """A worker of the app, as the command `taskiq worker` runs one, up to its end."""
    engine = broker_of(url, prefix, **broker or {})
    async with sandbox_client(server, plan=plan, webhooks=False) as client:
        queue = register(engine, client, prefix=prefix, **settings)
        engine.is_worker_process = True
        await engine.startup()
        finish = asyncio.Event()
        with ThreadPoolExecutor(1) as pool:
            receiver = Receiver(engine, pool, max_async_tasks=100, run_startup=False)
            listening = asyncio.create_task(receiver.listen(finish))
            try:
                yield queue
            finally:
                finish.set()
                await queue.aclose()
                with warnings.catch_warnings():
                    # Cut short, the broker's reading leaves a pipeline and its connection open.
                    warnings.simplefilter("ignore", ResourceWarning)
                    await _ended(listening)
                    gc.collect()
                await engine.shutdown()


async def _ended(listening: asyncio.Task[None]) -> None:
    """Wait for the end of a receiver.

    It cancels its reading of the stream once, and redis-py may swallow that; the command ends with
    its process then, and here all that reads is cancelled again.
    """
    await asyncio.wait([listening], timeout=1.0)
    while not listening.done():
        for task in asyncio.all_tasks():
            if "asend" in repr(task.get_coro()):
                task.cancel()
        await asyncio.wait([listening], timeout=1.0)
    await listening


@asynccontextmanager
async def orders(
    url: str, server: SandboxServer, prefix: str, *, plan: Plan = FAST, **settings: Any
) -> AsyncIterator[TaskiqQueue]:
    """A process that orders and follows comics, and makes none."""
    async with (
        sandbox_client(server, plan=plan) as client,
        register(broker_of(url, prefix), client, prefix=prefix, **settings) as queue,
    ):
        yield queue
